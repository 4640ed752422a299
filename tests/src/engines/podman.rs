//! Podman with its API service and a storage of the tests' own, with runc or crun.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{Engine, Image, crun, folder, good, remove_cgroups, wrapper};

/// A Podman with a running service, stopped when this is dropped.
pub struct Podman {
    service: Child,
    folder: tempfile::TempDir,
}

impl Podman {
    /// Starts the service, and gives it these images.
    pub fn start(images: &[&Image]) -> Self {
        let folder = folder("podman");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let crun = crun(folder.path()).display().to_string();
        for (name, runtime) in [("runc", "runc"), ("crun", crun.as_str())] {
            let arguments = ["--root", &at("root"), "--runroot", &at("run"), "--tmpdir", &at("tmp")]
                .into_iter()
                .chain(["--storage-driver", "vfs", "--runtime", runtime])
                .chain(["--cgroup-manager", "cgroupfs", "--events-backend", "none"])
                .map(str::to_owned)
                .collect::<Vec<_>>();
            wrapper(&folder.path().join(format!("podman-{name}")), "podman", &arguments);
        }
        let log = fs::File::create(at("log")).unwrap();
        let socket = format!("unix://{}", at("socket"));
        let service = Command::new(at("podman-runc"))
            .args(["system", "service", "--time=0", &socket])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut podman = Self { service, folder };
        let start = Instant::now();
        while !podman.folder().join("socket").exists() {
            let log = fs::read_to_string(podman.folder().join("log")).unwrap();
            let ended = podman.service.try_wait().unwrap();
            assert!(
                ended.is_none() && start.elapsed() < Duration::from_secs(60),
                "podman's service does not start:\n{log}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        for image in images {
            good(podman.engine("runc").command(["load", "--quiet", "--input"]).arg(image.archive()));
        }
        podman
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// This Podman with this runtime.
    pub fn engine(&self, runtime: &str) -> Engine {
        Engine {
            name: "podman",
            socket: self.folder.path().join("socket"),
            program: self.folder.path().join(format!("podman-{runtime}")),
            // Podman's own limits need CAP_SYS_RESOURCE.
            run: ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", "--network=none"]
                .map(str::to_owned)
                .to_vec(),
        }
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.service.id().to_string()).status();
        let _ = self.service.wait();
        remove_cgroups("libpod_parent");
    }
}
