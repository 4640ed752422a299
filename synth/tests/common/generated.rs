//! Calls with arguments, made up: by constants that mean something, by those that are harmless, and by chance.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use seccomp_learn_synth::arguments::{self, Argument, ArgumentUse, Captured, captured};
use trace::{Abi, Errno, ExecCalls, FilterMoment, Outcome, PhaseName, Row, RuntimeCalls, Trace};

use crate::common::{called, row, trace};

/// The calls whose arguments rules test.
pub(crate) fn tested() -> Vec<Captured> {
    let tested = |own: &Captured| own.arguments.iter().any(|own| own.usage == ArgumentUse::Rule);
    captured(Abi::X86_64).filter(tested).collect()
}

/// A value of an argument: one with a name, several with names, one that is harmless, or any.
pub(crate) fn value(syscall: &str, argument: &'static Argument) -> impl Strategy<Value = u64> + use<> {
    let sets = || argument.sets(Abi::X86_64);
    let mut names: Vec<u64> = sets().flat_map(|set| set.names().map(|name| name.value)).collect();
    let bits: Vec<u64> = sets().flat_map(|set| set.names().map(|name| name.value)).collect();
    for entry in arguments::harmless(Abi::X86_64, syscall) {
        names.extend(entry.arguments.get(&argument.index).into_iter().flat_map(|own| own.values.clone()));
    }
    names.extend([0, 0x5401, 0x5412, 0xc020_462a, 30]);
    let several = prop::collection::vec(prop::sample::select([vec![0], bits].concat()), 1..4);
    prop_oneof![
        4 => prop::sample::select(names),
        3 => several.prop_map(|bits| bits.into_iter().fold(0, |all, bit| all | bit)),
        1 => any::<u32>().prop_map(u64::from),
        1 => any::<u64>(),
    ]
}

/// All six arguments of a call.
pub(crate) fn registers(call: &Captured) -> impl Strategy<Value = [u64; 6]> + use<> {
    let mut slots: Vec<BoxedStrategy<u64>> = (0..6).map(|_| any::<u64>().boxed()).collect();
    for argument in &call.arguments {
        slots[argument.index as usize] = value(call.syscall, argument).boxed();
    }
    slots.prop_map(|slots| slots.try_into().unwrap())
}

/// A call and the registers of some invocations of it.
pub(crate) type Calls = (&'static str, Vec<[u64; 6]>);

pub(crate) fn calls() -> impl Strategy<Value = Vec<Calls>> {
    let one = prop::sample::select(tested()).prop_flat_map(|call| {
        prop::collection::vec(registers(&call), 1..6).prop_map(move |tuples| (call.syscall, tuples))
    });
    prop::collection::btree_map(Just(()).prop_flat_map(|()| 0u32..1000), one, 1..8).prop_map(|map| {
        let mut names = BTreeSet::new();
        map.into_values().filter(|(name, _)| names.insert(*name)).collect()
    })
}

/// What is kept of registers, in the order of what is captured; what stands in memory is 0.
pub(crate) fn kept(name: &str, registers: &[u64; 6]) -> Vec<u64> {
    let call = captured(Abi::X86_64).find(|own| own.syscall == name).unwrap();
    let one = |own: &&Argument| if own.offset.is_some() { 0 } else { registers[own.index as usize] };
    call.arguments.iter().map(one).collect()
}

/// Every call is needed, and they ended in many ways.
pub(crate) fn recorded(calls: &[Calls]) -> Trace {
    let of = |(name, tuples): &Calls| {
        let row = called(
            Abi::X86_64,
            name,
            tuples.iter().map(|registers| kept(name, registers)).collect::<Vec<_>>(),
        );
        let salt = tuples.iter().flatten().fold(0u64, |sum, own| sum.wrapping_mul(31).wrapping_add(*own));
        shown(row, NEEDED[(salt % NEEDED.len() as u64) as usize])
    };
    trace(calls.iter().map(of).chain([row(Abi::X86_64, "read", 1)]))
}

/// What a recording shows of a call beside its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Succeeded,
    /// With an errno that is no answer to a probe.
    Failed,
    /// With both errnos of a probe, which therefore it is not.
    FailedTwice,
    /// Some of the calls a filter answered.
    AlsoRefused,
    InFlight,
    NeverReturned,
    /// All failed with this errno.
    Probe(Errno),
    /// A filter answered all.
    Refused,
}

pub(crate) const NEEDED: [Shown; 6] = [
    Shown::Succeeded,
    Shown::Failed,
    Shown::FailedTwice,
    Shown::AlsoRefused,
    Shown::InFlight,
    Shown::NeverReturned,
];

pub(crate) fn any_shown() -> impl Strategy<Value = Shown> {
    let not = vec![Shown::Probe(Errno::ENOSYS), Shown::Probe(Errno::EPERM), Shown::Refused];
    prop_oneof![4 => prop::sample::select(NEEDED.to_vec()), 1 => prop::sample::select(not)]
}

/// A row whose calls went so, by another program in another phase than the next one's.
pub(crate) fn shown(mut row: Row, how: Shown) -> Row {
    let error = |errno| Outcome::Error(errno);
    let (outcomes, denied) = match how {
        Shown::Succeeded => (vec![(Outcome::Ok, row.calls)], 0),
        Shown::Failed => (vec![(error(Errno::new(2).unwrap()), row.calls)], 0),
        Shown::FailedTwice if row.calls > 1 => {
            (vec![(error(Errno::ENOSYS), 1), (error(Errno::EPERM), row.calls - 1)], 0)
        }
        Shown::AlsoRefused => (vec![(Outcome::Ok, row.calls)], 3),
        Shown::FailedTwice | Shown::InFlight | Shown::NeverReturned => {
            (vec![(Outcome::Ok, row.calls - 1)], 0)
        }
        Shown::Probe(errno) => (vec![(error(errno), row.calls)], 0),
        Shown::Refused => (Vec::new(), 2),
    };
    row.outcomes = outcomes.into_iter().filter(|(_, calls)| *calls > 0).collect();
    let ended: u64 = row.outcomes.values().sum();
    (row.in_flight, row.never_returned) = (0, 0);
    match how {
        Shown::NeverReturned => row.never_returned = row.calls - ended,
        Shown::Refused => (row.calls, row.arguments) = (0, None),
        _ => row.in_flight = row.calls - ended,
    }
    row.denied = denied;
    row.refusals =
        BTreeMap::from([(error(Errno::EPERM), denied)]).into_iter().filter(|(_, own)| *own > 0).collect();
    let phases = [PhaseName::Startup, PhaseName::Serving, PhaseName::Shutdown];
    row.phases = BTreeSet::from([phases[(row.number % 3) as usize]]);
    row.first.comm = format!("worker {}", row.number % 5);
    row
}

/// Whether a program was answered something else than a probe is.
pub(crate) fn is_needed(row: &Row) -> bool {
    let is_probe = |(outcome, calls): (&Outcome, &u64)| {
        *calls == row.calls && matches!(outcome, Outcome::Error(Errno::ENOSYS | Errno::EPERM))
    };
    row.calls > 0 && !row.outcomes.iter().any(is_probe)
}

/// Rows of which some are those of exec sessions and of the container runtime, and one that was needed.
pub(crate) fn in_sections(mut rows: Vec<Row>, exec: bool, filter: Option<FilterMoment>) -> Trace {
    let read = row(Abi::X86_64, "read", 1);
    rows.retain(|row| (row.abi, row.number) != (read.abi, read.number));
    let (mut own, mut others) = (vec![read], Vec::new());
    for (place, row) in rows.into_iter().enumerate() {
        if place % 3 == 2 { others.push(row) } else { own.push(row) }
    }
    let mut all = trace(own);
    if let Some(filter) = filter {
        let start = others.iter().filter(|row| row.number % 2 == 0).cloned().collect();
        all.runtime = Some(RuntimeCalls { filter, setup: Vec::new(), start });
    }
    if exec {
        all.exec = Some(ExecCalls { sessions: 1, syscalls: others });
    } else {
        all.syscalls.extend(others);
    }
    all.seal().unwrap();
    all
}
