//! `watch`: what a filter refuses to something that runs, though nothing in it complains; what a profile would refuse
//! that is not loaded; runs from start to stop as evidence.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failure here is a test's failure")]

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use engine::SeccompSpec;
use seccomp_learn_tests::{
    cli::{Finished, run, seccomp_learn},
    engines::{Containerd, Docker, Engine, Podman, RUNTIMES, Shared, TINY, container, good, tiny},
    require,
};
use serde_json::Value;

static DOCKER: Shared<Docker> = Shared::new();
static PODMAN: Shared<Podman> = Shared::new();

/// Refuses one call always, and one depending on its flags: `O_APPEND`.
const FILTER: &str = r#"{ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
    { "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 },
    { "names": ["openat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13,
      "args": [{ "index": 2, "value": 1024, "valueTwo": 1024, "op": "SCMP_CMP_MASKED_EQ" }] } ] }"#;

/// Asks for what the filter refuses, and does not mind.
const CARELESS: [&str; 3] =
    ["sh", "-c", "while true; do mkdir /tmp/d; echo >> /tmp/f; rm -r /tmp/d; sleep 0.1; done 2>/dev/null"];
/// Asks for it once, does not mind, and ends.
const CARELESS_ONCE: [&str; 3] = ["sh", "-c", "mkdir /tmp/d 2>/dev/null; sleep 0.5; exit 0"];

fn filter(folder: &Path) -> PathBuf {
    let path = folder.join("filter.json");
    fs::write(&path, FILTER).unwrap();
    path
}

fn lines(finished: &Finished) -> Vec<Value> {
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    finished.stdout.lines().map(line).collect()
}

/// What is said at the end about each call: its type, its name, whose it is, the answer.
fn said(finished: &Finished) -> Vec<[String; 4]> {
    let mut said: Vec<[String; 4]> = lines(finished)
        .iter()
        .filter(|line| line["first_sight"] == Value::Bool(false))
        .map(|line| {
            assert!(line["count"].as_u64().unwrap() > 0 && line["pid"].as_u64().unwrap() > 0, "{line}");
            ["type", "name", "stage", "verdict"].map(|key| line[key].as_str().unwrap().to_owned())
        })
        .collect();
    said.sort();
    said
}

fn words<const N: usize>(rows: [[&str; 4]; N]) -> Vec<[String; 4]> {
    rows.map(|row| row.map(str::to_owned)).to_vec()
}

/// A watch that is attached.
struct Watching(Child);

impl Watching {
    fn start(arguments: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut command = seccomp_learn(["watch"]);
        command.args(arguments).env("NOTIFY_SOCKET", &path).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut watching = Self(command.spawn().unwrap());
        let mut message = [0; 64];
        if let Err(error) = socket.recv(&mut message) {
            let _ = watching.0.kill();
            panic!("the watch did not attach: {error}\n{}", watching.wait().stderr);
        }
        watching
    }

    fn interrupt(&self) {
        // SAFETY: kill has no memory effects; the child has not been waited for, so the id is its own.
        assert_eq!(unsafe { libc::kill(self.0.id() as i32, libc::SIGINT) }, 0);
    }

    fn wait(self) -> Finished {
        self.0.wait_with_output().unwrap().into()
    }
}

fn watch(engine: &Engine, name: &str, more: &[&str]) -> Vec<String> {
    let mut words: Vec<String> = ["--json", "--container", name].map(str::to_owned).to_vec();
    words.extend(engine.chosen());
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words
}

/// A container under the filter, and one under none of which the filter is only asked: the same is named.
fn the_same_is_named(engine: &Engine, runtime: &str) {
    let folder = tempfile::tempdir().unwrap();
    let filter = filter(folder.path());
    let filter = filter.to_str().unwrap();
    let confined = engine.container(&format!("confined-{runtime}"));
    confined.run(&[format!("--security-opt=seccomp={filter}")], TINY, &CARELESS);
    let pid = confined.pid();
    let finished =
        run([&["watch".to_owned()][..], &watch(engine, &confined.name, &["--duration", "2s"])].concat());
    let finished = finished.expect_code(1);
    let expected =
        words([["denial", "mkdir", "workload", "EPERM"], ["denial", "openat", "workload", "EACCES"]]);
    assert_eq!(said(&finished), expected, "{} {runtime}: {finished:?}", engine.name);
    let first = lines(&finished).into_iter().find(|line| line["name"] == "mkdir").unwrap();
    assert_eq!((&first["comm"], &first["first_sight"]), (&"mkdir".into(), &true.into()), "{first}");
    assert_eq!(first["args"][1], "0x1ff", "the mode is the second argument: {first}");
    assert_eq!(confined.pid(), pid, "the container was left alone");

    let free = engine.container(&format!("free-{runtime}"));
    free.run(&["--security-opt=seccomp=unconfined"], TINY, &CARELESS);
    let asking = watch(engine, &free.name, &["--duration", "2s", "--profile", filter]);
    let finished = run([&["watch".to_owned()][..], &asking].concat()).expect_code(1);
    let expected = words([
        ["would-be-denial", "mkdir", "workload", "EPERM"],
        ["would-be-denial", "openat", "workload", "EACCES"],
    ]);
    assert_eq!(said(&finished), expected, "{} {runtime}: {finished:?}", engine.name);
    // Without a question there is nothing to see.
    let silent = run([&["watch".to_owned()][..], &watch(engine, &free.name, &["--duration", "1s"])].concat());
    assert_eq!(said(&silent.expect_code(0)), words([]));
}

#[test]
fn a_denial_that_is_swallowed_is_named_under_docker() {
    require!("docker", "dockerd", "busybox", "runc", "crun");
    let docker = DOCKER.get(|| Docker::start(&[tiny()]));
    for runtime in RUNTIMES {
        the_same_is_named(&docker.engine(runtime), runtime);
    }
}

#[test]
fn a_denial_that_is_swallowed_is_named_under_podman() {
    require!("podman", "busybox", "runc", "crun");
    let podman = PODMAN.get(|| Podman::start(&[tiny()]));
    for runtime in RUNTIMES {
        the_same_is_named(&podman.engine(runtime), runtime);
    }
}

#[test]
fn exec_sessions_are_told_apart_and_can_be_left_out() {
    require!("docker", "dockerd", "busybox", "runc");
    let folder = tempfile::tempdir().unwrap();
    let filter = filter(folder.path());
    let docker = DOCKER.get(|| Docker::start(&[tiny()]));
    let engine = docker.engine("runc");
    let calm = engine.container("calm");
    calm.run(
        &[format!("--security-opt=seccomp={}", filter.display())],
        TINY,
        &["sh", "-c", "while true; do sleep 0.2; done"],
    );
    for (more, code, expected) in
        [(&[][..], 1, words([["denial", "mkdir", "exec", "EPERM"]])), (&["--without-exec"][..], 0, words([]))]
    {
        let watching = Watching::start(&watch(&engine, &calm.name, more));
        let output = engine.command(["exec", &calm.name, "mkdir", "/tmp/new"]).output().unwrap();
        assert!(!output.status.success());
        std::thread::sleep(Duration::from_millis(700));
        watching.interrupt();
        let finished = watching.wait().expect_code(code);
        assert_eq!(said(&finished), expected, "{finished:?}");
        let run = lines(&finished).into_iter().find(|line| line["type"] == "run").unwrap();
        assert_eq!(run["exec_sessions"], 1, "{run}");
    }
}

#[test]
fn each_start_to_stop_is_a_held_out_run() {
    require!("docker", "dockerd", "busybox", "runc");
    let folder = tempfile::tempdir().unwrap();
    let docker = DOCKER.get(|| Docker::start(&[tiny()]));
    let engine = docker.engine("runc");
    // A workload folder, as far as this is about one.
    fs::write(folder.path().join("profile.json"), FILTER).unwrap();
    let allowing = FILTER.replace("\"mkdir\"", "\"swapon\"");
    let other = folder.path().join("other.json");
    fs::write(&other, &allowing).unwrap();
    let at = folder.path().to_str().unwrap();
    let container = engine.container("restarted");
    let mut create = engine.command(["create", "--name", &container.name]);
    let option = format!("--security-opt=seccomp={at}/profile.json");
    good(create.args(&engine.run).args([&option, TINY]).args(CARELESS_ONCE));
    let watching = Watching::start(&watch(&engine, &container.name, &["--duration", "60s", "-o", at]));
    for _ in 0..3 {
        good(&mut engine.command(["start", "--attach", &container.name]));
    }
    watching.interrupt();
    let finished = watching.wait().expect_code(1);
    let runs: Vec<Value> = lines(&finished).into_iter().filter(|line| line["type"] == "run").collect();
    assert_eq!(runs.len(), 3, "{finished:?}");
    for run in &runs {
        assert_eq!(
            (&run["late"], &run["stopped"], &run["held_out"]),
            (&false.into(), &true.into(), &true.into()),
            "{run}"
        );
    }
    let file: Value = serde_json::from_slice(&fs::read(folder.path().join("heldout.json")).unwrap()).unwrap();
    assert_eq!((&file["version"], file["runs"].as_array().unwrap().len()), (&"1.1".into(), 3));
    for run in file["runs"].as_array().unwrap() {
        assert_eq!((&run["judged"], &run["denials"][0]["syscall"]), (&"enforced".into(), &"mkdir".into()));
        assert!(run["image"].as_str().is_some_and(|image| image.starts_with("sha256:")), "{run}");
    }
    let last = lines(&finished).pop().unwrap();
    assert_eq!((&last["held_out"]["runs"], &last["held_out"]["denied"]), (&3.into(), &3.into()), "{last}");

    // Attached while it runs: a part of a run is none.
    let part = engine.container("part");
    part.run(&[option], TINY, &CARELESS_ONCE);
    let elsewhere = folder.path().join("runs.json");
    let late = watch(&engine, &part.name, &["--duration", "3s", "--evidence", elsewhere.to_str().unwrap()]);
    let finished = run([&["watch".to_owned()][..], &late].concat());
    let run = lines(&finished).into_iter().find(|line| line["type"] == "run");
    assert!(run.is_none_or(|run| run["held_out"] == Value::Bool(false)), "{finished:?}");
    assert!(!elsewhere.exists());
}

#[test]
fn the_containers_of_a_pod_are_watched_one_by_one() {
    require!("containerd", "ctr", "runc", "busybox");
    let node = Containerd::start(&[tiny()]);
    let folder = tempfile::tempdir().unwrap();
    let filter = filter(folder.path());
    let pod = node.pod("canary", "runc");
    let cri = node.cri();
    let socket = node.socket().display().to_string();
    let named: Vec<String> = ["--json", "--pod", "canary", "--wait", "60s", "--engine-socket", &socket]
        .map(str::to_owned)
        .to_vec();
    let watching = Watching::start(&named);
    let sandbox = cri.run_pod(&pod).unwrap();
    let mut under = container("under", &CARELESS);
    under.seccomp = SeccompSpec::Localhost(filter.clone());
    let mut calm = container("calm", &["sh", "-c", "while true; do sleep 0.2; done"]);
    calm.seccomp = SeccompSpec::Localhost(filter.clone());
    for one in [&under, &calm] {
        let id = cri.create(&sandbox, one, &pod).unwrap();
        cri.start(&id).unwrap();
    }
    std::thread::sleep(Duration::from_secs(3));
    // What goes on when a watch ends is no run from start to stop.
    let words =
        ["--json", "--pod", "canary", "--container", "calm", "--duration", "2s", "--engine-socket", &socket];
    let part = run([&["watch"][..], &words].concat()).expect_code(0);
    let line = lines(&part).into_iter().find(|line| line["type"] == "run").unwrap();
    let expected = (&Value::Bool(true), &Value::Bool(false), &Value::Bool(false));
    assert_eq!((&line["late"], &line["stopped"], &line["held_out"]), expected, "{part:?}");
    cri.stop_pod(&sandbox).unwrap();
    let finished = watching.wait().expect_code(1);
    cri.remove_pod(&sandbox).unwrap();
    let runs: Vec<Value> = lines(&finished).into_iter().filter(|line| line["type"] == "run").collect();
    assert_eq!(runs.len(), 2, "{finished:?}");
    for run in &runs {
        let denied = run["name"] == "under";
        assert_eq!(run["denials"].as_u64().unwrap() > 0, denied, "{run}");
        assert_eq!(
            (&run["late"], &run["stopped"], &run["pod"]),
            (&false.into(), &true.into(), &"default/canary".into()),
            "{run}"
        );
    }
    let expected =
        self::words([["denial", "mkdir", "workload", "EPERM"], ["denial", "openat", "workload", "EACCES"]]);
    assert_eq!(said(&finished), expected, "{finished:?}");
}

#[test]
fn a_process_is_watched_as_far_as_it_can_be() {
    require!("busybox");
    let folder = tempfile::tempdir().unwrap();
    let filter = filter(folder.path());
    let script = format!(
        "cd {}; while true; do mkdir d; echo > f; rmdir d; sleep 0.1; done 2>/dev/null",
        folder.path().display()
    );
    let mut child = std::process::Command::new("busybox").args(["sh", "-c", &script]).spawn().unwrap();
    let pid = child.id().to_string();
    let finished =
        run(["watch", "--json", "--pid", &pid, "--duration", "2s", "--profile", filter.to_str().unwrap()]);
    child.kill().unwrap();
    child.wait().unwrap();
    let finished = finished.expect_code(1);
    // Whether it opened a file to append to it is not known of a process: that is said, not passed over.
    let expected = words([
        ["not-known", "openat", "workload", "EACCES"],
        ["would-be-denial", "mkdir", "workload", "EPERM"],
    ]);
    assert_eq!(said(&finished), expected, "{finished:?}");
}

#[test]
fn what_cannot_be_watched_is_said() {
    require!();
    let check = |arguments: &[&str], expected: &str| {
        let finished = run([&["watch"], arguments].concat()).expect_code(2);
        assert!(finished.stderr.contains(expected), "{}", finished.stderr);
        assert_eq!(finished.stdout, "");
    };
    check(&[], "nothing to watch");
    check(&["--pid", "4194304"], "no such process `4194304`");
    check(&["--cgroup", "/no/such/cgroup"], "no such cgroup `/no/such/cgroup`");
    check(&["--container", "x", "--engine-socket", "/no/such/socket"], "/no/such/socket");
    check(&["--cgroup", "/", "-o", "/no/such/folder"], "no workload folder");
    check(&["--pid", "1", "--profile", "/no/such/profile.json"], "/no/such/profile.json");
}
