//! What a filter may answer to a call of which not every argument is known: it is run on every way that the unknown
//! bits may take, each way with what the comparisons on it say about them.
//!
//! A way is left out only where these contradict each other, so every answer that is possible is among the answers;
//! where a contradiction is not seen there may be one too many, and the call counts as undecided.

use std::collections::BTreeSet;

use crate::{
    compile::Instruction,
    machine::{Machine, Start},
    simulate::{SeccompData, op},
};

/// What one question may cost; the unit is about an instruction. The filters of profiles need a hundredth.
pub(crate) const QUESTION: u32 = 400_000;

/// The registers of a call, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Their values; bits that are not known are 0.
    pub values: [u64; 6],
    /// The bits that are known.
    pub known: [u64; 6],
    /// Those whose upper half is not known, but is not 0.
    pub above: [bool; 6],
}

impl Registers {
    /// A call with these registers.
    #[must_use]
    pub const fn all(values: [u64; 6]) -> Self {
        Self { values, known: [u64::MAX; 6], above: [false; 6] }
    }

    /// One call of those that it may have been.
    #[must_use]
    pub fn example(&self) -> [u64; 6] {
        let mut values = self.values;
        for (value, _) in values.iter_mut().zip(self.above).filter(|(_, above)| *above) {
            *value |= 0xffff_ffff << 32;
        }
        values
    }
}

/// The return values that are possible; none if the filter computes with what is not known, or to follow all of its ways
/// costs more than is left, which what it costs is taken from.
pub(crate) fn possible(
    machine: &Machine,
    nr: i32,
    arch: u32,
    registers: &Registers,
    left: &mut u32,
) -> Option<BTreeSet<u32>> {
    let from = match machine.start(arch, nr.cast_unsigned()) {
        Start::Answer(execution) => return Some(BTreeSet::from([execution.ret])),
        Start::At(point) => point,
    };
    let data = SeccompData { nr, arch, instruction_pointer: 0, args: registers.values };
    let mut answers = BTreeSet::new();
    let mut open = vec![Way { at: from.at, a: Value::This(from.a), words: Words::new(registers) }];
    while let Some(mut way) = open.pop() {
        loop {
            let cost = way.cost();
            let Some(rest) = left.checked_sub(cost) else {
                *left = 0;
                return None;
            };
            *left = rest;
            match way.step(machine.instructions(), &data)? {
                Step::On => {}
                Step::End(ret) => {
                    answers.insert(ret);
                    break;
                }
                Step::Fork(other) => open.extend(other),
                Step::Never => break,
            }
        }
    }
    Some(answers)
}

/// What is known about each 32-bit word of the arguments on one way.
#[derive(Clone, Debug)]
struct Words {
    /// For each word what is known: the mask and the value.
    bits: [(u32, u32); 12],
    /// What some words are not: `word & mask != value`.
    not: Vec<(usize, u32, u32)>,
    /// Between what some words are: `low <= word & mask <= high`.
    between: Vec<(usize, u32, u32, u32)>,
}

impl Words {
    fn new(registers: &Registers) -> Self {
        let mut words = Self { bits: [(0, 0); 12], not: Vec::new(), between: Vec::new() };
        let halves = |value: u64| [(value & 0xffff_ffff) as u32, (value >> 32) as u32];
        let known = registers.known.into_iter().flat_map(halves);
        let values = registers.values.into_iter().flat_map(halves);
        for (bits, (known, value)) in words.bits.iter_mut().zip(known.zip(values)) {
            *bits = (known, value & known);
        }
        let above = registers.above.into_iter().enumerate().filter(|(_, above)| *above);
        words.not.extend(above.map(|(index, _)| (2 * index + 1, u32::MAX, 0)));
        words
    }

    fn bits(&self, word: usize) -> (u32, u32) {
        self.bits.get(word).copied().unwrap_or_default()
    }

    /// The least and the greatest that the masked word may be.
    fn bounds(&self, word: usize, mask: u32) -> (u32, u32) {
        let (known, value) = self.bits(word);
        let (mut low, mut high) = (value & mask, (value | !known) & mask);
        for (.., least, most) in self.between.iter().filter(|own| (own.0, own.1) == (word, mask)) {
            (low, high) = (low.max(*least), high.min(*most));
        }
        (low, high)
    }

    /// Says that the masked word is this; false if it cannot be.
    fn is(&mut self, word: usize, mask: u32, value: u32) -> bool {
        let (low, high) = self.bounds(word, mask);
        if value & !mask != 0 || !(low..=high).contains(&value) {
            return false;
        }
        let Some(bits) = self.bits.get_mut(word) else { return false };
        let (known, own) = *bits;
        if (own ^ value) & known & mask != 0 {
            return false;
        }
        *bits = (known | mask, own | value);
        self.holds(word)
    }

    /// Says that the masked word is not this; false if it must be.
    fn is_not(&mut self, word: usize, mask: u32, value: u32) -> bool {
        if value & !mask != 0 {
            return true;
        }
        self.not.push((word, mask, value));
        self.holds(word)
    }

    /// Says between what the masked word is; false if it cannot be.
    fn is_between(&mut self, word: usize, mask: u32, low: u32, high: u32) -> bool {
        self.between.push((word, mask, low, high));
        self.holds(word)
    }

    /// Whether what is known about a word does not contradict itself, as far as that is seen. What leaves one bit open
    /// says what that bit is.
    fn holds(&mut self, word: usize) -> bool {
        loop {
            let (known, value) = self.bits(word);
            let mut learned = None;
            for (_, mask, not) in self.not.iter().filter(|own| own.0 == word) {
                if (value ^ not) & known & mask != 0 {
                    continue;
                }
                let open = mask & !known;
                match open.count_ones() {
                    0 => return false,
                    1 => learned = Some((open, !not & open)),
                    _ => {}
                }
            }
            let ranges = self.between.iter().filter(|own| own.0 == word);
            for (_, mask, ..) in ranges {
                let (low, high) = self.bounds(word, *mask);
                if low > high {
                    return false;
                }
            }
            match (learned, self.bits.get_mut(word)) {
                (Some((open, own)), Some(bits)) => *bits = (known | open, value | own),
                _ => return true,
            }
        }
    }
}

/// What is in the accumulator.
#[derive(Clone, Copy, Debug)]
enum Value {
    This(u32),
    /// A word of the arguments, masked.
    Word(usize, u32),
}

struct Way {
    at: usize,
    a: Value,
    words: Words,
}

enum Step {
    On,
    /// It also goes on elsewhere, if that is possible.
    Fork(Option<Way>),
    End(u32),
    /// No call goes here.
    Never,
}

impl Way {
    /// What a step costs: where it comes to a word that is not known, what is known about words is copied and gone
    /// through.
    fn cost(&self) -> u32 {
        let Words { not, between, .. } = &self.words;
        let size = match self.a {
            Value::This(_) => 0,
            Value::Word(..) => (not.len() + between.len() * between.len()) / 4,
        };
        u32::try_from(size).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// One instruction; none if it computes with what is not known.
    fn step(&mut self, code: &[Instruction], data: &SeccompData) -> Option<Step> {
        let Instruction { code: operation, jt, jf, k } = *code.get(self.at)?;
        let next = self.at.checked_add(1)?;
        let to = |holds: bool| next.checked_add(usize::from(if holds { jt } else { jf }));
        match operation {
            op::LD_W_ABS => {
                self.a = match k {
                    16..64 => self.load(usize::try_from((k - 16) / 4).ok()?),
                    // Where a call comes from is not recorded.
                    8 | 12 => return None,
                    _ => Value::This(data.word(k)?),
                };
                self.at = next;
            }
            op::LD_IMM => {
                self.a = Value::This(k);
                self.at = next;
            }
            op::AND => {
                self.a = match self.a {
                    Value::This(value) => Value::This(value & k),
                    Value::Word(word, mask) => self.masked(word, mask & k),
                };
                self.at = next;
            }
            op::JA => self.at = next.checked_add(usize::try_from(k).ok()?)?,
            op::RET_K => return Some(Step::End(k)),
            op::RET_A => match self.a {
                Value::This(ret) => return Some(Step::End(ret)),
                Value::Word(..) => return None,
            },
            op::JEQ_K | op::JGT_K | op::JGE_K | op::JSET_K => match self.a {
                Value::This(value) => {
                    self.at = to(match operation {
                        op::JEQ_K => value == k,
                        op::JGT_K => value > k,
                        op::JGE_K => value >= k,
                        _ => value & k != 0,
                    })?;
                }
                Value::Word(word, mask) => return self.fork((word, mask), operation, k, to),
            },
            _ => return None,
        }
        Some(Step::On)
    }

    fn load(&self, word: usize) -> Value {
        self.masked(word, u32::MAX)
    }

    fn masked(&self, word: usize, mask: u32) -> Value {
        let (known, value) = self.words.bits(word);
        if known & mask == mask { Value::This(value & mask) } else { Value::Word(word, mask) }
    }

    /// A comparison of a word of which not all is known.
    fn fork(
        &mut self,
        (word, mask): (usize, u32),
        operation: u16,
        k: u32,
        to: impl Fn(bool) -> Option<usize>,
    ) -> Option<Step> {
        let mut taken = self.words.clone();
        let other = &mut self.words;
        let (low, high) = other.bounds(word, mask);
        let (holds, fails) = match operation {
            op::JEQ_K => (taken.is(word, mask, k), other.is_not(word, mask, k)),
            op::JSET_K => (taken.is_not(word, mask & k, 0), other.is(word, mask & k, 0)),
            op::JGT_K | op::JGE_K => {
                // The least for which it holds; none if that is beyond 32 bits.
                let least = if operation == op::JGE_K { Some(k) } else { k.checked_add(1) };
                let below = least.map_or(Some(u32::MAX), |least| least.checked_sub(1));
                (
                    least.is_some_and(|least| least <= high && taken.is_between(word, mask, least, high)),
                    below.is_some_and(|below| low <= below && other.is_between(word, mask, low, below)),
                )
            }
            _ => return None,
        };
        let (taken_at, other_at) = (to(true)?, to(false)?);
        let taken = Way { at: taken_at, a: self.a, words: taken };
        self.at = other_at;
        Some(match (holds, fails) {
            (true, true) => Step::Fork(Some(taken)),
            (true, false) => {
                *self = taken;
                Step::On
            }
            (false, true) => Step::On,
            (false, false) => Step::Never,
        })
    }
}
