//! Every syscall that a profile allows, with why, who made it, and what allowing it opens up.

use std::collections::{BTreeMap, BTreeSet};

use trace::{Abi, Row, Trace, Values};

use super::{
    Input,
    model::{Decided, Origin, Rule, Seen, SpecialAnswer, Way},
    open::Open,
    reasons::{Sight, sentences},
};
use crate::{
    catalogue::catalogue,
    condition::display_conditions,
    decode,
    evidence::{EvidenceDecision, EvidenceRule, Reason},
    profile::{Action, Entry, Profile},
};

/// As many ways in which a call was made as a reader looks through.
const MOST_SEEN: usize = 24;

/// The rules, ordered by name.
pub(super) fn rules(input: &Input<'_>, open: &Open) -> Vec<Rule> {
    let mut ways: BTreeMap<&str, Vec<Way>> = BTreeMap::new();
    let mut reasons: BTreeMap<&str, BTreeSet<&Reason>> = BTreeMap::new();
    match input.own_evidence() {
        Some(evidence) => {
            for rule in &evidence.rules {
                ways.entry(&rule.syscall).or_default().push(of_evidence(rule, input.native));
                reasons.entry(&rule.syscall).or_default().extend(&rule.reasons);
            }
        }
        None => {
            for entry in input.profile.syscalls.iter().filter(|entry| entry.action.executes()) {
                for name in &entry.names {
                    ways.entry(name).or_default().push(of_entry(entry, name, input.native));
                }
            }
        }
    }
    for (name, _) in open.iter().filter(|_| input.profile.default_action.executes()) {
        ways.entry(name).or_insert_with(|| vec![by_default()]);
    }
    let seen = input.trace.map(seen).unwrap_or_default();
    let one = |(syscall, ways): (&str, Vec<Way>)| {
        let reasons = reasons.remove(syscall).unwrap_or_default();
        let decisions = input.decisions.iter().filter(|own| own.syscall == syscall);
        let decisions = decisions.map(|own| decided_by(own, input)).collect();
        rule(syscall, ways, &reasons, seen.get(syscall), decisions, open.get(syscall))
    };
    ways.into_iter().map(one).collect()
}

fn rule(
    syscall: &str,
    mut ways: Vec<Way>,
    reasons: &BTreeSet<&Reason>,
    seen: Option<&BTreeMap<String, Seen>>,
    decisions: Vec<String>,
    always: Option<bool>,
) -> Rule {
    // What was seen stands first.
    ways.sort_by_key(|way| way.origin);
    let known = catalogue(syscall);
    let sight = Sight::of(reasons.iter().copied());
    let mut seen: Vec<Seen> = seen.into_iter().flat_map(BTreeMap::values).cloned().collect();
    seen.sort_by(|one, other| (other.calls, &one.call).cmp(&(one.calls, &other.call)));
    seen.truncate(MOST_SEEN);
    Rule {
        syscall: syscall.to_owned(),
        does: known.map(|known| known.does.clone()),
        risk: known.map(|known| known.risk),
        opens: known.and_then(|known| known.opens.clone()),
        origin: Origin::of(reasons.iter().copied()),
        // A call of other ABIs alone is not asked about: there the text has to do.
        always: always.unwrap_or_else(|| ways.iter().any(|way| way.raw.iter().any(|raw| raw == ALWAYS))),
        wider: false,
        ways,
        calls: sight.calls,
        runs: sight.runs,
        phases: sight.phases,
        first: sight.first,
        outcomes: sight.outcomes,
        seen,
        decisions,
        attacks: Vec::new(),
    }
}

/// How conditions are written where there is none.
pub(super) const ALWAYS: &str = "always";

fn of_evidence(rule: &EvidenceRule, native: Abi) -> Way {
    let abi = rule.allowed_in.iter().copied().find(|abi| *abi == native);
    let abi = abi.or_else(|| rule.allowed_in.first().copied()).unwrap_or(native);
    Way {
        words: decode::alternatives_list(abi, &rule.syscall, &rule.when),
        raw: rule.when.clone(),
        origin: Origin::of(&rule.reasons),
        reasons: sentences(&rule.reasons),
    }
}

fn of_entry(entry: &Entry, syscall: &str, native: Abi) -> Way {
    let raw = vec![display_conditions(&entry.args)];
    Way {
        words: decode::alternatives_list(native, syscall, &raw),
        raw,
        origin: Origin::Unexplained,
        reasons: Vec::new(),
    }
}

/// What no rule names, where the default lets it through.
fn by_default() -> Way {
    Way {
        words: vec![ALWAYS.to_owned()],
        raw: vec![ALWAYS.to_owned()],
        origin: Origin::Unexplained,
        reasons: vec!["no rule is about it, and what no rule is about is allowed".to_owned()],
    }
}

/// The decisions, with what they come to on this day.
pub(super) fn decisions(input: &Input<'_>) -> Vec<Decided> {
    let one = |own: &EvidenceDecision| Decided {
        verdict: own.verdict,
        syscall: own.syscall.clone(),
        when: own.when.clone(),
        words: in_words(own, input.native),
        reason: own.reason.clone(),
        owner: own.owner.clone(),
        expires: own.expires,
        expired: own.is_over(input.today),
    };
    input.decisions.iter().map(one).collect()
}

fn in_words(decision: &EvidenceDecision, native: Abi) -> String {
    decode::alternatives(native, &decision.syscall, std::slice::from_ref(&decision.when))
}

/// A decision in a sentence.
pub(super) fn decided_by(decision: &EvidenceDecision, input: &Input<'_>) -> String {
    let over = if decision.is_over(input.today) { ", expired" } else { "" };
    let until = decision.expires.map(|expires| format!(" until {expires}{over}")).unwrap_or_default();
    let when = match decision.when.as_str() {
        ALWAYS => String::new(),
        _ => format!(" where {}", in_words(decision, input.native)),
    };
    format!("{}{when} by {}{until}: {}", decision.verdict.as_str(), decision.owner, decision.reason)
}

type Ways = BTreeMap<String, Seen>;

/// What was seen of the calls whose arguments were recorded, by syscall and by the call in words.
fn seen(trace: &Trace) -> BTreeMap<String, Ways> {
    let mut all: BTreeMap<String, Ways> = BTreeMap::new();
    let exec = trace.exec.iter().flat_map(|exec| &exec.syscalls).map(|row| (row, true));
    for (row, in_exec) in trace.syscalls.iter().map(|row| (row, false)).chain(exec) {
        for (values, call) in ways_of(row) {
            let own = Seen {
                call: call.clone(),
                calls: values.calls,
                phases: values.phases.clone(),
                first: values.first.clone(),
                in_exec,
            };
            let ways = all.entry(row.name.clone()).or_default();
            match ways.get_mut(&call) {
                None => _ = ways.insert(call, own),
                Some(known) => {
                    known.calls = known.calls.saturating_add(own.calls);
                    known.phases.extend(own.phases);
                    known.in_exec |= in_exec;
                    known.first = known.first.clone().min(own.first);
                }
            }
        }
    }
    all
}

fn ways_of(row: &Row) -> impl Iterator<Item = (&Values, String)> {
    row.arguments.iter().flat_map(move |arguments| {
        arguments
            .values
            .iter()
            .filter(|values| values.calls > 0)
            .map(move |values| (values, decode::recorded(row.abi, &row.name, &arguments.kept, values)))
    })
}

/// What is refused in another way than by default, by answer.
pub(super) fn answers(profile: &Profile, native: Abi) -> Vec<SpecialAnswer> {
    let mut by_answer: BTreeMap<(String, String), BTreeSet<&str>> = BTreeMap::new();
    let default = answer(profile.default_action, profile.default_errno_ret);
    for entry in profile.syscalls.iter().filter(|entry| !entry.action.executes()) {
        let answer = answer(entry.action, entry.errno_ret);
        for name in entry.names.iter().filter(|_| answer != default) {
            let when = decode::conditions(native, name, &entry.args);
            by_answer.entry((answer.clone(), when)).or_default().insert(name);
        }
    }
    let one = |((answer, when), names): ((String, String), BTreeSet<&str>)| SpecialAnswer {
        answer,
        when,
        syscalls: names.into_iter().map(str::to_owned).collect(),
    };
    by_answer.into_iter().map(one).collect()
}

/// An action in words: `EPERM`, `allowed`, `the process is killed`.
pub(super) fn answer(action: Action, errno: Option<u16>) -> String {
    match action {
        Action::Errno => trace::Errno::new(errno.unwrap_or(1)).unwrap_or(trace::Errno::EPERM).to_string(),
        Action::Allow => "allowed".to_owned(),
        Action::Log => "allowed and logged".to_owned(),
        Action::Kill | Action::KillThread => "the thread is killed".to_owned(),
        Action::KillProcess => "the process is killed".to_owned(),
        Action::Trap => "SIGSYS".to_owned(),
        Action::Trace => "a tracer is asked".to_owned(),
        Action::Notify => "a supervisor is asked".to_owned(),
    }
}
