//! The worked workloads of `profiles/workloads/`: each runs under the profile that lies beside it, and its evidence is
//! of this project and of no machine.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failure here is a test's failure")]

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use seccomp_learn_tests::{cli, skip};
use serde_json::Value;
use trace::Trace;

/// The folders, and the port in their commands.
const WORKLOADS: [(&str, &str); 3] = [("inference", "8000"), ("nim-llm", "8000"), ("webrtc-media", "8080")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn folder(name: &str) -> PathBuf {
    root().join("profiles/workloads").join(name)
}

fn traces(name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(name).join("traces")).unwrap();
    let mut traces: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    traces.sort();
    traces
}

/// What `cargo xtask workloads --prepare` says when it cannot install Python's packages; none when it could.
static UNPREPARED: LazyLock<Option<String>> = LazyLock::new(|| {
    let mut prepare = Command::new(env!("CARGO"));
    prepare.args(["xtask", "workloads", "--prepare"]).current_dir(root());
    let output = prepare.env("CARGO_TARGET_DIR", cli::target_directory()).output().unwrap();
    if output.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("is PyPI within reach?") || text.contains("is missing for"), "{text}");
    Some(text.lines().last().unwrap_or_default().to_owned())
});

/// Tests a workload as its folder says, apart from the port and what `change` makes of `workload.toml`.
fn test(name: &str, port: &str, change: impl FnOnce(String) -> String) -> Option<cli::Finished> {
    if let Some(why) = &*UNPREPARED {
        skip(&format!("`{name}` needs Python's packages: {why}"));
        return None;
    }
    let free = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port().to_string();
    let copy = tempfile::tempdir().unwrap();
    for file in ["profile.json", "profile.evidence.json"] {
        fs::copy(folder(name).join(file), copy.path().join(file)).unwrap();
    }
    let workload = fs::read_to_string(folder(name).join("workload.toml")).unwrap();
    assert!(workload.contains(port), "{workload}");
    fs::write(copy.path().join("workload.toml"), change(workload.replace(port, &free))).unwrap();
    let mut test = cli::seccomp_learn(["test", "--json", "--no-plain"]);
    Some(test.arg(copy.path()).current_dir(root()).output().unwrap().into())
}

#[track_caller]
fn result(finished: &cli::Finished) -> Value {
    let lines = finished.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut results = lines.filter(|line| line["type"] == "result");
    results.next().unwrap_or_else(|| panic!("no result:\n{}\n{}", finished.stdout, finished.stderr))
}

fn holds(name: &str, port: &str) {
    let Some(finished) = test(name, port, |workload| workload) else { return };
    let result = result(&finished);
    assert_eq!(
        (finished.code, &result["denied"], &result["unwell"]),
        (0, &Value::from(0), &Value::from(0)),
        "{}\n{}",
        finished.stdout,
        finished.stderr
    );
}

#[test]
fn the_inference_service_runs_under_its_profile() {
    holds(WORKLOADS[0].0, WORKLOADS[0].1);
}

#[test]
fn the_llm_service_runs_under_its_profile() {
    holds(WORKLOADS[1].0, WORKLOADS[1].1);
}

#[test]
fn the_media_service_runs_under_its_profile() {
    holds(WORKLOADS[2].0, WORKLOADS[2].1);
}

/// The answers are right and nothing was refused: only the check of where they were computed can say no.
#[test]
fn answers_from_the_cpu_are_no_health_where_a_gpu_was_asked_for() {
    let gpu = |workload: String| {
        let lines = workload.lines().filter(|line| !line.starts_with("exercise"));
        lines.collect::<Vec<_>>().join("\n").replace("health --device cpu", "health --device cuda")
    };
    let Some(finished) = test("nim-llm", "8000", gpu) else { return };
    let result = result(&finished);
    assert_eq!(
        (finished.code, &result["denied"], &result["unwell"]),
        (1, &Value::from(0), &Value::from(1)),
        "{}",
        finished.stderr
    );
    assert!(finished.stderr.contains("computed on cpu (onnxruntime-"), "{}", finished.stderr);
}

#[test]
fn traces_are_complete_carry_arguments_and_say_that_no_gpu_was_used() {
    for (name, _) in WORKLOADS {
        let traces = traces(name);
        assert!(traces.len() > 1, "`{name}` has one run only");
        for path in traces {
            let trace: Trace = cli::read_trace(&path);
            let shown = path.display();
            assert!(trace.complete, "{shown}");
            assert_eq!(trace.target.gpu, Some(false), "{shown}");
            assert!(trace.syscalls.iter().any(|row| row.arguments.is_some()), "{shown}");
            assert_eq!(trace.phases.len(), 3, "{shown}");
        }
    }
}

#[test]
fn what_is_checked_in_names_no_machine() {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let host = read("/proc/sys/kernel/hostname");
    for (name, _) in WORKLOADS {
        let generated = ["workload.toml", "profile.json", "profile.evidence.json", "report.md"];
        for path in generated.iter().map(|file| folder(name).join(file)).chain(traces(name)) {
            let text = fs::read_to_string(&path).unwrap();
            for word in ["/home/", "/root", "/tmp/", root().to_str().unwrap()] {
                assert!(!text.contains(word), "`{}` contains `{word}`", path.display());
            }
            let words = |text: &str, host: &str| {
                text.split(|c: char| !(c.is_alphanumeric() || c == '-')).any(|w| w == host)
            };
            // A name such as `localhost` says nothing of a machine, and stands in commands.
            if !["", "localhost"].contains(&host.trim()) {
                assert!(!words(&text, host.trim()), "`{}` contains this host's name", path.display());
            }
        }
    }
}

/// The profile is what the tool makes of the traces beside it, byte for byte.
#[test]
fn synthesis_gives_the_profile_that_is_checked_in() {
    for (name, _) in WORKLOADS {
        let new = tempfile::tempdir().unwrap();
        let profile = new.path().join("profile.json");
        let mut synth = cli::seccomp_learn(["synth", "-o"]);
        let made: cli::Finished = synth.arg(&profile).arg(folder(name)).output().unwrap().into();
        made.expect_code(0);
        for file in ["profile.json", "profile.evidence.json"] {
            let (old, new) = (folder(name).join(file), new.path().join(file));
            assert_eq!(
                fs::read_to_string(old).unwrap(),
                fs::read_to_string(new).unwrap(),
                "`{name}/{file}` is not what the tool makes of its traces; run `cargo xtask workloads {name}`"
            );
        }
    }
}
