//! What the kernel's bitmap of constant permissions answers, against two other readings of the same law: what the
//! filter does when it may not look at any argument, and what it answers to every class of arguments.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "common/laws.rs"]
mod kept;

use std::collections::BTreeSet;

use kept::laws;
use proptest::prelude::*;
use seccomp_learn_synth::{
    Answerer, CompileOptions, Container, Instruction, Lookup, Profile, Program, SeccompData, Verdict, ask,
    compile, execute, is_constant_allow, references, simulate,
};
use trace::Abi;

/// `BPF_LD | BPF_W | BPF_ABS`, and `BPF_RET | BPF_K`.
const LOAD: u16 = 0x20;
const RETURN: u16 = 0x06;
/// What the filter that is blind to arguments returns where it would look at one.
const LOOKED: u32 = 0x7fff_0001;

/// The filter that gives up where it would look at the instruction pointer or an argument.
fn blind(program: &Program) -> Program {
    let instruction = |own: &Instruction| match (own.code, own.k) {
        (LOAD, 8..) => Instruction { code: RETURN, jt: 0, jf: 0, k: LOOKED },
        _ => *own,
    };
    Program { instructions: program.instructions.iter().map(instruction).collect(), unknown: Vec::new() }
}

/// The numbers that a filter compares something with, and those next to them: one of each class of arguments.
fn classes(program: &Program) -> BTreeSet<u64> {
    let mut values = BTreeSet::from([0, u64::MAX, u64::from(u32::MAX)]);
    for instruction in &program.instructions {
        let k = u64::from(instruction.k);
        for half in [k, k << 32, k | k << 32] {
            values.extend([half, half.wrapping_add(1), half.wrapping_sub(1), half ^ 1 << 40]);
        }
    }
    values
}

fn check(profile: &Profile, native: Abi, options: CompileOptions) -> (u32, u32) {
    let program = compile(profile, native, options).unwrap();
    let blind = blind(&program);
    let classes: Vec<u64> = classes(&program).into_iter().collect();
    let (mut constant, mut looked) = (0, 0);
    let abis = if native == Abi::Aarch64 { [Abi::Aarch64, Abi::Arm] } else { [Abi::X86_64, Abi::I386] };
    for (abi, number) in abis.into_iter().flat_map(|abi| abi.numbers().map(move |number| (abi, number))) {
        // Private calls of 32-bit Arm have numbers that no bitmap reaches.
        if number > 1024 {
            assert!(!is_constant_allow(&program, abi, number));
            continue;
        }
        let is_constant = is_constant_allow(&program, abi, number);
        let seen = execute(&blind, &SeccompData::call(abi, number, [0; 6])).unwrap();
        assert_eq!(is_constant, seen.ret == 0x7fff_0000, "{abi} {number}");
        let answer = ask(&program, abi, number, [0; 6]).unwrap();
        if is_constant {
            constant += 1;
            // Those of the whole filter are many: for each number some, and for all numbers together all.
            for class in classes.iter().skip(number as usize % 16).step_by(classes.len() / 16) {
                let data = SeccompData::call(abi, number, [*class; 6]);
                assert_eq!(simulate(&program, &data), Ok(Verdict::Allow), "{abi} {number} {class:#x}");
            }
            assert!(answer.instructions == 0 && answer.by != Answerer::Filter, "{abi} {number}");
        } else if answer.by == Answerer::Filter {
            looked += u32::from(seen.ret == LOOKED);
            assert!(answer.instructions > 0);
        }
    }
    (constant, looked)
}

#[test]
fn the_engines_profiles_are_answered_from_the_bitmap_where_they_look_at_no_argument() {
    for reference in references() {
        for native in [Abi::X86_64, Abi::Aarch64] {
            let profile = reference.resolve(&Container::new(native, (6, 18)));
            for options in [
                CompileOptions::default(),
                CompileOptions::default().with_lookup(Lookup::Linear),
                CompileOptions::default().with_enosys_stub(true),
            ] {
                let (constant, looked) = check(&profile, native, options);
                println!(
                    "{} {native}: {constant} numbers from the bitmap, {looked} by their arguments",
                    reference.name
                );
                assert!(constant > 300 && looked > 0, "{constant} {looked}");
            }
        }
    }
}

#[test]
fn only_a_plain_permission_is_in_the_bitmap() {
    let profile = |action: &str| {
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
                "syscalls": [{{"names": ["read"], "action": "{action}"}}]}}"#
        );
        let profile = Profile::read(text.as_bytes()).unwrap();
        compile(&profile, Abi::X86_64, CompileOptions::default()).unwrap()
    };
    assert!(is_constant_allow(&profile("SCMP_ACT_ALLOW"), Abi::X86_64, 0));
    assert!(!is_constant_allow(&profile("SCMP_ACT_LOG"), Abi::X86_64, 0));
    assert!(!is_constant_allow(&profile("SCMP_ACT_ALLOW"), Abi::X86_64, 1));
    // Carried out all the same, but by the filter.
    let x32 = ask(&profile("SCMP_ACT_ALLOW"), Abi::X32, 0, [0; 6]).unwrap();
    assert_eq!((x32.verdict, x32.by), (Verdict::Allow, Answerer::Filter));
    let probe = ask(&profile("SCMP_ACT_ALLOW"), Abi::X86_64, 335, [0; 6]).unwrap();
    assert_eq!((probe.verdict, probe.by, probe.instructions), (Verdict::Allow, Answerer::Nobody, 0));
}

proptest! {
    #![proptest_config(laws(24))]

    #[test]
    fn the_bitmap_is_what_a_blind_filter_allows(
        rules in prop::collection::vec(
            (prop::sample::select(vec!["read", "write", "ioctl", "socket", "clone", "prctl"]),
             prop::option::of((0u32..6, any::<u32>(), any::<u32>()))), 1..14),
        tree in any::<bool>(), stub in any::<bool>(),
    ) {
        let entries: Vec<String> = rules.iter().map(|(name, condition)| {
            let args = condition.map_or(String::new(), |(index, mask, value)| {
                format!(r#"{{"index": {index}, "value": {mask}, "valueTwo": {}, "op": "SCMP_CMP_MASKED_EQ"}}"#, value & mask)
            });
            // Two actions for one call are no filter.
            let action = if *name == "prctl" { "SCMP_ACT_LOG" } else { "SCMP_ACT_ALLOW" };
            format!(r#"{{"names": ["{name}"], "action": "{action}", "args": [{args}]}}"#)
        }).collect();
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                "syscalls": [{}]}}"#, entries.join(","));
        let profile = Profile::read(text.as_bytes()).unwrap();
        let lookup = if tree { Lookup::Tree } else { Lookup::Linear };
        check(&profile, Abi::X86_64, CompileOptions::default().with_lookup(lookup).with_enosys_stub(stub));
    }
}
