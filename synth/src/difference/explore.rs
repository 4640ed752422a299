//! Runs filters over symbols: every way through them that some call takes, with what is known of its arguments.

use std::collections::BTreeSet;

use super::{
    budget::{Question, TooHard},
    word::{Test, Word},
};
use crate::{
    compile::{Instruction, Program},
    simulate::{Verdict, op},
};

/// The lower and the upper halves of the six arguments: word `2 i` is the lower half of argument `i`.
pub(crate) type Words = [Word; 12];

/// The arguments with the smallest words.
pub(crate) fn smallest(words: &Words) -> [u64; 6] {
    let (pairs, _) = words.as_chunks::<2>();
    let mut args = [0; 6];
    for (slot, [low, high]) in args.iter_mut().zip(pairs) {
        *slot = u64::from(low.smallest()) | u64::from(high.smallest()) << 32;
    }
    args
}

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
        Self::Undecided(TOO_MANY)
    }
}

/// Why what costs too much is undecided.
const TOO_MANY: &str = "there are too many conditions, and ways to meet them";

/// How many ways through two filters are told apart.
const REGIONS: usize = 4_000;

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

/// Every combination of answers that the filters give to calls with these numbers and arguments, until `each` says that
/// it has enough. What was handed over before a stop is true all the same.
pub(crate) fn explore(
    filters: &[&Program],
    numbers: Numbers,
    mut words: Words,
    question: &mut Question<'_>,
    mut each: impl FnMut(&[Verdict], &Words) -> bool,
) -> Result<(), Stop> {
    let mut forks: Vec<Fork> = Vec::new();
    let mut changes: Vec<(usize, Word)> = Vec::new();
    let (mut filter, mut at, mut value, mut verdicts) = (0, 0, Value::Known(0), Vec::new());
    loop {
        question.spend(1)?;
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
                    question.spend(words.iter().map(Word::size).sum())?;
                    if !each(&verdicts, &words) {
                        return Ok(());
                    }
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
                    question.spend(current.size())?;
                    changes.push((word, current.clone()));
                    !current.keep(test, question)?
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
            question.spend(current.size())?;
            changes.push((fork.word, current.clone()));
            if current.keep(fork.test, question)? {
                break;
            }
        }
    }
}

/// The regions of [`explore`], and why these are not all, where they are not.
pub(super) fn regions(
    filters: &[&Program],
    numbers: Numbers,
    question: &mut Question<'_>,
) -> (Vec<Region>, Option<Stop>) {
    let mut regions = Vec::new();
    let mut is_full = false;
    let explored = explore(filters, numbers, Words::default(), question, |verdicts, words| {
        is_full = regions.len() == REGIONS;
        if !is_full {
            regions.push(Region { verdicts: verdicts.to_vec(), words: words.clone() });
        }
        !is_full
    });
    let stop = explored.err().or_else(|| is_full.then_some(Stop::Undecided(TOO_MANY)));
    (regions, stop)
}

/// Whether two filters go the same way with these numbers from where they first look at an argument, so that they answer
/// alike whatever they do there.
pub(super) fn is_same(one: &Program, other: &Program, numbers: Numbers) -> bool {
    let (Some(one_at), Some(other_at)) = (first_look(one, numbers), first_look(other, numbers)) else {
        return false;
    };
    let mut seen = BTreeSet::new();
    let mut left = vec![(one_at, other_at)];
    // Filters whose answers are written alike have each place once; in others this is not how they are compared.
    let most = one.instructions.len().saturating_add(other.instructions.len());
    while let Some((a, b)) = left.pop() {
        if !seen.insert((a, b)) {
            continue;
        }
        let (Some(here), Some(there)) = (one.instructions.get(a), other.instructions.get(b)) else {
            return false;
        };
        if seen.len() > most || (here.code, here.k) != (there.code, there.k) {
            return false;
        }
        let mut to = |over: usize, other_over: usize| left.push((a + 1 + over, b + 1 + other_over));
        match here.code {
            op::RET_K | op::RET_A => {}
            op::JA => {
                let over = usize::try_from(here.k).unwrap_or(usize::MAX / 2);
                to(over, over);
            }
            code if code & op::CLASS == op::JMP => {
                to(usize::from(here.jt), usize::from(there.jt));
                to(usize::from(here.jf), usize::from(there.jf));
            }
            _ => to(0, 0),
        }
    }
    true
}

/// Where a filter first looks at an argument, or answers; none if it does something else, or tells the numbers apart.
fn first_look(filter: &Program, numbers: Numbers) -> Option<usize> {
    let (mut at, mut value) = (0usize, Value::Known(0));
    // Jumps only go forward, so this ends.
    loop {
        let instruction = filter.instructions.get(at)?;
        match step(instruction, &mut value, numbers).ok()? {
            Next::Answer(_) => return Some(at),
            Next::Follow if matches!(value, Value::Word(..)) => return Some(at),
            Next::Follow => at += 1,
            Next::Jump(over) => at = at.checked_add(1)?.checked_add(over)?,
            Next::Test(_, test) => {
                let holds = numbers.decided(test)?;
                at += 1 + usize::from(if holds { instruction.jt } else { instruction.jf });
            }
        }
    }
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
        op::JEQ_K => Test::equal(mask, k),
        op::JGT_K if k == u32::MAX => Test::equal(0, 0).not(),
        op::JGT_K => Test::from_to(mask, k.saturating_add(1), u32::MAX),
        op::JGE_K => Test::from_to(mask, k, u32::MAX),
        _ => Test::any_of(mask & k),
    };
    Ok(match (code, *value) {
        (op::LD_W_ABS, _) => {
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
        (op::AND, own) => {
            *value = match own {
                Value::Known(own) => Value::Known(own & k),
                Value::Number(mask) => Value::Number(mask & k),
                Value::Word(word, mask) => Value::Word(word, mask & k),
            };
            Next::Follow
        }
        (op::RET_K, _) => Next::Answer(Verdict::from_ret(k)),
        (op::JA, _) => Next::Jump(usize::try_from(k).map_err(|_| STRANGE)?),
        (op::JEQ_K | op::JGT_K | op::JGE_K | op::JSET_K, Value::Known(known)) => {
            Next::Jump(usize::from(if test(u32::MAX).holds(known) { jt } else { jf }))
        }
        (op::JEQ_K | op::JGT_K | op::JGE_K | op::JSET_K, Value::Number(mask) | Value::Word(_, mask)) => {
            Next::Test(*value, test(mask))
        }
        _ => return Err(STRANGE),
    })
}
