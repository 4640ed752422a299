//! The runtime that is installed here: found, asked for its version, and run with a limit in time.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::statfs::{CGROUP2_SUPER_MAGIC, statfs},
};

use super::RuntimeBaseError;

/// How long one call of the runtime may take; a machine under load needs tenths of a second.
const LIMIT: Duration = Duration::from_secs(60);

/// Which runtime is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeKind {
    /// `opencontainers/runc`.
    Runc,
    /// `containers/crun`.
    Crun,
}

impl RuntimeKind {
    /// The name of its program, with which its version begins.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }
}

/// An installed runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Which.
    pub kind: RuntimeKind,
    /// Its program.
    pub program: PathBuf,
    /// Its version without a distribution's suffix: `1.1.5`.
    pub version: String,
    /// Its version as it says it: `1.1.5+ds1`, with the version of libseccomp and of Go where it says them.
    pub details: String,
}

impl Installed {
    /// Finds the runtime and asks for its version.
    ///
    /// # Errors
    /// There is no such program, it is another one, or it says no version.
    pub fn find(kind: RuntimeKind, program: Option<&Path>) -> Result<Self, RuntimeBaseError> {
        let program = program.map_or_else(|| PathBuf::from(kind.as_str()), Path::to_owned);
        let asked = Command::new(&program).arg("--version").stdin(Stdio::null()).output();
        let output =
            asked.map_err(|source| RuntimeBaseError::Missing { program: program.clone(), source })?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let other = || RuntimeBaseError::Other {
            program: program.clone(),
            kind,
            says: text.lines().next().unwrap_or_default().to_owned(),
        };
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let full = first
            .strip_prefix(kind.as_str())
            .and_then(|rest| rest.trim_start().strip_prefix("version "))
            .ok_or_else(other)?
            .trim();
        let numbers: String = full.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let version = numbers.trim_matches('.').to_owned();
        if version.is_empty() {
            return Err(RuntimeBaseError::NoVersion { program, says: first.to_owned() });
        }
        let more = lines.filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            ["go", "libseccomp"]
                .contains(&key)
                .then(|| format!(", {key} {}", value.trim().trim_start_matches("go")))
        });
        let details = std::iter::once(full.to_owned()).chain(more).collect();
        Ok(Self { kind, program, version, details })
    }

    /// Whether the runtime would take this host for one without cgroup v2 and must be shown it where it looks.
    ///
    /// crun joins a cgroup of version 2 only where `/sys/fs/cgroup` is one; runc joins it on a host that has
    /// both (`cgroup/unified`).
    fn needs_own_mounts(&self) -> bool {
        self.kind == RuntimeKind::Crun
            && !statfs("/sys/fs/cgroup").is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC)
    }

    /// Runs the runtime to its end. `state` is its folder, `scratch` takes what it says.
    pub(super) fn run<I, S>(&self, state: &Path, arguments: I) -> Result<(), RuntimeBaseError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(state.join("state")).args(arguments).stdin(Stdio::null());
        if self.needs_own_mounts() {
            // SAFETY: between fork and exec these make three system calls over constant strings, without
            // allocating; the namespace is the child's alone and goes with it and its containers.
            unsafe { command.pre_exec(own_cgroup_mount) };
        }
        let io = |source| RuntimeBaseError::Io { what: "run the runtime", source };
        let said = state.join("said");
        let output = File::create(&said).map_err(io)?;
        // Files, since a container that stays holds them open.
        command.stdout(output.try_clone().map_err(io)?).stderr(output);
        let mut child = command
            .spawn()
            .map_err(|source| RuntimeBaseError::Missing { program: self.program.clone(), source })?;
        let started = Instant::now();
        let status = loop {
            match child.try_wait().map_err(io)? {
                Some(status) => break Some(status),
                None if started.elapsed() > LIMIT => {
                    let _ = child.kill();
                    let _ = child.wait();
                    break None;
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        if status.is_some_and(|status| status.success()) {
            return Ok(());
        }
        let arguments: Vec<_> = command.get_args().skip(2).map(OsStr::to_string_lossy).collect();
        let how = status.map_or_else(|| format!("no end after {LIMIT:?}"), |status| status.to_string());
        let said = fs::read_to_string(&said).unwrap_or_default();
        Err(RuntimeBaseError::Failed {
            command: format!("{} {}", self.kind.as_str(), arguments.join(" ")),
            says: format!("{how}: {}", said.lines().last().unwrap_or("it said nothing").trim()),
        })
    }
}

/// In a child before exec: mounts of its own, with cgroup v2 where runtimes look for it.
fn own_cgroup_mount() -> io::Result<()> {
    const NONE: Option<&std::ffi::CStr> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, c"/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    mount(Some(c"none"), c"/sys/fs/cgroup", Some(c"cgroup2"), MsFlags::empty(), NONE)?;
    Ok(())
}
