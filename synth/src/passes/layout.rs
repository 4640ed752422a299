//! layout: the rules in the order and grouping in which they are written. Calls without conditions share one
//! entry, since libseccomp sorts by number and builds a tree whatever their order; alternatives that one mask
//! covers exactly are one entry.

use std::collections::{BTreeMap, BTreeSet};

use trace::Errno;

use crate::{
    clause::{Clause, simplify},
    evidence::Reason,
    rules::Rules,
    synthesize::SynthError,
};

/// How many alternatives a syscall may have before the profile becomes unreadable and slow: as many as a recording
/// keeps values, and some that are harmless.
const MAX_CLAUSES: usize = 320;

/// How many all may have together: a filter has at most 4096 instructions (`BPF_MAXINSNS`), and an alternative
/// needs a few.
const MAX_OF_ALL: usize = 1024;

/// The entries of a profile in the making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Allowed always.
    pub(crate) always: BTreeSet<String>,
    /// Allowed under one of these.
    pub(crate) conditional: BTreeMap<String, BTreeSet<Clause>>,
    /// Answered with `ENOSYS`.
    pub(crate) enosys: BTreeSet<String>,
}

/// What was observed is not mixed with what was not.
fn is_observed(reasons: &BTreeSet<Reason>) -> bool {
    reasons.iter().any(|reason| reason.observed_abi().is_some())
}

/// Orders and groups; the rules come back simplified.
///
/// # Errors
/// A call has more alternatives than a person can read.
pub(crate) fn layout(mut rules: Rules) -> Result<(Rules, Layout), SynthError> {
    let enosys = rules.refused.iter().filter(|(_, errno)| **errno == Errno::ENOSYS);
    let mut layout = Layout { enosys: enosys.map(|(name, _)| name.clone()).collect(), ..Layout::default() };
    for (name, clauses) in &mut rules.allowed {
        *clauses = simplify(std::mem::take(clauses), is_observed);
        if clauses.keys().any(Clause::is_always) {
            layout.always.insert(name.clone());
        } else {
            layout.conditional.insert(name.clone(), clauses.keys().cloned().collect());
        }
    }
    let counts = || layout.conditional.iter().map(|(name, clauses)| (clauses.len(), name));
    let all: usize = counts().map(|(count, _)| count).sum();
    match counts().max() {
        Some((count, name)) if count > MAX_CLAUSES || all > MAX_OF_ALL => {
            Err(SynthError::TooManyConditions { syscall: name.clone(), count })
        }
        _ => Ok((rules, layout)),
    }
}
