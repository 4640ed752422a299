//! Opens of the GPU driver's files.

use std::collections::BTreeMap;

use profiler_ebpf::{FirstSight, Opened, Seen};
use trace::{Open, Outcome};

use super::observe;
use crate::capture::is_of_the_driver;

/// What was opened, by path.
#[derive(Clone, Debug, Default)]
pub(super) struct Opens(BTreeMap<String, Sum>);

#[derive(Clone, Debug, Default)]
struct Sum {
    outcomes: BTreeMap<Outcome, u64>,
    first: Option<FirstSight>,
}

impl Opens {
    /// Adds what was kept. The kernel side does not look at paths as closely as it should be done.
    pub(super) fn add(&mut self, opened: &Opened, seen: &Seen) {
        let end = opened.path.iter().position(|byte| *byte == 0).unwrap_or(opened.path.len());
        let path = String::from_utf8_lossy(opened.path.get(..end).unwrap_or_default());
        if !is_of_the_driver(&path) {
            return;
        }
        let sum = self.0.entry(path.into_owned()).or_default();
        let outcome = if opened.errno == 0 { Outcome::Ok } else { observe::error(opened.errno) };
        *sum.outcomes.entry(outcome).or_default() += seen.calls;
        sum.first = observe::earlier(sum.first, seen.first);
    }

    /// Adds what another one has.
    pub(super) fn merge(&mut self, other: &Self) {
        for (path, sum) in &other.0 {
            let own = self.0.entry(path.clone()).or_default();
            for (outcome, count) in &sum.outcomes {
                *own.outcomes.entry(*outcome).or_default() += count;
            }
            if let Some(first) = sum.first {
                own.first = observe::earlier(own.first, first);
            }
        }
    }

    /// As the trace has them.
    pub(super) fn opens(&self, started_ns: u64) -> Vec<Open> {
        let opens = self.0.iter().map(|(path, sum)| Open {
            path: path.clone(),
            calls: sum.outcomes.values().sum(),
            outcomes: sum.outcomes.clone(),
            runs: 1,
            first: observe::first_sight(&sum.first.unwrap_or_default(), started_ns),
        });
        opens.collect()
    }
}
