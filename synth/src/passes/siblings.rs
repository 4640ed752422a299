//! siblings: what was not observed and is needed all the same, from `profiles/knowledge/siblings.toml`.

use std::collections::BTreeSet;

use trace::Abi;

use crate::{
    clause::Clause,
    evidence::Reason,
    knowledge::{self, Class},
    rules::Rules,
    synthesize::Margin,
};

/// Adds what every program needs and what replaces a call that is never allowed; with a margin, also what other
/// kernels, machines and C libraries call instead of what was observed.
pub(crate) fn siblings(mut rules: Rules, margin: Margin, abis: &BTreeSet<Abi>) -> Rules {
    let table = knowledge::siblings();
    let exists = |name: &str, abis: &BTreeSet<Abi>| abis.iter().any(|abi| abi.number(name).is_some());
    for needed in &table.always {
        for name in needed.names.iter().filter(|name| exists(name, abis)) {
            rules.allow(name, Clause::default(), Reason::Always { why: needed.why.clone() });
        }
    }
    for fallback in &table.fallback {
        if rules.allowed.contains_key(&fallback.from) {
            let reason = Reason::Fallback { of: fallback.from.clone(), why: fallback.why.clone() };
            for clause in Clause::alternatives(&[fallback.limit.0], |_| false) {
                rules.allow(&fallback.to, clause, reason.clone());
            }
        }
    }
    if margin == Margin::None {
        return rules;
    }
    for needed in &table.portable {
        for name in needed.names.iter().filter(|name| exists(name, abis)) {
            rules.allow(name, Clause::default(), Reason::Portable { why: needed.why.clone() });
        }
    }
    for class in &table.class {
        let (of, of_abis) = observed_members(&rules, class);
        if of.is_empty() {
            continue;
        }
        let reason = Reason::Sibling { of: of.clone(), class: class.name.clone(), why: class.why.clone() };
        for name in class.names.iter().filter(|name| !of.contains(*name) && exists(name, &of_abis)) {
            let limit: Vec<_> = class.limit.get(name).iter().map(|limit| limit.0).collect();
            for clause in Clause::alternatives(&limit, |_| false) {
                rules.allow(name, clause, reason.clone());
            }
        }
    }
    rules
}

/// The members of a class for which there is evidence, and in which ABIs. A fallback stands for its original.
fn observed_members(rules: &Rules, class: &Class) -> (BTreeSet<String>, BTreeSet<Abi>) {
    let mut of = BTreeSet::new();
    let mut abis = BTreeSet::new();
    for name in class.from.as_ref().unwrap_or(&class.names).iter() {
        let seen = rules.observed_abis(name);
        if !seen.is_empty() {
            of.insert(name.to_owned());
            abis.extend(seen);
        }
    }
    (of, abis)
}
