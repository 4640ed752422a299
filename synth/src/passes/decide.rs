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
    passes::{guard::calls, observe::Observed},
    rules::{Clauses, Rules},
};

/// Applies the decisions; one that allows or accepts counts until it expires, one that denies for good.
pub(crate) fn decide(
    mut rules: Rules,
    seen: Observed<'_>,
    decisions: &[Decision],
    today: Option<Date>,
) -> Rules {
    for decision in decisions.iter().filter(|own| own.verdict == Verdict::Allow && is_active(own, today)) {
        for clause in clauses(decision) {
            let Decision { owner, reason, expires, .. } = decision.clone();
            rules.allow(&decision.syscall, clause, Reason::Decision { owner, reason, expires });
        }
    }
    for decision in decisions.iter().filter(|own| own.verdict == Verdict::Deny) {
        let denied = clauses(decision);
        let named = if denied.iter().any(Clause::is_always) {
            calls(seen, &decision.syscall).0
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

fn is_active(decision: &Decision, today: Option<Date>) -> bool {
    let is_over = decision.expires.zip(today).is_some_and(|(expires, today)| today > expires);
    decision.verdict == Verdict::Deny || !is_over
}

/// The findings, with those that decisions are about in the form that they gave them.
pub(crate) fn accept(
    findings: BTreeSet<Finding>,
    decisions: &[Decision],
    today: Option<Date>,
) -> BTreeSet<Finding> {
    let (active, expired): (Vec<&Decision>, Vec<&Decision>) =
        decisions.iter().partition(|decision| is_active(decision, today));
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
