//! What the profile lets through beyond the reference, what it refuses of what was recorded, and what was refused
//! already while that was recorded.

use std::collections::{BTreeMap, BTreeSet};

use trace::{Outcome, Row, Trace};

use super::{
    Input,
    model::{LeftOut, Refused, Replayed, Wider},
    open::as_written,
    rules::{ALWAYS, decided_by},
};
use crate::{
    compile::{CompileError, CompileOptions, host_knows},
    decision::{Decision, Verdict as DecisionVerdict, allowing},
    difference::difference,
    evidence::EvidenceDecision,
    explain::Carried,
    names::is_syscall,
    possible::Registers,
    profile::Profile,
    replay::{Fact, Judge, Judgement, Purpose, Section, registers, replay},
    simulate::Verdict,
};

/// What the profile allows and the reference refuses, and the calls of which that could not be decided.
pub(super) fn wider(input: &Input<'_>) -> Result<(Vec<Wider>, Vec<String>), CompileError> {
    let found = difference(input.against.profile, input.profile, input.native, CompileOptions::default())?;
    let wider = found.wider().filter_map(|call| {
        let gained = call.gained.as_ref()?;
        Some(Wider {
            syscall: call.name.clone(),
            abis: call.places.iter().map(|place| place.abi).collect(),
            here: gained.when.clone(),
            there: call.old.when.clone(),
            example: gained.call.clone(),
            decided: Vec::new(),
            expired: Vec::new(),
            open: gained.when.clone(),
        })
    });
    let mut wider: Vec<Wider> = wider.collect();
    for own in &mut wider {
        answers(input, own)?;
    }
    // Nodes with a newer libseccomp have names in their filters that this host's leaves out.
    for name in input.profile.allowed().into_iter().filter(|name| !host_knows(name)) {
        if as_written(input.against.profile, name).is_none() {
            let here = vec!["where libseccomp knows the name".to_owned()];
            let (decided, over) = allows(input, name);
            // This host's library cannot compare it.
            let (whole, part): (Vec<_>, Vec<_>) = decided.into_iter().partition(|own| own.when == ALWAYS);
            wider.push(Wider {
                syscall: name.to_owned(),
                abis: BTreeSet::from([input.native]),
                there: Vec::new(),
                example: name.to_owned(),
                open: if whole.is_empty() { here.clone() } else { Vec::new() },
                decided: whole.into_iter().chain(part).map(|own| decided_by(own, input)).collect(),
                expired: over.into_iter().map(|own| decided_by(own, input)).collect(),
                here,
            });
        }
    }
    let undecided = found.undecided.into_iter().map(|own| format!("{}: {}", own.name, own.why));
    Ok((wider, undecided.collect()))
}

/// The decisions that allow something of a call: those that count, and those that have expired.
fn allows<'a>(input: &'a Input<'_>, name: &str) -> (Vec<&'a EvidenceDecision>, Vec<&'a EvidenceDecision>) {
    let own = input.decisions.iter();
    own.filter(|own| own.verdict == DecisionVerdict::Allow && own.syscall == name)
        .partition(|own| !own.is_over(input.today))
}

/// Which decisions answer for what is wider of a call, and for which cases none does: what stays wider than the reference
/// with what they allow.
fn answers(input: &Input<'_>, wider: &mut Wider) -> Result<(), CompileError> {
    let name = wider.syscall.clone();
    let (active, over) = allows(input, &name);
    if !is_syscall(&name) || (active.is_empty() && over.is_empty()) {
        return Ok(());
    }
    let only = |profile: &Profile| {
        let mut profile = profile.clone();
        profile.syscalls.retain(|entry| entry.names.contains(&name));
        profile.syscalls.iter_mut().for_each(|entry| entry.names.retain(|own| *own == name));
        profile
    };
    let (there, here) = (only(input.against.profile), only(input.profile));
    let open = |decisions: &[&EvidenceDecision]| -> Result<Vec<String>, CompileError> {
        let decisions: Vec<Decision> =
            decisions.iter().filter_map(|own| Decision::try_from(*own).ok()).collect();
        let bound = allowing(&there, &decisions);
        let found = difference(&bound, &here, input.native, CompileOptions::default())?;
        let cases = found
            .wider()
            .filter(|own| own.name == name && own.places.iter().any(|place| wider.abis.contains(&place.abi)));
        let cases = cases.filter_map(|own| own.gained.as_ref()).flat_map(|part| part.when.clone());
        let undecided = found.undecided.iter().filter(|own| own.name == name).map(|own| own.why.clone());
        Ok(cases.chain(undecided).collect())
    };
    let none = open(&[])?;
    let answering = |all: Vec<&EvidenceDecision>| -> Result<Vec<String>, CompileError> {
        let mut sentences = Vec::new();
        for own in all {
            if open(&[own])? != none {
                sentences.push(decided_by(own, input));
            }
        }
        Ok(sentences)
    };
    let left = open(&active)?;
    let (decided, expired) = (answering(active)?, answering(over)?);
    (wider.decided, wider.expired, wider.open) = (decided, expired, left);
    Ok(())
}

/// What the recorded calls get from the profile.
pub(super) fn replayed(input: &Input<'_>, trace: &Trace) -> Result<(Replayed, Vec<LeftOut>), CompileError> {
    let mut judge = Judge::new(input.profile, input.native, CompileOptions::default())?;
    if let Some(evidence) = input.own_evidence() {
        judge = judge.with_evidence(evidence);
    }
    let result = replay(&judge, trace);
    let mut left_out: BTreeMap<(String, String, Section), LeftOut> = BTreeMap::new();
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
        let key = (fact.row.name.clone(), by.clone(), fact.section);
        let own = left_out.entry(key).or_insert_with(|| LeftOut {
            syscall: fact.row.name.clone(),
            arguments: Vec::new(),
            calls: 0,
            succeeded: Some(false),
            whose: fact.section.as_str().to_owned(),
            by,
            accepted,
        });
        own.calls = own.calls.saturating_add(fact.calls);
        own.succeeded = match (own.succeeded, succeeded(fact)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        };
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

/// Whether calls succeeded: how a call ended is known of all of its name together.
fn succeeded(fact: &Fact<'_>) -> Option<bool> {
    let failed = |(outcome, calls): (&Outcome, &u64)| matches!(outcome, Outcome::Error(_)).then_some(*calls);
    let failed = fact.row.outcomes.iter().filter_map(failed).fold(0, u64::saturating_add);
    if !fact.row.succeeded() {
        return Some(false);
    }
    (fact.calls > failed).then_some(true)
}

fn not_learned(verdict: Verdict) -> String {
    format!("no rule allows it ({verdict})")
}

/// What a filter refused while the workload was recorded.
pub(super) fn refused(input: &Input<'_>, trace: &Trace) -> Result<Vec<Refused>, CompileError> {
    let judge = Judge::new(input.profile, input.native, CompileOptions::default())?;
    let one = |row: &Row| Refused {
        abi: row.abi,
        syscall: row.name.clone(),
        times: row.denied,
        answers: row.refusals.iter().map(|(answer, times)| (answer.to_string(), *times)).collect(),
        also_made: row.calls > 0,
        first: row.first.clone(),
        here: refused_here(&judge, row),
    };
    Ok(trace.syscalls.iter().filter(|row| row.denied > 0).map(one).collect())
}

/// What the profile does about the calls that were refused, by their arguments where these are known.
fn refused_here(judge: &Judge, row: &Row) -> Carried {
    let arguments = row.arguments.as_ref();
    let values = arguments.into_iter().flat_map(|own| own.values.iter().map(move |values| (own, values)));
    let denied = values.filter(|(_, values)| values.denied > 0);
    let mut asked: Vec<Registers> = denied.map(|(own, values)| registers(row, own, values)).collect();
    let known = arguments.into_iter().flat_map(|own| &own.values).map(|values| values.denied);
    if known.fold(0, u64::saturating_add) < row.denied {
        asked.push(Registers::default());
    }
    let mut executes = BTreeSet::new();
    for registers in asked {
        let Some(verdicts) = judge.verdicts(row.abi, row.number, &registers) else { return Carried::Unknown };
        executes.extend(verdicts.into_iter().map(Verdict::executes));
    }
    match (executes.contains(&true), executes.contains(&false)) {
        (true, false) => Carried::Allowed,
        (true, true) => Carried::Partly,
        (false, _) => Carried::Refused,
    }
}
