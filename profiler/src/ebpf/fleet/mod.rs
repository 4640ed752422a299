//! Many targets recorded by one set of programs: cgroups that are there, cgroups that will be made under a known
//! name, and whatever is made below a directory.
//!
//! Each target has a block of counters that CPUs share, so that memory does not grow with the number of possible
//! CPUs; see `profiler_ebpf::maps::BLOCKS`. Stages of a container's start are kept apart in the kernel, per task.

mod capture;
mod condition;
mod members;
mod memory;
mod news;
mod read;
mod refusals;
mod take;

use std::{
    collections::BTreeMap,
    fmt,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::maps::MapError;
use profiler_ebpf::{MAX_TARGETS, STARTUP, Target, group, maps, open};
use trace::PhaseName;

pub use self::{
    capture::{Tuple, Tuples},
    condition::Condition,
    memory::Memory,
    news::Born,
    refusals::{Class, Refusal},
    take::ContainerObservations,
};
use super::{
    EbpfError,
    arguments::Keeping,
    cgroup, observe, permission,
    program::{Hook, Programs, Purpose},
    recorder::{find_present_tasks, follow_cgroups},
    sys,
    tables::{FleetTables, Plain, Tables, failed},
};

/// A target of a [`Fleet`]: never the same for two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(u32);

impl TargetId {
    pub(super) const fn group(self) -> u32 {
        self.0
    }

    pub(super) const fn index(self) -> u32 {
        group::index(self.0)
    }
}

impl fmt::Display for TargetId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What user space knows of a target that is recorded.
#[derive(Clone, Debug)]
struct Known {
    armed_ns: u64,
    /// Runs of the programs that the kernel had skipped, and targets it had no room for, before the target was there.
    missed_before: u64,
    /// Its directory, where it is mounted here.
    directory: PathBuf,
}

/// A recording of many targets that is under way.
pub struct Fleet {
    programs: Programs,
    tables: Tables,
    own: FleetTables,
    descriptors: BTreeMap<String, OwnedFd>,
    known: BTreeMap<TargetId, Known>,
    /// By directory that was named: the cgroups below which targets are made, and how many levels.
    nurseries: BTreeMap<PathBuf, BTreeMap<u64, u32>>,
    /// Cgroups that were targets of a nursery, and below which targets are still made.
    former: Vec<u64>,
    mount: Option<PathBuf>,
    missed: u64,
    kept: Option<Keeping>,
}

impl Fleet {
    /// Loads and attaches the programs; there is no target yet. With `stages`, what a container runtime does in a
    /// target before the workload begins is kept apart, as are sessions of `exec`.
    ///
    /// # Errors
    /// See [`EbpfError`].
    pub fn start(stages: bool) -> Result<Self, EbpfError> {
        permission::check()?;
        let mut programs = Programs::load(Purpose::Fleet { stages })?;
        let descriptors = programs.map_descriptors()?;
        let tables = Tables::take(programs.object())?;
        let mut own = FleetTables::take(programs.object())?;
        for index in 0..MAX_TARGETS {
            own.free.push(group::first(index), 0).map_err(failed(maps::FREE))?;
        }
        for hook in [
            Hook::CgroupMkdir,
            Hook::CgroupRelease,
            Hook::ProcessFork,
            Hook::ProcessExec,
            Hook::ProcessExit,
            Hook::SysExit,
            Hook::SysEnter,
        ] {
            programs.attach(hook)?;
        }
        let missed = programs.missed_runs()?;
        // Loading took a lot of memory, of which the rest of the recording needs nothing.
        sys::return_memory();
        Ok(Self {
            programs,
            tables,
            own,
            descriptors,
            known: BTreeMap::new(),
            nurseries: BTreeMap::new(),
            former: Vec::new(),
            mount: crate::cgroup::mount_point().ok(),
            missed,
            kept: None,
        })
    }

    /// Records a cgroup that exists, and all below it. Tasks that are in it are taken for its workload.
    ///
    /// # Errors
    /// When the directory is not one of a cgroup v2 mount, when this process is in it, when there are too many
    /// targets.
    pub fn add(&mut self, directory: &Path) -> Result<TargetId, EbpfError> {
        cgroup::check(directory)?;
        let id = match self.own.free.pop(0) {
            Ok(new) => TargetId(new),
            Err(MapError::ElementNotFound) => return Err(EbpfError::TooManyTargets(MAX_TARGETS)),
            Err(error) => return Err(failed(maps::FREE)(error)),
        };
        let missed_before = self.missed()?;
        let added = self.arm(id, directory);
        if let Err(error) = added {
            self.known.insert(id, Known { armed_ns: 0, missed_before, directory: directory.to_owned() });
            self.discard(id);
            return Err(error);
        }
        let armed_ns = sys::monotonic_ns();
        self.known.insert(id, Known { armed_ns, missed_before, directory: directory.to_owned() });
        self.open(id, STARTUP)?;
        Ok(id)
    }

    fn arm(&mut self, id: TargetId, directory: &Path) -> Result<(), EbpfError> {
        let cgroup = cgroup::id(directory)?;
        let armed_ns = sys::monotonic_ns();
        let target = Target { group: id.group(), cgroup, armed_ns, ..Target::EMPTY };
        self.own.targets.set(id.index(), Plain(target), 0).map_err(failed(maps::TARGETS))?;
        // Closed, so that those present are found before any of them counts.
        self.open(id, 0)?;
        follow_cgroups(&mut self.tables, directory, id.index())?;
        find_present_tasks(&mut self.programs, &self.tables)
    }

    /// From now on what the target does belongs to this phase.
    pub fn set_phase(&mut self, target: TargetId, phase: PhaseName) {
        if self.known.contains_key(&target)
            && let Err(error) = self.open(target, observe::phase_bit(phase))
        {
            tracing::error!(%error, "the phase could not be told to the BPF program");
        }
    }

    fn open(&mut self, target: TargetId, phase: u32) -> Result<(), EbpfError> {
        self.own.open.set(target.index(), open(target.group(), phase), 0).map_err(failed(maps::OPEN))
    }

    fn known(&self, target: TargetId) -> Result<&Known, EbpfError> {
        self.known.get(&target).ok_or(EbpfError::NoTarget(target.0))
    }

    /// What the kernel keeps for a target.
    fn target(&self, target: TargetId) -> Result<Target, EbpfError> {
        self.known(target)?;
        self.own.targets.get(&target.index(), 0).map(|Plain(kept)| kept).map_err(failed(maps::TARGETS))
    }

    /// Runs of the programs that the kernel skipped, and targets that it had no room for, so far.
    fn missed(&self) -> Result<u64, EbpfError> {
        Ok(self.programs.missed_runs()?.saturating_add(self.tables.tally()?.targets_full))
    }

    fn descriptor(&self, map: &'static str) -> Result<BorrowedFd<'_>, EbpfError> {
        let found = self.descriptors.get(map).map(OwnedFd::as_fd);
        found.ok_or_else(|| EbpfError::Map { map, source: "the BPF object does not have it".into() })
    }
}
