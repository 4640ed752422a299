//! Why a recording could not be made, and what to do about it.

use std::time::Duration;

use crate::{cgroup::CgroupError, ebpf, notify};

/// A recording that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The command could not be started.
    #[error(transparent)]
    Spawn(#[from] confine::SpawnError),
    /// The cgroup could not be used.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The `ebpf` backend does not work here.
    #[error(transparent)]
    Ebpf(#[from] ebpf::EbpfError),
    /// The `notify` backend does not work here.
    #[error(transparent)]
    Notify(#[from] notify::NotifyError),
    /// Neither backend works here.
    #[error("no backend works here: ebpf: {ebpf}; notify: {notify}")]
    NoBackend {
        /// Why not `ebpf`.
        ebpf: String,
        /// Why not `notify`.
        notify: String,
    },
    /// `notify` can only record what it starts.
    #[error(
        "backend `notify` records only commands that it starts itself; use `--backend ebpf` for a cgroup or a process ({0})"
    )]
    NotifyNeedsCommand(String),
    /// There is no such process.
    #[error("no such process `{0}`")]
    NoProcess(u32),
    /// The recorder's own process was named.
    #[error("process `{0}` is this recorder or one of its ancestors; a recorder cannot record itself")]
    Ourselves(u32),
    /// Something else of the system's.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// What the kernel counted could not be read.
    #[error("cannot read what was recorded")]
    Finish(#[source] anyhow::Error),
    /// An engine could not be asked, or has no such container.
    #[error(transparent)]
    Engine(#[from] engine::EngineError),
    /// The container shares the cgroup of whoever started it.
    #[error(
        "container `{0}` has no cgroup of its own, so its calls cannot be told from others; start it without `--cgroups=disabled`"
    )]
    NoOwnCgroup(String),
    /// The engine could not start the container.
    #[error("the engine did not start a container of `{image}` ({}); see what it said above", .code.map_or_else(|| "no exit status".to_owned(), |code| format!("exit status {code}")))]
    NotStarted {
        /// The image.
        image: String,
        /// The exit code of the engine's command.
        code: Option<i32>,
    },
    /// Nobody started the pod in time.
    #[error("no pod `{namespace}/{name}` {}", came(*.wait))]
    NoPod {
        /// The namespace.
        namespace: String,
        /// Its name, or the labels asked for.
        name: String,
        /// How long it was waited for.
        wait: Duration,
    },
    /// We were asked to stop too early.
    #[error("interrupted {0}; nothing was recorded")]
    Interrupted(&'static str),
}

/// That a pod did not come, and what to do.
fn came(wait: Duration) -> String {
    let check = "check its name and namespace (`-n`), and that it is scheduled on this node";
    let seconds = wait.as_secs();
    let time = match (seconds / 60, seconds % 60) {
        (0, 0) => return format!("is on this node; wait for it with `--wait`, or {check}"),
        (0, seconds) => format!("{seconds} s"),
        (minutes, 0) => format!("{minutes} min"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    };
    format!("came within {time}; {check}")
}
