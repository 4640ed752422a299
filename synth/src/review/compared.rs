//! What the profile lets through beyond the reference, what it refuses of what was recorded, and what was refused
//! already while that was recorded.

use std::collections::{BTreeMap, BTreeSet};

use trace::{Row, Trace};

use super::{
    Input,
    model::{LeftOut, Refused, Replayed, Rule, Wider},
    open::as_written,
    rules::decided,
};
use crate::{
    compile::{CompileError, CompileOptions, host_knows},
    decision::Verdict as DecisionVerdict,
    difference::difference,
    replay::{Judge, Judgement, Purpose, Section, replay},
    simulate::Verdict,
};

/// What the profile allows and the reference refuses, and the calls of which that could not be decided.
pub(super) fn wider(input: &Input<'_>) -> Result<(Vec<Wider>, Vec<String>), CompileError> {
    let found = difference(input.against.profile, input.profile, input.native, CompileOptions::default())?;
    let allows = |name: &str| {
        let mut own = input.decisions.iter();
        own.find(|own| own.verdict == DecisionVerdict::Allow && own.syscall == name).map(decided)
    };
    let wider = found.wider().filter_map(|call| {
        let gained = call.gained.as_ref()?;
        Some(Wider {
            syscall: call.name.clone(),
            abis: call.places.iter().map(|place| place.abi).collect(),
            here: gained.when.clone(),
            there: call.old.when.clone(),
            example: gained.call.clone(),
            decided: allows(&call.name),
        })
    });
    let mut wider: Vec<Wider> = wider.collect();
    // Nodes with a newer libseccomp have names in their filters that this host's leaves out.
    for name in input.profile.allowed().into_iter().filter(|name| !host_knows(name)) {
        if as_written(input.against.profile, name).is_none() {
            wider.push(Wider {
                syscall: name.to_owned(),
                abis: BTreeSet::from([input.native]),
                here: vec!["where libseccomp knows the name".to_owned()],
                there: Vec::new(),
                example: name.to_owned(),
                decided: allows(name),
            });
        }
    }
    let undecided = found.undecided.into_iter().map(|own| format!("{}: {}", own.name, own.why));
    Ok((wider, undecided.collect()))
}

/// What the recorded calls get from the profile.
pub(super) fn replayed(input: &Input<'_>, trace: &Trace) -> Result<(Replayed, Vec<LeftOut>), CompileError> {
    let mut judge = Judge::new(input.profile, input.native, CompileOptions::default())?;
    if let Some(evidence) = input.own_evidence() {
        judge = judge.with_evidence(evidence);
    }
    let result = replay(&judge, trace);
    let mut left_out: BTreeMap<(String, String), LeftOut> = BTreeMap::new();
    let mut denied = BTreeSet::new();
    for fact in &result.facts {
        let (by, accepted) = match &fact.judgement {
            Judgement::Denied(verdict) => (not_learned(*verdict), None),
            Judgement::OnPurpose(Purpose::Enosys) | Judgement::Allowed => continue,
            Judgement::OnPurpose(purpose @ Purpose::Accepted { .. }) => {
                ("the ceiling, or its arguments are not known".to_owned(), Some(purpose.in_words()))
            }
            Judgement::OnPurpose(purpose) => (purpose.in_words(), None),
            Judgement::Unknown(_) | Judgement::NotNeeded(_) => continue,
        };
        if matches!(fact.judgement, Judgement::Denied(_)) {
            denied.insert(fact.row.name.clone());
        }
        let own = left_out.entry((fact.row.name.clone(), by.clone())).or_insert_with(|| LeftOut {
            syscall: fact.row.name.clone(),
            arguments: Vec::new(),
            calls: 0,
            succeeded: false,
            by,
            accepted,
        });
        own.calls = own.calls.saturating_add(fact.calls);
        own.succeeded |= fact.row.succeeded();
        let words = fact.in_words();
        if words != fact.row.name && !own.arguments.contains(&words) {
            own.arguments.push(words);
        }
    }
    let tally = result.tally;
    let unknown: BTreeSet<String> = result
        .facts
        .iter()
        .filter(|fact| matches!(fact.judgement, Judgement::Unknown(_)))
        .map(|fact| fact.row.name.clone())
        .collect();
    let replayed = Replayed {
        facts: tally.total().facts,
        calls: tally.total().calls,
        allowed: tally.allowed.calls,
        denied: tally.denied.calls,
        on_purpose: tally.on_purpose.calls,
        not_needed: tally.not_needed.calls,
        unknown: tally.unknown.calls,
        denied_syscalls: denied,
        unknown_syscalls: unknown,
        with_runtime: result.facts.iter().any(|fact| fact.section == Section::RuntimeStart),
    };
    Ok((replayed, left_out.into_values().collect()))
}

fn not_learned(verdict: Verdict) -> String {
    format!("no rule allows it ({verdict})")
}

/// What a filter refused while the workload was recorded.
pub(super) fn refused(trace: &Trace, rules: &[Rule]) -> Vec<Refused> {
    let allowed: BTreeSet<&str> = rules.iter().map(|rule| rule.syscall.as_str()).collect();
    let one = |row: &Row| Refused {
        abi: row.abi,
        syscall: row.name.clone(),
        times: row.denied,
        answers: row.refusals.iter().map(|(answer, times)| (answer.to_string(), *times)).collect(),
        also_made: row.calls > 0,
        first: row.first.clone(),
        allowed: allowed.contains(row.name.as_str()),
    };
    trace.syscalls.iter().filter(|row| row.denied > 0).map(one).collect()
}
