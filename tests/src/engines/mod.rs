//! Container engines as the tests use them: nothing of theirs is shared with the machine's own.
//!
//! Each engine has its data, its sockets and its state in a folder of its own, and is stopped by its process. The
//! image is a busybox unless a test brings another: engines here copy a whole root filesystem for each container.

mod containerd;
mod docker;
mod image;
mod podman;
mod runtimes;

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex, Weak},
};

pub use containerd::{Containerd, container};
pub use docker::Docker;
pub use image::{Image, MARKER, TINY, tiny};
pub use podman::Podman;
pub use runtimes::crun;

/// containerd's containers are named by whoever makes them.
static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// The two OCI runtimes of the tests.
pub const RUNTIMES: [&str; 2] = ["runc", "crun"];

/// An engine and how it is called here: `--engine`, `--engine-socket`, `--engine-program`.
#[derive(Clone, Debug)]
pub struct Engine {
    /// As `--engine` has it.
    pub name: &'static str,
    pub socket: PathBuf,
    /// A program that takes what the engine's own command does, and goes to this engine with this runtime.
    pub program: PathBuf,
    /// Options for `run` and `create` that this machine needs.
    pub run: Vec<String>,
}

impl Engine {
    /// The same, with its containers on the host's network instead of none.
    pub fn on_the_hosts_network(mut self) -> Self {
        self.run.retain(|option| !option.starts_with("--network="));
        self.run.push("--network=host".to_owned());
        self
    }

    pub fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// The options that send `record` and the like to this engine.
    pub fn chosen(&self) -> Vec<String> {
        ["--engine", self.name, "--engine-socket", self.socket.to_str().unwrap()].map(str::to_owned).to_vec()
    }

    /// The options with which `record --image` and the like start containers of this engine.
    pub fn starting(&self) -> Vec<String> {
        let mut words = self.chosen();
        words.extend(["--engine-program".to_owned(), self.program.display().to_string()]);
        words.extend(self.run.iter().map(|option| format!("--run-option={option}")));
        words
    }

    /// Runs a command in a container of the small image, confined by this profile, to its end.
    pub fn confined(&self, profile: &Path, options: &[&str], arguments: &[&str]) -> Output {
        let mut run = self.command(["run", "--rm"]);
        run.args(&self.run).args(options);
        if self.name == "containerd" {
            run.args(["--seccomp", "--seccomp-profile"]).arg(profile);
            let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            run.args([TINY, &format!("confined-{}-{number}", std::process::id())]);
        } else {
            run.arg(format!("--security-opt=seccomp={}", profile.display())).arg(TINY);
        }
        run.args(arguments).output().unwrap()
    }

    /// A container that goes away with its test.
    pub fn container(&self, name: &str) -> Container<'_> {
        Container { engine: self, name: format!("seccomp-learn-{}-{name}", std::process::id()) }
    }
}

/// A container of Docker or Podman, removed with its test.
pub struct Container<'a> {
    engine: &'a Engine,
    pub name: String,
}

impl Container<'_> {
    /// Starts it in the background.
    pub fn run<S: AsRef<OsStr>>(&self, options: &[S], image: &str, arguments: &[&str]) {
        let mut run = self.engine.command(["run", "--detach", "--name", &self.name]);
        run.args(&self.engine.run).args(options).arg(image).args(arguments);
        good(&mut run);
    }

    pub fn inspect(&self, format: &str) -> String {
        let output = self.engine.command(["inspect", "--format", format, &self.name]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub fn pid(&self) -> u32 {
        self.inspect("{{.State.Pid}}").parse().unwrap()
    }

    pub fn logs(&self) -> String {
        text(&self.engine.command(["logs", &self.name]).output().unwrap())
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.engine.command(["rm", "--force", &self.name]).output();
    }
}

/// An engine that the tests of one file share: started by the first that needs it, stopped with the last.
pub struct Shared<T>(Mutex<Weak<T>>);

impl<T> Shared<T> {
    #[expect(clippy::new_without_default, reason = "it stands in statics")]
    pub const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    pub fn get(&self, start: impl FnOnce() -> T) -> Arc<T> {
        // A test that failed while it started the engine leaves nothing behind.
        let mut shared = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let started = Arc::new(start());
            *shared = Arc::downgrade(&started);
            started
        })
    }
}

/// Writes a program that calls another one with these arguments first.
fn wrapper(path: &Path, program: &str, arguments: &[String]) {
    let words: Vec<String> = arguments.iter().map(|word| format!("'{word}'")).collect();
    fs::write(path, format!("#!/bin/sh\nexec {program} {} \"$@\"\n", words.join(" "))).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A folder for an engine. Short, as the path of a socket must be, so not below the build folder.
fn folder(name: &str) -> tempfile::TempDir {
    tempfile::Builder::new().prefix(&format!("sl-{name}")).tempdir().unwrap()
}

/// Removes the cgroups that an engine made here and left, as far as nobody is in them.
fn remove_cgroups(name: &str) {
    fn remove(folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
        let _ = fs::remove_dir(folder);
    }
    crate::cgroup::mount_point().into_iter().for_each(|mount| remove(&mount.join(name)));
    for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        remove(&controller.path().join(name));
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
