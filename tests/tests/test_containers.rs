//! `test --image` and `test --container`: a profile enforced by an engine, as a user would have it, and every denial
//! named although it happens under a runtime that is not ours.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failure here is a test's failure")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use seccomp_learn_tests::{
    cli::{Finished, seccomp_learn},
    engines::{Docker, Engine, Podman, RUNTIMES, Shared, TINY, tiny},
    require,
};
use serde_json::Value;

static DOCKER: Shared<Docker> = Shared::new();
static PODMAN: Shared<Podman> = Shared::new();

/// What the profile is learned from.
const LEARNED: [&str; 3] = ["sh", "-c", "mkdir /tmp/d; rmdir /tmp/d"];
/// Asks for one thing more, and does not mind.
const MORE: [&str; 3] = ["sh", "-c", "mkdir /tmp/d; rmdir /tmp/d; ln -s a /tmp/l; true"];

/// A profile with what the runtime needs, and one without a call of the runtime's.
fn profiles(engine: &Engine, folder: &Path, runtime: &str) -> (PathBuf, PathBuf) {
    let (trace, profile) = (folder.join("trace.json"), folder.join("profile.json"));
    let mut record = seccomp_learn(["record", "--image", TINY, "-o"]);
    record.arg(&trace).args(engine.starting()).arg("--").args(LEARNED);
    Finished::from(record.output().unwrap()).expect_code(0);
    let mut synth = seccomp_learn(["synth", "--runtime", runtime, "-o"]);
    let made = Finished::from(synth.arg(&profile).arg(&trace).output().unwrap());
    assert!(matches!(made.code, 0 | 1), "{made:?}");
    let mut broken: Value = serde_json::from_slice(&fs::read(&profile).unwrap()).unwrap();
    for entry in broken["syscalls"].as_array_mut().unwrap() {
        entry["names"].as_array_mut().unwrap().retain(|name| name != "capset");
    }
    let without = folder.join("without-capset.json");
    fs::write(&without, broken.to_string()).unwrap();
    (profile, without)
}

fn test(profile: &Path, more: &[&str], engine: &Engine, arguments: &[&str]) -> Finished {
    let mut test = seccomp_learn(["test", "--json", "--duration", "60s", "--image", TINY]);
    test.arg(profile).args(engine.starting()).args(more).arg("--").args(arguments);
    test.output().unwrap().into()
}

/// Stage, name and answer of each denial.
fn denials(finished: &Finished) -> Vec<[String; 3]> {
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let lines: Vec<Value> = finished.stdout.lines().map(line).collect();
    let denials = lines.iter().filter(|line| line["type"] == "denial");
    denials
        .map(|line| ["stage", "name", "verdict"].map(|key| line[key].as_str().unwrap().to_owned()))
        .collect()
}

fn named(rows: &[[&str; 3]]) -> Vec<[String; 3]> {
    rows.iter().map(|row| row.map(str::to_owned)).collect()
}

fn good_bad_and_a_runtime_without_its_calls(engine: &Engine, runtime: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (profile, without) = profiles(engine, folder.path(), runtime);
    for backend in ["ebpf", "notify"] {
        let more = ["--backend", backend];
        if backend == "notify" && engine.name == "docker" {
            // Docker 20.10 drops the socket from the profile; a later one passes it on.
            let finished = test(&profile, &more, engine, &LEARNED);
            let told =
                finished.code == 2 && finished.stderr.contains("handed no listener of its runtime over");
            assert!(told || finished.code == 0, "{finished:?}");
            continue;
        }
        let finished = test(&profile, &more, engine, &LEARNED).expect_code(0);
        assert_eq!(denials(&finished), named(&[]), "{} {runtime} {backend}", engine.name);
        // The workload does not mind, so only the denials tell: what it does in the place of a refused call included.
        let finished = test(&profile, &more, engine, &MORE).expect_code(1);
        let denied = denials(&finished);
        let symlink = ["workload", "symlink", "EPERM"].map(str::to_owned);
        assert!(denied.contains(&symlink), "{} {runtime} {backend}: {finished:?}", engine.name);
        assert!(denied.iter().all(|[stage, ..]| stage == "workload"), "{finished:?}");
        // The container does not even start, and the call is named all the same.
        let finished = test(&without, &more, engine, &LEARNED).expect_code(1);
        let denied = denials(&finished);
        let capset = ["start", "capset", "EPERM"].map(str::to_owned);
        assert!(denied.contains(&capset), "{} {runtime} {backend}: {finished:?}", engine.name);
        assert!(denied.iter().all(|[stage, ..]| stage == "start"), "{finished:?}");
        assert!(finished.stderr.contains("runtime-base"), "{}", finished.stderr);
    }
}

#[test]
fn denials_are_named_under_docker() {
    require!("docker", "dockerd", "busybox", "runc", "crun");
    let docker = DOCKER.get(|| Docker::start(&[tiny()]));
    for runtime in RUNTIMES {
        good_bad_and_a_runtime_without_its_calls(&docker.engine(runtime), runtime);
    }
}

#[test]
fn denials_are_named_under_podman() {
    require!("podman", "busybox", "runc", "crun");
    let podman = PODMAN.get(|| Podman::start(&[tiny()]));
    for runtime in RUNTIMES {
        good_bad_and_a_runtime_without_its_calls(&podman.engine(runtime), runtime);
    }
}

#[test]
fn a_container_that_runs_under_the_profile_is_exercised_and_left_alone() {
    require!("docker", "dockerd", "podman", "busybox", "runc");
    let docker = DOCKER.get(|| Docker::start(&[tiny()]));
    let podman = PODMAN.get(|| Podman::start(&[tiny()]));
    for engine in [docker.engine("runc"), podman.engine("runc")] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let filter = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["symlink"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}"#;
        fs::write(at("filter.json"), filter).unwrap();
        fs::write(at("other.json"), filter.replace("symlink", "mkdir")).unwrap();
        let container = engine.container("service");
        let option = format!("--security-opt=seccomp={}", at("filter.json").display());
        container.run(
            &[option],
            TINY,
            &["sh", "-c", "while true; do test -e /tmp/go && ln -s a /tmp/l 2>/dev/null; sleep 0.1; done"],
        );
        let pid = container.pid();
        let check = |profile: &str, exercise: &str| {
            let mut test = seccomp_learn(["test", "--json", "--container", &container.name]);
            test.arg(at(profile)).args(engine.chosen()).args(["--exercise", exercise]);
            Finished::from(test.output().unwrap())
        };
        let good = check("filter.json", "sleep 1").expect_code(0);
        assert_eq!(denials(&good), named(&[]), "{}", engine.name);
        let into = format!("{} exec {} touch /tmp/go && sleep 1", engine.program.display(), container.name);
        let bad = check("filter.json", &into).expect_code(1);
        assert_eq!(denials(&bad), named(&[["workload", "symlink", "EPERM"]]), "{}: {bad:?}", engine.name);
        let other = check("other.json", "true").expect_code(3);
        assert!(other.stderr.contains("runs under another profile"), "{}", other.stderr);
        assert_eq!(container.pid(), pid, "it was left alone");
    }
}
