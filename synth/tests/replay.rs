//! What replay makes of recorded calls: which are needed, which the profile answers, and which it cannot tell.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;
#[path = "common/laws.rs"]
mod kept;

use std::collections::BTreeMap;

use common::{called, probe, refused, row, trace};
use kept::laws;
use proptest::prelude::*;
use seccomp_learn_synth::{
    ArgumentMode, Ceiling, CompileOptions, Container, Decision, DecisionVerdict, Judge, Judgement,
    Libseccomp, NotNeeded, Options, Profile, Purpose, Section, Unknown, Verdict, host_knows, references,
    replay, synthesize,
};
use trace::{Abi, Errno, ExecCalls, FilterMoment, Kept, Outcome, Row, RuntimeCalls, Trace};

const X86: Abi = Abi::X86_64;

/// A profile of these entries that refuses the rest with `EPERM`.
fn profile(entries: &str) -> Profile {
    let text = format!(
        r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [{entries}]}}"#
    );
    Profile::read(text.as_bytes()).unwrap()
}

fn allow(name: &str, args: &str) -> String {
    format!(r#"{{"names": ["{name}"], "action": "SCMP_ACT_ALLOW", "args": [{args}]}}"#)
}

fn equal(index: u32, value: u64) -> String {
    format!(r#"{{"index": {index}, "value": {value}, "op": "SCMP_CMP_EQ"}}"#)
}

fn masked(index: u32, mask: u64, value: u64) -> String {
    format!(r#"{{"index": {index}, "value": {mask}, "valueTwo": {value}, "op": "SCMP_CMP_MASKED_EQ"}}"#)
}

fn judge(entries: &[String]) -> Judge {
    Judge::new(&profile(&entries.join(",")), X86, CompileOptions::default()).unwrap()
}

/// What is said about each fact, in words.
fn judged(judge: &Judge, trace: &Trace) -> Vec<(String, Judgement)> {
    let replay = replay(judge, trace);
    let total = replay.tally.total();
    assert_eq!(total.facts, replay.facts.len() as u64);
    assert_eq!(total.calls, replay.facts.iter().map(|fact| fact.calls).sum::<u64>());
    replay.facts.iter().map(|fact| (fact.in_words(), fact.judgement.clone())).collect()
}

#[track_caller]
fn check(judge: &Judge, rows: Vec<Row>, expected: &[(&str, Judgement)]) {
    let own = judged(judge, &trace(rows));
    let expected: Vec<(String, Judgement)> =
        expected.iter().map(|(call, judgement)| ((*call).to_owned(), judgement.clone())).collect();
    assert_eq!(own, expected);
}

const EPERM: Judgement = Judgement::Denied(Verdict::Errno(1));

#[test]
fn each_fact_is_judged_by_its_arguments() {
    // AF_UNIX with anything, AF_INET with TCP.
    let judge = judge(&[
        allow("read", ""),
        allow("socket", &masked(0, 0xffff_ffff, 1)),
        allow("socket", &format!("{},{}", masked(0, 0xffff_ffff, 2), masked(2, 0xffff_ffff, 6))),
    ]);
    check(
        &judge,
        vec![
            row(X86, "read", 7),
            row(X86, "write", 1),
            called(X86, "socket", [[1, 2, 0], [2, 1, 6], [2, 1, 17], [0xffff_ffff_0000_0001, 1, 0]]),
            row(Abi::I386, "read", 1),
        ],
        &[
            ("read", Judgement::Allowed),
            ("write", EPERM),
            ("socket(AF_UNIX /* with an upper half */, SOCK_STREAM, 0)", Judgement::Allowed),
            ("socket(AF_UNIX, SOCK_DGRAM, 0)", Judgement::Allowed),
            ("socket(AF_INET, SOCK_STREAM, IPPROTO_TCP)", Judgement::Allowed),
            ("socket(AF_INET, SOCK_STREAM, IPPROTO_UDP)", EPERM),
            ("read", Judgement::Allowed),
        ],
    );
}

#[test]
fn what_is_not_known_is_unknown_only_where_it_matters() {
    let judge = judge(&[
        allow("socket", &masked(0, 0xffff_ffff, 1)),
        allow("read", ""),
        allow("ioctl", &equal(1, 0x5401)),
        allow("ioctl", &masked(0, 0, 0)),
    ]);
    // Of a row without arguments only what the profile asks for is not known.
    check(
        &judge,
        vec![row(X86, "socket", 1), row(X86, "read", 1), row(X86, "prctl", 1)],
        &[
            ("read", Judgement::Allowed),
            ("socket", Judgement::Unknown(Unknown::Unrecorded)),
            ("prctl", EPERM),
        ],
    );
    // Wide rows: what is known is judged, the rest is not known, unless it does not matter.
    let mut wide = called(X86, "socket", [[1, 1, 0], [2, 1, 0]]);
    let arguments = wide.arguments.as_mut().unwrap();
    (arguments.wide, arguments.beyond) = (true, 5);
    wide.calls += 5;
    *wide.outcomes.get_mut(&Outcome::Ok).unwrap() += 5;
    let own = judged(&judge, &trace([wide.clone()]));
    assert_eq!(own.last().unwrap(), &("socket".to_owned(), Judgement::Unknown(Unknown::Wide)));
    assert_eq!(own.iter().filter(|(_, own)| *own == EPERM).count(), 1);
    let any = self::judge(&[allow("socket", "")]);
    assert!(judged(&any, &trace([wide])).iter().all(|(_, own)| *own == Judgement::Allowed));
}

/// A profile that compares all 64 bits of what the kernel reads as 32 refuses what has an upper half.
#[test]
fn upper_halves_count_where_a_filter_reads_them() {
    let judge = judge(&[allow("socket", &equal(0, 1))]);
    check(
        &judge,
        vec![called(X86, "socket", [[1u64, 1, 0], [0x7_0000_0001, 2, 0]])],
        &[
            ("socket(AF_UNIX, SOCK_STREAM, 0)", Judgement::Allowed),
            ("socket(AF_UNIX /* with an upper half */, SOCK_DGRAM, 0)", EPERM),
        ],
    );
}

/// Bits that the recording did not keep are not known.
#[test]
fn bits_that_were_not_kept_matter_where_they_are_asked_for() {
    let mut clone = row(X86, "clone", 1);
    let kept = vec![Kept { index: 0, offset: None, name: "flags".to_owned(), mask: 0x7e02_0000 }];
    let mut values = called(X86, "clone", [[0u64]]).arguments.unwrap().values;
    values[0].arguments = vec![0];
    clone.arguments = Some(trace::Arguments::of(kept, values));
    let of = |mask: u64| judged(&judge(&[allow("clone", &masked(0, mask, 0))]), &trace([clone.clone()]));
    assert_eq!(of(0x7e02_0000)[0].1, Judgement::Allowed);
    assert_eq!(of(0x0200_0000)[0].1, Judgement::Allowed);
    assert_eq!(of(0x7e02_0100)[0].1, Judgement::Unknown(Unknown::NotKept));
    // Where one of them is refused anyway, nothing is open.
    let narrow = judge(&[allow("clone", &masked(0, 0x7e02_0100, 0x0200_0100))]);
    assert_eq!(judged(&narrow, &trace([clone.clone()]))[0].1, EPERM);
}

#[test]
fn what_was_only_refused_or_is_a_probe_is_not_needed() {
    let none = judge(&[allow("read", "")]);
    let enosys = r#"{"names": ["uname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}"#.to_owned();
    check(
        &none,
        vec![
            refused(X86, "ptrace", 3),
            probe("uname", Errno::EPERM),
            probe("getpid", Errno::ENOSYS),
            probe("getuid", Errno::new(13).unwrap()),
        ],
        &[
            ("getpid", EPERM),
            ("uname", Judgement::NotNeeded(NotNeeded::Probe(Errno::EPERM))),
            ("ptrace", Judgement::NotNeeded(NotNeeded::OnlyRefused)),
            ("getuid", EPERM),
        ],
    );
    check(
        &judge(&[enosys]),
        vec![probe("uname", Errno::ENOSYS)],
        &[("uname", Judgement::NotNeeded(NotNeeded::Probe(Errno::ENOSYS)))],
    );
    // Arguments that only a filter answered are no more needed than calls.
    let mut socket = called(X86, "socket", [[1, 1, 0], [2, 1, 0]]);
    let arguments = socket.arguments.as_mut().unwrap();
    (arguments.values[1].calls, arguments.values[1].denied) = (0, 1);
    (socket.calls, socket.denied) = (1, 1);
    socket.outcomes = BTreeMap::from([(Outcome::Ok, 1)]);
    socket.refusals = BTreeMap::from([(Outcome::Error(Errno::EPERM), 1)]);
    let judgements: Vec<Judgement> =
        judged(&judge(&[allow("socket", &masked(0, 0xffff_ffff, 1))]), &trace([socket]))
            .into_iter()
            .map(|(_, own)| own)
            .collect();
    assert_eq!(judgements, [Judgement::Allowed, Judgement::NotNeeded(NotNeeded::OnlyRefused)]);
}

#[test]
fn clone3_is_not_needed_where_clone_takes_its_place() {
    let enosys = r#"{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}"#.to_owned();
    let clone3 = || vec![row(X86, "clone3", 2)];
    let fallback = Judgement::NotNeeded(NotNeeded::Fallback("clone".to_owned()));
    check(&judge(&[enosys.clone(), allow("clone", "")]), clone3(), &[("clone3", fallback.clone())]);
    let limited = allow("clone", &masked(0, 0x7e02_0000, 0));
    check(&judge(&[enosys.clone(), limited]), clone3(), &[("clone3", fallback)]);
    let enosys_alone = Judgement::Denied(Verdict::Errno(38));
    check(&judge(std::slice::from_ref(&enosys)), clone3(), &[("clone3", enosys_alone.clone())]);
    let other = allow("clone", &masked(0, 0x7e02_0000, 0x1000_0000));
    check(&judge(&[enosys, other]), clone3(), &[("clone3", enosys_alone)]);
    check(&judge(&[allow("clone", "")]), clone3(), &[("clone3", EPERM)]);
}

#[test]
fn what_a_supervisor_decides_is_unknown_and_what_is_logged_runs() {
    let entry = |action: &str| format!(r#"{{"names": ["mount"], "action": "SCMP_ACT_{action}"}}"#);
    for (action, expected) in [
        ("NOTIFY", Judgement::Unknown(Unknown::Supervised)),
        ("TRACE", Judgement::Unknown(Unknown::Supervised)),
        ("LOG", Judgement::Allowed),
        ("KILL_PROCESS", Judgement::Denied(Verdict::KillProcess)),
        ("TRAP", Judgement::Denied(Verdict::Trap)),
    ] {
        check(&judge(&[entry(action)]), vec![row(X86, "mount", 1)], &[("mount", expected)]);
    }
    // No filter has a say about this one.
    check(&judge(&[]), vec![row(X86, "uretprobe", 1)], &[("uretprobe", Judgement::Allowed)]);
}

#[test]
fn the_runtime_counts_from_when_it_loaded_the_filter() {
    let with = |filter| {
        let mut trace = trace([row(X86, "read", 1)]);
        let setup = vec![row(X86, "mount", 1)];
        trace.runtime = Some(RuntimeCalls { filter, setup, start: vec![row(X86, "capset", 1)] });
        trace.exec = Some(ExecCalls { sessions: 1, syscalls: vec![row(X86, "add_key", 1)] });
        trace.seal().unwrap();
        trace
    };
    let judge = judge(&[allow("read", "")]);
    let loaded = with(FilterMoment::Loaded);
    let own = replay(&judge, &loaded);
    let sections: Vec<(Section, &str, &Judgement)> =
        own.facts.iter().map(|fact| (fact.section, fact.row.name.as_str(), &fact.judgement)).collect();
    assert_eq!(
        sections,
        [
            (Section::Workload, "read", &Judgement::Allowed),
            (Section::RuntimeStart, "capset", &EPERM),
            (Section::Exec, "add_key", &EPERM),
        ]
    );
    assert_eq!(replay(&judge, &with(FilterMoment::WouldBe)).facts.len(), 2);
    // A profile that was made without exec sessions is not for them.
    let options = Options { without_exec: true, ..Options::default() };
    let synthesis = synthesize(&loaded, &options).unwrap();
    let judge = Judge::new(&synthesis.profile, X86, CompileOptions::default()).unwrap();
    let judge = judge.with_evidence(&synthesis.evidence);
    let own = judged(&judge, &loaded);
    assert_eq!(own[2].1, Judgement::NotNeeded(NotNeeded::LeftOut(Section::Exec)), "{own:?}");
}

/// What the evidence says is refused on purpose is no denial; another call of the same name is one.
#[test]
fn what_the_evidence_foretells_is_refused_on_purpose() {
    let rows = || {
        vec![
            row(X86, "read", 1),
            row(X86, "kexec_load", 1),
            called(X86, "clone", [[0x1000_0011u64], [0x11]]),
            called(X86, "prctl", [[15u64], [4]]),
            called(X86, "socket", [[1, 1, 0]]),
        ]
    };
    let owner = || "security@example.com".to_owned();
    let decision = |verdict, syscall: &str, when: &str| Decision {
        verdict,
        syscall: syscall.to_owned(),
        when: seccomp_learn_synth::parse_conditions(when).unwrap_or_default(),
        reason: "because".to_owned(),
        owner: owner(),
        expires: None,
    };
    let options = Options {
        decisions: vec![decision(DecisionVerdict::Deny, "prctl", "arg0 == 4")],
        ..Options::default()
    };
    let synthesis = synthesize(&trace(rows()), &options).unwrap();
    let judge = Judge::new(&synthesis.profile, X86, CompileOptions::default()).unwrap();
    let denied = Purpose::Denied { owner: owner(), reason: "because".to_owned() };
    let with = judge.with_evidence(&synthesis.evidence);
    let own: BTreeMap<String, Judgement> = judged(&with, &trace(rows())).into_iter().collect();
    assert_eq!(own["read"], Judgement::Allowed);
    assert_eq!(own["kexec_load"], Judgement::OnPurpose(Purpose::Ceiling));
    assert_eq!(own["clone(SIGCHLD)"], Judgement::Allowed, "{own:?}");
    assert_eq!(own["clone(CLONE_NEWUSER|SIGCHLD)"], Judgement::OnPurpose(Purpose::Ceiling), "{own:?}");
    assert_eq!(own["prctl(PR_SET_DUMPABLE)"], Judgement::OnPurpose(denied));
    // News.
    let news = trace(vec![row(X86, "init_module", 1), called(X86, "clone", [[0x2000_0011u64]])]);
    assert!(judged(&with, &news).iter().all(|(_, own)| matches!(own, Judgement::Denied(_))));
    // Without the evidence all of that is refused.
    let without = Judge::new(&synthesis.profile, X86, CompileOptions::default()).unwrap();
    assert_eq!(replay(&without, &trace(rows())).tally.denied.facts, 3);
    // What a reviewer accepted is known too.
    let accept = Options {
        decisions: vec![decision(DecisionVerdict::Accept, "kexec_load", "")],
        ..Options::default()
    };
    let synthesis = synthesize(&trace(rows()), &accept).unwrap();
    let judge = Judge::new(&synthesis.profile, X86, CompileOptions::default()).unwrap();
    let judge = judge.with_evidence(&synthesis.evidence);
    let own: BTreeMap<String, Judgement> = judged(&judge, &trace(rows())).into_iter().collect();
    assert!(matches!(own["kexec_load"], Judgement::OnPurpose(Purpose::Accepted { .. })), "{own:?}");
}

/// Some calls with any arguments, as a recording would have them.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let known = |name: &String| Libseccomp::default().knows(name) && host_knows(name);
    let names: Vec<String> = X86.numbers().map(|number| X86.name(number).to_string()).filter(known).collect();
    let plain = prop::collection::btree_set(prop::sample::select(names), 1..40);
    let value = prop_oneof![4 => 0u64..64, 1 => (0u32..32).prop_map(|bit| 1 << bit), 1 => any::<u64>()];
    let sockets = prop::collection::btree_set(prop::array::uniform3(value.clone()), 0..8);
    let clones = prop::collection::btree_set(prop::array::uniform1(value), 0..8);
    (plain, sockets, clones).prop_map(|(plain, sockets, clones)| {
        let mut rows: BTreeMap<String, Row> =
            plain.into_iter().map(|name| (name.clone(), row(X86, &name, 1))).collect();
        if !sockets.is_empty() {
            rows.insert("socket".to_owned(), called(X86, "socket", sockets));
        }
        if !clones.is_empty() {
            rows.insert("clone".to_owned(), called(X86, "clone", clones));
        }
        rows.into_values().collect()
    })
}

proptest! {
    #![proptest_config(laws(48))]

    /// A profile refuses nothing of the trace that it comes from but on purpose.
    #[test]
    fn a_profile_allows_what_it_was_made_from(
        rows in rows(),
        arguments in prop::sample::select(vec![ArgumentMode::Off, ArgumentMode::Stable, ArgumentMode::Exact]),
        bounded in any::<bool>(),
    ) {
        let trace = trace(rows);
        let ceiling = if bounded { Ceiling::RuntimeDefault } else { Ceiling::None };
        let options = Options { arguments, ceiling, ..Options::default() };
        let synthesis = synthesize(&trace, &options).unwrap();
        let judge = Judge::new(&synthesis.profile, X86, CompileOptions::default()).unwrap();
        let judge = judge.with_evidence(&synthesis.evidence);
        for fact in replay(&judge, &trace).facts {
            let known = match fact.judgement {
                Judgement::Allowed | Judgement::OnPurpose(_) => true,
                // What the ceiling allows under conditions, of a recording without arguments.
                Judgement::Unknown(Unknown::Unrecorded) => bounded || arguments == ArgumentMode::Stable,
                _ => false,
            };
            prop_assert!(known, "{} {:?}", fact.in_words(), fact.judgement);
        }
    }
}

/// The engines' own profiles, held against calls of which each is known to be allowed or not.
#[test]
fn the_engines_profiles_are_judged_as_they_are_known() {
    // Podman's lets a container make user namespaces.
    for reference in references().iter().filter(|reference| reference.name != "podman") {
        let profile = reference.resolve(&Container::new(X86, (6, 18)));
        let judge = Judge::new(&profile, X86, CompileOptions::default()).unwrap();
        let own = trace(vec![
            row(X86, "read", 1),
            row(X86, "kexec_load", 1),
            called(X86, "clone", [[0x11u64], [0x1000_0011]]),
            row(X86, "clone3", 1),
        ]);
        let tally = replay(&judge, &own).tally;
        assert_eq!((tally.allowed.facts, tally.denied.facts), (2, 2), "{}: {tally:?}", reference.name);
        assert_eq!(tally.not_needed.facts, 1, "{}: {tally:?}", reference.name);
    }
}
