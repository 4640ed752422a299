//! The sidecar of a profile, `profile.evidence.json`: why each rule is there, what was found, and the digests of
//! the traces it came from. Its JSON Schema is generated from these types and checked in.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trace::{Abi, Digest, FirstSight, GpuDriver, Outcome, PhaseName, strict};

use crate::{
    condition::{ConditionError, display_conditions, parse_conditions},
    decision::{Date, Decision, Verdict, is_over},
    finding::Finding,
};

/// The version of this format, `major.minor`.
pub const EVIDENCE_VERSION: &str = "1.3";

/// The versions that are read: 1.1 added exec sessions and the runtime's calls as they were seen, 1.2 arguments,
/// GPU drivers and decisions, 1.3 its digest, and what was accepted as data.
const READABLE: [&str; 4] = ["1.0", "1.1", "1.2", EVIDENCE_VERSION];

/// Those that have no digest.
const WITHOUT_DIGEST: [&str; 3] = ["1.0", "1.1", "1.2"];

/// Why a profile is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Format version, `major.minor`.
    pub version: String,
    /// SHA-256 over the JSON of all other fields; it is how an edited sidecar is told. Since 1.3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Name and version of the tool that made the profile.
    pub tool: String,
    /// SHA-256 of the profile's JSON.
    pub profile: Digest,
    /// What was recorded.
    pub workload: Workload,
    /// How the profile was made.
    pub options: EvidenceOptions,
    /// How many calls and rules.
    pub counts: Counts,
    /// One for each rule, ordered by syscall and condition.
    pub rules: Vec<EvidenceRule>,
    /// The calls that are answered with `ENOSYS` on purpose, so that programs fall back.
    pub enosys: Vec<String>,
    /// What a person should know.
    pub findings: Vec<Finding>,
}

/// What the evidence is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The digests of the traces of the single runs.
    pub traces: Vec<Digest>,
    /// How many runs.
    pub runs: u64,
    /// The machine's own ABI.
    pub native: Abi,
    /// The kernel that was recorded on.
    pub kernel: String,
    /// The command, secrets masked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Digest of the container image, where there is one: that of the newest run, where they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
    /// The container runtime, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// The host's GPU driver, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_driver: Option<GpuDriver>,
    /// The phases that were covered.
    pub phases: Vec<PhaseName>,
}

/// How a profile was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvidenceOptions {
    /// What is allowed beyond what was observed: `none` or `portable`.
    pub margin: String,
    /// The tables of what the container runtime itself calls, each with its version.
    pub runtime: Vec<String>,
    /// The profile that this one is never wider than.
    pub ceiling: EvidenceCeiling,
    /// What happens to a call that no rule names: `errno` or `log`.
    pub default_action: String,
    /// Whether a recording without the workload's start was accepted.
    pub without_startup: bool,
    /// Whether a recording that was not closed or lost calls was accepted.
    pub accept_incomplete: bool,
    /// Whether what exec sessions called was left out. Since 1.1.
    #[serde(default)]
    pub without_exec: bool,
    /// How far rules go by arguments: `off`, `stable` or `exact`. Since 1.2; before they did not.
    #[serde(default = "off")]
    pub arguments: String,
    /// The GPU driver branches that the profile is to hold for; empty for every one that was known. Since 1.2.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub gpu_drivers: BTreeSet<u32>,
    /// The libseccomp that the profile is to load under. Since 1.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libseccomp: Option<String>,
    /// What a reviewer decided. Since 1.2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<EvidenceDecision>,
}

fn off() -> String {
    "off".to_owned()
}

/// What a reviewer decided about a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvidenceDecision {
    /// Which way.
    pub verdict: Verdict,
    /// The syscall.
    pub syscall: String,
    /// The conditions that must all hold; `always` for the call as such.
    pub when: String,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// The last day on which it counts; none for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Date>,
}

impl EvidenceDecision {
    /// Whether it no longer counts on this day; without one none is over.
    #[must_use]
    pub fn is_over(&self, today: Option<Date>) -> bool {
        is_over(self.verdict, self.expires, today)
    }
}

impl TryFrom<&EvidenceDecision> for Decision {
    type Error = ConditionError;

    fn try_from(decision: &EvidenceDecision) -> Result<Self, Self::Error> {
        Ok(Self {
            verdict: decision.verdict,
            syscall: decision.syscall.clone(),
            when: if decision.when == "always" { Vec::new() } else { parse_conditions(&decision.when)? },
            reason: decision.reason.clone(),
            owner: decision.owner.clone(),
            expires: decision.expires,
        })
    }
}

impl From<&Decision> for EvidenceDecision {
    fn from(decision: &Decision) -> Self {
        Self {
            verdict: decision.verdict,
            syscall: decision.syscall.clone(),
            when: display_conditions(&decision.when),
            reason: decision.reason.clone(),
            owner: decision.owner.clone(),
            expires: decision.expires,
        }
    }
}

/// The profile that this one is never wider than.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvidenceCeiling {
    /// `runtime-default`, `none` or `profile`.
    pub name: String,
    /// Where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// SHA-256 of its JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// How many calls and rules a profile has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Syscalls that were observed, by name.
    pub observed: usize,
    /// Syscalls that are allowed, at least under conditions.
    pub allowed: usize,
    /// Of these, those that are not there for the container runtime alone.
    pub allowed_without_runtime: usize,
    /// Of the allowed ones, those that were not observed.
    pub not_observed: usize,
    /// Of the allowed ones, those with a condition on their arguments.
    pub conditional: usize,
}

/// One rule: a syscall, allowed always or under one of several conditions, for the same reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvidenceRule {
    /// The syscall.
    pub syscall: String,
    /// The alternatives; in each, conditions that must all hold: `arg0 & 0x7e020000 == 0x0, arg1 == 0x2`. The
    /// only one is `always` where there is no condition.
    pub when: Vec<String>,
    /// The same in words, in that order, each constant by its name; empty where there is no condition. Since 1.2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
    /// Whether the call itself was observed.
    pub observed: bool,
    /// The ABIs in which it was observed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub observed_in: BTreeSet<Abi>,
    /// The ABIs in which the rule allows it, which is every one of the profile that has the call.
    pub allowed_in: BTreeSet<Abi>,
    /// Why it is there; never empty.
    pub reasons: BTreeSet<Reason>,
}

/// Why a rule is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Reason {
    /// The workload made the call while it was recorded.
    Observed {
        /// Through which ABI.
        abi: Abi,
        /// How often.
        calls: u64,
        /// In how many runs.
        runs: u64,
        /// How the calls ended.
        #[serde(default, deserialize_with = "strict::map")]
        #[schemars(with = "BTreeMap<String, u64>")]
        outcomes: BTreeMap<Outcome, u64>,
        /// In which phases.
        phases: BTreeSet<PhaseName>,
        /// Who made it first.
        first: FirstSight,
        /// The arguments in words, where they are known: then the rest is about calls with these, and how they
        /// ended is not. Since 1.2.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arguments: Option<String>,
        /// What the call's descriptor was: a path, or a kind of file. Since 1.2.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<String>,
        /// The arguments that the kernel reads as 32 bits and whose upper half was not zero. Since 1.2.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        upper: BTreeSet<String>,
    },
    /// A session that was started in the workload's container made the call (`docker exec`, an exec probe).
    ExecSession {
        /// Through which ABI.
        abi: Abi,
        /// How often.
        calls: u64,
        /// In how many runs.
        runs: u64,
        /// How the calls ended.
        #[serde(default, deserialize_with = "strict::map")]
        #[schemars(with = "BTreeMap<String, u64>")]
        outcomes: BTreeMap<Outcome, u64>,
        /// Who made it first.
        first: FirstSight,
        /// The arguments in words, where they are known: then the rest is about calls with these, and how they
        /// ended is not. Since 1.2.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arguments: Option<String>,
        /// What the call's descriptor was: a path, or a kind of file. Since 1.2.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<String>,
        /// The arguments that the kernel reads as 32 bits and whose upper half was not zero. Since 1.2.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        upper: BTreeSet<String>,
    },
    /// Added after a confined run was refused it.
    Added {
        /// Through which ABI it was called.
        abi: Abi,
        /// What was seen.
        why: String,
    },
    /// Not observed: every program needs it.
    Always {
        /// What for.
        why: String,
    },
    /// Not observed: what is called where another one is answered with `ENOSYS`.
    Fallback {
        /// The call that is not answered.
        of: String,
        /// What is known about it.
        why: String,
    },
    /// Not observed: another kernel, machine or C library calls it in the place of one that was.
    Sibling {
        /// The observed calls of the class.
        of: BTreeSet<String>,
        /// The class.
        class: String,
        /// What is known about it.
        why: String,
    },
    /// Not observed: another kernel or machine makes it a real call.
    Portable {
        /// What is known about it.
        why: String,
    },
    /// Not observed: values of arguments that do not matter for what the call may do.
    Harmless {
        /// Why they do not.
        why: String,
    },
    /// Not observed: another branch of the GPU's driver calls it in this way.
    Driver {
        /// The request, where it is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<String>,
        /// The device of the request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// The branches.
        branches: BTreeSet<u32>,
        /// What is known about it.
        why: String,
    },
    /// A reviewer allowed it.
    Decision {
        /// Who.
        owner: String,
        /// Why.
        reason: String,
        /// The last day on which that counts; none for good.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires: Option<Date>,
    },
    /// Not observed: the container runtime calls it between loading the filter and starting the workload.
    Runtime {
        /// The runtime with its version, and how the table was found.
        runtime: String,
    },
    /// The container runtime called it in this trace, between loading the filter and starting the workload.
    RuntimeSeen {
        /// Through which ABI.
        abi: Abi,
        /// How often.
        calls: u64,
        /// In how many runs.
        runs: u64,
    },
}

impl Reason {
    /// The ABI in which there is evidence.
    #[must_use]
    pub const fn observed_abi(&self) -> Option<Abi> {
        match self {
            Self::Observed { abi, .. } | Self::ExecSession { abi, .. } | Self::Added { abi, .. } => {
                Some(*abi)
            }
            _ => None,
        }
    }

    /// Whether it is there for the container runtime.
    #[must_use]
    pub const fn is_runtime(&self) -> bool {
        matches!(self, Self::Runtime { .. } | Self::RuntimeSeen { .. })
    }
}

impl Counts {
    /// Counts the rules of a profile.
    pub(crate) fn of(rules: &[EvidenceRule]) -> Self {
        let names = |keep: &dyn Fn(&EvidenceRule) -> bool| {
            let names: BTreeSet<&str> =
                rules.iter().filter(|rule| keep(rule)).map(|rule| rule.syscall.as_str()).collect();
            names.len()
        };
        let observed = names(&|rule| rule.observed);
        let allowed = names(&|_| true);
        Self {
            observed,
            allowed,
            allowed_without_runtime: names(&|rule| !rule.reasons.iter().all(Reason::is_runtime)),
            not_observed: allowed.saturating_sub(observed),
            conditional: names(&|rule| rule.when != ["always"]),
        }
    }
}

/// The schema of the sidecar, as a JSON document.
#[must_use]
pub fn evidence_schema() -> serde_json::Value {
    schemars::schema_for!(Evidence).to_value()
}

impl Evidence {
    /// The sidecar as JSON: pretty-printed, with a final newline.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings, numbers and ordered maps always serialize.
        serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default()
    }

    /// Puts the digest of the rest into it.
    #[must_use]
    pub(crate) fn sealed(self) -> Self {
        let digest = Some(self.content_digest());
        Self { digest, ..self }
    }

    /// Whether it is as the tool wrote it; none for one that has no digest. Not whether the tool was ours.
    #[must_use]
    pub fn is_as_written(&self) -> Option<bool> {
        Some(self.digest? == self.content_digest())
    }

    fn content_digest(&self) -> Digest {
        Digest::of(Self { digest: None, ..self.clone() }.to_json().as_bytes())
    }

    /// Reads a sidecar.
    ///
    /// # Errors
    /// It is none, or one of another version.
    pub fn read(bytes: &[u8]) -> Result<Self, EvidenceError> {
        let evidence: Self = serde_json::from_slice(bytes).map_err(EvidenceError::Malformed)?;
        if !READABLE.contains(&evidence.version.as_str()) {
            return Err(EvidenceError::Version(evidence.version));
        }
        if WITHOUT_DIGEST.contains(&evidence.version.as_str()) == evidence.digest.is_some() {
            return Err(EvidenceError::Digest(evidence.version));
        }
        Ok(evidence)
    }
}

/// A sidecar that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// It is no JSON, or JSON that is no sidecar.
    #[error("not the evidence of a profile")]
    Malformed(#[source] serde_json::Error),
    /// Written by another version.
    #[error(
        "evidence format `{0}` is not {EVIDENCE_VERSION}; make the profile anew with `seccomp-learn synth`"
    )]
    Version(String),
    /// Without the digest that its version has, or with one that it has not.
    #[error(
        "evidence of format `{0}` has a `digest` from 1.3 on, so this was edited; make the profile anew with `seccomp-learn synth`"
    )]
    Digest(String),
}
