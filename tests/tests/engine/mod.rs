//! Container engines as these tests use them: nothing of theirs is shared with the machine's own.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::{
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// A container engine and how it is called here.
pub struct Engine {
    pub name: &'static str,
    program: &'static str,
    global: Vec<String>,
    pub run: &'static [&'static str],
    pub image: Vec<String>,
}

impl Engine {
    /// Podman with runc and a storage of the test's own; `image` is an image's name or `--rootfs DIR`.
    pub fn podman(folder: &Path, image: Vec<String>) -> Self {
        let at = |name: &str| folder.join(name).display().to_string();
        Self {
            name: "podman",
            program: "podman",
            global: ["--root", &at("root"), "--runroot", &at("run"), "--tmpdir", &at("tmp")]
                .into_iter()
                .chain(["--storage-driver", "vfs", "--runtime", "runc"])
                .chain(["--cgroup-manager", "cgroupfs", "--events-backend", "none"])
                .map(str::to_owned)
                .collect(),
            // Podman's own defaults need CAP_SYS_RESOURCE.
            run: &["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"],
            image,
        }
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command.args(&self.global).stdin(Stdio::null());
        command
    }
}

/// A Docker daemon of the test's own: its data, its socket, no bridge and no firewall rules.
pub struct Daemon {
    child: Child,
    folder: tempfile::TempDir,
}

impl Daemon {
    pub fn start() -> Self {
        // The socket's path must stay short, so not below the build folder.
        let folder = tempfile::Builder::new().prefix("sl-docker").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let log = fs::File::create(at("log")).unwrap();
        let mut daemon = Command::new("dockerd");
        daemon.args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")]);
        daemon.args(["--host", &format!("unix://{}", at("socket")), "--storage-driver=vfs", "--bridge=none"]);
        daemon.args(["--iptables=false", "--ip6tables=false", "--config-file", &at("none.json")]);
        fs::write(at("none.json"), "{}").unwrap();
        let child = daemon.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut daemon = Self { child, folder };
        let start = Instant::now();
        while !daemon.engine("").command().arg("info").output().is_ok_and(|output| output.status.success()) {
            let ended = daemon.child.try_wait().unwrap();
            let log = || fs::read_to_string(daemon.folder.path().join("log")).unwrap();
            assert!(
                ended.is_none() && start.elapsed() < Duration::from_secs(60),
                "dockerd does not start:\n{}",
                log()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        daemon
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The engine behind this daemon, with the image that a test uses.
    pub fn engine(&self, image: &str) -> Engine {
        Engine {
            name: "docker",
            program: "docker",
            global: vec![
                "--host".to_owned(),
                format!("unix://{}", self.folder.path().join("socket").display()),
            ],
            run: &[],
            image: vec![image.to_owned()],
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
        // The daemon leaves the default network namespace's mount behind.
        let _ = Command::new("umount").arg(self.folder.path().join("exec/netns/default")).output();
    }
}

/// Runs a command that must succeed.
#[track_caller]
pub fn good(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, text(&output));
    output
}

pub fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}
