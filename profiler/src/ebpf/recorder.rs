//! A recording by BPF, from start to stop.

use std::{
    collections::BTreeSet,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use profiler_ebpf::{
    FirstSight, MAX_CGROUPS, MODE_CGROUP, MODE_PROCESS, Member, SLOT_COUNT, TaskState, maps, slot,
};
use trace::PhaseName;

use super::{
    EbpfError,
    arguments::Keeping,
    cgroup,
    files::Files,
    observe::{self, Counts},
    opens::Opens,
    permission,
    program::{Hook, Programs, Purpose, Walk},
    sys,
    tables::{Plain, Tables, failed},
};
use crate::{CapturePlan, Observations, Progress, Recorder, capture::uses_gpu};

/// What is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Every task of this cgroup and of all below it, also of those made later. An absolute directory of the
    /// cgroup v2 mount.
    Cgroup(PathBuf),
    /// This process (in our pid namespace), its threads and descendants, present and future.
    Process(u32),
}

/// A recording by BPF that is under way.
pub struct EbpfRecorder {
    programs: Programs,
    tables: Tables,
    kept: Option<Keeping>,
    started_ns: u64,
}

/// Whether BPF can record here: loads everything and attaches nothing.
///
/// # Errors
/// What is missing: a capability, the kernel's type information, a kernel that is new enough.
pub fn probe() -> Result<(), EbpfError> {
    permission::check()?;
    Programs::load(Purpose::One(MODE_CGROUP)).map(drop)
}

impl EbpfRecorder {
    /// Loads the programs, tells them what to record and which arguments to keep, and attaches them. When it
    /// returns, everything the target does from now on is counted; that moment is 0 for all times in the rows.
    ///
    /// # Errors
    /// See [`EbpfError`].
    pub fn start(watch: &Watch, plan: &CapturePlan) -> Result<Self, EbpfError> {
        permission::check()?;
        let mode = match watch {
            Watch::Cgroup(directory) => {
                cgroup::check(directory)?;
                MODE_CGROUP
            }
            Watch::Process(pid) if *pid == std::process::id() => {
                return Err(EbpfError::RecorderItself(*pid));
            }
            Watch::Process(_) => MODE_PROCESS,
        };
        let mut programs = Programs::load(Purpose::One(mode))?;
        let mut tables = Tables::take(programs.object())?;
        let kept = Keeping::of(plan)?;
        if let Some(kept) = &kept {
            kept.tell(&mut tables)?;
        }
        // What makes new members is watched before the present ones are looked up, so that none falls between.
        match watch {
            Watch::Cgroup(directory) => {
                programs.attach(Hook::CgroupMkdir)?;
                programs.attach(Hook::CgroupRelease)?;
                follow_cgroups(&mut tables, directory, 0)?;
                programs.attach(Hook::ProcessFork)?;
            }
            Watch::Process(pid) => {
                programs.attach(Hook::ProcessFork)?;
                add_process(&tables, *pid)?;
            }
        }
        find_present_tasks(&mut programs, &tables)?;
        programs.attach(Hook::ProcessExit)?;
        programs.attach(Hook::SysExit)?;
        programs.attach(Hook::SysEnter)?;
        // Both hooks count from this moment on, not one before the other.
        let mut recorder = Self { programs, tables, kept, started_ns: sys::monotonic_ns() };
        recorder.open(observe::phase_bit(PhaseName::Startup))?;
        Ok(recorder)
    }

    fn open(&mut self, phase: u32) -> Result<(), EbpfError> {
        self.tables.phase.set(0, phase, 0).map_err(failed(maps::PHASE))
    }

    /// Ends the recording. What was entered may still return until `sys_exit` is detached; what is entered from
    /// now on is not counted, and its exit must not be taken for a filter's answer.
    fn close(&mut self) -> Result<(), EbpfError> {
        self.open(0)?;
        sys::wait_for_running_programs();
        for hook in [Hook::SysEnter, Hook::SysExit, Hook::ProcessFork, Hook::CgroupMkdir, Hook::CgroupRelease]
        {
            self.programs.detach(hook);
        }
        sys::wait_for_running_programs();
        // A task that ends now is counted by the one or by the other: each takes the call away.
        self.programs.walk(Walk::InFlight)?;
        self.programs.detach(Hook::ProcessExit);
        sys::wait_for_running_programs();
        Ok(())
    }

    fn opens(&self) -> Result<Vec<trace::Open>, EbpfError> {
        let mut opens = Opens::default();
        for entry in self.tables.opened.iter() {
            let (Plain(opened), Plain(seen)) = entry.map_err(failed(maps::OPENED))?;
            opens.add(&opened, &seen);
        }
        Ok(opens.opens(self.started_ns))
    }

    fn glance(&self) -> Result<Progress, EbpfError> {
        let mut progress = Progress::default();
        let mut seen = |first: &FirstSight, calls: u64| {
            progress.distinct += 1;
            let after_ms = observe::milliseconds(first.nanoseconds, self.started_ns);
            progress.last_new_ms = progress.last_new_ms.max(after_ms);
            progress.calls = progress.calls.saturating_add(calls);
        };
        for entry in self.tables.first.iter() {
            let (Plain(counted), Plain(first)) = entry.map_err(failed(maps::FIRST))?;
            let Some(row) = counted.call.row() else { continue };
            let cells = self.tables.cells.get(&row, 0).map_err(failed(maps::CELLS))?;
            seen(&first, cells.iter().map(|Plain(cell)| cell.calls).sum());
        }
        for entry in self.tables.rare.iter() {
            let (_, Plain(shared)) = entry.map_err(failed(maps::RARE))?;
            seen(&shared.first, shared.cell.calls);
        }
        for entry in self.tables.endings.iter() {
            let (Plain(ending), count) = entry.map_err(failed(maps::ENDINGS))?;
            if ending.kind & profiler_ebpf::Ending::REFUSED != 0 {
                progress.calls = progress.calls.saturating_add(count);
            }
        }
        let losses = observe::losses(&self.tables.tally()?, self.programs.missed_runs()?, 0);
        progress.lost = losses.lost_calls();
        Ok(progress)
    }
}

impl Recorder for EbpfRecorder {
    fn set_phase(&mut self, phase: PhaseName) {
        if let Err(error) = self.open(observe::phase_bit(phase)) {
            tracing::error!(%error, "the phase could not be told to the BPF program");
        }
    }

    fn progress(&mut self) -> Progress {
        self.glance().unwrap_or_else(|error| {
            tracing::debug!(%error, "the counters could not be read just now");
            Progress::default()
        })
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<Observations> {
        self.close()?;
        let counts = Counts::read(&self.tables)?;
        let tally = self.tables.tally()?;
        let files = Files::read(&self.tables)?;
        let (rows, unseen) = counts.rows(self.started_ns, self.kept.as_ref(), &files);
        let opens = self.opens()?;
        let gpu = self.kept.is_some().then(|| uses_gpu(&rows, &opens));
        let losses = observe::losses(&tally, self.programs.missed_runs()?, unseen);
        Ok(Observations {
            rows,
            opens,
            opens_beyond: tally.opens_beyond,
            gpu,
            losses,
            confined: tally.confined > 0,
            perturbations: Vec::new(),
        })
    }
}

/// Adds the cgroup and all below it to a target, until a look through the tree finds none that is not there yet.
pub(super) fn follow_cgroups(tables: &mut Tables, directory: &Path, index: u32) -> Result<(), EbpfError> {
    let mut known = BTreeSet::new();
    loop {
        let new: Vec<u64> = cgroup::tree(directory)?.into_iter().filter(|id| !known.contains(id)).collect();
        if new.is_empty() {
            return Ok(());
        }
        for id in new {
            if known.len() >= MAX_CGROUPS as usize {
                return Err(EbpfError::TooManyCgroups { path: directory.to_owned(), max: MAX_CGROUPS });
            }
            let member = Member { index, depth: 0 };
            tables.cgroups.insert(id, Plain(member), 0).map_err(failed(maps::CGROUPS))?;
            // Any id will do for a slot that several share: the others are found in the hash.
            let place = (id % u64::from(SLOT_COUNT)) as u32;
            tables.slots.set(place, slot(id, index), 0).map_err(failed(maps::SLOTS))?;
            known.insert(id);
        }
    }
}

/// Adds the process; its threads and descendants are found by what they belong to.
fn add_process(tables: &Tables, pid: u32) -> Result<(), EbpfError> {
    let gone = |source| EbpfError::Process { pid, source };
    let pidfd = sys::pidfd_open(pid).map_err(gone)?;
    sys::insert_task(tables.tasks.fd().as_fd(), pidfd.as_fd(), &TaskState::default()).map_err(gone)
}

/// Adds the tasks that are there already, until a look at all tasks finds no new one.
pub(super) fn find_present_tasks(programs: &mut Programs, tables: &Tables) -> Result<(), EbpfError> {
    let mut before = tables.tally()?.seeded;
    loop {
        programs.walk(Walk::Seed)?;
        let after = tables.tally()?.seeded;
        if after == before {
            return Ok(());
        }
        before = after;
    }
}
