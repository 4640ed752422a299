//! What a run showed, when it or the watch is over.

use profiler::host;
use trace::{Digest, Losses};

use super::{Judges, Kind, Sighting};
use crate::{HeldOutDenial, HeldOutRun, Judged, Stage};

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The run's number in this watch, from 1.
    pub run: u32,
    /// What a person calls it: the container's name, the cgroup's path, the process.
    pub name: String,
    /// The container's id, or the cgroup's path.
    pub id: String,
    /// The engine with its version.
    pub engine: Option<String>,
    /// The image's name.
    pub image: Option<String>,
    /// The image's digest.
    pub image_digest: Option<Digest>,
    /// The pod, `namespace/name`.
    pub pod: Option<String>,
    /// Under which seccomp profile it runs, as far as the engine says.
    pub seccomp: Option<String>,
    /// Whether it ran already when it was attached to.
    pub late: bool,
    /// When the watch of it began: RFC 3339, UTC.
    pub started: String,
}

/// Why a summary is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The run is over.
    Stopped,
    /// The watch is.
    WatchEnded,
}

/// What a run showed.
#[derive(Clone, Debug)]
pub struct Summary {
    /// What was watched.
    pub about: About,
    /// Why this is the end.
    pub ending: Ending,
    /// For how long, in milliseconds.
    pub duration_ms: u64,
    /// How many calls the workload made, refused ones included.
    pub calls: u64,
    /// How many exec sessions there were.
    pub exec_sessions: u64,
    /// Whether a filter that is not the workload's own was on it.
    pub confined: bool,
    /// What was lost.
    pub losses: Losses,
    /// What was refused or would be, in the order of first sight.
    pub sightings: Vec<Sighting>,
}

impl Summary {
    /// The sightings that speak against the profile.
    pub fn denials(&self) -> impl Iterator<Item = &Sighting> {
        self.sightings.iter().filter(|one| one.is_denial())
    }

    /// The calls whose answer is not known.
    pub fn not_known(&self) -> impl Iterator<Item = &Sighting> {
        self.sightings.iter().filter(|one| one.kind == Kind::NotKnown)
    }

    /// Whether it was watched from its start to its stop, and nothing was lost.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        !self.about.late && matches!(self.ending, Ending::Stopped) && !self.losses.lost_calls()
    }

    /// The run as evidence about the profile that it was judged by; none for a part of a run. What exec sessions were
    /// refused is no word about the workload.
    #[must_use]
    pub fn held_out(&self, judges: &Judges, tool: &str) -> Option<HeldOutRun> {
        if !self.is_whole() {
            return None;
        }
        let judge = judges.asked.as_ref().or(judges.in_force.as_ref());
        let (kernel, arch) = host::kernel();
        let own = |one: &&Sighting| one.stage != Stage::Exec;
        let denials = self.denials().filter(own).map(|one| HeldOutDenial {
            abi: one.abi,
            syscall: one.name.clone(),
            answer: one.answer.to_string(),
            count: one.count,
        });
        Some(HeldOutRun {
            started: self.about.started.clone(),
            duration_ms: self.duration_ms,
            container: self.about.id.clone(),
            name: Some(self.about.name.clone()),
            pod: self.about.pod.clone(),
            image: self.about.image_digest,
            judged: if judges.asked.is_some() { Judged::Simulated } else { Judged::Enforced },
            profile: judge.map(|judge| judge.profile().digest()),
            tool: tool.to_owned(),
            kernel,
            arch,
            gpu_driver: host::gpu_driver(),
            calls: Some(self.calls),
            denials: denials.collect(),
            not_known: self.not_known().filter(own).map(|one| one.name.clone()).collect(),
        })
    }
}
