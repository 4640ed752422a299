//! Traces for tests: a builder with as little noise as possible.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::{BTreeMap, BTreeSet};

use trace::{Abi, Backend, Errno, FirstSight, Outcome, PhaseName, Recorder, Row, Target, TargetKind, Trace};

/// A call that was carried out `calls` times, with success.
pub(crate) fn row(abi: Abi, name: &str, calls: u64) -> Row {
    Row {
        abi,
        number: abi.number(name).unwrap_or_else(|| panic!("{abi} has no {name}")),
        name: name.to_owned(),
        calls,
        runs: 1,
        denied: 0,
        outcomes: BTreeMap::from([(Outcome::Ok, calls)]),
        refusals: BTreeMap::new(),
        in_flight: 0,
        never_returned: 0,
        phases: BTreeSet::from([PhaseName::Startup]),
        first: FirstSight { after_ms: 3, pid: 4711, comm: "server".to_owned() },
    }
}

/// A call that a filter refused `denied` times, and nothing else.
pub(crate) fn refused(abi: Abi, name: &str, denied: u64) -> Row {
    let mut row = row(abi, name, 0);
    row.outcomes.clear();
    row.denied = denied;
    row.refusals = BTreeMap::from([(Outcome::Error(Errno::EPERM), denied)]);
    row
}

/// A complete trace of one run.
pub(crate) fn trace(rows: impl IntoIterator<Item = Row>) -> Trace {
    let recorder = Recorder {
        tool: "seccomp-learn 0.1.0".to_owned(),
        backend: Backend::Ebpf,
        kernel: "6.18.0".to_owned(),
        arch: "x86_64".to_owned(),
        started: "2026-01-01T00:00:00Z".to_owned(),
        duration_ms: 5,
        perturbations: Vec::new(),
    };
    let target =
        Target { command: vec!["server".to_owned()], exit_code: Some(0), ..Target::new(TargetKind::Command) };
    let mut trace = Trace::new(recorder, target);
    trace.complete = true;
    trace.syscalls = rows.into_iter().collect();
    trace.seal().expect("a consistent trace");
    trace
}

/// A trace of native calls with these names.
pub(crate) fn named(names: &str) -> Trace {
    trace(names.split_whitespace().map(|name| row(Abi::X86_64, name, 1)))
}
