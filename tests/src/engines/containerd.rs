//! containerd with its CRI, as a node has it: its own folders, the snapshotter that needs no kernel feature, and
//! runc and crun as the runtimes that a pod can ask for.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use engine::{ContainerSpec, Pod, PodSpec, SeccompSpec};

use super::{Engine, Image, TINY, crun, folder, good, image::PAUSE, remove_cgroups, wrapper};

/// A running containerd, stopped when this is dropped.
pub struct Containerd {
    child: Child,
    folder: tempfile::TempDir,
}

impl Containerd {
    /// Starts it, and gives it these images; the small one has to be among them, for the sandboxes.
    pub fn start(images: &[&Image]) -> Self {
        let folder = folder("ctrd");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let crun = crun(folder.path());
        let config = CONFIG
            .replace("FOLDER", folder.path().to_str().unwrap())
            .replace("PAUSE", PAUSE)
            .replace("CRUN", crun.to_str().unwrap());
        fs::write(at("config.toml"), config).unwrap();
        let log = fs::File::create(at("log")).unwrap();
        // `ctr container create` takes no runtime's binary: so there is a shim whose runc is crun.
        let shim = format!("#!/bin/sh\nPATH='{}':$PATH exec containerd-shim-runc-v2 \"$@\"\n", at("as-runc"));
        fs::create_dir(at("as-runc")).unwrap();
        std::os::unix::fs::symlink(&crun, at("as-runc/runc")).unwrap();
        fs::write(at("containerd-shim-crun-v2"), shim).unwrap();
        fs::set_permissions(at("containerd-shim-crun-v2"), fs::Permissions::from_mode(0o755)).unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let child = Command::new("containerd")
            .args(["--config", &at("config.toml")])
            .env("PATH", format!("{}:{path}", folder.path().display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let global = ["--address", &at("socket"), "--namespace", "k8s.io"].map(str::to_owned);
        wrapper(&folder.path().join("ctr"), "ctr", &global);
        let mut containerd = Self { child, folder };
        let start = Instant::now();
        while !containerd.ctr(["version"]).output().is_ok_and(|output| output.status.success()) {
            let log = fs::read_to_string(containerd.folder().join("log")).unwrap();
            let ended = containerd.child.try_wait().unwrap();
            assert!(
                ended.is_none() && start.elapsed() < Duration::from_secs(60),
                "containerd does not start:\n{log}"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        for image in images {
            good(containerd.ctr(["image", "import", "--snapshotter", "native"]).arg(image.archive()));
        }
        containerd
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// `ctr`, in the namespace of the CRI.
    pub fn ctr<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = Command::new(self.folder.path().join("ctr"));
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// This containerd through `ctr`, with this runtime.
    pub fn engine(&self, runtime: &str) -> Engine {
        Engine {
            name: "containerd",
            socket: self.socket(),
            program: self.folder.path().join("ctr"),
            run: vec!["--snapshotter=native".to_owned(), format!("--runtime=io.containerd.{runtime}.v2")],
        }
    }

    /// The cgroup below which the pods of this node are, as `kubepods` is on others.
    fn pods_cgroup(&self) -> String {
        format!("seccomp-learn-{}", self.folder.path().file_name().unwrap().to_string_lossy())
    }

    /// A pod for this node, in the namespace `default`.
    pub fn pod(&self, name: &str, runtime: &str) -> PodSpec {
        let uid = format!("uid-of-{name}");
        PodSpec {
            cgroup_parent: format!("/{}/pod{uid}", self.pods_cgroup()),
            pod: Pod { namespace: "default".to_owned(), name: name.to_owned(), uid },
            labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
            runtime: runtime.to_owned(),
            log_directory: self.folder.path().join("logs"),
            attempt: 0,
        }
    }

    /// The CRI, as a kubelet has it.
    pub fn cri(&self) -> engine::Cri {
        engine::Cri::at(&self.socket()).unwrap()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // What runs in it would live on: shims outlive their daemon.
        if let Ok(cri) = engine::Cri::at(&self.socket()) {
            for namespace in ["default", "tests"] {
                for pod in cri.pods(namespace, None, &[]).unwrap_or_default() {
                    let _ = cri.stop_pod(&pod.id);
                    let _ = cri.remove_pod(&pod.id);
                }
            }
        }
        let tasks = self.ctr(["task", "ls", "--quiet"]).output();
        for task in tasks.iter().flat_map(|output| output.stdout.split(|byte| *byte == b'\n')) {
            let task = String::from_utf8_lossy(task);
            if !task.is_empty() {
                let _ = self.ctr(["task", "rm", "--force", &task]).output();
            }
        }
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
        remove_cgroups("k8s.io");
        remove_cgroups(&self.pods_cgroup());
    }
}

/// A container of the small image, hardened as the Pod Security standard `restricted` has it, under the engine's
/// default profile.
pub fn container(name: &str, command: &[&str]) -> ContainerSpec {
    ContainerSpec {
        name: name.to_owned(),
        attempt: 0,
        image: TINY.to_owned(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        seccomp: SeccompSpec::RuntimeDefault,
        no_new_privileges: true,
        user: Some(1000),
        drop_all: true,
        read_only: true,
        log: format!("{name}.log").into(),
    }
}

const CONFIG: &str = r#"version = 2
root = "FOLDER/root"
state = "FOLDER/state"
[grpc]
  address = "FOLDER/socket"
[plugins."io.containerd.internal.v1.opt"]
  path = "FOLDER/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "PAUSE"
  disable_tcp_service = true
  stream_server_port = "0"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun.options]
        BinaryName = "CRUN"
"#;
