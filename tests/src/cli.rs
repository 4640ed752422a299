//! Runs the binary under test.

use std::{
    ffi::OsStr,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::Duration,
};

use trace::Trace;

/// The folder that cargo builds into: this very test stands below it.
pub fn target_directory() -> PathBuf {
    profile_directory().parent().unwrap().to_owned()
}

/// `target/debug` or the like.
fn profile_directory() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let deps = own.parent().unwrap();
    if deps.ends_with("deps") { deps.parent().unwrap().to_owned() } else { deps.to_owned() }
}

/// A program of this package, built with it.
pub fn own_program(name: &str) -> PathBuf {
    let path = profile_directory().join(name);
    assert!(path.exists(), "`{}` is not built", path.display());
    path
}

/// The binary under test, built on first use with the profile that the tests have.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "seccomp-learn"]);
        if profile_directory().ends_with("release") {
            build.arg("--release");
        }
        build.env("CARGO_TARGET_DIR", target_directory()).current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(build.status().unwrap().success(), "the binary does not build");
        profile_directory().join("seccomp-learn")
    })
}

/// The binary with these arguments, its output captured.
pub fn seccomp_learn<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(arguments: I) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs the binary and returns what it said with its exit code.
pub fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(arguments: I) -> Finished {
    seccomp_learn(arguments).output().unwrap().into()
}

/// How a run of the binary ended.
#[derive(Debug)]
pub struct Finished {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Finished {
    /// This exit code, or a failure that shows everything.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// A recorder that runs beside the test.
pub struct Recorder(Option<Child>);

impl Recorder {
    /// Starts `record`; `NOTIFY_SOCKET` is where it says that it is attached.
    pub fn launch<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(arguments: I, notify: Option<&Path>) -> Self {
        let mut command = seccomp_learn(["record"]);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some(notify) = notify {
            command.env("NOTIFY_SOCKET", notify);
        }
        Self(Some(command.spawn().unwrap()))
    }

    /// Starts `record` and waits until it says, as service managers are told, that it is attached.
    pub fn start<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(arguments: I) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let recorder = Self::launch(arguments, Some(&path));
        let mut message = [0; 256];
        match socket.recv(&mut message) {
            Ok(length) => assert!(message[..length].starts_with(b"READY=1"), "{:?}", &message[..length]),
            Err(error) => {
                recorder.signal(libc::SIGKILL);
                panic!("the recorder did not attach: {error}\n{}", recorder.wait().stderr);
            }
        }
        recorder
    }

    pub fn pid(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: kill has no memory effects; the child has not been waited for, so the id is its own.
        assert_eq!(unsafe { libc::kill(self.pid() as i32, signal) }, 0);
    }

    /// Whether the recording has ended.
    pub fn has_ended(&mut self) -> bool {
        self.0.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// Waits until the recording ends.
    pub fn wait(mut self) -> Finished {
        self.0.take().unwrap().wait_with_output().unwrap().into()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Reads a trace as the product does, with all its checks.
#[track_caller]
pub fn read_trace(path: &Path) -> Trace {
    Trace::read(std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}
