//! What the evidence of a profile says is refused on purpose, so that a replay does not call it a denial: what was
//! found when the profile was made, and nothing that is found later.

use std::collections::{BTreeMap, BTreeSet};

use trace::{Abi, Errno};

use super::{Fact, Purpose, Section, Unknown};
use crate::{
    arguments::is_narrow,
    clause::{Clause, Test},
    condition::parse_conditions,
    decision, decode,
    evidence::Evidence,
    finding::Finding,
    passes::{guard, observe::tuples},
    possible::Registers,
    profile::{Condition, Operator},
    reference::{RUNTIME_DEFAULT, runtime_default},
    simulate::Verdict,
};

/// What the evidence says.
#[derive(Clone, Debug, Default)]
pub(super) struct Purposes {
    /// Calls that are answered with `ENOSYS` whatever their arguments.
    enosys_calls: BTreeSet<String>,
    /// Calls that were made in ways of which the ceiling allows none.
    above: BTreeMap<String, Purpose>,
    /// What the ceiling allows of these calls; none where the evidence does not say which profile that is.
    bounds: Option<BTreeMap<String, BTreeSet<Clause>>>,
    /// Arguments in words that the ceiling leaves out, by call.
    arguments: BTreeMap<String, BTreeMap<String, Purpose>>,
    /// Requests to the GPU's driver.
    requests: BTreeMap<String, Purpose>,
    /// Numbers that no table names.
    unnamed: BTreeSet<(Abi, u32)>,
    /// What reviewers denied.
    denied: Vec<(String, Vec<Condition>, Purpose)>,
    /// Who accepted that calls were made with more arguments than are known.
    wide: BTreeMap<(String, Abi), Purpose>,
    /// Who accepted that it is not known with which arguments calls were made.
    unrecorded: BTreeMap<String, Purpose>,
    /// Sections that the profile is not for.
    left_out: BTreeSet<Section>,
    /// What is answered with `ENOSYS`.
    enosys: BTreeSet<String>,
}

impl Purposes {
    pub(super) fn new(evidence: &Evidence) -> Self {
        let mut own = Self { enosys: evidence.enosys.iter().cloned().collect(), ..Self::default() };
        let options = &evidence.options;
        let ceiling = if options.ceiling.name == RUNTIME_DEFAULT {
            runtime_default(evidence.workload.native, &evidence.workload.kernel)
        } else {
            None
        };
        for finding in &evidence.findings {
            own.take(finding, accepting(evidence, finding));
        }
        // Sidecars up to 1.2 have what was accepted in words only: of a call without a rule it was the call as such.
        let ruled: BTreeSet<&str> = evidence.rules.iter().map(|rule| rule.syscall.as_str()).collect();
        for finding in &evidence.findings {
            if let Finding::Accepted { syscall, finding: None, owner, reason, .. } = finding
                && ceiling.is_some()
                && !ruled.contains(syscall.as_str())
            {
                let purpose = Purpose::Accepted { owner: owner.clone(), reason: reason.clone() };
                own.above.entry(syscall.clone()).or_insert(purpose);
            }
        }
        own.bounds = ceiling.map(|ceiling| {
            let bounds = guard::allowed(&ceiling).into_iter();
            let of_these = bounds.filter(|(name, _)| own.above.contains_key(*name));
            of_these.map(|(name, clauses)| (name.to_owned(), clauses)).collect()
        });
        for decision in options.decisions.iter().filter(|own| own.verdict == decision::Verdict::Deny) {
            let purpose = Purpose::Denied { owner: decision.owner.clone(), reason: decision.reason.clone() };
            let always = decision.when == "always";
            if let Ok(when) = if always { Ok(Vec::new()) } else { parse_conditions(&decision.when) } {
                own.denied.push((decision.syscall.clone(), when, purpose));
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

    /// Takes in what was found, and who accepted that.
    fn take(&mut self, finding: &Finding, accepted: Option<Purpose>) {
        match finding {
            Finding::AboveCeiling { syscall, .. } => {
                self.above.insert(syscall.clone(), accepted.unwrap_or(Purpose::Ceiling));
            }
            Finding::ArgumentsAboveCeiling { syscall, arguments, .. } => {
                let purpose = accepted.unwrap_or(Purpose::Ceiling);
                let all = arguments.iter().map(|words| (words.clone(), purpose.clone()));
                self.arguments.entry(syscall.clone()).or_default().extend(all);
            }
            Finding::NeverDerived { request, .. } => {
                self.requests.insert(request.clone(), accepted.unwrap_or(Purpose::NeverDerived));
            }
            Finding::AnsweredEnosys { syscall, .. } => {
                self.enosys_calls.insert(syscall.clone());
            }
            Finding::Unnamed { abi, number, .. } => {
                self.unnamed.insert((*abi, *number));
            }
            Finding::Wide { syscall, abi, .. } => {
                self.wide.extend(accepted.map(|purpose| ((syscall.clone(), *abi), purpose)));
            }
            Finding::Narrowed { syscall, .. } => {
                self.unrecorded.extend(accepted.map(|purpose| (syscall.clone(), purpose)));
            }
            Finding::Accepted { finding: Some(found), owner, reason, .. } => {
                let purpose = Purpose::Accepted { owner: owner.clone(), reason: reason.clone() };
                self.take(found, Some(purpose));
            }
            _ => {}
        }
    }

    /// Whether the profile is not made for what is in this section.
    pub(super) fn leaves_out(&self, section: Section) -> bool {
        self.left_out.contains(&section)
    }

    /// Who accepted that this cannot be told of a call.
    pub(super) fn unknown(&self, fact: &Fact<'_>, why: Unknown) -> Option<Purpose> {
        let name = &fact.row.name;
        match why {
            Unknown::Wide | Unknown::Unread => self.wide.get(&(name.clone(), fact.row.abi)).cloned(),
            Unknown::Unrecorded | Unknown::NotKept => self.unrecorded.get(name).cloned(),
            Unknown::Supervised => None,
        }
    }

    /// Whether this is the answer that the evidence foretells of a call that it says is refused: `ENOSYS` for some,
    /// for the others the default, `EPERM`, or `ENOSYS` by runc's stub. Another answer is nobody's purpose.
    fn foretells(&self, syscall: &str, verdict: Verdict) -> bool {
        verdict == Verdict::Errno(Errno::ENOSYS.number())
            || (verdict == Verdict::Errno(Errno::EPERM.number()) && !self.enosys.contains(syscall))
    }

    /// Why a call is refused on purpose to which only these answers are possible.
    pub(super) fn find(&self, fact: &Fact<'_>, verdicts: &BTreeSet<Verdict>) -> Option<Purpose> {
        let name = &fact.row.name;
        if !verdicts.iter().all(|verdict| self.foretells(name, *verdict)) {
            return None;
        }
        if self.enosys_calls.contains(name) {
            return Some(Purpose::Enosys);
        }
        if self.unnamed.contains(&(fact.row.abi, fact.row.number)) {
            return Some(Purpose::Unnamed);
        }
        let meets = |when: &[Condition]| when.iter().all(|own| holds_for_all(own, name, &fact.registers));
        if let Some((.., purpose)) = self.denied.iter().find(|(own, when, _)| own == name && meets(when)) {
            return Some(purpose.clone());
        }
        if let Some(purpose) = self.above.get(name).filter(|_| self.is_above(fact)) {
            return Some(purpose.clone());
        }
        if let Some(words) = self.arguments.get(name)
            && let Some(purpose) = written(fact).and_then(|own| words.get(&own))
        {
            return Some(purpose.clone());
        }
        if name == "ioctl" && !self.requests.is_empty() {
            let call = fact.in_words();
            let mut words = call.split(|own: char| !own.is_ascii_alphanumeric() && own != '_');
            if let Some(purpose) = words.find_map(|word| self.requests.get(word)) {
                return Some(purpose.clone());
            }
        }
        // Calls of which there are more than a recording keeps, or whose arguments could not be read.
        let is_of_unknown = fact.values.is_none() && fact.row.arguments.is_some();
        if is_of_unknown { self.unknown(fact, Unknown::Wide) } else { None }
    }

    /// Whether the ceiling refuses a call, whatever of it is not known. A ceiling that is not known here was found to
    /// refuse the call as such.
    fn is_above(&self, fact: &Fact<'_>) -> bool {
        let name = &fact.row.name;
        let Some(bounds) = &self.bounds else { return true };
        let registers = fact.registers;
        let known = (0..).zip(registers.values.into_iter().zip(registers.known));
        let tests = known.map(|(index, (value, known))| {
            // As the ceiling is read: of what the kernel reads as 32 bits the lower half counts.
            let read = if is_narrow(name, index) { u64::from(u32::MAX) } else { u64::MAX };
            (index, Test::new(known & read, value))
        });
        let call = Clause::of(tests);
        !bounds.get(name).into_iter().flatten().any(|bound| bound.and(&call).is_some())
    }
}

/// Who accepted what was found, where that is told by a decision alone: what is not known of a call's arguments stays
/// a finding of its own.
fn accepting(evidence: &Evidence, finding: &Finding) -> Option<Purpose> {
    let Finding::Narrowed { syscall, .. } = finding else { return None };
    let has_expired = |own: &crate::evidence::EvidenceDecision| {
        evidence.findings.iter().any(|finding| {
            matches!(finding, Finding::DecisionExpired { verdict, syscall, owner, expired }
                if (*verdict, syscall, owner, Some(*expired)) == (own.verdict, &own.syscall, &own.owner, own.expires))
        })
    };
    let decisions = evidence.options.decisions.iter();
    let mut accepting =
        decisions.filter(|own| own.verdict == decision::Verdict::Accept && own.syscall == *syscall);
    let own = accepting.find(|own| !has_expired(own))?;
    Some(Purpose::Accepted { owner: own.owner.clone(), reason: own.reason.clone() })
}

/// Whether a decision's condition holds for every call that it may have been. Of what the kernel reads as 32 bits the
/// lower half is compared, as in the rules.
fn holds_for_all(condition: &Condition, name: &str, registers: &Registers) -> bool {
    let at = usize::try_from(condition.index).ok();
    let of = |list: &[u64; 6]| at.and_then(|at| list.get(at)).copied();
    let (Some(value), Some(known)) = (of(&registers.values), of(&registers.known)) else { return false };
    let above = at.and_then(|at| registers.above.get(at)).is_some_and(|above| *above);
    let low = u64::from(u32::MAX);
    let narrow = is_narrow(name, condition.index);
    let (value, known, above) =
        if narrow { (value & low, known | !low, false) } else { (value, known, above) };
    // Nothing but a comparison with one value, or with a mask, reaches into the upper half of such an argument.
    let own = |number: u64| if narrow { number & low } else { number };
    // The least and the greatest that the register may have been; an upper half that is not known and not 0 has a bit.
    let least = if above && value >> 32 == 0 { value | 1 << 32 } else { value };
    let most = value | !known;
    let asked = condition.value;
    match condition.op {
        Operator::Eq => least == own(asked) && most == own(asked),
        Operator::Ne => (asked ^ value) & known != 0 || asked < least || most < asked,
        Operator::Lt => most < asked,
        Operator::Le => most <= asked,
        Operator::Gt => least > asked,
        Operator::Ge => least >= asked,
        Operator::MaskedEq => {
            let mask = own(asked);
            mask & !known == 0 && (value ^ condition.value_two) & mask == 0
        }
    }
}

/// The arguments as findings write them.
fn written(fact: &Fact<'_>) -> Option<String> {
    let values = fact.values?;
    let (clause, _) = tuples(fact.row)?.into_iter().find(|(_, own)| std::ptr::eq(*own, values))?;
    Some(decode::conditions(fact.row.abi, &fact.row.name, &clause.conditions()))
}
