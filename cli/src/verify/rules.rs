//! Whether every rule is needed by a trace or labelled: without a rule that is neither, the profile still allows every
//! recorded call.

use anyhow::Context;
use synth::{
    Action, CompileOptions, Condition, DecisionVerdict, Entry, Judge, Judgement, Profile, Reason,
    display_conditions,
};
use trace::{Row, Trace};

use super::{
    Case,
    check::{Check, Checks, Status},
    remedy::proposals,
};
use crate::terminal::count;

/// What this check is called.
const NAME: &str = "rules";

/// What there is to say for a rule.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// A recorded call needs it.
    Needed,
    /// It is not there for a recorded call, and says so.
    Labelled,
    /// The sidecar has it as observed, and no recorded call needs it.
    Idle,
    /// The sidecar does not have it.
    WithoutReason,
}

pub(super) fn check(case: &Case, checks: &mut Checks) -> anyhow::Result<()> {
    let mut counts = [0u64; 2];
    let allowing = case.profile.syscalls.iter().filter(|entry| entry.action == Action::Allow);
    let names: std::collections::BTreeSet<&str> =
        allowing.clone().flat_map(|entry| &entry.names).map(String::as_str).collect();
    for name in names {
        let rules: Vec<&Entry> =
            allowing.clone().filter(|entry| entry.names.iter().any(|own| own == name)).collect();
        let seen = of_call(&case.merged, name);
        for (index, rule) in rules.iter().enumerate() {
            let others: Vec<&Entry> = rules
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != index)
                .map(|(_, rule)| *rule)
                .collect();
            let standing = standing(case, name, &rule.args, &others, &seen)?;
            let problem = match standing {
                Standing::Needed => {
                    counts[0] += 1;
                    continue;
                }
                Standing::Labelled => {
                    counts[1] += 1;
                    continue;
                }
                Standing::Idle => "is needed by no trace, and nothing says why else it is there",
                Standing::WithoutReason => "is in the profile without a reason in its evidence",
            };
            let when = display_conditions(&rule.args);
            let message = format!("the rule for `{name}` ({when}) {problem}");
            let check = Check::new(NAME, Status::Failed, message);
            checks.add(match standing {
                Standing::WithoutReason => {
                    case.kept_or_undone(check, &proposals(DecisionVerdict::Allow, name, &[when]))
                }
                _ => check.remedy(case.synth_command()),
            });
        }
    }
    if checks.is_good(NAME) {
        let [needed, labelled] = counts;
        let message =
            format!("{} needed by a trace, {labelled} labelled with another reason", count(needed, "rule"));
        checks.add(Check::new(NAME, Status::Ok, message));
    }
    Ok(())
}

fn standing(
    case: &Case,
    name: &str,
    args: &[Condition],
    others: &[&Entry],
    seen: &Trace,
) -> anyhow::Result<Standing> {
    let when = display_conditions(args);
    let of_it = case.evidence.rules.iter().filter(|rule| rule.syscall == name && rule.when.contains(&when));
    let mut reasons = of_it.flat_map(|rule| &rule.reasons).peekable();
    let has_reason = reasons.peek().is_some();
    let now = synth::replay(&case.judge, seen);
    let allowed: Vec<bool> = now.facts.iter().map(|fact| fact.judgement == Judgement::Allowed).collect();
    if others.is_empty() && has_reason && allowed.contains(&true) {
        return Ok(Standing::Needed);
    }
    let claims = |reason: &Reason| matches!(reason, Reason::Observed { .. } | Reason::ExecSession { .. });
    if reasons.any(|reason| !claims(reason)) {
        return Ok(Standing::Labelled);
    }
    if !has_reason {
        return Ok(Standing::WithoutReason);
    }
    if !others.is_empty() && is_needed(case, name, others, seen, &allowed)? {
        return Ok(Standing::Needed);
    }
    Ok(Standing::Idle)
}

/// Whether a recorded call that the profile allows is refused where only the other rules for it are left.
fn is_needed(
    case: &Case,
    name: &str,
    others: &[&Entry],
    seen: &Trace,
    allowed: &[bool],
) -> anyhow::Result<bool> {
    // Rules for other calls have no part in it.
    let only = |entry: &&Entry| Entry { names: vec![name.to_owned()], ..(*entry).clone() };
    let without = Profile { syscalls: others.iter().map(only).collect(), ..case.profile.clone() };
    let judge = Judge::new(&without, case.evidence.workload.native, CompileOptions::default())
        .with_context(|| format!("cannot compile the rules for `{name}`"))?;
    let then = synth::replay(&judge, seen);
    Ok(allowed
        .iter()
        .zip(&then.facts)
        .any(|(allowed, then)| *allowed && then.judgement != Judgement::Allowed))
}

/// A trace of one call.
fn of_call(trace: &Trace, name: &str) -> Trace {
    let of = |rows: &[Row]| rows.iter().filter(|row| row.name == name).cloned().collect();
    let mut own = Trace::new(trace.recorder.clone(), trace.target.clone());
    own.syscalls = of(&trace.syscalls);
    own.exec = trace.exec.clone();
    if let Some(exec) = &mut own.exec {
        exec.syscalls = of(&exec.syscalls);
    }
    own
}
