//! What the pictures show: how many calls are open by what they can be used for, and which phases need which calls.

use std::collections::{BTreeMap, BTreeSet};

use trace::{Abi, PhaseName};

use super::{
    model::{PhaseGroup, Rule, SurfaceClass},
    open::Open,
};
use crate::catalogue::{Risk, catalogue};

/// The classes, those that ask for most attention first.
pub(super) fn surface(native: Abi, open: &Open, there: &Open) -> Vec<SurfaceClass> {
    let names = names(native);
    let class = |risk: Risk| {
        let of_class = |name: &str| catalogue(name).is_some_and(|own| own.risk == risk);
        let own: Vec<(&str, bool)> = open.iter().filter(|(name, _)| of_class(name)).collect();
        SurfaceClass {
            risk,
            meaning: risk.meaning().to_owned(),
            known: names.iter().filter(|name| of_class(name)).count(),
            against: there.iter().filter(|(name, _)| of_class(name)).count(),
            always: own.iter().filter(|(_, always)| *always).count(),
            conditional: own.iter().filter(|(_, always)| !always).count(),
            syscalls: own.iter().map(|(name, _)| (*name).to_owned()).collect(),
        }
    };
    Risk::ALL.into_iter().rev().map(class).collect()
}

/// The names of a machine's own ABI.
pub(super) fn names(native: Abi) -> BTreeSet<String> {
    native.numbers().map(|number| native.name(number).to_string()).collect()
}

/// The observed calls by the phases in which they were made: what only a start needs, then the others.
pub(super) fn phases(rules: &[Rule]) -> Vec<PhaseGroup> {
    let mut groups: BTreeMap<BTreeSet<PhaseName>, Vec<&Rule>> = BTreeMap::new();
    for rule in rules.iter().filter(|rule| !rule.phases.is_empty()) {
        groups.entry(rule.phases.clone()).or_default().push(rule);
    }
    let group = |(phases, mut own): (BTreeSet<PhaseName>, Vec<&Rule>)| {
        own.sort_by(|one, other| (other.risk, &one.syscall).cmp(&(one.risk, &other.syscall)));
        PhaseGroup {
            phases,
            notable: own.iter().filter(|rule| rule.risk > Some(Risk::Harmless)).count(),
            syscalls: own.into_iter().map(|rule| rule.syscall.clone()).collect(),
        }
    };
    let mut list: Vec<PhaseGroup> = groups.into_iter().map(group).collect();
    list.sort_by_key(|group| (group.phases.len(), group.phases.clone()));
    list
}
