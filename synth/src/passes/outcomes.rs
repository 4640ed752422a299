//! outcomes: a call that a filter refused every time while recording is not needed. How the others ended stays
//! in the evidence.

use crate::{evidence::Reason, finding::Finding, passes::observe::Observed, rules::Rules};

/// Takes back what was never carried out because a filter stood before it.
pub(crate) fn outcomes(mut rules: Rules, seen: Observed<'_>) -> Rules {
    for row in seen.rows().filter(|row| row.calls == 0) {
        let Some(clauses) = rules.allowed.get_mut(&row.name) else { continue };
        for reasons in clauses.values_mut() {
            reasons.retain(|reason| match reason {
                Reason::Observed { abi, calls: 0, .. } | Reason::ExecSession { abi, calls: 0, .. } => {
                    *abi != row.abi
                }
                _ => true,
            });
        }
        clauses.retain(|_, reasons| !reasons.is_empty());
        if clauses.is_empty() {
            rules.allowed.remove(&row.name);
            let same = seen.rows().filter(|other| (other.abi, other.number) == (row.abi, row.number));
            rules.findings.insert(Finding::OnlyRefused {
                syscall: row.name.clone(),
                abi: row.abi,
                denied: same.map(|other| other.denied).fold(0, u64::saturating_add),
            });
        }
    }
    rules
}
