//! decide: what a reviewer decided, after everything else: `allow` also lets through what the ceiling removed,
//! `deny` takes away exactly what it says, `accept` turns what was found into something known.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    arguments,
    clause::{Clause, Test},
    condition::display_conditions,
    decision::{Date, Decision, Verdict},
    evidence::Reason,
    finding::{Finding, Level},
    passes::{guard, observe::Observed},
    rules::{Clauses, Rules},
};

/// Applies the decisions; one that allows or accepts counts until it expires, one that denies for good.
pub(crate) fn decide(
    mut rules: Rules,
    seen: Observed<'_>,
    decisions: &[Decision],
    today: Option<Date>,
) -> Rules {
    for decision in decisions.iter().filter(|own| own.verdict == Verdict::Allow && !own.is_over(today)) {
        for clause in clauses(decision) {
            let Decision { owner, reason, expires, .. } = decision.clone();
            rules.allow(&decision.syscall, clause, Reason::Decision { owner, reason, expires });
        }
    }
    let found = std::mem::take(&mut rules.findings);
    rules.findings = found.into_iter().flat_map(|finding| settled(&rules, seen, finding)).collect();
    for decision in decisions.iter().filter(|own| own.verdict == Verdict::Deny) {
        let denied = clauses(decision);
        let named = if denied.iter().any(Clause::is_always) {
            guard::calls(seen, &decision.syscall).0
        } else {
            denied
                .iter()
                .map(|clause| rules.seen_within(&decision.syscall, clause))
                .fold(0, u64::saturating_add)
        };
        if let Some(allowed) = rules.allowed.remove(&decision.syscall) {
            let left = denied.iter().fold(allowed, without);
            if !left.is_empty() {
                rules.allowed.insert(decision.syscall.clone(), left);
            }
        }
        rules.findings.insert(Finding::Denied {
            syscall: decision.syscall.clone(),
            when: display_conditions(&decision.when),
            calls: named,
        });
    }
    rules
}

/// What is left of a finding about the ceiling where decisions let the call through.
fn settled(rules: &Rules, seen: Observed<'_>, finding: Finding) -> Vec<Finding> {
    // How often it was called, where that is what the finding is about.
    let (name, all) = match &finding {
        Finding::AboveCeiling { syscall, calls, .. } => (syscall, Some(*calls)),
        Finding::ArgumentsAboveCeiling { syscall, .. }
        | Finding::Narrowed { syscall, .. }
        | Finding::MarginAboveCeiling { syscall } => (syscall, None),
        _ => return vec![finding],
    };
    let Some(allowed) = rules.allowed.get(name) else { return vec![finding] };
    let is_decision = |own: &Reason| matches!(own, Reason::Decision { .. });
    let decided: Vec<&Clause> = allowed
        .iter()
        .filter_map(|(clause, reasons)| reasons.iter().any(is_decision).then_some(clause))
        .collect();
    if decided.is_empty() {
        return vec![finding];
    }
    let narrowed = guard::narrowed(name, allowed);
    match finding {
        Finding::MarginAboveCeiling { .. } => return Vec::new(),
        Finding::Narrowed { .. } => return narrowed.into_iter().collect(),
        _ if narrowed.is_none() => return Vec::new(),
        _ => {}
    }
    let left = guard::above(rules, seen, name, allowed);
    if matches!(&left, Some(Finding::ArgumentsAboveCeiling { calls, .. }) if Some(*calls) == all) {
        return vec![finding];
    }
    let known = || rules.seen.get(name).into_iter().flatten();
    let number = known().map(|(_, calls)| *calls).fold(0, u64::saturating_add);
    // What the decisions go by may not be among what was recorded.
    let is_open = |(own, _): (&Clause, &u64)| {
        decided.iter().any(|clause| clause.and(own).is_some())
            && !decided.iter().any(|clause| clause.covers(own))
    };
    let is_open = all.is_some_and(|all| all == 0 || number < all) || known().any(is_open);
    left.into_iter().chain(narrowed.filter(|_| is_open)).collect()
}

fn without(allowed: Clauses, denied: &Clause) -> Clauses {
    let mut left: BTreeMap<Clause, BTreeSet<Reason>> = BTreeMap::new();
    for (clause, reasons) in allowed {
        for rest in clause.without(denied) {
            left.entry(rest).or_default().extend(reasons.iter().cloned());
        }
    }
    left
}

/// What a decision is about. Of an argument that the kernel reads as 32 bits the lower half is compared, whatever
/// stands in the upper one.
fn clauses(decision: &Decision) -> BTreeSet<Clause> {
    let narrow = |index| arguments::is_narrow(&decision.syscall, index);
    let low = |(index, test): (u32, Test)| {
        (index, if narrow(index) { test.within(u64::from(u32::MAX)) } else { test })
    };
    let clauses = Clause::alternatives(&decision.when, narrow);
    clauses.iter().map(|clause| Clause::of(clause.tests().map(low))).collect()
}

/// The findings, with those that decisions are about in the form that they gave them.
pub(crate) fn accept(
    findings: BTreeSet<Finding>,
    decisions: &[Decision],
    today: Option<Date>,
) -> BTreeSet<Finding> {
    let (active, expired): (Vec<&Decision>, Vec<&Decision>) =
        decisions.iter().partition(|decision| !decision.is_over(today));
    let accepted = |finding: Finding| {
        let about = |decision: &&&Decision| match decision.verdict {
            Verdict::Accept => finding.level() > Level::Note,
            Verdict::Allow => matches!(finding, Finding::Wide { .. } | Finding::NeverDerived { .. }),
            Verdict::Deny => false,
        };
        let of_it = active.iter().filter(|own| finding.syscall() == Some(own.syscall.as_str()));
        let Some(decision) = of_it.clone().find(about) else { return finding };
        Finding::Accepted {
            syscall: decision.syscall.clone(),
            found: finding.message(),
            finding: Some(Box::new(finding)),
            owner: decision.owner.clone(),
            reason: decision.reason.clone(),
            expires: decision.expires,
        }
    };
    let expired = expired.into_iter().filter_map(|decision| {
        Some(Finding::DecisionExpired {
            verdict: decision.verdict,
            syscall: decision.syscall.clone(),
            owner: decision.owner.clone(),
            expired: decision.expires?,
        })
    });
    findings.into_iter().map(accepted).chain(expired).collect()
}
