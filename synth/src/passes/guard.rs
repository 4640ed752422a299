//! guard: no profile is wider than its ceiling. Every rule is intersected with the ceiling's rules, argument
//! conditions included; clone3 is never allowed, whatever the ceiling, because its flags are behind a pointer.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    arguments,
    clause::Clause,
    decode,
    evidence::Reason,
    finding::Finding,
    passes::observe::{Observed, tuples},
    profile::{Action, Profile},
    rules::{Clauses, Rules},
    synthesize::SynthError,
};

/// What is answered with `ENOSYS` always: the flags, new namespaces among them, are behind a pointer.
const NEVER: &str = "clone3";

/// Intersects the rules with the ceiling.
///
/// # Errors
/// The ceiling allows by default, so that it bounds nothing.
pub(crate) fn guard(
    mut rules: Rules,
    ceiling: Option<&Profile>,
    seen: Observed<'_>,
) -> Result<Rules, SynthError> {
    if rules.allowed.remove(NEVER).is_some() {
        let (calls, _) = calls(seen, NEVER);
        rules.findings.insert(Finding::AnsweredEnosys { syscall: NEVER.to_owned(), calls });
    }
    let Some(ceiling) = ceiling else { return Ok(rules) };
    if ceiling.default_action.executes() {
        return Err(SynthError::CeilingAllowsByDefault);
    }
    let ceiling = allowed(ceiling);
    for (name, clauses) in std::mem::take(&mut rules.allowed) {
        let bounded = match ceiling.get(name.as_str()) {
            Some(bounds) => intersect(&clauses, bounds, &Seen::new(&rules, seen, &name)),
            None => Clauses::new(),
        };
        let observed = clauses.values().flatten().any(|reason| reason.observed_abi().is_some());
        if bounded.is_empty() {
            let (calls, succeeded) = calls(seen, &name);
            // Where it lets through others, it is the arguments that are above.
            let arguments = ceiling.get(name.as_str()).and_then(|_| above(&rules, seen, &name, &bounded));
            let of_all = |own: &Finding| matches!(own, Finding::ArgumentsAboveCeiling { calls: some, .. } if *some == calls);
            rules.findings.insert(match arguments.filter(of_all) {
                _ if !observed => Finding::MarginAboveCeiling { syscall: name },
                Some(arguments) => arguments,
                None => Finding::AboveCeiling { syscall: name, calls, succeeded },
            });
            continue;
        }
        rules.findings.extend(above(&rules, seen, &name, &bounded));
        if observed && clauses.keys().any(Clause::is_always) {
            rules.findings.extend(narrowed(&name, &bounded));
        }
        rules.allowed.insert(name, bounded);
    }
    Ok(rules)
}

/// What the ceiling lets through, by name. Entries that refuse are left aside: an unconditional refusal of a
/// name that is also allowed does not count for libseccomp either, and a conditional one stands in the shipped
/// ceilings only where the allowing entries already leave its case out.
pub(crate) fn allowed(ceiling: &Profile) -> BTreeMap<&str, BTreeSet<Clause>> {
    let mut allowed: BTreeMap<&str, BTreeSet<Clause>> = BTreeMap::new();
    for entry in ceiling.syscalls.iter().filter(|entry| entry.action.executes()) {
        for name in &entry.names {
            let narrow = |index| arguments::is_narrow(name, index);
            allowed.entry(name).or_default().extend(Clause::of_entry(&entry.args, narrow));
        }
    }
    let refused =
        ceiling.syscalls.iter().filter(|entry| entry.action != Action::Allow && entry.args.is_empty());
    for name in refused.filter(|entry| !entry.action.executes()).flat_map(|entry| &entry.names) {
        // Refused always: only what is allowed always is stronger.
        if !allowed.get(name.as_str()).is_some_and(|clauses| clauses.iter().any(Clause::is_always)) {
            allowed.remove(name.as_str());
        }
    }
    allowed
}

/// What both let through. Where the calls that a clause comes from are above the ceiling, what is left of it stands for
/// nothing that was seen, and goes with them. Where all calls are, so does what is harmless beside them, and what is left
/// of the call where no rule tests its arguments.
fn intersect(clauses: &Clauses, bounds: &BTreeSet<Clause>, seen: &Seen<'_>) -> Clauses {
    let is_above = seen.is_all && !bounds.iter().any(|bound| seen.may_meet(bound));
    let of_calls = |own: &Reason| matches!(own, Reason::Observed { .. } | Reason::ExecSession { .. });
    let of_these = |own: &Reason| of_calls(own) || matches!(own, Reason::Harmless { .. });
    let mut both: BTreeMap<Clause, BTreeSet<Reason>> = BTreeMap::new();
    for (clause, reasons) in clauses {
        if is_above && reasons.iter().all(of_these) {
            continue;
        }
        let is_observed = !clause.is_always() && reasons.iter().all(of_calls);
        for joint in bounds.iter().filter_map(|bound| clause.and(bound)) {
            if !is_observed || seen.may_meet(&joint) {
                both.entry(joint).or_default().extend(reasons.iter().cloned());
            }
        }
    }
    both
}

/// The arguments with which a call was seen.
struct Seen<'r> {
    /// None where they were not recorded.
    clauses: Option<&'r BTreeMap<Clause, u64>>,
    /// Whether these are all that there were.
    is_all: bool,
}

impl<'r> Seen<'r> {
    fn new(rules: &'r Rules, seen: Observed<'_>, name: &str) -> Self {
        let is_all = |row: &trace::Row| {
            let arguments = row.arguments.as_ref();
            arguments.is_some_and(|own| !own.wide && own.beyond == 0 && own.unread == 0)
                && tuples(row).is_some()
        };
        Self {
            clauses: rules.seen.get(name),
            is_all: seen.rows().filter(|row| row.name == name && row.calls > 0).all(is_all),
        }
    }

    /// Whether a call may have been seen that the clause lets through.
    fn may_meet(&self, clause: &Clause) -> bool {
        self.clauses.is_none_or(|seen| seen.keys().any(|own| clause.and(own).is_some()))
    }
}

/// Under which conditions a call is allowed of which it is not known whether it meets them; none where it always is.
pub(crate) fn narrowed(name: &str, allowed: &Clauses) -> Option<Finding> {
    if allowed.keys().any(Clause::is_always) {
        return None;
    }
    let when = allowed.keys().map(|clause| crate::display_conditions(&clause.conditions())).collect();
    Some(Finding::Narrowed { syscall: name.to_owned(), when })
}

/// The arguments with which a call was seen and which none of the clauses lets through.
pub(crate) fn above(rules: &Rules, seen: Observed<'_>, name: &str, allowed: &Clauses) -> Option<Finding> {
    let is_refused = |own: &Clause| !allowed.keys().any(|clause| clause.and(own).is_some());
    let refused = rules.seen.get(name)?.iter().filter(|(own, _)| is_refused(own));
    let abi = seen.rows().find(|row| row.name == name)?.abi;
    let mut arguments = BTreeSet::new();
    let mut calls: u64 = 0;
    for (clause, own) in refused {
        arguments.insert(decode::conditions(abi, name, &clause.conditions()));
        calls = calls.saturating_add(*own);
    }
    (calls > 0).then(|| Finding::ArgumentsAboveCeiling { syscall: name.to_owned(), arguments, calls })
}

/// How often a call was made, in all ABIs, and whether it succeeded.
pub(crate) fn calls(seen: Observed<'_>, name: &str) -> (u64, bool) {
    let rows = || seen.rows().filter(|row| row.name == name);
    (rows().map(|row| row.calls).fold(0, u64::saturating_add), rows().any(trace::Row::succeeded))
}
