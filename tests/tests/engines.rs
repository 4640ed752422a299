//! What engines are asked, against real ones: a name leads to its container, with its process, image, runtime and
//! confinement; and what goes wrong is said.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failure here is a test's failure")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use engine::{
    ContainerKind, ContainerSpec, Cri, EngineError, Found, Kind, PodSpec, PodState, Run, Seccomp, Sockets,
    State, cgroup_names, container_id, find,
};
use seccomp_learn_tests::{
    cli::{self, Finished, Recorder, seccomp_learn},
    engines::{self, Containerd, Docker, Engine, Podman, RUNTIMES, TINY, good, tiny},
    require,
};

fn only(socket: &Path) -> Sockets {
    Sockets::new(Some(socket.to_owned()), |_| None)
}

/// The cgroup of a process in version 2.
fn cgroup(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

/// What every engine must say about a container that runs.
fn check_running(found: &Found, kind: Kind, runtime: &str) {
    let container = &found.container;
    assert_eq!(found.engine.kind(), kind);
    assert!(found.engine.version().starts_with(|first: char| first.is_ascii_digit()), "{}", found.engine);
    assert_eq!(container.runtime.as_deref(), Some(runtime), "{container:?}");
    assert!(container.runtime_version.as_ref().is_some_and(|version| version.contains('.')), "{container:?}");
    assert_eq!(container.image_name.as_deref(), Some(TINY));
    assert!(container.image_digest.is_some(), "{container:?}");
    assert_eq!(container.command, ["sleep", "1000"]);
    let pid = container.pid().unwrap_or_else(|| panic!("it does not run: {container:?}"));
    let cgroup = cgroup(pid);
    let name = cgroup.rsplit('/').next().unwrap();
    assert!(cgroup_names(&container.id).iter().any(|known| known == name), "{cgroup}");
    if kind != Kind::Containerd {
        assert_eq!(container_id(&cgroup), Some(container.id.as_str()), "{cgroup}");
    }
}

/// Docker and Podman.
fn describes(engine: &Engine, kind: Kind, runtime: &str) {
    let confined = engine.container(&format!("confined-{runtime}"));
    let options = ["--user=1000", "--security-opt=no-new-privileges", "--label=team=red"];
    confined.run(&options, TINY, &["sleep", "1000"]);
    let sockets = only(&engine.socket);
    let by_name = find(&confined.name, None, &sockets).unwrap();
    check_running(&by_name, kind, runtime);
    let container = &by_name.container;
    assert_eq!((container.user.as_deref(), container.no_new_privileges), (Some("1000"), Some(true)));
    assert_eq!(container.labels.get("team").map(String::as_str), Some("red"));
    assert_eq!(container.seccomp, Seccomp::Default);
    assert_eq!(container.pid(), Some(confined.pid()));
    let by_prefix = find(&container.id[..12], Some(kind), &sockets).unwrap();
    assert_eq!(by_prefix.container, *container);

    let free = engine.container(&format!("free-{runtime}"));
    free.run(&["--security-opt=seccomp=unconfined"], TINY, &["sleep", "1000"]);
    let found = find(&free.name, None, &sockets).unwrap();
    assert_eq!(found.container.seccomp, Seccomp::Unconfined);
    assert_eq!(found.container.no_new_privileges, Some(false));
    let users: Vec<String> =
        found.engine.list_using_seccomp().unwrap().into_iter().map(|(container, _)| container.name).collect();
    assert!(users.contains(&confined.name) && !users.contains(&free.name), "{users:?}");

    // Made, started, ended, removed.
    let options = engine.run.iter().map(Into::into).collect();
    let run = Run {
        kind,
        program: Some(engine.program.clone()),
        image: TINY.to_owned(),
        options,
        arguments: vec!["sh".into(), "-c".into(), "echo said; exit 7".into()],
        seccomp: None,
        name: None,
    };
    let created = run.create().unwrap();
    let (name, made) = created.describe(&sockets).unwrap();
    assert!(name.starts_with(engine.name), "{name}");
    assert_eq!(made.state, State::Created, "{made:?}");
    let output = created.start_command().output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(7), b"said\n".as_slice()));
    // Through its command an engine says the same, where there is no service to ask.
    let elsewhere = only(Path::new("/nonexistent/socket"));
    let described = [&sockets, &elsewhere].map(|sockets| created.describe(sockets).unwrap());
    assert_eq!(described[0], described[1]);
    assert_eq!(described[0].1.state, State::Exited { code: 7 });
    created.remove().unwrap();
    assert!(matches!(find(&created.id, None, &sockets), Err(EngineError::NoContainer { .. })));
}

#[test]
fn docker_describes_its_containers() {
    require!("docker", "dockerd", "runc", "crun", "busybox");
    let docker = Docker::start(&[tiny()]);
    for runtime in RUNTIMES {
        describes(&docker.engine(runtime), Kind::Docker, runtime);
    }
    let socket = docker.engine("runc").socket;
    let wrong = find("x", Some(Kind::Podman), &only(&socket)).unwrap_err().to_string();
    assert!(wrong.contains("use `--engine docker`"), "{wrong}");
    let wrong = find("x", Some(Kind::Containerd), &only(&socket)).unwrap_err().to_string();
    assert!(wrong.contains("does not speak gRPC"), "{wrong}");
}

#[test]
fn podman_describes_its_containers() {
    require!("podman", "runc", "crun", "busybox");
    let podman = Podman::start(&[tiny()]);
    for runtime in RUNTIMES {
        describes(&podman.engine(runtime), Kind::Podman, runtime);
    }
}

#[test]
fn containerd_and_its_cri_describe_their_containers() {
    require!("containerd", "ctr", "runc", "crun", "busybox");
    let containerd = Containerd::start(&[tiny()]);
    let sockets = only(&containerd.socket());
    for runtime in RUNTIMES {
        let engine = containerd.engine(runtime);
        let name = format!("bare-{runtime}");
        let mut run = engine.command(["run", "--detach"]);
        good(run.args(&engine.run).args(["--seccomp", TINY, &name, "sleep", "1000"]));
        let found = find(&name, None, &sockets).unwrap();
        check_running(&found, Kind::Containerd, runtime);
        assert!(matches!(found.container.seccomp, Seccomp::Inline(_)));

        let cri = containerd.cri();
        let pod = containerd.pod(&format!("pod-{runtime}"), runtime);
        let sandbox = cri.run_pod(&pod).unwrap();
        assert!(cri.cgroup_parent(&sandbox).unwrap().is_some_and(|path| path == pod.cgroup_parent));
        let listed = cri
            .pods("default", Some(&pod.pod.name), &pod.labels.clone().into_iter().collect::<Vec<_>>())
            .unwrap();
        assert_eq!((listed.len(), &listed[0].id, listed[0].ready), (1, &sandbox, true));
        let name = format!("main-{runtime}");
        let init = engines::container("init", &["true"]);
        let init = started(&cri, &sandbox, &init, &pod);
        while cri.inspect(&init).unwrap().pid().is_some() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let main = started(&cri, &sandbox, &engines::container(&name, &["sleep", "1000"]), &pod);
        let found = find(&name, Some(Kind::Containerd), &sockets).unwrap();
        check_running(&found, Kind::Containerd, runtime);
        assert_eq!(found.container.pod.as_ref(), Some(&pod.pod));
        assert_eq!(found.container.seccomp, Seccomp::Default);
        assert_eq!(found.container.no_new_privileges, Some(true));
        assert_eq!(found.container.user.as_deref(), Some("1000:1000"));
        let listed = cri.containers(&sandbox).unwrap();
        let kinds: Vec<_> =
            listed.iter().map(|listed| (listed.name.as_str(), listed.state, listed.kind)).collect();
        let expected = [
            ("init", PodState::Exited, ContainerKind::Init),
            (name.as_str(), PodState::Running, ContainerKind::Container),
        ];
        assert_eq!(kinds, expected);
        let said = cri.exec(&main, &["sh", "-c", "id -u; exit 3"], Duration::from_secs(10)).unwrap();
        assert_eq!((said.code, said.stdout.as_slice()), (3, b"1000\n".as_slice()));
        cri.stop(&main, Duration::from_secs(0)).unwrap();
        assert!(matches!(cri.inspect(&main).unwrap().state, State::Exited { .. }));
        cri.remove(&main).unwrap();
        assert!(cri.inspect(&main).unwrap_err().is_missing());
        cri.stop_pod(&sandbox).unwrap();
        cri.remove_pod(&sandbox).unwrap();
    }
}

/// What cannot be done is said: who was asked, where, and what helps.
#[test]
fn what_goes_wrong_is_named() {
    require!("docker", "dockerd", "podman", "runc", "busybox", "setpriv");
    let (docker, podman) = (Docker::start(&[tiny()]), Podman::start(&[tiny()]));
    let (docker, podman) = (docker.engine("runc"), podman.engine("runc"));
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace.json");
    let record = |container: &str, more: &[String]| {
        let mut record = seccomp_learn(["record", "--container", container, "-o"]);
        record.arg(&trace).args(more);
        // Every engine of this machine is somewhere else.
        for (variable, socket) in [("DOCKER_HOST", &docker.socket), ("CONTAINER_HOST", &podman.socket)] {
            record.env(variable, format!("unix://{}", socket.display()));
        }
        record.env("CONTAINERD_ADDRESS", folder.path().join("no-containerd"));
        record
    };
    let says = |finished: Finished, words: &[&str]| {
        assert!(!trace.exists(), "there is a trace: {finished:?}");
        let finished = finished.expect_code(2);
        for word in words {
            assert!(finished.stderr.contains(word), "no {word:?} in:\n{}", finished.stderr);
        }
    };
    let sockets = [&docker.socket, &podman.socket].map(|socket| socket.display().to_string());
    let nobody: Finished = record("nobody-by-that-name", &[]).output().unwrap().into();
    says(nobody, &["no container `nobody-by-that-name`", &sockets[0], &sockets[1], "--engine-socket"]);

    // The same name at two engines.
    let twins = [&docker, &podman].map(|engine| engine.container("twin"));
    for twin in &twins {
        twin.run(&[] as &[&str], TINY, &["sh", "-c", "while true; do sleep 0.1; done"]);
    }
    let both: Finished = record(&twins[0].name, &[]).output().unwrap().into();
    says(both, &["several containers", "docker `", "podman `", "`--engine`"]);
    let one = record(&twins[0].name, &["--engine=podman".to_owned(), "--duration=1s".to_owned()]);
    Finished::from({ one }.output().unwrap()).expect_code(0);
    std::fs::remove_file(&trace).unwrap();

    let missing = folder.path().join("missing.sock").display().to_string();
    let chosen = ["--engine=docker".to_owned(), format!("--engine-socket={missing}")];
    says(
        record("x", &chosen).output().unwrap().into(),
        &[&missing, "no such socket", "systemctl start docker"],
    );
    let anything = [format!("--engine-socket={missing}")];
    says(record("x", &anything).output().unwrap().into(), &[&missing, "no such socket", "--engine-socket"]);

    // A socket that may not be opened, by one who may record all the same.
    let locked = folder.path().join("locked.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    let mut forbidden = std::process::Command::new("setpriv");
    forbidden.arg("--bounding-set=-dac_override,-dac_read_search").arg(cli::binary());
    forbidden.args(["record", "--container", "x", "--engine=docker", "-o"]).arg(&trace);
    forbidden.arg(format!("--engine-socket={}", locked.display()));
    says(forbidden.output().unwrap().into(), &["locked.sock", "permission denied", "as root"]);

    // A container that is over, and one that is over at once.
    let over = docker.container("over");
    over.run(&[] as &[&str], TINY, &["true"]);
    while over.inspect("{{.State.Running}}") == "true" {
        std::thread::sleep(Duration::from_millis(50));
    }
    // It may be started again: that is waited for, until somebody says stop.
    let words = [vec!["--container".to_owned(), over.name.clone()], docker.chosen()].concat();
    let output = ["-o".to_owned(), trace.display().to_string()];
    let recorder = Recorder::start(words.into_iter().chain(output));
    recorder.signal(libc::SIGINT);
    says(recorder.wait(), &["before the container was started"]);
    let mut short = seccomp_learn(["record", "--image", TINY, "-o"]);
    short.arg(&trace).args(docker.starting()).args(["--", "true"]);
    Finished::from(short.output().unwrap()).expect_code(0);
    assert!(cli::read_trace(&trace).syscalls.iter().any(|row| row.name == "exit_group"));
    fs::remove_file(&trace).unwrap();
    let mut broken = seccomp_learn(["record", "--image", TINY, "-o"]);
    broken.arg(&trace).args(docker.starting()).args(["--", "/no/such/program"]);
    let finished: Finished = broken.output().unwrap().into();
    assert!(finished.code != 0 && finished.stderr.contains("/no/such/program"), "{finished:?}");
    let mut unknown = seccomp_learn(["record", "--image", "localhost/no-such-image", "-o"]);
    unknown.arg(&trace).args(podman.starting());
    unknown.args(["--run-option=--pull=never"]);
    says(unknown.output().unwrap().into(), &["localhost/no-such-image"]);
}

fn started(cri: &Cri, sandbox: &str, container: &ContainerSpec, pod: &PodSpec) -> String {
    let id = cri.create(sandbox, container, pod).unwrap();
    cri.start(&id).unwrap();
    id
}
