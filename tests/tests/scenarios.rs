//! What users of other recorders expect to hold, under Podman, Docker and containerd, with runc and crun.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failure here is a test's failure")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use seccomp_learn_tests::{
    cli::{self, Finished, Recorder, read_trace},
    engines::{Containerd, Docker, Engine, Podman, RUNTIMES, Shared, TINY, good, text, tiny},
    require,
};
use trace::{FilterMoment, Trace};

static DOCKER: Shared<Docker> = Shared::new();
static PODMAN: Shared<Podman> = Shared::new();

/// Where a test's files are.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Records a container of the small image from its start.
    fn record(&self, engine: &Engine, name: &str, options: &[&str], arguments: &[&str]) -> PathBuf {
        let path = self.at(&format!("{name}.json"));
        let mut record = cli::seccomp_learn(["record", "--image", TINY, "-o"]);
        record.arg(&path).args(engine.starting());
        record.args(options.iter().map(|option| format!("--run-option={option}"))).arg("--").args(arguments);
        Finished::from(record.output().unwrap()).expect_code(0);
        path
    }

    /// A profile for these traces; what is to be decided is no concern here.
    fn synth(&self, name: &str, traces: &[&Path], options: &[&str]) -> PathBuf {
        let path = self.at(&format!("{name}.profile.json"));
        let mut synth = cli::seccomp_learn(["synth", "-o"]);
        let finished = Finished::from(synth.arg(&path).args(options).args(traces).output().unwrap());
        assert!(matches!(finished.code, 0 | 1), "{finished:?}");
        path
    }
}

fn names(trace: &Trace) -> Vec<&str> {
    trace.syscalls.iter().map(|row| row.name.as_str()).collect()
}

fn allows(profile: &Path, name: &str) -> bool {
    fs::read_to_string(profile).unwrap().contains(&format!("\"{name}\""))
}

const LS: [&str; 2] = ["ls", "/bin/busybox"];
const MKDIR: [&str; 2] = ["mkdir", "/tmp/new"];
const LN: [&str; 4] = ["ln", "-s", "a", "/tmp/new"];

/// Record `ls` and enforce it; extend it with `mkdir`; what an input profile blocks stays blocked.
fn peers(engine: &Engine, runtime: &str) {
    let folder = Folder::new();
    let runs = |profile: &Path, arguments: &[&str]| {
        let output = engine.confined(profile, &[], arguments);
        (output.status.success(), text(&output))
    };
    let ls = folder.record(engine, "ls", &[], &LS);
    let trace = read_trace(&ls);
    check_trace(&trace, engine, runtime);
    assert!(!names(&trace).contains(&"mkdir"), "{:?}", names(&trace));

    let profile = folder.synth("ls", &[&ls], &[]);
    let (ran, said) = runs(&profile, &LS);
    assert!(ran && said.contains("busybox"), "{} {runtime}: {said}", engine.name);
    let (ran, said) = runs(&profile, &MKDIR);
    assert!(!ran && said.contains("Operation not permitted"), "{} {runtime}: {said}", engine.name);

    let mkdir = folder.record(engine, "mkdir", &[], &MKDIR);
    let both = folder.synth("both", &[&ls, &mkdir], &[]);
    for arguments in [LS, MKDIR] {
        let (ran, said) = runs(&both, &arguments);
        assert!(ran, "{} {runtime}: {said}", engine.name);
    }
    let (ran, said) = runs(&both, &LN);
    assert!(!ran && said.contains("Operation not permitted"), "{} {runtime}: {said}", engine.name);

    let ceiling = format!("--ceiling={}", profile.display());
    let blocked = folder.synth("blocked", &[&ls, &mkdir], &[&ceiling]);
    assert!(allows(&both, "mkdir") && !allows(&blocked, "mkdir"), "the input profile's no is lost");
    let (ran, said) = runs(&blocked, &MKDIR);
    assert!(!ran && said.contains("Operation not permitted"), "{} {runtime}: {said}", engine.name);
}

/// What every trace of a container that was recorded from its start has to say.
fn check_trace(trace: &Trace, engine: &Engine, runtime: &str) {
    let target = &trace.target;
    let container = target.container.as_ref().unwrap();
    assert!(container.engine.starts_with(engine.name), "{container:?}");
    assert!(target.runtime.as_ref().is_some_and(|name| name.starts_with(runtime)), "{target:?}");
    assert!(target.image.is_some() && container.image.as_deref() == Some(TINY), "{target:?}");
    assert!(container.attached.before_first_exec_ms.is_some(), "{container:?}");
    assert!(trace.complete && !trace.confined && !trace.losses.lost_calls(), "{:?}", trace.losses);
    let own = trace.runtime.as_ref().unwrap();
    assert_eq!(own.filter, FilterMoment::Loaded);
    assert!(own.start.iter().any(|row| row.name == "execve"), "{:?}", own.start);
    // What the runtime does before its filter is nobody's business, and certainly not the workload's.
    for name in ["mount", "pivot_root", "unshare", "setns"] {
        assert!(!names(trace).contains(&name) && own.start.iter().all(|row| row.name != name), "{name}");
    }
    assert!(own.setup.iter().any(|row| row.name == "mount"), "{:?}", own.setup);
}

#[test]
fn peers_scenarios_hold_under_docker() {
    require!("docker", "dockerd", "runc", "crun", "busybox");
    let docker = DOCKER.get(|| Docker::start(&[tiny()]));
    RUNTIMES.into_iter().for_each(|runtime| peers(&docker.engine(runtime), runtime));
}

#[test]
fn peers_scenarios_hold_under_podman() {
    require!("podman", "runc", "crun", "busybox");
    let podman = PODMAN.get(|| Podman::start(&[tiny()]));
    RUNTIMES.into_iter().for_each(|runtime| peers(&podman.engine(runtime), runtime));
}

#[test]
fn peers_scenarios_hold_under_containerd() {
    require!("containerd", "ctr", "runc", "crun", "busybox");
    let containerd = Containerd::start(&[tiny()]);
    RUNTIMES.into_iter().for_each(|runtime| peers(&containerd.engine(runtime), runtime));
}

/// A call is found whenever it comes.
#[test]
fn calls_are_found_however_late() {
    require!("podman", "runc", "busybox");
    let podman = PODMAN.get(|| Podman::start(&[tiny()]));
    let folder = Folder::new();
    let script = "cd /tmp; mkdir a; sleep 10; touch b; mv b c; sleep 15; ln c d; sleep 20; ln -s c e; sleep 25; \
                  rmdir a; sleep 30; nc -w 1 127.0.0.1 1 || true";
    let trace = read_trace(&folder.record(&podman.engine("runc"), "late", &[], &["sh", "-c", script]));
    for name in ["mkdir", "rename", "link", "symlink", "rmdir", "socket"] {
        assert!(names(&trace).contains(&name), "`{name}` is missing: {:?}", names(&trace));
    }
    assert!(trace.recorder.duration_ms >= 100_000 && !trace.losses.lost_calls(), "{:?}", trace.recorder);
}

/// Of three replicas one makes a rare call; merged, it counts for one run of three.
#[test]
fn replicas_merge_with_what_one_of_them_does() {
    require!("podman", "runc", "busybox");
    let podman = PODMAN.get(|| Podman::start(&[tiny()]));
    let engine = podman.engine("runc");
    let folder = Folder::new();
    let traces: Vec<PathBuf> = ["", "", "mknod /tmp/fifo p"]
        .iter()
        .enumerate()
        .map(|(number, rare)| {
            let script = format!("mkdir /tmp/a; {rare}");
            folder.record(&engine, &format!("replica-{number}"), &[], &["sh", "-c", &script])
        })
        .collect();
    let merged = [[0, 1, 2], [2, 0, 1]]
        .map(|order| trace::merge(order.map(|index: usize| read_trace(&traces[index]))).unwrap());
    assert_eq!(merged[0], merged[1]);
    let row = |name: &str| merged[0].syscalls.iter().find(|row| row.name == name).unwrap();
    assert_eq!((merged[0].runs, row("mkdir").runs, row("mknodat").runs), (3, 3, 1));
    let paths: Vec<&Path> = traces.iter().map(PathBuf::as_path).collect();
    let profile = folder.synth("all", &paths, &[]);
    let output = engine.confined(&profile, &[], &["mknod", "/tmp/fifo", "p"]);
    assert!(output.status.success(), "{}", text(&output));
}

/// A service that says hello starts under its own profile, and a command can be run in it; without one name of what
/// its runtime was measured to need, it does not start.
#[test]
fn hello_world_needs_what_its_runtime_needs() {
    require!("podman", "runc", "crun", "busybox");
    let podman = PODMAN.get(|| Podman::start(&[tiny()]));
    // What the hello world itself never calls, or nobody can do without.
    for (runtime, hardened, needed) in [
        ("runc", false, "setgid"),
        ("runc", true, "fstatfs"),
        ("crun", false, "capset"),
        ("crun", true, "execve"),
    ] {
        let engine = podman.engine(runtime);
        let options: &[&str] = if hardened { &["--security-opt=no-new-privileges"] } else { &[] };
        let folder = Folder::new();
        let hello = folder.record(&engine, "hello", options, &["sh", "-c", "echo hello world; sleep 1"]);
        let trace = read_trace(&hello);
        assert_eq!(trace.target.container.as_ref().unwrap().no_new_privileges, Some(hardened));
        assert!(
            trace.runtime.as_ref().unwrap().start.iter().any(|row| row.name == needed),
            "{:?}",
            trace.runtime
        );
        let profile = folder.synth("hello", &[&hello], &[]);

        let name = format!("hello-{runtime}-{hardened}");
        let container = engine.container(&name);
        let security = format!("--security-opt=seccomp={}", profile.display());
        let words: Vec<&str> = options.iter().copied().chain([security.as_str()]).collect();
        container.run(&words, TINY, &["sh", "-c", "echo hello world; sleep 1000"]);
        let said = engine.command(["exec", &container.name, "echo", "hello again"]).output().unwrap();
        assert!(text(&said).contains("hello again"), "{runtime}, {hardened}: {}", text(&said));
        assert_eq!(container.logs().trim(), "hello world", "{runtime}, {hardened}");

        let poorer = folder.at("poorer.json");
        let text_of = fs::read_to_string(&profile).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text_of).unwrap();
        for rule in json["syscalls"].as_array_mut().unwrap() {
            let names = rule["names"].as_array_mut().unwrap();
            names.retain(|name| name != needed);
            // A rule for nothing is no rule.
            if names.is_empty() {
                names.push("restart_syscall".into());
            }
        }
        fs::write(&poorer, json.to_string()).unwrap();
        let poor = engine.confined(&poorer, options, &["echo", "hello"]);
        let said = text(&poor);
        assert!(
            !poor.status.success() && !said.contains("hello"),
            "{runtime}, {hardened}, no {needed}: {said}"
        );
        let rich = engine.confined(&profile, options, &["echo", "hello"]);
        assert!(text(&rich).contains("hello"), "{runtime}, {hardened}: {}", text(&rich));
    }
}

/// A container that its engine confines by default: the trace says so, and what was refused.
#[test]
fn what_the_engines_default_refuses_is_in_the_trace() {
    require!("docker", "dockerd", "runc", "busybox");
    let docker = DOCKER.get(|| Docker::start(&[tiny()]));
    let engine = docker.engine("runc");
    let folder = Folder::new();
    let container = engine.container("confined");
    let mut create = engine.command(["create", "--name", &container.name]);
    good(create.args(&engine.run).args([TINY, "sh", "-c", "unshare -U true; mkdir /tmp/a; sleep 1"]));
    let path = folder.at("trace.json");
    let options = ["--container", &container.name, "-o", path.to_str().unwrap()].map(str::to_owned);
    let recorder = Recorder::start(options.into_iter().chain(engine.chosen()));
    good(&mut engine.command(["start", &container.name]));
    let finished = recorder.wait().expect_code(0);
    let trace = read_trace(&path);
    assert!(trace.confined, "{finished:?}");
    let container = trace.target.container.as_ref().unwrap();
    assert_eq!(container.seccomp.as_deref(), Some("default"));
    assert!(container.attached.before_first_exec_ms.is_some(), "{container:?}");
    let row = |name: &str| trace.syscalls.iter().find(|row| row.name == name).unwrap();
    assert!(row("unshare").denied > 0 && row("mkdir").denied == 0, "{:?}", trace.syscalls);
    assert!(finished.stderr.contains("it refused unshare"), "{}", finished.stderr);
}
