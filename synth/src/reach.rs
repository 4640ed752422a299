//! What a filter lets through, asked of the compiled filter: is there a call of this number, with these conditions on
//! its arguments, that gets such an answer?

use trace::Abi;

use crate::{
    compile::Program,
    difference::{Numbers, Stop, Test, Words, explore},
    profile::{Condition, Operator},
    simulate::{SeccompData, Verdict, simulate},
};

/// A filter on a machine.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    program: Program,
    native: Abi,
}

/// Some arguments, and what is answered to them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// The answer.
    pub(crate) verdict: Verdict,
    /// Of the arguments that get it this way, those with the smallest words.
    pub(crate) example: [u64; 6],
}

impl Reach {
    /// A filter on a machine whose own ABI is `native`.
    pub(crate) const fn new(program: Program, native: Abi) -> Self {
        Self { program, native }
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

    /// A call of this number that meets the conditions and gets such an answer; none if there is none. Where it could
    /// not be told, a call that meets the conditions counts as one.
    pub(crate) fn find(
        &self,
        abi: Abi,
        number: u32,
        conditions: &[Condition],
        wanted: impl Fn(Verdict) -> bool,
    ) -> Option<[u64; 6]> {
        let mut found = None;
        let told = self.each(abi, number, conditions, |verdict, words| {
            if wanted(verdict) {
                found = Some(smallest(words));
            }
            found.is_none()
        });
        match told {
            Some(()) => found,
            None => found.or_else(|| start(conditions).map(|words| smallest(&words))),
        }
    }

    /// The same by name, of calls that are carried out; none for a name that the ABI does not have.
    pub(crate) fn passes(&self, abi: Abi, name: &str, conditions: &[Condition]) -> Option<[u64; 6]> {
        self.find(abi, abi.number(name)?, conditions, Verdict::executes)
    }

    /// Whether the call is carried out whatever its arguments.
    pub(crate) fn always(&self, abi: Abi, name: &str) -> bool {
        abi.number(name).is_some_and(|number| self.find(abi, number, &[], |own| !own.executes()).is_none())
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
        let number = abi.seccomp_number(number);
        let numbers = Numbers { arch: abi.audit_arch(), first: number, last: number };
        // What contradicts itself is met by no call.
        let Some(mut words) = start(conditions) else { return Some(()) };
        // Registers of a 32-bit program have no upper half.
        if matches!(abi, Abi::I386 | Abi::Arm) {
            for upper in words.iter_mut().skip(1).step_by(2) {
                if !upper.keep(Test::equal(u32::MAX, 0)).unwrap_or(true) {
                    return Some(());
                }
            }
        }
        let mut enough = false;
        let explored = explore(&[&self.program], numbers, words, |verdicts, words| {
            enough = enough || verdicts.first().is_some_and(|verdict| !each(*verdict, words));
            if enough { Err(Stop::Undecided("")) } else { Ok(()) }
        });
        (enough || explored.is_ok()).then_some(())
    }
}

/// What conditions of equality say about the arguments; none if they contradict each other.
fn start(conditions: &[Condition]) -> Option<Words> {
    let mut words = Words::default();
    for condition in conditions {
        let (mask, value) = match condition.op {
            Operator::Eq => (u64::MAX, condition.value),
            Operator::MaskedEq => (condition.value, condition.value_two & condition.value),
            _ => continue,
        };
        let low = usize::try_from(condition.index).ok()?.checked_mul(2)?;
        for (word, shift) in [(low, 0), (low.checked_add(1)?, 32)] {
            let half = |value: u64| (value >> shift & u64::from(u32::MAX)) as u32;
            if half(mask) != 0 && !words.get_mut(word)?.keep(Test::equal(half(mask), half(value))).ok()? {
                return None;
            }
        }
    }
    Some(words)
}

/// The arguments with the smallest words.
fn smallest(words: &Words) -> [u64; 6] {
    let mut args = [0; 6];
    for (arg, pair) in args.iter_mut().zip(words.as_chunks::<2>().0) {
        let [low, high] = pair;
        *arg = u64::from(high.smallest()) << 32 | u64::from(low.smallest());
    }
    args
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

/// Every combination of answers that three filters give to calls of a number; none where it could not be told.
pub(crate) fn pairs(
    before: &Reach,
    alone: &Reach,
    whole: &Reach,
    abi: Abi,
    number: u32,
) -> Option<Vec<Answers>> {
    let number = abi.seccomp_number(number);
    let numbers = Numbers { arch: abi.audit_arch(), first: number, last: number };
    let mut all = Vec::new();
    explore(
        &[&before.program, &alone.program, &whole.program],
        numbers,
        Words::default(),
        |verdicts, words| {
            if let [before, alone, whole] = *verdicts {
                all.push(Answers { before, alone, whole, example: smallest(words) });
            }
            Ok(())
        },
    )
    .ok()?;
    Some(all)
}
