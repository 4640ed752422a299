//! Calls with arguments, made up: by constants that mean something, by those that are harmless, and by chance.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use seccomp_learn_synth::arguments::{self, Argument, ArgumentUse, Captured, captured};
use trace::{Abi, Trace};

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

pub(crate) fn recorded(calls: &[Calls]) -> Trace {
    let of = |(name, tuples): &Calls| {
        called(Abi::X86_64, name, tuples.iter().map(|registers| kept(name, registers)).collect::<Vec<_>>())
    };
    trace(calls.iter().map(of).chain([row(Abi::X86_64, "read", 1)]))
}
