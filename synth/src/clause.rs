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
    /// Bits of the value outside the mask are cleared, as libseccomp does.
    pub(crate) const fn new(mask: u64, value: u64) -> Self {
        Self { mask, value: value & mask }
    }

    /// The bits that are tested.
    pub(crate) const fn mask(self) -> u64 {
        self.mask
    }

    /// What the argument is, as far as it is tested.
    pub(crate) const fn value(self) -> u64 {
        self.value
    }

    /// The same, of the bits in `mask` only.
    pub(crate) const fn within(self, mask: u64) -> Self {
        Self::new(self.mask & mask, self.value)
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
    /// Tests on different arguments; one that holds always is none.
    pub(crate) fn of(tests: impl IntoIterator<Item = (u32, Test)>) -> Self {
        Self(tests.into_iter().filter(|(_, test)| test.mask != 0).collect())
    }

    /// The test on an argument.
    pub(crate) fn test(&self, index: u32) -> Option<Test> {
        self.0.get(&index).copied()
    }

    /// The tests, by argument.
    pub(crate) fn tests(&self) -> impl Iterator<Item = (u32, Test)> {
        self.0.iter().map(|(index, test)| (*index, *test))
    }

    /// Conditions on different arguments as clauses, alternatives of each other, that let through exactly the
    /// same. `narrow(index)` says that the kernel reads the argument as 32 bits: then an inequality is taken
    /// over the low half, with a zero upper half.
    pub(crate) fn alternatives(conditions: &[Condition], narrow: impl Fn(u32) -> bool) -> BTreeSet<Self> {
        let mut clauses = BTreeSet::from([Self::default()]);
        for condition in conditions {
            let tests = tests(condition, narrow(condition.index));
            let tests: Vec<Self> = tests.iter().map(|test| Self::of([(condition.index, *test)])).collect();
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

    /// The clauses that differ from this one in one bit of one value, each with the one that is both. A test of all
    /// 64 bits stays one: without some of them it would be a mask that signed numbers do not hold, as those of the
    /// security-profiles-operator are.
    fn neighbours(&self) -> impl Iterator<Item = (Self, Self)> {
        self.0.iter().flat_map(move |(&index, &test)| {
            let bits = (0..u64::BITS).map(|bit| 1 << bit);
            bits.filter(move |bit| test.mask & bit != 0 && test.mask != u64::MAX).map(move |bit| {
                let with = |test: Test| {
                    let mut tests = self.0.clone();
                    tests.insert(index, test);
                    Self::of(tests)
                };
                (with(Test::new(test.mask, test.value ^ bit)), with(Test::new(test.mask & !bit, test.value)))
            })
        })
    }

    /// What this lets through and the other does not, as clauses that exclude each other.
    pub(crate) fn without(&self, other: &Self) -> BTreeSet<Self> {
        if self.and(other).is_none() {
            return BTreeSet::from([self.clone()]);
        }
        let mut left = BTreeSet::new();
        // What meets the other's tests so far; of that, each bit in turn is what the other does not let through.
        let mut met = self.clone();
        for (&index, test) in &other.0 {
            // The highest first: what is left of a range is then the ranges on either side.
            for bit in (0..u64::BITS).rev().map(|bit| 1 << bit).filter(|bit| test.mask & bit != 0) {
                let with = |value| met.and(&Self::of(BTreeMap::from([(index, Test::new(bit, value))])));
                left.extend(with(!test.value & bit));
                let Some(joint) = with(test.value & bit) else { return left };
                met = joint;
            }
        }
        left
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
/// become one, if `kind` is the same of the reasons of both.
pub(crate) fn simplify<R: Clone + Ord>(
    clauses: BTreeMap<Clause, BTreeSet<R>>,
    kind: impl Fn(&BTreeSet<R>) -> bool,
) -> BTreeMap<Clause, BTreeSet<R>> {
    let mut clauses = clauses;
    loop {
        let before = clauses.len();
        drop_covered(&mut clauses);
        merge(&mut clauses, &kind);
        if clauses.len() == before {
            return clauses;
        }
    }
}

fn drop_covered<R: Ord>(clauses: &mut BTreeMap<Clause, BTreeSet<R>>) {
    let all: Vec<Clause> = clauses.keys().cloned().collect();
    for clause in &all {
        let cover = clauses.keys().find(|other| *other != clause && other.covers(clause)).cloned();
        if let Some(cover) = cover {
            let reasons = clauses.remove(clause).unwrap_or_default();
            clauses.entry(cover).or_default().extend(reasons);
        }
    }
}

fn merge<R: Ord>(clauses: &mut BTreeMap<Clause, BTreeSet<R>>, kind: &impl Fn(&BTreeSet<R>) -> bool) {
    let mut left: BTreeSet<Clause> = clauses.keys().cloned().collect();
    while let Some(clause) = left.pop_first() {
        let own = clauses.get(&clause).map(kind);
        let found = clause
            .neighbours()
            .find(|(other, _)| clauses.get(other).is_some_and(|other| Some(kind(other)) == own));
        let Some((other, both)) = found else { continue };
        let mut reasons = BTreeSet::new();
        for gone in [&clause, &other] {
            left.remove(gone);
            reasons.extend(clauses.remove(gone).unwrap_or_default());
        }
        clauses.entry(both.clone()).or_default().extend(reasons);
        left.insert(both);
    }
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
        fn a_difference_is_exact(
            one in condition(), other in condition(), third in condition(), x in number(), y in number(),
        ) {
            let clauses = Clause::alternatives(&[one], |_| false);
            let args = [x, y, 0, 0, 0, 0];
            // Of up to some thousands the first, and the one that the arguments meet.
            let all = Clause::alternatives(&[other, third], |_| false);
            let met = |clause: &&Clause| passes(&BTreeSet::from([(*clause).clone()]), &args);
            for taken in all.first().into_iter().chain(all.iter().find(met)) {
                let left: BTreeSet<Clause> = clauses.iter().flat_map(|clause| clause.without(taken)).collect();
                let takes = passes(&BTreeSet::from([taken.clone()]), &args);
                prop_assert_eq!(passes(&left, &args), one.holds(&args) && !takes);
            }
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
            let simple: BTreeSet<Clause> = simplify(either, |_| true).into_keys().collect();
            prop_assert_eq!(passes(&simple, &args), one.holds(&args) || other.holds(&args));
        }
    }
}
