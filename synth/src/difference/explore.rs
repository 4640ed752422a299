//! Runs filters over symbols: every way through them that some call takes, with what is known of its arguments.

use super::word::{Test, TooHard, Word};
use crate::{
    compile::{Instruction, Program},
    simulate::Verdict,
};

/// The lower and the upper halves of the six arguments: word `2 i` is the lower half of argument `i`.
pub(crate) type Words = [Word; 12];

/// Some arguments, and what is answered to them.
#[derive(Clone, Debug)]
pub(super) struct Region {
    /// What every filter answers, in the order in which they were given.
    pub(super) verdicts: Vec<Verdict>,
    /// What is known of the arguments.
    pub(super) words: Words,
}

/// The numbers of an architecture that are looked at together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// `AUDIT_ARCH_*`.
    pub(crate) arch: u32,
    /// The first, as `seccomp_data.nr` holds it.
    pub(crate) first: u32,
    /// The last.
    pub(crate) last: u32,
}

impl Numbers {
    /// What a test says of all of them; none if of some this and of others that.
    const fn decided(self, test: Test) -> Option<bool> {
        let Self { first, last, .. } = self;
        if test.mask == u32::MAX {
            if test.low <= first && last <= test.high {
                return Some(test.inside);
            }
            if last < test.low || test.high < first {
                return Some(!test.inside);
            }
            return None;
        }
        // The bits that are not the same in all of them.
        let varying = match (first ^ last).checked_ilog2() {
            Some(highest) => u32::MAX >> (31 - highest),
            None => 0,
        };
        if test.mask & varying == 0 {
            return Some(test.holds(first));
        }
        // The others say already that the masked number is no such value.
        if test.low == test.high && (first ^ test.low) & test.mask & !varying != 0 {
            return Some(!test.inside);
        }
        None
    }

    /// A number after `first` from which on the test may say something else.
    const fn boundary(self, test: Test) -> u32 {
        if test.mask != u32::MAX {
            // In two, at the highest bit that is not the same in all of them.
            return match (self.first ^ self.last).checked_ilog2() {
                Some(highest) => self.last >> highest << highest,
                None => self.first,
            };
        }
        if test.low > self.first { test.low } else { test.high.wrapping_add(1) }
    }
}

/// Why no answer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The numbers are not all answered alike: those from this one on may be answered otherwise.
    Split(u32),
    /// It cannot be decided, for this reason.
    Undecided(&'static str),
}

impl From<TooHard> for Stop {
    fn from(_: TooHard) -> Self {
        Self::Undecided("the conditions on one argument are too many to be solved")
    }
}

/// How many instructions are followed for one call.
const STEPS: u32 = 4_000_000;

/// What the filter has in its accumulator.
#[derive(Clone, Copy, Debug)]
enum Value {
    Known(u32),
    /// The masked number of the call.
    Number(u32),
    /// A masked word of the arguments.
    Word(usize, u32),
}

/// Where a way through the filters forks.
struct Fork {
    /// How many changes had been made to the words.
    changes: usize,
    filter: usize,
    at: usize,
    value: Value,
    verdicts: Vec<Verdict>,
    word: usize,
    test: Test,
}

/// Every combination of answers that the filters give to calls with these numbers and arguments.
pub(crate) fn explore(
    filters: &[&Program],
    numbers: Numbers,
    mut words: Words,
    mut each: impl FnMut(&[Verdict], &Words) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut steps = STEPS;
    let mut forks: Vec<Fork> = Vec::new();
    let mut changes: Vec<(usize, Word)> = Vec::new();
    let (mut filter, mut at, mut value, mut verdicts) = (0, 0, Value::Known(0), Vec::new());
    loop {
        steps = steps.checked_sub(1).ok_or(Stop::Undecided("there are too many ways through the filters"))?;
        let code = filters.get(filter).map_or(&[][..], |program| program.instructions.as_slice());
        let instruction = code.get(at).ok_or(Stop::Undecided("the filter has no end"))?;
        at += 1;
        let ended = match step(instruction, &mut value, numbers)? {
            Next::Follow => false,
            Next::Jump(over) => {
                at += over;
                false
            }
            Next::Answer(verdict) => {
                verdicts.push(verdict);
                filter += 1;
                (at, value) = (0, Value::Known(0));
                if filter == filters.len() {
                    each(&verdicts, &words)?;
                }
                filter == filters.len()
            }
            Next::Test(Value::Word(word, _), test) => {
                let (taken, otherwise) = (at + usize::from(instruction.jt), at + usize::from(instruction.jf));
                let current = words.get_mut(word).ok_or(Stop::Undecided("the filter reads past the call"))?;
                if let Some(holds) = current.decided(test) {
                    at = if holds { taken } else { otherwise };
                    false
                } else {
                    let (changes_so_far, verdicts) = (changes.len(), verdicts.clone());
                    forks.push(Fork {
                        changes: changes_so_far,
                        filter,
                        at: otherwise,
                        value,
                        verdicts,
                        word,
                        test: test.not(),
                    });
                    at = taken;
                    changes.push((word, current.clone()));
                    !current.keep(test)?
                }
            }
            Next::Test(_, test) => {
                let holds = numbers.decided(test).ok_or_else(|| Stop::Split(numbers.boundary(test)))?;
                at += usize::from(if holds { instruction.jt } else { instruction.jf });
                false
            }
        };
        if !ended {
            continue;
        }
        // The other side of the last fork that some arguments take.
        loop {
            let Some(fork) = forks.pop() else { return Ok(()) };
            while changes.len() > fork.changes {
                if let Some((word, before)) = changes.pop()
                    && let Some(slot) = words.get_mut(word)
                {
                    *slot = before;
                }
            }
            (filter, at, value, verdicts) = (fork.filter, fork.at, fork.value, fork.verdicts);
            let Some(current) = words.get_mut(fork.word) else { continue };
            changes.push((fork.word, current.clone()));
            if current.keep(fork.test)? {
                break;
            }
        }
    }
}

/// The regions of [`explore`].
pub(super) fn regions(filters: &[&Program], numbers: Numbers, words: Words) -> Result<Vec<Region>, Stop> {
    let mut regions = Vec::new();
    explore(filters, numbers, words, |verdicts, words| {
        regions.push(Region { verdicts: verdicts.to_vec(), words: words.clone() });
        Ok(())
    })?;
    Ok(regions)
}

/// What an instruction does.
enum Next {
    Follow,
    Jump(usize),
    Answer(Verdict),
    Test(Value, Test),
}

/// `bpf_common.h`; those that libseccomp and runc's stub write.
fn step(instruction: &Instruction, value: &mut Value, numbers: Numbers) -> Result<Next, Stop> {
    const STRANGE: Stop = Stop::Undecided("the filter has instructions that no runtime writes");
    let Instruction { code, jt, jf, k } = *instruction;
    let test = |mask: u32| match code {
        JUMP_EQUAL => Test::equal(mask, k),
        JUMP_GREATER if k == u32::MAX => Test::equal(0, 0).not(),
        JUMP_GREATER => Test::from_to(mask, k.saturating_add(1), u32::MAX),
        JUMP_GREATER_EQUAL => Test::from_to(mask, k, u32::MAX),
        _ => Test::any_of(mask & k),
    };
    Ok(match (code, *value) {
        (LOAD, _) => {
            *value = match k {
                0 => Value::Number(u32::MAX),
                4 => Value::Known(numbers.arch),
                8 | 12 => return Err(Stop::Undecided("the filter looks at where the call came from")),
                16..=60 if k.is_multiple_of(4) => {
                    Value::Word(usize::try_from((k - 16) / 4).map_err(|_| STRANGE)?, u32::MAX)
                }
                _ => return Err(STRANGE),
            };
            Next::Follow
        }
        (AND, own) => {
            *value = match own {
                Value::Known(own) => Value::Known(own & k),
                Value::Number(mask) => Value::Number(mask & k),
                Value::Word(word, mask) => Value::Word(word, mask & k),
            };
            Next::Follow
        }
        (RETURN, _) => Next::Answer(Verdict::from_ret(k)),
        (JUMP, _) => Next::Jump(usize::try_from(k).map_err(|_| STRANGE)?),
        (JUMP_EQUAL | JUMP_GREATER | JUMP_GREATER_EQUAL | JUMP_SET, Value::Known(known)) => {
            Next::Jump(usize::from(if test(u32::MAX).holds(known) { jt } else { jf }))
        }
        (
            JUMP_EQUAL | JUMP_GREATER | JUMP_GREATER_EQUAL | JUMP_SET,
            Value::Number(mask) | Value::Word(_, mask),
        ) => Next::Test(*value, test(mask)),
        _ => return Err(STRANGE),
    })
}

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const JUMP_SET: u16 = 0x45;
