//! From a trace to a profile: the row of passes, what it refuses to start from, and the evidence it leaves.

use std::collections::{BTreeMap, BTreeSet};

use trace::{Abi, Container, Row, Startup, SyscallName, Target, Trace};

use crate::{
    evidence::{
        Counts, EVIDENCE_VERSION, Evidence, EvidenceCeiling, EvidenceOptions, EvidenceRule, Reason, Workload,
    },
    finding::Finding,
    knowledge::{OLDEST_LIBSECCOMP, libseccomp_knows},
    names,
    passes::{
        emit, guard, layout,
        observe::{self, Observed},
        outcomes, runtime, siblings,
    },
    profile::Profile,
    reference::{Container as ReferenceContainer, reference, version},
    rules::Rules,
    runtime_table::RuntimeTable,
};

/// How a profile is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What is allowed beyond what was observed.
    pub margin: Margin,
    /// Whose own calls are allowed besides.
    pub runtime: Runtime,
    /// What the profile is never wider than.
    pub ceiling: Ceiling,
    /// What happens to a call that no rule names.
    pub default_action: DefaultAction,
    /// Accept a recording without the workload's start.
    pub without_startup: bool,
    /// Accept a recording that was not closed or that lost calls.
    pub accept_incomplete: bool,
    /// Leave out what exec sessions in the workload's container called.
    pub without_exec: bool,
    /// Tables that were measured, which go before shipped ones of the same version.
    pub measured: Vec<RuntimeTable>,
    /// What a confined run was refused, and is to be allowed as far as the ceiling does.
    pub allow: Vec<Addition>,
}

/// What is allowed beyond what was observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Margin {
    /// Only what every program needs.
    None,
    /// Also what another kernel, machine or C library calls in place of what was observed.
    #[default]
    Portable,
}

/// Whose own calls between loading the filter and starting the workload are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Runtime {
    /// Those of the runtime that the trace names, in its version or the nearest; of all if it names none.
    #[default]
    Auto,
    /// runc's, in the version that the trace names, if it does.
    Runc,
    /// crun's, in the version that the trace names, if it does.
    Crun,
    /// Those of this table.
    Table(RuntimeTable),
    /// Nobody's: for a process that loads the filter itself.
    None,
}

/// What a profile is never wider than.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ceiling {
    /// The engines' default profile for a container with Docker's default capabilities.
    #[default]
    RuntimeDefault,
    /// Nothing.
    None,
    /// This profile.
    Profile(Profile),
}

/// What happens to a call that no rule names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultAction {
    /// It fails with `EPERM`.
    #[default]
    Errno,
    /// It is carried out, and logged: the profile refuses nothing.
    Log,
}

/// A call that a confined run was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addition {
    /// The syscall.
    pub syscall: String,
    /// Through which ABI it was called.
    pub abi: Abi,
    /// What was seen, for the evidence.
    pub why: String,
}

/// A profile, and why it is as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synthesis {
    /// The profile.
    pub profile: Profile,
    /// Its sidecar.
    pub evidence: Evidence,
}

/// What no profile can be made from.
#[derive(Debug, thiserror::Error)]
pub enum SynthError {
    /// The recording was not closed.
    #[error(
        "the recording was not closed in order, so calls may be missing; record the workload again, or accept that with --accept-incomplete"
    )]
    NotComplete,
    /// The recorder lost calls.
    #[error(
        "the recorder lost at least {0} calls or events; record the workload again, or accept that with --accept-incomplete"
    )]
    LostCalls(u64),
    /// The start is missing.
    #[error(
        "the workload's start was not recorded; restart it while recording, or leave its start out with --without-startup"
    )]
    StartupNotRecorded,
    /// Nothing was carried out.
    #[error("the trace has no call that was carried out; record the workload again")]
    NothingObserved,
    /// A machine that is not supported.
    #[error("the trace comes from a machine `{0}`; supported are x86_64 and aarch64")]
    Machine(String),
    /// A ceiling that is none.
    #[error("the ceiling allows by default, so it bounds nothing; use one that refuses by default, or none")]
    CeilingAllowsByDefault,
    /// The ceiling's conditions cannot be written as few masks.
    #[error("`{syscall}` would need {count} conditions; use a ceiling that compares with == or masks")]
    TooManyConditions {
        /// The syscall.
        syscall: String,
        /// How many.
        count: usize,
    },
    /// An addition that is no syscall.
    #[error("unknown syscall `{0}`")]
    UnknownSyscall(String),
}

impl SynthError {
    /// Whether the evidence is incomplete, as opposed to something that could not be done.
    #[must_use]
    pub const fn is_incomplete_evidence(&self) -> bool {
        matches!(
            self,
            Self::NotComplete | Self::LostCalls(_) | Self::StartupNotRecorded | Self::NothingObserved
        )
    }
}

/// Makes a profile from a trace; several are merged before.
///
/// # Errors
/// See [`SynthError`].
pub fn synthesize(trace: &Trace, options: &Options) -> Result<Synthesis, SynthError> {
    let findings = check(trace, options)?;
    let native = Abi::native_of(&trace.recorder.arch)
        .ok_or_else(|| SynthError::Machine(trace.recorder.arch.clone()))?;
    let seen = Observed {
        workload: &trace.syscalls,
        exec: trace.exec.as_ref().filter(|_| !options.without_exec).map_or(&[], |exec| &exec.syscalls),
    };
    let abis = abis(seen, options);
    let (ceiling, ceiling_evidence) = ceiling(trace, options, native);
    let tables = runtime::tables(options, trace.target.runtime.as_deref());

    let rules = observe::observe(seen, &options.allow);
    let rules = outcomes::outcomes(rules, seen);
    if rules.allowed.is_empty() {
        return Err(SynthError::NothingObserved);
    }
    let rules = siblings::siblings(rules, options.margin, &abis);
    let rules = runtime::runtime(rules, options, &tables, trace, &abis);
    let rules = guard::guard(rules, ceiling.as_ref(), seen)?;
    // The log-only twin refuses nothing, not even with `ENOSYS`.
    let rules = match options.default_action {
        DefaultAction::Errno => emit::enosys(rules, &abis),
        DefaultAction::Log => rules,
    };
    let (mut rules, layout) = layout::layout(rules);
    let profile = emit::emit(&layout, options.default_action, native, &abis);

    rules.findings.extend(findings);
    rules.findings.extend(tables.nearest.map(|(runtime, table)| Finding::NearestRuntime { runtime, table }));
    rules.findings.extend(tables.unknown.map(|runtime| Finding::UnknownRuntime { runtime }));
    rules.findings.extend(review(&rules, &abis));
    let evidence_rules = evidence_rules(&rules, &abis);
    let evidence = Evidence {
        version: EVIDENCE_VERSION.to_owned(),
        tool: format!("seccomp-learn {}", env!("CARGO_PKG_VERSION")),
        profile: profile.digest(),
        workload: workload(trace, native),
        options: EvidenceOptions {
            margin: match options.margin {
                Margin::None => "none",
                Margin::Portable => "portable",
            }
            .to_owned(),
            runtime: tables.tables.into_iter().map(|(label, _)| label).collect(),
            ceiling: ceiling_evidence,
            default_action: match options.default_action {
                DefaultAction::Errno => "errno",
                DefaultAction::Log => "log",
            }
            .to_owned(),
            without_startup: options.without_startup,
            accept_incomplete: options.accept_incomplete,
            without_exec: options.without_exec,
        },
        counts: Counts::of(&evidence_rules),
        rules: evidence_rules,
        enosys: layout.enosys.into_iter().collect(),
        findings: rules.findings.into_iter().collect(),
    };
    Ok(Synthesis { profile, evidence })
}

/// Refuses evidence that proves too little, unless a flag named after the risk accepts it.
fn check(trace: &Trace, options: &Options) -> Result<BTreeSet<Finding>, SynthError> {
    let mut findings = BTreeSet::new();
    if let Some(unknown) = options.allow.iter().find(|addition| !names::is_syscall(&addition.syscall)) {
        return Err(SynthError::UnknownSyscall(unknown.syscall.clone()));
    }
    if !trace.complete {
        if !options.accept_incomplete {
            return Err(SynthError::NotComplete);
        }
        findings.insert(Finding::Incomplete);
    }
    if trace.losses.lost_calls() {
        let losses = &trace.losses;
        let lost = [losses.missed_events, losses.map_full, losses.task_storage, losses.cgroups_full]
            .into_iter()
            .fold(0, u64::saturating_add);
        if !options.accept_incomplete {
            return Err(SynthError::LostCalls(lost));
        }
        findings.insert(Finding::LostCalls { lost });
    }
    if trace.startup == Startup::NotRecorded {
        if !options.without_startup {
            return Err(SynthError::StartupNotRecorded);
        }
        findings.insert(Finding::StartupNotRecorded);
    }
    findings.extend(confined(trace));
    Ok(findings)
}

/// What a filter refused that was already on the workload. The one which is there only to be loaded is none.
fn confined(trace: &Trace) -> Option<Finding> {
    let exec = trace.exec.iter().flat_map(|exec| &exec.syscalls);
    let mut refused: BTreeMap<String, u64> = BTreeMap::new();
    for row in trace.syscalls.iter().chain(exec).filter(|row| row.denied > 0) {
        let own = refused.entry(row.name.clone()).or_default();
        *own = own.saturating_add(row.denied);
    }
    let denied = refused.values().copied().fold(0, u64::saturating_add);
    let is_observed = |target: &Target| target.container.as_ref().is_some_and(Container::is_observed);
    let only_observed = match trace.merged.as_slice() {
        [] => is_observed(&trace.target),
        runs => runs.iter().all(|run| is_observed(&run.target)),
    };
    (trace.confined && !(only_observed && denied == 0)).then_some(Finding::Confined { denied, refused })
}

/// The ABIs that were seen at work, and those of what is added.
fn abis(seen: Observed<'_>, options: &Options) -> BTreeSet<Abi> {
    let named = |row: &&Row| row.calls > 0 && matches!(row.abi.name(row.number), SyscallName::Known(_));
    let seen = seen.rows().filter(named).map(|row| row.abi);
    seen.chain(options.allow.iter().map(|addition| addition.abi)).collect()
}

fn ceiling(trace: &Trace, options: &Options, native: Abi) -> (Option<Profile>, EvidenceCeiling) {
    let evidence = |name: &str, source, profile: Option<&Profile>| EvidenceCeiling {
        name: name.to_owned(),
        source,
        digest: profile.map(Profile::digest),
    };
    match &options.ceiling {
        Ceiling::None => (None, evidence("none", None, None)),
        Ceiling::Profile(profile) => (Some(profile.clone()), evidence("profile", None, Some(profile))),
        Ceiling::RuntimeDefault => {
            // A release that cannot be read counts as old, which allows less.
            let kernel = version(&trace.recorder.kernel).unwrap_or_default();
            let reference = reference("runtime-default");
            let profile =
                reference.map(|reference| reference.resolve(&ReferenceContainer::new(native, kernel)));
            let source = reference.map(crate::Reference::provenance);
            let evidence = evidence("runtime-default", source, profile.as_ref());
            (profile, evidence)
        }
    }
}

/// What only the finished rules show.
fn review(rules: &Rules, abis: &BTreeSet<Abi>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in rules.allowed.keys().filter(|name| !libseccomp_knows(name)) {
        findings.push(Finding::UnknownToLibseccomp {
            syscall: name.clone(),
            libseccomp: OLDEST_LIBSECCOMP.to_owned(),
        });
    }
    for abi in abis {
        let elsewhere = |name: &&String| {
            let observed = rules.observed_abis(name);
            abi.number(name).is_some() && !observed.is_empty() && !observed.contains(abi)
        };
        let syscalls: BTreeSet<String> = rules.allowed.keys().filter(elsewhere).cloned().collect();
        if !syscalls.is_empty() {
            findings.push(Finding::OtherAbi { abi: *abi, syscalls });
        }
    }
    findings
}

fn evidence_rules(rules: &Rules, abis: &BTreeSet<Abi>) -> Vec<EvidenceRule> {
    let mut list = Vec::new();
    for (syscall, clauses) in &rules.allowed {
        let mut by_reasons: BTreeMap<&BTreeSet<Reason>, Vec<String>> = BTreeMap::new();
        for (clause, reasons) in clauses {
            by_reasons.entry(reasons).or_default().push(crate::display_conditions(&clause.conditions()));
        }
        list.extend(by_reasons.into_iter().map(|(reasons, when)| EvidenceRule {
            syscall: syscall.clone(),
            when,
            observed: reasons.iter().any(|reason| reason.observed_abi().is_some()),
            observed_in: rules.observed_abis(syscall),
            allowed_in: abis.iter().copied().filter(|abi| abi.number(syscall).is_some()).collect(),
            reasons: reasons.clone(),
        }));
    }
    list
}

fn workload(trace: &Trace, native: Abi) -> Workload {
    let traces = match trace.merged.as_slice() {
        [] => trace.digest.into_iter().collect(),
        runs => runs.iter().map(|run| run.digest).collect(),
    };
    Workload {
        traces,
        runs: trace.runs,
        native,
        kernel: trace.recorder.kernel.clone(),
        command: trace.target.command.clone(),
        image: trace.target.image,
        runtime: trace.target.runtime.clone(),
        gpu_driver: trace.target.gpu_driver.clone(),
        phases: trace.phases.iter().map(|phase| phase.name).collect(),
    }
}
