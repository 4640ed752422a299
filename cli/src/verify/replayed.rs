//! Whether the profile allows what was recorded, in the folder's traces and in fresh ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde_json::json;
use synth::{Fact, Judgement, Section, Tally, Verdict};
use trace::{Abi, FirstSight, Trace};

use super::{
    Case,
    check::{Check, Checks, Status},
    subject::adopt,
};
use crate::{
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
    verdict: Verdict,
    /// In which trace.
    trace: String,
}

impl Seen {
    fn new(fact: &Fact<'_>, verdict: Verdict, file: &Path) -> Self {
        Self {
            abi: fact.row.abi,
            name: fact.row.name.clone(),
            call: fact.in_words(),
            section: fact.section,
            calls: fact.calls,
            first: fact.first().clone(),
            phases: fact.phases().iter().map(|phase| phase.as_str()).collect(),
            verdict,
            trace: file.display().to_string(),
        }
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
            "after_ms": self.first.after_ms, "verdict": self.verdict.to_string(), "trace": self.trace,
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
    /// The first of each of the workload's calls that is allowed.
    allowed: BTreeMap<(Abi, String), Seen>,
}

/// One trace after the other, so that memory does not grow with their number.
fn judge(case: &Case, files: &[PathBuf]) -> anyhow::Result<Judged> {
    let mut judged = Judged::default();
    let allowed = case.profile.allowed();
    for file in files {
        let trace = input::trace(file)?;
        let replay = synth::replay(&case.judge, &trace);
        judged.tally.add(&replay.tally);
        for fact in &replay.facts {
            match &fact.judgement {
                Judgement::Denied(verdict) => {
                    let name = &fact.row.name;
                    let mut refused = Seen::new(fact, *verdict, file);
                    if !allowed.contains(name.as_str()) {
                        refused.call.clone_from(name);
                    }
                    let key = (fact.section, fact.row.abi, refused.call.clone());
                    match judged.refused.get_mut(&key) {
                        None => drop(judged.refused.insert(key, refused)),
                        Some(own) => {
                            own.calls = own.calls.saturating_add(refused.calls);
                            if refused.first < own.first {
                                *own = Seen { calls: own.calls, ..refused };
                            }
                        }
                    }
                }
                Judgement::Unknown(why) => {
                    judged.unknown.insert(fact.row.name.clone(), why.as_str().to_owned());
                }
                Judgement::Allowed if fact.section == Section::Workload => {
                    let key = (fact.row.abi, fact.row.name.clone());
                    judged.allowed.entry(key).or_insert_with(|| Seen {
                        call: fact.row.name.clone(),
                        calls: fact.row.calls,
                        first: fact.row.first.clone(),
                        phases: fact.row.phases.iter().map(|phase| phase.as_str()).collect(),
                        ..Seen::new(fact, Verdict::Allow, file)
                    });
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
    unknown(REPLAY, &judged, checks);
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

fn unknown(name: &'static str, judged: &Judged, checks: &mut Checks) {
    for (call, why) in &judged.unknown {
        let message = format!(
            "whether `{call}` is allowed cannot be told: {why}; decide in `workload.toml` to `allow` or to `accept` that"
        );
        checks.add(Check::new(name, Status::NoEvidence, message));
    }
}

/// Fresh traces: what is new in them, and what is not made any more.
pub(super) fn fresh(case: &Case, checks: &mut Checks) -> anyhow::Result<()> {
    let Some(trace) = &case.fresh else { return Ok(()) };
    let native = case.evidence.workload.native;
    let judged = judge(case, &case.fresh_files)?;
    let known = names(&case.merged);
    let seen = names(trace);
    for refused in judged.refused.values() {
        let is_known = known.contains(&(refused.abi, refused.name.as_str()));
        let what = if is_known { "new way of calling" } else { "new syscall" };
        let message = format!("{what} {}", refused.line(native));
        let check = Check::new(FRESH, Status::Failed, message);
        checks.add(check.with("call", refused.json()).remedy(adopt(case)));
    }
    unknown(FRESH, &judged, checks);
    // What is allowed as another call's sibling, say, is new all the same: a rule that was not observed now is.
    for ((abi, name), own) in &judged.allowed {
        if !known.contains(&(*abi, name.as_str())) {
            let message = format!("new syscall {}, but no trace of the folder shows it", own.line(native));
            let check = Check::new(FRESH, Status::Failed, message);
            checks.add(check.with("call", own.json()).remedy(adopt(case)));
        }
    }
    let vanished: Vec<String> = known
        .difference(&seen)
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

/// The workload's calls that were carried out.
fn names(trace: &Trace) -> BTreeSet<(Abi, &str)> {
    trace.syscalls.iter().filter(|row| row.calls > 0).map(|row| (row.abi, row.name.as_str())).collect()
}
