//! What was called: counts by ABI and number, with who, when and in which phase.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    time::Instant,
};

use confine::Notification;
use trace::{Abi, FirstSight, Losses, Outcome, PhaseName, Row, SyscallName};

use super::arguments::Captured;
use crate::{CapturePlan, Observations, Progress, capture};

/// More distinct numbers than all ABIs have together; a workload that calls at random must not fill our memory.
const MOST_ROWS: usize = 8192;

/// `SECCOMP_SET_MODE_FILTER` and `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
const SET_MODE_FILTER: u64 = 1;
const NEW_LISTENER: u64 = 8;

#[derive(Debug)]
struct Entry {
    calls: u64,
    phases: BTreeSet<PhaseName>,
    first: FirstSight,
}

/// Everything that a recording has seen so far.
#[derive(Debug)]
pub(super) struct Table {
    start: Instant,
    phase: PhaseName,
    entries: HashMap<(Abi, u32), Entry>,
    calls: u64,
    last_new_ms: u64,
    losses: Losses,
    captured: Captured,
    asked_for_a_listener: bool,
}

impl Table {
    pub(super) fn new(start: Instant, plan: CapturePlan) -> Self {
        Self {
            start,
            phase: PhaseName::Startup,
            entries: HashMap::new(),
            calls: 0,
            last_new_ms: 0,
            losses: Losses::default(),
            captured: Captured::new(plan),
            asked_for_a_listener: false,
        }
    }

    pub(super) const fn set_phase(&mut self, phase: PhaseName) {
        self.phase = phase;
    }

    /// Counts a call; `waits` says whether it is still waiting for its answer.
    pub(super) fn count(&mut self, call: &Notification, waits: impl Fn() -> bool) {
        self.calls += 1;
        let Some((abi, number)) = Abi::from_audit_arch(call.arch, call.number.cast_unsigned()) else {
            // No ABI of the machines this runs on.
            self.losses.missed_events += 1;
            return;
        };
        if let Some(entry) = self.entries.get_mut(&(abi, number)) {
            entry.calls += 1;
            entry.phases.insert(self.phase);
        } else if self.entries.len() < MOST_ROWS {
            let first = first_sight(self.start, call.thread);
            self.last_new_ms = first.after_ms;
            let entry = Entry { calls: 1, phases: BTreeSet::from([self.phase]), first };
            self.entries.insert((abi, number), entry);
        } else {
            self.losses.map_full += 1;
            return;
        }
        let first = || first_sight(self.start, call.thread);
        self.captured.count((abi, number), call, self.phase, waits, first);
        let [operation, flags, ..] = call.arguments;
        if operation == SET_MODE_FILTER
            && flags & NEW_LISTENER != 0
            && abi.name(number) == SyscallName::Known("seccomp")
        {
            self.asked_for_a_listener = true;
        }
    }

    /// A call whose task died before it was read.
    pub(super) const fn vanished(&mut self) {
        self.losses.notifications_vanished += 1;
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            calls: self.calls,
            distinct: u64::try_from(self.entries.len()).unwrap_or(u64::MAX),
            last_new_ms: self.last_new_ms,
            lost: self.losses.lost_calls(),
        }
    }

    pub(super) const fn asked_for_a_listener(&self) -> bool {
        self.asked_for_a_listener
    }

    /// Everything that was seen.
    pub(super) fn observations(&self, confined: bool, perturbations: Vec<String>) -> Observations {
        let rows = self.rows();
        let (opens, opens_beyond) = self.captured.opens();
        let gpu = self.captured.has_plan().then(|| capture::uses_gpu(&rows, &opens));
        Observations { rows, opens, opens_beyond, gpu, losses: self.losses, confined, perturbations }
    }

    /// One row for each call, ordered by ABI and number.
    fn rows(&self) -> Vec<Row> {
        let ordered: BTreeMap<_, _> = self.entries.iter().collect();
        let rows = ordered.into_iter().map(|(&(abi, number), entry)| {
            let name = abi.name(number).to_string();
            // These two end the task that calls; all others return, in a way that is not seen.
            let ends = name == "exit" || name == "exit_group";
            Row {
                abi,
                number,
                name,
                calls: entry.calls,
                runs: 1,
                denied: 0,
                outcomes: if ends { BTreeMap::new() } else { [(Outcome::Unknown, entry.calls)].into() },
                refusals: BTreeMap::new(),
                in_flight: 0,
                never_returned: if ends { entry.calls } else { 0 },
                phases: entry.phases.clone(),
                first: entry.first.clone(),
                arguments: self.captured.of(abi, number, entry.calls),
            }
        });
        rows.collect()
    }
}

fn first_sight(start: Instant, thread: u32) -> FirstSight {
    let after_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (pid, comm) = who(thread);
    FirstSight { after_ms, pid, comm }
}

/// The process of a thread that waits in a call, and the thread's name. What cannot be read any more, because it
/// was killed meanwhile, is the thread itself and no name.
fn who(thread: u32) -> (u32, String) {
    let read = |file| fs::read(format!("/proc/{thread}/{file}")).unwrap_or_default();
    let comm = String::from_utf8_lossy(&read("comm")).trim_end_matches('\n').to_owned();
    let status = read("status");
    let process = String::from_utf8_lossy(&status)
        .lines()
        .find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
        .unwrap_or(thread);
    (process, comm)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(arch: u32, number: i32) -> Notification {
        Notification {
            id: 1,
            thread: std::process::id(),
            arch,
            number,
            instruction_pointer: 0,
            arguments: [1, 8, 0, 0, 0, 0],
        }
    }

    #[test]
    fn every_row_adds_up_and_the_table_is_bounded() {
        let mut table = Table::new(Instant::now(), CapturePlan::default());
        table.count(&call(0xc000_003e, 39), || true);
        table.set_phase(PhaseName::Serving);
        table.count(&call(0xc000_003e, 39), || true);
        table.count(&call(0x4000_0003, 1), || true);
        table.count(&call(0xdead_beef, 1), || true);
        assert_eq!(table.losses.missed_events, 1);
        let rows = table.rows();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].name.as_str(), rows[0].calls, rows[0].phases.len()), ("getpid", 2, 2));
        assert_eq!((rows[1].abi, rows[1].name.as_str(), rows[1].never_returned), (Abi::I386, "exit", 1));
        for row in &rows {
            let outcomes: u64 = row.outcomes.values().sum();
            assert_eq!(row.calls, outcomes + row.in_flight + row.never_returned);
            assert_eq!(row.first.pid, std::process::id());
            assert!(!row.first.comm.is_empty());
        }
        assert!(!table.asked_for_a_listener());
        table.count(&call(0xc000_003e, 317), || true);
        assert!(table.asked_for_a_listener());

        (0..10_000).for_each(|number| table.count(&call(0xc000_003e, number), || true));
        assert_eq!(table.rows().len(), MOST_ROWS);
        assert_eq!(table.losses.map_full, 10_000 - MOST_ROWS as u64 + 1);
    }
}
