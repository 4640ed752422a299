//! The one representation that all passes work on: for each syscall the clauses under which it is allowed, and
//! for each clause the reasons.

use std::collections::{BTreeMap, BTreeSet};

use trace::Abi;

use crate::{clause::Clause, evidence::Reason, finding::Finding};

/// Rules in the making, and what was found on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// What is allowed, by name.
    pub(crate) allowed: BTreeMap<String, Clauses>,
    /// What is answered with `ENOSYS` on purpose.
    pub(crate) enosys: BTreeSet<String>,
    /// What a person should know.
    pub(crate) findings: BTreeSet<Finding>,
}

/// Alternatives, each with its reasons.
pub(crate) type Clauses = BTreeMap<Clause, BTreeSet<Reason>>;

impl Rules {
    /// Allows a call under a clause.
    pub(crate) fn allow(&mut self, name: &str, clause: Clause, reason: Reason) {
        self.allowed.entry(name.to_owned()).or_default().entry(clause).or_default().insert(reason);
    }

    /// The ABIs in which there is evidence for this call.
    pub(crate) fn observed_abis(&self, name: &str) -> BTreeSet<Abi> {
        self.reasons(name).filter_map(Reason::observed_abi).collect()
    }

    /// All reasons for a call.
    pub(crate) fn reasons(&self, name: &str) -> impl Iterator<Item = &Reason> {
        self.allowed.get(name).into_iter().flat_map(BTreeMap::values).flatten()
    }
}
