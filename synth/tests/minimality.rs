//! Nothing is in a profile that nobody needs: what has no label is there because a recorded call is denied without it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;
#[path = "common/generated.rs"]
mod generated;
#[path = "common/laws.rs"]
mod kept;

use common::{row, trace};
use generated::{Calls, calls, recorded};
use kept::laws;
use proptest::prelude::*;
use seccomp_learn_synth::{
    ArgumentMode, Ceiling, CompileOptions, EvidenceRule, Judge, Judgement, Margin, Options, Profile, Reason,
    Runtime, Synthesis, display_conditions, host_knows, replay, synthesize,
};
use trace::{Abi, Trace};

/// Whether a rule is there because of what was recorded, and for no other reason.
fn has_no_label(rule: &EvidenceRule) -> bool {
    rule.reasons.iter().all(|reason| matches!(reason, Reason::Observed { .. } | Reason::ExecSession { .. }))
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

/// What is denied of a trace, by a profile with the evidence of another.
fn denied(profile: &Profile, made: &Synthesis, trace: &Trace) -> Vec<String> {
    let judge =
        Judge::new(profile, Abi::X86_64, CompileOptions::default()).unwrap().with_evidence(&made.evidence);
    let replay = replay(&judge, trace);
    let denied = replay.facts.iter().filter(|fact| matches!(fact.judgement, Judgement::Denied(_)));
    denied.map(|fact| fact.in_words()).collect()
}

/// Takes every alternative without a label away, one after the other.
fn check(trace: &Trace, options: &Options) -> Result<usize, TestCaseError> {
    let made = synthesize(trace, options).unwrap();
    prop_assert_eq!(denied(&made.profile, &made, trace), Vec::<String>::new());
    let mut taken = 0;
    for rule in made.evidence.rules.iter().filter(|rule| has_no_label(rule)) {
        for when in units(rule) {
            let denied = denied(&without(&made.profile, &rule.syscall, &when), &made, trace);
            prop_assert!(!denied.is_empty(), "nobody needs {} when {:?}", rule.syscall, when);
            taken += 1;
        }
    }
    Ok(taken)
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

/// The recording of calls with arguments and of others without.
fn both(calls: &[Calls], names: &[String]) -> Trace {
    let with = recorded(calls);
    let mut rows = with.syscalls;
    for name in names {
        if !rows.iter().any(|row| row.name == *name) {
            rows.push(row(Abi::X86_64, name, 1));
        }
    }
    trace(rows)
}

proptest! {
    #![proptest_config(laws(48))]

    /// Soundness and minimality, for each mode: nothing that was recorded is denied but on purpose, and without any
    /// alternative that has no label something is.
    #[test]
    fn what_has_no_label_is_needed(calls in calls(), names in names(), options in options()) {
        check(&both(&calls, &names), &options)?;
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
            // What the runtime calls too has its label.
            for (runtime, least) in [(Runtime::Auto, 10), (Runtime::None, 20)] {
                let taken = check(&trace, &Options { arguments, runtime, ..Options::default() }).unwrap();
                println!("{name} {arguments:?}: {taken}");
                assert!(taken > least, "{name} {arguments:?}: {taken}");
            }
        }
    }
}
