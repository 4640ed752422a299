//! Whether the ceiling holds, and the decisions: on the compiled filters, whatever the sidecar says.

use anyhow::Context;
use synth::{Action, CompileOptions, Decision, DecisionVerdict, Entry, Finding, Judge, Profile, difference};

use super::{
    Case,
    check::{Check, Checks, Status},
    remedy::proposals,
};
use crate::{decisions::Proposal, folder::WORKLOAD, terminal::count};

/// What these checks are called.
const CEILING: &str = "ceiling";
const DECISIONS: &str = "decisions";

/// So many days before a decision expires it is said.
const DAYS_BEFORE: i64 = 30;

/// Nothing is allowed that the ceiling refuses, unless a decision says so.
pub(super) fn ceiling(case: &Case, checks: &mut Checks) -> anyhow::Result<()> {
    let name = &case.evidence.options.ceiling.name;
    if case.profile.default_action.executes() {
        let message = "the profile lets through whatever it does not name, so nothing bounds it";
        checks.add(Check::new(CEILING, Status::Failed, message));
        return Ok(());
    }
    let Some(ceiling) = synth::ceiling(&case.merged, &case.how) else {
        checks.add(Check::new(CEILING, Status::Warning, format!("there is none: `{WORKLOAD}` says so")));
        return Ok(());
    };
    let mut ceiling = synth::allowing(&ceiling, active(case, DecisionVerdict::Allow));
    ceiling.architectures.clone_from(&case.profile.architectures);
    let wider = difference(&ceiling, &case.profile, case.evidence.workload.native, CompileOptions::default())
        .context("cannot compare the profile with its ceiling")?;
    for call in wider.wider() {
        let cases: Vec<String> = call.gained.iter().flat_map(|part| part.when.iter().cloned()).collect();
        let when = if cases == ["always"] { String::new() } else { format!(" ({})", cases.join(" or ")) };
        let message = format!("`{}`{when} is allowed, which the ceiling ({name}) refuses", call.name);
        let keep = proposals(DecisionVerdict::Allow, &call.name, &cases);
        checks.add(case.kept_or_undone(Check::new(CEILING, Status::Failed, message), &keep));
    }
    for call in &wider.undecided {
        let message =
            format!("whether `{}` is within the ceiling ({name}) cannot be told: {}", call.name, call.why);
        checks.add(Check::new(CEILING, Status::Failed, message));
    }
    undecided(case, name, checks);
    if checks.is_good(CEILING) {
        let decided = active(case, DecisionVerdict::Allow).count() as u64;
        let except =
            if decided == 0 { String::new() } else { format!(", but for {}", count(decided, "decision")) };
        checks.add(Check::new(CEILING, Status::Ok, format!("nothing is wider than {name}{except}")));
    }
    Ok(())
}

/// The ceiling with what decisions allow beyond it, compiled; none where nothing bounds the profile.
pub(super) fn ceiling_judge(case: &Case) -> anyhow::Result<Option<Judge>> {
    let Some(ceiling) = synth::ceiling(&case.merged, &case.how) else { return Ok(None) };
    let ceiling = synth::allowing(&ceiling, active(case, DecisionVerdict::Allow));
    let judge = Judge::new(&ceiling, case.evidence.workload.native, CompileOptions::default());
    judge.map(Some).context("cannot compile the ceiling")
}

/// What succeeded while recording and the ceiling refuses waits for someone to say that this is meant.
fn undecided(case: &Case, ceiling: &str, checks: &mut Checks) {
    let always = || vec!["always".to_owned()];
    for finding in &case.evidence.findings {
        let (syscall, cases) = match finding {
            Finding::AboveCeiling { syscall, succeeded: true, .. } => (syscall, always()),
            Finding::ArgumentsAboveCeiling { syscall, arguments, .. } => {
                (syscall, arguments.iter().cloned().collect())
            }
            _ => continue,
        };
        let denies = |own: &Decision| own.syscall == *syscall && (own.when.is_empty() || cases != ["always"]);
        if active(case, DecisionVerdict::Deny).any(denies) {
            continue;
        }
        let message = format!("{}; nobody has decided about it in `{WORKLOAD}`", finding.message());
        let command = |proposals: &[Proposal], reason: String| {
            format!("{} && {}", case.decide_command(proposals, &reason), case.synth_command())
        };
        let accept = proposals(DecisionVerdict::Accept, syscall, &always());
        let mut check = Check::new(CEILING, Status::Warning, message)
            .remedy(command(&accept, format!("refused by {ceiling}, which is known")));
        let allow = proposals(DecisionVerdict::Allow, syscall, &cases);
        if !allow.is_empty() {
            check = check.otherwise(
                "to let it through",
                command(&allow, format!("called while recording, above {ceiling}")),
            );
        }
        checks.add(check);
    }
}

fn active(case: &Case, verdict: DecisionVerdict) -> impl Iterator<Item = &Decision> {
    case.how.decisions.iter().filter(move |own| own.verdict == verdict && !own.is_over(case.how.today))
}

/// No decision has expired, and what was denied is refused.
pub(super) fn decisions(case: &Case, checks: &mut Checks) -> anyhow::Result<()> {
    let all = &case.how.decisions;
    for decision in all {
        let what = format!("`{}` of `{}` by {}", decision.verdict.as_str(), decision.syscall, decision.owner);
        let Some(expires) = decision.expires else { continue };
        if decision.is_over(case.how.today) {
            let message = format!(
                "{what} expired after {expires} ({}); renew it in `{WORKLOAD}` or take it out, then make the profile again",
                decision.reason
            );
            checks.add(Check::new(DECISIONS, Status::Failed, message).remedy(case.synth_command()));
        } else if case.how.today.is_some_and(|today| expires.days_after(today) <= DAYS_BEFORE) {
            checks.add(Check::new(DECISIONS, Status::Warning, format!("{what} expires after {expires}")));
        }
    }
    for decision in all.iter().filter(|own| own.verdict == DecisionVerdict::Deny) {
        if let Some(call) = allowed(case, decision)? {
            let message = format!(
                "{call} is allowed, though {} denies `{}` ({})",
                decision.owner, decision.syscall, decision.reason
            );
            checks.add(Check::new(DECISIONS, Status::Failed, message).remedy(case.synth_command()));
        }
    }
    if checks.is_good(DECISIONS) {
        let message = match all.len() {
            0 => "there are none".to_owned(),
            many => format!("{}, none expired, what is denied is refused", count(many as u64, "decision")),
        };
        checks.add(Check::new(DECISIONS, Status::Ok, message));
    }
    Ok(())
}

/// A call that the profile allows and a decision denies, in words.
fn allowed(case: &Case, decision: &Decision) -> anyhow::Result<Option<String>> {
    let only = |profile: &Profile| -> Vec<Entry> {
        let of_it = profile.syscalls.iter().filter(|entry| entry.names.contains(&decision.syscall));
        of_it.map(|entry| Entry { names: vec![decision.syscall.clone()], ..entry.clone() }).collect()
    };
    let own = Profile { syscalls: only(&case.profile), ..case.profile.clone() };
    // Whatever is not denied passes.
    let bound = Profile {
        default_action: Action::Allow,
        default_errno_ret: None,
        syscalls: vec![Entry {
            names: vec![decision.syscall.clone()],
            action: Action::Errno,
            errno_ret: Some(trace::Errno::EPERM.number()),
            args: decision.when.clone(),
        }],
        ..case.profile.clone()
    };
    if own.syscalls.is_empty() {
        return Ok(None);
    }
    let wider = difference(&bound, &own, case.evidence.workload.native, CompileOptions::default())
        .with_context(|| format!("cannot tell whether `{}` is denied", decision.syscall))?;
    let of_it = |name: &str| name == decision.syscall;
    let found = wider.wider().find(|call| of_it(&call.name)).and_then(|call| call.gained.as_ref());
    let undecided = wider.undecided.iter().find(|call| of_it(&call.name));
    Ok(found.map(|part| part.call.clone()).or_else(|| undecided.map(|call| format!("perhaps {}", call.name))))
}
