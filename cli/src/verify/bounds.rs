//! Whether the ceiling holds, and the decisions: on the compiled filters, whatever the sidecar says.

use anyhow::Context;
use synth::{Action, CompileOptions, Date, Decision, DecisionVerdict, Entry, Profile, difference};

use super::{
    Case,
    check::{Check, Checks, Status},
};
use crate::{folder::WORKLOAD, terminal::count};

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
    let Some(mut ceiling) = synth::ceiling(&case.merged, &case.how) else {
        checks.add(Check::new(CEILING, Status::Warning, format!("there is none: `{WORKLOAD}` says so")));
        return Ok(());
    };
    for decision in active(case, DecisionVerdict::Allow) {
        // A decision lets through what the ceiling refuses by name.
        for entry in &mut ceiling.syscalls {
            if !entry.action.executes() {
                entry.names.retain(|name| *name != decision.syscall);
            }
        }
        ceiling.syscalls.push(entry(decision, Action::Allow));
    }
    ceiling.syscalls.retain(|entry| !entry.names.is_empty());
    ceiling.architectures.clone_from(&case.profile.architectures);
    let wider = difference(&ceiling, &case.profile, case.evidence.workload.native, CompileOptions::default())
        .context("cannot compare the profile with its ceiling")?;
    for call in wider.wider() {
        let when = call.gained.iter().flat_map(|part| &part.when).map(String::as_str).collect::<Vec<_>>();
        let when = if when == ["always"] { String::new() } else { format!(" ({})", when.join(" or ")) };
        let message = format!("`{}`{when} is allowed, which the ceiling ({name}) refuses", call.name);
        checks.add(Check::new(CEILING, Status::Failed, message).remedy(case.synth_command()));
    }
    for call in &wider.undecided {
        let message =
            format!("whether `{}` is within the ceiling ({name}) cannot be told: {}", call.name, call.why);
        checks.add(Check::new(CEILING, Status::Failed, message));
    }
    if checks.is_good(CEILING) {
        let decided = active(case, DecisionVerdict::Allow).count() as u64;
        let except =
            if decided == 0 { String::new() } else { format!(", but for {}", count(decided, "decision")) };
        checks.add(Check::new(CEILING, Status::Ok, format!("nothing is wider than {name}{except}")));
    }
    Ok(())
}

fn active(case: &Case, verdict: DecisionVerdict) -> impl Iterator<Item = &Decision> {
    case.how.decisions.iter().filter(move |own| own.verdict == verdict && !is_over(own, case.how.today))
}

fn is_over(decision: &Decision, today: Option<Date>) -> bool {
    decision.verdict != DecisionVerdict::Deny
        && decision.expires.zip(today).is_some_and(|(expires, today)| today > expires)
}

fn entry(decision: &Decision, action: Action) -> Entry {
    Entry { names: vec![decision.syscall.clone()], action, errno_ret: None, args: decision.when.clone() }
}

/// No decision has expired, and what was denied is refused.
pub(super) fn decisions(case: &Case, checks: &mut Checks) -> anyhow::Result<()> {
    let all = &case.how.decisions;
    for decision in all {
        let what = format!("`{}` of `{}` by {}", decision.verdict.as_str(), decision.syscall, decision.owner);
        let Some(expires) = decision.expires.filter(|_| decision.verdict != DecisionVerdict::Deny) else {
            continue;
        };
        if is_over(decision, case.how.today) {
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
            errno_ret: Some(trace::Errno::EPERM.number()),
            ..entry(decision, Action::Errno)
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
