//! What to look at: what a reviewer would object to in the profile, and what was found while it was made, each with
//! what to do about it.

use super::{
    Input,
    model::{Remark, Wider},
};
use crate::{
    compile::CompileError,
    finding::{Finding, Level},
    lint::{Lint, Severity, lint},
};

/// The remarks, the worst first.
pub(super) fn findings(
    input: &Input<'_>,
    (wider, undecided): (&[Wider], &[String]),
) -> Result<Vec<Remark>, CompileError> {
    let mut list = about_evidence(input);
    list.extend(of_wider(input, wider));
    list.extend(of_undecided(input, undecided));
    list.extend(expired(input));
    let found = input.own_evidence().map(|evidence| evidence.findings.as_slice()).unwrap_or_default();
    let lints = lint(input.profile, input.native, input.own_evidence())?;
    let is_said = |finding: &&Finding| !lints.iter().any(|lint| says(lint.id, finding));
    list.extend(found.iter().filter(is_said).map(of_finding));
    list.extend(lints.into_iter().map(of_lint));
    // Stable: what is about the evidence as a whole stays in front of what was found in it.
    list.sort_by_key(|remark| std::cmp::Reverse(remark.severity));
    Ok(list)
}

/// Whether the evidence is about this profile, and the traces are those of the evidence.
fn about_evidence(input: &Input<'_>) -> Vec<Remark> {
    let remark = |id: &str, severity, title: &str, detail: &str, what_to_do: &str| Remark {
        id: id.to_owned(),
        severity,
        title: title.to_owned(),
        detail: detail.to_owned(),
        calls: Vec::new(),
        what_to_do: what_to_do.to_owned(),
        found_in: "evidence".to_owned(),
    };
    let mut list = Vec::new();
    if input.evidence.is_none() {
        list.push(remark(
            "no-evidence",
            Severity::Review,
            "Nothing says why the rules are there",
            "The profile has no evidence beside it, so its rules are shown without reasons.",
            "Learn it with `seccomp-learn learn`, or make it from traces with `seccomp-learn synth`.",
        ));
    } else if input.own_evidence().is_none() {
        list.push(remark(
            "other-evidence",
            Severity::Danger,
            "The evidence is about another profile",
            "The digest in the evidence is not the profile's: the profile was changed by hand, or one of the two is out of date. Its reasons are not shown.",
            "Make both again with `seccomp-learn synth DIR -o DIR/profile.json`, and put what was changed by hand into a decision in `workload.toml`.",
        ));
    }
    if input.own_evidence().is_some_and(|evidence| evidence.is_as_written() == Some(false)) {
        list.push(remark(
            "edited-evidence",
            Severity::Danger,
            "The evidence was edited by hand",
            "It is not as the tool wrote it, so its reasons may be anybody's.",
            "Make it again with `seccomp-learn synth DIR -o DIR/profile.json`, and put what was to be said into `workload.toml`.",
        ));
    }
    let recorded = input.digests.traces.as_slice();
    let made_from = input.own_evidence().map(|evidence| {
        let mut digests = evidence.workload.traces.clone();
        digests.sort();
        digests
    });
    if input.trace.is_some() && made_from.is_some_and(|made_from| made_from != recorded) {
        list.push(remark(
            "other-traces",
            Severity::Danger,
            "The profile was made from other traces",
            "The traces in the folder are not those that the evidence names.",
            "Make the profile again with `seccomp-learn synth DIR -o DIR/profile.json`.",
        ));
    }
    list
}

/// What is allowed beyond the reference, and nobody answers for.
fn of_wider(input: &Input<'_>, wider: &[Wider]) -> Option<Remark> {
    let undecided: Vec<&Wider> = wider.iter().filter(|own| !own.open.is_empty()).collect();
    if undecided.is_empty() {
        return None;
    }
    let mut calls: Vec<String> = undecided.iter().map(|own| own.syscall.clone()).collect();
    calls.dedup();
    Some(Remark {
        id: "wider".to_owned(),
        severity: Severity::Danger,
        title: format!("Wider than {}, and no decision says so", input.against.name),
        detail: format!(
            "{} allowed with arguments that {} refuses: the table of what is wider has an example of each.",
            if calls.len() == 1 { "One call is".to_owned() } else { format!("{} calls are", calls.len()) },
            input.against.name,
        ),
        calls,
        what_to_do: "Take them out, or have someone answer for them: `[[decision]] verdict = \"allow\"` with a reason, an owner and an expiry in `workload.toml`.".to_owned(),
        found_in: "profile".to_owned(),
    })
}

/// What may be wider, for all that is known.
fn of_undecided(input: &Input<'_>, undecided: &[String]) -> Option<Remark> {
    let first = undecided.first()?;
    Some(Remark {
        id: "wider-undecided".to_owned(),
        severity: Severity::Danger,
        title: format!("It could not be decided whether all is within {}", input.against.name),
        detail: format!(
            "Of {} that is not known, the first is {first}.",
            crate::finding::calls(undecided.len())
        ),
        calls: undecided.iter().filter_map(|own| Some(own.split_once(':')?.0.to_owned())).collect(),
        what_to_do: "Write the conditions of these calls in fewer or simpler entries, and review again."
            .to_owned(),
        found_in: "profile".to_owned(),
    })
}

/// What has expired since the profile was made, which still goes by it.
fn expired(input: &Input<'_>) -> Vec<Remark> {
    let findings = input.own_evidence().map(|own| own.findings.as_slice()).unwrap_or_default();
    let over = input.decisions.iter().filter(|own| own.is_over(input.today));
    let over = over.filter_map(|own| {
        let (verdict, syscall, owner) = (own.verdict, own.syscall.clone(), own.owner.clone());
        Some(Finding::DecisionExpired { verdict, syscall, owner, expired: own.expires? })
    });
    over.filter(|own| !findings.contains(own)).map(|own| of_finding(&own)).collect()
}

/// Whether a lint says of the filter what the finding says of the recording.
const fn says(lint: &str, finding: &Finding) -> bool {
    match finding {
        Finding::WritableExecutable { .. } => matches!(lint.as_bytes(), b"wx-memory"),
        Finding::NamespaceFlags { .. } => matches!(lint.as_bytes(), b"namespaces" | b"user-namespaces"),
        _ => false,
    }
}

fn of_lint(lint: Lint) -> Remark {
    Remark {
        id: lint.id.to_owned(),
        severity: lint.severity,
        title: lint.title,
        detail: lint.detail,
        calls: lint.calls,
        what_to_do: lint.what_to_do,
        found_in: "profile".to_owned(),
    }
}

fn of_finding(finding: &Finding) -> Remark {
    let (id, title, what_to_do) = about(finding);
    Remark {
        id: id.to_owned(),
        severity: match finding.level() {
            Level::Note => Severity::Note,
            Level::Review => Severity::Review,
            Level::Incomplete | Level::Undecided => Severity::Danger,
        },
        title: title.to_owned(),
        detail: finding.message(),
        calls: finding.syscall().map(str::to_owned).into_iter().collect(),
        what_to_do: what_to_do.to_owned(),
        found_in: "evidence".to_owned(),
    }
}

/// The kind of a finding, a title, and what to do about it.
const fn about(finding: &Finding) -> (&'static str, &'static str, &'static str) {
    match finding {
        Finding::Incomplete => (
            "incomplete",
            "A recording was not closed",
            "Record that run again; what it misses will be refused.",
        ),
        Finding::LostCalls { .. } => (
            "lost-calls",
            "The recorder lost calls",
            "Record again on a machine with less load; what was lost will be refused.",
        ),
        Finding::StartupNotRecorded => (
            "startup-not-recorded",
            "The start was not recorded",
            "Restart the workload while it is being recorded: what only a start needs is missing.",
        ),
        Finding::Confined { .. } => (
            "confined",
            "A filter was on the workload already",
            "Record it unconfined if it needs what was refused: what would have come after a refusal was not seen.",
        ),
        Finding::AboveCeiling { .. } => (
            "above-ceiling",
            "The workload made a call that the ceiling refuses",
            "Nothing, if the workload does without it (a test with a health check says so); else let an `allow` decision through, with a reason and an owner.",
        ),
        Finding::Narrowed { .. } => (
            "narrowed",
            "A call is allowed only with arguments of which the recording says nothing",
            "Nothing; record arguments if the workload is refused here.",
        ),
        Finding::MarginAboveCeiling { .. } => (
            "margin-above-ceiling",
            "A sibling call is above the ceiling",
            "Nothing; on a host whose C library makes this call in place of the observed one, test the profile there.",
        ),
        Finding::AnsweredEnosys { .. } => (
            "answered-enosys",
            "A call is answered as not implemented",
            "Nothing: programs fall back, and the fallback is allowed.",
        ),
        Finding::OnlyRefused { .. } => (
            "only-refused",
            "A call was only ever refused",
            "Nothing: the workload did without it while it was recorded.",
        ),
        Finding::Unnamed { .. } => (
            "unnamed",
            "A call has no name",
            "Find out which program makes it; profiles go by name, so none can allow it.",
        ),
        Finding::NearestRuntime { .. } => (
            "nearest-runtime",
            "The container runtime's version was not measured",
            "Measure it with `seccomp-learn runtime-base`, or test the profile on a node with that runtime.",
        ),
        Finding::UnknownRuntime { .. } => (
            "unknown-runtime",
            "The container runtime is not known",
            "Test the profile with that runtime before relying on it.",
        ),
        Finding::UnknownToLibseccomp { .. } => (
            "unknown-to-libseccomp",
            "A name is unknown to the oldest supported libseccomp",
            "Roll the profile out to nodes with a newer libseccomp, or test on one with the old: the rule is dropped there without a word.",
        ),
        Finding::OtherAbi { .. } => (
            "other-abi",
            "Calls are allowed in an ABI in which they were not seen",
            "Leave the ABI out of the profile's architectures if nothing of the workload is built for it.",
        ),
        Finding::WithoutArguments { .. } => (
            "without-arguments",
            "The recording has no arguments",
            "Record again with a kernel and tool that keep arguments, so that rules can go by them.",
        ),
        Finding::Wide { .. } => (
            "wide",
            "A call had more arguments than could be kept",
            "Decide in `workload.toml`: `allow` (perhaps under a condition) or `accept` that the others are refused.",
        ),
        Finding::ArgumentsAboveCeiling { .. } => (
            "arguments-above-ceiling",
            "The workload made a call with arguments that the ceiling refuses",
            "Nothing, if the workload does without it; else an `allow` decision with that condition.",
        ),
        Finding::ProbeRefused { .. } => {
            ("probe-refused", "A probe stays refused", "Nothing: it fails as it did while it was recorded.")
        }
        Finding::UpperHalf { .. } => (
            "upper-half",
            "An argument came with an upper half",
            "Nothing: the kernel does not read it, nor does the rule.",
        ),
        Finding::NamespaceFlags { .. } => (
            "namespaces",
            "The workload asked for namespaces",
            "Ask what for: new user namespaces give capabilities inside them, which many kernel exploits need.",
        ),
        Finding::WritableExecutable { .. } => (
            "writable-executable",
            "Memory may be writable and executable at once",
            "Ask what generates code (a JIT, libffi, old nested functions); without it, deny it with a decision: it is what injected code needs.",
        ),
        Finding::NeverDerived { .. } => (
            "never-derived",
            "A request to the GPU's driver is left out on purpose",
            "Leave it out unless the workload fails without it: it would let every other request through.",
        ),
        Finding::Denied { .. } => (
            "denied",
            "A decision refuses what the workload called",
            "Test with a health check that the workload does without it.",
        ),
        Finding::Accepted { .. } => (
            "accepted",
            "A finding was accepted",
            "Nothing until the decision expires; look whether its reason still holds.",
        ),
        Finding::DecisionExpired { .. } => (
            "decision-expired",
            "A decision has expired",
            "Renew it in `workload.toml` with a new day, or take it out.",
        ),
    }
}
