//! Why a command could not be started, and how it ended.

use std::{fmt, io, path::PathBuf};

/// Why a command was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// No such program, by path or on `PATH`.
    #[error("command not found: `{0}`; give an installed command or its path")]
    NotFound(String),
    /// There is a file, but it may not be executed.
    #[error("`{0}` cannot be executed: permission denied or not a file; make it executable (chmod +x)")]
    NotExecutable(PathBuf),
    /// `execve` answered ENOEXEC.
    #[error("`{0}` is not a program this kernel can execute; a script needs a first line like `#!/bin/sh`")]
    NotAProgram(PathBuf),
    /// `execve` failed otherwise; under a filter that may be the filter's answer.
    #[error("cannot execute `{path}`")]
    Exec {
        /// The program.
        path: PathBuf,
        /// What `execve` answered.
        #[source]
        source: io::Error,
    },
    /// The child ended before the program ran: killed from outside, or by a filter that kills for `execve`.
    #[error("the process for `{path}` ended before the program ran: {exit}")]
    EndedBeforeExec {
        /// The program.
        path: PathBuf,
        /// How it ended.
        exit: Exit,
    },
    /// The kernel did not take the filter.
    #[error("cannot load the seccomp filter: {}", filter_remedy(.0))]
    Filter(#[source] io::Error),
    /// Anything else on the way.
    #[error("cannot start a process: {step}")]
    Setup {
        /// The step that failed.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An argument or environment variable with a NUL byte in it.
    #[error("`{0}` contains a NUL byte, which no program can be given")]
    NulByte(String),
}

/// What the errno of a refused filter means: kernel/seccomp.c, `seccomp_set_mode_filter`.
fn filter_remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EBUSY) => {
            "a listener is already on this process (a recording inside a recording?); run outside of it"
        }
        Some(libc::ENOSYS) => "this kernel has no seccomp filters; use one built with CONFIG_SECCOMP_FILTER",
        Some(libc::EINVAL) => "the kernel does not take this program (at most 4096 instructions)",
        Some(libc::ENOMEM) => {
            "the filters on this process are too long together (32768 instructions); run under fewer of them"
        }
        Some(libc::EACCES | libc::EPERM) => {
            "seccomp(2) is not permitted here; run where the container's own profile allows it"
        }
        _ => "the kernel refused it",
    }
}

impl SpawnError {
    pub(crate) const fn setup(step: &'static str, source: io::Error) -> Self {
        Self::Setup { step, source }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// With this exit code.
    Code(i32),
    /// By this signal's number.
    Signal(i32),
}

impl Exit {
    /// One number, as shells have it: the code, or 128 and the signal's number.
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => 128 + number,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => match nix::sys::signal::Signal::try_from(*number) {
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {number}"),
            },
        }
    }
}
