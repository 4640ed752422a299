//! A Docker daemon of the tests' own: its data, its socket, no bridge and no firewall rules.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{Engine, Image, crun, folder, good, remove_cgroups, wrapper};

/// A running daemon, stopped when this is dropped.
pub struct Docker {
    child: Child,
    folder: tempfile::TempDir,
}

impl Docker {
    /// Starts a daemon with runc and crun, and gives it these images.
    pub fn start(images: &[&Image]) -> Self {
        let folder = folder("docker");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let log = fs::File::create(at("log")).unwrap();
        let runtimes = serde_json::json!({ "runtimes": { "crun": { "path": crun(folder.path()) } } });
        fs::write(at("daemon.json"), runtimes.to_string()).unwrap();
        let mut daemon = Command::new("dockerd");
        daemon.args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")]);
        daemon.args(["--host", &format!("unix://{}", at("socket")), "--storage-driver=vfs", "--bridge=none"]);
        daemon.args(["--iptables=false", "--ip6tables=false", "--config-file", &at("daemon.json")]);
        let child = daemon.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let host = format!("unix://{}", at("socket"));
        for runtime in super::RUNTIMES {
            // `--runtime` is an option of `run` and `create`, not of the command.
            wrapper(
                &folder.path().join(format!("docker-{runtime}")),
                "docker",
                &["--host".to_owned(), host.clone()],
            );
        }
        let mut daemon = Self { child, folder };
        let start = Instant::now();
        while !daemon.engine("runc").command(["info"]).output().is_ok_and(|output| output.status.success()) {
            let ended = daemon.child.try_wait().unwrap();
            let log = || fs::read_to_string(daemon.folder.path().join("log")).unwrap();
            assert!(
                ended.is_none() && start.elapsed() < Duration::from_secs(60),
                "dockerd does not start:\n{}",
                log()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        for image in images {
            good(daemon.engine("runc").command(["load", "--quiet", "--input"]).arg(image.archive()));
        }
        daemon
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The engine behind this daemon, with this runtime.
    pub fn engine(&self, runtime: &str) -> Engine {
        Engine {
            name: "docker",
            socket: self.folder.path().join("socket"),
            program: self.folder.path().join(format!("docker-{runtime}")),
            run: vec![format!("--runtime={runtime}"), "--network=none".to_owned()],
        }
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
        // The daemon leaves the default network namespace's mount behind.
        let _ = Command::new("umount").arg(self.folder.path().join("exec/netns/default")).output();
        remove_cgroups("docker");
    }
}
