//! What the profile is of, and the first screen: the answers that a reviewer asks for before anything else.

use std::collections::{BTreeMap, BTreeSet};

use trace::{Backend, Recorder, Startup, Target, Trace};

use super::{
    Input,
    model::{
        Added, Against, LeftOut, Made, Origin, Recorded, RecordedImage, Remark, Replayed, Rule, Subject,
        Summary, Wider,
    },
    open::Open,
    rules::answer,
    surface::names,
};
use crate::{
    evidence::{Evidence, Reason},
    finding::Finding,
    replay::Section,
    sidecar::newest,
};

pub(super) fn subject(input: &Input<'_>) -> Subject {
    let profile = input.profile;
    let mut architectures: Vec<String> =
        profile.architectures.iter().map(|own| own.as_str().to_owned()).collect();
    if architectures.is_empty() {
        architectures.push(input.native.scmp_arch().to_owned());
    }
    Subject {
        name: input.name.to_owned(),
        native: input.native,
        architectures,
        default_answer: answer(profile.default_action, profile.default_errno_ret),
        made: input.own_evidence().map(made),
        recorded: input.trace.map(recorded),
    }
}

fn made(evidence: &Evidence) -> Made {
    let workload = &evidence.workload;
    let options = &evidence.options;
    Made {
        tool: evidence.tool.clone(),
        ceiling: options.ceiling.name.clone(),
        ceiling_source: options.ceiling.source.clone(),
        arguments: options.arguments.clone(),
        margin: options.margin.clone(),
        runtime: options.runtime.clone(),
        command: workload.command.clone(),
        image: workload.image,
        container_runtime: workload.runtime.clone(),
        kernel: workload.kernel.clone(),
        gpu_driver: workload.gpu_driver.clone(),
        runs: workload.runs,
        phases: workload.phases.clone(),
    }
}

fn recorded(trace: &Trace) -> Recorded {
    let own = std::iter::once((&trace.recorder, &trace.target));
    let merged = trace.merged.iter().map(|run| (&run.recorder, &run.target));
    let runs: Vec<_> = if trace.merged.is_empty() { own.collect() } else { merged.collect() };
    let started: BTreeSet<&str> = runs.iter().map(|(recorder, _)| recorder.started.as_str()).collect();
    let backends: BTreeSet<&str> = runs
        .iter()
        .map(|(recorder, _)| match recorder.backend {
            Backend::Ebpf => "ebpf",
            Backend::Notify => "notify",
        })
        .collect();
    let container = newest(trace).container.as_ref();
    Recorded {
        from: started.first().copied().unwrap_or_default().to_owned(),
        to: started.last().copied().unwrap_or_default().to_owned(),
        runs: trace.runs,
        calls: trace.syscalls.iter().fold(0, |sum, row| sum.saturating_add(row.calls)),
        backend: backends.into_iter().collect::<Vec<_>>().join(", "),
        kernels: runs.iter().map(|(recorder, _)| recorder.kernel.clone()).collect(),
        complete: trace.complete,
        with_startup: trace.startup == Startup::Recorded,
        lost_calls: trace.losses.lost_calls(),
        confined: trace.confined,
        gpu: trace.target.gpu,
        images: images(&runs),
        no_new_privileges: container.and_then(|container| container.no_new_privileges),
        exec_sessions: trace.exec.as_ref().map_or(0, |exec| exec.sessions),
        perturbations: runs.iter().flat_map(|(recorder, _)| recorder.perturbations.clone()).collect(),
    }
}

/// The images of the runs, that of the newest run first.
fn images(runs: &[(&Recorder, &Target)]) -> Vec<RecordedImage> {
    let mut runs = runs.to_vec();
    runs.sort_by(|(one, _), (other, _)| other.started.cmp(&one.started));
    let mut images: Vec<RecordedImage> = Vec::new();
    for (_, target) in runs {
        let name = target.container.as_ref().and_then(|container| container.image.clone());
        let digest = target.image;
        match images.iter_mut().find(|own| (&own.name, own.digest) == (&name, digest)) {
            Some(own) => own.runs += 1,
            None if name.is_none() && digest.is_none() => {}
            None => images.push(RecordedImage { name, digest, runs: 1 }),
        }
    }
    images
}

pub(super) fn summary(
    input: &Input<'_>,
    (open, there): (&Open, &Open),
    rules: &[Rule],
    wider: &[Wider],
    undecided: Vec<String>,
    (replayed, left_out): (Option<Replayed>, &[LeftOut]),
    findings: &[Remark],
) -> Summary {
    let own = input.own_evidence();
    let unseen = |rule: &&&Rule| !rule.origin.is_observed();
    let mut not_observed: BTreeMap<Origin, usize> = BTreeMap::new();
    // Of the machine's own calls, as all that is counted here.
    let rules: Vec<&Rule> = rules.iter().filter(|rule| open.get(&rule.syscall).is_some()).collect();
    for rule in rules.iter().filter(|rule| own.is_some() && unseen(rule)) {
        *not_observed.entry(rule.origin).or_default() += 1;
    }
    // What the runtime or a session beside the workload did is in the table.
    let of_workload = left_out.iter().filter(|own| own.whose == Section::Workload.as_str());
    let left = |succeeded: Option<bool>| {
        of_workload.clone().filter(|own| own.succeeded == succeeded).map(|own| own.syscall.clone()).collect()
    };
    let mut weights = BTreeMap::new();
    for finding in findings {
        *weights.entry(finding.severity).or_default() += 1;
    }
    Summary {
        against: Against {
            name: input.against.name.clone(),
            source: input.against.source.clone(),
            digest: input.against.digest,
        },
        wider: wider.iter().map(|own| own.syscall.clone()).collect(),
        undecided,
        allowed: open.iter().count(),
        conditional: open.iter().filter(|(_, always)| !always).count(),
        known: names(input.native).len(),
        against_allowed: there.iter().count(),
        observed: own.map(|_| rules.iter().filter(|rule| rule.origin.is_observed()).count()),
        not_observed,
        left_out: left(Some(true)),
        left_out_perhaps: left(None),
        replayed,
        answered_enosys: own.map(answered_enosys).unwrap_or_default(),
        added: own.map(added).unwrap_or_default(),
        starts: input.starts,
        findings: weights,
    }
}

fn answered_enosys(evidence: &Evidence) -> BTreeSet<String> {
    let called = evidence.findings.iter().filter_map(|finding| match finding {
        Finding::AnsweredEnosys { syscall, .. } => Some(syscall.clone()),
        _ => None,
    });
    called.collect()
}

fn added(evidence: &Evidence) -> Vec<Added> {
    let mut list = BTreeSet::new();
    for rule in &evidence.rules {
        for reason in &rule.reasons {
            if let Reason::Added { why, .. } = reason {
                let when = if rule.words.is_empty() { &rule.when } else { &rule.words };
                list.insert(Added {
                    syscall: rule.syscall.clone(),
                    when: when.join(" or "),
                    why: why.clone(),
                });
            }
        }
    }
    list.into_iter().collect()
}
