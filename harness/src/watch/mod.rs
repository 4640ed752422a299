//! Watching something that runs: which calls a filter refuses to it, or which ones a profile would refuse that is not
//! loaded. Nothing in it is changed; what it costs is what a recording costs, being one.

mod containers;
mod look;
mod run;
mod sighting;
mod single;
mod summary;

use profiler::{cgroup::CgroupError, ebpf::EbpfError};

use crate::{HarnessError, Judge};
pub use containers::{Containers, InForce};
pub use look::{JUDGED, Look, Seen, arm};
pub use sighting::{Key, Kind, Sighting};
pub use single::{OneCgroup, OneProcess};
pub use summary::{About, Ending, Summary};

/// A watch that could not be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// BPF does not work here.
    #[error(transparent)]
    Ebpf(#[from] EbpfError),
    /// The cgroup cannot be used.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// No engine has such a container, or none answers.
    #[error(transparent)]
    Engine(#[from] engine::EngineError),
    /// The profile cannot be asked.
    #[error(transparent)]
    Profile(#[from] HarnessError),
    /// The container has no cgroup of its own.
    #[error(
        "container `{0}` has no cgroup of its own, so its calls cannot be told from others'; start it without `--cgroups=disabled`"
    )]
    NoCgroup(String),
    /// There is no such process.
    #[error("no such process `{0}`")]
    NoProcess(u32),
    /// What was counted cannot be read.
    #[error("cannot read what was counted")]
    Read(#[source] std::io::Error),
}

/// What happened since the last look, in order.
#[derive(Clone, Debug)]
pub enum Event {
    /// A run is watched from here on.
    Began(About),
    /// Something was seen for the first time in this run.
    First(u32, Sighting),
    /// The run is over, or the watch is; with the profiles that it was judged by.
    Ended(Box<Summary>, Judges),
}

/// Something that is watched until it is over.
pub trait Watch {
    /// Looks once; a few times a second is often enough.
    ///
    /// # Errors
    /// When what was counted cannot be read any more.
    fn look(&mut self) -> Result<Vec<Event>, WatchError>;

    /// Whether nothing more can come.
    fn is_over(&mut self) -> bool;

    /// Ends the watch; what still runs goes on.
    ///
    /// # Errors
    /// When what was counted cannot be read.
    fn finish(self: Box<Self>) -> Result<Vec<Event>, WatchError>;
}

/// The profiles by which a run is judged.
#[derive(Clone, Debug, Default)]
pub struct Judges {
    /// The profile that is asked and not loaded.
    pub asked: Option<Judge>,
    /// The profile that is in force, where it is known.
    pub in_force: Option<Judge>,
}

impl Judges {
    /// The same as this container runtime loads the profiles: see [`Judge::under`].
    ///
    /// # Errors
    /// A profile cannot be compiled.
    pub fn under(self, runtime: Option<&str>) -> Result<Self, HarnessError> {
        let under = |judge: Option<Judge>| judge.map(|judge| judge.under(runtime)).transpose();
        Ok(Self { asked: under(self.asked)?, in_force: under(self.in_force)? })
    }

    /// The same without the question, where what is asked about is in force anyway.
    #[must_use]
    pub fn settled(mut self) -> Self {
        let same = |(asked, own): (&Judge, &Judge)| asked.profile().digest() == own.profile().digest();
        if self.asked.as_ref().zip(self.in_force.as_ref()).is_some_and(same) {
            self.asked = None;
        }
        self
    }
}
