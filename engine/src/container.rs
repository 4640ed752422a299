//! What an engine says about one container.

use std::collections::BTreeMap;

use trace::{ContainerKind, Digest, Pod};

/// A container as its engine describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its identifier: 64 hexadecimal digits, with containerd whatever its maker chose.
    pub id: String,
    /// Its name; with containerd its identifier where nothing else names it.
    pub name: String,
    /// What it does now.
    pub state: State,
    /// The image as it was asked for.
    pub image_name: Option<String>,
    /// The image's digest in a registry. An image that was never in one (made here, or loaded from a tar) has
    /// none: then the digest of the engine's own record of it, which is the image's configuration with Docker,
    /// its manifest with Podman and containerd.
    pub image_digest: Option<Digest>,
    /// Labels of the container, those of its image included where the engine mixes them.
    pub labels: BTreeMap<String, String>,
    /// The runtime's name: `runc`, `crun`.
    pub runtime: Option<String>,
    /// The runtime's version as its own binary says it, without what a distribution appends: `1.1.5`.
    pub runtime_version: Option<String>,
    /// Under which seccomp profile it runs.
    pub seccomp: Seccomp,
    /// Whether it runs with no_new_privs; none where the engine does not say.
    pub no_new_privileges: Option<bool>,
    /// The user as the engine was told it; none for the image's own, or root.
    pub user: Option<String>,
    /// The command with its arguments.
    pub command: Vec<String>,
    /// The pod it belongs to.
    pub pod: Option<Pod>,
    /// What it is in its pod.
    pub kind: ContainerKind,
    /// How often it was restarted.
    pub restart: u32,
    /// Whether it is privileged, and so confined by nothing.
    pub privileged: bool,
}

/// What a container does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was made and not started yet.
    Created,
    /// It runs; `pid` is its first process, as the host counts.
    Running {
        /// The first process.
        pid: u32,
    },
    /// It ended.
    Exited {
        /// The exit code, as the engine says it.
        code: i32,
    },
}

/// A container's seccomp profile, as far as its engine tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seccomp {
    /// None.
    Unconfined,
    /// The engine's own.
    Default,
    /// A file, by the path that the engine read it from.
    Profile(String),
    /// A profile whose text the engine keeps, and not where it came from: JSON. Docker's command reads the file and
    /// sends the text; a bare containerd is only ever given the filter.
    Inline(String),
}

impl Container {
    /// The process, if it runs.
    #[must_use]
    pub const fn pid(&self) -> Option<u32> {
        match self.state {
            State::Running { pid } => Some(pid),
            State::Created | State::Exited { .. } => None,
        }
    }

    /// `runc 1.1.5`, as a trace names the runtime.
    #[must_use]
    pub fn runtime_with_version(&self) -> Option<String> {
        let name = self.runtime.as_deref()?;
        Some(
            self.runtime_version
                .as_ref()
                .map_or_else(|| name.to_owned(), |version| format!("{name} {version}")),
        )
    }
}

impl Seccomp {
    /// In one word, as a trace says it: `unconfined`, `default`, `custom`, or the file's path.
    #[must_use]
    pub fn describe(&self) -> &str {
        match self {
            Self::Unconfined => "unconfined",
            Self::Default => "default",
            Self::Profile(path) => path,
            Self::Inline(_) => "custom",
        }
    }
}
