//! `replay`: recorded calls held against profiles, without running anything; by the simulator and by the kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use seccomp_learn_tests::{
    cli::{Finished, read_trace, run, seccomp_learn},
    made::{row, trace, write},
    measured::measured,
    skip,
};
use serde_json::Value;
use synth::Profile;
use trace::{Abi, Arguments, Kept, Outcome, Row, Startup, Values};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The folders below a place that have traces in them, by a rule.
fn folders(below: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository().join(below)).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.join("traces").is_dir()).collect();
    folders.sort();
    assert!(!folders.is_empty());
    folders
}

/// Every line of `--format json`.
fn lines(finished: &Finished) -> Vec<Value> {
    finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_type<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

/// Every trace of the repository under every profile of the repository, as each runtime loads it: the kernel answers
/// every recorded call as the simulator says.
#[test]
fn the_kernel_and_the_simulator_agree_on_every_recorded_call() {
    let workloads = folders("profiles/workloads");
    let golden = repository().join("trace/tests/golden");
    let profiles = ["docker", "podman", "containerd"].map(PathBuf::from).into_iter().chain(workloads.clone());
    let mut answered = 0;
    for profile in profiles {
        for runtime in ["crun", "runc"] {
            let mut words = vec!["replay".to_owned(), profile.display().to_string()];
            words.extend(workloads.iter().chain([&golden]).map(|path| path.display().to_string()));
            words.extend(["--native", "--format", "json", "--runtime", runtime].map(str::to_owned));
            let finished = run(&words);
            if finished.stderr.contains("may not load a seccomp filter") {
                return skip("this process may not load a filter");
            }
            let lines = lines(&finished);
            let result = of_type(&lines, "result")[0];
            let kernel = &result["kernel"];
            assert_eq!(kernel["disagreements"], Value::Array(Vec::new()), "{finished:?}");
            let facts: u64 = ["allowed", "denied", "on_purpose", "unknown", "not_needed"]
                .iter()
                .map(|name| result[name]["facts"].as_u64().unwrap())
                .sum();
            assert_eq!(of_type(&lines, "call").len() as u64, facts);
            let (own, not) = (kernel["answered"].as_u64().unwrap(), kernel["not_checked"].as_u64().unwrap());
            assert_eq!(own + not, facts);
            // The golden traces have rows of every kind; what is recorded here is this machine's own.
            assert!(own > 700 && not < 20, "{own} {not}");
            println!("{} as {runtime} loads it: {own} calls agree, {not} not checked", profile.display());
            answered += own;
        }
    }
    println!("{answered} answers");
}

#[test]
fn a_worked_workload_needs_nothing_that_its_profile_refuses() {
    for folder in folders("profiles/workloads") {
        let finished = run(["replay".as_ref(), folder.as_os_str()]).expect_code(0);
        assert!(finished.stdout.contains(" 0 denied,"), "{}", finished.stdout);
        assert!(finished.stdout.contains(" 0 unknown,"), "{}", finished.stdout);
        // Without the evidence beside it, what the ceiling leaves out is a denial like any other.
        let traces = folder.join("traces");
        let lone = folder.join("profile.json");
        let finished = run(["replay".as_ref(), lone.as_os_str(), traces.as_os_str()]);
        let is_above =
            fs::read_to_string(folder.join("profile.evidence.json")).unwrap().contains("above_ceiling");
        assert_eq!(finished.code, i32::from(is_above), "{}", finished.stdout);
    }
}

/// Reasons count for the very profile that they were written for.
#[test]
fn a_profile_that_was_edited_has_no_evidence() {
    let from = repository().join("profiles/workloads/inference");
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("traces")).unwrap();
    let traces = fs::read_dir(from.join("traces")).unwrap().map(|entry| entry.unwrap().file_name());
    let files = traces.map(|name| Path::new("traces").join(name));
    for file in files.chain(["profile.json", "profile.evidence.json"].map(PathBuf::from)) {
        fs::copy(from.join(&file), folder.path().join(&file)).unwrap();
    }
    let replay = |code: i32| run(["replay".as_ref(), folder.path().as_os_str()]).expect_code(code);
    let says = |finished: &Finished, start: &str, end: &str| {
        finished.stdout.lines().any(|line| line.starts_with(start) && line.ends_with(end))
    };
    let finished = replay(0);
    let purpose = "it is answered with ENOSYS, so that programs fall back";
    assert!(says(&finished, "refused on purpose: x86_64 clone3", purpose), "{}", finished.stdout);
    let path = folder.path().join("profile.json");
    let text = fs::read_to_string(&path).unwrap();
    let edited = text.replace("\"errnoRet\": 38", "\"errnoRet\": 1");
    assert_ne!(text, edited);
    fs::write(&path, edited).unwrap();
    let finished = replay(1);
    assert!(says(&finished, "denied: x86_64 clone3", ": EPERM"), "{}", finished.stdout);
    assert!(
        finished.stderr.contains("profile.evidence.json` is about another profile"),
        "{}",
        finished.stderr
    );
}

fn written(path: &Path, rows: Vec<Row>) -> String {
    let (folder, name) = (path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap());
    write(&trace(1000, rows), folder, name).display().to_string()
}

fn profile(path: &Path) -> String {
    let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]}"#;
    Profile::read(text.as_bytes()).unwrap();
    fs::write(path, text).unwrap();
    path.display().to_string()
}

#[test]
fn the_exit_code_says_what_came_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let profile = profile(&at("profile.json"));
    let well = written(&at("well.json"), vec![row("read", 3, "cat")]);
    let refused = written(&at("refused.json"), vec![row("read", 1, "cat"), row("mount", 2, "helper")]);
    let open = written(&at("open.json"), vec![row("socket", 1, "cat")]);
    let check = |traces: &[&str], code: i32, expected: &str| {
        let finished = run([&["replay", &profile], traces].concat()).expect_code(code);
        assert!(finished.stdout.contains(expected), "{expected:?}: {finished:?}");
    };
    check(&[&well], 0, "1 trace, 1 different recorded calls (made 3 times): 1 allowed, 0 denied");
    check(&[&refused], 1, "denied: x86_64 mount: EPERM");
    check(&[&refused], 1, "called 2 times; first by `helper` (pid 4711) after 12 ms (startup) in");
    check(&[&open], 3, "unknown: x86_64 socket: the profile goes by its arguments, which were not recorded");
    check(&[&open, &refused, &well], 1, "3 traces, 4 different recorded calls");
    check(&[&well, &well], 0, "2 traces");
    // A recording that was not closed may lack calls.
    let mut trace = read_trace(&at("well.json"));
    trace.complete = false;
    trace.seal().unwrap();
    trace.write(fs::File::create(at("part.json")).unwrap()).unwrap();
    check(&[at("part.json").to_str().unwrap()], 3, "1 allowed");
    // One that was attached late lacks the calls of the start, and CI's reports say so too.
    let mut trace = read_trace(&at("well.json"));
    trace.startup = Startup::NotRecorded;
    trace.seal().unwrap();
    trace.write(fs::File::create(at("late.json")).unwrap()).unwrap();
    let late = at("late.json").display().to_string();
    check(&[&late], 3, "1 allowed");
    let report = |format: &str| run(["replay", &profile, &late, "--format", format]).expect_code(3).stdout;
    assert!(report("github").starts_with("::warning title="), "{}", report("github"));
    let junit = quick_junit::Report::deserialize_from_str(&report("junit")).unwrap();
    assert_eq!((junit.tests, junit.errors), (2, 1));
    assert!(
        lines(&run(["replay", &profile, &late, "--format", "json"]))
            .iter()
            .any(|line| line["startup"] == false)
    );
    // What cannot be done is said with the file that it is about, the first of several.
    fs::write(at("bad.json"), "{").unwrap();
    let finished = run(["replay", &profile, &well, at("bad.json").to_str().unwrap()]).expect_code(2);
    assert!(finished.stderr.contains("bad.json"), "{}", finished.stderr);
    assert_eq!(finished.stdout, "");
    let finished = run(["replay", &profile]).expect_code(2);
    assert!(finished.stderr.contains("no trace to judge"), "{}", finished.stderr);
    run(["replay", "no-such-profile", &well]).expect_code(2);
}

/// Calls of a foreign machine cannot be made here, and the two that no filter sees must not be: they are judged by the
/// simulator alone, and counted. 32-bit calls are made where the kernel has them.
#[test]
fn what_cannot_be_asked_here_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let profile = at("profile.json");
    let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["read", "uretprobe", "socket"], "action": "SCMP_ACT_ALLOW"}],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"]}"#;
    fs::write(&profile, text).unwrap();
    let of = |abi: Abi, name: &str| Row { abi, number: abi.number(name).unwrap(), ..row(name, 1, "cat") };
    let rows = vec![of(Abi::Aarch64, "read"), of(Abi::Aarch64, "write"), of(Abi::Arm, "read")];
    let mut foreign = trace(1000, rows);
    foreign.recorder.arch = "aarch64".to_owned();
    write(&foreign, folder.path(), "foreign.json");
    let own = [(Abi::X86_64, "read"), (Abi::X86_64, "mount"), (Abi::X86_64, "uretprobe"), (Abi::X32, "read")];
    let own = own.into_iter().chain([(Abi::I386, "read"), (Abi::I386, "mount"), (Abi::I386, "socket")]);
    written(&at("own.json"), own.map(|(abi, name)| of(abi, name)).collect());
    let words = ["own.json", "foreign.json"].map(|name| at(name).display().to_string());
    let profile = profile.display().to_string();
    let finished = run(["replay", &profile, &words[0], &words[1], "--native", "--format", "json"]);
    if finished.stderr.contains("may not load a seccomp filter") {
        return skip("this process may not load a filter");
    }
    let lines = lines(&finished.expect_code(1));
    let kernel = |at: usize| {
        let own = &of_type(&lines, "trace")[at]["kernel"];
        assert_eq!(own["disagreements"], Value::Array(Vec::new()));
        (own["answered"].as_u64().unwrap(), own["not_checked"].as_u64().unwrap())
    };
    assert!([(6, 1), (3, 4)].contains(&kernel(0)), "with or without 32-bit calls: {:?}", kernel(0));
    assert_eq!(kernel(1), (0, 3));
    let judged = |abi: &str, name: &str| {
        let is_it = |line: &&&Value| line["abi"] == abi && line["syscall"] == name;
        let calls = of_type(&lines, "call");
        calls.iter().find(is_it).unwrap()["judgement"].as_str().unwrap().to_owned()
    };
    assert_eq!(judged("aarch64", "read"), "allowed");
    assert_eq!(judged("aarch64", "write"), "denied");
    assert_eq!(judged("i386", "mount"), "denied");
    assert_eq!(judged("x86_64", "uretprobe"), "allowed");
}

/// Whoever was recorded chose their names: none of them ends a workflow command or leaves the XML.
#[test]
fn reports_hold_whatever_names_there_are() {
    const NAME: &str = "a]]>&<b\n::err";
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let profile = profile(&at("profile.json"));
    let rows = vec![row("read", 1, "cat"), row("mount", 1, NAME), row("socket", 1, NAME)];
    let trace = written(&at("trace ::,.json"), rows);
    let report = |format: &str| run(["replay", &profile, &trace, "--format", format]).expect_code(1).stdout;
    let github = report("github");
    let commands: Vec<&str> = github.lines().filter(|line| line.starts_with("::")).collect();
    assert_eq!(commands.len(), 2, "{github}");
    assert!(
        commands[0]
            .starts_with("::error title=seccomp profile refuses a recorded call::denied: x86_64 mount")
    );
    assert!(commands[1].starts_with("::warning title="), "{github}");
    let junit = quick_junit::Report::deserialize_from_str(&report("junit")).unwrap();
    let suite = junit.test_suites.first().unwrap();
    assert_eq!((suite.tests, suite.failures, suite.errors), (3, 1, 1));
    let of = |name: &str| suite.test_cases.iter().find(|case| case.name.as_str() == name).unwrap();
    assert!(matches!(of("read").status, quick_junit::TestCaseStatus::Success { .. }));
    let quick_junit::TestCaseStatus::NonSuccess { kind, message, .. } = &of("mount").status else {
        panic!("{junit:?}");
    };
    assert_eq!(*kind, quick_junit::NonSuccessKind::Failure);
    assert!(message.as_ref().unwrap().as_str().contains("a]]>&<b\\u{a}\\u{3a}:err"), "{message:?}");
    let json = lines(&run(["replay", &profile, &trace, "--format", "json"]).expect_code(1));
    let mount = of_type(&json, "call").into_iter().find(|line| line["syscall"] == "mount").unwrap();
    assert_eq!((&mount["judgement"], &mount["first"]["comm"]), (&"denied".into(), &NAME.into()));
    assert_eq!(of_type(&json, "trace").len(), 1);
}

/// Four times as many traces of 200 rows, all different, and of more refused calls than are listed, need the same
/// memory, and four times as long.
#[test]
fn memory_does_not_grow_with_the_number_of_traces() {
    let folder = tempfile::tempdir().unwrap();
    let profile = profile(&folder.path().join("profile.json"));
    let names: Vec<String> =
        Abi::X86_64.numbers().take(200).map(|number| Abi::X86_64.name(number).to_string()).collect();
    let (few, many) = (folder.path().join("few"), folder.path().join("many"));
    for (place, count) in [(&few, 150u64), (&many, 600)] {
        fs::create_dir(place).unwrap();
        for number in 0..count {
            let mut rows: Vec<Row> = names.iter().map(|name| row(name, 1 + number, "server")).collect();
            let socket = rows.iter_mut().find(|row| row.name == "socket").unwrap();
            // Each trace has 80 protocols of its own.
            *socket = sockets((0..80).map(|place| 1000 + number * 80 + place));
            written(&place.join(format!("{number}.json")), rows);
        }
    }
    let replay = |folder: &Path| {
        let measured = measured(seccomp_learn(["replay", &profile, folder.to_str().unwrap()]));
        let finished = measured.finished.expect_code(1);
        let last = finished.stdout.lines().rfind(|line| line.ends_with("that differ from all of these"));
        assert!(last.is_some(), "the bound is reached: {:?}", finished.stdout.lines().last());
        (measured.peak >> 10, measured.cpu)
    };
    let ((few, short), (many, long)) = (replay(&few), replay(&many));
    println!("150 traces: {few} KiB, {short:?}; 600 traces: {many} KiB, {long:?}");
    assert!(many < few + few / 4 && many < 256 << 10, "{few} KiB, {many} KiB");
    assert!(long < short * 6, "{short:?}, {long:?}");
}

/// Calls of `socket(AF_INET, SOCK_STREAM, …)` with these protocols.
fn sockets(protocols: impl Iterator<Item = u64>) -> Row {
    let own = row("socket", 0, "server");
    let kept = [(0, "domain"), (1, "type"), (2, "protocol")].map(|(index, name)| Kept {
        index,
        offset: None,
        name: name.to_owned(),
        mask: 0xffff_ffff,
    });
    let values: Vec<Values> = protocols
        .map(|protocol| Values {
            arguments: vec![2, 1, protocol],
            calls: 1,
            denied: 0,
            runs: 1,
            upper: BTreeSet::new(),
            file: None,
            phases: own.phases.clone(),
            first: own.first.clone(),
        })
        .collect();
    let calls = values.len() as u64;
    let outcomes = BTreeMap::from([(Outcome::Ok, calls)]);
    Row { calls, outcomes, arguments: Some(Arguments::of(kept.to_vec(), values)), ..own }
}
