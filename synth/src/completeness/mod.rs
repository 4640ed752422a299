//! How complete a recording is: what several runs of a workload showed says how much the next one may still show.
//!
//! The unit is a run, from start to stop, and never a call: calls follow from each other. What is counted is in how
//! many runs each syscall was seen, and each syscall with the values of its arguments. The formulae are in
//! `estimate.rs`; this file takes the counts from a trace.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use trace::{Abi, Arguments, Digest, FirstSight, PhaseName, Row, Trace, Values};

use crate::decode;

mod estimate;

pub use estimate::{CurvePoint, Estimate, Richness};

/// What the runs of a trace say about the runs that were not recorded.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Completeness {
    /// How many runs.
    pub runs: u64,
    /// Of syscalls.
    pub syscalls: Estimate,
    /// The syscalls that were seen in one run only, ordered; none where there is one run only.
    pub syscalls_once: Vec<Singleton>,
    /// Of syscalls with the values of those arguments that are recorded.
    pub arguments: Estimate,
    /// The syscalls with values that were seen in one run only, ordered; none where there is one run only.
    pub arguments_once: Vec<Singleton>,
    /// The syscalls whose arguments are not told apart here, or not all, since there were too many values, or it is not
    /// known in how many runs each was seen.
    pub coarse: BTreeSet<String>,
    /// What all this assumes, a sentence each.
    pub assumptions: Vec<String>,
}

/// Something that was seen in one run only: what a reviewer should look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Singleton {
    /// The ABI.
    pub abi: Abi,
    /// The syscall.
    pub syscall: String,
    /// The call with its arguments in words, where it is one of several ways that are told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// How often it was made in that run.
    pub calls: u64,
    /// In which phases.
    pub phases: BTreeSet<PhaseName>,
    /// Who made it first, and when.
    pub first: FirstSight,
    /// The run, by the digest of its trace, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Digest>,
    /// Which values, for finding the run.
    #[serde(skip)]
    #[schemars(skip)]
    values: Option<Vec<u64>>,
}

/// Something that a run shows or does not.
struct Atom {
    runs: u64,
    singleton: Singleton,
}

/// What the runs of a trace say about the runs that were not recorded.
#[must_use]
pub fn completeness(trace: &Trace) -> Completeness {
    let rows = || trace.syscalls.iter().filter(|row| row.calls > 0);
    let syscalls: Vec<Atom> = rows().map(whole).collect();
    let mut coarse: BTreeSet<String> = BTreeSet::new();
    let mut arguments: Vec<Atom> = Vec::new();
    for row in rows() {
        let (ways, is_all) = ways(row);
        arguments.extend(ways);
        if !is_all {
            coarse.insert(row.name.clone());
        }
    }
    let estimate = |atoms: &[Atom]| {
        let runs: Vec<u64> = atoms.iter().map(|atom| atom.runs).collect();
        Estimate::of(trace.runs, &runs)
    };
    let once = |atoms: Vec<Atom>| -> Vec<Singleton> {
        let once = atoms.into_iter().filter(|atom| atom.runs == 1 && trace.runs > 1);
        let mut once: Vec<Singleton> = once.map(|atom| atom.singleton).collect();
        once.sort();
        once
    };
    Completeness {
        runs: trace.runs,
        syscalls: estimate(&syscalls),
        syscalls_once: once(syscalls),
        arguments: estimate(&arguments),
        arguments_once: once(arguments),
        assumptions: assumptions(trace, &coarse),
        coarse,
    }
}

impl Completeness {
    /// Names the run of what was seen in one only, if it was this one. A trace of several says nothing of each.
    pub fn found_in(&mut self, run: &Trace) {
        if !run.merged.is_empty() {
            return;
        }
        for one in self.syscalls_once.iter_mut().chain(&mut self.arguments_once) {
            let rows = run.syscalls.iter().filter(|row| row.calls > 0);
            let mut rows = rows.filter(|row| row.abi == one.abi && row.name == one.syscall);
            if rows.any(|row| one.values.as_ref().is_none_or(|values| has(row, values))) {
                one.run = run.digest;
            }
        }
    }
}

/// Whether a row has these values. Runs that kept other arguments were merged as coarse, so here they are the same.
fn has(row: &Row, values: &[u64]) -> bool {
    let own = row.arguments.iter().flat_map(|arguments| &arguments.values);
    own.filter(|own| own.calls > 0).any(|own| own.arguments == values)
}

/// A row as one.
fn whole(row: &Row) -> Atom {
    let singleton = Singleton {
        abi: row.abi,
        syscall: row.name.clone(),
        call: None,
        calls: row.calls,
        phases: row.phases.clone(),
        first: row.first.clone(),
        run: None,
        values: None,
    };
    Atom { runs: row.runs, singleton }
}

/// Whether a row has arguments that cannot be told apart by run.
fn is_coarse(row: &Row) -> bool {
    row.arguments.as_ref().is_some_and(|arguments| arguments.wide || arguments.narrowed)
}

/// A row by the values of its arguments, whatever the descriptor was: rules go by values. And whether that is all of it.
fn ways(row: &Row) -> (Vec<Atom>, bool) {
    let Some(arguments) = row.arguments.as_ref().filter(|arguments| {
        !arguments.kept.is_empty() && arguments.values.iter().any(|values| values.calls > 0)
    }) else {
        return (vec![whole(row)], !is_coarse(row));
    };
    if is_coarse(row) {
        return (vec![whole(row)], false);
    }
    let mut ways: BTreeMap<&[u64], Way> = BTreeMap::new();
    for values in arguments.values.iter().filter(|values| values.calls > 0) {
        let atom = way(row, arguments, values);
        let Some(Way { atom: own, most }) = ways.get_mut(values.arguments.as_slice()) else {
            let most = atom.runs;
            ways.insert(&values.arguments, Way { atom, most });
            continue;
        };
        *most = most.saturating_add(atom.runs);
        own.runs = own.runs.max(atom.runs);
        own.singleton.calls = own.singleton.calls.saturating_add(atom.singleton.calls);
        own.singleton.phases.extend(&atom.singleton.phases);
        if atom.singleton.first < own.singleton.first {
            own.singleton.first = atom.singleton.first;
            own.singleton.call = atom.singleton.call;
        }
    }
    let all = ways.len();
    let is_told = |way: &Way| way.atom.runs == way.most.min(row.runs);
    let told: Vec<Atom> = ways.into_values().filter(is_told).map(|way| way.atom).collect();
    let is_all = told.len() == all;
    (if told.is_empty() { vec![whole(row)] } else { told }, is_all)
}

/// Values with several descriptors: they were seen in as many runs as with the most frequent of these, or in more.
struct Way {
    atom: Atom,
    /// In so many at most, the runs of each added up.
    most: u64,
}

fn way(row: &Row, arguments: &Arguments, values: &Values) -> Atom {
    let singleton = Singleton {
        call: Some(decode::recorded(row.abi, &row.name, &arguments.kept, values)),
        calls: values.calls,
        phases: values.phases.clone(),
        first: values.first.clone(),
        values: Some(values.arguments.clone()),
        ..whole(row).singleton
    };
    Atom { runs: values.runs, singleton }
}

/// What the figures assume, and where this trace is known to break that.
fn assumptions(trace: &Trace, coarse: &BTreeSet<String>) -> Vec<String> {
    let mut list = vec![
        "A run is one start to stop of the workload; runs are counted, not calls.".to_owned(),
        "The runs are repetitions of one scenario, independent of each other, and the next run is another one: what no run exercised (log rotation, certificate renewal, running out of memory, a driver reset, …) is outside of every figure.".to_owned(),
        "The estimate of how many there are in all (Chao2) is a lower bound; with few runs its interval is wide.".to_owned(),
    ];
    if trace.runs < 2 {
        list.push("One run says nothing about the next: record at least five.".to_owned());
    }
    let differ = differences(trace);
    if !differ.is_empty() {
        list.push(format!(
            "The runs are not repetitions of one scenario: they differ in {}, so the figures are about the mix of them.",
            differ.join(", ")
        ));
    }
    if !trace.complete || trace.losses.lost_calls() {
        list.push(
            "Calls are missing from a recording, so some of them may have been seen in more runs.".to_owned(),
        );
    }
    if !coarse.is_empty() {
        let names: Vec<&str> = coarse.iter().map(String::as_str).collect();
        list.push(format!(
            "Of {} the arguments are not told apart, or not all: there were too many values, or it is not known in which runs each was seen.",
            names.join(", ")
        ));
    }
    list
}

/// In what merged runs differ that should be the same.
fn differences(trace: &Trace) -> Vec<&'static str> {
    let differ = |what: &dyn Fn(&trace::Run) -> String| {
        trace.merged.iter().map(what).collect::<BTreeSet<String>>().len() > 1
    };
    let parts: [(&'static str, bool); 6] = [
        ("image", differ(&|run| format!("{:?}", run.target.image))),
        ("command", differ(&|run| run.target.command.join("\0"))),
        ("kernel", differ(&|run| run.recorder.kernel.clone())),
        ("architecture", differ(&|run| run.recorder.arch.clone())),
        ("GPU driver", differ(&|run| format!("{:?}", run.target.gpu_driver))),
        ("container runtime", differ(&|run| format!("{:?}", run.target.runtime))),
    ];
    parts.into_iter().filter(|(_, differ)| *differ).map(|(name, _)| name).collect()
}
