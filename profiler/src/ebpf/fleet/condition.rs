//! How a target is doing: where its start has got to, and how much was seen.

use std::{fs, io};

use profiler_ebpf::{Call, Target};
use trace::FilterMoment;

use super::{Fleet, TargetId};
use crate::{
    Progress,
    ebpf::{EbpfError, observe},
};

/// How far a target's start has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// When a container runtime became the workload: `CLOCK_MONOTONIC`, nanoseconds; none while it did not, and
    /// where tasks were in the target when it was added.
    pub first_exec_ns: Option<u64>,
    /// By what the moment was told at which a runtime loads the filter.
    pub filter: FilterMoment,
    /// How many sessions of `exec` were started so far.
    pub exec_sessions: u64,
    /// The process that became the workload, in the first pid namespace.
    pub init_pid: Option<u32>,
    /// Whether tasks were in the target when it was added.
    pub late: bool,
    /// Whether there is a living task in its cgroup or below.
    pub populated: bool,
    /// Whether the cgroup was removed.
    pub removed: bool,
}

impl Fleet {
    /// How a target is doing. Cheap enough to be asked many times a second.
    ///
    /// # Errors
    /// When there is no such target.
    pub fn condition(&self, target: TargetId) -> Result<Condition, EbpfError> {
        let kept = self.target(target)?;
        let events = fs::read_to_string(self.known(target)?.directory.join("cgroup.events"));
        let gone = matches!(&events, Err(error)
            if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV));
        Ok(Condition {
            first_exec_ns: Some(kept.first_exec_ns).filter(|at| *at != 0),
            filter: moment(&kept),
            exec_sessions: kept.sessions,
            init_pid: Some(kept.init).filter(|init| *init != 0),
            late: kept.late != 0,
            populated: events.is_ok_and(|events| events.lines().any(|line| line == "populated 1")),
            removed: gone || kept.released != 0,
        })
    }

    /// How far the recording of a target's workload is; cheap enough to be asked a few times a second.
    #[must_use]
    pub fn progress(&self, target: TargetId) -> Progress {
        self.glance(target).unwrap_or_else(|error| {
            tracing::debug!(%error, "the counters could not be read just now");
            Progress::default()
        })
    }

    fn glance(&self, target: TargetId) -> Result<Progress, EbpfError> {
        let mut progress = Progress::default();
        let known = self.known(target)?;
        let kept = self.target(target)?;
        for (number, cell) in self.block(target)? {
            progress.distinct += 1;
            progress.calls = progress.calls.saturating_add(cell.calls);
            let call = Call { number, abi: Call::NATIVE };
            if let Some(first) = self.first(target, call)? {
                let after_ms = observe::milliseconds(first.nanoseconds, known.armed_ns);
                progress.last_new_ms = progress.last_new_ms.max(after_ms);
            }
        }
        let missed = self.missed()?.saturating_sub(known.missed_before);
        progress.lost = observe::losses(&kept.tally, missed, 0).lost_calls();
        Ok(progress)
    }
}

/// By what the moment was told at which a runtime loads the filter.
pub(super) const fn moment(target: &Target) -> FilterMoment {
    match (target.loaded != 0, target.marked != 0) {
        (true, _) => FilterMoment::Loaded,
        (false, true) => FilterMoment::WouldBe,
        (false, false) => FilterMoment::NotSeen,
    }
}
