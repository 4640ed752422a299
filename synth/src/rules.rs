//! The one representation that all passes work on: for each syscall the clauses under which it is allowed, and
//! for each clause the reasons.

use std::collections::{BTreeMap, BTreeSet};

use trace::{Abi, Errno};

use crate::{clause::Clause, evidence::Reason, finding::Finding};

/// Rules in the making, and what was found on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// What is allowed, by name.
    pub(crate) allowed: BTreeMap<String, Clauses>,
    /// The arguments with which calls were seen, as clauses that let through nothing else, and how often.
    pub(crate) seen: BTreeMap<String, BTreeMap<Clause, u64>>,
    /// What is answered with an errno of its own.
    pub(crate) refused: BTreeMap<String, Errno>,
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

    /// How often a call was seen with arguments that a clause lets through.
    pub(crate) fn seen_within(&self, name: &str, clause: &Clause) -> u64 {
        let seen = self.seen.get(name).into_iter().flatten();
        seen.filter(|(own, _)| clause.covers(own)).map(|(_, calls)| *calls).fold(0, u64::saturating_add)
    }
}
