//! How much is looked at before a question counts as undecided: counted and never timed, so that the answer is the same
//! on every machine.

use std::cell::Cell;

/// What the questions of one comparison may cost together; the unit is about an instruction that is followed.
const ALL: u32 = 48_000_000;

/// What one question may cost.
const QUESTION: u32 = 4_000_000;

/// What a question may cost after all is spent, so that what is plain is still told.
const LEAST: u32 = 4_000;

/// It would cost too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooHard;

/// What is left for the questions of one comparison.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Cell<u32>);

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(ALL))
    }
}

impl Budget {
    /// The share of one question.
    pub(crate) fn question(&self) -> Question<'_> {
        Question { left: self.0.get().clamp(LEAST, QUESTION), budget: self }
    }
}

/// What is left for one question.
#[derive(Debug)]
pub(crate) struct Question<'b> {
    left: u32,
    budget: &'b Budget,
}

impl Question<'_> {
    /// Takes what something costs.
    pub(crate) fn spend(&mut self, cost: usize) -> Result<(), TooHard> {
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        self.budget.0.set(self.budget.0.get().saturating_sub(cost));
        let left = self.left.checked_sub(cost);
        self.left = left.unwrap_or(0);
        left.map(|_| ()).ok_or(TooHard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_share_what_there_is_and_none_goes_without() {
        let budget = Budget::default();
        let mut asked = 0u64;
        for _ in 0..40 {
            let mut question = budget.question();
            while question.spend(1_000).is_ok() {
                asked += 1_000;
            }
            // What is spent stays spent.
            assert_eq!(question.spend(1), Err(TooHard));
        }
        assert!(asked <= u64::from(ALL) + 40 * u64::from(LEAST), "{asked}");
        assert!(budget.question().spend(1_000).is_ok());
    }
}
