//! Counts are exact, rare calls are found, and a recorder that is killed leaves nothing.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use seccomp_learn_tests::{
    cgroup::{self, Cgroup},
    cli::{Recorder, own_program, read_trace, run, seccomp_learn},
    require,
};
use trace::{Startup, Trace};

fn record(backend: &str, output: &Path, command: &[&str]) -> Trace {
    let mut arguments = vec!["record", "--backend", backend, "-o", output.to_str().unwrap(), "--"];
    arguments.extend(command);
    run(&arguments).expect_code(0);
    read_trace(output)
}

fn calls(trace: &Trace, name: &str) -> u64 {
    trace.syscalls.iter().filter(|row| row.name == name).map(|row| row.calls).sum()
}

#[test]
fn a_million_and_three_calls_are_a_million_and_three() {
    require!();
    let folder = tempfile::tempdir().unwrap();
    let many = own_program("many-calls");
    let trace = record("ebpf", &folder.path().join("t.json"), &[many.to_str().unwrap(), "1000003", "4", "8"]);
    assert_eq!(calls(&trace, "getppid"), 1_000_003);
    assert_eq!(trace.losses.missed_events, 0);
    assert!(!trace.losses.lost_calls());
    // The law of the format is checked when a trace is read; here nothing may be in flight either.
    assert!(trace.syscalls.iter().all(|row| row.in_flight == 0));
    assert!(trace.complete && !trace.confined && trace.startup == Startup::Recorded);
}

#[test]
fn notify_counts_them_too() {
    let folder = tempfile::tempdir().unwrap();
    let many = own_program("many-calls");
    let trace = record("notify", &folder.path().join("t.json"), &[many.to_str().unwrap(), "20003", "4", "8"]);
    assert_eq!(calls(&trace, "getppid"), 20_003);
}

#[test]
fn rare_calls_are_all_there() {
    require!();
    let folder = tempfile::tempdir().unwrap();
    let rare = own_program("rare-calls");
    let trace = record("ebpf", &folder.path().join("t.json"), &[rare.to_str().unwrap(), "0", "10", "25"]);
    for (name, after) in [("getpriority", 0), ("sched_get_priority_max", 10_000), ("getsid", 25_000)] {
        let row = trace.syscalls.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(row.calls, 1);
        assert!(
            row.first.after_ms >= after && row.first.after_ms < after + 2_000,
            "{name} at {} ms",
            row.first.after_ms
        );
        assert_eq!(row.first.comm, "rare-calls");
    }
}

/// The BPF programs that a process holds, by their ids.
fn programs_of(pid: u32) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let ids = texts.filter_map(|text| {
        text.lines().find_map(|line| line.strip_prefix("prog_id:").map(|id| id.trim().to_owned()))
    });
    ids.collect()
}

fn is_loaded(program: &str) -> bool {
    Command::new("bpftool").args(["prog", "show", "id", program]).output().unwrap().status.success()
}

fn left_over_cgroups() -> Vec<String> {
    let mut pending = vec![cgroup::mount_point().unwrap()];
    let mut found = Vec::new();
    while let Some(path) = pending.pop() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
            if entry.file_name().to_string_lossy().starts_with("seccomp-learn.") {
                found.push(entry.path().display().to_string());
            }
            pending.push(entry.path());
        }
    }
    found
}

/// Kills a recorder, after this time or once it says that it records, and returns the programs that it held.
fn kill_a_recorder(wait: Option<u64>) -> BTreeSet<String> {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let marker = elsewhere.path().join("went-on");
    let line = format!("sleep 3; : > {}", marker.display());
    let output = folder.path().join("t.json");
    let arguments = ["--backend", "ebpf", "-o", output.to_str().unwrap(), "--", "/bin/sh", "-c", &line];
    let recorder = match wait {
        Some(wait) => {
            let recorder = Recorder::launch(arguments, None);
            std::thread::sleep(Duration::from_millis(wait));
            recorder
        }
        None => Recorder::start(arguments),
    };
    let own = format!(".{}.", recorder.pid());
    let cgroup = left_over_cgroups().into_iter().find(|path| path.contains(&own));
    let started = cgroup.as_ref().is_some_and(|path| {
        let pids = fs::read_to_string(Path::new(path).join("cgroup.procs")).unwrap_or_default();
        pids.lines().any(|pid| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"/bin/sh"))
        })
    });
    assert!(started || wait.is_some(), "it says that it records, but there is no workload");
    let held = programs_of(recorder.pid());
    assert!(!started || !held.is_empty(), "after {wait:?} ms: the workload runs unrecorded");
    recorder.signal(libc::SIGKILL);
    recorder.wait();
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(names.is_empty(), "after {wait:?} ms: {names:?}");
    let deadline = Instant::now() + Duration::from_secs(20);
    while started && !marker.exists() {
        assert!(Instant::now() < deadline, "after {wait:?} ms: the workload ended with its recorder");
        std::thread::sleep(Duration::from_millis(20));
    }
    held
}

#[test]
fn a_killed_recorder_leaves_nothing_and_ebpf_workloads_go_on() {
    require!("bpftool");
    let mut programs = BTreeSet::new();
    for wait in [Some(0), Some(20), Some(150), Some(400), Some(900), Some(1600), None] {
        programs.extend(kill_a_recorder(wait));
    }
    assert!(!programs.is_empty());
    // A start cleans up what dead ones left.
    let folder = tempfile::tempdir().unwrap();
    record("ebpf", &folder.path().join("t.json"), &["/bin/true"]);
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let ours = left_over_cgroups().into_iter().filter(|path| {
            let maker =
                path.rsplit("seccomp-learn.").next().and_then(|rest| rest.split('.').next()).unwrap_or("");
            !Path::new("/proc").join(maker).exists()
        });
        let loaded: Vec<&String> = programs.iter().filter(|program| is_loaded(program)).collect();
        if ours.count() == 0 && loaded.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left: {:?} {loaded:?} of {programs:?}", left_over_cgroups());
        std::thread::sleep(Duration::from_millis(200));
        record("ebpf", &folder.path().join("t.json"), &["/bin/true"]);
    }
}

#[test]
fn a_killed_notify_recorder_ends_the_workload() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("pid");
    let line = format!("echo $$ > {}; while :; do sleep 0.1; done", pid_file.display());
    let mut recorder = seccomp_learn(["record", "--backend", "notify", "-o"]);
    recorder.arg(folder.path().join("t.json")).args(["--", "/bin/sh", "-c", &line]).stderr(Stdio::piped());
    let mut recorder = recorder.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let pid = loop {
        match fs::read_to_string(&pid_file) {
            Ok(text) if text.ends_with('\n') => break text.trim().to_owned(),
            _ => assert!(Instant::now() < deadline, "the workload did not start"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    recorder.kill().unwrap();
    let said = recorder.wait_with_output().unwrap().stderr;
    assert!(String::from_utf8_lossy(&said).contains("ends if this recorder is killed"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z")) {
        assert!(Instant::now() < deadline, "the workload goes on without its recorder");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the workload's own file");
}

#[test]
fn an_interrupted_recording_is_complete() {
    require!();
    for (backend, signal) in [("ebpf", libc::SIGINT), ("ebpf", libc::SIGTERM), ("notify", libc::SIGINT)] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("t.json");
        let recorder =
            Recorder::start(["--backend", backend, "-o", output.to_str().unwrap(), "--", "/bin/sleep", "60"]);
        std::thread::sleep(Duration::from_millis(300));
        recorder.signal(signal);
        recorder.wait().expect_code(0);
        let trace = read_trace(&output);
        assert!(trace.complete);
        let phases: Vec<&str> = trace.phases.iter().map(|phase| phase.name.as_str()).collect();
        assert_eq!(phases, ["startup", "shutdown"]);
        assert_eq!(trace.target.exit_code, Some(128 + libc::SIGTERM));
    }
}

#[test]
fn a_cgroup_and_a_process_that_already_run_are_recorded_late() {
    require!();
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("t.json");
    let group = Cgroup::new("late");
    let mut workload = Command::new(own_program("enter-cgroup"))
        .arg(group.path())
        .args(["/bin/sh", "-c", "while :; do sleep 0.1; done"])
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let pid = workload.id().to_string();
    for target in [["--cgroup", group.path().to_str().unwrap()], ["--pid", &pid]] {
        let mut arguments = vec!["record", "--duration", "1s", "-o", output.to_str().unwrap()];
        arguments.extend(target);
        run(&arguments).expect_code(0);
        let trace = read_trace(&output);
        assert_eq!(trace.startup, Startup::NotRecorded, "{target:?}");
        // The children that the shell makes meanwhile are in it.
        assert!(calls(&trace, "clock_nanosleep") >= 5, "{target:?}");
        assert!(calls(&trace, "execve") >= 5, "{target:?}");
        let synth =
            run(["synth", output.to_str().unwrap(), "-o", folder.path().join("p.json").to_str().unwrap()]);
        let synth = synth.expect_code(3);
        assert!(synth.stderr.contains("--without-startup"), "{}", synth.stderr);
        assert!(!folder.path().join("p.json").exists());
    }
    workload.kill().unwrap();
    workload.wait().unwrap();
}
