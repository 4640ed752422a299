//! Merging: the union of what several runs showed. Associative and commutative, so that the traces of ten
//! replicas merge in any order to the same bytes.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use crate::{Digest, FORMAT_MAJOR, FORMAT_MINOR, Open, Outcome, Phase, Row, Run, Startup, Trace, WriteError};

/// Traces that cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// There was nothing to merge.
    #[error("no trace was given")]
    Nothing,
    /// Two inputs share some of their runs, so that counts would be doubled.
    #[error(
        "two of the traces share run `{0}` but neither contains the other; merge the traces of the single runs instead"
    )]
    Overlap(Digest),
    /// An input is not the one that was announced in its place.
    #[error("the trace changed while it was read; try again")]
    Changed,
    /// An input breaks a law of the format.
    #[error(transparent)]
    Inconsistent(#[from] WriteError),
}

/// Merges traces. An input whose runs are all in another one adds nothing.
///
/// # Errors
/// See [`MergeError`].
pub fn merge(traces: impl IntoIterator<Item = Trace>) -> Result<Trace, MergeError> {
    let mut sealed = Vec::new();
    for mut trace in traces {
        trace.seal()?;
        sealed.push(trace);
    }
    let mut merger = Merger::of(sealed.iter().map(Trace::run_digests))?;
    for trace in sealed {
        merger.add(trace)?;
    }
    merger.finish()
}

/// Merges traces of which only one at a time is in memory: first the runs of all are announced
/// ([`Trace::runs_in`]), then each trace is added, in the same order.
#[derive(Debug)]
pub struct Merger {
    /// For each input that is still to come its runs, and whether it adds something; the next one last.
    announced: Vec<(BTreeSet<Digest>, bool)>,
    /// What was added so far.
    result: Option<Trace>,
    runs: BTreeMap<Digest, Run>,
}

impl Merger {
    /// Takes the runs of all inputs, in the order in which these will be added.
    ///
    /// # Errors
    /// [`MergeError::Nothing`] or [`MergeError::Overlap`].
    pub fn of(inputs: impl IntoIterator<Item = BTreeSet<Digest>>) -> Result<Self, MergeError> {
        let mut announced: Vec<(BTreeSet<Digest>, bool)> =
            inputs.into_iter().map(|runs| (runs, false)).collect();
        if announced.is_empty() {
            return Err(MergeError::Nothing);
        }
        // The largest first, so that what is contained in another meets its container.
        let mut order: Vec<&mut (BTreeSet<Digest>, bool)> = announced.iter_mut().collect();
        order.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        let mut owners: BTreeMap<Digest, usize> = BTreeMap::new();
        for (place, (runs, adds)) in order.into_iter().enumerate() {
            let mut known = runs.iter().map(|run| owners.get(run).copied());
            let first = known.next().flatten();
            if known.any(|owner| owner != first) {
                let shared = runs.iter().find(|run| owners.contains_key(*run)).or_else(|| runs.first());
                return Err(shared.map_or(MergeError::Nothing, |shared| MergeError::Overlap(*shared)));
            }
            if first.is_none() {
                owners.extend(runs.iter().map(|run| (*run, place)));
                *adds = true;
            }
        }
        announced.reverse();
        Ok(Self { announced, result: None, runs: BTreeMap::new() })
    }

    /// Adds the next trace, sealed or read.
    ///
    /// # Errors
    /// [`MergeError::Changed`]: it is not the one that was announced.
    pub fn add(&mut self, trace: Trace) -> Result<(), MergeError> {
        let (runs, adds) = self.announced.pop().ok_or(MergeError::Changed)?;
        if runs != trace.run_digests() {
            return Err(MergeError::Changed);
        }
        if !adds {
            return Ok(());
        }
        if let (true, Some(digest)) = (trace.merged.is_empty(), trace.digest) {
            let run = Run { digest, recorder: trace.recorder.clone(), target: trace.target.clone() };
            self.runs.insert(digest, run);
        }
        match &mut self.result {
            None => {
                self.runs.extend(trace.merged.iter().map(|run| (run.digest, run.clone())));
                self.result = Some(trace);
            }
            Some(result) => {
                let mut trace = trace;
                self.runs.extend(std::mem::take(&mut trace.merged).into_iter().map(|run| (run.digest, run)));
                absorb(result, trace);
            }
        }
        Ok(())
    }

    /// The union, once all were added.
    ///
    /// # Errors
    /// [`MergeError::Changed`]: one is missing. [`MergeError::Inconsistent`]: the union breaks a law of the format.
    pub fn finish(self) -> Result<Trace, MergeError> {
        let Self { announced, result, runs } = self;
        let Some(mut result) = result.filter(|_| announced.is_empty()) else {
            return Err(MergeError::Changed);
        };
        if runs.len() > 1 {
            // The tool that merges writes the format it knows.
            result.version = format!("{FORMAT_MAJOR}.{FORMAT_MINOR}");
            result.runs = runs.len() as u64;
            result.merged = runs.into_values().collect();
            if let Some(first) = result.merged.first() {
                result.recorder = first.recorder.clone();
                result.target = first.target.clone();
            }
        }
        result.seal()?;
        Ok(result)
    }
}

impl Trace {
    /// The digests of the single runs in it: its own, if it is the trace of one.
    #[must_use]
    pub fn run_digests(&self) -> BTreeSet<Digest> {
        let own = self.digest.filter(|_| self.merged.is_empty());
        self.merged.iter().map(|run| run.digest).chain(own).collect()
    }
}

fn absorb(into: &mut Trace, from: Trace) {
    into.complete &= from.complete;
    into.confined |= from.confined;
    if from.startup == Startup::NotRecorded {
        into.startup = Startup::NotRecorded;
    }
    into.losses.add(&from.losses);
    for phase in from.phases {
        match into.phases.iter_mut().find(|own| own.name == phase.name) {
            Some(own) => own.from_ms = own.from_ms.min(phase.from_ms),
            None => into.phases.push(phase),
        }
    }
    into.phases.sort_by_key(|Phase { name, .. }| *name);
    into.runtime = both(into.runtime.take(), from.runtime, |mut one, other| {
        one.filter = one.filter.join(other.filter);
        absorb_rows(&mut one.setup, other.setup);
        absorb_rows(&mut one.start, other.start);
        one
    });
    into.exec = both(into.exec.take(), from.exec, |mut one, other| {
        absorb_rows(&mut one.syscalls, other.syscalls);
        one.sessions = one.sessions.saturating_add(other.sessions);
        one
    });
    absorb_rows(&mut into.syscalls, from.syscalls);
    absorb_opens(&mut into.opens, from.opens);
    into.opens_beyond = into.opens_beyond.saturating_add(from.opens_beyond);
}

/// A section that one run has and the other has not is the union's.
fn both<T>(one: Option<T>, other: Option<T>, join: impl FnOnce(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(join(one, other)),
        (one, other) => one.or(other),
    }
}

fn absorb_rows(into: &mut Vec<Row>, from: Vec<Row>) {
    let mut rows: BTreeMap<_, _> =
        std::mem::take(into).into_iter().map(|row| ((row.abi, row.number), row)).collect();
    for row in from {
        match rows.entry((row.abi, row.number)) {
            Entry::Vacant(entry) => {
                entry.insert(row);
            }
            Entry::Occupied(mut entry) => absorb_row(entry.get_mut(), row),
        }
    }
    *into = rows.into_values().collect();
}

fn absorb_row(into: &mut Row, from: Row) {
    let arguments = match (into.arguments.take(), from.arguments) {
        (Some(one), Some(other)) => Some(one.join(other)),
        // Only refused there, and how is not known: nothing that was entered is missing.
        (Some(one), None) if from.calls == 0 => Some(one),
        (None, Some(other)) if into.calls == 0 => Some(other),
        _ => None,
    };
    into.calls = into.calls.saturating_add(from.calls);
    into.runs = into.runs.saturating_add(from.runs);
    into.denied = into.denied.saturating_add(from.denied);
    absorb_counts(&mut into.outcomes, from.outcomes);
    absorb_counts(&mut into.refusals, from.refusals);
    into.in_flight = into.in_flight.saturating_add(from.in_flight);
    into.never_returned = into.never_returned.saturating_add(from.never_returned);
    into.phases.extend(from.phases);
    if from.first < into.first {
        into.first = from.first;
    }
    into.arguments = arguments.map(|arguments| arguments.in_runs(into.runs));
}

fn absorb_counts(into: &mut BTreeMap<Outcome, u64>, from: BTreeMap<Outcome, u64>) {
    for (outcome, count) in from {
        let own = into.entry(outcome).or_default();
        *own = own.saturating_add(count);
    }
}

fn absorb_opens(into: &mut Vec<Open>, from: Vec<Open>) {
    let mut opens: BTreeMap<_, _> =
        std::mem::take(into).into_iter().map(|open| (open.path.clone(), open)).collect();
    for open in from {
        match opens.entry(open.path.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(open);
            }
            Entry::Occupied(mut entry) => {
                let own = entry.get_mut();
                own.calls = own.calls.saturating_add(open.calls);
                own.runs = own.runs.saturating_add(open.runs);
                absorb_counts(&mut own.outcomes, open.outcomes);
                if open.first < own.first {
                    own.first = open.first;
                }
            }
        }
    }
    *into = opens.into_values().collect();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        ExecCalls, FilterMoment, RuntimeCalls,
        arguments::tests::{any_arguments, with_arguments},
        io::tests::{row, runtime, trace},
    };

    fn bytes(trace: &Trace) -> Vec<u8> {
        let mut bytes = Vec::new();
        trace.write(&mut bytes).unwrap();
        bytes
    }

    fn rows(pid: u32) -> impl Strategy<Value = Vec<Row>> {
        let calls = prop::collection::btree_map(0u32..330, 1u64..1000, 1..8);
        let captured = prop::collection::btree_map(400u32..403, any_arguments(), 0..3);
        (calls, captured).prop_map(move |(calls, captured)| {
            let plain = calls.into_iter().map(|(number, calls)| row(number, calls));
            let captured = captured.into_iter().map(|(number, arguments)| with_arguments(number, arguments));
            let mut rows: Vec<Row> = plain.chain(captured).collect();
            rows.iter_mut().for_each(|row| row.first.pid = pid);
            rows
        })
    }

    fn any_opens() -> impl Strategy<Value = Vec<Open>> {
        prop::collection::btree_map("/dev/nvidia[0-2]", 1u64..9, 0..3).prop_map(|opens| {
            let open = |(path, calls)| Open {
                path,
                calls,
                outcomes: BTreeMap::from([(Outcome::Ok, calls)]),
                runs: 1,
                first: row(2, 1).first,
            };
            opens.into_iter().map(open).collect()
        })
    }

    fn any_trace() -> impl Strategy<Value = Trace> {
        use FilterMoment::{Both, Loaded, NotSeen, WouldBe};
        let moment = prop::sample::select(vec![Loaded, WouldBe, Both, NotSeen]);
        (1u32..9999).prop_flat_map(move |pid| {
            let runtime = (moment.clone(), rows(pid), rows(pid))
                .prop_map(|(filter, setup, start)| RuntimeCalls { filter, setup, start });
            let exec = (1u64..9, rows(pid)).prop_map(|(sessions, syscalls)| ExecCalls { sessions, syscalls });
            (rows(pid), prop::option::of(runtime), prop::option::of(exec), any_opens()).prop_map(
                move |(rows, runtime, exec, opens)| {
                    let mut result = trace(rows);
                    result.recorder.duration_ms = u64::from(pid);
                    (result.runtime, result.exec, result.opens) = (runtime, exec, opens);
                    result.opens_beyond = u64::from(pid % 3);
                    result
                },
            )
        })
    }

    proptest! {
        #[test]
        fn order_and_grouping_do_not_matter(a in any_trace(), b in any_trace(), c in any_trace()) {
            let all = merge([a.clone(), b.clone(), c.clone()]).unwrap();
            prop_assert_eq!(bytes(&all), bytes(&merge([c.clone(), a.clone(), b.clone()]).unwrap()));
            let left = merge([merge([a.clone(), b.clone()]).unwrap(), c.clone()]).unwrap();
            let right = merge([a, merge([b, c]).unwrap()]).unwrap();
            prop_assert_eq!(bytes(&all), bytes(&left));
            prop_assert_eq!(bytes(&all), bytes(&right));
            prop_assert!(Trace::read(&*bytes(&all)).is_ok());
        }

        #[test]
        fn a_trace_merged_with_itself_is_itself(a in any_trace()) {
            prop_assert_eq!(bytes(&a), bytes(&merge([a.clone(), a]).unwrap()));
        }
    }

    #[test]
    fn contained_inputs_collapse_and_overlapping_ones_are_refused() {
        let [a, b, c] = [39, 41, 57].map(|number| trace(vec![row(number, 1)]));
        let ab = merge([a.clone(), b.clone()]).unwrap();
        let bc = merge([b.clone(), c]).unwrap();
        assert_eq!(ab.runs, 2);
        assert_eq!(merge([ab.clone(), b]).unwrap(), ab);
        assert!(matches!(merge([ab, bc]), Err(MergeError::Overlap(_))));
        assert!(matches!(merge([]), Err(MergeError::Nothing)));
    }

    /// As streams, one after the other, in any order; of inputs that change in between nothing is made.
    #[test]
    fn one_trace_at_a_time_gives_the_same_and_a_changed_one_is_noticed() {
        let inputs = [39, 41, 57].map(|number| trace(vec![row(number, 1)]));
        let pair = merge(inputs[..2].to_vec()).unwrap();
        let all = [inputs[2].clone(), inputs[0].clone(), pair, inputs[1].clone()].map(|input| bytes(&input));
        let runs = |texts: &[Vec<u8>]| -> Vec<_> {
            texts.iter().map(|text| Trace::runs_in(text.as_slice()).unwrap()).collect()
        };
        let read = |text: &[u8]| Trace::read(text).unwrap();
        let mut merger = Merger::of(runs(&all)).unwrap();
        for text in &all {
            merger.add(read(text)).unwrap();
        }
        assert_eq!(bytes(&merger.finish().unwrap()), bytes(&merge(inputs).unwrap()));
        let changed = |result: Result<(), MergeError>| assert!(matches!(result, Err(MergeError::Changed)));
        let mut merger = Merger::of(runs(&all)).unwrap();
        changed(merger.add(read(&all[1])));
        let mut merger = Merger::of(runs(&all[..1])).unwrap();
        merger.add(read(&all[0])).unwrap();
        changed(merger.add(read(&all[0])));
        let merger = Merger::of(runs(&all)).unwrap();
        assert!(matches!(merger.finish(), Err(MergeError::Changed)));
        assert!(matches!(Merger::of([]), Err(MergeError::Nothing)));
    }

    #[test]
    fn what_an_unread_trace_says_of_its_runs() {
        let text = bytes(&trace(vec![row(39, 1)]));
        let text = String::from_utf8(text).unwrap();
        let error = |text: &str| Trace::runs_in(text.as_bytes()).unwrap_err().to_string();
        assert!(error("").contains("empty"));
        assert!(error("{").contains("truncated"));
        assert!(error(&text.replace("\"version\": \"1.", "\"version\": \"7.")).contains("newer"));
        assert!(error(&text.replace("\"digest\"", "\"digets\"")).contains("unknown field `digets`"));
        assert!(error(&text.replace("sha256:", "md5:")).contains("is no digest"));
        let edited = text.replace("\"calls\": 1", "\"calls\": 2");
        assert!(Trace::runs_in(edited.as_bytes()).is_ok() && Trace::read(edited.as_bytes()).is_err());
    }

    #[test]
    fn rows_count_the_runs_they_were_seen_in() {
        let merged = merge([trace(vec![row(39, 1), row(41, 5)]), trace(vec![row(39, 2)])]).unwrap();
        assert_eq!(
            merged.syscalls.iter().map(|row| (row.number, row.calls, row.runs)).collect::<Vec<_>>(),
            [(39, 3, 2), (41, 5, 1)]
        );
    }

    #[test]
    fn sections_merge_like_the_rows_and_one_run_may_lack_them() {
        let bare = trace(vec![row(39, 1)]);
        let mut inside = trace(vec![row(39, 2)]);
        inside.runtime = Some(runtime(41, 42));
        inside.exec = Some(ExecCalls { sessions: 2, syscalls: vec![row(0, 3)] });
        let mut again = inside.clone();
        again.recorder.duration_ms = 6;
        again.runtime = Some(RuntimeCalls { filter: FilterMoment::WouldBe, ..runtime(41, 43) });
        let merged = merge([bare, inside, again]).unwrap();
        let runtime = merged.runtime.unwrap();
        let seen =
            |rows: &[Row]| rows.iter().map(|row| (row.number, row.calls, row.runs)).collect::<Vec<_>>();
        assert_eq!(runtime.filter, FilterMoment::Both);
        assert_eq!(seen(&runtime.setup), [(41, 2, 2)]);
        assert_eq!(seen(&runtime.start), [(42, 1, 1), (43, 1, 1)]);
        let exec = merged.exec.unwrap();
        assert_eq!((exec.sessions, seen(&exec.syscalls)), (4, vec![(0, 6, 2)]));
        assert_eq!(seen(&merged.syscalls), [(39, 5, 3)]);
    }
}
