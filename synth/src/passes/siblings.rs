//! siblings: what was not observed and is needed all the same, from `profiles/knowledge/siblings.toml`. Where rules
//! go by arguments, a call comes with the conditions of those that it stands for, and with what is harmless.

use std::collections::BTreeSet;

use trace::{Abi, Row};

use crate::{
    arguments::{ArgumentUse, arguments_of, rule_arguments},
    clause::{Clause, Test},
    evidence::Reason,
    knowledge::{self, Class, Fallback},
    passes::{
        arguments::{harmless_alone, widened},
        observe::Observed,
    },
    rules::Rules,
    synthesize::{ArgumentMode, Margin, Options},
};

/// Adds what every program needs and what replaces a call that is never allowed; with a margin, also what other
/// kernels, machines and C libraries call instead of what was observed. A probe stays refused.
pub(crate) fn siblings(
    mut rules: Rules,
    seen: Observed<'_>,
    options: &Options,
    abis: &BTreeSet<Abi>,
) -> Rules {
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
            for clause in instead(&rules, seen, fallback, options.arguments, abis) {
                rules.allow(&fallback.to, clause, reason.clone());
            }
        }
    }
    if options.margin == Margin::None {
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
        let missing = class.names.iter().filter(|name| !of.contains(*name) && exists(name, &of_abis));
        for name in missing.filter(|name| !rules.refused.contains_key(*name)).collect::<Vec<_>>() {
            let limit: Vec<_> = class.limit.get(name).iter().map(|limit| limit.0).collect();
            for limit in Clause::alternatives(&limit, |_| false) {
                for clause in conditions(&rules, name, &of, options.arguments, &of_abis) {
                    if let Some(clause) = clause.and(&limit) {
                        rules.allow(name, clause, reason.clone());
                    }
                }
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

/// Under which conditions a call stands for others: theirs, if its arguments have the same names, and what is
/// harmless. With exact rules the latter only where there are no others.
fn conditions(
    rules: &Rules,
    name: &str,
    of: &BTreeSet<String>,
    mode: ArgumentMode,
    abis: &BTreeSet<Abi>,
) -> BTreeSet<Clause> {
    if mode == ArgumentMode::Off || rule_arguments(name).is_empty() {
        return BTreeSet::from([Clause::default()]);
    }
    let carried = of.iter().flat_map(|original| carried(rules, original, name)).collect::<BTreeSet<_>>();
    if mode == ArgumentMode::Exact && !carried.is_empty() {
        return carried;
    }
    carried.into_iter().chain(abis.iter().flat_map(|abi| harmless(rules, *abi, name))).collect()
}

fn harmless(rules: &Rules, abi: Abi, name: &str) -> BTreeSet<Clause> {
    harmless_alone(rules, abi, name).into_iter().map(|(clause, _)| clause).collect()
}

/// The conditions of one call for another one whose arguments have the same names.
fn carried(rules: &Rules, original: &str, name: &str) -> BTreeSet<Clause> {
    let (from, to) = (rule_arguments(original), rule_arguments(name));
    let index = |from: &str| to.iter().find(|own| own.name == from).map(|own| (own.index, own.mask));
    let agree = from.len() == to.len() && from.iter().all(|own| index(&own.name).is_some());
    if !agree {
        return BTreeSet::new();
    }
    let moved = |clause: &Clause| {
        let test = |own: &&crate::arguments::Argument| {
            let (index, mask) = index(&own.name)?;
            Some((index, clause.test(own.index)?.within(mask)))
        };
        Clause::of(from.iter().filter_map(test))
    };
    rules.allowed.get(original).into_iter().flatten().map(|(clause, _)| moved(clause)).collect()
}

/// Under which conditions a call takes the place of one that is answered with `ENOSYS`: the flags that its struct
/// had, if they are known, and what is harmless; else anything within the limit.
fn instead(
    rules: &Rules,
    seen: Observed<'_>,
    fallback: &Fallback,
    mode: ArgumentMode,
    abis: &BTreeSet<Abi>,
) -> BTreeSet<Clause> {
    let limit = Clause::alternatives(&[fallback.limit.0], |_| false);
    let rows = || seen.rows().filter(|row| row.name == fallback.from && row.calls > 0);
    if mode == ArgumentMode::Off || rows().any(|row| row.arguments.is_none()) {
        return limit;
    }
    let mut clauses = BTreeSet::new();
    for (abi, clause) in rows().flat_map(|row| fields(row, &fallback.to)) {
        match mode {
            ArgumentMode::Exact => _ = clauses.insert(clause),
            _ => clauses.extend(widened(rules, abi, &fallback.to, &clause).into_iter().map(|(own, _)| own)),
        }
    }
    if mode == ArgumentMode::Stable || clauses.is_empty() {
        let harmless = abis.iter().flat_map(|abi| harmless(rules, *abi, &fallback.to));
        clauses.extend(harmless.filter_map(|own| limit.iter().find_map(|limit| own.and(limit))));
    }
    clauses
}

/// The fields of the struct that a call was made with, as the arguments of the one that takes its place.
fn fields(row: &Row, name: &str) -> Vec<(Abi, Clause)> {
    /// The lowest byte of clone's flags is the exit signal, which clone3 has in a field of its own: none for
    /// threads, SIGCHLD for processes (clone(2)).
    const EXIT_SIGNALS: [u64; 2] = [0, 17];
    let mut clauses = Vec::new();
    let Some(arguments) = &row.arguments else { return clauses };
    for target in arguments_of(name).filter(|own| own.usage == ArgumentUse::Rule) {
        let own = |kept: &trace::Kept| kept.offset.is_some() && kept.name == target.name;
        let Some(at) = arguments.kept.iter().position(own) else { continue };
        let values = arguments.values.iter().filter(|values| values.calls > 0);
        for value in values.filter_map(|values| values.arguments.get(at)) {
            let with = |signal| Clause::of([(target.index, Test::new(target.mask, value | signal))]);
            clauses.extend(EXIT_SIGNALS.map(|signal| (row.abi, with(signal))));
        }
    }
    clauses
}
