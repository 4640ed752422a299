//! layout: the rules in the order and grouping in which they are written. Calls without conditions share one
//! entry, since libseccomp sorts by number and builds a tree whatever their order; alternatives that one mask
//! covers exactly are one entry.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    clause::{Clause, simplify},
    rules::Rules,
};

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

/// Orders and groups; the rules come back simplified.
pub(crate) fn layout(mut rules: Rules) -> (Rules, Layout) {
    let mut layout = Layout { enosys: rules.enosys.clone(), ..Layout::default() };
    for (name, clauses) in &mut rules.allowed {
        *clauses = simplify(std::mem::take(clauses));
        if clauses.keys().any(Clause::is_always) {
            layout.always.insert(name.clone());
        } else {
            layout.conditional.insert(name.clone(), clauses.keys().cloned().collect());
        }
    }
    (rules, layout)
}
