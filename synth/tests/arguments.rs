//! What the passes make of arguments and of outcomes, case by case.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::{called, named, probe, refused, row, trace};
use seccomp_learn_synth::{
    Addition, ArgumentMode, Ceiling, CompileOptions, Decision, DecisionVerdict, Finding, Level, Margin,
    Options, Profile, Reason, Runtime, SeccompData, SynthError, Synthesis, Verdict, compile,
    parse_conditions, simulate, synthesize,
};
use trace::{Abi, Errno, ExecCalls, Outcome, Row, Trace};

const MODES: [ArgumentMode; 3] = [ArgumentMode::Exact, ArgumentMode::Stable, ArgumentMode::Off];

/// No margin, no runtime, no ceiling.
fn bare() -> Options {
    Options { margin: Margin::None, runtime: Runtime::None, ceiling: Ceiling::None, ..Options::default() }
}

fn synth(trace: &Trace, options: &Options) -> Synthesis {
    synthesize(trace, options).unwrap()
}

fn verdict(profile: &Profile, abi: Abi, name: &str, args: [u64; 6]) -> Verdict {
    let program = compile(profile, Abi::X86_64, CompileOptions::default()).unwrap();
    simulate(&program, &SeccompData::call(abi, abi.number(name).unwrap(), args)).unwrap()
}

/// Which of the calls pass.
#[track_caller]
fn check(made: &Synthesis, name: &str, passes: &[[u64; 6]], refused: &[[u64; 6]]) {
    for (calls, expected) in [(passes, true), (refused, false)] {
        for args in calls {
            let executes = verdict(&made.profile, Abi::X86_64, name, *args).executes();
            assert_eq!(executes, expected, "{name} {args:x?}");
        }
    }
}

fn decision(verdict: DecisionVerdict, syscall: &str, when: &str) -> Decision {
    Decision {
        verdict,
        syscall: syscall.to_owned(),
        when: if when.is_empty() { Vec::new() } else { parse_conditions(when).unwrap() },
        reason: "reviewed".to_owned(),
        owner: "security".to_owned(),
        expires: Some("2026-06-30".parse().unwrap()),
    }
}

fn unread(mut row: Row, calls: u64) -> Row {
    row.arguments.as_mut().unwrap().unread = calls;
    row.calls += calls;
    row.outcomes = [(Outcome::Ok, row.calls)].into();
    row
}

#[test]
fn a_rule_goes_as_far_as_its_mode() {
    let recorded = trace([
        called(Abi::X86_64, "ioctl", [[0x5413], [0xffff_ffff_c030_462b]]),
        called(Abi::X86_64, "socket", [[2, 0x80001, 0]]),
    ]);
    let made = MODES.map(|arguments| synth(&recorded, &Options { arguments, ..bare() }));
    let [exact, stable, off] = &made;
    let request = |request| [0, request, 0, 0, 0, 0];
    for made in &made {
        check(made, "ioctl", &[request(0x5413), request(0xc030_462b), request(0xffff_ffff_c030_462b)], &[]);
    }
    check(exact, "ioctl", &[], &[request(0x5401), request(0x5412), request(0x5_0000_5412)]);
    check(stable, "ioctl", &[request(0x5401)], &[request(0x5412), request(0x5_0000_5412)]);
    check(off, "ioctl", &[request(0x5412)], &[]);
    let socket = |domain, kind, protocol| [domain, kind, protocol, 0, 0, 0];
    check(exact, "socket", &[socket(2, 0x80001, 0)], &[socket(2, 1, 0), socket(10, 0x80001, 0)]);
    // The other family, the resolver and what is local; neither raw nor packet sockets.
    let harmless =
        [socket(2, 1, 6), socket(10, 0x801, 0), socket(10, 2, 17), socket(1, 5, 0), socket(16, 3, 0)];
    check(
        stable,
        "socket",
        &harmless,
        &[socket(17, 3, 0), socket(2, 3, 0), socket(2, 2, 1), socket(16, 3, 9)],
    );
    let local = synth(&trace([called(Abi::X86_64, "socket", [[1, 1, 0]])]), &bare());
    check(&local, "socket", &[socket(1, 2, 0)], &[socket(2, 1, 0), socket(10, 2, 0), socket(16, 3, 0)]);
    let rules = || stable.evidence.rules.iter().filter(|rule| rule.syscall == "ioctl");
    assert!(rules().any(|rule| rule.observed && rule.words.iter().any(|words| words.contains("TIOCGWINSZ"))));
    assert!(
        rules()
            .any(|rule| !rule.observed
                && rule.reasons.iter().all(|why| matches!(why, Reason::Harmless { .. })))
    );
    let options = &exact.evidence.options;
    assert_eq!((options.arguments.as_str(), options.libseccomp.as_deref()), ("exact", Some("2.5.4")));
    let upper = Finding::UpperHalf {
        syscall: "ioctl".to_owned(),
        arguments: ["request".to_owned()].into(),
        calls: 1,
    };
    assert!(stable.evidence.findings.contains(&upper) && upper.level() == Level::Note);
}

#[test]
fn a_trace_without_arguments_gives_no_conditions_and_says_so() {
    let made = synth(&named("read ioctl socket"), &Options { ceiling: Ceiling::RuntimeDefault, ..bare() });
    check(&made, "ioctl", &[[0, 0x5412, 0, 0, 0, 0]], &[]);
    check(&made, "socket", &[[16, 3, 12, 0, 0, 0]], &[[38, 5, 0, 0, 0, 0]]);
    let without = Finding::WithoutArguments { syscalls: ["ioctl".to_owned(), "socket".to_owned()].into() };
    assert!(made.evidence.findings.contains(&without) && without.level() == Level::Review);
    assert!(without.message().contains("record again"));
    let off = synth(&named("read ioctl"), &Options { arguments: ArgumentMode::Off, ..bare() });
    assert!(!off.evidence.findings.iter().any(|own| matches!(own, Finding::WithoutArguments { .. })));
}

#[test]
fn what_only_failed_as_a_probe_does_keeps_its_errno() {
    let rows = [
        row(Abi::X86_64, "read", 1),
        probe("uname", Errno::ENOSYS),
        probe("mseal", Errno::EPERM),
        probe("chroot", Errno::EPERM),
    ];
    let made = synth(&trace(rows.clone()), &bare());
    // Calls as new as this one say ENOSYS where nobody asked; here the answer was another one.
    for (name, errno) in [("uname", 38), ("mseal", 1), ("chroot", 1), ("landlock_create_ruleset", 38)] {
        assert_eq!(verdict(&made.profile, Abi::X86_64, name, [0; 6]), Verdict::Errno(errno), "{name}");
    }
    let probed = Finding::ProbeRefused { syscall: "uname".to_owned(), errno: "ENOSYS".to_owned(), calls: 3 };
    assert!(made.evidence.findings.contains(&probed), "{:?}", made.evidence.findings);
    // One answer of another kind, and it is no probe; so with an unknown one, or a call that did not return.
    for change in [
        (|row: &mut Row| row.outcomes = [(Outcome::Error(Errno::EPERM), 1), (Outcome::Ok, 2)].into())
            as fn(&mut Row),
        |row| row.outcomes = [(Outcome::Error(Errno::EPERM), 1), (Outcome::Error(Errno::ENOSYS), 2)].into(),
        |row| row.outcomes = [(Outcome::Unknown, 3)].into(),
        |row| (row.outcomes, row.in_flight) = ([(Outcome::Error(Errno::EPERM), 2)].into(), 1),
        |row| (row.outcomes, row.never_returned) = ([(Outcome::Error(Errno::EPERM), 2)].into(), 1),
    ] {
        let mut row = probe("chroot", Errno::EPERM);
        change(&mut row);
        assert!(synth(&trace([row]), &bare()).profile.allowed().contains("chroot"));
    }
    // An exec session that succeeded needs it, and so does what was added or decided.
    let mut session = trace(rows.clone());
    session.exec = Some(ExecCalls { sessions: 1, syscalls: vec![row(Abi::X86_64, "chroot", 1)] });
    session.seal().unwrap();
    assert!(synth(&session, &bare()).profile.allowed().contains("chroot"));
    let allow = vec![Addition {
        syscall: "chroot".to_owned(),
        abi: Abi::X86_64,
        why: "w".to_owned(),
        arguments: None,
    }];
    assert!(synth(&trace(rows.clone()), &Options { allow, ..bare() }).profile.allowed().contains("chroot"));
    let decisions = vec![decision(DecisionVerdict::Allow, "uname", "")];
    let made = synth(&trace(rows), &Options { decisions, ..bare() });
    assert!(made.profile.allowed().contains("uname") && !made.evidence.findings.contains(&probed));
}

#[test]
fn siblings_come_with_the_conditions_of_what_they_stand_for() {
    let recorded = trace([
        row(Abi::X86_64, "brk", 1),
        called(Abi::X86_64, "sendto", [[0x8000]]),
        called(Abi::X86_64, "recvfrom", [[0]]),
        row(Abi::X86_64, "fork", 1),
        row(Abi::X86_64, "pipe", 1),
    ]);
    let portable = Options { margin: Margin::Portable, ..bare() };
    let made = synth(&recorded, &portable);
    // MSG_MORE was seen with sendto; MSG_OOB was not.
    check(&made, "sendmsg", &[[0, 0, 0x8000, 0, 0, 0], [0, 0, 0x4000, 0, 0, 0]], &[[0, 0, 1, 0, 0, 0]]);
    check(&made, "recvmsg", &[[0, 0, 0x40, 0, 0, 0]], &[[0, 0, 1, 0, 0, 0]]);
    check(&made, "mmap", &[[0, 4096, 3, 0x22, 0, 0]], &[[0, 4096, 7, 0x22, 0, 0], [0, 4096, 5, 2, 3, 0]]);
    check(&made, "mprotect", &[[0, 4096, 1, 0, 0, 0]], &[[0, 4096, 5, 0, 0, 0]]);
    check(&made, "clone", &[[0x11, 0, 0, 0, 0, 0]], &[[0x1000_0011, 0, 0, 0, 0, 0]]);
    check(&made, "pipe2", &[[0, 0x80800, 0, 0, 0, 0]], &[[0, 0x80, 0, 0, 0, 0]]);
    assert!(!made.profile.allowed().contains("recvmmsg"), "no library puts it in the place of the others");
    let connected = synth(&trace([row(Abi::X86_64, "accept4", 1)]), &portable);
    check(&connected, "getsockopt", &[[3, 1, 4, 0, 0, 0]], &[[3, 6, 11, 0, 0, 0], [3, 0, 64, 0, 0, 0]]);
    assert!(
        connected.profile.allowed().contains("shutdown")
            && !connected.profile.allowed().contains("setsockopt")
    );
    // Whether a thread waits goes by time: FUTEX_WAIT_BITSET with a clock for a join, no FUTEX_CMP_REQUEUE_PI.
    let threads = synth(&trace([called(Abi::X86_64, "clone3", [[0x3d_0f00]])]), &portable);
    check(&threads, "futex", &[[0, 0x109, 0, 0, 0, 0], [0, 0x81, 0, 0, 0, 0]], &[[0, 12, 0, 0, 0, 0]]);
    // With exact rules: the conditions of the other call, and what is harmless only where it has none.
    let exact = synth(&recorded, &Options { arguments: ArgumentMode::Exact, ..portable });
    check(&exact, "sendmsg", &[[0, 0, 0x8000, 0, 0, 0]], &[[0; 6]]);
    check(&exact, "mprotect", &[[0, 4096, 3, 0, 0, 0]], &[[0, 4096, 7, 0, 0, 0]]);
}

#[test]
fn clone_has_no_namespaces_unless_they_were_seen() {
    let flags = |flags| [flags, 0, 0, 0, 0, 0];
    let threads = trace([called(Abi::X86_64, "clone3", [[0x3d_0f00]])]);
    let made = synth(&threads, &bare());
    check(&made, "clone", &[flags(0x3d_0f00), flags(0x11)], &[flags(0x1000_0011), flags(0x2000)]);
    let exact = synth(&threads, &Options { arguments: ArgumentMode::Exact, ..bare() });
    check(&exact, "clone", &[flags(0x3d_0f00)], &[flags(0x1200_0011), flags(0x3d_0e00)]);
    assert_eq!(verdict(&made.profile, Abi::X86_64, "clone3", [0; 6]), Verdict::Errno(38));
    let spaces = trace([
        called(Abi::X86_64, "clone3", [[0x1000_0000]]),
        called(Abi::X86_64, "unshare", [[0x1000_0000]]),
    ]);
    let open = synth(&spaces, &bare());
    check(&open, "clone", &[flags(0x1000_0011)], &[flags(0x4000_0011)]);
    check(&open, "unshare", &[flags(0x1000_0000)], &[flags(0x4000_0000)]);
    let bounded = synth(&spaces, &Options { ceiling: Ceiling::RuntimeDefault, ..bare() });
    check(&bounded, "clone", &[flags(0x11)], &[flags(0x1000_0011)]);
    for made in [&open, &bounded] {
        let asked = |name: &str| Finding::NamespaceFlags {
            syscall: name.to_owned(),
            flags: "CLONE_NEWUSER".to_owned(),
            calls: 1,
        };
        assert!(
            made.evidence.findings.contains(&asked("clone3"))
                && made.evidence.findings.contains(&asked("unshare"))
        );
    }
    // Flags that could not be read: as before arguments were known.
    let unknown = synth(&trace([unread(called(Abi::X86_64, "clone3", [[0x3d_0f00]]), 2)]), &bare());
    check(&unknown, "clone", &[flags(0x3d_0f00)], &[flags(0x1000_0011)]);
    assert!(!unknown.evidence.findings.iter().any(|own| matches!(own, Finding::Wide { .. })));
}

#[test]
fn memory_that_was_asked_for_writable_and_executable_is_a_finding() {
    let made = synth(&trace([called(Abi::X86_64, "mprotect", [[7], [1]])]), &bare());
    check(&made, "mprotect", &[[0, 0, 7, 0, 0, 0], [0, 0, 6, 0, 0, 0]], &[[0, 0, 0x100_0007, 0, 0, 0]]);
    let both = Finding::WritableExecutable { syscall: "mprotect".to_owned(), calls: 1 };
    assert!(made.evidence.findings.contains(&both) && both.level() == Level::Review);
}

#[test]
fn what_the_ceiling_takes_is_named_by_its_arguments() {
    let recorded = trace([
        called(Abi::X86_64, "personality", [[0], [0x40000]]),
        called(Abi::X86_64, "socket", [[38, 5, 0], [1, 1, 0]]),
    ]);
    let made = synth(&recorded, &Options { ceiling: Ceiling::RuntimeDefault, ..bare() });
    check(&made, "personality", &[[0; 6]], &[[0x40000, 0, 0, 0, 0, 0]]);
    check(&made, "socket", &[[1, 1, 0, 0, 0, 0]], &[[38, 5, 0, 0, 0, 0]]);
    let above = |name: &str| {
        made.evidence.findings.iter().find_map(|own| match own {
            Finding::ArgumentsAboveCeiling { syscall, arguments, calls: 1 } if syscall == name => {
                Some(arguments.clone())
            }
            _ => None,
        })
    };
    assert_eq!(above("personality").unwrap(), ["persona == PER_LINUX|ADDR_NO_RANDOMIZE".to_owned()].into());
    assert!(above("socket").unwrap().first().unwrap().contains("AF_ALG"));
}

#[test]
fn a_name_is_shared_by_all_abis() {
    let recorded = trace([
        called(Abi::X86_64, "futex", [[0x189]]),
        called(Abi::I386, "futex", [[6]]),
        called(Abi::I386, "mmap2", [[3, 0x22]]),
    ]);
    let made = synth(&recorded, &Options { arguments: ArgumentMode::Exact, ..bare() });
    for abi in [Abi::X86_64, Abi::I386] {
        let passes = |op| verdict(&made.profile, abi, "futex", [0, op, 0, 0, 0, 0]).executes();
        assert!(passes(0x189) && passes(6) && !passes(7), "{abi}");
    }
    assert!(verdict(&made.profile, Abi::I386, "mmap2", [0, 0, 3, 0x22, 0, 0]).executes());
    assert!(!verdict(&made.profile, Abi::I386, "mmap2", [0, 0, 7, 0x22, 0, 0]).executes());
}

#[test]
fn a_tuple_that_only_a_filter_saw_is_not_needed() {
    let mut socket = called(Abi::X86_64, "socket", [[2, 1, 0], [17, 3, 0]]);
    let arguments = socket.arguments.as_mut().unwrap();
    let packet = arguments.values.iter_mut().find(|own| own.arguments[0] == 17).unwrap();
    (packet.calls, packet.denied) = (0, 4);
    (socket.calls, socket.denied) = (1, 4);
    socket.outcomes = [(Outcome::Ok, 1)].into();
    socket.refusals = [(Outcome::Error(Errno::EPERM), 4)].into();
    let made = synth(&trace([socket, refused(Abi::X86_64, "mbind", 1)]), &bare());
    check(&made, "socket", &[[2, 1, 0, 0, 0, 0]], &[[17, 3, 0, 0, 0, 0]]);
    assert!(!made.profile.allowed().contains("mbind"));
}

#[test]
fn additions_bring_their_arguments() {
    let addition = |arguments| Addition {
        syscall: "ioctl".to_owned(),
        abi: Abi::X86_64,
        why: "w".to_owned(),
        arguments,
    };
    let with = |arguments, mode| {
        synth(&named("read"), &Options { allow: vec![addition(arguments)], arguments: mode, ..bare() })
    };
    let (tiocsti, ficlone) = ([0, 0x5412, 0, 0, 0, 0], [3, 0x4004_9409, 4, 0, 0, 0]);
    let stable = with(Some(ficlone), ArgumentMode::Stable);
    check(&stable, "ioctl", &[ficlone, [0, 0x5401, 0, 0, 0, 0]], &[tiocsti]);
    check(
        &with(Some(ficlone), ArgumentMode::Exact),
        "ioctl",
        &[ficlone],
        &[tiocsti, [0, 0x5401, 0, 0, 0, 0]],
    );
    check(&with(Some(ficlone), ArgumentMode::Off), "ioctl", &[ficlone, tiocsti], &[]);
    check(&with(None, ArgumentMode::Stable), "ioctl", &[ficlone, tiocsti], &[]);
}

#[test]
fn decisions_count_until_they_expire_and_a_no_for_good() {
    let recorded = trace([called(Abi::X86_64, "ioctl", [[0x5412], [0x5413]]), row(Abi::X86_64, "mount", 1)]);
    let bounded = Options { ceiling: Ceiling::RuntimeDefault, ..bare() };
    let with = |decisions: &[Decision], today: &str| {
        let options =
            Options { decisions: decisions.to_vec(), today: Some(today.parse().unwrap()), ..bounded.clone() };
        synth(&recorded, &options)
    };
    let deny = decision(DecisionVerdict::Deny, "ioctl", "arg1 == 0x5412");
    let allow = decision(DecisionVerdict::Allow, "mount", "arg3 == 0");
    let accept = decision(DecisionVerdict::Accept, "mount", "");
    let made = with(&[deny.clone(), allow.clone()], "2026-06-30");
    let (tiocsti, winsize) = ([0, 0x5412, 0, 0, 0, 0], [0, 0x5413, 0, 0, 0, 0]);
    check(&made, "ioctl", &[winsize], &[tiocsti, [0, 0x5_0000_5412, 0, 0, 0, 0]]);
    check(&made, "mount", &[[0; 6]], &[[0, 0, 0, 1, 0, 0]]);
    let denied = Finding::Denied { syscall: "ioctl".to_owned(), when: "arg1 == 0x5412".to_owned(), calls: 1 };
    assert!(made.evidence.findings.contains(&denied));
    assert_eq!(made.evidence.options.decisions.len(), 2);
    let late = with(&[deny, allow, accept.clone()], "2026-07-01");
    check(&late, "ioctl", &[winsize], &[tiocsti]);
    check(&late, "mount", &[], &[[0; 6]]);
    let expired = late.evidence.findings.iter().filter(|own| matches!(own, Finding::DecisionExpired { .. }));
    assert_eq!(expired.count(), 2);
    // What is accepted is kept, as something known.
    let above = |made: &Synthesis| {
        made.evidence.findings.iter().any(|own| matches!(own, Finding::AboveCeiling { .. }))
    };
    let accepted = with(&[accept], "2026-01-01");
    assert!(above(&late) && !above(&accepted));
    let known =
        accepted.evidence.findings.iter().find(|own| matches!(own, Finding::Accepted { .. })).unwrap();
    assert!(
        known.level() == Level::Note && known.message().contains("accepted by security until 2026-06-30"),
        "{}",
        known.message()
    );
    let whole = with(&[decision(DecisionVerdict::Deny, "ioctl", "")], "2026-01-01");
    assert!(!whole.profile.allowed().contains("ioctl"));
    let misspelt = Options { decisions: vec![decision(DecisionVerdict::Deny, "ioclt", "")], ..bare() };
    assert!(
        matches!(synthesize(&recorded, &misspelt), Err(SynthError::UnknownSyscall(name)) if name == "ioclt")
    );
}

#[test]
fn what_a_decision_lets_through_is_no_longer_found_to_be_refused() {
    let recorded = trace([
        called(Abi::X86_64, "personality", [[0], [0x40000], [0x400000]]),
        called(Abi::X86_64, "socket", [[38, 5, 0]]),
        row(Abi::X86_64, "mount", 2),
        row(Abi::X86_64, "clone", 1),
    ]);
    // What is found about a call that the ceiling bounds, once it was allowed where `when` says.
    let found = |syscall: &str, when: &[&str]| -> Vec<String> {
        let decisions = when.iter().map(|when| decision(DecisionVerdict::Allow, syscall, when)).collect();
        let options = Options { ceiling: Ceiling::RuntimeDefault, decisions, ..bare() };
        let made = synth(&recorded, &options);
        let about = made.evidence.findings.iter().filter(|own| own.syscall() == Some(syscall));
        about.map(Finding::message).collect()
    };
    let check = |syscall: &str, when: &[&str], parts: &[&[&str]]| {
        let found = found(syscall, when);
        assert_eq!(found.len(), parts.len(), "{syscall} {when:?}: {found:?}");
        for (one, parts) in found.iter().zip(parts) {
            assert!(parts.iter().all(|part| one.contains(part)), "{syscall} {when:?}: {one}");
        }
    };
    check("mount", &[], &[&["called 2 times", "it will be refused"]]);
    check("mount", &[""], &[]);
    // Its arguments were not recorded, so nobody knows.
    check("mount", &["arg3 == 0"], &[&["allowed only where", "the recording does not say"]]);
    check("clone", &[], &[&["allowed only where"]]);
    check("clone", &[""], &[]);
    check("clone", &["arg0 == 0x10000000"], &[&["allowed only where", "CLONE_NEWUSER"]]);
    check("socket", &[], &[&["called once with", "AF_ALG", "that will be refused"]]);
    check("socket", &["arg0 == 38"], &[]);
    check("socket", &["arg0 == 40"], &[&["called once with", "AF_ALG", "that will be refused"]]);
    // What this decision goes by was recorded in part.
    check("socket", &["arg0 == 38, arg5 == 1"], &[&["allowed only where"]]);
    let both: &[&str] = &["called 2 times", "ADDR_NO_RANDOMIZE", "READ_IMPLIES_EXEC"];
    check("personality", &[], &[both]);
    check("personality", &["arg0 == 0x40000"], &[&["called once", "READ_IMPLIES_EXEC", "will be refused"]]);
    check("personality", &["arg0 == 0x40000", "arg0 == 0x400000"], &[]);
    check("personality", &["arg0 == 7"], &[both]);
}

#[test]
fn what_nobody_could_read_is_no_rule() {
    let requests: Vec<[u64; 1]> = (0..600u64).map(|number| [(number * 0x9e37_79b9) & 0xffff_ffff]).collect();
    let recorded = trace([called(Abi::X86_64, "ioctl", requests)]);
    let error = synthesize(&recorded, &bare()).unwrap_err();
    assert!(matches!(&error, SynthError::TooManyConditions { syscall, .. } if syscall == "ioctl"), "{error}");
    assert!(error.to_string().contains("--arguments"), "{error}");
    assert!(synthesize(&recorded, &Options { arguments: ArgumentMode::Off, ..bare() }).is_ok());
    let decisions = vec![decision(DecisionVerdict::Allow, "ioctl", "")];
    assert!(synthesize(&recorded, &Options { decisions, ..bare() }).is_ok());
    // A block of numbers is one rule, however many they are.
    let block: Vec<[u64; 1]> = (0x4600..0x4800).map(|number| [number]).collect();
    let options = Options { arguments: ArgumentMode::Exact, ..bare() };
    let made = synth(&trace([called(Abi::X86_64, "ioctl", block)]), &options);
    let entries = made.profile.syscalls.iter().filter(|entry| entry.names == ["ioctl"]).count();
    assert_eq!(entries, 1);
    check(&made, "ioctl", &[[0, 0x47ff, 0, 0, 0, 0]], &[[0, 0x4800, 0, 0, 0, 0], [0, 0x45ff, 0, 0, 0, 0]]);
}
