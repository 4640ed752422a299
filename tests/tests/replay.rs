//! `replay`: recorded calls held against profiles, without running anything; by the simulator and by the kernel.

use std::{
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
use trace::{Abi, Row};

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
    assert!(message.as_ref().unwrap().as_str().contains("a]]>&<b\\n::err"), "{message:?}");
    let json = lines(&run(["replay", &profile, &trace, "--format", "json"]).expect_code(1));
    let mount = of_type(&json, "call").into_iter().find(|line| line["syscall"] == "mount").unwrap();
    assert_eq!((&mount["judgement"], &mount["first"]["comm"]), (&"denied".into(), &NAME.into()));
    assert_eq!(of_type(&json, "trace").len(), 1);
}

/// Four times as many traces of 200 rows, all different, need the same memory, and four times as long.
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
            let rows = names.iter().map(|name| row(name, 1 + number, "server")).collect();
            written(&place.join(format!("{number}.json")), rows);
        }
    }
    let replay = |folder: &Path| {
        let measured = measured(seccomp_learn(["replay", &profile, folder.to_str().unwrap()]));
        measured.finished.expect_code(1);
        (measured.peak >> 10, measured.cpu)
    };
    let ((few, short), (many, long)) = (replay(&few), replay(&many));
    println!("150 traces: {few} KiB, {short:?}; 600 traces: {many} KiB, {long:?}");
    assert!(many < few + few / 4 && many < 256 << 10, "{few} KiB, {many} KiB");
    assert!(long < short * 6, "{short:?}, {long:?}");
}
