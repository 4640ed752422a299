//! The table of rules: for each syscall under which conditions it is allowed, and why.

use std::collections::{BTreeMap, BTreeSet};

use synth::{Evidence, EvidenceRule, Reason, decode};
use trace::{Abi, FirstSight, PhaseName};

use super::table::{cell, code, table};
use crate::terminal::count;

/// As many alternatives as a reader looks through.
const MOST: usize = 12;

/// The table.
pub(super) fn rules(evidence: &Evidence) -> String {
    let mut groups: BTreeMap<(&str, Group), Vec<&EvidenceRule>> = BTreeMap::new();
    for rule in &evidence.rules {
        groups.entry((&rule.syscall, Group::of(rule))).or_default().push(rule);
    }
    let rows = groups.into_iter().map(|((syscall, group), rules)| {
        let abi = rules.iter().flat_map(|rule| &rule.allowed_in).copied().min().unwrap_or(Abi::X86_64);
        let when: Vec<String> = rules.iter().flat_map(|rule| rule.when.iter().cloned()).collect();
        let reasons: BTreeSet<&Reason> = rules.iter().flat_map(|rule| &rule.reasons).collect();
        vec![code(syscall), alternatives(abi, syscall, &when), cell(&why(group == Group::Observed, &reasons))]
    });
    table(&["syscall", "when", "why"], rows)
}

/// What tells the rules of a syscall apart for a reader.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Observed,
    Harmless,
    Driver,
    /// By the reasons, in words.
    Not(String),
}

impl Group {
    fn of(rule: &EvidenceRule) -> Self {
        if rule.observed {
            return Self::Observed;
        }
        let all = |is: fn(&Reason) -> bool| rule.reasons.iter().all(is);
        let is_harmless = |reason: &Reason| matches!(reason, Reason::Harmless { .. });
        // The requests of other branches are listed in a section of their own.
        if rule.reasons.iter().any(|reason| matches!(reason, Reason::Driver { .. })) {
            return Self::Driver;
        }
        if all(is_harmless) { Self::Harmless } else { Self::Not(why(false, &rule.reasons.iter().collect())) }
    }
}

/// The conditions in words, an alternative a line.
fn alternatives(abi: Abi, syscall: &str, when: &[String]) -> String {
    let list = decode::alternatives_list(abi, syscall, when);
    if list == ["always"] {
        return "always".to_owned();
    }
    let mut lines: Vec<String> = list.iter().take(MOST).map(|text| code(text)).collect();
    if list.len() > MOST {
        lines.push(format!("… {} more, in the evidence", list.len() - MOST));
    }
    lines.join("<br>")
}

/// All reasons in a sentence.
fn why(observed: bool, reasons: &BTreeSet<&Reason>) -> String {
    let mut seen = Sight::default();
    let mut sessions = Sight::default();
    let (mut others, mut runtimes, mut harmless) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for reason in reasons {
        match reason {
            Reason::Observed { calls, phases, first, .. } => seen.add(*calls, phases, first),
            Reason::ExecSession { calls, first, .. } => sessions.add(*calls, &BTreeSet::new(), first),
            // How the table was found is in the evidence.
            Reason::Runtime { runtime } => {
                _ = runtimes.insert(runtime.split_once(',').map_or(runtime.as_str(), |(name, _)| name));
            }
            Reason::Harmless { why } => _ = harmless.insert(why.as_str()),
            other => _ = others.insert(one(other)),
        }
    }
    let mut words = Vec::new();
    if let Some(first) = &seen.first {
        let phases: Vec<&str> = seen.phases.iter().map(|phase| phase.as_str()).collect();
        words.push(format!(
            "{} in {}, first by {}",
            count(seen.calls, "call"),
            phases.join(", "),
            first.comm
        ));
    }
    if let Some(first) = &sessions.first {
        words.push(format!("{} in exec sessions, first by {}", count(sessions.calls, "call"), first.comm));
    }
    words.extend(others);
    if !harmless.is_empty() {
        let harmless: Vec<&str> = harmless.into_iter().collect();
        words.push(format!("besides, *not observed* and harmless: {}", harmless.join("; ")));
    }
    if !runtimes.is_empty() && !observed {
        let runtimes: Vec<&str> = runtimes.into_iter().collect();
        words.push(format!("*not observed*: the container runtime calls it ({})", runtimes.join(", ")));
    }
    let text = words.join("; ");
    text.strip_prefix("besides, ").map_or_else(|| text.clone(), str::to_owned)
}

/// Observations, added up.
#[derive(Default)]
struct Sight {
    calls: u64,
    phases: BTreeSet<PhaseName>,
    first: Option<FirstSight>,
}

impl Sight {
    fn add(&mut self, calls: u64, phases: &BTreeSet<PhaseName>, first: &FirstSight) {
        self.calls = self.calls.saturating_add(calls);
        self.phases.extend(phases);
        if self.first.as_ref().is_none_or(|own| first < own) {
            self.first = Some(first.clone());
        }
    }
}

fn one(reason: &Reason) -> String {
    match reason {
        Reason::Added { why, .. } => format!("added: {why}"),
        Reason::Always { why } => format!("*not observed*: every program needs it ({why})"),
        Reason::Fallback { of, .. } => format!("*not observed*: called where {of} is answered with ENOSYS"),
        Reason::Sibling { of, .. } => {
            let of: Vec<&str> = of.iter().map(String::as_str).collect();
            format!("*not observed*: stands for {} elsewhere", of.join(", "))
        }
        Reason::Portable { why } => format!("*not observed*: {why}"),
        Reason::Driver { request: Some(_), .. } => {
            "*not observed*: other branches of the GPU's driver ask for it, see there".to_owned()
        }
        Reason::Driver { request: None, why, .. } => {
            format!("*not observed*: other branches of the GPU's driver need it ({why})")
        }
        Reason::Decision { owner, reason, expires } => {
            let until = expires.map(|expires| format!(" until {expires}")).unwrap_or_default();
            format!("decided by {owner}{until}: {reason}")
        }
        Reason::RuntimeSeen { calls, .. } => {
            format!("{} by the container runtime, under the filter", count(*calls, "call"))
        }
        // Summed up by the caller.
        Reason::Observed { .. }
        | Reason::ExecSession { .. }
        | Reason::Runtime { .. }
        | Reason::Harmless { .. } => String::new(),
    }
}
