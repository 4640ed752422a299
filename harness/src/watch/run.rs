//! One run of a container, or of a cgroup, that is watched.

use std::{path::PathBuf, time::Instant};

use nix::time::{ClockId, clock_gettime};
use profiler::{
    cgroup,
    ebpf::{EbpfError, Fleet, TargetId},
};
use trace::Row;

use super::{About, Ending, Event, JUDGED, Look, Seen, Summary};

/// `CLOCK_MONOTONIC`, on which the kernel side counts.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

/// A run that goes on.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) about: About,
    targets: Vec<TargetId>,
    directory: PathBuf,
    look: Look,
    seen: Seen,
    judged: Instant,
    populated: bool,
}

impl Run {
    pub(super) fn new(about: About, target: TargetId, directory: PathBuf, look: Look) -> Self {
        let populated = about.late;
        Self {
            about,
            targets: vec![target],
            directory,
            look,
            seen: Seen::default(),
            judged: Instant::now(),
            populated,
        }
    }

    /// Whether this target is of this run.
    pub(super) fn holds(&self, target: TargetId) -> bool {
        self.targets.contains(&target)
    }

    /// A cgroup inside of this run's own.
    pub(super) fn adopt(&mut self, target: TargetId) {
        self.targets.push(target);
    }

    /// What was seen for the first time.
    pub(super) fn glance(&mut self, fleet: &Fleet) -> Result<Vec<Event>, EbpfError> {
        let judging = self.judged.elapsed() >= JUDGED;
        if judging {
            self.judged = Instant::now();
        }
        let sightings = self.look.now(fleet, &self.targets, judging)?;
        let run = self.about.run;
        Ok(self.seen.news(&sightings).into_iter().map(|sighting| Event::First(run, sighting)).collect())
    }

    /// Whether nothing runs there any more: the cgroup is gone, or it had processes and has none.
    pub(super) fn is_over(&mut self) -> bool {
        let alive = cgroup::processes(&self.directory).is_ok_and(|pids| !pids.is_empty());
        self.populated |= alive;
        !alive && (self.populated || !self.directory.exists())
    }

    /// Ends the targets: what is left to say, and the summary.
    pub(super) fn end(mut self, fleet: &mut Fleet, ending: Ending) -> Result<Vec<Event>, EbpfError> {
        let (sightings, taken) = self.look.last(fleet, &self.targets, ending == Ending::Stopped)?;
        let duration_ms = now_ns().saturating_sub(taken.armed_ns) / 1_000_000;
        let run = self.about.run;
        let news = self.seen.news(&sightings).into_iter();
        let mut events: Vec<Event> = news.map(|sighting| Event::First(run, sighting)).collect();
        let calls = |row: &Row| row.calls.saturating_add(row.denied);
        let summary = Box::new(Summary {
            about: self.about,
            ending,
            duration_ms,
            calls: taken.observations.rows.iter().map(calls).sum(),
            exec_sessions: taken.exec.map_or(0, |exec| exec.sessions),
            confined: taken.observations.confined,
            losses: taken.observations.losses,
            sightings,
        });
        events.push(Event::Ended(summary, self.look.judges));
        Ok(events)
    }
}
