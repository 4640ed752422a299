//! From counters to rows.

use std::collections::{BTreeMap, BTreeSet};

use profiler_ebpf::{
    Call, Cell, Ending, FirstSight, MAX_TUPLES_A_CALL, PLACES, ROWS, Seen, SharedCell, Tally, Tuple, maps,
};
use trace::{Abi, Errno, Losses, Outcome, PhaseName, Row};

use super::{
    EbpfError,
    arguments::{Keeping, Tuples},
    files::Files,
    tables::{Plain, Tables, failed},
};

/// Everything that was counted, by call.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    calls: BTreeMap<Call, Sum>,
}

/// The counters of one call, of all CPUs.
#[derive(Clone, Debug, Default)]
struct Sum {
    calls: u64,
    ok: u64,
    phases: u32,
    endings: BTreeMap<u32, u64>,
    first: Option<FirstSight>,
    tuples: Tuples,
}

impl Sum {
    fn add(&mut self, cell: &Cell) {
        self.calls = self.calls.saturating_add(cell.calls);
        self.ok = self.ok.saturating_add(cell.ok);
        self.phases |= cell.phases;
        if cell.errors > 0 {
            self.add_ending(cell.errno, cell.errors);
        }
    }

    fn add_ending(&mut self, kind: u32, count: u64) {
        let ending = self.endings.entry(kind).or_default();
        *ending = ending.saturating_add(count);
    }
}

impl Counts {
    /// Reads every counter.
    pub(super) fn read(tables: &Tables) -> Result<Self, EbpfError> {
        let mut counts = Self::default();
        for row in 0..ROWS {
            let Some(call) = Call::of_row(row) else { continue };
            let cells = tables.cells.get(&row, 0).map_err(failed(maps::CELLS))?;
            // A call may return on a CPU on which it was never entered.
            for Plain(cell) in cells.iter().filter(|Plain(cell)| *cell != Cell::default()) {
                counts.calls.entry(call).or_default().add(cell);
            }
            if tables.widths.get(&row, 0).map_err(failed(maps::WIDTHS))? > MAX_TUPLES_A_CALL {
                counts.calls.entry(call).or_default().tuples.is_wide = true;
            }
        }
        for entry in tables.rare.iter() {
            let (Plain(counted), Plain(shared)) = entry.map_err(failed(maps::RARE))?;
            counts.add_cell(counted.call, &shared.cell);
            counts.see(counted.call, shared.first);
        }
        for entry in tables.endings.iter() {
            let (Plain(ending), count) = entry.map_err(failed(maps::ENDINGS))?;
            counts.add_ending(ending.counted.call, ending.kind, count);
        }
        for entry in tables.first.iter() {
            let (Plain(counted), Plain(first)) = entry.map_err(failed(maps::FIRST))?;
            counts.see(counted.call, first);
        }
        for entry in tables.tuples.iter() {
            let (Plain(tuple), Plain(seen)) = entry.map_err(failed(maps::TUPLES))?;
            counts.add_tuple(&tuple, &seen);
        }
        for place in 1..PLACES {
            for Plain(usual) in tables.usual.get(&place, 0).map_err(failed(maps::USUAL))?.iter() {
                if usual.calls > 0 {
                    counts.calls.entry(usual.tuple.counted.call).or_default().tuples.add_usual(usual);
                }
            }
        }
        Ok(counts)
    }

    /// Adds what a cell counted.
    pub(super) fn add_cell(&mut self, call: Call, cell: &SharedCell) {
        let sum = self.calls.entry(call).or_default();
        let SharedCell { calls, ok, errors, phases, .. } = *cell;
        sum.add(&Cell { calls, ok, errors, errno: SharedCell::ERRNO, phases });
        sum.tuples.is_wide |= cell.tuples > MAX_TUPLES_A_CALL;
    }

    /// Adds calls with the same arguments.
    pub(super) fn add_tuple(&mut self, tuple: &Tuple, seen: &Seen) {
        self.calls.entry(tuple.counted.call).or_default().tuples.add(tuple, seen);
    }

    /// Adds calls that ended in one way.
    pub(super) fn add_ending(&mut self, call: Call, kind: u32, count: u64) {
        self.calls.entry(call).or_default().add_ending(kind, count);
    }

    /// Adds what another one counted.
    pub(super) fn merge(&mut self, other: &Self) {
        for (call, sum) in &other.calls {
            let own = self.calls.entry(*call).or_default();
            own.calls = own.calls.saturating_add(sum.calls);
            own.ok = own.ok.saturating_add(sum.ok);
            own.phases |= sum.phases;
            for (kind, count) in &sum.endings {
                own.add_ending(*kind, *count);
            }
            own.tuples.merge(&sum.tuples);
            if let Some(first) = sum.first {
                self.see(*call, first);
            }
        }
    }

    /// Adds a first sight; the earliest stays.
    pub(super) fn see(&mut self, call: Call, first: FirstSight) {
        let sum = self.calls.entry(call).or_default();
        sum.first = earlier(sum.first, first);
    }

    /// The rows, and how many calls have no ending although they were entered: those ended unseen, and their
    /// outcome is unknown. With arguments where some are kept.
    pub(super) fn rows(&self, started_ns: u64, kept: Option<&Keeping>, files: &Files) -> (Vec<Row>, u64) {
        let mut unseen: u64 = 0;
        let rows = self.calls.iter().filter_map(|(call, sum)| {
            let (mut row, missing) = row(*call, sum, started_ns)?;
            unseen = unseen.saturating_add(missing);
            row.arguments = kept.and_then(|kept| {
                kept.arguments(*call, (row.calls, row.denied), &sum.tuples, files, started_ns)
            });
            Some(row)
        });
        let mut rows: Vec<Row> = rows.collect();
        rows.sort_by_key(|row| (row.abi, row.number));
        (rows, unseen)
    }
}

/// The row of a call, and how many of its endings were not seen. None if it was neither entered nor refused.
fn row(call: Call, sum: &Sum, started_ns: u64) -> Option<(Row, u64)> {
    let abi = abi(call)?;
    let mut outcomes = BTreeMap::new();
    let mut refusals = BTreeMap::new();
    let (mut in_flight, mut never_returned) = (0, 0);
    if sum.ok > 0 {
        outcomes.insert(Outcome::Ok, sum.ok);
    }
    for (kind, count) in &sum.endings {
        match *kind {
            Ending::IN_FLIGHT => in_flight = *count,
            Ending::NEVER_RETURNED => never_returned = *count,
            kind if kind & Ending::REFUSED != 0 => _ = refusals.insert(refusal(kind), *count),
            errno => _ = outcomes.insert(error(errno), *count),
        }
    }
    let ended =
        outcomes.values().fold(in_flight + never_returned, |sum: u64, count| sum.saturating_add(*count));
    let missing = sum.calls.saturating_sub(ended);
    if missing > 0 {
        *outcomes.entry(Outcome::Unknown).or_default() += missing;
    }
    let denied = refusals.values().fold(0, |sum: u64, count| sum.saturating_add(*count));
    // Never fewer than what ended: an ending is counted only for a call that was entered.
    let calls = ended.saturating_add(missing);
    if calls == 0 && denied == 0 {
        return None;
    }
    let first = sum.first.unwrap_or_default();
    let row = Row {
        abi,
        number: call.number,
        name: abi.name(call.number).to_string(),
        calls,
        runs: 1,
        denied,
        outcomes,
        refusals,
        in_flight,
        never_returned,
        phases: phases(sum.phases),
        first: first_sight(&first, started_ns),
        arguments: None,
    };
    Some((row, missing))
}

/// The earlier of two first sights.
pub(super) fn earlier(known: Option<FirstSight>, other: FirstSight) -> Option<FirstSight> {
    Some(known.filter(|known| known.nanoseconds <= other.nanoseconds).unwrap_or(other))
}

/// What a filter answered.
pub(super) fn refusal(kind: u32) -> Outcome {
    match kind {
        Ending::REFUSED_BY_SIGNAL => Outcome::Killed,
        Ending::REFUSED => Outcome::Ok,
        kind => error(kind & !Ending::REFUSED),
    }
}

/// A first sight, with times from `started_ns` on.
pub(super) fn first_sight(first: &FirstSight, started_ns: u64) -> trace::FirstSight {
    trace::FirstSight {
        after_ms: milliseconds(first.nanoseconds, started_ns),
        pid: first.process,
        comm: comm(&first.comm),
    }
}

/// A call that failed so.
pub(super) fn error(errno: u32) -> Outcome {
    u16::try_from(errno).ok().and_then(Errno::new).map_or(Outcome::Unknown, Outcome::Error)
}

/// The call that this number means in this ABI; none for an ABI that this machine does not have.
pub(super) fn call(abi: Abi, number: u32) -> Option<Call> {
    let native = Abi::native_of(std::env::consts::ARCH)?;
    let own = match abi {
        abi if abi == native => Call::NATIVE,
        Abi::I386 if native == Abi::X86_64 => Call::COMPAT,
        Abi::Arm if native == Abi::Aarch64 => Call::COMPAT,
        Abi::X32 if native == Abi::X86_64 => Call::X32,
        _ => return None,
    };
    Some(Call { number, abi: own })
}

/// The ABI of a call.
pub(super) fn abi(call: Call) -> Option<Abi> {
    let native = Abi::native_of(std::env::consts::ARCH)?;
    match (call.abi, native) {
        (Call::NATIVE, native) => Some(native),
        (Call::COMPAT, Abi::Aarch64) => Some(Abi::Arm),
        (Call::COMPAT, _) => Some(Abi::I386),
        (Call::X32, _) => Some(Abi::X32),
        _ => None,
    }
}

fn comm(bytes: &[u8]) -> String {
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// The bit that stands for a phase; never 0.
pub(super) const fn phase_bit(phase: PhaseName) -> u32 {
    match phase {
        PhaseName::Startup => 1,
        PhaseName::Serving => 2,
        PhaseName::Shutdown => 4,
    }
}

/// The phases that have a bit.
pub(super) fn phases(bits: u32) -> BTreeSet<PhaseName> {
    PhaseName::ALL.into_iter().filter(|phase| bits & phase_bit(*phase) != 0).collect()
}

/// Milliseconds between two points of `CLOCK_MONOTONIC`.
pub(super) const fn milliseconds(nanoseconds: u64, started_ns: u64) -> u64 {
    nanoseconds.saturating_sub(started_ns) / 1_000_000
}

/// The losses, by cause. `missed_runs` are runs of programs that the kernel skipped, `unseen` calls that ended
/// without anybody seeing it; what a full map or a skipped run explains is not counted a second time.
pub(super) fn losses(tally: &Tally, missed_runs: u64, unseen: u64) -> Losses {
    let unexplained = unseen.saturating_sub(tally.endings_full.saturating_add(missed_runs));
    Losses {
        missed_events: missed_runs.saturating_add(unexplained).saturating_add(tally.unnamed_kills),
        map_full: tally.rows_full.saturating_add(tally.endings_full),
        task_storage: tally.task_storage,
        cgroups_full: tally.cgroups_full,
        first_exits_skipped: tally.first_exits,
        notifications_vanished: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(calls: u64, ok: u64, endings: &[(u32, u64)]) -> Sum {
        Sum { calls, ok, phases: 5, endings: endings.iter().copied().collect(), ..Sum::default() }
    }

    #[test]
    fn endings_become_outcomes_refusals_and_the_rest() {
        let call = Call { number: 1, abi: Call::NATIVE };
        let endings = [
            (11, 2),
            (Ending::IN_FLIGHT, 1),
            (Ending::NEVER_RETURNED, 3),
            (Ending::REFUSED | 1, 4),
            (Ending::REFUSED, 5),
            (Ending::REFUSED_BY_SIGNAL, 6),
        ];
        let (row, missing) = row(call, &sum(10, 3, &endings), 0).unwrap();
        assert_eq!(missing, 1);
        assert_eq!((row.calls, row.in_flight, row.never_returned, row.denied), (10, 1, 3, 15));
        let text = |map: &BTreeMap<Outcome, u64>| {
            map.iter().map(|(outcome, count)| format!("{outcome} {count}")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(text(&row.outcomes), "ok 3, EAGAIN 2, unknown 1");
        assert_eq!(text(&row.refusals), "ok 5, EPERM 4, killed 6");
        assert_eq!(row.phases, BTreeSet::from([PhaseName::Startup, PhaseName::Shutdown]));
    }

    #[test]
    fn a_call_that_was_neither_entered_nor_refused_has_no_row() {
        assert!(row(Call { number: 1, abi: Call::NATIVE }, &sum(0, 0, &[]), 0).is_none());
    }

    #[test]
    fn what_a_known_cause_explains_is_lost_once() {
        let tally = Tally { endings_full: 3, rows_full: 1, first_exits: 9, ..Tally::default() };
        let losses = losses(&tally, 2, 7);
        assert_eq!((losses.missed_events, losses.map_full, losses.first_exits_skipped), (4, 4, 9));
        assert!(losses.lost_calls());
    }
}
