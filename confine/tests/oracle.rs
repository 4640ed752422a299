//! The kernel as oracle: every kind of answer comes back as it stands in the filter, and nothing is carried out.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use seccomp_learn_confine::{
    Instruction,
    oracle::{Answer, Call, Entry, Oracle, OracleError},
};

const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// `LD number`, then for each number its answer, and the last one for the others.
fn filter(answers: &[(u32, u32)], others: u32) -> Vec<Instruction> {
    let mut filter = vec![instruction(0x20, 0, 0, 0)];
    for (number, answer) in answers {
        filter.push(instruction(0x15, 0, 1, *number));
        filter.push(instruction(0x06, 0, 0, *answer));
    }
    filter.push(instruction(0x06, 0, 0, others));
    filter
}

fn call(entry: Entry, number: u32, arguments: [u64; 6]) -> Call {
    Call { entry, number, arguments }
}

/// The answers, or none where no filter may be loaded.
fn ask(filter: &[Instruction], calls: &[Call]) -> Option<Vec<Answer>> {
    match Oracle::new(filter).unwrap().ask(calls) {
        Ok(answers) => Some(answers),
        Err(OracleError::Filter(error)) => {
            assert!(std::env::var_os("SECCOMP_LEARN_REQUIRE_KERNEL").is_none(), "required: {error}");
            println!("skipped: this process may not load a filter: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn every_answer_comes_back_as_it_stands_in_the_filter() {
    // Allow, log, trace, notify, errno with and without a number and above the greatest, trap, kill.
    let answers = [
        0x7fff_0000,
        0x7ffc_0000,
        0x7ff0_0001,
        0x7fc0_0000,
        0x0005_0001,
        0x0005_0000,
        0x0005_ffff,
        0x0003_0007,
        0x0000_0000,
        0x8000_0000,
        0x7fff_0001,
    ];
    let own = std::process::id();
    // kill, exit, exit_group, reboot and the like, with arguments that would hurt.
    let numbers = [62, 60, 231, 169, 57, 101, 59, 3, 9, 15, 39];
    let pairs: Vec<(u32, u32)> = numbers.into_iter().zip(answers).collect();
    let calls: Vec<Call> =
        numbers.iter().map(|number| call(Entry::Syscall, *number, [u64::from(own), 9, 0, 0, 0, 0])).collect();
    let Some(got) = ask(&filter(&pairs, 0x0005_0026), &calls) else { return };
    assert_eq!(got, answers.map(Answer::Filter));
}

#[test]
fn all_six_arguments_reach_the_filter_on_either_way_in() {
    let arguments =
        [0x1111_2222_3333_4444, 0x5555, 0xffff_ffff_0000_0000, 7, u64::MAX, 0x8000_0000_0000_0001u64];
    for entry in [Entry::Syscall, Entry::Int80] {
        for (index, value) in arguments.into_iter().enumerate() {
            for (half, shift) in [(0u32, 0), (4, 32)] {
                let word = (value >> shift) as u32;
                // 32-bit calls have no upper halves.
                let word = if entry == Entry::Int80 && shift == 32 { 0 } else { word };
                let offset = 16 + 8 * u32::try_from(index).unwrap() + half;
                let filter = [
                    instruction(0x20, 0, 0, offset),
                    instruction(0x15, 0, 1, word),
                    instruction(0x06, 0, 0, 0x7fff_0000),
                    instruction(0x06, 0, 0, 0x0005_0001),
                ];
                let own =
                    if entry == Entry::Int80 { arguments.map(|own| own & 0xffff_ffff) } else { arguments };
                let got = match Oracle::new(&filter).unwrap().ask(&[call(entry, 20, own)]) {
                    Ok(got) => got,
                    // A kernel without 32-bit emulation.
                    Err(OracleError::Ended(_)) if entry == Entry::Int80 => return,
                    Err(OracleError::Filter(error)) => {
                        assert!(
                            std::env::var_os("SECCOMP_LEARN_REQUIRE_KERNEL").is_none(),
                            "required: {error}"
                        );
                        return println!("skipped: this process may not load a filter: {error}");
                    }
                    Err(error) => panic!("{error}"),
                };
                assert_eq!(got, [Answer::Filter(0x7fff_0000)], "{entry:?} argument {index}, offset {offset}");
            }
        }
    }
}

#[test]
fn the_architecture_tells_the_ways_in_apart() {
    let filter = [
        instruction(0x20, 0, 0, 4),
        instruction(0x15, 0, 1, 0x4000_0003),
        instruction(0x06, 0, 0, 0x0005_0002),
        instruction(0x06, 0, 0, 0x0005_0001),
    ];
    let Some(native) = ask(&filter, &[call(Entry::Syscall, 20, [0; 6])]) else { return };
    assert_eq!(native, [Answer::Filter(0x0005_0001)]);
    match Oracle::new(&filter).unwrap().ask(&[call(Entry::Int80, 20, [0; 6])]) {
        Ok(answers) => assert_eq!(answers, [Answer::Filter(0x0005_0002)]),
        Err(OracleError::Ended(signal)) => println!("no 32-bit emulation: signal {signal}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn filters_whose_answers_cannot_be_marked_are_refused() {
    let computed = [instruction(0x20, 0, 0, 0), instruction(0x16, 0, 0, 0)];
    assert!(matches!(Oracle::new(&computed), Err(OracleError::Computed)));
    let many: Vec<Instruction> = (0..4096).map(|k| instruction(0x06, 0, 0, k)).collect();
    assert!(matches!(Oracle::new(&many), Err(OracleError::Answers(4096))));
    let long = vec![instruction(0x06, 0, 0, 0); 70_000];
    assert!(matches!(Oracle::new(&long), Err(OracleError::Length(70_000))));
    // What the kernel does not take is the kernel's to say.
    let wrong = [instruction(0x28, 0, 0, 0), instruction(0x06, 0, 0, 0)];
    assert!(matches!(Oracle::new(&wrong).unwrap().ask(&[]), Err(OracleError::Filter(_))));
    let Some(none) = ask(&[instruction(0x06, 0, 0, 0)], &[]) else { return };
    assert_eq!(none, []);
}
