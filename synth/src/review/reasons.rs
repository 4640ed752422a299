//! Why a rule is there, in a word and in sentences.

use std::collections::{BTreeMap, BTreeSet};

use trace::{FirstSight, PhaseName};

use super::model::Origin;
use crate::evidence::Reason;

impl Origin {
    /// The strongest of these reasons: what was seen before what was not, what a person said before what a table
    /// says, the workload's before the runtime's.
    pub(super) fn of<'a>(reasons: impl IntoIterator<Item = &'a Reason>) -> Self {
        reasons.into_iter().map(Self::from).min().unwrap_or(Self::Unexplained)
    }

    /// What a reader calls it.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::ExecSession => "exec session",
            Self::Added => "added after a denial",
            Self::Decision => "decision",
            Self::Always => "every program",
            Self::Sibling => "sibling",
            Self::Fallback => "fallback",
            Self::Portable => "other kernel",
            Self::Harmless => "harmless value",
            Self::Driver => "GPU driver",
            Self::Runtime => "container runtime",
            Self::Unexplained => "not explained",
        }
    }

    /// The same after a number of syscalls: `20 for the container runtime`.
    #[must_use]
    pub const fn for_what(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::ExecSession => "made by exec sessions",
            Self::Added => "added after a denial",
            Self::Decision => "allowed by a decision",
            Self::Always => "that every program needs",
            Self::Sibling => "for another kernel or C library",
            Self::Fallback => "to fall back on",
            Self::Portable => "for another kernel or machine",
            Self::Harmless => "for harmless values",
            Self::Driver => "for another GPU driver",
            Self::Runtime => "for the container runtime",
            Self::Unexplained => "not explained",
        }
    }

    /// What it means, in a sentence without a subject.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Observed => "the workload made the call while it was recorded",
            Self::ExecSession => "a session beside the workload (docker exec, an exec probe) made the call",
            Self::Added => "a start under an earlier profile was refused it",
            Self::Decision => "a reviewer allowed it",
            Self::Always => "every program needs it, though a short recording may not show it",
            Self::Sibling => "another kernel or C library calls it in the place of one that was observed",
            Self::Fallback => "it is called where another one is answered with ENOSYS",
            Self::Portable => "another kernel or machine makes it a real call",
            Self::Harmless => "values that do not change what the call may do",
            Self::Driver => "another branch of the GPU's driver calls it",
            Self::Runtime => {
                "the container runtime calls it between loading the filter and starting the workload"
            }
            Self::Unexplained => "nothing says why it is there",
        }
    }

    /// Whether someone saw the call.
    #[must_use]
    pub const fn is_observed(self) -> bool {
        matches!(self, Self::Observed | Self::ExecSession | Self::Added)
    }
}

impl From<&Reason> for Origin {
    fn from(reason: &Reason) -> Self {
        match reason {
            Reason::Observed { .. } => Self::Observed,
            Reason::ExecSession { .. } => Self::ExecSession,
            Reason::Added { .. } => Self::Added,
            Reason::Decision { .. } => Self::Decision,
            Reason::Always { .. } => Self::Always,
            Reason::Sibling { .. } => Self::Sibling,
            Reason::Fallback { .. } => Self::Fallback,
            Reason::Portable { .. } => Self::Portable,
            Reason::Harmless { .. } => Self::Harmless,
            Reason::Driver { .. } => Self::Driver,
            Reason::Runtime { .. } | Reason::RuntimeSeen { .. } => Self::Runtime,
        }
    }
}

/// Observations, added up.
#[derive(Clone, Debug, Default)]
pub(super) struct Sight {
    pub(super) calls: u64,
    pub(super) runs: u64,
    pub(super) phases: BTreeSet<PhaseName>,
    pub(super) first: Option<FirstSight>,
    pub(super) outcomes: BTreeMap<String, u64>,
}

impl Sight {
    /// What the workload was seen to do; exec sessions are told by their reasons.
    pub(super) fn of<'a>(reasons: impl IntoIterator<Item = &'a Reason>) -> Self {
        let mut sight = Self::default();
        for reason in reasons {
            if let Reason::Observed { calls, runs, phases, first, outcomes, .. } = reason {
                sight.calls = sight.calls.saturating_add(*calls);
                sight.runs = sight.runs.max(*runs);
                sight.phases.extend(phases);
                if sight.first.as_ref().is_none_or(|own| first < own) {
                    sight.first = Some(first.clone());
                }
                for (outcome, times) in outcomes {
                    let own = sight.outcomes.entry(outcome.to_string()).or_default();
                    *own = own.saturating_add(*times);
                }
            }
        }
        sight
    }

    fn in_words(&self, runs: bool) -> Option<String> {
        let first = self.first.as_ref()?;
        let phases: Vec<&str> = self.phases.iter().map(|phase| phase.as_str()).collect();
        let mut text = count(self.calls, "call");
        if runs {
            text += &format!(" in {}", count(self.runs, "run"));
        }
        if !phases.is_empty() {
            text += &format!(", {}", phases.join(" and "));
        }
        Some(format!("{text}; first by {} (pid {}) after {} ms", first.comm, first.pid, first.after_ms))
    }
}

/// All reasons, a sentence each: what was seen added up, then the others.
#[must_use]
pub fn sentences(reasons: &BTreeSet<Reason>) -> Vec<String> {
    let mut list: Vec<String> =
        Sight::of(reasons).in_words(true).map(|text| format!("observed: {text}")).into_iter().collect();
    let (mut runtimes, mut harmless) = (BTreeSet::new(), BTreeSet::new());
    for reason in reasons {
        match reason {
            Reason::Observed { .. } => {}
            Reason::Runtime { runtime } => _ = runtimes.insert(runtime.as_str()),
            Reason::Harmless { why } => _ = harmless.insert(why.as_str()),
            other => list.push(one(other)),
        }
    }
    let joined = |set: BTreeSet<&str>| set.into_iter().collect::<Vec<_>>().join("; ");
    if !harmless.is_empty() {
        list.push(format!("not observed, and harmless: {}", joined(harmless)));
    }
    if !runtimes.is_empty() {
        list.push(format!("the container runtime calls it after loading the filter ({})", joined(runtimes)));
    }
    list
}

fn one(reason: &Reason) -> String {
    match reason {
        Reason::ExecSession { calls, first, .. } => {
            format!("{} in exec sessions; first by {}", count(*calls, "call"), first.comm)
        }
        Reason::Added { why, .. } => format!("added: {why}"),
        Reason::Always { why } => format!("not observed: every program needs it ({why})"),
        Reason::Fallback { of, why } => {
            format!("not observed: called where {of} is answered with ENOSYS ({why})")
        }
        Reason::Sibling { of, why, .. } => {
            let of: Vec<&str> = of.iter().map(String::as_str).collect();
            format!("not observed: stands for {} elsewhere ({why})", of.join(", "))
        }
        Reason::Portable { why } => format!("not observed: {why}"),
        Reason::Driver { request, device, branches, why } => {
            let what = request.as_deref().map(|request| format!("{request} ")).unwrap_or_default();
            let place = device.as_deref().map(|device| format!("on {device} ")).unwrap_or_default();
            let branches: Vec<String> = branches.iter().map(u32::to_string).collect();
            format!("not observed: {what}{place}of driver {} ({why})", branches.join(", "))
        }
        Reason::Decision { owner, reason, expires } => {
            let until = expires.map(|expires| format!(" until {expires}")).unwrap_or_default();
            format!("allowed by {owner}{until}: {reason}")
        }
        Reason::RuntimeSeen { calls, .. } => {
            format!("the container runtime was seen to call it, {} times", calls)
        }
        // Added up by the caller.
        Reason::Observed { .. } | Reason::Runtime { .. } | Reason::Harmless { .. } => String::new(),
    }
}

/// `1 call`, `2 calls`.
fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use trace::Abi;

    use super::*;

    #[test]
    fn what_was_seen_goes_before_what_a_table_says() {
        let first = FirstSight { after_ms: 7, pid: 4, comm: "sh".to_owned() };
        let seen = Reason::Observed {
            abi: Abi::X86_64,
            calls: 3,
            runs: 2,
            outcomes: BTreeMap::new(),
            phases: [PhaseName::Startup].into(),
            first,
            arguments: None,
            file: None,
            upper: BTreeSet::new(),
        };
        let reasons = BTreeSet::from([
            Reason::Runtime { runtime: "runc 1.4.2".to_owned() },
            Reason::Harmless { why: "a size".to_owned() },
            seen,
        ]);
        assert_eq!(Origin::of(&reasons), Origin::Observed);
        assert_eq!(
            sentences(&reasons),
            [
                "observed: 3 calls in 2 runs, startup; first by sh (pid 4) after 7 ms",
                "not observed, and harmless: a size",
                "the container runtime calls it after loading the filter (runc 1.4.2)",
            ]
        );
        assert_eq!(Origin::of(&BTreeSet::new()), Origin::Unexplained);
    }
}
