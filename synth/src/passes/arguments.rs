//! arguments: what was seen is widened to what does not matter, so that another input or another host finds its
//! calls allowed: flags that a call had may be missing, harmless ones may be there, and harmless values may take
//! the place of those that were seen. What the table calls exclusive is never united.

use std::collections::{BTreeMap, BTreeSet};

use trace::Abi;

use crate::{
    arguments::{ArgumentKind, Harmless, argument, exclusive, harmless, rule_arguments},
    clause::{Clause, Test},
    evidence::Reason,
    finding::Finding,
    rules::{Clauses, Rules},
    synthesize::ArgumentMode,
};

/// Widens the clauses of each call.
pub(crate) fn arguments(mut rules: Rules, mode: ArgumentMode) -> Rules {
    if mode != ArgumentMode::Stable {
        return rules;
    }
    let unknown: BTreeSet<(String, Abi)> = rules.findings.iter().filter_map(wide).collect();
    for (name, clauses) in std::mem::take(&mut rules.allowed) {
        // Of what is not known only the harmless part is allowed, below; what is known stands for nothing else.
        if unknown.iter().any(|(own, _)| *own == name) {
            rules.allowed.insert(name, clauses);
            continue;
        }
        let mut wider = Clauses::new();
        for (clause, reasons) in clauses {
            for reason in reasons {
                match reason.observed_abi().filter(|_| !clause.is_always()) {
                    Some(abi) => extend(&mut wider, widened(&rules, abi, &name, &clause), Some(&reason)),
                    None => _ = wider.entry(clause.clone()).or_default().insert(reason),
                }
            }
        }
        rules.allowed.insert(name, wider);
    }
    for (name, abi) in unknown {
        let harmless = harmless_alone(&rules, abi, &name);
        if !harmless.is_empty() {
            extend(rules.allowed.entry(name).or_default(), harmless, None);
        }
    }
    rules
}

fn wide(finding: &Finding) -> Option<(String, Abi)> {
    match finding {
        Finding::Wide { syscall, abi, .. } => Some((syscall.clone(), *abi)),
        _ => None,
    }
}

/// Takes the ways in, with their reasons; `observed` is that of the call that they come from.
fn extend(clauses: &mut Clauses, ways: Vec<(Clause, Way)>, observed: Option<&Reason>) {
    for (clause, way) in ways {
        let reasons = clauses.entry(clause).or_default();
        reasons.extend(observed.filter(|_| way.observed).cloned());
        reasons.extend(way.reasons());
    }
}

/// Why one way is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Way {
    /// Whether it lets the call through that it comes from.
    observed: bool,
    /// The harmless entries that took part in it.
    whys: BTreeSet<&'static str>,
}

impl Way {
    /// As reasons, the observation left aside.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = Reason> {
        self.whys.iter().map(|why| Reason::Harmless { why: (*why).to_owned() })
    }
}

/// What an argument may be: `value` with any of the bits in `free`, of the bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    mask: u64,
    value: u64,
    free: u64,
}

/// The arguments of a call that rules test; one that is missing may be anything.
type Parts = BTreeMap<u32, Part>;

/// What a call with these arguments stands for.
pub(crate) fn widened(rules: &Rules, abi: Abi, name: &str, clause: &Clause) -> Vec<(Clause, Way)> {
    let mut parts = Parts::new();
    for own in rule_arguments(name) {
        let Some(test) = clause.test(own.index) else { continue };
        let fields = match own.sets(abi).next() {
            Some(set) if own.kind == ArgumentKind::Flags => {
                set.fields().iter().fold(0, |mask, field| mask | field.mask)
            }
            // One of a list has no bits of its own.
            _ => u64::MAX,
        };
        let value = test.value() & fields;
        parts.insert(own.index, Part { mask: test.mask(), value, free: test.value() & !fields });
    }
    let start = Way { observed: true, whys: BTreeSet::new() };
    ways(rules, abi, name, parts, start).into_iter().map(|(parts, way)| (of(&parts), way)).collect()
}

/// What is harmless of a call of which nothing is known; empty if some argument has no harmless value.
pub(crate) fn harmless_alone(rules: &Rules, abi: Abi, name: &str) -> Vec<(Clause, Way)> {
    let tested = rule_arguments(name).len();
    let ways = ways(rules, abi, name, Parts::new(), Way::default());
    let complete = ways.into_iter().filter(|(parts, _)| tested > 0 && parts.len() == tested);
    complete.map(|(parts, way)| (of(&parts), way)).collect()
}

/// Applies the harmless entries one after the other, so that entries about different arguments combine.
fn ways(rules: &Rules, abi: Abi, name: &str, parts: Parts, start: Way) -> BTreeMap<Parts, Way> {
    let mut ways = BTreeMap::from([(parts, start)]);
    for entry in harmless(abi, name).iter().filter(|entry| is_seen(rules, name, entry)) {
        for (parts, way) in std::mem::take(&mut ways) {
            let mut with = way.clone();
            with.whys.insert(entry.why);
            // Where nothing is left of what was, neither are its reasons.
            let is_all = parts.keys().all(|index| entry.arguments.contains_key(index));
            let whys = if is_all { BTreeSet::from([entry.why]) } else { with.whys.clone() };
            for other in replaced(&parts, entry) {
                insert(&mut ways, other, Way { observed: false, whys: whys.clone() });
            }
            match united(&parts, entry, |index| exclusive_bits(abi, name, index)) {
                Some(united) if united != parts => insert(&mut ways, united, with),
                _ => insert(&mut ways, parts, way),
            }
        }
    }
    ways
}

fn insert(ways: &mut BTreeMap<Parts, Way>, parts: Parts, way: Way) {
    let own = ways.entry(parts).or_default();
    own.observed |= way.observed;
    own.whys.extend(way.whys);
}

/// Whether a call was seen that the entry asks for.
fn is_seen(rules: &Rules, name: &str, entry: &Harmless<'_>) -> bool {
    let seen = rules.seen.get(name);
    let meets = |clause: &Clause| {
        let has = |(index, values): (&u32, &Vec<u64>)| {
            clause.test(*index).is_some_and(|test| values.contains(&test.value()))
        };
        entry.seen.iter().all(has)
    };
    entry.seen.is_empty() || seen.is_some_and(|seen| seen.keys().any(meets))
}

fn exclusive_bits(abi: Abi, name: &str, index: u32) -> u64 {
    argument(name, index).map_or(0, |argument| exclusive(abi, name, argument))
}

/// The entry's values in the place of those that the arguments had; each of its values one way.
fn replaced(parts: &Parts, entry: &Harmless<'_>) -> Vec<Parts> {
    let mut ways = vec![parts.clone()];
    for (index, allowed) in &entry.arguments {
        let with = |parts: &Parts, value: &u64| {
            let mut parts = parts.clone();
            let part = Part { mask: allowed.mask, value: value & allowed.mask, free: allowed.bits };
            parts.insert(*index, part);
            parts
        };
        ways = ways
            .iter()
            .flat_map(|parts| allowed.values.iter().map(|value| with(parts, value)).collect::<Vec<_>>())
            .collect();
    }
    ways
}

/// The entry's bits beside those that the arguments had, where the rest of them is one of the entry's values.
fn united(parts: &Parts, entry: &Harmless<'_>, exclusive: impl Fn(u32) -> u64) -> Option<Parts> {
    let mut parts = parts.clone();
    for (index, allowed) in &entry.arguments {
        let part = parts.get_mut(index)?;
        if !allowed.values.contains(&part.value) {
            return None;
        }
        let exclusive = exclusive(*index);
        let mut bits = allowed.bits;
        if (part.free | bits) & exclusive == exclusive {
            bits &= !(exclusive & !part.free);
        }
        part.free |= bits;
    }
    Some(parts)
}

fn of(parts: &Parts) -> Clause {
    Clause::of(parts.iter().map(|(index, part)| (*index, Test::new(part.mask & !part.free, part.value))))
}
