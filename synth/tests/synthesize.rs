//! What the passes do, case by case, and one small example in full.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::{called, named, probe, refused, row, trace};
use seccomp_learn_synth::{
    Addition, Ceiling, CompileOptions, DefaultAction, Evidence, Finding, Level, Margin, Options, Profile,
    Reason, Runtime, RuntimeTable, SeccompData, SynthError, Synthesis, Verdict, compile, evidence_schema,
    simulate, synthesize,
};
use trace::{
    Abi, Attached, Container, ContainerKind, Errno, ExecCalls, FilterMoment, RuntimeCalls, Startup, Trace,
};

fn synth(trace: &Trace, options: &Options) -> Synthesis {
    synthesize(trace, options).unwrap()
}

/// No margin, no runtime: what was observed and what every program needs.
fn tight() -> Options {
    Options { margin: Margin::None, runtime: Runtime::None, ..Options::default() }
}

fn verdict(profile: &Profile, abi: Abi, name: &str, args: [u64; 6]) -> Verdict {
    let program = compile(profile, Abi::X86_64, CompileOptions::default()).unwrap();
    simulate(&program, &SeccompData::call(abi, abi.number(name).unwrap(), args)).unwrap()
}

#[test]
fn a_small_example_in_full() {
    let small = trace([
        row(Abi::X86_64, "read", 4),
        row(Abi::X86_64, "execve", 1),
        called(Abi::X86_64, "socket", [[2, 0x80001, 0], [17, 3, 0]]),
        called(Abi::X86_64, "mmap", [[5, 0x802]]),
        called(Abi::X86_64, "clone3", [[0x3d_0f00]]),
        probe("uname", Errno::ENOSYS),
    ]);
    let synthesis = synth(&small, &tight());
    insta::assert_snapshot!("profile", synthesis.profile.to_json());
    insta::assert_snapshot!("evidence", synthesis.evidence.to_json());
}

#[test]
fn the_log_only_twin_refuses_nothing() {
    let twin = synth(&named("read clone3"), &Options { default_action: DefaultAction::Log, ..tight() });
    for name in ["read", "mount", "clone3", "io_uring_setup"] {
        assert!(verdict(&twin.profile, Abi::X86_64, name, [0; 6]).executes(), "{name}");
    }
    assert!(twin.evidence.enosys.is_empty());
}

#[test]
fn what_the_margins_add() {
    let trace = named("read fstat openat");
    let names = |options: &Options| -> Vec<String> {
        synth(&trace, options).profile.allowed().iter().map(|name| (*name).to_owned()).collect()
    };
    let always = ["exit", "exit_group", "restart_syscall", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn"];
    let mut expected: Vec<&str> = always.to_vec();
    expected.extend(["read", "fstat", "openat"]);
    expected.sort_unstable();
    assert_eq!(names(&tight()), expected);
    let portable = names(&Options { margin: Margin::Portable, ..tight() });
    for name in ["stat", "statx", "newfstatat", "open", "openat2", "clock_gettime", "getrandom"] {
        assert!(portable.contains(&name.to_owned()), "{name}");
    }
    assert!(!portable.contains(&"fstat64".to_owned()), "a call of another ABI");
    assert!(!portable.contains(&"accept4".to_owned()), "nothing of its class was observed");
}

#[test]
fn clone_is_bounded_and_clone3_is_answered_with_enosys() {
    let new_user = 0x1000_0000;
    for ceiling in [Ceiling::RuntimeDefault, Ceiling::None] {
        let Synthesis { profile, evidence } =
            synth(&named("read clone3"), &Options { ceiling: ceiling.clone(), ..tight() });
        assert_eq!(verdict(&profile, Abi::X86_64, "clone3", [0; 6]), Verdict::Errno(38));
        // The fallback came in for clone3: without namespaces, since none was observed.
        assert_eq!(verdict(&profile, Abi::X86_64, "clone", [0x11, 0, 0, 0, 0, 0]), Verdict::Allow);
        assert_eq!(verdict(&profile, Abi::X86_64, "clone", [new_user; 6]), Verdict::Errno(1));
        let answered = Finding::AnsweredEnosys { syscall: "clone3".to_owned(), calls: 1 };
        assert!(evidence.findings.contains(&answered), "{:?}", evidence.findings);
    }
    let observed = synth(&named("clone"), &tight());
    assert_eq!(verdict(&observed.profile, Abi::X86_64, "clone", [new_user; 6]), Verdict::Errno(1));
    assert!(
        observed
            .evidence
            .findings
            .iter()
            .any(|f| matches!(f, Finding::Narrowed { syscall, .. } if syscall == "clone"))
    );
    let open = synth(&named("clone"), &Options { ceiling: Ceiling::None, ..tight() });
    assert_eq!(verdict(&open.profile, Abi::X86_64, "clone", [new_user; 6]), Verdict::Allow);
}

#[test]
fn the_ceiling_decides_and_says_so() {
    let Synthesis { profile, evidence } =
        synth(&named("read mount get_mempolicy socket personality"), &tight());
    assert_eq!(verdict(&profile, Abi::X86_64, "mount", [0; 6]), Verdict::Errno(1));
    assert_eq!(verdict(&profile, Abi::X86_64, "get_mempolicy", [0; 6]), Verdict::Errno(1));
    for (family, allowed) in
        [(1, true), (2, true), (16, true), (12, false), (38, false), (40, false), (46, false)]
    {
        let args = [family, 0, 0, 0, 0, 0];
        assert_eq!(verdict(&profile, Abi::X86_64, "socket", args).executes(), allowed, "{family}");
    }
    assert!(verdict(&profile, Abi::X86_64, "personality", [0xffff_ffff, 0, 0, 0, 0, 0]).executes());
    assert!(!verdict(&profile, Abi::X86_64, "personality", [0x40000, 0, 0, 0, 0, 0]).executes());
    for syscall in ["mount", "get_mempolicy"] {
        let above = Finding::AboveCeiling { syscall: syscall.to_owned(), calls: 1, succeeded: true };
        assert!(evidence.findings.contains(&above) && above.level() == Level::Review);
    }
    let open = synth(&named("read mount"), &Options { ceiling: Ceiling::None, ..tight() });
    assert!(verdict(&open.profile, Abi::X86_64, "mount", [0; 6]).executes());
    let allows = Profile::read(br#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
    let ceiling = Ceiling::Profile(allows);
    assert!(matches!(
        synthesize(&named("read"), &Options { ceiling, ..tight() }),
        Err(SynthError::CeilingAllowsByDefault)
    ));
}

#[test]
fn what_only_a_filter_answered_is_not_needed() {
    let mut recorded = trace([row(Abi::X86_64, "read", 2), refused(Abi::X86_64, "mbind", 3)]);
    recorded.confined = true;
    recorded.seal().unwrap();
    let Synthesis { profile, evidence } = synth(&recorded, &Options { ceiling: Ceiling::None, ..tight() });
    assert!(!profile.allowed().contains("mbind"));
    let refused = Finding::OnlyRefused { syscall: "mbind".to_owned(), abi: Abi::X86_64, denied: 3 };
    assert!(evidence.findings.contains(&refused));
    let confined = Finding::Confined { denied: 3, refused: [("mbind".to_owned(), 3)].into() };
    assert!(evidence.findings.contains(&confined) && confined.level() == Level::Review);
    assert!(confined.message().contains("answered 3 calls (mbind 3)"), "{}", confined.message());
}

#[test]
fn incomplete_evidence_is_refused_unless_accepted() {
    let check = |change: fn(&mut Trace), accepted: &Options, finding: &Finding| {
        let mut trace = named("read");
        change(&mut trace);
        let error = synthesize(&trace, &tight()).unwrap_err();
        assert!(error.is_incomplete_evidence(), "{error}");
        let synthesis = synth(&trace, accepted);
        assert!(synthesis.evidence.findings.contains(finding));
        assert_eq!(finding.level(), Level::Incomplete);
    };
    let incomplete = Options { accept_incomplete: true, ..tight() };
    check(|trace| trace.complete = false, &incomplete, &Finding::Incomplete);
    check(|trace| trace.losses.map_full = 7, &incomplete, &Finding::LostCalls { lost: 7 });
    let late = Options { without_startup: true, ..tight() };
    check(|trace| trace.startup = Startup::NotRecorded, &late, &Finding::StartupNotRecorded);
    let nothing = trace([refused(Abi::X86_64, "read", 1)]);
    assert!(matches!(synthesize(&nothing, &tight()), Err(SynthError::NothingObserved)));
    let mut elsewhere = named("read");
    elsewhere.recorder.arch = "riscv64".to_owned();
    assert!(matches!(synthesize(&elsewhere, &tight()), Err(SynthError::Machine(_))));
}

#[test]
fn other_abis_of_the_same_machine() {
    let recorded = trace([
        row(Abi::X86_64, "read", 1),
        row(Abi::I386, "socketcall", 1),
        row(Abi::I386, "write", 1),
        row(Abi::I386, "futex_time64", 1),
        row(Abi::X32, "readv", 1),
    ]);
    let options = Options { margin: Margin::Portable, ..tight() };
    let Synthesis { profile, evidence } = synth(&recorded, &options);
    let architectures: Vec<&str> = profile.architectures.iter().map(|arch| arch.as_str()).collect();
    assert_eq!(architectures, ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    assert!(verdict(&profile, Abi::I386, "socketcall", [0; 6]).executes());
    assert!(verdict(&profile, Abi::I386, "sigreturn", [0; 6]).executes());
    assert!(verdict(&profile, Abi::I386, "futex", [0; 6]).executes());
    assert!(verdict(&profile, Abi::X32, "readv", [0; 6]).executes());
    assert!(!verdict(&profile, Abi::I386, "mount", [0; 6]).executes());
    // By name: `write` was only seen as i386 and is allowed natively too, and the evidence says so.
    assert!(verdict(&profile, Abi::X86_64, "write", [0; 6]).executes());
    let says = |abi, name: &str| {
        evidence.findings.iter().any(|finding| {
            matches!(finding, Finding::OtherAbi { abi: own, syscalls } if *own == abi && syscalls.contains(name))
        })
    };
    assert!(says(Abi::X86_64, "write") && says(Abi::I386, "read") && says(Abi::X86_64, "readv"));
    // Where only native calls were seen, no other ABI is let in.
    let native = synth(&named("read"), &tight()).profile;
    assert_eq!(verdict(&native, Abi::I386, "read", [0; 6]), Verdict::KillThread);
}

#[test]
fn the_runtime_is_the_recorded_one_or_all() {
    let runtimes = |choice, recorded: Option<&str>| -> Vec<String> {
        let mut trace = named("read");
        trace.target.runtime = recorded.map(str::to_owned);
        synth(&trace, &Options { runtime: choice, ..tight() }).evidence.options.runtime
    };
    let of = |name: &str, list: &[String]| list.iter().filter(|own| own.starts_with(name)).count();
    let all = runtimes(Runtime::Auto, None);
    assert!(of("runc ", &all) > 0 && of("crun ", &all) > 0);
    let crun = runtimes(Runtime::Auto, Some("crun 1.8.1"));
    assert!(of("crun ", &crun) == crun.len() && !crun.is_empty());
    assert_eq!(runtimes(Runtime::Auto, Some("runc version 1.1.5")), ["runc 1.1.5"]);
    assert_eq!(runtimes(Runtime::Runc, Some("runc 1.4.2")), ["runc 1.4.2"]);
    assert_eq!(runtimes(Runtime::Runc, Some("crun 1.8.1")), runtimes(Runtime::Runc, None));
    assert!(runtimes(Runtime::None, Some("runc 1.1.5")).is_empty());
    let counts =
        synth(&named("read"), &Options { margin: Margin::None, ..Options::default() }).evidence.counts;
    assert!(counts.allowed > counts.allowed_without_runtime + 10, "{counts:?}");
    assert_eq!(counts.allowed_without_runtime, 7, "{counts:?}");
}

#[test]
fn a_runtime_without_a_table_of_its_version_is_said() {
    let findings = |recorded: &str| {
        let mut trace = named("read");
        trace.target.runtime = Some(recorded.to_owned());
        let evidence = synth(&trace, &Options { margin: Margin::None, ..Options::default() }).evidence;
        (evidence.options.runtime, evidence.findings)
    };
    let (tables, found) = findings("runc 1.2.3");
    assert_eq!(tables, ["runc 1.2.3: nearest shipped table 1.1.5"]);
    let nearest = Finding::NearestRuntime { runtime: "runc 1.2.3".to_owned(), table: "1.1.5".to_owned() };
    assert!(found.contains(&nearest) && nearest.level() == Level::Review);
    assert!(nearest.message().contains("runtime-base"));
    let (tables, found) = findings("youki 0.3.0");
    assert_eq!(tables.len(), 4);
    assert!(found.contains(&Finding::UnknownRuntime { runtime: "youki 0.3.0".to_owned() }));
}

#[test]
fn a_measured_table_goes_first_and_a_given_one_stands_alone() {
    let table = |version: &str, names: &str| {
        let text = format!(
            "runtime = \"runc\"\nversion = \"{version}\"\nsource = \"x\"\n[[need]]\nnames = \"{names}\"\nwhy = \"y\""
        );
        RuntimeTable::read(&text).unwrap()
    };
    let mut trace = named("read");
    trace.target.runtime = Some("runc 1.1.5".to_owned());
    let measured = vec![table("1.4.2", "execve sysinfo"), table("1.1.5", "execve uname")];
    let made = synth(&trace, &Options { measured, margin: Margin::None, ..Options::default() });
    assert_eq!(made.evidence.options.runtime, ["runc 1.1.5, measured"]);
    assert!(made.profile.allowed().contains("uname") && !made.profile.allowed().contains("sysinfo"));
    assert!(!made.profile.allowed().contains("setgroups"), "the shipped one is left aside");
    let runtime = Runtime::Table(table("9.9", "execve sysinfo"));
    let made = synth(&trace, &Options { runtime, ..tight() });
    assert_eq!(made.evidence.options.runtime, ["runc 9.9, given"]);
    assert!(made.profile.allowed().contains("sysinfo"));
}

/// A container's trace: the runtime's calls and an exec session's beside the workload's.
fn container(filter: FilterMoment) -> Trace {
    let mut trace = named("read clone");
    let native = |name: &str| row(Abi::X86_64, name, 2);
    trace.runtime = Some(RuntimeCalls {
        filter,
        setup: vec![native("mount")],
        start: vec![native("uname"), native("execve")],
    });
    let mut refused = refused(Abi::X86_64, "mbind", 4);
    refused.runs = 1;
    trace.exec =
        Some(ExecCalls { sessions: 2, syscalls: vec![native("sysinfo"), refused, native("ptrace")] });
    trace.seal().unwrap();
    trace
}

#[test]
fn exec_sessions_count_unless_left_out() {
    let trace = container(FilterMoment::Loaded);
    let Synthesis { profile, evidence } = synth(&trace, &tight());
    assert!(profile.allowed().contains("sysinfo") && !profile.allowed().contains("mbind"));
    let rule = evidence.rules.iter().find(|rule| rule.syscall == "sysinfo").unwrap();
    assert!(rule.observed && rule.reasons.iter().all(|reason| matches!(reason, Reason::ExecSession { .. })));
    let only = Finding::OnlyRefused { syscall: "mbind".to_owned(), abi: Abi::X86_64, denied: 4 };
    assert!(evidence.findings.contains(&only));
    let above = Finding::AboveCeiling { syscall: "ptrace".to_owned(), calls: 2, succeeded: true };
    assert!(evidence.findings.contains(&above) || profile.allowed().contains("ptrace"));
    let Synthesis { profile, evidence } = synth(&trace, &Options { without_exec: true, ..tight() });
    assert!(!profile.allowed().contains("sysinfo") && evidence.options.without_exec);
    assert!(!evidence.findings.contains(&only));
    // They are evidence like the workload's: what is called in their place elsewhere comes with the margin.
    let mut seen = named("read");
    seen.exec = Some(ExecCalls { sessions: 1, syscalls: vec![row(Abi::X86_64, "openat", 1)] });
    let made = synth(&seen, &Options { margin: Margin::Portable, ..tight() });
    assert!(made.profile.allowed().contains("openat2"));
}

#[test]
fn what_the_runtime_called_under_the_filter_is_allowed_besides_the_table() {
    let allowed = |filter, runtime: Runtime| {
        let made = synth(&container(filter), &Options { runtime, ..tight() });
        let seen = made.evidence.rules.iter().find(|rule| rule.syscall == "uname").cloned();
        if let Some(rule) = &seen {
            assert!(
                !rule.observed && matches!(rule.reasons.first(), Some(Reason::RuntimeSeen { calls: 2, .. }))
            );
        }
        assert!(
            !made.profile.allowed().contains("mount"),
            "what comes before the filter is not judged by it"
        );
        (seen.is_some(), made.profile.allowed().contains("setgroups"))
    };
    assert_eq!(allowed(FilterMoment::Loaded, Runtime::Auto), (true, true));
    assert_eq!(allowed(FilterMoment::Loaded, Runtime::Crun), (true, true));
    // A recording that joins another takes nothing away from what it showed.
    assert_eq!(allowed(FilterMoment::Both, Runtime::Auto), (true, true));
    for guess in [FilterMoment::WouldBe, FilterMoment::NotSeen] {
        assert_eq!(allowed(guess, Runtime::Auto), (false, true));
    }
    assert_eq!(allowed(FilterMoment::Loaded, Runtime::None), (false, false), "nobody's is nobody's");
}

#[test]
fn a_filter_that_is_there_only_to_be_loaded_is_no_confinement() {
    let findings = |seccomp: &str, denied: bool| -> Vec<Finding> {
        let mut trace = container(FilterMoment::Loaded);
        trace.confined = true;
        trace.target.container = Some(Container {
            engine: "docker 20.10.24".to_owned(),
            id: "1".to_owned(),
            name: None,
            image: None,
            labels: std::collections::BTreeMap::new(),
            kind: ContainerKind::Container,
            pod: None,
            restart: 0,
            seccomp: Some(seccomp.to_owned()),
            no_new_privileges: None,
            user: None,
            attached: Attached { before_first_exec_ms: Some(1) },
        });
        if !denied {
            trace.exec = None;
        }
        trace.seal().unwrap();
        let findings = synth(&trace, &tight()).evidence.findings;
        findings.into_iter().filter(|finding| matches!(finding, Finding::Confined { .. })).collect()
    };
    assert_eq!(findings("observe", false), []);
    let refused = |count: u64| [("mbind".to_owned(), count)].into();
    assert_eq!(findings("observe", true), [Finding::Confined { denied: 4, refused: refused(4) }]);
    assert_eq!(findings("default", true), [Finding::Confined { denied: 4, refused: refused(4) }]);
    let quiet = findings("default", false);
    assert_eq!(quiet[0].level(), Level::Note, "a filter that refused nothing hid nothing");
}

#[test]
fn additions_are_labelled_and_bounded() {
    let addition = |syscall: &str| Addition {
        arguments: None,
        syscall: syscall.to_owned(),
        abi: Abi::X86_64,
        why: "refused to `server` while serving".to_owned(),
    };
    let options = Options { allow: vec![addition("sysinfo"), addition("mount")], ..tight() };
    let Synthesis { profile, evidence } = synth(&named("read"), &options);
    assert!(profile.allowed().contains("sysinfo") && !profile.allowed().contains("mount"));
    let rule = evidence.rules.iter().find(|rule| rule.syscall == "sysinfo").unwrap();
    assert!(rule.reasons.iter().any(|reason| matches!(reason, Reason::Added { .. })));
    assert!(
        evidence
            .findings
            .iter()
            .any(|f| matches!(f, Finding::AboveCeiling { syscall, .. } if syscall == "mount"))
    );
    let options = Options { allow: vec![addition("sokcet")], ..tight() };
    assert!(
        matches!(synthesize(&named("read"), &options), Err(SynthError::UnknownSyscall(name)) if name == "sokcet")
    );
}

#[test]
fn names_that_old_libraries_or_no_table_know_are_findings() {
    let mut recorded = trace([row(Abi::X86_64, "read", 1), row(Abi::X86_64, "mseal", 1)]);
    let mut unnamed = row(Abi::X86_64, "read", 5);
    unnamed.number = 9999;
    unnamed.name = "syscall_9999".to_owned();
    recorded.syscalls.push(unnamed);
    let findings = synth(&recorded, &tight()).evidence.findings;
    let mseal = Finding::UnknownToLibseccomp { syscall: "mseal".to_owned(), libseccomp: "2.5.4".to_owned() };
    assert!(findings.contains(&mseal), "{findings:?}");
    assert!(findings.contains(&Finding::Unnamed { abi: Abi::X86_64, number: 9999, calls: 5 }));
}

#[test]
fn the_sidecar_reads_back_and_fits_its_schema() {
    let evidence = synth(&named("read mount clone socket clone3 mseal"), &Options::default()).evidence;
    let text = evidence.to_json();
    assert_eq!(Evidence::read(text.as_bytes()).unwrap(), evidence);
    let document = serde_json::from_str(&text).unwrap();
    jsonschema::validator_for(&evidence_schema()).unwrap().validate(&document).unwrap();
    assert!(Evidence::read(text.replace("\"1.3\"", "\"2.0\"").as_bytes()).is_err());
    // An edit is told, and so is a sidecar that has no digest yet.
    let edited = Evidence::read(text.replacen("portable", "none", 1).as_bytes()).unwrap();
    assert_eq!((evidence.is_as_written(), edited.is_as_written()), (Some(true), Some(false)));
    // What earlier versions wrote has neither words nor what decisions and arguments are about.
    let mut old: serde_json::Value = serde_json::from_str(&text).unwrap();
    old["version"] = "1.0".into();
    old.as_object_mut().unwrap().remove("digest");
    let options = old["options"].as_object_mut().unwrap();
    options.retain(|name, _| {
        !["arguments", "gpu_drivers", "libseccomp", "decisions", "without_exec"].contains(&name.as_str())
    });
    for rule in old["rules"].as_array_mut().unwrap() {
        rule.as_object_mut().unwrap().remove("words");
    }
    let old = Evidence::read(old.to_string().as_bytes()).unwrap();
    assert_eq!(old.is_as_written(), None);
    assert_eq!((old.options.arguments.as_str(), old.options.libseccomp), ("off", None));
    assert!(Evidence::read(text.replacen("\"counts\"", "\"count\"", 1).as_bytes()).is_err());
}

/// `SECCOMP_LEARN_BLESS=1 cargo test -p seccomp-learn-synth` writes the schema anew.
#[test]
#[expect(clippy::disallowed_methods, reason = "the test compares with a file")]
fn the_checked_in_schema_is_the_one_of_the_types() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/evidence.schema.json");
    let generated = serde_json::to_string_pretty(&evidence_schema()).unwrap() + "\n";
    if std::env::var("SECCOMP_LEARN_BLESS").is_ok() {
        std::fs::write(path, &generated).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), generated, "evidence.schema.json is stale");
}
