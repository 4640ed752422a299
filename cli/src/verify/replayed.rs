//! Whether the profile allows what was recorded, in the folder's traces and in fresh ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde_json::json;
use synth::{DecisionVerdict, Fact, Judge, Judgement, Purpose, Section, Tally, Verdict, decode};
use trace::{Abi, FirstSight, Row, Trace};

use super::{
    Case,
    bounds::ceiling_judge,
    check::{Check, Checks, Status},
};
use crate::{
    decisions::Proposal,
    input,
    terminal::{count, thousands},
};

/// What these checks are called.
const REPLAY: &str = "replay";
const FRESH: &str = "fresh";

/// A call, and what the profile says to it.
struct Seen {
    abi: Abi,
    name: String,
    /// The call in words.
    call: String,
    section: Section,
    calls: u64,
    first: FirstSight,
    phases: Vec<&'static str>,
    /// The arguments as a decision has them, where the call has such.
    when: Option<String>,
    /// The answer, in words.
    verdict: String,
    /// In which trace.
    trace: String,
}

impl Seen {
    /// Calls with their arguments.
    fn new(fact: &Fact<'_>, verdict: &str, file: &Path) -> Self {
        Self {
            call: fact.in_words(),
            section: fact.section,
            calls: fact.calls,
            first: fact.first().clone(),
            phases: fact.phases().iter().map(|phase| phase.as_str()).collect(),
            when: decode::written(fact.row.abi, &fact.row.name, &fact.registers.values),
            ..Self::of_row(fact.row, verdict, file)
        }
    }

    /// All of the workload's calls by one name.
    fn of_row(row: &Row, verdict: &str, file: &Path) -> Self {
        Self {
            abi: row.abi,
            name: row.name.clone(),
            call: row.name.clone(),
            section: Section::Workload,
            calls: if row.calls == 0 { row.denied } else { row.calls },
            first: row.first.clone(),
            phases: row.phases.iter().map(|phase| phase.as_str()).collect(),
            when: None,
            verdict: verdict.to_owned(),
            trace: file.display().to_string(),
        }
    }

    /// Takes in the same of another trace, or in another way.
    fn add(&mut self, other: Self) {
        let calls = self.calls.saturating_add(other.calls);
        if other.first < self.first {
            *self = other;
        }
        self.calls = calls;
    }

    /// The one line: the call, who made it, and when.
    fn line(&self, native: Abi) -> String {
        let abi = if self.abi == native { String::new() } else { format!(" ({})", self.abi) };
        let whose = match self.section {
            Section::Workload => "",
            Section::RuntimeStart => " by the container runtime",
            Section::Exec => " in an exec session",
        };
        let phases =
            if self.phases.is_empty() { String::new() } else { format!(" in {}", self.phases.join(", ")) };
        format!(
            "`{}`{abi}, made {}{whose}{phases}, first by {} ({}) {} ms after the start, in {}: {}",
            self.call,
            times(self.calls),
            self.first.comm,
            self.first.pid,
            thousands(self.first.after_ms),
            self.trace,
            self.verdict,
        )
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "abi": self.abi, "name": self.name, "call": self.call, "section": self.section.as_str(),
            "calls": self.calls, "phases": self.phases, "comm": self.first.comm, "pid": self.first.pid,
            "after_ms": self.first.after_ms, "verdict": self.verdict, "trace": self.trace,
        })
    }
}

fn times(calls: u64) -> String {
    if calls == 1 { "once".to_owned() } else { format!("{} times", thousands(calls)) }
}

/// What the profile makes of traces.
#[derive(Default)]
struct Judged {
    tally: Tally,
    /// By call: of one that the profile has no rule for at all the ways to make it are one.
    refused: BTreeMap<(Section, Abi, String), Seen>,
    unknown: BTreeMap<String, String>,
    /// Each of the workload's own calls, whatever the profile says to it.
    calls: BTreeMap<(Abi, String), Called>,
}

/// One of the workload's calls.
struct Called {
    seen: Seen,
    /// Whether a run made it with no filter in the way.
    carried_out: bool,
    /// Who denies it, and why.
    denied: Option<String>,
    /// Whether something of it is not denied by anyone's decision.
    is_else: bool,
}

impl Judged {
    /// The workload's calls of one trace.
    fn take_rows(&mut self, trace: &Trace, file: &Path) {
        for row in &trace.syscalls {
            let seen = Seen::of_row(row, "", file);
            match self.calls.get_mut(&(row.abi, row.name.clone())) {
                Some(own) => {
                    own.seen.add(seen);
                    own.carried_out |= row.calls > 0;
                }
                None => {
                    let own = Called { seen, carried_out: row.calls > 0, denied: None, is_else: false };
                    self.calls.insert((row.abi, row.name.clone()), own);
                }
            }
        }
    }

    fn take_fact(&mut self, case: &Case, fact: &Fact<'_>) {
        let Row { abi, number, name, .. } = fact.row;
        let Some(own) = self.calls.get_mut(&(*abi, name.clone())) else { return };
        let verdicts = case.judge.verdicts(*abi, *number, &fact.registers).unwrap_or_default();
        let verdict = if fact.judgement == Judgement::Allowed {
            Some(Verdict::Allow)
        } else {
            verdicts.into_iter().find(|verdict| !verdict.executes())
        };
        // Of several ways to make it the one that passes tells most.
        if own.seen.verdict.is_empty() || fact.judgement == Judgement::Allowed {
            own.seen.verdict = verdict.map_or_else(|| "not known".to_owned(), |verdict| verdict.to_string());
        }
        let denies = case.how.decisions.iter().find(|decision| {
            decision.verdict == DecisionVerdict::Deny && decision.when.is_empty() && decision.syscall == *name
        });
        match (&fact.judgement, denies) {
            (Judgement::OnPurpose(Purpose::Denied { owner, reason }), _) => {
                own.denied = Some(format!("{owner} denies it ({reason})"));
            }
            (judgement, Some(decision)) if *judgement != Judgement::Allowed => {
                own.denied = Some(format!("{} denies it ({})", decision.owner, decision.reason));
            }
            _ => own.is_else = true,
        }
    }
}

/// One trace after the other, so that memory does not grow with their number.
fn judge(case: &Case, files: &[PathBuf]) -> anyhow::Result<Judged> {
    let mut judged = Judged::default();
    let allowed = case.profile.allowed();
    for file in files {
        let trace = input::trace(file)?;
        let replay = synth::replay(&case.judge, &trace);
        judged.tally.add(&replay.tally);
        judged.take_rows(&trace, file);
        for fact in &replay.facts {
            if fact.section == Section::Workload {
                judged.take_fact(case, fact);
            }
            match &fact.judgement {
                Judgement::Denied(verdict) => {
                    let name = &fact.row.name;
                    let mut refused = Seen::new(fact, &verdict.to_string(), file);
                    if !allowed.contains(name.as_str()) {
                        (refused.call, refused.when) = (name.clone(), None);
                    }
                    let key = (fact.section, fact.row.abi, refused.call.clone());
                    match judged.refused.get_mut(&key) {
                        None => drop(judged.refused.insert(key, refused)),
                        Some(own) => own.add(refused),
                    }
                }
                Judgement::Unknown(why) => {
                    judged.unknown.insert(fact.row.name.clone(), why.as_str().to_owned());
                }
                Judgement::Allowed | Judgement::OnPurpose(_) | Judgement::NotNeeded(_) => {}
            }
        }
    }
    Ok(judged)
}

/// Every recorded call against the profile.
pub(super) fn check(case: &Case, checks: &mut Checks) -> anyhow::Result<()> {
    let native = case.evidence.workload.native;
    let judged = judge(case, &case.files)?;
    for refused in judged.refused.values() {
        let message = format!("needed and refused: {}", refused.line(native));
        let check = Check::new(REPLAY, Status::Failed, message);
        checks.add(check.with("call", refused.json()).remedy(case.synth_command()));
    }
    unknown(case, REPLAY, &judged, &case.synth_command(), checks);
    // A name that is refused anyway is no loss.
    let allowed = case.profile.allowed();
    let names: Vec<&str> = case.judge.unknown_names().iter().map(String::as_str).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| allowed.contains(name)).collect();
    if !names.is_empty() {
        let message =
            format!("this host's libseccomp does not know {}: they were judged as refused", names.join(", "));
        checks.add(Check::new(REPLAY, Status::Warning, message));
    }
    if checks.is_good(REPLAY) {
        checks.add(Check::new(REPLAY, Status::Ok, in_words(&judged.tally, case.files.len())));
    }
    Ok(())
}

fn in_words(tally: &Tally, traces: usize) -> String {
    let mut text = format!(
        "{} of {} allowed",
        count(tally.allowed.facts, "recorded call"),
        count(traces as u64, "trace")
    );
    for (tallied, words) in [(tally.on_purpose, "refused on purpose"), (tally.not_needed, "not needed")] {
        if tallied.facts > 0 {
            text += &format!(", {} {words}", thousands(tallied.facts));
        }
    }
    text
}

/// Calls of which nobody can say whether the profile allows them; what is done once it is decided comes last.
fn unknown(case: &Case, name: &'static str, judged: &Judged, then: &str, checks: &mut Checks) {
    for (call, why) in &judged.unknown {
        let message = format!(
            "whether `{call}` is allowed cannot be told: {why}; decide in `workload.toml` to `allow` or to `accept` that"
        );
        let accept = Proposal { verdict: DecisionVerdict::Accept, syscall: call.clone(), when: None };
        let decide = case.decide_command(&[accept], &format!("not told by a trace, which is known: {why}"));
        checks.add(Check::no_evidence(name, message, format!("{decide} && {then}")));
    }
}

/// Fresh traces: what is new in them, whatever the profile says to it, and what is not made any more.
pub(super) fn fresh(case: &Case, checks: &mut Checks) -> anyhow::Result<()> {
    let Some(trace) = &case.fresh else { return Ok(()) };
    let native = case.evidence.workload.native;
    let judged = judge(case, &case.fresh_files)?;
    let known = names(&case.merged);
    let attempted: BTreeSet<(Abi, &str)> = attempted(&case.merged);
    let ceiling = ceiling_judge(case)?;
    let mut told: BTreeSet<(Abi, &str)> = BTreeSet::new();
    for refused in judged.refused.values() {
        let name = (refused.abi, refused.name.as_str());
        if refused.section == Section::Workload {
            told.insert(name);
        }
        let what = if known.contains(&name) { "new way of calling" } else { "new syscall" };
        let message = format!("{what} {}", refused.line(native));
        checks.add(with_remedy(case, ceiling.as_ref(), trace, refused, message));
    }
    unknown(case, FRESH, &judged, &case.adopt_command(), checks);
    // What is allowed as another call's sibling, or was never carried out, is new all the same.
    for ((abi, name), own) in &judged.calls {
        let key = (*abi, name.as_str());
        let is_known = if own.carried_out { known.contains(&key) } else { attempted.contains(&key) };
        if is_known || told.contains(&key) {
            continue;
        }
        let line = format!("new syscall {}", own.seen.line(native));
        checks.add(match &own.denied {
            Some(denied) if !own.is_else => {
                let message = format!("{line}, as decided: {denied}");
                Check::new(FRESH, Status::Warning, message).with("call", own.seen.json())
            }
            _ => {
                let message = format!("{line}, but no trace of the folder shows it");
                with_remedy(case, ceiling.as_ref(), trace, &own.seen, message)
            }
        });
    }
    let vanished: Vec<String> = known
        .difference(&names(trace))
        .map(|(abi, name)| if *abi == native { (*name).to_owned() } else { format!("{name} ({abi})") })
        .collect();
    if !vanished.is_empty() {
        let message = format!(
            "not made any more: {}; if that stays so, leave out the traces that have it",
            vanished.join(", ")
        );
        checks.add(Check::new(FRESH, Status::Warning, message).with("vanished", json!(vanished)));
    }
    if checks.is_good(FRESH) {
        checks.add(Check::new(FRESH, Status::Ok, in_words(&judged.tally, case.fresh_files.len())));
    }
    Ok(())
}

/// A failure of a fresh trace. What the ceiling refuses no new trace lets through: that takes a decision.
fn with_remedy(case: &Case, ceiling: Option<&Judge>, fresh: &Trace, seen: &Seen, message: String) -> Check {
    let adopt = case.adopt_command();
    let name = &case.evidence.options.ceiling.name;
    let mut ways: BTreeSet<Option<String>> = BTreeSet::new();
    for fact in ceiling.iter().flat_map(|ceiling| synth::replay(ceiling, fresh).facts) {
        let when = decode::written(fact.row.abi, &fact.row.name, &fact.registers.values);
        let is_it = (fact.row.abi, &fact.row.name) == (seen.abi, &seen.name)
            && (seen.when.is_none() || seen.when == when);
        if is_it && matches!(fact.judgement, Judgement::Denied(_)) {
            ways.insert(when);
        }
    }
    let check = |message: String| Check::new(FRESH, Status::Failed, message).with("call", seen.json());
    if ways.is_empty() {
        return check(message).remedy(adopt);
    }
    if ways.contains(&None) {
        ways = [None].into();
    }
    let command = |verdict, ways: BTreeSet<Option<String>>, reason: &str| {
        let proposal = |when| Proposal { verdict, syscall: seen.name.clone(), when };
        let proposals: Vec<Proposal> = ways.into_iter().map(proposal).collect();
        format!("{} && {adopt}", case.decide_command(&proposals, reason))
    };
    let message = format!(
        "{message}; it is above the ceiling ({name}), so that a `[[decision]]` in `workload.toml` must say whether it passes"
    );
    let allow = command(DecisionVerdict::Allow, ways, &format!("called in a fresh trace, above {name}"));
    let accept =
        command(DecisionVerdict::Accept, [None].into(), &format!("refused by {name}, which is known"));
    check(message).remedy(allow).otherwise("to leave it refused", accept)
}

/// The workload's calls, also those that a filter kept from being carried out.
fn attempted(trace: &Trace) -> BTreeSet<(Abi, &str)> {
    trace.syscalls.iter().map(|row| (row.abi, row.name.as_str())).collect()
}

/// The workload's calls that were carried out.
fn names(trace: &Trace) -> BTreeSet<(Abi, &str)> {
    trace.syscalls.iter().filter(|row| row.calls > 0).map(|row| (row.abi, row.name.as_str())).collect()
}
