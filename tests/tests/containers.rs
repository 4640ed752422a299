//! The demo service's profile, learned from a bare command, under Docker and under Podman with runc: as an
//! unprivileged user with nothing left to it, and as the engine's own defaults have it.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failure here is a test's failure")]

mod engine;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
    time::{Duration, Instant},
};

use engine::{Daemon, Engine, good, text};
use seccomp_learn_tests::{cache, cli, programs::free_port, require};
use trace::Abi;

/// What the tests share: made once, by whoever comes first.
static DEMO: LazyLock<Demo> = LazyLock::new(Demo::make);

/// How a container is confined beside the profile.
const HARDENED: &[&str] =
    &["--user", "1000:1000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only"];
const AS_IT_COMES: &[&str] = &[];

const COMMAND: [&str; 4] = ["python3", "/opt/inference/service.py", "--model", "/opt/inference/model.onnx"];
const PACKAGES: &str = "PYTHONPATH=/opt/inference/packages";

struct Demo {
    python: PathBuf,
    client: PathBuf,
    rootfs: PathBuf,
    profile: PathBuf,
}

impl Demo {
    fn make() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut prepare = Command::new(env!("CARGO"));
        prepare.args(["xtask", "demo", "--prepare"]).current_dir(root);
        good(prepare.env("CARGO_TARGET_DIR", cli::target_directory()));
        let store = cli::target_directory().join("demo");
        let (python, model) = (store.join("venv/bin/python3"), store.join("model/next-character.onnx"));
        let source = root.join("profiles/workloads/inference");
        let client = source.join("client.py");

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
            good(Command::new(source.join("rootfs.sh")).arg(&rootfs).arg(&model).env("PYTHON", &python));
            fs::write(&stamp, inputs).unwrap();
        }

        let folder = cache().join("inference-learned");
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        let port = free_port();
        let call = |action: &str| {
            format!("{} -B {} http://127.0.0.1:{port} {action}", python.display(), client.display())
        };
        let mut learn = cli::seccomp_learn(["learn", "-o"]);
        learn.arg(&folder).args(["--ready", &call("ready"), "--exercise", &call("exercise")]);
        learn
            .args(["--health-cmd", &call("health"), "--"])
            .arg(&python)
            .arg("-B")
            .arg(source.join("service.py"));
        good(learn.arg("--model").arg(&model).args(["--port", &port.to_string()]));
        Self { python, client, rootfs, profile: folder.join("profile.json") }
    }

    fn client(&self, port: u16, action: &str) -> Output {
        let mut client = Command::new(&self.python);
        client.arg("-B").arg(&self.client).arg(format!("http://127.0.0.1:{port}")).arg(action);
        client.output().unwrap()
    }

    /// Starts the service in a container, drives it, and stops it.
    fn serves(&self, engine: &Engine, confinement: &[&str], seccomp: Option<&Path>) {
        let port = free_port();
        let name = format!("seccomp-learn-{}-{port}", std::process::id());
        let mut run = engine.command();
        run.args(["run", "--detach", "--name", &name, "--network", "host", "--env", PACKAGES])
            .args(confinement);
        if let Some(profile) = seccomp {
            run.args(["--security-opt", &format!("seccomp={}", profile.display())]);
        }
        run.args(engine.run).args(&engine.image).args(COMMAND).args(["--port", &port.to_string()]);
        good(&mut run);
        let container = Container { engine, name };
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
        let status =
            fs::read_to_string(format!("/proc/{}/status", container.inspect("{{.State.Pid}}"))).unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        assert_eq!(field("Seccomp:"), "2", "the filter is not loaded");
        if confinement == HARDENED {
            assert_eq!(field("NoNewPrivs:"), "1");
            assert_eq!(field("CapBnd:"), "0000000000000000");
            assert!(field("Uid:").starts_with("1000"));
        }
        // An exec probe enters the container anew, through the runtime and under the same profile.
        good(engine.command().args(["exec", &container.name, "python3", "-c", "pass"]));
        good(engine.command().args(["stop", "--time", "30", &container.name]));
        assert_eq!(container.inspect("{{.State.ExitCode}}"), "0", "{}", container.logs());
    }

    /// The profile is in force: a call it does not list is refused, which the engine's default allows.
    fn refuses(&self, engine: &Engine) {
        let profile = fs::read_to_string(&self.profile).unwrap();
        assert!(
            !profile.contains("\"getpriority\""),
            "the service asks for its priority now: choose another call"
        );
        let ask = |security: &[String]| {
            let mut run = engine.command();
            run.args(["run", "--rm", "--network", "none"])
                .args(security)
                .args(engine.run)
                .args(&engine.image);
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

/// A container that goes away with its test.
struct Container<'a> {
    engine: &'a Engine,
    name: String,
}

impl Container<'_> {
    fn inspect(&self, format: &str) -> String {
        let output =
            self.engine.command().args(["inspect", "--format", format, &self.name]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn logs(&self) -> String {
        text(&self.engine.command().args(["logs", &self.name]).output().unwrap())
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.engine.command().args(["rm", "--force", &self.name]).output();
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
    let daemon = Daemon::start();
    let engine = daemon.engine("seccomp-learn-inference:test");
    let archive = daemon.folder().join("rootfs.tar");
    good(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&demo.rootfs).arg("."));
    good(engine.command().arg("import").arg(&archive).args(&engine.image));
    for confinement in [HARDENED, AS_IT_COMES] {
        demo.serves(&engine, confinement, Some(&demo.profile));
    }
    demo.refuses(&engine);
}

#[test]
fn serves_under_podman_with_runc() {
    require!("podman", "runc", "debootstrap", "/usr/bin/python3");
    let demo = &*DEMO;
    let folder = tempfile::Builder::new().prefix("sl-podman").tempdir().unwrap();
    let image = ["--rootfs".to_owned(), demo.rootfs.display().to_string()];
    let engine = Engine::podman(folder.path(), image.into());
    for confinement in [HARDENED, AS_IT_COMES] {
        demo.serves(&engine, confinement, Some(&demo.profile));
    }
    demo.refuses(&engine);
}
