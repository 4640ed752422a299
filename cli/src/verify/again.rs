//! Whether the profile is what synthesis makes of the folder, byte for byte; and where it is not, whose doing that is.

use std::collections::BTreeSet;

use anyhow::Context;
use synth::{
    CompileOptions, DecisionVerdict, Difference, Evidence, Profile, Synthesis, difference, synthesize,
};
use trace::Digest;

use super::{
    Case,
    check::{Check, Checks, Status},
    remedy::proposals,
};
use crate::{
    decisions::Proposal,
    folder::{EVIDENCE, PROFILE, WORKLOAD},
    terminal::count,
};

/// What this check is called.
const NAME: &str = "synthesis";

/// So many differences are written out.
const MOST_LINES: usize = 12;

pub(super) fn check(case: &Case, checks: &mut Checks) -> anyhow::Result<()> {
    let made = match synthesize(&case.merged, &case.how) {
        Ok(made) => made,
        Err(error) if error.is_incomplete_evidence() => {
            checks.add(Check::no_evidence(NAME, error.to_string(), case.record_command()));
            return Ok(());
        }
        Err(error) => return Err(error).context("cannot make the profile again"),
    };
    if is_same(case, &made) {
        checks.add(Check::new(NAME, Status::Ok, "the folder's traces and decisions give the same bytes"));
        return Ok(());
    }
    // A decision that expired meanwhile is a failure of its own: before, the bytes were these.
    let before = synthesize(&case.merged, &synth::Options { today: None, ..case.how.clone() });
    let is_expiry = before.as_ref().is_ok_and(|before| is_same(case, before));
    let causes = causes(case, &made);
    let same_profile = made.profile.to_json().as_bytes() == case.bytes;
    let (status, message) = if let Some(message) = edited(case) {
        (Status::Failed, message)
    } else if is_expiry {
        (Status::Failed, "a decision has expired since the profile was made, which changes it".to_owned())
    } else if same_profile && causes.iter().all(|cause| matches!(cause, Cause::Tool(_))) {
        let message = format!("the same profile, though {}; `{EVIDENCE}` would say so", listed(&causes));
        (Status::Warning, message)
    } else {
        let what = if same_profile { EVIDENCE } else { PROFILE };
        (Status::Failed, format!("`{what}` would be another one, because {}", listed(&causes)))
    };
    let details = meaning(&case.profile, &made.profile, case)?;
    let check = Check::new(NAME, status, message).details(details);
    let is_by_hand = Digest::of(&case.bytes) != case.evidence.profile;
    let keep = if is_by_hand { by_hand(case, &made)? } else { Vec::new() };
    checks.add(case.kept_or_undone(check, &keep));
    Ok(())
}

/// The decisions that say what an edit by hand says, as far as decisions can: of cases that no condition describes
/// they do not speak.
fn by_hand(case: &Case, made: &Synthesis) -> anyhow::Result<Vec<Proposal>> {
    let native = case.evidence.workload.native;
    let Difference { calls, .. } =
        difference(&made.profile, &case.profile, native, CompileOptions::default())
            .context("cannot compare the profile with the one made again")?;
    let mut keep = BTreeSet::new();
    for call in &calls {
        for (verdict, part) in [(DecisionVerdict::Allow, &call.gained), (DecisionVerdict::Deny, &call.lost)] {
            if let Some(part) = part {
                keep.extend(proposals(verdict, &call.name, &part.when));
            }
        }
    }
    Ok(keep.into_iter().collect())
}

fn is_same(case: &Case, made: &Synthesis) -> bool {
    made.profile.to_json().as_bytes() == case.bytes
        && made.evidence.to_json().as_bytes() == case.evidence_bytes
}

/// Why synthesis gives something else, other than by an edit of what it wrote.
enum Cause {
    /// Another version of this tool.
    Tool(String),
    /// Another table.
    Table(String),
    /// Other traces.
    Traces(String),
    /// Other choices or decisions.
    Choices(String),
}

impl Cause {
    fn text(&self) -> &str {
        match self {
            Self::Tool(text) | Self::Table(text) | Self::Traces(text) | Self::Choices(text) => text,
        }
    }
}

fn listed(causes: &[Cause]) -> String {
    causes.iter().map(Cause::text).collect::<Vec<_>>().join(", and ")
}

/// What was edited after it was written: each of the two files has a digest that says so.
fn edited(case: &Case) -> Option<String> {
    let evidence = case.evidence.is_as_written() == Some(false)
        || case.evidence.to_json().as_bytes() != case.evidence_bytes;
    let profile = Digest::of(&case.bytes) != case.evidence.profile;
    let what = match (profile, evidence) {
        (false, false) => return None,
        (true, false) => format!("`{PROFILE}` was"),
        (false, true) => format!("`{EVIDENCE}` was"),
        (true, true) => format!("`{PROFILE}` and `{EVIDENCE}` were"),
    };
    Some(format!("{what} edited by hand: its digest is not the one that was written down"))
}

/// What has changed since the two were written.
fn causes(case: &Case, made: &Synthesis) -> Vec<Cause> {
    let (old, new) = (&case.evidence, &made.evidence);
    let mut causes = Vec::new();
    if (&old.tool, &old.version) != (&new.tool, &new.version) {
        causes.push(Cause::Tool(format!(
            "it was made by {} (evidence {}), and this is {} (evidence {})",
            old.tool, old.version, new.tool, new.version
        )));
    }
    causes.extend(traces(old, new));
    let (before, now) = (&old.options, &new.options);
    if before.ceiling != now.ceiling {
        let name = |evidence: &Evidence| {
            let ceiling = &evidence.options.ceiling;
            format!("{} ({})", ceiling.name, ceiling.source.as_deref().unwrap_or("no source"))
        };
        let text = format!("the ceiling was {} and is {}", name(old), name(new));
        let table = before.ceiling.name == now.ceiling.name;
        causes.push(if table { Cause::Table(text) } else { Cause::Choices(text) });
    }
    if before.runtime != now.runtime {
        causes.push(Cause::Table(format!(
            "the tables of container runtimes were {} and are {}",
            names(&before.runtime),
            names(&now.runtime)
        )));
    }
    let plain = |evidence: &Evidence| {
        let mut options = evidence.options.clone();
        options.ceiling.clone_from(&now.ceiling);
        options.runtime.clear();
        options
    };
    let (mut was, is) = (plain(old), plain(new));
    if was.decisions != is.decisions {
        was.decisions.clone_from(&is.decisions);
        causes.push(Cause::Choices(format!("the decisions in `{WORKLOAD}` are others")));
    }
    if was != is {
        causes.push(Cause::Choices(format!("the choices in `{WORKLOAD}` are others")));
    }
    if causes.is_empty() && added(old) != added(new) {
        causes.push(Cause::Choices(format!("what `{WORKLOAD}` adds after denials is another")));
    }
    if causes.is_empty() {
        causes.push(Cause::Table(format!(
            "the tables of this {} are others than those it was made with",
            new.tool
        )));
    }
    causes
}

fn names(list: &[String]) -> String {
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}

/// What was added after denials, by syscall and reason.
fn added(evidence: &Evidence) -> BTreeSet<(&str, &str)> {
    let reasons =
        evidence.rules.iter().flat_map(|rule| rule.reasons.iter().map(|reason| (&rule.syscall, reason)));
    reasons
        .filter_map(|(syscall, reason)| match reason {
            synth::Reason::Added { why, .. } => Some((syscall.as_str(), why.as_str())),
            _ => None,
        })
        .collect()
}

fn traces(old: &Evidence, new: &Evidence) -> Option<Cause> {
    let digests =
        |evidence: &Evidence| evidence.workload.traces.iter().copied().collect::<BTreeSet<Digest>>();
    let (was, is) = (digests(old), digests(new));
    let (added, gone) = (is.difference(&was).count() as u64, was.difference(&is).count() as u64);
    let text = match (added, gone) {
        (0, 0) => return None,
        (added, 0) => format!("{} came since it was made", count(added, "run")),
        (0, gone) => format!("{} that it was made from are gone", count(gone, "run")),
        (added, gone) => format!("{} came and {gone} are gone since it was made", count(added, "run")),
    };
    Some(Cause::Traces(text))
}

/// What the change means, a line for each call.
fn meaning(old: &Profile, new: &Profile, case: &Case) -> anyhow::Result<Vec<String>> {
    let native = case.evidence.workload.native;
    let Difference { calls, undecided } = difference(old, new, native, CompileOptions::default())
        .context("cannot compare the profile with the one made again")?;
    let line = |call: &synth::CallDifference| {
        let when = if call.new.executes() && call.new.when != ["always"] {
            format!(" ({})", call.new.when.join(" or "))
        } else {
            String::new()
        };
        format!("`{}`: {}{when}", call.name, call.change.as_str())
    };
    let mut lines: Vec<String> = calls.iter().map(line).collect();
    lines.extend(undecided.iter().map(|call| format!("`{}`: may differ: {}", call.name, call.why)));
    let more = lines.len().saturating_sub(MOST_LINES);
    lines.truncate(MOST_LINES);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    if lines.is_empty() {
        lines.push("it would mean the same".to_owned());
    }
    Ok(lines)
}
