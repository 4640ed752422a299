//! Following one run of one container: from the cgroup's birth to its end.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use trace::PhaseName;

use super::{ContainerRecording, Context, describe};
use crate::{
    Observer, RecordError, cgroup,
    drive::{Driven, Watcher},
    ebpf::{Born, EbpfError, Fleet, TargetId},
    host,
};
use engine::State;

/// How often the observer hears of progress.
const PROGRESS: Duration = Duration::from_millis(250);

/// A run of a container that is being recorded.
#[derive(Clone, Debug)]
pub(super) struct Following {
    pub(super) target: TargetId,
    /// Targets of cgroups inside the container's own; their calls are the container's.
    pub(super) inner: Vec<TargetId>,
    /// The cgroup, below the cgroup v2 mount.
    pub(super) path: String,
    /// It ran already when it was attached to.
    pub(super) late: bool,
    pub(super) started: String,
    /// When each phase began, after the attachment.
    pub(super) phases: Vec<(PhaseName, Duration)>,
    /// When it was attached to: `CLOCK_MONOTONIC`.
    since: Duration,
    populated: bool,
    /// Its container was started again.
    replaced: bool,
}

/// The clock that the kernel's moments are on.
fn now() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    time.map_or(Duration::ZERO, Duration::from)
}

impl Following {
    fn new(target: TargetId, path: String, phase: PhaseName) -> Self {
        Self {
            target,
            inner: Vec::new(),
            path,
            late: false,
            started: host::now(),
            phases: vec![(phase, Duration::ZERO)],
            since: now(),
            populated: false,
            replaced: false,
        }
    }

    /// A run from its cgroup's birth on.
    pub(super) fn born(born: &Born, phase: PhaseName) -> Self {
        let since = Duration::from_nanos(born.at_ns);
        Self { since, ..Self::new(born.target, born.path.clone(), phase) }
    }

    /// A run that goes on already, and is past its start.
    pub(super) fn late(target: TargetId, path: String) -> Self {
        Self { late: true, populated: true, ..Self::new(target, path, PhaseName::Serving) }
    }

    /// Whether this target is of this run.
    pub(super) fn holds(&self, target: TargetId) -> bool {
        self.target == target || self.inner.contains(&target)
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = TargetId> + '_ {
        std::iter::once(self.target).chain(self.inner.iter().copied())
    }

    fn elapsed(&self) -> Duration {
        now().saturating_sub(self.since)
    }

    /// From now on its calls belong to this phase.
    pub(super) fn enter(&mut self, fleet: &mut Fleet, phase: PhaseName) {
        self.phases.push((phase, self.elapsed()));
        for target in self.targets() {
            fleet.set_phase(target, phase);
        }
    }

    /// Whether nothing runs there any more: the cgroup is gone, or it had processes and has none.
    pub(super) fn is_over(&mut self, mount: &Path) -> bool {
        let directory = directory(mount, &self.path);
        let alive = cgroup::processes(&directory).is_ok_and(|pids| !pids.is_empty());
        self.populated |= alive;
        self.replaced || (!alive && (self.populated || !directory.exists()))
    }
}

/// The directory of a cgroup that is named by its path below the mount.
#[must_use]
pub fn directory(mount: &Path, path: &str) -> PathBuf {
    mount.join(path.trim_start_matches('/'))
}

/// Follows the first run of a container that the fleet was told to expect, or that is a target already.
pub(super) struct Single<'a> {
    pub(super) fleet: &'a mut Fleet,
    pub(super) observer: &'a mut dyn Observer,
    pub(super) mount: PathBuf,
    /// The container.
    id: String,
    pub(super) run: Option<Following>,
    /// Whether the end of the cgroup is the end of the workload; else its main process is.
    pub(super) ends_with_cgroup: bool,
    /// How it is stopped, if we are to stop it.
    pub(super) stop: Option<Box<dyn Fn(Duration) + Send + 'a>>,
    phase: PhaseName,
    next: Duration,
    failed: Option<EbpfError>,
}

impl<'a> Single<'a> {
    pub(super) fn new(
        fleet: &'a mut Fleet,
        observer: &'a mut dyn Observer,
        id: &str,
        ends_with_cgroup: bool,
    ) -> Result<Self, RecordError> {
        observer.armed(fleet);
        Ok(Self {
            fleet,
            observer,
            id: id.to_owned(),
            mount: cgroup::mount_point()?,
            run: None,
            ends_with_cgroup,
            stop: None,
            phase: PhaseName::Startup,
            next: Duration::ZERO,
            failed: None,
        })
    }

    /// Takes in what came into being; a second run of the same container is none of ours.
    pub(super) fn look(&mut self) -> Result<(), EbpfError> {
        for born in self.fleet.news()? {
            match &mut self.run {
                Some(run) if born.parent.is_some_and(|parent| run.holds(parent)) => {
                    run.inner.push(born.target);
                }
                Some(run) => {
                    run.replaced = true;
                    self.fleet.discard(born.target);
                }
                None => {
                    self.fleet.set_phase(born.target, self.phase);
                    self.run = Some(Following::born(&born, self.phase));
                }
            }
        }
        Ok(())
    }

    /// Ends the run: reads what was counted. None if the container never came into being.
    pub(super) fn finish(mut self) -> Result<Option<Taken>, RecordError> {
        if let Some(error) = self.failed.take() {
            return Err(error.into());
        }
        self.look()?;
        let Some(run) = self.run.take() else { return Ok(None) };
        take(self.fleet, self.observer, &self.id, run).map(Some)
    }
}

/// Everything the kernel knew of a run.
pub(super) struct Taken {
    pub(super) run: Following,
    pub(super) observed: crate::ebpf::ContainerObservations,
    pub(super) refusals: Vec<crate::ebpf::Refusal>,
    pub(super) elapsed: Duration,
}

/// Ends the targets of a run and reads them.
pub(super) fn take(
    fleet: &mut Fleet,
    observer: &mut dyn Observer,
    id: &str,
    run: Following,
) -> Result<Taken, RecordError> {
    let elapsed = run.elapsed();
    let targets: Vec<TargetId> = run.targets().collect();
    observer.peek(fleet, id, &targets);
    let mut refusals = Vec::new();
    for target in &targets {
        refusals.extend(fleet.refusals(*target)?);
    }
    let observed = fleet.take(&targets)?;
    Ok(Taken { run, observed, refusals, elapsed })
}

/// A recording of a run.
pub(super) fn recording(
    context: &Context<'_>,
    engine: &str,
    container: engine::Container,
    taken: Taken,
    driven: Driven,
) -> ContainerRecording {
    let run = describe::Run {
        engine,
        container: &container,
        following: &taken.run,
        elapsed: taken.elapsed,
        exit_code: match container.state {
            State::Exited { code } => Some(code),
            State::Created | State::Running { .. } => None,
        },
        observed: context.observes(&container),
    };
    let trace = describe::trace(context.tool, &run, taken.observed);
    let driven = Driven { phases: taken.run.phases, ..driven };
    ContainerRecording { trace, driven, refusals: taken.refusals, container }
}

impl Watcher for Single<'_> {
    fn phase(&mut self, phase: PhaseName) {
        self.phase = phase;
        if let Some(run) = self.run.as_mut().filter(|run| !run.late) {
            run.enter(self.fleet, phase);
        }
    }

    fn tick(&mut self, elapsed: Duration, phase: PhaseName) {
        if let Err(error) = self.look() {
            self.failed.get_or_insert(error);
        }
        if let Some(run) = &self.run
            && elapsed >= self.next
        {
            self.next = elapsed + PROGRESS;
            let progress = self.fleet.progress(run.target);
            self.observer.progress(elapsed, phase, &progress);
            let targets: Vec<TargetId> = run.targets().collect();
            self.observer.peek(self.fleet, &self.id, &targets);
        }
    }

    fn over(&mut self) -> Option<bool> {
        if self.failed.is_some() {
            return Some(true);
        }
        if !self.ends_with_cgroup {
            return None;
        }
        let mount = &self.mount;
        Some(self.run.as_mut().is_some_and(|run| run.is_over(mount)))
    }

    fn stop(&mut self, timeout: Duration) -> bool {
        let Some(stop) = &self.stop else { return false };
        stop(timeout);
        true
    }
}

/// The cgroup that a container's process is in, cut at the container's own directory; none where the container
/// has no cgroup of its own. A path below the cgroup v2 mount.
#[must_use]
pub fn cgroup_of(pid: u32, id: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let names = engine::cgroup_names(id);
    let mut kept = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        kept.push('/');
        kept.push_str(part);
        if names.iter().any(|name| name == part) {
            return Some(kept);
        }
    }
    None
}
