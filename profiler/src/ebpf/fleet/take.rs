//! The end of targets: what was recorded of them.

use profiler_ebpf::{Tally, Target, group};
use trace::{ExecCalls, FilterMoment, Row, RuntimeCalls};

use super::{Class, Fleet, TargetId, condition, read::Classes};
use crate::{
    Observations,
    capture::uses_gpu,
    ebpf::{
        EbpfError,
        arguments::Keeping,
        files::Files,
        observe::{self, Counts},
    },
};

/// What was recorded of a container, or of any targets that are taken as one.
#[derive(Clone, Debug)]
pub struct ContainerObservations {
    /// The workload: rows, losses (of everything), and whether a filter was on it when it began.
    pub observations: Observations,
    /// What a container runtime did in it before the workload began; none where none was seen.
    pub runtime: Option<RuntimeCalls>,
    /// What sessions of `exec` did; none where none was seen.
    pub exec: Option<ExecCalls>,
    /// When recording began, the moment that all times in rows count from: `CLOCK_MONOTONIC`, nanoseconds.
    pub armed_ns: u64,
    /// When a container runtime became the workload, on the same clock; none where that was not seen.
    pub first_exec_ns: Option<u64>,
    /// The process that became the workload, in the first pid namespace.
    pub init_pid: Option<u32>,
    /// Whether tasks were there when the recording began.
    pub late: bool,
}

impl Fleet {
    /// Ends these targets and hands over what was seen of them, taken as one: a container and those nested in it.
    /// Tasks that are still alive are foreign from now on.
    ///
    /// # Errors
    /// When one of them is no target, or the kernel's counters cannot be read.
    pub fn take(&mut self, targets: &[TargetId]) -> Result<ContainerObservations, EbpfError> {
        let mut taken = self.take_each(&[targets])?;
        taken.pop().ok_or(EbpfError::NoTarget(0))
    }

    /// [`Fleet::take`] for several at once, at hardly more than the cost of one.
    ///
    /// # Errors
    /// As for [`Fleet::take`].
    pub fn take_each(&mut self, sets: &[&[TargetId]]) -> Result<Vec<ContainerObservations>, EbpfError> {
        let all: Vec<TargetId> = sets.iter().flat_map(|set| set.iter().copied()).collect();
        for target in &all {
            self.known(*target)?;
        }
        self.close(&all)?;
        let missed = self.missed()?;
        let mut before: std::collections::BTreeMap<TargetId, u64> = std::collections::BTreeMap::new();
        for target in &all {
            before.insert(*target, missed.saturating_sub(self.known(*target)?.missed_before));
        }
        let drained = self.drain(&all)?;
        let files = Files::read(&self.tables)?;
        let sets = sets.iter().map(|set| {
            let mut sum = Sum::default();
            for target in *set {
                if let Some((classes, kept)) = drained.get(target) {
                    sum.add(classes, kept, before.get(target).copied().unwrap_or(0));
                }
            }
            sum.observations(self.kept.as_ref(), &files)
        });
        Ok(sets.collect())
    }

    /// What was counted of a target so far, as [`Fleet::take`] would sort it; nothing ends. Calls that are under way
    /// have an unknown outcome here, and arguments are left out. Costs some milliseconds.
    ///
    /// # Errors
    /// When there is no such target, or the kernel's tables cannot be read.
    pub fn rows(&self, target: TargetId) -> Result<Vec<(Class, Row)>, EbpfError> {
        let mut sum = Sum::default();
        let (classes, kept) = self.look(target)?;
        sum.add(&classes, &kept, 0);
        let mut rows = Vec::new();
        let classes = [Class::Workload, Class::RuntimeSetup, Class::RuntimeStart, Class::ExecSession];
        for (class, counts) in classes.into_iter().zip(&sum.classes.counts) {
            let (own, _) = counts.rows(kept.armed_ns, None, &Files::default());
            rows.extend(own.into_iter().map(|row| (class, row)));
        }
        Ok(rows)
    }

    /// Ends a target that is none of ours; nothing of it is kept.
    pub fn discard(&mut self, target: TargetId) {
        if !self.known.contains_key(&target) {
            return;
        }
        let ended = self.close(&[target]).and_then(|()| self.drain(&[target]).map(drop));
        if let Err(error) = ended {
            tracing::error!(%error, "a target could not be given up; its place is lost");
        }
    }
}

/// Several targets as one.
#[derive(Default)]
struct Sum {
    classes: Classes,
    tally: Tally,
    missed: u64,
    armed_ns: Option<u64>,
    first_exec_ns: Option<u64>,
    init_pid: Option<u32>,
    late: bool,
    sessions: u64,
    filter: Option<FilterMoment>,
}

impl Sum {
    fn add(&mut self, classes: &Classes, kept: &Target, missed: u64) {
        let filter = condition::moment(kept);
        for (class, (sum, counts)) in (0..).zip(self.classes.counts.iter_mut().zip(&classes.counts)) {
            // What came after the mark belongs to the start only where no filter was loaded afterwards.
            if class != group::MARKED {
                sum.merge(counts);
            }
        }
        self.classes.opens.merge(&classes.opens);
        let [_, setup, start, _, _] = &mut self.classes.counts;
        let [_, _, _, _, marked] = &classes.counts;
        if filter == FilterMoment::Loaded {
            setup.merge(marked)
        } else {
            start.merge(marked)
        }
        self.filter = Some(match self.filter {
            None | Some(FilterMoment::NotSeen) => filter,
            Some(known) if filter == FilterMoment::NotSeen => known,
            Some(known) => known.join(filter),
        });
        let (sum, tally) = (&mut self.tally, &kept.tally);
        sum.rows_full = sum.rows_full.saturating_add(tally.rows_full);
        sum.endings_full = sum.endings_full.saturating_add(tally.endings_full);
        sum.task_storage = sum.task_storage.saturating_add(tally.task_storage);
        sum.cgroups_full = sum.cgroups_full.saturating_add(tally.cgroups_full);
        sum.first_exits = sum.first_exits.saturating_add(tally.first_exits);
        sum.unnamed_kills = sum.unnamed_kills.saturating_add(tally.unnamed_kills);
        sum.confined = sum.confined.saturating_add(tally.confined);
        sum.opens_beyond = sum.opens_beyond.saturating_add(tally.opens_beyond);
        self.missed = self.missed.max(missed);
        self.armed_ns = Some(self.armed_ns.map_or(kept.armed_ns, |known| known.min(kept.armed_ns)));
        self.sessions = self.sessions.saturating_add(kept.sessions);
        self.late |= kept.late != 0;
        if kept.first_exec_ns != 0 && self.first_exec_ns.is_none_or(|known| kept.first_exec_ns < known) {
            self.first_exec_ns = Some(kept.first_exec_ns);
            self.init_pid = Some(kept.init);
        }
    }

    fn observations(self, kept: Option<&Keeping>, files: &Files) -> ContainerObservations {
        let armed_ns = self.armed_ns.unwrap_or(0);
        let mut unseen: u64 = 0;
        let mut rows = |counts: &Counts| {
            let (rows, missing) = counts.rows(armed_ns, kept, files);
            unseen = unseen.saturating_add(missing);
            rows
        };
        let [workload, setup, start, exec, _] = &self.classes.counts;
        let (workload, setup, start, exec) = (rows(workload), rows(setup), rows(start), rows(exec));
        let filter = self.filter.unwrap_or_default();
        let opens = self.classes.opens.opens(armed_ns);
        let gpu = kept.is_some().then(|| uses_gpu(&workload, &opens));
        let saw_runtime = !setup.is_empty() || !start.is_empty();
        ContainerObservations {
            observations: Observations {
                rows: workload,
                opens,
                opens_beyond: self.tally.opens_beyond,
                gpu,
                losses: observe::losses(&self.tally, self.missed, unseen),
                confined: self.tally.confined > 0,
                perturbations: Vec::new(),
            },
            runtime: saw_runtime.then_some(RuntimeCalls { filter, setup, start }),
            exec: (self.sessions > 0).then_some(ExecCalls { sessions: self.sessions, syscalls: exec }),
            armed_ns,
            first_exec_ns: self.first_exec_ns,
            init_pid: self.init_pid,
            late: self.late,
        }
    }
}
