//! Conditions in the one form that this project emits: for each argument at most one test of masked equality.
//!
//! Whatever another profile says with `<` or `!=` becomes an exact set of such tests: libseccomp up to 2.6.0
//! merges rules wrongly on the branch that those operators use (GHSA-4q85-33p6-j5g6), and two conditions on one
//! argument in one entry are alternatives to every runtime.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    compile::repeats_an_argument,
    profile::{Condition, Operator},
};

/// `argument & mask == value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Test {
    value: u64,
    mask: u64,
}

/// Tests on different arguments that must all hold; none holds always.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Clause(BTreeMap<u32, Test>);

impl Test {
    /// Nothing if the value has bits outside the mask: libseccomp clears those, so they are cleared here.
    const fn new(mask: u64, value: u64) -> Self {
        Self { mask, value: value & mask }
    }

    /// Whether it lets through numbers that follow each other: the mask leaves out low bits only.
    const fn is_block(self) -> bool {
        let free = !self.mask;
        free & free.wrapping_add(1) == 0
    }

    /// What both let through.
    const fn and(self, other: Self) -> Option<Self> {
        if (self.value ^ other.value) & self.mask & other.mask != 0 {
            return None;
        }
        Some(Self { mask: self.mask | other.mask, value: self.value | other.value })
    }

    /// Whether everything that the other lets through passes here too.
    const fn covers(self, other: Self) -> bool {
        self.mask & !other.mask == 0 && other.value & self.mask == self.value
    }
}

impl Clause {
    /// Conditions on different arguments as clauses, alternatives of each other, that let through exactly the
    /// same. `narrow(index)` says that the kernel reads the argument as 32 bits: then an inequality is taken
    /// over the low half, with a zero upper half.
    pub(crate) fn alternatives(conditions: &[Condition], narrow: impl Fn(u32) -> bool) -> BTreeSet<Self> {
        let mut clauses = BTreeSet::from([Self::default()]);
        for condition in conditions {
            let tests = tests(condition, narrow(condition.index));
            // A mask of zero holds always, which is said by no test.
            let one = |test: &Test| match test.mask {
                0 => Self::default(),
                _ => Self(BTreeMap::from([(condition.index, *test)])),
            };
            let tests: Vec<Self> = tests.iter().map(one).collect();
            clauses =
                clauses.iter().flat_map(|clause| tests.iter().filter_map(|test| clause.and(test))).collect();
        }
        clauses
    }

    /// What an entry of a profile lets through. If two of its conditions are about one argument, every condition
    /// is an alternative: runtimes read it so.
    pub(crate) fn of_entry(args: &[Condition], narrow: impl Fn(u32) -> bool + Copy) -> BTreeSet<Self> {
        if repeats_an_argument(args) {
            args.iter().flat_map(|condition| Self::alternatives(&[*condition], narrow)).collect()
        } else {
            Self::alternatives(args, narrow)
        }
    }

    /// What both let through; nothing if they exclude each other.
    pub(crate) fn and(&self, other: &Self) -> Option<Self> {
        let mut tests = self.0.clone();
        for (index, test) in &other.0 {
            let joint = match tests.get(index) {
                Some(own) => own.and(*test)?,
                None => *test,
            };
            tests.insert(*index, joint);
        }
        Some(Self(tests))
    }

    /// Whether it has no test.
    pub(crate) fn is_always(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether everything that the other lets through passes here too.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.0.iter().all(|(index, test)| other.0.get(index).is_some_and(|their| test.covers(*their)))
    }

    /// Two clauses that differ in one bit of one value, as one; only where the result is a block of numbers
    /// that follow each other, which a reader can check.
    fn merged(&self, other: &Self) -> Option<Self> {
        let mut difference = None;
        for ((index, own), (other_index, their)) in self.0.iter().zip(&other.0) {
            if index != other_index || own.mask != their.mask {
                return None;
            }
            if own.value != their.value {
                let bits = own.value ^ their.value;
                let merged = Test::new(own.mask & !bits, own.value);
                if difference.is_some() || !bits.is_power_of_two() || !merged.is_block() {
                    return None;
                }
                difference = Some((*index, merged));
            }
        }
        if self.0.len() != other.0.len() {
            return None;
        }
        let (index, test) = difference?;
        let mut tests = self.0.clone();
        if test.mask == 0 {
            tests.remove(&index);
        } else {
            tests.insert(index, test);
        }
        Some(Self(tests))
    }

    /// Arguments that pass.
    pub(crate) fn witness(&self) -> [u64; 6] {
        let mut args = [0; 6];
        for (index, test) in &self.0 {
            if let Some(arg) = usize::try_from(*index).ok().and_then(|index| args.get_mut(index)) {
                *arg = test.value;
            }
        }
        args
    }

    /// As conditions of a profile.
    pub(crate) fn conditions(&self) -> Vec<Condition> {
        let condition = |(&index, test): (&u32, &Test)| match test.mask {
            u64::MAX => Condition { index, value: test.value, value_two: 0, op: Operator::Eq },
            mask => Condition { index, value: mask, value_two: test.value, op: Operator::MaskedEq },
        };
        self.0.iter().map(condition).collect()
    }
}

/// The same set with fewer clauses: what another one covers is left out, and two that differ in a single bit
/// become one.
pub(crate) fn simplify<R: Clone + Ord>(
    clauses: BTreeMap<Clause, BTreeSet<R>>,
) -> BTreeMap<Clause, BTreeSet<R>> {
    let mut clauses = clauses;
    while let Some((gone, into)) = simplification(&clauses) {
        let mut reasons = BTreeSet::new();
        for clause in &gone {
            reasons.extend(clauses.remove(clause).unwrap_or_default());
        }
        clauses.entry(into).or_default().extend(reasons);
    }
    clauses
}

/// Clauses that go, and the one that takes their place.
fn simplification<R>(clauses: &BTreeMap<Clause, BTreeSet<R>>) -> Option<(Vec<Clause>, Clause)> {
    for one in clauses.keys() {
        for other in clauses.keys() {
            if one == other {
                continue;
            }
            if one.covers(other) {
                return Some((vec![other.clone()], one.clone()));
            }
            if let Some(merged) = one.merged(other) {
                return Some((vec![one.clone(), other.clone()], merged));
            }
        }
    }
    None
}

fn tests(condition: &Condition, narrow: bool) -> Vec<Test> {
    let last = if narrow { u64::from(u32::MAX) } else { u64::MAX };
    let value = condition.value;
    let below = |end: u64| if end == 0 { Vec::new() } else { range(0, (end - 1).min(last)) };
    let from = |start: Option<u64>| start.map(|start| range(start, last)).unwrap_or_default();
    match condition.op {
        Operator::Eq => vec![Test::new(u64::MAX, value)],
        Operator::MaskedEq => vec![Test::new(value, condition.value_two)],
        Operator::Lt => below(value),
        Operator::Le => range(0, value.min(last)),
        Operator::Gt => from(value.checked_add(1)),
        Operator::Ge => from(Some(value)),
        Operator::Ne => {
            let mut tests = below(value);
            tests.extend(from(value.checked_add(1)));
            tests
        }
    }
}

/// The numbers from `start` to `end`, both included, as blocks whose size is a power of two.
fn range(start: u64, end: u64) -> Vec<Test> {
    let mut blocks = Vec::new();
    let mut next = Some(start);
    while let Some(start) = next.filter(|start| *start <= end) {
        // The largest block that begins here and does not pass the end.
        let mut size_minus_one = 0u64;
        loop {
            let wider = size_minus_one << 1 | 1;
            let fits = start & wider == 0 && start.checked_add(wider).is_some_and(|last| last <= end);
            if !fits || wider == size_minus_one {
                break;
            }
            size_minus_one = wider;
        }
        blocks.push(Test::new(!size_minus_one, start));
        next = start.checked_add(size_minus_one).and_then(|last| last.checked_add(1));
    }
    blocks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passes(clauses: &BTreeSet<Clause>, args: &[u64; 6]) -> bool {
        clauses.iter().any(|clause| clause.conditions().iter().all(|condition| condition.holds(args)))
    }

    fn condition() -> impl Strategy<Value = Condition> {
        let op = prop::sample::select(vec![
            Operator::Ne,
            Operator::Lt,
            Operator::Le,
            Operator::Eq,
            Operator::Ge,
            Operator::Gt,
            Operator::MaskedEq,
        ]);
        (0u32..2, number(), number(), op).prop_map(|(index, value, value_two, op)| Condition {
            index,
            value,
            value_two,
            op,
        })
    }

    /// Small numbers, numbers around the borders of 32 and 64 bits, and any.
    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![
            0u64..70,
            (0u64..5).prop_map(|less| u64::from(u32::MAX) + 2 - less),
            (0u64..3).prop_map(|less| u64::MAX - less),
            any::<u64>(),
        ]
    }

    proptest! {
        #[test]
        fn a_cover_lets_through_exactly_what_the_condition_does(
            condition in condition(), value in number(), near in -2i64..3,
        ) {
            let clauses = Clause::alternatives(&[condition], |_| false);
            for value in [value, condition.value.wrapping_add_signed(near)] {
                let args = [value; 6];
                prop_assert_eq!(passes(&clauses, &args), condition.holds(&args), "{} {:#x}", condition, value);
            }
            prop_assert!(clauses.len() <= 64);
        }

        #[test]
        fn a_narrow_cover_is_exact_below_and_empty_above(
            condition in condition(), low in any::<u32>(), high in 1u64..4,
        ) {
            prop_assume!(condition.value <= u64::from(u32::MAX) && condition.op != Operator::MaskedEq);
            let clauses = Clause::alternatives(&[condition], |_| true);
            let args = [u64::from(low); 6];
            prop_assert_eq!(passes(&clauses, &args), condition.holds(&args));
            prop_assert!(!passes(&clauses, &[u64::from(low) | high << 32; 6]));
        }

        #[test]
        fn conjunction_and_simplification_change_nothing(
            one in condition(), other in condition(), x in number(), y in number(),
        ) {
            let args = [x, y, 0, 0, 0, 0];
            let left = Clause::alternatives(&[one], |_| false);
            let right = Clause::alternatives(&[other], |_| false);
            let both: BTreeSet<Clause> =
                left.iter().flat_map(|a| right.iter().filter_map(|b| a.and(b))).collect();
            prop_assert_eq!(passes(&both, &args), one.holds(&args) && other.holds(&args));
            let either = left.into_iter().chain(right).map(|clause| (clause, BTreeSet::from([()]))).collect();
            let simple: BTreeSet<Clause> = simplify(either).into_keys().collect();
            prop_assert_eq!(passes(&simple, &args), one.holds(&args) || other.holds(&args));
        }
    }
}
