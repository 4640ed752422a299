//! What can go wrong between us and an engine, in the words that an operator can act on.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::Kind;

/// An engine that was asked, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The engine.
    pub kind: Kind,
    /// Its socket.
    pub socket: PathBuf,
    /// What came of it: `no such container`, `no such socket`, …
    pub outcome: String,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at `{}`: {}", self.kind, self.socket.display(), self.outcome)
    }
}

/// Why an engine could not be asked, or what it says instead.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No engine that answered has it.
    #[error("no container `{name}`; {}", list(.asked, "name an engine's socket with `--engine-socket`"))]
    NoContainer {
        /// The name or id that was looked for.
        name: String,
        /// Every engine that was asked.
        asked: Vec<Asked>,
    },
    /// No engine answered at all.
    #[error("no engine answers; {}", list(.asked, "name an engine's socket with `--engine-socket`"))]
    NoEngine {
        /// Every socket that was tried.
        asked: Vec<Asked>,
    },
    /// Several containers answer to the name.
    #[error(
        "several containers are called `{name}`: {}; choose one by its id, or the engine with `--engine`",
        found.join(", ")
    )]
    Ambiguous {
        /// The name or the beginning of an id.
        name: String,
        /// Each of them: engine, id, name.
        found: Vec<String>,
    },
    /// There is no socket.
    #[error(
        "{kind} does not listen at `{}`: no such socket; {}, or name its socket with `--engine-socket`",
        socket.display(), kind.remedy()
    )]
    NoSocket {
        /// The engine.
        kind: Kind,
        /// Where it should listen.
        socket: PathBuf,
    },
    /// The socket is not for us.
    #[error(
        "{kind} may not be asked at `{}`: permission denied; run this as root, or as a user that may open the socket",
        socket.display()
    )]
    NotPermitted {
        /// The engine.
        kind: Kind,
        /// Its socket.
        socket: PathBuf,
    },
    /// There is a socket, and nobody behind it.
    #[error("nothing listens at `{}` any more; {}", socket.display(), kind.remedy())]
    NotRunning {
        /// The engine.
        kind: Kind,
        /// Its socket.
        socket: PathBuf,
    },
    /// The connection could not be made, for another reason.
    #[error("could not talk to {kind} at `{}`", socket.display())]
    Connection {
        /// The engine.
        kind: Kind,
        /// Its socket.
        socket: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The engine took too long.
    #[error("{kind} at `{}` gave no answer in {} s; see its log", socket.display(), after.as_secs())]
    Late {
        /// The engine.
        kind: Kind,
        /// Its socket.
        socket: PathBuf,
        /// How long it was waited for.
        after: Duration,
    },
    /// The engine answered with an error of its own.
    #[error("{kind} at `{}` says to {request}: {message}", socket.display())]
    Refused {
        /// The engine.
        kind: Kind,
        /// Its socket.
        socket: PathBuf,
        /// What was asked of it.
        request: String,
        /// Its own words.
        message: String,
        /// Whether it means that there is no such thing.
        missing: bool,
    },
    /// Somebody else listens there, or an engine that is too old.
    #[error("no {kind} that this can talk to listens at `{}`: {problem}", socket.display())]
    Stranger {
        /// The engine.
        kind: Kind,
        /// The socket.
        socket: PathBuf,
        /// What it lacks.
        problem: String,
    },
    /// An answer lacks what was asked for.
    #[error("the answer of {kind} at `{}` to {request} cannot be read: {problem}", socket.display())]
    Answer {
        /// The engine.
        kind: Kind,
        /// Its socket.
        socket: PathBuf,
        /// What was asked of it.
        request: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// An engine's command could not be started.
    #[error("could not start `{}`; install it, or name another with `--engine-program`", program.display())]
    Program {
        /// The command.
        program: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// An engine's command failed.
    #[error("`{command}` failed with {status}: {message}")]
    Command {
        /// The command with its arguments.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        message: String,
    },
    /// This engine has no command that starts a container.
    #[error("{kind} starts no containers by a command; start the pod, and record it with `--pod`")]
    NoCommand {
        /// The engine.
        kind: Kind,
    },
}

impl EngineError {
    /// Whether this only means that there is no such container.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::NoContainer { .. } | Self::Refused { missing: true, .. })
    }

    /// Whether nobody listens where this engine should: no reason to stop while others may answer.
    pub(crate) const fn is_absent(&self) -> bool {
        matches!(self, Self::NoSocket { .. } | Self::NotRunning { .. })
    }

    /// What it means in a list of engines that were asked.
    pub(crate) fn outcome(&self) -> String {
        match self {
            Self::NoSocket { .. } => "no such socket".to_owned(),
            Self::NotRunning { .. } => "nothing listens there".to_owned(),
            Self::NotPermitted { .. } => "permission denied; run this as root".to_owned(),
            Self::NoContainer { .. } | Self::Refused { missing: true, .. } => "no such container".to_owned(),
            Self::Late { after, .. } => format!("no answer in {} s", after.as_secs()),
            Self::Connection { source, .. } => source.to_string(),
            Self::Refused { message, .. } => message.clone(),
            Self::Stranger { problem, .. } | Self::Answer { problem, .. } => problem.clone(),
            other => other.to_string(),
        }
    }
}

/// Why a socket could not be connected to.
pub(crate) fn connection(kind: Kind, socket: &Path, source: io::Error) -> EngineError {
    let socket = socket.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => EngineError::NoSocket { kind, socket },
        io::ErrorKind::PermissionDenied => EngineError::NotPermitted { kind, socket },
        io::ErrorKind::ConnectionRefused => EngineError::NotRunning { kind, socket },
        _ => EngineError::Connection { kind, socket, source },
    }
}

/// Who was asked, in one line; the remedy last.
fn list(asked: &[Asked], remedy: &str) -> String {
    if asked.is_empty() {
        return remedy.to_owned();
    }
    let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
    format!("asked {}; {remedy}", asked.join(", "))
}
