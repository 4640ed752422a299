//! The prepared filter answers as the plain interpreter does, instruction counts included: for random programs, for
//! the engines' profiles in every way to compile them, and where not every argument is known.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "common/laws.rs"]
mod kept;

use std::collections::BTreeSet;

use kept::laws;
use proptest::prelude::*;
use seccomp_learn_synth::{
    Capabilities, CompileOptions, Container, Instruction, Judge, Lookup, Machine, Program, Registers,
    SeccompData, SimulateError, compile, execute, references,
};
use trace::Abi;

/// Every opcode that a filter may have, and some that it may not.
const CODES: [u16; 45] = [
    0x20, 0x20, 0x20, 0x20, 0x15, 0x15, 0x15, 0x25, 0x35, 0x45, 0x05, 0x06, 0x06, 0x16, 0x54, 0x54, 0x00,
    0x01, 0x60, 0x61, 0x80, 0x81, 0x02, 0x03, 0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44, 0x4c,
    0x5c, 0x64, 0x6c, 0x74, 0x7c, 0x84, 0xa4, 0x07, 0x87, 0x1d, 0x28,
];

/// Operands where something happens.
fn operand() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => (0u32..16).prop_map(|word| word * 4),
        3 => 0u32..8,
        2 => prop::sample::select(vec![
            0xc000_003e, 0x4000_0003, 0x4000_0000, 0x7fff_0000, 0x0005_0001, u32::MAX, 0x8000_0000,
        ]),
        1 => any::<u32>(),
    ]
}

fn instruction() -> impl Strategy<Value = Instruction> {
    (prop::sample::select(CODES.to_vec()), 0u8..4, 0u8..4, operand())
        .prop_map(|(code, jt, jf, k)| Instruction { code, jt, jf, k })
}

/// Programs as the ones above; of those that look at the number and the architecture more often.
fn program() -> impl Strategy<Value = Program> {
    let simple =
        (prop::sample::select(vec![0x20u16, 0x15, 0x25, 0x35, 0x45, 0x54, 0x06, 0x05]), 0u8..4, 0u8..4)
            .prop_flat_map(|(code, jt, jf)| {
                operand().prop_map(move |k| {
                    let k = if code == 0x20 {
                        k & 4
                    } else if code == 0x05 {
                        k % 3
                    } else {
                        k
                    };
                    Instruction { code, jt, jf, k }
                })
            });
    let line = prop_oneof![2 => simple, 1 => instruction()];
    prop::collection::vec(line, 1..30).prop_map(|mut instructions| {
        instructions.extend([Instruction { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 }; 4]);
        Program { instructions, unknown: Vec::new() }
    })
}

fn call() -> impl Strategy<Value = SeccompData> {
    let arch = prop::sample::select(vec![0xc000_003e, 0x4000_0003, 0xc000_00b7, 7]);
    let small = prop_oneof![3 => 0u64..64, 1 => any::<u64>()];
    (operand(), arch, any::<u64>(), prop::array::uniform6(small)).prop_map(
        |(nr, arch, instruction_pointer, args)| SeccompData {
            nr: nr.cast_signed(),
            arch,
            instruction_pointer,
            args,
        },
    )
}

proptest! {
    #![proptest_config(laws(2000))]

    #[test]
    fn it_answers_as_the_interpreter(program in program(), calls in prop::collection::vec(call(), 1..20)) {
        match Machine::new(&program) {
            Ok(machine) => for call in &calls {
                prop_assert_eq!(Ok(machine.run(call)), execute(&program, call), "{:?}", call);
            },
            // What the kernel refuses may still run, on ways that do not come to what is wrong with it.
            Err(SimulateError::Length(_)) => prop_assert!(false),
            Err(_) => {}
        }
    }

    /// Every answer to a call that agrees with what is known is among the possible ones, and each of these is one.
    #[test]
    fn what_is_possible_is_what_some_call_gets(
        known in prop::array::uniform6(prop::sample::select(vec![0u64, 0xff, 0xffff_ffff, u64::MAX])),
        args in prop::array::uniform6(0u64..64),
        others in prop::collection::vec(prop::array::uniform6(any::<u64>()), 8),
        number in 0u32..460,
    ) {
        let registers = Registers {
            values: std::array::from_fn(|index| args[index] & known[index]),
            known,
            above: [false; 6],
        };
        for judge in JUDGES.iter() {
            let possible = judge.verdicts(Abi::X86_64, number, &registers).unwrap();
            prop_assert!(!possible.is_empty());
            for other in &others {
                let own: [u64; 6] = std::array::from_fn(|index| {
                    registers.values[index] | other[index] & !known[index]
                });
                prop_assert!(possible.contains(&judge.verdict(Abi::X86_64, number, own)));
            }
            if known == [u64::MAX; 6] {
                prop_assert_eq!(possible.len(), 1);
            }
        }
    }
}

static JUDGES: std::sync::LazyLock<Vec<Judge>> = std::sync::LazyLock::new(|| {
    let profiles = references().iter().map(|reference| {
        reference.resolve(&Container {
            native: Abi::X86_64,
            capabilities: Capabilities::DockerDefault,
            kernel: (6, 18),
        })
    });
    profiles.map(|profile| Judge::new(&profile, Abi::X86_64, CompileOptions::default()).unwrap()).collect()
});

/// Every number of every ABI, and some beyond, under every profile that engines ship.
#[test]
fn it_answers_as_the_interpreter_under_the_engines_profiles() {
    let mut calls = 0;
    for reference in references() {
        for capabilities in [Capabilities::None, Capabilities::DockerDefault] {
            let profile =
                reference.resolve(&Container { native: Abi::X86_64, capabilities, kernel: (6, 18) });
            for lookup in [Lookup::Linear, Lookup::Tree] {
                for stub in [false, true] {
                    let options = CompileOptions::default().with_lookup(lookup).with_enosys_stub(stub);
                    let program = compile(&profile, Abi::X86_64, options).unwrap();
                    let machine = Machine::new(&program).unwrap();
                    for abi in Abi::ALL {
                        let beyond = [1000, 0x3fff_ffff, 0x4000_0000, 0x7fff_ffff, 0x8000_0000, u32::MAX];
                        for number in (0..600).chain(beyond) {
                            for args in [[0; 6], [2, 1, 0, 0, 0, 0], [u64::MAX; 6]] {
                                let call = SeccompData::call(abi, number, args);
                                assert_eq!(Ok(machine.run(&call)), execute(&program, &call), "{call:?}");
                                calls += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    println!("{calls} calls");
}

#[test]
fn what_the_kernel_would_not_load_is_refused() {
    let check = |code: &[(u16, u8, u8, u32)], expected: Option<SimulateError>| {
        let instructions = code.iter().map(|&(code, jt, jf, k)| Instruction { code, jt, jf, k }).collect();
        let own = Machine::new(&Program { instructions, unknown: Vec::new() });
        assert_eq!(own.map(drop).err(), expected, "{code:?}");
    };
    let wrong = |at, (code, jt, jf, k)| {
        Some(SimulateError::Instruction { at, instruction: Instruction { code, jt, jf, k } })
    };
    let (allow, load) = ((0x06, 0, 0, 0x7fff_0000), (0x20, 0, 0, 0));
    check(&[], Some(SimulateError::Length(0)));
    check(&vec![allow; 4097], Some(SimulateError::Length(4097)));
    check(&[load, allow], None);
    check(&[load], Some(SimulateError::Unending(0)));
    check(&[(0x05, 0, 0, 1), allow], Some(SimulateError::Unending(0)));
    check(&[(0x15, 0, 1, 1), allow], Some(SimulateError::Unending(0)));
    check(&[(0x05, 0, 0, u32::MAX), allow], Some(SimulateError::Unending(0)));
    // After an answer, where no call comes.
    check(&[allow, (0x20, 0, 0, 2), allow], wrong(1, (0x20, 0, 0, 2)));
    check(&[(0x20, 0, 0, 64), allow], wrong(0, (0x20, 0, 0, 64)));
    check(&[(0x34, 0, 0, 0), allow], wrong(0, (0x34, 0, 0, 0)));
    check(&[(0x64, 0, 0, 32), allow], wrong(0, (0x64, 0, 0, 32)));
    check(&[(0x28, 0, 0, 0), allow], wrong(0, (0x28, 0, 0, 0)));
    // Memory is written before it is read, on every way.
    check(&[(0x02, 0, 0, 3), (0x60, 0, 0, 3), allow], None);
    check(&[(0x60, 0, 0, 3), allow], wrong(0, (0x60, 0, 0, 3)));
    check(&[(0x15, 0, 1, 1), (0x02, 0, 0, 3), (0x60, 0, 0, 3), allow], wrong(2, (0x60, 0, 0, 3)));
    check(&[(0x15, 0, 1, 1), (0x02, 0, 0, 16), allow], wrong(1, (0x02, 0, 0, 16)));
}

/// A filter that goes by the number's last bit has more ranges than are prepared, and answers all the same.
#[test]
fn a_filter_of_many_ranges_is_run_from_its_start() {
    let code =
        [(0x20, 0, 0, 0), (0x54, 0, 0, 1), (0x15, 0, 1, 1), (0x06, 0, 0, 0x7fff_0000), (0x06, 0, 0, 0)];
    let instructions = code.into_iter().map(|(code, jt, jf, k)| Instruction { code, jt, jf, k }).collect();
    let program = Program { instructions, unknown: Vec::new() };
    let machine = Machine::new(&program).unwrap();
    let answers: BTreeSet<u32> = (0..9)
        .map(|number| {
            let call = SeccompData::call(Abi::X86_64, number, [0; 6]);
            assert_eq!(Ok(machine.run(&call)), execute(&program, &call));
            machine.run(&call).ret
        })
        .collect();
    assert_eq!(answers.len(), 2);
}
