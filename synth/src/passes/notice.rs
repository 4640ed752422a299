//! notice: what the arguments of the observed calls tell a person, whatever becomes of them.

use std::collections::BTreeSet;

use trace::{Row, Values};

use crate::{
    arguments::{Argument, ArgumentKind, arguments_of, exclusive, rule_arguments},
    finding::Finding,
    passes::observe::Observed,
    rules::Rules,
    synthesize::ArgumentMode,
};

/// Adds what is found in the arguments, and where they are missing.
pub(crate) fn notice(mut rules: Rules, seen: Observed<'_>, mode: ArgumentMode) -> Rules {
    let mut without = BTreeSet::new();
    for row in seen.rows().filter(|row| row.calls > 0) {
        let tested = rule_arguments(&row.name);
        let kept = row.arguments.as_ref().map_or(&[][..], |arguments| &arguments.kept);
        let is_kept = |argument: &&Argument| kept.iter().any(|kept| argument.is(kept));
        if !tested.iter().all(is_kept) {
            without.insert(row.name.clone());
        }
        if mode != ArgumentMode::Off && tested.iter().any(is_kept) {
            rules.findings.extend(unknown(row));
        }
        rules.findings.extend(flags(row));
        rules.findings.extend(upper(row));
    }
    if mode != ArgumentMode::Off && !without.is_empty() {
        rules.findings.insert(Finding::WithoutArguments { syscalls: without });
    }
    rules
}

/// Calls whose arguments are not among those that were kept.
fn unknown(row: &Row) -> Option<Finding> {
    let arguments = row.arguments.as_ref()?;
    let beyond = arguments.beyond.saturating_add(arguments.unread);
    let is_wide = arguments.wide || beyond > 0;
    is_wide.then(|| Finding::Wide { syscall: row.name.clone(), abi: row.abi, beyond })
}

/// New namespaces, and memory that is writable and executable.
fn flags(row: &Row) -> Vec<Finding> {
    let Some(arguments) = &row.arguments else { return Vec::new() };
    let mut findings = Vec::new();
    for (at, kept) in arguments.kept.iter().enumerate() {
        let argument = arguments_of(&row.name).find(|argument| argument.is(kept));
        let Some(argument) = argument.filter(|own| own.kind != ArgumentKind::Descriptor) else { continue };
        let set = argument.sets(row.abi).next();
        let with = |wanted: &dyn Fn(u64) -> bool| {
            let of = |values: &&Values| values.arguments.get(at).is_some_and(|value| wanted(*value));
            arguments.values.iter().filter(of).map(|values| values.calls).fold(0, u64::saturating_add)
        };
        let both = exclusive(row.abi, &row.name, argument);
        let calls = with(&|value| both != 0 && value & both == both);
        if calls > 0 {
            findings.push(Finding::WritableExecutable { syscall: row.name.clone(), calls });
        }
        let namespaces = set.and_then(|set| set.group_mask("CLONE_NEW*")).unwrap_or_default();
        let calls = with(&|value| value & namespaces != 0);
        if let (Some(set), true) = (set, calls > 0) {
            let asked = arguments.values.iter().filter(|values| values.calls > 0);
            let asked = asked.filter_map(|values| values.arguments.get(at)).fold(0, |all, own| all | own);
            let flags = set.show(asked & namespaces);
            findings.push(Finding::NamespaceFlags { syscall: row.name.clone(), flags, calls });
        }
    }
    findings
}

/// Upper halves that the kernel does not read.
fn upper(row: &Row) -> Option<Finding> {
    let values = || row.arguments.iter().flat_map(|arguments| &arguments.values);
    let arguments: BTreeSet<String> = values().flat_map(|values| values.upper.iter().cloned()).collect();
    let with = values().filter(|values| !values.upper.is_empty()).map(|values| values.calls);
    let calls = with.fold(0, u64::saturating_add);
    (calls > 0).then(|| Finding::UpperHalf { syscall: row.name.clone(), arguments, calls })
}
