//! Traces for tests: a builder with as little noise as possible.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::{BTreeMap, BTreeSet};

use seccomp_learn_synth::arguments::{Argument, captured};
use trace::{
    Abi, Arguments, Backend, Errno, FirstSight, Kept, Outcome, PhaseName, Recorder, Row, Target, TargetKind,
    Trace, Values,
};

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
        arguments: None,
    }
}

/// A call that was carried out with each of these arguments once: those that are captured, in their order.
pub(crate) fn called(abi: Abi, name: &str, tuples: impl IntoIterator<Item = impl AsRef<[u64]>>) -> Row {
    let captured = captured(abi).find(|own| own.syscall == name).unwrap_or_else(|| panic!("{name}"));
    let kept = |own: &&'static Argument| Kept {
        index: own.index,
        offset: own.offset,
        name: own.name.clone(),
        mask: own.mask,
    };
    let kept: Vec<Kept> = captured.arguments.iter().map(kept).collect();
    let one = |tuple: &[u64]| {
        assert_eq!(tuple.len(), kept.len(), "{name} {kept:?}");
        let is_upper = |(own, value): &(&&Argument, &u64)| own.width == 32 && *value >> 32 != 0;
        let upper = captured.arguments.iter().zip(tuple).filter(is_upper);
        Values {
            arguments: kept.iter().zip(tuple).map(|(kept, value)| value & kept.mask).collect(),
            calls: 1,
            denied: 0,
            runs: 1,
            upper: upper.map(|(own, _)| own.name.clone()).collect(),
            file: None,
            phases: BTreeSet::from([PhaseName::Startup]),
            first: FirstSight { after_ms: 3, pid: 4711, comm: "server".to_owned() },
        }
    };
    let values: Vec<Values> = tuples.into_iter().map(|tuple| one(tuple.as_ref())).collect();
    let mut row = row(abi, name, u64::try_from(values.len()).unwrap());
    row.arguments = Some(Arguments::of(kept, values));
    row
}

/// A native call that failed with this errno every time.
pub(crate) fn probe(name: &str, errno: Errno) -> Row {
    Row { outcomes: BTreeMap::from([(Outcome::Error(errno), 3)]), ..row(Abi::X86_64, name, 3) }
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
