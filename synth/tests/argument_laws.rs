//! Laws about arguments, judged on compiled filters: what was observed passes, what the modes let through is
//! contained in each other, and nothing becomes wider than the evidence and the reviewed tables say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;
#[path = "common/generated.rs"]
mod generated;
#[path = "common/laws.rs"]
mod kept;

use std::collections::BTreeSet;

use common::{called, trace};
use generated::{calls, recorded, registers, tested};
use kept::laws;
use proptest::prelude::*;
use seccomp_learn_synth::{
    ArgumentMode, Ceiling, CompileOptions, Condition, Container, Decision, DecisionVerdict, Finding, Level,
    Margin, Operator, Options, Program, Runtime, SeccompData, Synthesis,
    arguments::{self, Argument, ArgumentUse},
    compile, reference, simulate, synthesize,
};
use trace::Abi;

const MODES: [ArgumentMode; 3] = [ArgumentMode::Exact, ArgumentMode::Stable, ArgumentMode::Off];

/// No margin, no runtime, no ceiling.
fn bare(arguments: ArgumentMode) -> Options {
    Options {
        margin: Margin::None,
        runtime: Runtime::None,
        ceiling: Ceiling::None,
        arguments,
        ..Options::default()
    }
}

fn program(synthesis: &Synthesis) -> Program {
    compile(&synthesis.profile, Abi::X86_64, CompileOptions::default()).unwrap()
}

fn executes(program: &Program, name: &str, args: [u64; 6]) -> bool {
    let number = Abi::X86_64.number(name).unwrap();
    simulate(program, &SeccompData::call(Abi::X86_64, number, args)).unwrap().executes()
}

/// The arguments that rules test, as far as the kernel reads them.
fn read(name: &str, registers: &[u64; 6]) -> Vec<u64> {
    let tested = arguments::arguments_of(name).filter(|own| own.usage == ArgumentUse::Rule);
    tested.map(|own| registers[own.index as usize] & own.mask).collect()
}

proptest! {
    #![proptest_config(laws(48))]

    /// What was observed passes, in every mode, as far as the ceiling lets it through, and where that does not a
    /// finding names it.
    #[test]
    fn what_was_observed_passes(calls in calls(), mode in prop::sample::select(MODES.to_vec()), bounded: bool) {
        let ceiling = if bounded { Ceiling::RuntimeDefault } else { Ceiling::None };
        let bound = reference("runtime-default").unwrap().resolve(&Container::new(Abi::X86_64, (6, 18)));
        let bound = bounded.then(|| compile(&bound, Abi::X86_64, CompileOptions::default()).unwrap());
        let made = synthesize(&recorded(&calls), &Options { ceiling, ..bare(mode) }).unwrap();
        let program = program(&made);
        for (name, tuples) in &calls {
            for registers in tuples {
                let passes = executes(&program, name, *registers);
                let may = bound.as_ref().is_none_or(|bound| executes(bound, name, *registers));
                prop_assert_eq!(passes, may, "{} {:x?}", name, registers);
                let named = made.evidence.findings.iter().any(|own| own.syscall() == Some(name));
                prop_assert!(passes || named, "{} {:x?}", name, registers);
            }
        }
    }

    /// With exact rules nothing else passes: what the kernel reads of the arguments is what was seen.
    #[test]
    fn exact_rules_let_through_what_was_seen_and_nothing_else(
        calls in calls(),
        others in prop::sample::select(tested()).prop_flat_map(|call| {
            prop::collection::vec(registers(&call), 20).prop_map(move |tuples| (call.syscall, tuples))
        }),
    ) {
        let program = program(&synthesize(&recorded(&calls), &bare(ArgumentMode::Exact)).unwrap());
        let passes = |name: &str, registers: &[u64; 6]| {
            let seen = calls.iter().find(|(own, _)| *own == name).into_iter().flat_map(|(_, tuples)| tuples);
            let seen: BTreeSet<Vec<u64>> = seen.map(|own| read(name, own)).collect();
            seen.contains(&read(name, registers))
        };
        // Each argument of one call with the others of another one: only pairs that were seen.
        for (name, tuples) in &calls {
            for one in tuples {
                for other in tuples {
                    for index in 0..6 {
                        let mut mixed = *one;
                        mixed[index] = other[index];
                        prop_assert_eq!(executes(&program, name, mixed), passes(name, &mixed));
                    }
                }
            }
        }
        for registers in &others.1 {
            prop_assert_eq!(executes(&program, others.0, *registers), passes(others.0, registers));
        }
    }

    /// Each mode lets through what the stricter one does.
    #[test]
    fn modes_contain_each_other(
        calls in calls(),
        margin in prop::sample::select(vec![Margin::None, Margin::Portable]),
        bounded: bool,
        probes in prop::sample::select(tested()).prop_flat_map(|call| {
            prop::collection::vec(registers(&call), 40).prop_map(move |tuples| (call.syscall, tuples))
        }),
    ) {
        let ceiling = if bounded { Ceiling::RuntimeDefault } else { Ceiling::None };
        let trace = recorded(&calls);
        let programs = MODES.map(|mode| {
            let options = Options { margin, ceiling: ceiling.clone(), ..bare(mode) };
            program(&synthesize(&trace, &options).unwrap())
        });
        for (name, tuples) in calls.iter().chain([&probes]) {
            for one in tuples {
                for other in tuples {
                    // Also what no call was seen with together.
                    let mut mixed = *one;
                    mixed[1] = other[1];
                    mixed[2] |= other[2];
                    let passes = programs.each_ref().map(|program| executes(program, name, mixed));
                    prop_assert!(passes.is_sorted(), "{} {:x?} {:?}", name, mixed, passes);
                }
            }
        }
    }

    /// The order in which a trace says things changes nothing, and every rule says why it is there and what it means.
    #[test]
    fn the_same_evidence_gives_the_same_bytes(calls in calls(), mode in prop::sample::select(MODES.to_vec())) {
        let trace = recorded(&calls);
        let mut shuffled = trace.clone();
        shuffled.syscalls.reverse();
        shuffled.seal().unwrap();
        let options = Options { arguments: mode, ..Options::default() };
        let (one, other) = (synthesize(&trace, &options).unwrap(), synthesize(&shuffled, &options).unwrap());
        prop_assert_eq!(one.profile.to_json(), other.profile.to_json());
        prop_assert_eq!(one.evidence.to_json(), other.evidence.to_json());
        for rule in &one.evidence.rules {
            prop_assert!(!rule.reasons.is_empty());
            let expected = if rule.when == ["always"] { 0 } else { rule.when.len() };
            prop_assert_eq!(rule.words.len(), expected, "{:?}", rule);
        }
    }

    /// Memory is never writable and executable unless one call asked for both.
    #[test]
    fn memory_is_writable_or_executable(
        prots in prop::collection::vec(prop::sample::select(vec![0u64, 1, 2, 3, 4, 5, 0x0100_0001]), 1..5),
        flags in prop::sample::select(vec![2u64, 0x22, 0x802, 0x812, 1, 0x4_0022]),
        asked in 0u64..16,
        free in any::<u32>(),
        margin in prop::sample::select(vec![Margin::None, Margin::Portable]),
    ) {
        let mmap = called(Abi::X86_64, "mmap", prots.iter().map(|prot| [*prot, flags]));
        let mprotect = called(Abi::X86_64, "mprotect", prots.iter().map(|prot| [*prot]));
        let made = synthesize(&trace([mmap, mprotect]), &Options { margin, ..bare(ArgumentMode::Stable) });
        let program = program(&made.unwrap());
        for name in ["mmap", "mprotect", "pkey_mprotect"] {
            for flags in [flags, u64::from(free)] {
                let prot = asked | 6;
                prop_assert!(!executes(&program, name, [0, 4096, prot, flags, 0, 0]), "{} {:#x}", name, prot);
            }
        }
        // And what is neither is harmless.
        for prot in 0..4 {
            prop_assert!(executes(&program, "mprotect", [0, 4096, prot, 0, 0, 0]));
        }
    }

    /// What a reviewer denied is refused whatever was observed, and what one allowed passes whatever the ceiling.
    #[test]
    fn decisions_hold(
        calls in calls(),
        mode in prop::sample::select(MODES.to_vec()),
        which in any::<prop::sample::Index>(),
        upper in any::<u32>(),
        allow: bool,
    ) {
        let (name, tuples) = &calls[which.index(calls.len())];
        let taken = tuples[0];
        let tested: Vec<_> = arguments::arguments_of(name).filter(|own| own.usage == ArgumentUse::Rule).collect();
        let equal = |own: &&Argument| Condition {
            index: own.index,
            value: own.mask,
            value_two: taken[own.index as usize] & own.mask,
            op: Operator::MaskedEq,
        };
        let decision = |verdict| Decision {
            verdict,
            syscall: (*name).to_owned(),
            when: tested.iter().map(equal).collect(),
            reason: "r".to_owned(),
            owner: "o".to_owned(),
            expires: None,
        };
        let verdict = if allow { DecisionVerdict::Allow } else { DecisionVerdict::Deny };
        let options = Options { ceiling: Ceiling::RuntimeDefault, ..bare(mode) };
        let trace = recorded(&calls);
        let with = Options { decisions: vec![decision(verdict)], ..options.clone() };
        let without = program(&synthesize(&trace, &options).unwrap());
        let with = program(&synthesize(&trace, &with).unwrap());
        for (name_of, tuples) in &calls {
            for registers in tuples {
                let is_it = name_of == name && read(name, registers) == read(name, &taken);
                let expected = if is_it { allow } else { executes(&without, name_of, *registers) };
                prop_assert_eq!(executes(&with, name_of, *registers), expected, "{} {:x?}", name_of, registers);
            }
        }
        // The upper half of what the kernel reads as 32 bits changes nothing.
        let mut garbage = taken;
        for own in tested.iter().filter(|own| own.width == 32) {
            garbage[own.index as usize] ^= u64::from(upper) << 32;
        }
        prop_assert_eq!(executes(&with, name, garbage), allow);
        // Both at once: the one that denies goes before.
        let both = [decision(DecisionVerdict::Allow), decision(DecisionVerdict::Deny)].to_vec();
        let both = program(&synthesize(&trace, &Options { decisions: both, ..options }).unwrap());
        prop_assert!(!executes(&both, name, taken));
    }

    /// What was not kept is no licence: it stays closed, and someone has to decide.
    #[test]
    fn what_is_wide_stays_closed(calls in calls(), beyond in 1u64..1000, request in any::<u32>(), exact: bool) {
        prop_assume!(calls.iter().all(|(name, _)| *name != "ioctl"));
        let mut wide = called(Abi::X86_64, "ioctl", [[0x5413u64], [0x8933]]);
        let arguments = wide.arguments.as_mut().unwrap();
        (arguments.wide, arguments.beyond) = (true, beyond);
        wide.calls += beyond;
        wide.outcomes = [(trace::Outcome::Ok, wide.calls)].into();
        let mut trace = recorded(&calls);
        trace.syscalls.push(wide);
        trace.seal().unwrap();
        let mode = if exact { ArgumentMode::Exact } else { ArgumentMode::Stable };
        let made = synthesize(&trace, &bare(mode)).unwrap();
        let undecided = |made: &Synthesis| {
            made.evidence.findings.iter().any(|own| {
                own.level() == Level::Undecided && matches!(own, Finding::Wide { beyond: own, .. } if *own == beyond)
            })
        };
        prop_assert!(undecided(&made));
        let filter = program(&made);
        for seen in [0x5413, 0x8933, 0xffff_ffff_0000_8933] {
            prop_assert!(executes(&filter, "ioctl", [0, seen, 0, 0, 0, 0]));
        }
        let harmless = arguments::harmless(Abi::X86_64, "ioctl");
        let is_known = |request| {
            let is_harmless = harmless.iter().any(|entry| entry.arguments[&1].contains(request));
            matches!(request, 0x5413 | 0x8933) || (!exact && is_harmless)
        };
        for request in [u64::from(request), 0x5412, 0x5401] {
            prop_assert_eq!(executes(&filter, "ioctl", [0, request, 0, 0, 0, 0]), is_known(request));
        }
        let decision = |verdict| Decision {
            verdict,
            syscall: "ioctl".to_owned(),
            when: Vec::new(),
            reason: "r".to_owned(),
            owner: "o".to_owned(),
            expires: None,
        };
        for (verdict, opens) in [(DecisionVerdict::Accept, false), (DecisionVerdict::Allow, true)] {
            let options = Options { decisions: vec![decision(verdict)], ..bare(mode) };
            let made = synthesize(&trace, &options).unwrap();
            prop_assert!(!undecided(&made));
            prop_assert_eq!(executes(&program(&made), "ioctl", [0, 0x5412, 0, 0, 0, 0]), opens);
        }
    }
}
