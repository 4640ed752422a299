//! What a workload's profile refuses though the workload uses the same calls, with which errno, and that nothing
//! legitimate suffers: threads, processes, Go, musl.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use seccomp_learn_tests::{
    cli::{own_program, read_trace},
    engines::good,
    learned::{self, profile},
    programs::{Workload, which},
    require,
};

const EPERM: i32 = libc::EPERM;
const ENOSYS: i32 = libc::ENOSYS;

/// What `legitimate` tries, and how it is refused.
const ATTEMPTS: [(&str, i32); 11] = [
    ("mmap", EPERM),
    ("mmap-all", EPERM),
    ("mprotect", EPERM),
    ("socket", EPERM),
    ("socket-upper", EPERM),
    ("ioctl", EPERM),
    ("ioctl-upper", EPERM),
    ("setsockopt", EPERM),
    ("prctl", EPERM),
    ("clone3", ENOSYS),
    ("clone", EPERM),
];

/// The answers that the program wrote down, one map a start.
fn answers(file: &Path) -> Vec<BTreeMap<String, i32>> {
    let text = fs::read_to_string(file).unwrap();
    let lines: Vec<(String, i32)> = text
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, number)| (name.to_owned(), number.parse().unwrap()))
        .collect();
    assert!(!lines.is_empty() && lines.len().is_multiple_of(ATTEMPTS.len()), "{text}");
    lines.chunks(ATTEMPTS.len()).map(|start| start.iter().cloned().collect()).collect()
}

/// Learns a workload's profile from one run, with the default options and these.
fn learn(workload: &Workload, folder: &Path) -> std::path::PathBuf {
    let traces = learned::record(workload, folder, 1);
    let output = folder.join("profile.json");
    learned::synthesize(&traces, &output, &[]);
    output
}

#[test]
fn what_was_not_seen_is_refused_and_what_was_seen_is_not() {
    require!();
    let folder = tempfile::tempdir().unwrap();
    let program = own_program("legitimate");
    let program = program.to_str().unwrap();
    let legitimate = Workload::command(&[program]);
    let learned = learn(&legitimate, folder.path());
    let trace = read_trace(&folder.path().join("run-1.json"));
    for name in ["mmap", "mprotect", "socket", "ioctl", "setsockopt", "prctl"] {
        assert!(trace.syscalls.iter().any(|row| row.name == name), "{name} is not used legitimately");
    }
    learned::test(&learned, &legitimate, 3).holds("the workload itself", 3);

    // Unconfined, none of it is refused for the reason that the filter gives.
    let plain = folder.path().join("plain");
    good(Command::new(program).arg(&plain).stdin(Stdio::null()));
    for (name, refusal) in ATTEMPTS {
        let own = answers(&plain)[0][name];
        assert_ne!(own, refusal, "{name}: the kernel itself says so");
    }

    let confined = folder.path().join("confined");
    let tested = learned::test(&learned, &Workload::command(&[program, confined.to_str().unwrap()]), 1);
    assert_eq!(tested.code, 1, "{}", tested.result);
    // Once with each denial named, once with the profile as a runtime loads it.
    let starts = answers(&confined);
    assert_eq!(starts.len(), 2);
    for (start, (name, refusal)) in starts.iter().flat_map(|start| ATTEMPTS.map(|attempt| (start, attempt))) {
        assert_eq!(start[name], refusal, "{name}: {starts:?}");
    }
    // Each is named, and nothing else is: the legitimate calls of the same program passed.
    let mut named: Vec<&str> = tested.denials.iter().map(|denial| denial["name"].as_str().unwrap()).collect();
    named.sort_unstable();
    named.dedup();
    assert_eq!(named, ["clone", "ioctl", "mmap", "mprotect", "prctl", "setsockopt", "socket"]);
}

/// glibc and Go start threads and processes without clone3.
fn runs_without_clone3(command: &[&str], makes_threads: bool) {
    let folder = tempfile::tempdir().unwrap();
    let workload = Workload::command(command);
    let learned = learn(&workload, folder.path());
    let trace = read_trace(&folder.path().join("run-1.json"));
    let has =
        |names: &[&str]| trace.syscalls.iter().any(|row| row.calls > 0 && names.contains(&row.name.as_str()));
    assert!(!makes_threads || has(&["clone", "clone3"]), "{command:?} started nothing");
    assert!(profile(&learned).answers_enosys("clone3"));
    learned::test(&learned, &workload, 3).holds(command[0], 3);
}

#[test]
fn threads_and_processes_of_glibc_do_without_clone3() {
    require!();
    let many = own_program("many-calls");
    runs_without_clone3(&[many.to_str().unwrap(), "4000", "2", "4"], true);
}

/// runc is a Go program.
#[test]
fn go_does_without_clone3() {
    require!("runc");
    runs_without_clone3(&[which("runc").unwrap().to_str().unwrap(), "--help"], true);
}

/// musl passes a request as an int: its bit 31 becomes the upper half of the register.
#[test]
fn a_musl_program_runs_under_the_profile_of_a_glibc_one() {
    require!("cc", "musl-gcc");
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/requests.c");
    let [glibc, musl] = ["cc", "musl-gcc"].map(|compiler| {
        let program = folder.path().join(compiler);
        let mut build = Command::new(compiler);
        good(build.args(["-O1", "-static", "-o"]).arg(&program).arg(&source));
        Workload::command(&[program.to_str().unwrap()])
    });
    let upper = |workload: &Workload, name: &str| {
        let trace = folder.path().join(name);
        learned::record_with("ebpf", workload, &trace);
        let trace = read_trace(&trace);
        let row = trace.syscalls.iter().find(|row| row.name == "ioctl").unwrap();
        let values = &row.arguments.as_ref().unwrap().values;
        let requests: Vec<u64> = values.iter().map(|values| values.arguments[0]).collect();
        assert_eq!(requests, [0x8004_5430, 0x8004_5439, 0x802c_542a]);
        values.iter().all(|values| values.upper.contains("request"))
    };
    assert!(!upper(&glibc, "glibc.json") && upper(&musl, "musl.json"), "only musl extends the sign");
    let learned = learn(&glibc, folder.path());
    learned::test(&learned, &musl, 3).holds("musl", 3);
}
