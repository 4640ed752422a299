//! What synthesis leaves beside the profile: its rules with their reasons, in numbers and in words.

use std::collections::{BTreeMap, BTreeSet};

use trace::{Abi, Target, Trace};

use crate::{
    clause::Clause,
    decode,
    evidence::{
        Counts, EVIDENCE_VERSION, Evidence, EvidenceCeiling, EvidenceDecision, EvidenceOptions, EvidenceRule,
        Reason, Workload,
    },
    passes::layout::Layout,
    profile::{Condition, Profile},
    rules::Rules,
    synthesize::{ArgumentMode, DefaultAction, GpuDrivers, Margin, Options},
};

/// The sidecar of a profile; `rules` are those of its layout, on a machine with these ABIs, its own first.
pub(crate) fn sidecar(
    trace: &Trace,
    profile: &Profile,
    options: EvidenceOptions,
    made: Rules,
    layout: &Layout,
    (native, abis): (Abi, &BTreeSet<Abi>),
) -> Evidence {
    let rules = rules(&made, abis, native);
    Evidence {
        version: EVIDENCE_VERSION.to_owned(),
        digest: None,
        tool: format!("seccomp-learn {}", env!("CARGO_PKG_VERSION")),
        profile: profile.digest(),
        workload: workload(trace, native),
        options,
        counts: Counts::of(&rules),
        rules,
        enosys: layout.enosys.iter().cloned().collect(),
        findings: made.findings.into_iter().collect(),
    }
    .sealed()
}

/// The options in words; what was chosen for the ceiling and the runtime comes with it.
pub(crate) fn options(options: &Options, ceiling: EvidenceCeiling, runtime: Vec<String>) -> EvidenceOptions {
    EvidenceOptions {
        margin: match options.margin {
            Margin::None => "none",
            Margin::Portable => "portable",
        }
        .to_owned(),
        runtime,
        ceiling,
        default_action: match options.default_action {
            DefaultAction::Errno => "errno",
            DefaultAction::Log => "log",
        }
        .to_owned(),
        without_startup: options.without_startup,
        accept_incomplete: options.accept_incomplete,
        without_exec: options.without_exec,
        arguments: match options.arguments {
            ArgumentMode::Off => "off",
            ArgumentMode::Stable => "stable",
            ArgumentMode::Exact => "exact",
        }
        .to_owned(),
        gpu_drivers: match &options.gpu_drivers {
            GpuDrivers::All => BTreeSet::new(),
            GpuDrivers::Only(branches) => branches.clone(),
        },
        libseccomp: Some(options.libseccomp.to_string()),
        decisions: options.decisions.iter().map(EvidenceDecision::from).collect(),
    }
}

fn rules(rules: &Rules, abis: &BTreeSet<Abi>, native: Abi) -> Vec<EvidenceRule> {
    let mut list = Vec::new();
    for (syscall, clauses) in &rules.allowed {
        let mut by_reasons: BTreeMap<&BTreeSet<Reason>, Vec<&Clause>> = BTreeMap::new();
        for (clause, reasons) in clauses {
            by_reasons.entry(reasons).or_default().push(clause);
        }
        list.extend(by_reasons.into_iter().map(|(reasons, clauses)| {
            let each = |text: &dyn Fn(&[Condition]) -> String| {
                clauses.iter().map(|clause| text(&clause.conditions())).collect::<Vec<_>>()
            };
            let when = each(&|conditions| crate::display_conditions(conditions));
            let is_always = clauses.iter().all(|clause| clause.is_always());
            let words = each(&|conditions| decode::conditions(native, syscall, conditions));
            EvidenceRule {
                syscall: syscall.clone(),
                when,
                words: if is_always { Vec::new() } else { words },
                observed: reasons.iter().any(|reason| reason.observed_abi().is_some()),
                observed_in: reasons.iter().filter_map(Reason::observed_abi).collect(),
                allowed_in: abis.iter().copied().filter(|abi| abi.number(syscall).is_some()).collect(),
                reasons: reasons.clone(),
            }
        }));
    }
    list
}

/// What the newest run was of: the workload as it is now.
pub(crate) fn newest(trace: &Trace) -> &Target {
    let newest = trace.merged.iter().max_by_key(|run| (&run.recorder.started, run.digest));
    newest.map_or(&trace.target, |run| &run.target)
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
        image: newest(trace).image,
        runtime: trace.target.runtime.clone(),
        gpu_driver: trace.target.gpu_driver.clone(),
        phases: trace.phases.iter().map(|phase| phase.name).collect(),
    }
}
