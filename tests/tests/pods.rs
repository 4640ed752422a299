//! Pods on a real containerd, started through the CRI as a kubelet would: recorded container by container, with
//! nothing missed, and confined by what was learned.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failure here is a test's failure")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use engine::{ContainerSpec, Cri, PodSpec, SeccompSpec, State};
use seccomp_learn_tests::{
    cli::{self, Recorder, read_trace},
    engines::{Containerd, MARKER, RUNTIMES, Shared, container, tiny},
    require,
};
use trace::{ContainerKind, FilterMoment, Row, Startup, Trace};

static NODE: Shared<Containerd> = Shared::new();

/// A kubelet's hands.
struct Kubelet<'a> {
    cri: Cri,
    pod: &'a PodSpec,
    sandbox: String,
}

impl<'a> Kubelet<'a> {
    fn run(node: &Containerd, pod: &'a PodSpec) -> Self {
        let cri = node.cri();
        let sandbox = cri.run_pod(pod).unwrap();
        Self { cri, pod, sandbox }
    }

    fn start(&self, container: &ContainerSpec) -> String {
        let id = self.cri.create(&self.sandbox, container, self.pod).unwrap();
        self.cri.start(&id).unwrap();
        id
    }

    /// Waits until a container is over, and returns its exit code.
    fn wait(&self, id: &str) -> i32 {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let State::Exited { code } = self.cri.inspect(id).unwrap().state {
                return code;
            }
            assert!(Instant::now() < deadline, "the container `{id}` does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn stop(&self) {
        self.cri.stop_pod(&self.sandbox).unwrap();
    }
}

impl Drop for Kubelet<'_> {
    fn drop(&mut self) {
        let _ = self.cri.stop_pod(&self.sandbox);
        let _ = self.cri.remove_pod(&self.sandbox);
    }
}

fn recording(node: &Containerd, pod: &str, folder: &Path, more: &[&str]) -> Vec<String> {
    let socket = node.socket().display().to_string();
    let folder = folder.display().to_string();
    let words = ["-n", "default", "--pod", pod, "--engine-socket", &socket, "-o", &folder];
    words.iter().chain(more).map(|word| (*word).to_owned()).collect()
}

/// The traces of a folder, by the container's name and how often it was restarted.
fn traces(folder: &Path) -> BTreeMap<(String, u32), (PathBuf, Trace)> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths
        .map(|path| {
            let trace = read_trace(&path);
            let container = trace.target.container.clone().unwrap();
            ((container.name.unwrap(), container.restart), (path, trace))
        })
        .collect()
}

fn row<'a>(trace: &'a Trace, name: &str) -> Option<&'a Row> {
    trace.syscalls.iter().find(|row| row.name == name)
}

fn free(container: ContainerSpec) -> ContainerSpec {
    ContainerSpec { seccomp: SeccompSpec::Unconfined, ..container }
}

/// What serves: it works for a moment at its start, and then waits.
const SERVER: [&str; 3] = ["sh", "-c", "ln -s a /tmp/b; while true; do sleep 0.2; done"];

#[test]
fn each_container_of_a_pod_has_its_own_trace() {
    require!("containerd", "ctr", "runc", "crun", "busybox");
    let node = NODE.get(|| Containerd::start(&[tiny()]));
    for runtime in RUNTIMES {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("web-{runtime}");
        let pod = node.pod(&name, runtime);
        // The pod does not exist yet.
        let recorder = Recorder::start(recording(&node, &name, folder.path(), &["--wait", "60s"]));
        let kubelet = Kubelet::run(&node, &pod);
        let init = kubelet.start(&free(container("init", &[MARKER])));
        assert_eq!(kubelet.wait(&init), 0);
        let once = free(container("main", &["sh", "-c", "mkdir /tmp/a; exit 3"]));
        let main = kubelet.start(&once);
        let side = kubelet.start(&free(container("side", &SERVER)));
        assert_eq!(kubelet.wait(&main), 3);
        let again = free(container("main", &["sh", "-c", "rmdir /tmp/a; exit 0"]));
        let main = kubelet.start(&ContainerSpec { attempt: 1, ..again });
        assert_eq!(kubelet.wait(&main), 0);
        let probe = kubelet.cri.exec(&side, &[MARKER], Duration::from_secs(10)).unwrap();
        assert_eq!(probe.code, 0);
        kubelet.stop();
        let finished = recorder.wait().expect_code(0);

        let traces = traces(folder.path());
        let found: Vec<(&str, u32)> =
            traces.keys().map(|(name, restart)| (name.as_str(), *restart)).collect();
        assert_eq!(found, [("init", 0), ("main", 0), ("main", 1), ("side", 0)], "{finished:?}");
        for ((name, restart), (_, trace)) in &traces {
            let target = &trace.target;
            let container = target.container.as_ref().unwrap();
            assert_eq!(container.pod.as_ref(), Some(&pod.pod));
            assert_eq!(container.seccomp.as_deref(), Some("unconfined"));
            assert_eq!(
                (container.no_new_privileges, container.user.as_deref()),
                (Some(true), Some("1000:1000"))
            );
            let kind = if name == "init" { ContainerKind::Init } else { ContainerKind::Container };
            assert_eq!(container.kind, kind, "{name}");
            assert!(container.attached.before_first_exec_ms.is_some(), "{name} {restart}");
            assert!(target.runtime.as_ref().is_some_and(|found| found.starts_with(runtime)), "{target:?}");
            assert!(target.image.is_some() && trace.complete && !trace.confined, "{name} {restart}");
            assert!(!trace.losses.lost_calls(), "{:?}", trace.losses);
            // Where nothing confines, the runtime's own calls are told apart by where a filter would be loaded.
            let own = trace.runtime.as_ref().unwrap();
            assert_eq!(own.filter, FilterMoment::WouldBe, "{name} {restart}");
            assert!(row(trace, "mount").is_none() && own.setup.iter().any(|row| row.name == "mount"));
        }
        let trace = |name: &str, restart| &traces[&(name.to_owned(), restart)].1;
        // The marker's program makes two calls: its first instruction is the first of them.
        let init = trace("init", 0);
        let names: Vec<&str> = init.syscalls.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["getpriority", "exit_group"]);
        assert_eq!(row(init, "getpriority").unwrap().calls, 1);
        for (name, restart, made) in [("main", 0, "mkdir"), ("main", 1, "rmdir"), ("side", 0, "symlink")] {
            for call in ["mkdir", "rmdir", "symlink", "getpriority"] {
                assert_eq!(
                    row(trace(name, restart), call).is_some(),
                    call == made,
                    "{name} {restart}: {call}"
                );
            }
        }
        assert_eq!(trace("main", 0).target.exit_code, Some(3));
        let exec = trace("side", 0).exec.as_ref().unwrap();
        assert_eq!(exec.sessions, 1);
        assert!(exec.syscalls.iter().any(|row| row.name == "getpriority"), "{:?}", exec.syscalls);
        enforced(&node, &pod, folder.path(), &traces);
    }
}

/// The profiles of what was recorded hold in a pod that asks for them as a kubelet does.
fn enforced(
    node: &Containerd,
    recorded: &PodSpec,
    folder: &Path,
    traces: &BTreeMap<(String, u32), (PathBuf, Trace)>,
) {
    let profile = |name: &str| {
        let path = folder.join(format!("{name}.profile"));
        let (trace, _) = &traces[&(name.to_owned(), 0)];
        cli::run([Path::new("synth"), trace, Path::new("-o"), &path]).expect_code(0);
        SeccompSpec::Localhost(path)
    };
    let name = format!("{}-confined", recorded.pod.name);
    let pod = node.pod(&name, &recorded.runtime);
    let kubelet = Kubelet::run(node, &pod);
    let (init, side) = (profile("init"), profile("side"));
    let ended = kubelet.start(&ContainerSpec { seccomp: init.clone(), ..container("init", &[MARKER]) });
    assert_eq!(kubelet.wait(&ended), 0);
    let server = kubelet.start(&ContainerSpec { seccomp: side.clone(), ..container("side", &SERVER) });
    let probe = kubelet.cri.exec(&server, &[MARKER], Duration::from_secs(10)).unwrap();
    assert_eq!(probe.code, 0, "{}", String::from_utf8_lossy(&probe.stderr));
    let other = kubelet.cri.exec(&server, &["mkdir", "/tmp/x"], Duration::from_secs(10)).unwrap();
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(other.code != 0 && said.contains("Operation not permitted"), "{said}");
    let inspected = kubelet.cri.inspect(&server).unwrap();
    let SeccompSpec::Localhost(path) = side else { panic!("no file") };
    assert_eq!(inspected.seccomp.describe(), path.display().to_string());
    let status = fs::read_to_string(format!("/proc/{}/status", inspected.pid().unwrap())).unwrap();
    assert!(status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"), "{status}");
}

#[test]
fn a_pod_that_already_runs_gives_late_traces() {
    require!("containerd", "ctr", "runc", "busybox");
    let node = NODE.get(|| Containerd::start(&[tiny()]));
    let folder = tempfile::tempdir().unwrap();
    let pod = node.pod("late", "runc");
    let kubelet = Kubelet::run(&node, &pod);
    let confined = container("confined", &["sh", "-c", "while true; do unshare -U true; sleep 0.2; done"]);
    let _ = kubelet.start(&free(container("server", &SERVER)));
    let _ = kubelet.start(&confined);
    let recorder = Recorder::start(recording(&node, "late", folder.path(), &["--duration", "3s"]));
    let finished = recorder.wait().expect_code(0);
    assert!(finished.stderr.contains("late"), "{}", finished.stderr);
    let traces = traces(folder.path());
    for ((name, _), (path, trace)) in &traces {
        assert_eq!(trace.startup, Startup::NotRecorded, "{name}");
        assert_eq!(trace.target.container.as_ref().unwrap().attached.before_first_exec_ms, None, "{name}");
        let synth =
            cli::run([Path::new("synth"), path, Path::new("-o"), &folder.path().join("x")]).expect_code(3);
        assert!(synth.stderr.contains("--without-startup"), "{}", synth.stderr);
    }
    // What the engine's default refuses is in the trace of what it confines, and nowhere else.
    let trace = |name: &str| &traces[&(name.to_owned(), 0)].1;
    assert!(!trace("server").confined && trace("confined").confined);
    assert!(row(trace("confined"), "unshare").is_some_and(|row| row.denied > 0));
    assert!(finished.stderr.contains("it refused unshare"), "{}", finished.stderr);
}

#[test]
fn pods_are_found_by_their_labels_and_containers_by_their_names() {
    require!("containerd", "ctr", "runc", "busybox");
    let node = NODE.get(|| Containerd::start(&[tiny()]));
    let folder = tempfile::tempdir().unwrap();
    let socket = node.socket().display().to_string();
    let into = folder.path().join("traces");
    // Of a replica set, say: the name is not known before.
    let mut words = vec!["--selector", "app=labelled", "-c", "wanted", "--wait", "60s"];
    let into_text = into.display().to_string();
    words.extend(["--engine-socket", &socket, "-o", &into_text]);
    let recorder = Recorder::start(words.iter().map(|word| (*word).to_owned()));
    let (other, pod) = (node.pod("not-labelled", "runc"), node.pod("labelled", "runc"));
    let stranger = Kubelet::run(&node, &other);
    let _ = stranger.start(&free(container("wanted", &SERVER)));
    let kubelet = Kubelet::run(&node, &pod);
    let _ = kubelet.start(&free(container("unwanted", &SERVER)));
    let wanted = kubelet.start(&free(container("wanted", &SERVER)));
    std::thread::sleep(Duration::from_millis(500));

    // The same container by its id alone, while it runs.
    let late = folder.path().join("late.json");
    let late_text = late.display().to_string();
    let by_id = ["record", "--container", &wanted, "--engine-socket", &socket, "--duration", "2s", "-o"];
    cli::run(by_id.into_iter().chain([late_text.as_str()])).expect_code(0);
    let found = read_trace(&late).target.container.unwrap();
    assert_eq!((found.id.as_str(), found.pod.as_ref()), (wanted.as_str(), Some(&pod.pod)));

    kubelet.stop();
    let finished = recorder.wait().expect_code(0);
    let traces = traces(&into);
    let ids: Vec<&str> =
        traces.values().map(|(_, trace)| trace.target.container.as_ref().unwrap().id.as_str()).collect();
    assert_eq!(ids, [wanted.as_str()], "{finished:?}");
    let (_, trace) = &traces[&("wanted".to_owned(), 0)];
    assert!(trace.startup == Startup::Recorded && row(trace, "symlink").is_some(), "{finished:?}");
}

#[test]
fn a_pod_that_never_comes_is_named() {
    require!("containerd", "ctr", "busybox");
    let node = NODE.get(|| Containerd::start(&[tiny()]));
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let words = recording(&node, "nobody", folder.path(), &["--wait", "2s"]);
    let finished = cli::run(["record".to_owned()].into_iter().chain(words)).expect_code(2);
    assert!(finished.stderr.contains("`default/nobody`"), "{}", finished.stderr);
    assert!((2..30).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    let missing = folder.path().join("no.sock").display().to_string();
    let finished = cli::run(["record", "--pod", "nobody", "--engine-socket", &missing]).expect_code(2);
    assert!(
        finished.stderr.contains(&missing) && finished.stderr.contains("--engine-socket"),
        "{}",
        finished.stderr
    );
}
