//! From a trace to a profile: the row of passes, what it refuses to start from, and the evidence it leaves.

use std::collections::{BTreeMap, BTreeSet};

use trace::{Abi, Container, Row, Startup, SyscallName, Target, Trace};

use crate::{
    decision::{self, Date, Decision},
    evidence::{Evidence, EvidenceCeiling},
    finding::Finding,
    library::Libseccomp,
    names,
    passes::{
        arguments, decide, emit, guard, layout, notice, nvidia,
        observe::{self, Observed},
        outcomes, runtime, siblings,
    },
    profile::Profile,
    reference::{RUNTIME_DEFAULT, reference, runtime_default},
    rules::Rules,
    runtime_table::RuntimeTable,
    sidecar,
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
    /// How far rules go by arguments.
    pub arguments: ArgumentMode,
    /// The GPU driver branches that the profile is to hold for.
    pub gpu_drivers: GpuDrivers,
    /// The libseccomp that the profile is to load under: names that it does not know are findings.
    pub libseccomp: Libseccomp,
    /// What a reviewer decided.
    pub decisions: Vec<Decision>,
    /// The day, for decisions that expire; without it none has.
    pub today: Option<Date>,
}

/// How far rules go by arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArgumentMode {
    /// Not at all.
    Off,
    /// Where the meaning of an argument is closed: the values seen, and harmless ones that another input or host
    /// may bring.
    #[default]
    Stable,
    /// Only the values seen.
    Exact,
}

/// The GPU driver branches that a profile is to hold for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GpuDrivers {
    /// Every branch that is known.
    #[default]
    All,
    /// These.
    Only(BTreeSet<u32>),
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
    /// Its arguments, where they are known: then only what a call with them stands for is added.
    pub arguments: Option<[u64; 6]>,
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
    /// The conditions of a call are too many to be read, or fast.
    #[error(
        "`{syscall}` would need {count} alternatives; write fewer with `--arguments off` or with an `allow` decision about `{syscall}` that has a mask"
    )]
    TooManyConditions {
        /// The syscall.
        syscall: String,
        /// How many.
        count: usize,
    },
    /// An addition or a decision that is about no syscall.
    #[error("unknown syscall `{0}`")]
    UnknownSyscall(String),
    /// A GPU driver that no table is of.
    #[error(
        "GPU driver branch {branch} is not in the table, which has {known}; record under one of these and give it with `--gpu-driver`"
    )]
    UnknownDriver {
        /// The branch, or the whole version where that names none.
        branch: String,
        /// Those in the table.
        known: String,
    },
    /// Runs with a GPU and without were merged.
    #[error(
        "some runs used a GPU ({with}) and some did not ({without}); make a profile of each, since what runs without one shows nothing of the other"
    )]
    MixedGpu {
        /// The digests of runs that did, shortened.
        with: String,
        /// The digests of runs that did not, shortened.
        without: String,
    },
}

impl SynthError {
    /// Whether the evidence is incomplete, as opposed to something that could not be done.
    #[must_use]
    pub const fn is_incomplete_evidence(&self) -> bool {
        matches!(
            self,
            Self::NotComplete
                | Self::LostCalls(_)
                | Self::StartupNotRecorded
                | Self::NothingObserved
                | Self::UnknownDriver { .. }
                | Self::MixedGpu { .. }
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
    let (ceiling, ceiling_evidence) = bound(trace, options, native);
    let tables = runtime::tables(options, trace.target.runtime.as_deref());

    let rules = observe::observe(seen, &options.allow, options.arguments);
    let rules = notice::notice(rules, seen, options.arguments);
    let rules = outcomes::outcomes(rules, seen);
    if rules.allowed.is_empty() {
        return Err(SynthError::NothingObserved);
    }
    let rules = arguments::arguments(rules, options.arguments);
    let rules = nvidia::nvidia(rules, seen, trace, options)?;
    let rules = siblings::siblings(rules, seen, options, &abis);
    let rules = runtime::runtime(rules, options, &tables, trace, &abis);
    let rules = guard::guard(rules, ceiling.as_ref(), seen)?;
    let rules = decide::decide(rules, seen, &options.decisions, options.today);
    // The log-only twin refuses nothing, not even with `ENOSYS`.
    let rules = match options.default_action {
        DefaultAction::Errno => emit::refusals(rules, seen, &abis),
        DefaultAction::Log => Rules { refused: BTreeMap::new(), ..rules },
    };
    let (mut rules, layout) = layout::layout(rules)?;
    let profile = emit::emit(&layout, options.default_action, native, &abis);

    rules.findings.extend(findings);
    rules.findings.extend(tables.nearest.map(|(runtime, table)| Finding::NearestRuntime { runtime, table }));
    rules.findings.extend(tables.unknown.map(|runtime| Finding::UnknownRuntime { runtime }));
    rules.findings.extend(review(&rules, &abis, options.libseccomp));
    // What is not allowed at all leaves nothing to decide, but where it is the ceiling that refused all that is known,
    // and would not refuse all of the rest.
    let bounds = ceiling.as_ref().map(guard::allowed).unwrap_or_default();
    let above: BTreeSet<&str> = rules.findings.iter().filter_map(above_ceiling).collect();
    let denies = |own: &Decision| own.verdict == decision::Verdict::Deny && own.when.is_empty();
    let denied: BTreeSet<&str> =
        options.decisions.iter().filter(|own| denies(own)).map(|own| own.syscall.as_str()).collect();
    let is_open = |finding: &&Finding| match finding {
        Finding::Wide { syscall, .. } => {
            let name = syscall.as_str();
            rules.allowed.contains_key(name)
                || (above.contains(name) && bounds.contains_key(name) && !denied.contains(name))
        }
        _ => true,
    };
    rules.findings = rules.findings.iter().filter(is_open).cloned().collect();
    rules.findings = decide::accept(rules.findings, &options.decisions, options.today);
    let options = sidecar::options(
        options,
        ceiling_evidence,
        tables.tables.into_iter().map(|(label, _)| label).collect(),
    );
    let evidence = sidecar::sidecar(trace, &profile, options, rules, &layout, (native, &abis));
    Ok(Synthesis { profile, evidence })
}

/// The call, of a finding that its calls are above the ceiling.
fn above_ceiling(finding: &Finding) -> Option<&str> {
    match finding {
        Finding::AboveCeiling { syscall, .. } | Finding::ArgumentsAboveCeiling { syscall, .. } => {
            Some(syscall)
        }
        _ => None,
    }
}

/// Refuses evidence that proves too little, unless a flag named after the risk accepts it.
fn check(trace: &Trace, options: &Options) -> Result<BTreeSet<Finding>, SynthError> {
    let mut findings = BTreeSet::new();
    let added = options.allow.iter().map(|addition| &addition.syscall);
    let mut named = added.chain(options.decisions.iter().map(|decision| &decision.syscall));
    if let Some(unknown) = named.find(|name| !names::is_syscall(name)) {
        return Err(SynthError::UnknownSyscall(unknown.clone()));
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

/// The profile that one made from this trace is never wider than, decisions aside; none where there is no such bound.
#[must_use]
pub fn ceiling(trace: &Trace, options: &Options) -> Option<Profile> {
    bound(trace, options, Abi::native_of(&trace.recorder.arch)?).0
}

fn bound(trace: &Trace, options: &Options, native: Abi) -> (Option<Profile>, EvidenceCeiling) {
    let evidence = |name: &str, source, profile: Option<&Profile>| EvidenceCeiling {
        name: name.to_owned(),
        source,
        digest: profile.map(Profile::digest),
    };
    match &options.ceiling {
        Ceiling::None => (None, evidence("none", None, None)),
        Ceiling::Profile(profile) => (Some(profile.clone()), evidence("profile", None, Some(profile))),
        Ceiling::RuntimeDefault => {
            let profile = runtime_default(native, &trace.recorder.kernel);
            let source = reference(RUNTIME_DEFAULT).map(crate::Reference::provenance);
            let evidence = evidence(RUNTIME_DEFAULT, source, profile.as_ref());
            (profile, evidence)
        }
    }
}

/// What only the finished rules show.
fn review(rules: &Rules, abis: &BTreeSet<Abi>, libseccomp: Libseccomp) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in rules.allowed.keys().filter(|name| !libseccomp.knows(name)) {
        findings
            .push(Finding::UnknownToLibseccomp { syscall: name.clone(), libseccomp: libseccomp.to_string() });
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
