//! Merging: the union of what several runs showed. Associative and commutative, so that the traces of ten
//! replicas merge in any order to the same bytes.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use crate::{Digest, FORMAT_MAJOR, FORMAT_MINOR, Open, Outcome, Phase, Row, Run, Startup, Trace, WriteError};

/// The most paths of which opens are kept; more are only counted.
pub const MOST_OPENS: usize = 1024;

/// Traces that cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// There was nothing to merge.
    #[error("no trace was given")]
    Nothing,
    /// Two inputs share some of their runs, so that counts would be doubled.
    #[error(
        "two of the traces share run `{run}` but neither contains the other; merge the traces of the single runs instead"
    )]
    Overlap {
        /// The run.
        run: Digest,
        /// The places of the two among the inputs, from 0.
        inputs: [usize; 2],
    },
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
        let mut order: Vec<(usize, &mut (BTreeSet<Digest>, bool))> =
            announced.iter_mut().enumerate().collect();
        order.sort_by(|(_, (a, _)), (_, (b, _))| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        let mut owners: BTreeMap<Digest, usize> = BTreeMap::new();
        for (place, (runs, adds)) in order {
            let mut known = runs.iter().map(|run| owners.get(run).copied());
            let first = known.next().flatten();
            if known.any(|owner| owner != first) {
                let mut shared = runs.iter().filter_map(|run| Some((*run, *owners.get(run)?)));
                let (run, owner) = shared.next().ok_or(MergeError::Nothing)?;
                return Err(MergeError::Overlap { run, inputs: [owner.min(place), owner.max(place)] });
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
    // As many as a recording keeps, for the reason that `Arguments::join` gives.
    for open in into.opens.drain(MOST_OPENS.min(into.opens.len())..) {
        into.opens_beyond = into.opens_beyond.saturating_add(open.calls);
    }
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
pub(crate) mod tests;
