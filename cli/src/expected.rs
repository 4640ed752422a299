//! Refusals that a profile's evidence foretells: a reader of denials is told which of them are news.

use std::collections::{BTreeMap, BTreeSet};

use harness::Denial;
use synth::{
    Evidence, Finding,
    decode::{conditions, request_names, tuple},
    parse_conditions,
};

/// How a refusal bears on the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bearing {
    /// The workload asked for something that was not learned.
    Denial,
    /// The ceiling took it out of the profile, or it is a request that is never derived.
    AboveCeiling,
    /// A decision denies it.
    Decided,
    /// It failed in the same way every time while it was recorded.
    Probe,
    /// The profile answers it with ENOSYS on purpose.
    Enosys,
}

impl Bearing {
    /// The name in what programs read.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Denial => "denial",
            Self::AboveCeiling => "above-ceiling",
            Self::Decided => "decided",
            Self::Probe => "probe",
            Self::Enosys => "enosys",
        }
    }

    /// What is put before it for a person; nothing before a denial.
    pub(crate) const fn in_words(self) -> Option<&'static str> {
        match self {
            Self::Denial => None,
            Self::AboveCeiling => Some("refused by the ceiling"),
            Self::Decided => Some("denied by a decision"),
            Self::Probe => Some("fails as it did without the profile"),
            Self::Enosys => Some("answered as not implemented"),
        }
    }
}

/// What the evidence of a profile says will be refused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    above_ceiling: BTreeSet<String>,
    /// The arguments above the ceiling, in words.
    arguments: BTreeMap<String, BTreeSet<String>>,
    /// Requests that are never derived.
    requests: BTreeSet<String>,
    probes: BTreeSet<String>,
    /// A syscall, and the conditions under which it is denied.
    decided: Vec<(String, String)>,
}

impl Expected {
    /// What the findings say.
    pub(crate) fn new(evidence: &Evidence) -> Self {
        let mut expected = Self::default();
        for finding in evidence.findings.iter().cloned() {
            match finding {
                Finding::AboveCeiling { syscall, .. } => _ = expected.above_ceiling.insert(syscall),
                Finding::ArgumentsAboveCeiling { syscall, arguments, .. } => {
                    expected.arguments.entry(syscall).or_default().extend(arguments);
                }
                Finding::NeverDerived { request, .. } => _ = expected.requests.insert(request),
                Finding::ProbeRefused { syscall, .. } => _ = expected.probes.insert(syscall),
                Finding::Denied { syscall, when, .. } => expected.decided.push((syscall, when)),
                _ => {}
            }
        }
        expected
    }

    /// How a refusal bears on the profile.
    pub(crate) fn bearing(&self, denial: &Denial) -> Bearing {
        let Denial { abi, name, args, .. } = denial;
        let holds = |when: &String| {
            when == "always"
                || parse_conditions(when).is_ok_and(|when| when.iter().all(|condition| condition.holds(args)))
        };
        let never = || {
            let request = args.get(1).copied().unwrap_or_default();
            name == "ioctl"
                && request_names(None, request).iter().any(|request| self.requests.contains(*request))
        };
        let above = || {
            let words = conditions(*abi, name, &tuple(name, args));
            self.arguments.get(name).is_some_and(|known| known.contains(&words))
        };
        if self.decided.iter().any(|(syscall, when)| syscall == name && holds(when)) {
            Bearing::Decided
        } else if denial.explicit_enosys {
            Bearing::Enosys
        } else if self.probes.contains(name) {
            Bearing::Probe
        } else if self.above_ceiling.contains(name) || never() || above() {
            Bearing::AboveCeiling
        } else {
            Bearing::Denial
        }
    }
}
