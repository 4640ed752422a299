//! The real kernel as oracle (`confine::oracle`), for compiled filters.

#![allow(
    dead_code,
    clippy::print_stdout,
    reason = "each test file uses a part, and says what it cannot show"
)]

use confine::oracle::{Answer, Entry, Oracle, OracleError};
use seccomp_learn_synth::{Execution, Program};

/// The number, as seccomp sees it, and the arguments.
pub(crate) type Call = (u32, [u64; 6]);

/// What came of asking the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It answered each call.
    Answers(Vec<Answer>),
    /// A signal ended the process that asked.
    Ended(i32),
    /// This process may not load a filter.
    NoFilter,
}

/// What the kernel answers if the simulator is right.
pub(crate) fn expected(execution: Execution) -> Answer {
    Answer::Filter(execution.ret)
}

/// Lets the kernel run the filter over the calls; nothing is carried out.
pub(crate) fn ask_kernel(program: &Program, calls: &[Call]) -> Asked {
    let instruction = |own: &seccomp_learn_synth::Instruction| confine::Instruction {
        code: own.code,
        jt: own.jt,
        jf: own.jf,
        k: own.k,
    };
    let filter: Vec<_> = program.instructions.iter().map(instruction).collect();
    let call = |(number, arguments): &Call| confine::oracle::Call {
        entry: Entry::Syscall,
        number: *number,
        arguments: *arguments,
    };
    let calls: Vec<_> = calls.iter().map(call).collect();
    match Oracle::new(&filter).and_then(|oracle| oracle.ask(&calls)) {
        Ok(answers) => Asked::Answers(answers),
        Err(OracleError::Ended(signal)) => Asked::Ended(signal),
        Err(OracleError::Filter(_)) => Asked::NoFilter,
        Err(error) => panic!("{error}"),
    }
}

/// Prints why a test cannot run here; fails it when the kernel ring was asked for.
pub(crate) fn skip(reason: &str) {
    assert!(std::env::var_os("SECCOMP_LEARN_REQUIRE_KERNEL").is_none(), "required, but cannot run: {reason}");
    println!("skipped: {reason}");
}

/// Sebastiano Vigna's generator, <https://prng.di.unimi.it/splitmix64.c> (public domain).
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[usize::try_from(self.below(list.len() as u64)).unwrap()]
    }

    /// Small ones, single bits, the borders of 32 bits, and any.
    pub(crate) fn argument(&mut self) -> u64 {
        match self.below(6) {
            0..3 => self.below(64),
            3 => 1 << self.below(64),
            4 => 0xffff_ffff,
            _ => self.next(),
        }
    }
}
