//! What one trace shows and another does not. How often and when something happened is no difference; that it did is.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Abi, Arguments, Kept, Open, Outcome, Phase, PhaseName, Row, Trace, Values};

/// What two traces show differently.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference<'t> {
    /// The calls, by section, name and ABI.
    pub calls: Vec<CallDifference<'t>>,
    /// The opens of the GPU driver's files that only the new one has.
    pub opened: Vec<&'t Open>,
    /// Those that only the old one has.
    pub no_longer_opened: Vec<&'t Open>,
    /// The phases that only the new one covers.
    pub covered: BTreeSet<PhaseName>,
    /// The phases that only the old one covers.
    pub no_longer_covered: BTreeSet<PhaseName>,
}

/// A call that two traces show differently: at least one side is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallDifference<'t> {
    /// Where it stands: `syscalls`, `exec.syscalls`, `runtime.setup` or `runtime.start`.
    pub section: &'static str,
    /// The row in the old trace.
    pub old: Option<&'t Row>,
    /// The row in the new one.
    pub new: Option<&'t Row>,
    /// How it ended otherwise than before; empty unless both have it.
    pub turns: BTreeSet<Turn>,
    /// The arguments that were compared: those that both kept.
    pub kept: Vec<Kept>,
    /// The values of these that only the new one has.
    pub values: Vec<Values>,
    /// Those that only the old one has.
    pub no_longer: Vec<Values>,
    /// One of them has not all values, or not those of all arguments that the other one kept: there may be more
    /// differences than could be told.
    pub not_all_values: bool,
    /// The phases of both traces in which it is seen only in the new one.
    pub phases: BTreeSet<PhaseName>,
    /// Those in which it is seen only in the old one.
    pub no_longer_phases: BTreeSet<PhaseName>,
}

/// How calls ended otherwise than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Turn {
    /// It never succeeded, and now does.
    Succeeds,
    /// It succeeded, and never does now.
    Fails,
    /// A filter answers it in the kernel's place, which none did.
    Refused,
    /// A filter answered it in the kernel's place, and none does now.
    NotRefused,
}

impl Turn {
    /// As a sentence about the new trace.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeds => "now succeeds",
            Self::Fails => "no longer succeeds",
            Self::Refused => "now refused by a filter",
            Self::NotRefused => "no longer refused by a filter",
        }
    }
}

impl Difference<'_> {
    /// Whether both show the same calls, ended alike, with the same arguments in the same phases.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether something is known to differ. Where nothing is, and yet this is not empty, it could not be told.
    #[must_use]
    pub fn is_known(&self) -> bool {
        let calls: Vec<_> = self.calls.iter().filter(|call| call.is_known()).cloned().collect();
        !Self { calls, ..self.clone() }.is_empty()
    }
}

impl<'t> CallDifference<'t> {
    /// The row of the new trace, or else of the old one.
    #[must_use]
    pub fn row(&self) -> Option<&'t Row> {
        self.new.or(self.old)
    }

    /// Whether something about it is known to differ.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.old.is_none()
            || self.new.is_none()
            || !self.turns.is_empty()
            || !self.values.is_empty()
            || !self.no_longer.is_empty()
            || !self.phases.is_empty()
            || !self.no_longer_phases.is_empty()
    }
}

/// What `new` shows otherwise than `old`.
#[must_use]
pub fn difference<'t>(old: &'t Trace, new: &'t Trace) -> Difference<'t> {
    let phases = |trace: &Trace| -> BTreeSet<PhaseName> {
        trace.phases.iter().map(|Phase { name, .. }| *name).collect()
    };
    let (old_phases, new_phases) = (phases(old), phases(new));
    let both: BTreeSet<PhaseName> = old_phases.intersection(&new_phases).copied().collect();
    let mut calls = Vec::new();
    for (key, pair) in paired(rows(old), rows(new)) {
        calls.extend(compared(key.0, pair, &both));
    }
    let opens = |trace: &'t Trace| trace.opens.iter().map(|open| (open.path.as_str(), open)).collect();
    let opens = paired(opens(old), opens(new)).into_values();
    let only = |pair: &(Option<&'t Open>, Option<&'t Open>)| match *pair {
        (None, Some(open)) => Some((true, open)),
        (Some(open), None) => Some((false, open)),
        _ => None,
    };
    let (opened, no_longer): (Vec<_>, Vec<_>) =
        opens.filter_map(|pair| only(&pair)).partition(|(is_new, _)| *is_new);
    let of = |list: Vec<(bool, &'t Open)>| list.into_iter().map(|(_, open)| open).collect();
    Difference {
        calls,
        opened: of(opened),
        no_longer_opened: of(no_longer),
        covered: new_phases.difference(&old_phases).copied().collect(),
        no_longer_covered: old_phases.difference(&new_phases).copied().collect(),
    }
}

/// By what rows are found in another trace: section, name, ABI and number.
type Key<'t> = (&'static str, &'t str, Abi, u32);

fn rows(trace: &Trace) -> BTreeMap<Key<'_>, &Row> {
    let rows =
        trace.sections().into_iter().flat_map(|(section, rows)| rows.iter().map(move |row| (section, row)));
    rows.map(|(section, row)| ((section, row.name.as_str(), row.abi, row.number), row)).collect()
}

/// What either has under each key.
fn paired<K: Ord, V>(old: BTreeMap<K, V>, new: BTreeMap<K, V>) -> BTreeMap<K, (Option<V>, Option<V>)> {
    let mut pairs: BTreeMap<K, (Option<V>, Option<V>)> =
        old.into_iter().map(|(key, value)| (key, (Some(value), None))).collect();
    for (key, value) in new {
        pairs.entry(key).or_insert((None, None)).1 = Some(value);
    }
    pairs
}

/// The difference of two rows; none if there is none.
fn compared<'t>(
    section: &'static str,
    (old, new): (Option<&'t Row>, Option<&'t Row>),
    covered: &BTreeSet<PhaseName>,
) -> Option<CallDifference<'t>> {
    let mut found = CallDifference {
        section,
        old,
        new,
        turns: BTreeSet::new(),
        kept: Vec::new(),
        values: Vec::new(),
        no_longer: Vec::new(),
        not_all_values: false,
        phases: BTreeSet::new(),
        no_longer_phases: BTreeSet::new(),
    };
    let (Some(old), Some(new)) = (old, new) else { return Some(found) };
    // The very same recording, whatever it does not have.
    if old == new {
        return None;
    }
    found.turns = turns(old, new);
    let only = |one: &Row, other: &Row| -> BTreeSet<PhaseName> {
        one.phases.difference(&other.phases).copied().filter(|phase| covered.contains(phase)).collect()
    };
    found.phases = only(new, old);
    found.no_longer_phases = only(old, new);
    match (&old.arguments, &new.arguments) {
        (Some(old), Some(new)) => by_arguments(old, new, &mut found),
        (None, None) => {}
        // What only a filter answered has no arguments to compare.
        (Some(arguments), None) => found.not_all_values = new.calls > 0 && !arguments.kept.is_empty(),
        (None, Some(arguments)) => found.not_all_values = old.calls > 0 && !arguments.kept.is_empty(),
    }
    (found.is_known() || found.not_all_values).then_some(found)
}

/// The difference of two rows by their arguments, as far as both kept them.
fn by_arguments(old: &Arguments, new: &Arguments, found: &mut CallDifference<'_>) {
    found.kept = old.kept.iter().filter_map(|own| own.within(&new.kept)).collect();
    let has_all = |arguments: &Arguments| !arguments.wide && arguments.beyond == 0 && arguments.unread == 0;
    let is_kept = |arguments: &Arguments| arguments.kept == found.kept;
    found.not_all_values =
        ![old, new].into_iter().all(|own| is_kept(own) && (own.kept.is_empty() || has_all(own)));
    if found.kept.is_empty() {
        return;
    }
    let narrowed = |own: &Arguments| Arguments::of(found.kept.clone(), own.narrowed_to(&found.kept)).values;
    let (before, now) = (narrowed(old), narrowed(new));
    let missing = |one: &[Values], other: &[Values]| -> Vec<Values> {
        let keys: BTreeSet<_> = other.iter().map(Values::key).collect();
        one.iter().filter(|values| !keys.contains(&values.key())).cloned().collect()
    };
    found.values = if has_all(old) { missing(&now, &before) } else { Vec::new() };
    found.no_longer = if has_all(new) { missing(&before, &now) } else { Vec::new() };
}

fn turns(old: &Row, new: &Row) -> BTreeSet<Turn> {
    let mut turns = BTreeSet::new();
    match (old.denied > 0, new.denied > 0) {
        (false, true) => _ = turns.insert(Turn::Refused),
        (true, false) => _ = turns.insert(Turn::NotRefused),
        _ => {}
    }
    // How it ended is not known of every call that `notify` saw.
    if ![old, new].into_iter().any(|row| row.outcomes.contains_key(&Outcome::Unknown)) {
        match (old.succeeded(), new.succeeded()) {
            (false, true) => _ = turns.insert(Turn::Succeeds),
            (true, false) => _ = turns.insert(Turn::Fails),
            _ => {}
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Errno,
        arguments::tests::{kept, values, with_arguments},
        io::tests::{row, runtime, trace},
        merge::tests::any_trace,
    };

    proptest! {
        /// Nothing differs from itself, and two differ from either side, in the same calls.
        #[test]
        fn a_difference_is_one_from_both_sides(a in any_trace(), b in any_trace()) {
            prop_assert!(difference(&a, &a).is_empty());
            let (there, back) = (difference(&a, &b), difference(&b, &a));
            prop_assert_eq!(there.is_empty(), back.is_empty());
            let calls = |difference: &Difference<'_>| -> Vec<(&'static str, Abi, String)> {
                let key = |call: &CallDifference<'_>| {
                    let row = call.row().unwrap();
                    (call.section, row.abi, row.name.clone())
                };
                difference.calls.iter().map(key).collect()
            };
            prop_assert_eq!(calls(&there), calls(&back));
        }
    }

    fn names<'t>(difference: &Difference<'t>) -> Vec<(&'static str, &'t str, bool, bool)> {
        let one = |call: &CallDifference<'t>| {
            (call.section, call.row().unwrap().name.as_str(), call.old.is_some(), call.new.is_some())
        };
        difference.calls.iter().map(one).collect()
    }

    #[test]
    fn what_is_new_and_what_is_gone_in_every_section() {
        let mut old = trace(vec![row(0, 1), row(39, 1)]);
        let mut new = trace(vec![row(0, 9), row(41, 1)]);
        new.recorder.duration_ms = 77;
        assert!(difference(&old, &old).is_empty());
        old.runtime = Some(runtime(1, 2));
        new.runtime = Some(runtime(1, 3));
        let found = difference(&old, &new);
        assert_eq!(
            names(&found),
            [
                ("runtime.start", "close", false, true),
                ("runtime.start", "open", true, false),
                ("syscalls", "getpid", true, false),
                ("syscalls", "socket", false, true)
            ]
        );
    }

    #[test]
    fn how_calls_end_and_in_which_phase() {
        let refused = |row: &mut Row| {
            row.denied = 1;
            row.refusals = BTreeMap::from([(Outcome::Error(Errno::EPERM), 1)]);
        };
        let failed =
            |row: &mut Row| row.outcomes = BTreeMap::from([(Outcome::Error(Errno::ENOSYS), row.calls)]);
        let check = |old: fn(&mut Row), new: &dyn Fn(&mut Row), there: &[Turn], back: &[Turn]| {
            let (mut one, mut other) = (row(39, 2), row(39, 2));
            old(&mut one);
            new(&mut other);
            assert_eq!(turns(&one, &other).into_iter().collect::<Vec<_>>(), there);
            assert_eq!(turns(&other, &one).into_iter().collect::<Vec<_>>(), back);
        };
        check(|_| (), &|_| (), &[], &[]);
        check(|_| (), &failed, &[Turn::Fails], &[Turn::Succeeds]);
        check(|_| (), &refused, &[Turn::Refused], &[Turn::NotRefused]);
        check(
            |_| (),
            &|row| {
                refused(row);
                (row.calls, row.outcomes) = (0, BTreeMap::new());
            },
            &[Turn::Fails, Turn::Refused],
            &[Turn::Succeeds, Turn::NotRefused],
        );
        check(|row| row.outcomes = BTreeMap::from([(Outcome::Unknown, 2)]), &failed, &[], &[]);
        let old = trace(vec![row(39, 1)]);
        let mut new = old.clone();
        new.syscalls[0].phases.insert(PhaseName::Serving);
        // A phase that was not recorded before shows nothing new.
        assert!(difference(&old, &new).is_empty());
        new.phases.push(Phase { name: PhaseName::Serving, from_ms: 3 });
        let found = difference(&old, &new);
        assert!(found.calls.is_empty());
        assert_eq!(found.covered, BTreeSet::from([PhaseName::Serving]));
        let mut old = old.clone();
        old.phases.push(Phase { name: PhaseName::Serving, from_ms: 3 });
        assert_eq!(difference(&old, &new).calls[0].phases, BTreeSet::from([PhaseName::Serving]));
        assert_eq!(difference(&new, &old).calls[0].no_longer_phases, BTreeSet::from([PhaseName::Serving]));
    }

    #[test]
    fn values_are_compared_as_far_as_both_kept_them() {
        let of = |kept: &[Kept], all: &[&[u64]]| {
            let arguments = Arguments::of(kept.to_vec(), all.iter().map(|one| values(one, 1)));
            trace(vec![with_arguments(41, Some(arguments))])
        };
        let both = [kept(0, "domain", 0xff), kept(1, "type", 0xff)];
        let old = of(&both, &[&[1, 1], &[2, 1]]);
        let new = of(&both, &[&[1, 1], &[2, 5], &[16, 3]]);
        let found = difference(&old, &new);
        let seen = |values: &[Values]| values.iter().map(|one| one.arguments.clone()).collect::<Vec<_>>();
        assert_eq!(seen(&found.calls[0].values), [[2, 5], [16, 3]]);
        assert_eq!(seen(&found.calls[0].no_longer), [[2, 1]]);
        // Only the family, and only its lowest bits, are in both.
        let narrow = of(&[kept(0, "domain", 0x3)], &[&[1], &[2], &[3]]);
        let found = difference(&old, &narrow);
        assert_eq!((seen(&found.calls[0].values), seen(&found.calls[0].no_longer)), (vec![vec![3]], vec![]));
        // What the old one lost may have been anything.
        let mut wide = old.clone();
        let row = &mut wide.syscalls[0];
        let arguments = row.arguments.as_mut().unwrap();
        (arguments.wide, arguments.beyond) = (true, 1);
        let found = difference(&wide, &new);
        assert!(found.calls[0].values.is_empty() && found.calls[0].not_all_values);
        assert_eq!(seen(&found.calls[0].no_longer), [[2, 1]]);
    }

    /// What could not be told is no "no difference".
    #[test]
    fn what_was_not_kept_is_never_the_same() {
        let of = |arguments: Option<Arguments>| trace(vec![with_arguments(16, arguments)]);
        let all = |mask, requests: &[u64]| {
            Arguments::of(vec![kept(1, "cmd", mask)], requests.iter().map(|own| values(&[*own], 1)))
        };
        let whole = of(Some(all(0xffff_ffff, &[0x5401])));
        let mut wide = of(Some(all(0xffff_ffff, &[0x5401])));
        let arguments = wide.syscalls[0].arguments.as_mut().unwrap();
        (arguments.wide, arguments.beyond) = (true, 3);
        let more = of(Some(all(0xffff_ffff, &[0x5401, 0x5412])));
        // TIOCSTI may be among those beyond; fewer bits say less; none say nothing.
        for (old, new) in [(&wide, &more), (&whole, &of(Some(all(0xff, &[0x01])))), (&whole, &of(None))] {
            for (old, new) in [(old, new), (new, old)] {
                let found = difference(old, new);
                assert!(!found.is_empty() && found.calls[0].not_all_values, "{found:?}");
                assert!(!found.is_known(), "{found:?}");
            }
            assert!(difference(old, old).is_empty() && difference(new, new).is_empty());
        }
        assert!(difference(&whole, &more).is_known() && !difference(&whole, &more).calls[0].not_all_values);
    }

    #[test]
    fn opens_of_the_driver_s_files() {
        let open = |path: &str| Open {
            path: path.to_owned(),
            calls: 1,
            outcomes: BTreeMap::from([(Outcome::Ok, 1)]),
            runs: 1,
            first: row(2, 1).first,
        };
        let with = |paths: &[&str]| {
            let mut trace = trace(vec![row(2, 1)]);
            trace.opens = paths.iter().map(|path| open(path)).collect();
            trace
        };
        let (old, new) = (with(&["/dev/nvidia0", "/dev/nvidiactl"]), with(&["/dev/nvidia0", "/dev/nvidia1"]));
        let found = difference(&old, &new);
        assert_eq!(found.opened, [&new.opens[1]]);
        assert_eq!(found.no_longer_opened, [&old.opens[1]]);
        assert!(!found.is_empty());
    }
}
