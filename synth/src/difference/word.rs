//! What is known about one 32-bit word of a call's arguments, and the smallest value that it can still have.

use super::budget::{Question, TooHard};

/// A test of a filter: the masked word is, or is not, from `low` to `high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Test {
    pub(crate) mask: u32,
    pub(crate) low: u32,
    pub(crate) high: u32,
    pub(crate) inside: bool,
}

impl Test {
    pub(crate) const fn equal(mask: u32, value: u32) -> Self {
        Self::from_to(mask, value, value)
    }

    pub(crate) const fn from_to(mask: u32, low: u32, high: u32) -> Self {
        Self { mask, low, high, inside: true }
    }

    /// `word & bits != 0`.
    pub(crate) const fn any_of(bits: u32) -> Self {
        if bits.is_power_of_two() { Self::equal(bits, bits) } else { Self::equal(bits, 0).not() }
    }

    pub(crate) const fn not(self) -> Self {
        Self { inside: !self.inside, ..self }.simplified()
    }

    /// One bit that is not clear is set.
    const fn simplified(self) -> Self {
        if !self.inside && self.low == self.high && self.mask.is_power_of_two() && self.low & !self.mask == 0
        {
            return Self::equal(self.mask, self.low ^ self.mask);
        }
        self
    }

    pub(crate) const fn holds(self, word: u32) -> bool {
        let masked = word & self.mask;
        (self.low <= masked && masked <= self.high) == self.inside
    }
}

/// What is known about a word.
#[derive(Clone, Debug, Default)]
pub(crate) struct Word {
    /// The bits that are known.
    known: u32,
    /// What they are.
    value: u32,
    /// The tests that it passed, those that the known bits decide left out.
    tests: Vec<Test>,
    /// The smallest value that passes them all.
    smallest: u32,
}

impl Word {
    /// This value and no other.
    pub(crate) const fn is(value: u32) -> Self {
        Self { known: u32::MAX, value, tests: Vec::new(), smallest: value }
    }

    /// What a test says of every value that is left, as far as the known bits tell.
    pub(crate) const fn decided(&self, test: Test) -> Option<bool> {
        if test.mask & !self.known == 0 { Some(test.holds(self.value)) } else { None }
    }

    /// The bits that are known, and what they are.
    pub(crate) const fn known(&self) -> (u32, u32) {
        (self.known, self.value)
    }

    /// What the word can be, each a mask and what the bits in it are; none where that is more than `most`.
    pub(crate) fn patterns(&self, most: usize, question: &mut Question<'_>) -> Option<Vec<(u32, u32)>> {
        if self.tests.is_empty() {
            return Some(vec![(self.known, self.value)]);
        }
        let mut patterns = Vec::new();
        let mut left = self.clone();
        loop {
            patterns.push((u32::MAX, left.smallest));
            let another = left.keep(Test::equal(u32::MAX, left.smallest).not(), question).ok()?;
            if !another {
                return Some(patterns);
            }
            if patterns.len() == most {
                return None;
            }
        }
    }

    /// The smallest value that is left.
    pub(crate) const fn smallest(&self) -> u32 {
        self.smallest
    }

    /// What it costs to copy it, or to go through it once.
    pub(crate) const fn size(&self) -> usize {
        1 + self.tests.len() / 8
    }

    /// Keeps the values that pass; says whether there is one.
    pub(crate) fn keep(&mut self, test: Test, question: &mut Question<'_>) -> Result<bool, TooHard> {
        question.spend(self.size())?;
        if test.inside && test.low == test.high {
            if test.low & !test.mask != 0 || (test.low ^ self.value) & test.mask & self.known != 0 {
                return Ok(false);
            }
            self.known |= test.mask;
            self.value |= test.low;
            let (known, value) = (self.known, self.value);
            if self.tests.iter().any(|own| own.mask & !known == 0 && !own.holds(value)) {
                return Ok(false);
            }
            self.tests.retain(|own| own.mask & !known != 0);
        } else if let Some(holds) = self.decided(test) {
            return Ok(holds);
        } else {
            self.tests.push(test);
        }
        // The smallest of more values is still the smallest if it is still one of them.
        if test.holds(self.smallest) && self.smallest & self.known == self.value {
            return Ok(true);
        }
        let found = self.search(question)?;
        self.smallest = found.unwrap_or_default();
        Ok(found.is_some())
    }

    fn search(&self, question: &mut Question<'_>) -> Result<Option<u32>, TooHard> {
        let open = self.tests.iter().map(|test| Open { test: *test, at_low: true, at_high: true }).collect();
        Search { known: self.known, value: self.value, question }.from(32, 0, open)
    }
}

/// A test that the bits chosen so far do not decide.
#[derive(Clone, Copy)]
struct Open {
    test: Test,
    /// The bits so far are those of `low`.
    at_low: bool,
    /// The bits so far are those of `high`.
    at_high: bool,
}

/// From the highest bit down, zero before one.
struct Search<'q, 'b> {
    known: u32,
    value: u32,
    question: &'q mut Question<'b>,
}

impl Search<'_, '_> {
    /// The smallest value with these bits above `bit` that passes the open tests.
    fn from(&mut self, bit: u32, chosen: u32, open: Vec<Open>) -> Result<Option<u32>, TooHard> {
        let below = 1u32.checked_shl(bit).map_or(u32::MAX, |bit| bit.wrapping_sub(1));
        if open.is_empty() {
            return Ok(Some(chosen | self.value & below));
        }
        let Some(bit) = bit.checked_sub(1) else {
            // What is left is at a bound, so inside.
            return Ok(open.iter().all(|open| open.test.inside).then_some(chosen));
        };
        self.question.spend(4 + open.len() / 2)?;
        let mask = 1u32 << bit;
        let choices: &[u32] = if self.known & mask != 0 {
            &[self.value & mask][..]
        } else if open.iter().any(|open| open.test.mask & mask != 0) {
            &[0, mask]
        } else {
            &[0]
        };
        for choice in choices {
            if let Some(open) = narrowed(&open, mask, *choice)
                && let Some(found) = self.from(bit, chosen | choice, open)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The tests that are still open with one more bit; none if one of them fails.
fn narrowed(open: &[Open], mask: u32, choice: u32) -> Option<Vec<Open>> {
    let mut left = Vec::with_capacity(open.len());
    for Open { test, at_low, at_high } in open.iter().copied() {
        let bit = choice & test.mask;
        let below = at_low && bit < test.low & mask;
        let above = at_high && bit > test.high & mask;
        let at_low = at_low && bit == test.low & mask;
        let at_high = at_high && bit == test.high & mask;
        let outside = below || above;
        if outside && test.inside || !outside && !at_low && !at_high && !test.inside {
            return None;
        }
        if !outside && (at_low || at_high) {
            left.push(Open { test, at_low, at_high });
        }
    }
    Some(left)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::difference::Budget;

    /// Tests over the lowest six bits, so that all values can be tried.
    fn any_test() -> impl Strategy<Value = Test> {
        (0u32..64, 0u32..64, 0u32..64, any::<bool>()).prop_map(|(mask, a, b, inside)| {
            let test = Test::from_to(mask, a.min(b), a.max(b));
            if inside { test } else { test.not() }
        })
    }

    fn equality() -> impl Strategy<Value = Test> {
        (0u32..64, 0u32..64).prop_map(|(mask, value)| Test::equal(mask, value))
    }

    proptest! {
        /// The smallest value is the one that trying them all finds, after every single test.
        #[test]
        fn the_smallest_value_is_found(tests in prop::collection::vec(prop_oneof![any_test(), equality()], 0..8)) {
            let (mut word, budget) = (Word::default(), Budget::default());
            for (count, test) in tests.iter().enumerate() {
                let kept = &tests[..=count];
                let expected = (0u32..64).find(|value| kept.iter().all(|test| test.holds(*value)));
                let left = word.keep(*test, &mut budget.question()).unwrap();
                prop_assert_eq!(left, expected.is_some());
                let Some(expected) = expected else { break };
                prop_assert_eq!(word.smallest(), expected);
            }
        }

        #[test]
        fn a_test_or_its_negation_holds(test in any_test(), value in 0u32..64) {
            prop_assert_ne!(test.holds(value), test.not().holds(value));
        }
    }

    #[test]
    fn high_bits_count_too() {
        let (mut word, budget) = (Word::default(), Budget::default());
        let keep = |word: &mut Word, test| word.keep(test, &mut budget.question()).unwrap();
        assert!(keep(&mut word, Test::from_to(u32::MAX, 0x8000_0001, u32::MAX)));
        assert!(keep(&mut word, Test::equal(0xf, 0)));
        assert_eq!(word.smallest(), 0x8000_0010);
        assert!(keep(&mut word, Test::any_of(0x6000_0000)));
        assert_eq!(word.smallest(), 0xa000_0000);
        assert!(!keep(&mut word, Test::from_to(u32::MAX, 0, 0x9fff_ffff)));
    }
}
