//! outcomes: a call that a filter refused every time while recording is not needed, and one that only ever failed
//! with `ENOSYS`, or with `EPERM`, is a probe: it stays refused with that errno.

use std::collections::BTreeMap;

use trace::{Errno, Outcome, Row};

use crate::{evidence::Reason, finding::Finding, passes::observe::Observed, rules::Rules};

/// Takes back what was never carried out because a filter stood before it, and probes.
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
    for (name, errno) in probes(seen) {
        // A rule goes by the name, so all its calls count, in every ABI.
        let is_added = rules.reasons(name).any(|reason| matches!(reason, Reason::Added { .. }));
        if !is_added && rules.allowed.remove(name).is_some() {
            rules.refused.insert(name.to_owned(), errno);
        }
    }
    rules
}

/// The calls of which every one failed with the same errno, `ENOSYS` or `EPERM`.
fn probes(seen: Observed<'_>) -> BTreeMap<&str, Errno> {
    let mut probes: BTreeMap<&str, Option<Errno>> = BTreeMap::new();
    for row in seen.rows().filter(|row| row.calls > 0) {
        let errno = probe(row);
        let own = probes.entry(&row.name).or_insert(errno);
        *own = own.filter(|own| Some(*own) == errno);
    }
    probes.into_iter().filter_map(|(name, errno)| Some((name, errno?))).collect()
}

fn probe(row: &Row) -> Option<Errno> {
    let mut outcomes = row.outcomes.iter();
    match (outcomes.next(), outcomes.next()) {
        (Some((Outcome::Error(errno @ (Errno::ENOSYS | Errno::EPERM)), calls)), None) => {
            (*calls == row.calls).then_some(*errno)
        }
        _ => None,
    }
}
