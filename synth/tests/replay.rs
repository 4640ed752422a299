//! What replay makes of recorded calls: which are needed, which the profile answers, and which it cannot tell.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;
#[path = "common/generated.rs"]
mod generated;
#[path = "common/laws.rs"]
mod kept;
#[path = "common/tangled.rs"]
mod tangled;

use std::collections::{BTreeMap, BTreeSet};

use common::{called, probe, refused, row, trace};
use generated::{any_shown, in_sections, is_needed, shown};
use kept::laws;
use proptest::prelude::*;
use seccomp_learn_synth::{
    ArgumentMode, Ceiling, CompileOptions, Container, Decision, DecisionVerdict, Judge, Judgement, Level,
    Libseccomp, NotNeeded, Options, Profile, Purpose, Section, Unknown, Verdict, host_knows, reference,
    references, replay, synthesize,
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

/// More ways than can be followed are unknown, in every row, and what else there is is told.
#[test]
fn what_cannot_be_followed_to_the_end_is_unknown() {
    let entries = |name: &str| -> Vec<String> {
        let entry = |text: &String| {
            let args: Vec<String> = seccomp_learn_synth::parse_conditions(text)
                .unwrap()
                .iter()
                .map(|own| masked(own.index, own.value, own.value_two))
                .collect();
            allow(name, &args.join(","))
        };
        tangled::tangled(60).iter().map(entry).collect()
    };
    let judge = judge(&[entries("mount"), entries("ioctl"), vec![allow("read", "")]].concat());
    let plain = || vec![row(X86, "mount", 1), row(X86, "read", 1), row(X86, "ioctl", 2)];
    let own = judgements(&judge, plain());
    let unknown = || Judgement::Unknown(Unknown::Unrecorded);
    assert_eq!(own, [Judgement::Allowed, unknown(), unknown()], "{own:?}");
    // As many ways to make a call as a recording keeps.
    let mut row = called(X86, "ioctl", (0..200u64).map(|request| [request]));
    row.arguments.as_mut().unwrap().kept[0].mask = 0xff;
    assert_eq!(judgements(&judge, vec![row]).len(), 200);
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

/// A profile made of these rows, judging with its evidence.
fn made(rows: Vec<Row>, decisions: &[(DecisionVerdict, &str, &str)]) -> Judge {
    made_by(ArgumentMode::Stable, rows, decisions)
}

fn made_by(arguments: ArgumentMode, rows: Vec<Row>, decisions: &[(DecisionVerdict, &str, &str)]) -> Judge {
    let decision = |(verdict, syscall, when): &(DecisionVerdict, &str, &str)| Decision {
        verdict: *verdict,
        syscall: (*syscall).to_owned(),
        when: seccomp_learn_synth::parse_conditions(when).unwrap_or_default(),
        reason: "because".to_owned(),
        owner: "security@example.com".to_owned(),
        expires: None,
    };
    let decisions = decisions.iter().map(decision).collect();
    let options = Options { arguments, decisions, ..Options::default() };
    let synthesis = synthesize(&trace(rows), &options).unwrap();
    // As it is written and read again.
    let evidence = seccomp_learn_synth::Evidence::read(synthesis.evidence.to_json().as_bytes()).unwrap();
    let judge = Judge::new(&synthesis.profile, X86, CompileOptions::default()).unwrap();
    judge.with_evidence(&evidence)
}

fn judgements(judge: &Judge, rows: Vec<Row>) -> Vec<Judgement> {
    judged(judge, &trace(rows)).into_iter().map(|(_, own)| own).collect()
}

/// What the ceiling refused of a call says nothing about what it allows of it.
#[test]
fn what_the_ceiling_allows_is_never_refused_because_of_it() {
    const VSOCK: u64 = 40;
    let vsock = || vec![row(X86, "read", 1), called(X86, "socket", [[VSOCK, 1, 0]])];
    let judge = made(vsock(), &[]);
    let ceiling = Judgement::OnPurpose(Purpose::Ceiling);
    assert_eq!(judgements(&judge, vsock()), [Judgement::Allowed, ceiling]);
    for fresh in [called(X86, "socket", [[2, 1, 6]]), row(X86, "socket", 1)] {
        assert_eq!(judgements(&judge, vec![fresh]), [EPERM]);
    }
    // Accepted it says no more.
    let judge = made(vsock(), &[(DecisionVerdict::Accept, "socket", "")]);
    let [_, own] = &judgements(&judge, vsock())[..] else { panic!() };
    assert!(matches!(own, Judgement::OnPurpose(Purpose::Accepted { .. })), "{own:?}");
    for fresh in [called(X86, "socket", [[2, 1, 6]]), row(X86, "socket", 1)] {
        assert_eq!(judgements(&judge, vec![fresh]), [EPERM]);
    }
}

/// More arguments than a sentence lists are accepted, each of them, and none that looks like one of them.
#[test]
fn exactly_the_arguments_are_accepted_that_were_found() {
    let vsock = |protocols: &[u64]| {
        let own = protocols.iter().map(|protocol| [40, 1, *protocol]);
        vec![called(X86, "socket", own.chain([[2, 1, 6]]))]
    };
    let all: Vec<u64> = (20..34).collect();
    let judge = made(vsock(&all), &[(DecisionVerdict::Accept, "socket", "")]);
    let own = judgements(&judge, vsock(&all));
    let is_accepted = |own: &Judgement| matches!(own, Judgement::OnPurpose(Purpose::Accepted { .. }));
    let (first, own) = own.split_first().unwrap();
    assert_eq!(*first, Judgement::Allowed);
    assert!(own.len() == 14 && own.iter().all(is_accepted), "{own:?}");
    // 3 and 2 are the beginnings of some.
    for protocol in [2, 3, 34] {
        assert_eq!(judgements(&judge, vsock(&[protocol])), [Judgement::Allowed, EPERM], "{protocol}");
    }
}

/// A denial is about what it says: arguments that are not known may be others.
#[test]
fn a_denial_excuses_only_what_meets_it_for_sure() {
    let inet = || vec![called(X86, "socket", [[2, 1, 6]])];
    let judge = made(inet(), &[(DecisionVerdict::Deny, "socket", "arg0 != 99")]);
    let [own] = &judgements(&judge, inet())[..] else { panic!() };
    assert!(matches!(own, Judgement::OnPurpose(Purpose::Denied { .. })), "{own:?}");
    assert_eq!(judgements(&judge, vec![row(X86, "socket", 1)]), [EPERM]);
    let judge = made(inet(), &[(DecisionVerdict::Deny, "socket", "")]);
    let [own] = &judgements(&judge, vec![row(X86, "socket", 1)])[..] else { panic!() };
    assert!(matches!(own, Judgement::OnPurpose(Purpose::Denied { .. })), "{own:?}");
}

/// That there were too many arguments is accepted; that there are none is another thing.
#[test]
fn accepting_one_finding_accepts_no_other() {
    let wide = || {
        let mut wide = called(X86, "socket", [[1, 1, 0]]);
        let arguments = wide.arguments.as_mut().unwrap();
        (arguments.wide, arguments.beyond) = (true, 5);
        wide.calls += 5;
        *wide.outcomes.get_mut(&Outcome::Ok).unwrap() += 5;
        vec![wide]
    };
    let plain = || vec![row(X86, "socket", 1)];
    let accept = [(DecisionVerdict::Accept, "socket", "")];
    let judge = made(wide(), &accept);
    let own = judgements(&judge, wide());
    assert!(matches!(own[1], Judgement::OnPurpose(Purpose::Accepted { .. })), "{own:?}");
    assert_eq!(judgements(&judge, plain()), [Judgement::Unknown(Unknown::Unrecorded)]);
    // Where the ceiling refuses all that is known, it does not refuse all of the rest: that is to be decided.
    let above = || {
        let mut above = called(X86, "personality", [[0x40000u64]]);
        let arguments = above.arguments.as_mut().unwrap();
        (arguments.wide, arguments.beyond) = (true, 5);
        above.calls += 5;
        *above.outcomes.get_mut(&Outcome::Ok).unwrap() += 5;
        vec![above, row(X86, "read", 1)]
    };
    let ceiling = Judgement::OnPurpose(Purpose::Ceiling);
    let accept = [(DecisionVerdict::Accept, "personality", "")];
    let own = judgements(&made_by(ArgumentMode::Exact, above(), &[]), above());
    assert!(own.contains(&ceiling) && own.contains(&EPERM), "{own:?}");
    let own = judgements(&made_by(ArgumentMode::Exact, above(), &accept), above());
    let is_accepted = |own: &Judgement| matches!(own, Judgement::OnPurpose(Purpose::Accepted { .. }));
    assert_eq!(own.iter().filter(|own| is_accepted(own)).count(), 2, "{own:?}");
    // And the other way round.
    let judge = made(plain(), &[(DecisionVerdict::Accept, "socket", "")]);
    let own = judgements(&judge, plain());
    assert!(matches!(own[0], Judgement::OnPurpose(Purpose::Accepted { .. })), "{own:?}");
    let own = judgements(&judge, wide());
    assert_eq!(own[1], Judgement::Unknown(Unknown::Wide), "{own:?}");
}

/// Some calls with any arguments, of each ABI, that ended in any way, as a recording would have them; some of exec
/// sessions or of the container runtime.
fn recordings() -> impl Strategy<Value = Trace> {
    let known = |name: &String| Libseccomp::default().knows(name) && host_knows(name);
    let names: Vec<String> = X86.numbers().map(|number| X86.name(number).to_string()).filter(known).collect();
    let plain = prop::collection::btree_set(prop::sample::select(names), 1..40);
    let value = prop_oneof![4 => 0u64..64, 1 => (0u32..32).prop_map(|bit| 1 << bit), 1 => any::<u64>()];
    let sockets = || prop::collection::btree_set(prop::array::uniform3(value.clone()), 0..8);
    let clones = || prop::collection::btree_set(prop::array::uniform1(value.clone()), 0..8);
    let calls = (plain, sockets(), clones(), sockets(), clones());
    let filter = prop::option::of(prop::sample::select(vec![FilterMoment::Loaded, FilterMoment::WouldBe]));
    let ways = prop::collection::vec(any_shown(), 48);
    (calls, ways, 0u64..3, any::<bool>(), filter).prop_map(|(calls, ways, beyond, exec, filter)| {
        let (plain, sockets, clones, foreign, x32) = calls;
        let mut rows: BTreeMap<(Abi, String), Row> =
            plain.into_iter().map(|name| ((X86, name.clone()), row(X86, &name, 2))).collect();
        let mut add = |abi: Abi, name: &str, row: Row| drop(rows.insert((abi, name.to_owned()), row));
        for (abi, sockets) in [(X86, sockets), (Abi::I386, foreign)] {
            if !sockets.is_empty() {
                // Some of which no values are known, or which could not be read.
                let mut own = called(abi, "socket", sockets);
                let arguments = own.arguments.as_mut().unwrap();
                (arguments.wide, arguments.beyond, arguments.unread) = (beyond > 0, beyond, beyond / 2);
                own.calls += beyond + beyond / 2;
                add(abi, "socket", own);
            }
        }
        for (abi, clones) in [(X86, clones), (Abi::X32, x32)] {
            if !clones.is_empty() {
                add(abi, "clone", called(abi, "clone", clones));
            }
        }
        let rows = rows.into_values().zip(ways).map(|(row, way)| shown(row, way));
        in_sections(rows.collect(), exec, filter)
    })
}

proptest! {
    #![proptest_config(laws(48))]

    /// A profile refuses nothing that was needed of the trace that it comes from but what its ceiling does. What that is
    /// is asked of the ceiling's own filter, not of what the evidence says. (A probe gets another errno where a part of the
    /// call is allowed to somebody else.)
    #[test]
    fn a_profile_allows_what_it_was_made_from(
        trace in recordings(),
        arguments in prop::sample::select(vec![ArgumentMode::Off, ArgumentMode::Stable, ArgumentMode::Exact]),
        bounded in any::<bool>(),
    ) {
        let ceiling = if bounded { Ceiling::RuntimeDefault } else { Ceiling::None };
        let options = Options { arguments, ceiling, ..Options::default() };
        let synthesis = synthesize(&trace, &options).unwrap();
        let judge = Judge::new(&synthesis.profile, X86, CompileOptions::default()).unwrap();
        let judge = judge.with_evidence(&synthesis.evidence);
        let bound = reference("runtime-default").unwrap().resolve(&Container::new(X86, (6, 18)));
        let bound = bounded.then(|| Judge::new(&bound, X86, CompileOptions::default()).unwrap());
        for fact in replay(&judge, &trace).facts {
            let Row { abi, number, name, .. } = fact.row;
            let may = match &bound {
                _ if name == "clone3" => Some(false),
                None => Some(true),
                Some(bound) => bound.verdicts(*abi, *number, &fact.registers).and_then(|verdicts| {
                    let runs: BTreeSet<bool> = verdicts.iter().map(|own| own.executes()).collect();
                    (runs.len() == 1).then(|| runs.contains(&true))
                }),
            };
            let is_known = fact.values.is_some() || fact.row.arguments.is_none();
            let well = match &fact.judgement {
                Judgement::Allowed => may != Some(false) || synthesis.evidence.options.default_action == "log",
                // Not needed is what no filter let through, and a probe: by its row.
                Judgement::NotNeeded(NotNeeded::Fallback(_)) => name == "clone3",
                Judgement::NotNeeded(_) => !is_needed(fact.row) || fact.values.is_some_and(|own| own.calls == 0),
                Judgement::OnPurpose(Purpose::Enosys) => name == "clone3",
                Judgement::OnPurpose(Purpose::Ceiling) => bounded && may != Some(true),
                // What is wide stays closed until someone decides; without arguments it is open where the ceiling has
                // conditions.
                Judgement::Unknown(Unknown::Wide | Unknown::Unread) => !is_known,
                Judgement::Denied(_) => {
                    let mut of_it = synthesis.evidence.findings.iter().filter(|own| own.syscall() == Some(name));
                    !is_needed(fact.row) || (!is_known && of_it.any(|own| own.level() > Level::Note))
                }
                Judgement::Unknown(Unknown::Unrecorded) => {
                    fact.row.arguments.is_none() && (may.is_none() || !is_needed(fact.row))
                }
                _ => false,
            };
            prop_assert!(well, "{} {} {:?} {:?}", abi, fact.in_words(), fact.judgement, may);
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
