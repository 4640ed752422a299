//! The demo service in containers. Its profile, learned from a bare command, holds under Docker and under Podman: as
//! an unprivileged user with nothing left to it, and as the engine's own defaults have it. Learned in the container,
//! it holds there for twenty starts.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failure here is a test's failure")]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
    sync::LazyLock,
    time::{Duration, Instant},
};

use seccomp_learn_tests::{
    cache, cli,
    engines::{Docker, Engine, Image, Podman, good, text},
    inference::{INFERENCE, Inference},
    programs::free_port,
    require,
};
use trace::Abi;

/// What the tests share: made once, by whoever comes first.
static DEMO: LazyLock<Demo> = LazyLock::new(Demo::make);

/// How a container is confined beside the profile.
const HARDENED: &[&str] =
    &["--user", "1000:1000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only"];
const AS_IT_COMES: &[&str] = &[];

const COMMAND: [&str; 4] = ["python3", "/opt/inference/service.py", "--model", "/opt/inference/model.onnx"];
const IMAGE: &str = "localhost/seccomp-learn-inference:test";
const PACKAGES: &str = "PYTHONPATH=/opt/inference/packages";

struct Demo {
    python: PathBuf,
    client: PathBuf,
    rootfs: PathBuf,
    profile: PathBuf,
}

impl Demo {
    fn make() -> Self {
        let Inference { python, source, client, model } = &*INFERENCE;
        let rootfs = cache().join("inference-rootfs");
        let stamp = cache().join("inference-rootfs.made-from");
        let inputs: String =
            ["rootfs.sh", "service.py", "client.py", "corpus.txt", "requirements.txt", "make_model.py"]
                .map(|name| fs::read_to_string(source.join(name)).unwrap())
                .concat();
        if !rootfs.is_dir() || fs::read_to_string(&stamp).ok() != Some(inputs.clone()) {
            if rootfs.exists() {
                fs::remove_dir_all(&rootfs).unwrap();
            }
            good(Command::new(source.join("rootfs.sh")).arg(&rootfs).arg(model).env("PYTHON", python));
            fs::write(&stamp, inputs).unwrap();
        }

        let folder = cache().join("inference-learned");
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        let workload = INFERENCE.workload();
        let health = INFERENCE.call(workload.port.unwrap(), "health");
        let mut learn = cli::seccomp_learn(["learn", "-o"]);
        learn.arg(&folder).args(["--health-cmd", &health]);
        good(learn.args(workload.arguments()));
        Self { python: python.clone(), client: client.clone(), rootfs, profile: folder.join("profile.json") }
    }

    fn client(&self, port: u16, action: &str) -> Output {
        let mut client = Command::new(&self.python);
        client.arg("-B").arg(&self.client).arg(format!("http://127.0.0.1:{port}")).arg(action);
        client.output().unwrap()
    }

    /// Starts the service in a container, drives it, and stops it.
    fn serves(&self, engine: &Engine, image: &[&str], confinement: &[&str]) {
        let port = free_port();
        let container = engine.container(&port.to_string());
        let port_text = port.to_string();
        let mut run = engine.command(["run", "--detach", "--name", &container.name]);
        run.args(&engine.run).args(["--env", PACKAGES]).args(confinement);
        run.args(["--security-opt", &format!("seccomp={}", self.profile.display())]);
        good(run.args(image).args(COMMAND).args(["--port", &port_text]));
        let start = Instant::now();
        while !self.client(port, "ready").status.success() {
            let running = container.inspect("{{.State.Running}}");
            assert!(
                running == "true" && start.elapsed() < Duration::from_secs(90),
                "{}, {confinement:?}: not ready after {:?}, running: {running}\n{}",
                engine.name,
                start.elapsed(),
                container.logs()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        for action in ["exercise", "health"] {
            let output = self.client(port, action);
            assert!(output.status.success(), "{action}: {}\n{}", text(&output), container.logs());
        }
        let status = fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        assert_eq!(field("Seccomp:"), "2", "the filter is not loaded");
        if confinement == HARDENED {
            assert_eq!(field("NoNewPrivs:"), "1");
            assert_eq!(field("CapBnd:"), "0000000000000000");
            assert!(field("Uid:").starts_with("1000"));
        }
        // An exec probe enters the container anew, through the runtime and under the same profile.
        good(&mut engine.command(["exec", &container.name, "python3", "-c", "pass"]));
        good(&mut engine.command(["stop", "--time", "30", &container.name]));
        assert_eq!(container.inspect("{{.State.ExitCode}}"), "0", "{}", container.logs());
    }

    /// Learns the profile in a hardened container, and proves it by twenty starts.
    fn learns(&self, engine: &Engine, image: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let learned = folder.path().join("learned");
        let port = free_port();
        let call = |action: &str| {
            format!("{} -B {} http://127.0.0.1:{port} {action}", self.python.display(), self.client.display())
        };
        let [options @ .., image] = image else { panic!("no image") };
        let mut learn = cli::seccomp_learn(["learn", "--runs", "20", "-o"]);
        learn.arg(&learned).args(engine.starting()).args(["--image", image]);
        let options = options.iter().chain(HARDENED).chain(&["--tmpfs=/tmp", "--env", PACKAGES]);
        learn.args(options.map(|option| format!("--run-option={option}")));
        learn.args(["--ready", &call("ready"), "--exercise", &call("exercise")]);
        learn.args(["--health-cmd", &call("health"), "--"]).args(COMMAND).args(["--port", &port.to_string()]);
        let start = Instant::now();
        let said = text(&good(&mut learn));
        println!("learned and started twenty times in {:?}", start.elapsed());
        let report = fs::read_to_string(learned.join("report.md")).unwrap();
        assert!(report.contains("refused 0 calls in 20 confined starts"), "{report}\n{said}");
        let traces = fs::read_dir(learned.join("traces")).unwrap().map(|entry| entry.unwrap().path());
        for path in traces {
            let trace = cli::read_trace(&path);
            let container = trace.target.container.as_ref().unwrap();
            assert_eq!(container.no_new_privileges, Some(true));
            assert_eq!(container.user.as_deref(), Some("1000:1000"));
            assert!(container.attached.before_first_exec_ms.is_some() && !trace.confined, "{container:?}");
            let names: Vec<&str> = trace.phases.iter().map(|phase| phase.name.as_str()).collect();
            assert_eq!(names, ["startup", "serving", "shutdown"]);
        }
    }

    /// The profile is in force: a call it does not list is refused, which the engine's default allows.
    fn refuses(&self, engine: &Engine, image: &[&str]) {
        let profile = fs::read_to_string(&self.profile).unwrap();
        assert!(
            !profile.contains("\"getpriority\""),
            "the service asks for its priority now: choose another call"
        );
        let ask = |security: &[String]| {
            let mut run = engine.command(["run", "--rm"]);
            run.args(&engine.run).args(security).args(image);
            run.args(["python3", "-c", "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"])
                .output()
                .unwrap()
        };
        let by_default = ask(&[]);
        assert!(by_default.status.success(), "{}", text(&by_default));
        let confined = ask(&["--security-opt".to_owned(), format!("seccomp={}", self.profile.display())]);
        assert!(text(&confined).contains("PermissionError: [Errno 1]"), "{}", text(&confined));
    }
}

#[test]
fn blocks_as_many_known_attacks_as_dockers_default() {
    require!("debootstrap", "/usr/bin/python3");
    let blocked = |profile: &synth::Profile| synth::attack_score(profile, Abi::X86_64).unwrap().blocked();
    let container = synth::Container::new(Abi::X86_64, (6, 18));
    let default = blocked(&synth::reference("docker").unwrap().resolve(&container));
    let learned = blocked(&synth::Profile::read(&fs::read(&DEMO.profile).unwrap()).unwrap());
    println!("{learned} known attacks are blocked, by Docker's default {default}");
    assert!(learned >= default, "{learned} known attacks are blocked, by Docker's default {default}");
}

#[test]
fn serves_under_docker() {
    require!("docker", "dockerd", "debootstrap", "/usr/bin/python3");
    let demo = &*DEMO;
    let image = Image::pack(&demo.rootfs, &[IMAGE], &COMMAND);
    let docker = Docker::start(&[&image]);
    let engine = docker.engine("runc").on_the_hosts_network();
    for confinement in [HARDENED, AS_IT_COMES] {
        demo.serves(&engine, &[IMAGE], confinement);
    }
    demo.refuses(&engine, &[IMAGE]);
}

#[test]
fn learned_in_a_hardened_container_it_holds() {
    require!("podman", "runc", "debootstrap", "/usr/bin/python3");
    let demo = &*DEMO;
    let podman = Podman::start(&[]);
    demo.learns(&podman.engine("runc").on_the_hosts_network(), &["--rootfs", demo.rootfs.to_str().unwrap()]);
}

#[test]
fn serves_under_podman_with_runc() {
    require!("podman", "runc", "debootstrap", "/usr/bin/python3");
    let demo = &*DEMO;
    let podman = Podman::start(&[]);
    let engine = podman.engine("runc").on_the_hosts_network();
    // No copy of the whole file system for each container.
    let image = ["--rootfs", demo.rootfs.to_str().unwrap()];
    for confinement in [HARDENED, AS_IT_COMES] {
        demo.serves(&engine, &image, confinement);
    }
    demo.refuses(&engine, &image);
}
