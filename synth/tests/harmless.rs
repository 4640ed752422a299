//! The reviewed table of harmless values, held against the attack corpus: whatever a workload calls, what the table
//! adds to it opens no attack that arguments tell apart from ordinary use.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::{called, row, trace};
use seccomp_learn_synth::{
    Ceiling, Margin, Options, Runtime,
    arguments::{ArgumentUse, Captured, arguments_of, captured, harmless},
    attack_score, synthesize,
};
use trace::{Abi, Row};

/// The calls whose arguments rules test.
fn tested() -> impl Iterator<Item = Captured> {
    captured(Abi::X86_64).filter(|own| own.arguments.iter().any(|own| own.usage == ArgumentUse::Rule))
}

/// A call of which only so much is known that it was made, and what the table asks to have been seen.
fn unknown(call: &Captured) -> Row {
    let seen = |own: &trace::Kept, values: &std::collections::BTreeMap<u32, Vec<u64>>| {
        values.get(&own.index).map_or(0, |values| values[0])
    };
    let entries = harmless(Abi::X86_64, call.syscall);
    let kept = called(Abi::X86_64, call.syscall, Vec::<[u64; 0]>::new()).arguments.unwrap().kept;
    let asked = entries.iter().filter(|entry| !entry.seen.is_empty());
    let tuples: Vec<Vec<u64>> =
        asked.map(|entry| kept.iter().map(|own| seen(own, &entry.seen)).collect()).collect();
    let mut row = called(Abi::X86_64, call.syscall, tuples);
    row.calls += 1;
    row.outcomes = [(trace::Outcome::Ok, row.calls)].into();
    let arguments = row.arguments.as_mut().unwrap();
    (arguments.wide, arguments.beyond) = (true, 1);
    row
}

#[test]
fn harmless_values_open_no_attack_that_arguments_tell() {
    let names = Abi::X86_64.numbers().map(|number| Abi::X86_64.name(number).to_string());
    let others = names.filter(|name| tested().all(|own| own.syscall != name) && name != "clone3");
    let rows = others.map(|name| row(Abi::X86_64, &name, 1)).chain(tested().map(|call| unknown(&call)));
    let options = Options {
        margin: Margin::None,
        runtime: Runtime::None,
        ceiling: Ceiling::None,
        ..Options::default()
    };
    let made = synthesize(&trace(rows), &options).unwrap();
    let score = attack_score(&made.profile, Abi::X86_64).unwrap();
    let is_tested = |name: &str| tested().any(|own| own.syscall == name);
    // Told by arguments: some need is only for calls whose arguments rules test, and asks for values of them.
    let told = score.open().map(|(attack, _)| attack).filter(|attack| {
        attack.needs.iter().any(|need| need.as_str().contains('(') && need.names().all(is_tested))
    });
    let open: Vec<&str> = told.map(|attack| attack.name.as_str()).collect();
    // Every allocator gives memory back with MADV_DONTNEED, and whether it does goes by the input; a resolver asks
    // over UDP. What else these two need is told by no argument: mapping and writing a file, splice.
    assert_eq!(open, ["CVE-2016-5195", "CVE-2026-53362"]);
}

#[test]
fn what_stands_for_another_call_has_harmless_values() {
    // Else a sibling of it would be left out, and a program that needs it there would fail.
    for name in ["clone", "mmap", "mmap2", "mremap", "madvise", "mprotect", "pipe2", "futex", "futex_time64"]
    {
        let abi = Abi::ALL.into_iter().find(|abi| abi.number(name).is_some()).unwrap();
        let tested = arguments_of(name).filter(|own| own.usage == ArgumentUse::Rule);
        for argument in tested {
            assert!(
                harmless(abi, name).iter().any(|entry| entry.arguments.contains_key(&argument.index)),
                "{name} {}",
                argument.name
            );
        }
    }
}
