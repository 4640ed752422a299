//! layout: the rules in the order and grouping in which they are written. Calls without conditions share one
//! entry, since libseccomp sorts by number and builds a tree whatever their order; alternatives that one mask
//! covers exactly are one entry.
//!
//! Of the alternatives of a call, those that answer most of what was recorded come first. libseccomp 2.5 sorts tests
//! of one argument by itself; the order of entries decides only where alternatives begin with overlapping masks, as
//! those of `mmap` do. What passes is the same in any order.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

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
    /// Allowed under one of these, in this order.
    pub(crate) conditional: BTreeMap<String, Vec<Clause>>,
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
    for clauses in rules.allowed.values_mut() {
        *clauses = simplify(std::mem::take(clauses), is_observed);
    }
    for (name, clauses) in &rules.allowed {
        if clauses.keys().any(Clause::is_always) {
            layout.always.insert(name.clone());
        } else {
            let mut order: Vec<Clause> = clauses.keys().cloned().collect();
            // The sort is stable, so equally hot ones stay in their order.
            order.sort_by_cached_key(|clause| Reverse(rules.seen_within(name, clause)));
            layout.conditional.insert(name.clone(), order);
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
