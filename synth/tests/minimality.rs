//! Nothing is in a profile that nobody needs: without a rule that says that it was observed a recorded call is denied,
//! and what else a rule says of itself holds in the table that it is from.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;
#[path = "common/generated.rs"]
mod generated;
#[path = "common/laws.rs"]
mod kept;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use common::row;
use generated::{Calls, Shown, any_shown, calls, in_sections, is_needed, recorded, shown};
use kept::laws;
use proptest::prelude::*;
use seccomp_learn_synth::{
    ArgumentMode, Ceiling, CompileOptions, EvidenceRule, Judge, Judgement, Margin, Options, Profile, Reason,
    Runtime, Section, Synthesis, arguments, bypasses_filters, display_conditions, host_knows, replay,
    shipped_runtimes, synthesize,
};
use trace::{Abi, Row, Trace};

/// What is known to be called although it was not observed, as people wrote it down.
static TABLE: LazyLock<toml::Table> =
    LazyLock::new(|| include_str!("../../profiles/knowledge/siblings.toml").parse().unwrap());

/// The entries of a kind.
fn entries(kind: &str) -> impl Iterator<Item = &'static toml::Value> {
    TABLE[kind].as_array().unwrap().iter()
}

/// Whether a list of names of an entry has this one.
fn names_it(entry: &toml::Value, key: &str, name: &str) -> bool {
    entry.get(key).is_some_and(|names| names.as_str().unwrap().split_whitespace().any(|own| own == name))
}

fn says(entry: &toml::Value, key: &str, text: &str) -> bool {
    entry[key].as_str() == Some(text)
}

/// Whether what a rule says of itself is so.
fn holds(reason: &Reason, syscall: &str, trace: &Trace) -> bool {
    let has = |rows: &[Row], abi: Abi, least: u64| {
        rows.iter().any(|row| (row.abi, row.name.as_str()) == (abi, syscall) && row.calls >= least.max(1))
    };
    let exec = trace.exec.iter().flat_map(|exec| &exec.syscalls);
    let mut rows = trace.syscalls.iter().chain(exec).filter(|row| row.calls > 0);
    match reason {
        Reason::Observed { abi, calls, .. } => has(&trace.syscalls, *abi, *calls),
        Reason::ExecSession { abi, calls, .. } => {
            trace.exec.as_ref().is_some_and(|exec| has(&exec.syscalls, *abi, *calls))
        }
        Reason::RuntimeSeen { abi, calls, .. } => {
            trace.runtime.as_ref().is_some_and(|runtime| has(&runtime.start, *abi, *calls))
        }
        Reason::Always { why } => {
            entries("always").any(|own| names_it(own, "names", syscall) && says(own, "why", why))
        }
        Reason::Portable { why } => {
            entries("portable").any(|own| names_it(own, "names", syscall) && says(own, "why", why))
        }
        Reason::Fallback { of, why } => {
            let is_it = |own: &toml::Value| {
                says(own, "from", of) && says(own, "to", syscall) && says(own, "why", why)
            };
            rows.any(|row| row.name == *of) && entries("fallback").any(is_it)
        }
        Reason::Sibling { of, class, why } => {
            let mut classes =
                entries("class").filter(|own| says(own, "name", class) && says(own, "why", why));
            let Some(class) = classes.next() else { return false };
            let from = if class.get("from").is_some() { "from" } else { "names" };
            // What takes the place of another call stands for it.
            let stands_for = |name: &str, row: &Row| {
                row.name == name
                    || entries("fallback").any(|own| says(own, "from", &row.name) && says(own, "to", name))
            };
            let rows: Vec<&Row> = rows.collect();
            let is_observed = |name: &String| rows.iter().any(|row| stands_for(name, row));
            names_it(class, "names", syscall)
                && !of.is_empty()
                && !of.contains(syscall)
                && of.iter().all(|name| names_it(class, from, name) && is_observed(name))
        }
        Reason::Harmless { why } => [Abi::X86_64, Abi::I386]
            .iter()
            .any(|abi| arguments::harmless(*abi, syscall).iter().any(|own| own.why == why)),
        Reason::Runtime { runtime } => shipped_runtimes()
            .iter()
            .any(|table| runtime.contains(&table.label()) && table.names().any(|name| name == syscall)),
        Reason::Driver { branches, .. } => trace.target.gpu.is_some() && !branches.is_empty(),
        // Nobody decided or added anything here.
        Reason::Added { .. } | Reason::Decision { .. } => false,
    }
}

fn is_observed(reason: &Reason) -> bool {
    matches!(reason, Reason::Observed { .. } | Reason::ExecSession { .. })
}

/// Whether a rule is there because of what was recorded, and for no other reason.
fn has_no_label(rule: &EvidenceRule) -> bool {
    rule.reasons.iter().all(is_observed)
}

/// What is taken away together: an alternative that stands for calls with known arguments, or all of those that the
/// ceiling makes of a call whose arguments no rule tests.
fn units(rule: &EvidenceRule) -> Vec<Vec<&String>> {
    let is_known = |reason: &Reason| match reason {
        Reason::Observed { arguments, .. } | Reason::ExecSession { arguments, .. } => arguments.is_some(),
        _ => false,
    };
    if rule.reasons.iter().any(is_known) {
        rule.when.iter().map(|when| vec![when]).collect()
    } else {
        vec![rule.when.iter().collect()]
    }
}

/// The profile without these alternatives of a call, which it has.
fn without(profile: &Profile, syscall: &str, when: &[&String]) -> Profile {
    let mut rest = profile.clone();
    for entry in &mut rest.syscalls {
        if entry.action.executes() && when.contains(&&display_conditions(&entry.args)) {
            entry.names.retain(|name| name != syscall);
        }
    }
    let names = |profile: &Profile| profile.syscalls.iter().map(|entry| entry.names.len()).sum::<usize>();
    assert_eq!(names(&rest) + when.len(), names(profile), "{syscall} {when:?}");
    rest.syscalls.retain(|entry| !entry.names.is_empty());
    rest
}

/// What is denied of a trace that was needed, by a profile with the evidence of another.
fn denied(profile: &Profile, made: &Synthesis, trace: &Trace) -> Vec<String> {
    let judge =
        Judge::new(profile, Abi::X86_64, CompileOptions::default()).unwrap().with_evidence(&made.evidence);
    let replay = replay(&judge, trace);
    let denied = replay
        .facts
        .iter()
        .filter(|fact| is_needed(fact.row) && matches!(fact.judgement, Judgement::Denied(_)));
    denied.map(|fact| fact.in_words()).collect()
}

/// The calls that the profile lets through, at least some of them, of those that were made; judged on the filter alone.
fn needed(profile: &Profile, trace: &Trace) -> BTreeSet<String> {
    let judge = Judge::new(profile, Abi::X86_64, CompileOptions::default()).unwrap();
    let facts = replay(&judge, trace).facts;
    let passes = facts.iter().filter(|fact| {
        fact.section != Section::RuntimeStart
            && is_needed(fact.row)
            && matches!(fact.judgement, Judgement::Allowed | Judgement::Unknown(_))
            && !bypasses_filters(fact.row.abi, fact.row.number)
    });
    passes.map(|fact| fact.row.name.clone()).collect()
}

/// Takes away, one after the other, all of what was observed of each call, and every alternative without a label.
/// Returns how many were observed.
fn check(trace: &Trace, options: &Options) -> Result<usize, TestCaseError> {
    let made = synthesize(trace, options).unwrap();
    prop_assert_eq!(denied(&made.profile, &made, trace), Vec::<String>::new());
    let mut observed: BTreeMap<&String, Vec<&String>> = BTreeMap::new();
    for rule in &made.evidence.rules {
        let EvidenceRule { syscall, when, reasons, .. } = rule;
        for reason in reasons {
            prop_assert!(holds(reason, syscall, trace), "{} when {:?}: {:?}", syscall, when, reason);
        }
        if reasons.iter().any(is_observed) {
            observed.entry(syscall).or_default().extend(when);
        }
        for when in units(rule).into_iter().filter(|_| has_no_label(rule)) {
            let denied = denied(&without(&made.profile, syscall, &when), &made, trace);
            prop_assert!(!denied.is_empty(), "nobody needs {} when {:?}", syscall, when);
        }
    }
    // Each alternative may be within another one that has a label; all of what was observed of a call is not.
    for (syscall, when) in &observed {
        let denied = denied(&without(&made.profile, syscall, when), &made, trace);
        prop_assert!(!denied.is_empty(), "nobody needs {} when {:?}", syscall, when);
    }
    // A label is no way out: what was called and passes has a rule that says so.
    let names: BTreeSet<String> = observed.keys().map(|name| (*name).clone()).collect();
    prop_assert_eq!(&names, &needed(&made.profile, trace));
    Ok(observed.len())
}

fn options() -> impl Strategy<Value = Options> {
    (
        prop::sample::select(vec![Margin::None, Margin::Portable]),
        prop::sample::select(vec![Runtime::Auto, Runtime::None]),
        prop::sample::select(vec![Ceiling::RuntimeDefault, Ceiling::None]),
        prop::sample::select(vec![ArgumentMode::Off, ArgumentMode::Stable, ArgumentMode::Exact]),
    )
        .prop_map(|(margin, runtime, ceiling, arguments)| Options {
            margin,
            runtime,
            ceiling,
            arguments,
            ..Options::default()
        })
}

/// Calls without arguments.
fn names() -> impl Strategy<Value = Vec<String>> {
    let all = Abi::X86_64.numbers().map(|number| Abi::X86_64.name(number).to_string());
    let known: Vec<String> = all.filter(|name| host_knows(name)).collect();
    prop::collection::btree_set(prop::sample::select(known), 1..40)
        .prop_map(|names| names.into_iter().collect())
}

/// The recording of calls with arguments and of others without, that ended in these ways.
fn both(calls: &[Calls], names: &[String], ways: &[Shown], exec: bool) -> Trace {
    let with = recorded(calls);
    let mut rows = with.syscalls;
    for name in names {
        if !rows.iter().any(|row| row.name == *name) {
            rows.push(row(Abi::X86_64, name, 2));
        }
    }
    let ways = ways.iter().cycle();
    in_sections(rows.into_iter().zip(ways).map(|(row, way)| shown(row, *way)).collect(), exec, None)
}

proptest! {
    #![proptest_config(laws(48))]

    /// Soundness and minimality, for each mode: nothing that was recorded is denied but on purpose, and without any
    /// alternative that has no label something is.
    #[test]
    fn what_has_no_label_is_needed(
        calls in calls(),
        names in names(),
        ways in prop::collection::vec(any_shown(), 1..9),
        exec in any::<bool>(),
        options in options(),
    ) {
        check(&both(&calls, &names, &ways, exec), &options)?;
    }
}

/// The same for the worked workloads, as their profiles are made.
#[test]
#[expect(clippy::disallowed_types, reason = "the traces are files of the repository")]
fn the_worked_profiles_have_nothing_that_nobody_needs() {
    let workloads = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/workloads");
    for name in ["inference", "nim-llm", "webrtc-media"] {
        let traces: Vec<Trace> = (1..=3)
            .map(|run| {
                let file = workloads.join(format!("{name}/traces/run-00{run}.json"));
                Trace::read(std::fs::File::open(file).unwrap()).unwrap()
            })
            .collect();
        let trace = trace::merge(traces).unwrap();
        for arguments in [ArgumentMode::Off, ArgumentMode::Stable, ArgumentMode::Exact] {
            for runtime in [Runtime::Auto, Runtime::None] {
                let taken = check(&trace, &Options { arguments, runtime, ..Options::default() }).unwrap();
                println!("{name} {arguments:?}: {taken} of {}", trace.syscalls.len());
                assert!(taken > 40, "{name} {arguments:?}: {taken}");
            }
        }
    }
}
