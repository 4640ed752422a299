//! outcomes: a call that a filter refused every time while recording is not needed. How the others ended stays
//! in the evidence.

use trace::Trace;

use crate::{evidence::Reason, finding::Finding, rules::Rules};

/// Takes back what was never carried out because a filter stood before it.
pub(crate) fn outcomes(mut rules: Rules, trace: &Trace) -> Rules {
    for row in trace.syscalls.iter().filter(|row| row.calls == 0) {
        let Some(clauses) = rules.allowed.get_mut(&row.name) else { continue };
        for reasons in clauses.values_mut() {
            reasons.retain(
                |reason| !matches!(reason, Reason::Observed { abi, calls: 0, .. } if *abi == row.abi),
            );
        }
        clauses.retain(|_, reasons| !reasons.is_empty());
        if clauses.is_empty() {
            rules.allowed.remove(&row.name);
            rules.findings.insert(Finding::OnlyRefused {
                syscall: row.name.clone(),
                abi: row.abi,
                denied: row.denied,
            });
        }
    }
    rules
}
