//! The runs of the containers of pods: what was made, when a run is over, what became of it.

mod identify;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::{Duration, Instant},
};

use engine::{Container, State};
use trace::{PhaseName, Pod};

use self::identify::container_directory;
use super::{
    ContainerRecording, Context, Event, PodName,
    follow::{Following, Taken, recording, take},
    pod::{LOOK, Wanted},
    registry::{Answer, Known, Registry, Snapshot},
};
use crate::{
    Observer, Progress, RecordError,
    drive::{Driven, End, Verdict, Watcher},
    ebpf::{Born, EbpfError, Fleet, TargetId},
};

/// How often the engine is asked for what there is, when nothing is pressing.
const ASK: Duration = Duration::from_millis(500);
/// How often the observer hears of progress.
const PROGRESS: Duration = Duration::from_millis(250);
/// How long a cgroup whose id the engine does not know may be a container that it will know.
const UNKNOWN: Duration = Duration::from_secs(5);
/// How long the engine may take to say how a container ended.
const SETTLE: Duration = Duration::from_secs(3);
/// A cgroup that may be one of our containers'.
struct Candidate {
    born: Born,
    id: String,
    since: Instant,
}

/// A run that goes on.
struct Live {
    id: String,
    following: Following,
    told: bool,
}

/// A run that is over, of which the engine has yet to say how it ended.
struct Ending {
    id: String,
    taken: Taken,
    since: Instant,
    asked: Instant,
}

/// What goes on in the pods that are meant.
pub(super) struct Pods<'a> {
    wanted: Wanted<'a>,
    context: Context<'a>,
    fleet: &'a mut Fleet,
    pub(super) observer: &'a mut dyn Observer,
    registry: Registry,
    mount: PathBuf,
    snapshot: Option<Snapshot>,
    asked: Instant,
    /// When a container was last asked about.
    asked_about: BTreeMap<String, Instant>,
    /// The pods that are recorded, by uid.
    pods: BTreeMap<String, Pod>,
    /// The cgroup in which the pod's containers are made, once known.
    parent: Option<PathBuf>,
    /// Only that one is looked at.
    narrowed: bool,
    /// Every container that was ever met, so that none is attached to twice.
    met: BTreeSet<String>,
    candidates: Vec<Candidate>,
    live: Vec<Live>,
    ending: Vec<Ending>,
    described: BTreeMap<String, Container>,
    done: Vec<ContainerRecording>,
    phase: PhaseName,
    next: Duration,
    pub(super) broken: Option<RecordError>,
}

impl<'a> Pods<'a> {
    pub(super) fn new(
        wanted: Wanted<'a>,
        context: Context<'a>,
        fleet: &'a mut Fleet,
        observer: &'a mut dyn Observer,
        registry: Registry,
        mount: PathBuf,
    ) -> Self {
        registry.ask();
        Self {
            wanted,
            context,
            fleet,
            observer,
            registry,
            mount,
            snapshot: None,
            asked: Instant::now(),
            asked_about: BTreeMap::new(),
            pods: BTreeMap::new(),
            parent: None,
            narrowed: false,
            met: BTreeSet::new(),
            candidates: Vec::new(),
            live: Vec::new(),
            ending: Vec::new(),
            described: BTreeMap::new(),
            done: Vec::new(),
            phase: PhaseName::Startup,
            next: Duration::ZERO,
            broken: None,
        }
    }

    /// Whether there is such a pod.
    pub(super) fn found(&self) -> bool {
        !self.pods.is_empty()
    }

    /// Whether the engine said once what there is.
    pub(super) const fn informed(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Goes round once: what the engine answered, what was made, what ended.
    pub(super) fn look(&mut self) -> Result<(), RecordError> {
        while let Some(answer) = self.registry.answer() {
            match answer {
                Answer::Snapshot(snapshot) => {
                    self.snapshot = Some(snapshot);
                    self.welcome();
                }
                Answer::Described(container) => {
                    self.described.insert(container.id.clone(), *container);
                }
                // A pause container, or one of another engine: given up in its time.
                Answer::Missing => {}
                Answer::Failed(error) if self.snapshot.is_none() => return Err(error.into()),
                Answer::Failed(error) => tracing::warn!(%error, "the engine did not answer"),
            }
        }
        // After the answers: what they say runs was made before they came.
        self.newborn()?;
        self.identify()?;
        self.attach_late()?;
        self.end_runs()?;
        self.settle();
        let pressing = !self.candidates.is_empty();
        if self.asked.elapsed() >= if pressing { LOOK } else { ASK } && self.registry.ask() {
            self.asked = Instant::now();
        }
        Ok(())
    }

    /// Takes in the pods that are meant.
    fn welcome(&mut self) {
        let Some(snapshot) = &self.snapshot else { return };
        for sandbox in &snapshot.sandboxes {
            let one_only = matches!(self.wanted.name, PodName::Name(_)) && !self.pods.is_empty();
            if sandbox.ready && !one_only && !self.pods.contains_key(&sandbox.pod.uid) {
                self.observer.event(&Event::PodFound(&sandbox.pod));
                self.pods.insert(sandbox.pod.uid.clone(), sandbox.pod.clone());
            }
        }
    }

    /// Takes in the cgroups that were made.
    fn newborn(&mut self) -> Result<(), EbpfError> {
        for born in self.fleet.news()? {
            if let Some(parent) = born.parent {
                let live = self.live.iter_mut().find(|live| live.following.holds(parent));
                if let Some(live) = live {
                    live.following.inner.push(born.target);
                    continue;
                }
            }
            match container_directory(&born.path) {
                Some(id) => {
                    let id = id.to_owned();
                    self.met.insert(id.clone());
                    self.ask_about(&id);
                    self.fleet.set_phase(born.target, self.phase);
                    self.candidates.push(Candidate { born, id, since: Instant::now() });
                }
                // Folders on the way to containers, and all that is none.
                None if engine::container_id(&born.path).is_none() => self.fleet.discard(born.target),
                // Inside of a container that is not known yet: its own turn comes with its container's.
                None => {
                    let id = engine::container_id(&born.path).unwrap_or_default().to_owned();
                    self.candidates.push(Candidate { born, id, since: Instant::now() });
                }
            }
        }
        Ok(())
    }

    /// Takes what was counted of runs that are over.
    fn end_runs(&mut self) -> Result<(), RecordError> {
        let mut going_on = Vec::new();
        for mut live in std::mem::take(&mut self.live) {
            if !live.told
                && let Some(container) = self.described.get(&live.id)
            {
                live.told = true;
                self.observer.event(&Event::Began { container, late: live.following.late });
            }
            if !live.following.is_over(&self.mount) {
                going_on.push(live);
                continue;
            }
            let taken = take(self.fleet, self.observer, &live.id, live.following)?;
            self.registry.describe(&live.id);
            let now = Instant::now();
            self.ending.push(Ending { id: live.id, taken, since: now, asked: now });
        }
        self.live = going_on;
        Ok(())
    }

    /// Makes the traces of runs that are over, once the engine says how they ended and what they were: only what
    /// came after it shows that a container was an init container.
    fn settle(&mut self) {
        let mut waiting = Vec::new();
        for mut ending in std::mem::take(&mut self.ending) {
            let exited =
                self.described.get(&ending.id).is_some_and(|one| matches!(one.state, State::Exited { .. }));
            if (exited || ending.since.elapsed() > SETTLE) && self.is_decided(&ending) {
                self.conclude(ending);
                continue;
            }
            if !exited && ending.asked.elapsed() > SETTLE / 20 {
                self.registry.describe(&ending.id);
                ending.asked = Instant::now();
            }
            waiting.push(ending);
        }
        self.ending = waiting;
    }

    /// Whether a container came after it, or none will.
    fn is_decided(&self, ending: &Ending) -> bool {
        let Some(snapshot) = &self.snapshot else { return false };
        let Some(own) = snapshot.containers.iter().find(|one| one.id == ending.id) else {
            return snapshot.asked > ending.since;
        };
        let later = |one: &Known| one.uid == own.uid && one.made > own.made;
        let up = snapshot.sandboxes.iter().any(|sandbox| sandbox.ready && sandbox.pod.uid == own.uid);
        snapshot.asked > ending.since && (!up || snapshot.containers.iter().any(later))
    }

    fn conclude(&mut self, ending: Ending) {
        let Some(mut container) = self.described.get(&ending.id).cloned() else {
            tracing::warn!(
                id = ending.id,
                "the engine forgot this container before it said what it was; its calls are not written"
            );
            return;
        };
        let known = self.snapshot.iter().flat_map(|snapshot| &snapshot.containers);
        if let Some(known) = known.into_iter().find(|known| known.id == container.id) {
            container.kind = known.kind;
        }
        let driven = Driven {
            end: End::Ended,
            exit: None,
            exited_by_itself: true,
            phases: Vec::new(),
            ready: Verdict::NotAsked,
            exercise: Verdict::NotAsked,
            health: Verdict::NotAsked,
            left_over: Vec::new(),
            killed: Vec::new(),
            elapsed: ending.taken.elapsed,
        };
        let label = self.registry.label();
        let recording = recording(&self.context, label, container, ending.taken, driven);
        self.observer.event(&Event::Finished(&recording));
        self.done.push(recording);
    }

    /// Ends what goes on, and hands everything over.
    pub(super) fn finish(mut self, driven: &Driven) -> Result<Vec<ContainerRecording>, RecordError> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        for live in std::mem::take(&mut self.live) {
            let taken = take(self.fleet, self.observer, &live.id, live.following)?;
            self.registry.describe(&live.id);
            let now = Instant::now();
            self.ending.push(Ending { id: live.id, taken, since: now, asked: now });
        }
        // What the engine can still tell: the names of what came just now, how the others ended.
        let patience = Instant::now();
        loop {
            self.look()?;
            for live in std::mem::take(&mut self.live) {
                let taken = take(self.fleet, self.observer, &live.id, live.following)?;
                let now = Instant::now();
                self.ending.push(Ending { id: live.id, taken, since: now, asked: now });
            }
            let fresh = self.snapshot.as_ref().is_some_and(|snapshot| snapshot.asked > patience);
            let named = self.ending.iter().all(|ending| self.described.contains_key(&ending.id));
            if (fresh && named && self.candidates.is_empty()) || patience.elapsed() > SETTLE {
                break;
            }
            self.registry.ask();
            std::thread::sleep(LOOK);
        }
        for ending in std::mem::take(&mut self.ending) {
            self.conclude(ending);
        }
        for recording in &mut self.done {
            recording.driven = Driven { phases: recording.driven.phases.clone(), ..driven.clone() };
        }
        Ok(self.done)
    }
}

impl Watcher for Pods<'_> {
    fn phase(&mut self, phase: PhaseName) {
        self.phase = phase;
        for live in self.live.iter_mut().filter(|live| !live.following.late) {
            live.following.enter(self.fleet, phase);
        }
    }

    fn tick(&mut self, elapsed: Duration, phase: PhaseName) {
        if let Err(error) = self.look() {
            self.broken.get_or_insert(error);
        }
        if elapsed >= self.next {
            self.next = elapsed + PROGRESS;
            let mut sum = Progress::default();
            for live in &self.live {
                let one = self.fleet.progress(live.following.target);
                sum.calls = sum.calls.saturating_add(one.calls);
                sum.distinct = sum.distinct.max(one.distinct);
                sum.last_new_ms = sum.last_new_ms.max(one.last_new_ms);
                sum.lost |= one.lost;
                let targets: Vec<TargetId> = live.following.targets().collect();
                self.observer.peek(self.fleet, &live.id, &targets);
            }
            self.observer.progress(elapsed, phase, &sum);
        }
    }

    fn over(&mut self) -> Option<bool> {
        let idle = self.live.is_empty() && self.ending.is_empty() && self.candidates.is_empty();
        let gone = self.snapshot.as_ref().is_some_and(|snapshot| {
            !snapshot.sandboxes.iter().any(|one| one.ready && self.pods.contains_key(&one.pod.uid))
        });
        Some(self.broken.is_some() || (idle && gone))
    }
}
