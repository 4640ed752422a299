//! What a confined start has to say.

use synth::Verdict;
use trace::{Abi, PhaseName};

/// How a profile is brought into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Each denial is named, and answered as the plain filter would.
    Enforce,
    /// Each denial is named, and carried out; the calls that the profile answers with ENOSYS on purpose are not.
    Complain,
    /// Loaded as a runtime loads it. Nothing is named.
    Plain,
}

/// Who a refused call belongs to: in a container not everything is the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The workload itself.
    Workload,
    /// A session or probe that was started in the container besides.
    Exec,
    /// The container runtime before it loads the filter.
    Setup,
    /// The container runtime between loading the filter and starting the workload.
    Start,
}

impl Stage {
    /// The name in what programs read.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Exec => "exec",
            Self::Setup => "setup",
            Self::Start => "start",
        }
    }

    /// Whether it is the container runtime that calls.
    #[must_use]
    pub const fn is_runtime(self) -> bool {
        matches!(self, Self::Setup | Self::Start)
    }
}

/// Calls of one kind that the profile refused, or in complain mode would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The ABI it was called through.
    pub abi: Abi,
    /// Its number in that ABI.
    pub number: u32,
    /// Its name, or `syscall_N`.
    pub name: String,
    /// The arguments of the first of them.
    pub args: [u64; 6],
    /// The profile's answer.
    pub verdict: Verdict,
    /// Whether the profile says ENOSYS for this call on purpose, so that programs take their way around it.
    pub explicit_enosys: bool,
    /// How often.
    pub count: u64,
    /// The process of the first.
    pub pid: u32,
    /// The name of the threads that called.
    pub comm: String,
    /// Whether the workload called, or something beside it.
    pub stage: Stage,
    /// The phase of the first.
    pub phase: PhaseName,
    /// When the first came, in milliseconds after the start.
    pub after_ms: u64,
    /// What the call's descriptor was, where the call has one that matters and it is known: a device's path, or what
    /// `/proc/PID/fd` shows for a file that has none.
    pub file: Option<String>,
    /// The smallest rule that would allow it, as OCI JSON on one line.
    pub remedy: String,
    /// The same in words: `socket when domain == AF_NETLINK`.
    pub rule: String,
}

/// What a confined start showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The denials in the order in which they were first met.
    pub denials: Vec<Denial>,
    /// What a reader must know besides, in sentences without a full stop.
    pub remarks: Vec<String>,
}
