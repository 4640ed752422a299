//! The running kernel, asked about every recorded call beside the simulator.

use confine::{
    Instruction,
    oracle::{Answer, Call, Entry, Oracle, OracleError},
};
use synth::{Fact, Judge, SeccompData, Verdict, bypasses_filters};
use trace::Abi;

/// What the kernel said about the calls of a trace.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// How many calls it answered.
    pub(super) answered: u64,
    /// Those that cannot be made here: of a foreign ABI, and the two that no filter sees.
    pub(super) not_checked: u64,
    /// Where it answered something else than the simulator.
    pub(super) disagreements: Vec<String>,
}

impl Asked {
    /// Adds another one's.
    pub(super) fn add(&mut self, other: Self) {
        self.answered = self.answered.saturating_add(other.answered);
        self.not_checked = self.not_checked.saturating_add(other.not_checked);
        self.disagreements.extend(other.disagreements);
    }
}

/// Which calls can be made here.
pub(super) struct Kernel {
    /// Whether 32-bit calls can.
    has_int80: bool,
}

impl Kernel {
    /// Tries whether the kernel can be asked at all.
    pub(super) fn new() -> Result<Self, OracleError> {
        // Everything fails with EPERM.
        let oracle = Oracle::new(&[Instruction { code: 0x06, jt: 0, jf: 0, k: 0x0005_0001 }])?;
        let call = |entry| Call { entry, number: 39, arguments: [0; 6] };
        oracle.ask(&[call(Entry::Syscall)])?;
        // Without 32-bit emulation the instruction is a fault.
        let has_int80 = oracle
            .ask(&[call(Entry::Int80)])
            .is_ok_and(|answers| answers.iter().all(|answer| matches!(answer, Answer::Filter(_))));
        Ok(Self { has_int80 })
    }

    /// Asks about every fact: where not all of a call is known, about one call that it may have been.
    pub(super) fn ask(&self, judge: &Judge, facts: &[Fact<'_>]) -> Result<Asked, OracleError> {
        let filter = judge.machine().instructions();
        let filter: Vec<Instruction> = filter
            .iter()
            .map(|own| Instruction { code: own.code, jt: own.jt, jf: own.jf, k: own.k })
            .collect();
        let mut calls = Vec::new();
        let mut about = Vec::new();
        for fact in facts {
            if let Some((call, data)) = self.call(fact) {
                calls.push(call);
                about.push((fact, data));
            }
        }
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        let mut asked = Asked {
            answered: count(calls.len()),
            not_checked: count(facts.len().saturating_sub(calls.len())),
            disagreements: Vec::new(),
        };
        if calls.is_empty() {
            return Ok(asked);
        }
        let answers = Oracle::new(&filter)?.ask(&calls)?;
        for ((fact, data), answer) in about.into_iter().zip(answers) {
            let simulated = judge.machine().run(&data);
            if answer != Answer::Filter(simulated.ret) {
                let said = match answer {
                    Answer::Filter(ret) => Verdict::from_ret(ret).to_string(),
                    Answer::Kernel(answer) => format!("no filter answered, it returned {answer}"),
                };
                asked.disagreements.push(format!(
                    "{} {}: the kernel says `{said}`, the simulator `{}`; please report this",
                    fact.row.abi,
                    fact.in_words(),
                    simulated.verdict
                ));
            }
        }
        Ok(asked)
    }

    fn call(&self, fact: &Fact<'_>) -> Option<(Call, SeccompData)> {
        let (abi, number) = (fact.row.abi, fact.row.number);
        let mut arguments = fact.registers.example();
        let entry = match abi {
            Abi::X86_64 | Abi::X32 if !bypasses_filters(abi, number) => Entry::Syscall,
            Abi::I386 if self.has_int80 => Entry::Int80,
            _ => return None,
        };
        if entry == Entry::Int80 {
            arguments = arguments.map(|argument| argument & 0xffff_ffff);
        }
        let data = SeccompData::call(abi, number, arguments);
        Some((Call { entry, number: data.nr.cast_unsigned(), arguments }, data))
    }
}
