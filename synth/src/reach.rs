//! What a filter lets through, asked of the compiled filter: is there a call of this number, with these conditions on
//! its arguments, that gets such an answer?

use std::{cell::RefCell, collections::BTreeSet};

use trace::Abi;

use crate::{
    compile::Program,
    difference::{Budget, Numbers, Question, Test, TooHard, Words, explore, smallest},
    profile::{Condition, Operator},
    simulate::{SeccompData, Verdict, simulate},
};

/// A filter on a machine. It also keeps which questions were not answered, since there were too many ways to follow.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    program: Program,
    native: Abi,
    budget: Budget,
    untold: RefCell<BTreeSet<(Abi, u32)>>,
}

/// Some arguments, and what is answered to them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// The answer.
    pub(crate) verdict: Verdict,
    /// Of the arguments that get it this way, those with the smallest words.
    pub(crate) example: [u64; 6],
}

/// Whether there is a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is.
    Yes,
    /// There is none.
    No,
    /// It could not be told.
    Untold,
}

impl Reach {
    /// A filter on a machine whose own ABI is `native`.
    pub(crate) fn new(program: Program, native: Abi) -> Self {
        Self { program, native, budget: Budget::default(), untold: RefCell::default() }
    }

    /// The filter.
    pub(crate) const fn program(&self) -> &Program {
        &self.program
    }

    /// The machine's own ABI.
    pub(crate) const fn native(&self) -> Abi {
        self.native
    }

    /// The ABIs of the machine, its own first.
    pub(crate) const fn abis(&self) -> &'static [Abi] {
        match self.native {
            Abi::Aarch64 | Abi::Arm => &[Abi::Aarch64, Abi::Arm],
            _ => &[Abi::X86_64, Abi::I386, Abi::X32],
        }
    }

    /// What questions about this filter may still cost.
    pub(crate) const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Notes that something about a number could not be told.
    pub(crate) fn note_untold(&self, abi: Abi, number: u32) {
        self.untold.borrow_mut().insert((abi, number));
    }

    /// The numbers of which something that was asked could not be told.
    pub(crate) fn untold(&self) -> BTreeSet<(Abi, u32)> {
        self.untold.borrow().clone()
    }

    /// Every way through the filter that calls of this number take which meet the conditions: none that cannot be
    /// taken, and each with an example. None where it could not be told.
    pub(crate) fn ways(&self, abi: Abi, number: u32, conditions: &[Condition]) -> Option<Vec<Way>> {
        let mut ways = Vec::new();
        let each = |verdict: Verdict, words: &Words| {
            ways.push(Way { verdict, example: smallest(words) });
            true
        };
        self.each(abi, number, conditions, each)?;
        Some(ways)
    }

    /// Whether there is a call of this number that meets the conditions and gets such an answer.
    pub(crate) fn find(
        &self,
        abi: Abi,
        number: u32,
        conditions: &[Condition],
        wanted: impl Fn(Verdict) -> bool,
    ) -> Found {
        let mut is_found = false;
        let told = self.each(abi, number, conditions, |verdict, _| {
            is_found = wanted(verdict);
            !is_found
        });
        match (is_found, told) {
            (true, _) => Found::Yes,
            (false, Some(())) => Found::No,
            (false, None) => Found::Untold,
        }
    }

    /// The same by name, of calls that are carried out; there is none of a name that the ABI does not have.
    pub(crate) fn passes(&self, abi: Abi, name: &str, conditions: &[Condition]) -> Found {
        abi.number(name).map_or(Found::No, |number| self.find(abi, number, conditions, Verdict::executes))
    }

    /// Whether there is a call by this name that is not carried out.
    pub(crate) fn refuses(&self, abi: Abi, name: &str) -> Found {
        abi.number(name).map_or(Found::No, |number| self.find(abi, number, &[], |own| !own.executes()))
    }

    /// What is answered to one call; none where the filter is none that the kernel would take.
    pub(crate) fn answers(&self, abi: Abi, number: u32, args: [u64; 6]) -> Option<Verdict> {
        simulate(&self.program, &SeccompData::call(abi, number, args)).ok()
    }

    /// Hands over each way until `each` says that it is enough; none where it could not be told.
    fn each(
        &self,
        abi: Abi,
        number: u32,
        conditions: &[Condition],
        mut each: impl FnMut(Verdict, &Words) -> bool,
    ) -> Option<()> {
        let own = abi.seccomp_number(number);
        let numbers = Numbers { arch: abi.audit_arch(), first: own, last: own };
        let mut question = self.budget.question();
        let explored = start(abi, conditions, &mut question).and_then(|words| match words {
            Some(words) => explore(&[&self.program], numbers, words, &mut question, |verdicts, words| {
                verdicts.first().is_some_and(|verdict| each(*verdict, words))
            })
            .map_err(|_| TooHard),
            // What contradicts itself is met by no call.
            None => Ok(()),
        });
        if explored.is_err() {
            self.note_untold(abi, number);
        }
        explored.ok()
    }
}

/// What conditions of equality say about the arguments; none if they contradict each other.
fn start(abi: Abi, conditions: &[Condition], question: &mut Question<'_>) -> Result<Option<Words>, TooHard> {
    let mut words = Words::default();
    let mut keep = |word: usize, test: Test| match words.get_mut(word) {
        Some(word) => word.keep(test, question),
        None => Ok(false),
    };
    for condition in conditions {
        let (mask, value) = match condition.op {
            Operator::Eq => (u64::MAX, condition.value),
            Operator::MaskedEq => (condition.value, condition.value_two & condition.value),
            _ => continue,
        };
        let low = usize::try_from(condition.index).unwrap_or(usize::MAX / 4) * 2;
        for (word, shift) in [(low, 0), (low + 1, 32)] {
            let half = |value: u64| (value >> shift & u64::from(u32::MAX)) as u32;
            if half(mask) != 0 && !keep(word, Test::equal(half(mask), half(value)))? {
                return Ok(None);
            }
        }
    }
    // Registers of a 32-bit program have no upper half.
    if matches!(abi, Abi::I386 | Abi::Arm) {
        for upper in (1..12).step_by(2) {
            if !keep(upper, Test::equal(u32::MAX, 0))? {
                return Ok(None);
            }
        }
    }
    Ok(Some(words))
}

/// What three filters answer to the same calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answers {
    /// The first filter's answer.
    pub(crate) before: Verdict,
    /// The second's.
    pub(crate) alone: Verdict,
    /// The third's.
    pub(crate) whole: Verdict,
    /// Arguments that get these answers.
    pub(crate) example: [u64; 6],
}

/// Every combination of answers that three filters give to calls of a number of which `wanted` is true of those of the
/// first two; none where it could not be told.
pub(crate) fn pairs(
    [before, alone, whole]: [&Reach; 3],
    (abi, number): (Abi, u32),
    budget: &Budget,
    wanted: impl Fn(Verdict, Verdict) -> bool,
) -> Option<Vec<Answers>> {
    let number = abi.seccomp_number(number);
    let numbers = Numbers { arch: abi.audit_arch(), first: number, last: number };
    let mut all = Vec::new();
    explore(
        &[&before.program, &alone.program, &whole.program],
        numbers,
        Words::default(),
        &mut budget.question(),
        |verdicts, words| {
            if let [before, alone, whole] = *verdicts
                && wanted(before, alone)
            {
                all.push(Answers { before, alone, whole, example: smallest(words) });
            }
            true
        },
    )
    .ok()?;
    Some(all)
}
