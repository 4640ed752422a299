//! What the evidence of a profile says is refused on purpose, so that a replay does not call it a denial.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fact, Purpose, Section};
use crate::{
    condition::parse_conditions, decision::Verdict, decode, evidence::Evidence, finding::Finding,
    passes::observe::tuples, profile::Condition,
};

/// What the evidence says.
#[derive(Clone, Debug, Default)]
pub(super) struct Purposes {
    /// Calls that are refused whatever their arguments.
    calls: BTreeMap<String, Purpose>,
    /// Arguments in words that the ceiling leaves out.
    ceiling: BTreeMap<String, BTreeSet<String>>,
    /// Requests to the GPU's driver.
    requests: BTreeSet<String>,
    /// What reviewers denied.
    denied: Vec<(String, Vec<Condition>, Purpose)>,
    /// What they accepted, with what was found.
    accepted: BTreeMap<String, (String, Purpose)>,
    /// Sections that the profile is not for.
    left_out: BTreeSet<Section>,
}

impl Purposes {
    pub(super) fn new(evidence: &Evidence) -> Self {
        let mut own = Self::default();
        for finding in &evidence.findings {
            own.take(finding);
        }
        let options = &evidence.options;
        for decision in options.decisions.iter().filter(|own| own.verdict == Verdict::Deny) {
            let purpose = Purpose::Denied { owner: decision.owner.clone(), reason: decision.reason.clone() };
            let always = decision.when == "always";
            if let Ok(when) = if always { Ok(Vec::new()) } else { parse_conditions(&decision.when) } {
                own.denied.push((decision.syscall.clone(), when, purpose));
            }
        }
        // A call that is accepted and has no rule is refused as such, as it was found.
        let ruled: BTreeSet<&str> = evidence.rules.iter().map(|rule| rule.syscall.as_str()).collect();
        for (syscall, (_, purpose)) in &own.accepted {
            if !ruled.contains(syscall.as_str()) {
                own.calls.entry(syscall.clone()).or_insert_with(|| purpose.clone());
            }
        }
        if options.without_exec {
            own.left_out.insert(Section::Exec);
        }
        if options.runtime.is_empty() {
            own.left_out.insert(Section::RuntimeStart);
        }
        own
    }

    fn take(&mut self, finding: &Finding) {
        match finding {
            Finding::AboveCeiling { syscall, .. } => {
                self.calls.insert(syscall.clone(), Purpose::Ceiling);
            }
            Finding::AnsweredEnosys { syscall, .. } => {
                self.calls.insert(syscall.clone(), Purpose::Enosys);
            }
            Finding::Unnamed { abi, number, .. } => {
                self.calls.insert(abi.name(*number).to_string(), Purpose::Unnamed);
            }
            Finding::ArgumentsAboveCeiling { syscall, arguments, .. } => {
                self.ceiling.entry(syscall.clone()).or_default().extend(arguments.iter().cloned());
            }
            Finding::NeverDerived { request, .. } => {
                self.requests.insert(request.clone());
            }
            Finding::Accepted { syscall, found, owner, reason, .. } => {
                let purpose = Purpose::Accepted { owner: owner.clone(), reason: reason.clone() };
                self.accepted.insert(syscall.clone(), (found.clone(), purpose));
            }
            _ => {}
        }
    }

    /// Whether the profile is not made for what is in this section.
    pub(super) fn leaves_out(&self, section: Section) -> bool {
        self.left_out.contains(&section)
    }

    /// Who accepted what was found about a call.
    pub(super) fn accepted(&self, syscall: &str) -> Option<Purpose> {
        self.accepted.get(syscall).map(|(_, purpose)| purpose.clone())
    }

    /// Why a refused call is refused on purpose.
    pub(super) fn find(&self, fact: &Fact<'_>) -> Option<Purpose> {
        let name = &fact.row.name;
        if let Some(purpose) = self.calls.get(name) {
            return Some(purpose.clone());
        }
        let meets = |when: &[Condition]| when.iter().all(|own| own.holds(&fact.registers.values));
        if let Some((.., purpose)) = self.denied.iter().find(|(own, when, _)| own == name && meets(when)) {
            return Some(purpose.clone());
        }
        if let Some(words) = self.ceiling.get(name)
            && written(fact).is_some_and(|own| words.contains(&own))
        {
            return Some(Purpose::Ceiling);
        }
        if name == "ioctl" && !self.requests.is_empty() {
            let call = fact.in_words();
            let mut words = call.split(|own: char| !own.is_ascii_alphanumeric() && own != '_');
            if words.any(|word| self.requests.contains(word)) {
                return Some(Purpose::NeverDerived);
            }
        }
        let (found, purpose) = self.accepted.get(name)?;
        written(fact).is_some_and(|own| found.contains(&own)).then(|| purpose.clone())
    }
}

/// The arguments as findings write them.
fn written(fact: &Fact<'_>) -> Option<String> {
    let values = fact.values?;
    let (clause, _) = tuples(fact.row)?.into_iter().find(|(_, own)| std::ptr::eq(*own, values))?;
    Some(decode::conditions(fact.row.abi, &fact.row.name, &clause.conditions()))
}
