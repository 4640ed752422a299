//! The real kernel as oracle: every profile of the repository, loaded and asked about random calls, answers as the
//! simulator says.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;
#[path = "common/oracle.rs"]
mod oracle;
#[path = "common/profiles.rs"]
mod profiles;

use confine::oracle::Answer;
use oracle::{Asked, Call, SplitMix, ask_kernel, expected, skip};
use seccomp_learn_synth::{
    CompileOptions, Instruction, Lookup, Machine, Margin, Options, Profile, Program, SeccompData, ask,
    bypasses_filters, compile, synthesize,
};
use trace::Abi;

/// How many calls each profile is asked about, in each way to compile it.
const CASES: usize = 100_000;

#[test]
fn the_kernel_answers_as_the_simulator_says() {
    let names = "read write openat fstat mmap execve clone clone3 socket personality ioctl futex exit_group";
    let learned =
        synthesize(&common::named(names), &Options { margin: Margin::Portable, ..Options::default() });
    let mut profiles = profiles::repository();
    profiles.insert("learned from names".to_owned(), learned.unwrap().profile);
    let tree = CompileOptions::default().with_lookup(Lookup::Tree);
    let linear = CompileOptions::default().with_lookup(Lookup::Linear).with_enosys_stub(true);
    for (name, profile) in &profiles {
        let calls = calls(profile);
        for options in [tree, linear] {
            let program = compile(profile, Abi::X86_64, options).unwrap();
            let Asked::Answers(answers) = ask_kernel(&program, &calls) else {
                return skip("this process may not load a filter");
            };
            let machine = Machine::new(&program).unwrap();
            let mut allowed = 0;
            for ((number, args), answer) in calls.iter().zip(answers) {
                let nr = number.cast_signed();
                let data =
                    SeccompData { nr, arch: Abi::X86_64.audit_arch(), instruction_pointer: 0, args: *args };
                let execution = machine.run(&data);
                assert_eq!(answer, expected(execution), "{name}: {number} {args:x?}");
                allowed += usize::from(execution.verdict.executes());
            }
            println!("{name}: {CASES} calls agree, {allowed} of them allowed, {:?}", options.lookup);
            assert!((CASES / 100..CASES - CASES / 100).contains(&allowed), "{name}: {allowed}: all the same");
        }
    }
    println!("{} profiles, each compiled in two ways", profiles.len());
}

/// Random calls, always the same for a profile: those that it puts conditions on more often than others, with
/// arguments near to what it compares; x32's too.
fn calls(profile: &Profile) -> Vec<Call> {
    let mut random = SplitMix(1);
    let conditioned: Vec<_> = profile.syscalls.iter().filter(|entry| !entry.args.is_empty()).collect();
    let mut calls = Vec::with_capacity(CASES);
    while calls.len() < CASES {
        let mut args = std::array::from_fn(|_| random.argument());
        let number = match random.below(8) {
            0..3 => random.below(470),
            3..6 if !conditioned.is_empty() => {
                let entry = random.one(&conditioned);
                let Some(number) = Abi::X86_64.number(random.one(&entry.names).as_str()) else { continue };
                for condition in &entry.args {
                    let value = match random.below(3) {
                        0 => condition.value,
                        1 => condition.value_two,
                        _ => condition.value_two | !condition.value & random.next(),
                    };
                    let changed = if random.below(3) == 0 { 1 << random.below(64) } else { 0 };
                    args[condition.index as usize] = value ^ changed;
                }
                u64::from(number)
            }
            6 => random.below(560) | 0x4000_0000,
            _ => random.below(0x7fff_ffff),
        };
        let number = u32::try_from(number).unwrap();
        // They are asked about by themselves, below.
        if !bypasses_filters(Abi::X86_64, number) {
            calls.push((number, args));
        }
    }
    calls
}

/// Under a filter that answers everything else, these calls get the kernel's own answer: `uretprobe` from anywhere
/// but the kernel's trampoline is an illegal instruction, and `uprobe` fails.
#[test]
fn probes_pass_every_filter_by() {
    const REFUSED: u32 = 0x0005_0007;
    let instruction = Instruction { code: 0x06, jt: 0, jf: 0, k: REFUSED };
    let program = Program { instructions: vec![instruction], unknown: Vec::new() };
    let refused = Asked::Answers(vec![Answer::Filter(REFUSED)]);
    if ask_kernel(&program, &[(39, [0; 6])]) != refused {
        return skip("this process may not load a filter");
    }
    for number in 330..345 {
        let answer = ask_kernel(&program, &[(number, [0; 6])]);
        let simulated = ask(&program, Abi::X86_64, number, [0; 6]).unwrap();
        println!("{number}: {answer:?}, simulated: {simulated:?}");
        assert_eq!(answer != refused, bypasses_filters(Abi::X86_64, number), "{number}: {answer:?}");
        assert_eq!(answer != refused, simulated.verdict.executes(), "{number}: {answer:?}");
        let x32 = ask_kernel(&program, &[(number | 0x4000_0000, [0; 6])]);
        assert_eq!(x32, refused, "{number}");
    }
}
