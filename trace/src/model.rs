//! The types of the trace file. What each field means to a reader is said here, once; the JSON Schema is made
//! from these types.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Abi, Arguments, Container, Digest, ExecCalls, Open, Outcome, RuntimeCalls, strict};

/// The major version this crate reads and writes.
pub const FORMAT_MAJOR: u32 = 1;
/// The minor version this crate writes.
pub const FORMAT_MINOR: u32 = 2;

/// Which syscalls a workload made, as evidence: aggregated over one run, or merged from several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// Format version, `major.minor`. A reader refuses another major version.
    pub version: String,
    /// SHA-256 over the canonical JSON of all other fields; it is how a truncated or edited trace is told.
    pub digest: Option<Digest>,
    /// What recorded it. Of several runs: of the one with the smallest digest.
    pub recorder: Recorder,
    /// What was recorded. Of several runs: of the one with the smallest digest.
    pub target: Target,
    /// Whether the recording was closed in order. Of several runs: whether all were.
    pub complete: bool,
    /// Whether a seccomp filter that is not the workload's own was already on it.
    pub confined: bool,
    /// Whether start-up is in this trace. Of several runs: whether it is in all.
    pub startup: Startup,
    /// What the recorder could not record, by cause; every counter is written, 0 included.
    pub losses: Losses,
    /// The phases that were covered, in order of time.
    pub phases: Vec<Phase>,
    /// How many runs (start to stop of the workload) are in this trace.
    pub runs: u64,
    /// The runs that were merged, ordered by digest; empty in the trace of one run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<Run>,
    /// The container runtime's own calls, apart from the workload's; none where no runtime was seen. Since 1.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeCalls>,
    /// The calls of exec sessions, apart from the workload's; none where no session was seen. Since 1.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecCalls>,
    /// The workload's calls: one row for each syscall of each ABI, ordered by ABI and number.
    pub syscalls: Vec<Row>,
    /// The opens of the GPU driver's files, by path, ordered. Since 1.2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opens: Vec<Open>,
    /// Opens of such files that are not among `opens`, because there were too many paths. Since 1.2.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub opens_beyond: u64,
}

/// What recorded a trace, and on what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recorder {
    /// Name and version of the tool.
    pub tool: String,
    /// How the calls were seen.
    pub backend: Backend,
    /// The kernel's release (`uname -r`).
    pub kernel: String,
    /// The machine's architecture (`uname -m`).
    pub arch: String,
    /// When the recording started, RFC 3339, UTC.
    pub started: String,
    /// How long it lasted, in milliseconds.
    pub duration_ms: u64,
    /// In which ways the recording itself changed the workload; empty for `ebpf`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub perturbations: Vec<String>,
}

/// How the calls were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// BPF programs on `sys_enter` and `sys_exit`.
    Ebpf,
    /// Seccomp user notification: names without outcomes, and it perturbs.
    Notify,
}

/// What was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// How the target was named.
    pub kind: TargetKind,
    /// The command with its arguments, secrets masked; never the environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The cgroup's path below the cgroup v2 mount, where one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The process, where one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// How the command ended: its exit code, or 128 and the signal's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Digest of the container image, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
    /// The container runtime with its version, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// The host's GPU driver, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_driver: Option<GpuDriver>,
    /// Whether the workload used a GPU device of NVIDIA's: opened one, or made an `ioctl` on one. None where
    /// arguments were not captured. Since 1.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<bool>,
    /// The container, where there is one. Since 1.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
}

impl Target {
    /// A target of which only the kind is known yet.
    #[must_use]
    pub const fn new(kind: TargetKind) -> Self {
        Self {
            kind,
            command: Vec::new(),
            cgroup: None,
            pid: None,
            exit_code: None,
            image: None,
            runtime: None,
            gpu_driver: None,
            gpu: None,
            container: None,
        }
    }
}

/// A GPU driver of the host that recorded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GpuDriver {
    /// Vendor, lower case: `nvidia`.
    pub vendor: String,
    /// The driver's full version, as it names itself.
    pub version: String,
}

/// How a target was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// A command that the recorder started.
    Command,
    /// A cgroup, with all below it.
    Cgroup,
    /// A process, with its threads and descendants.
    Pid,
    /// A container of an engine. Since 1.1.
    Container,
}

/// Whether the start of the workload is in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Startup {
    /// From the first instruction of the workload.
    #[serde(rename = "recorded")]
    Recorded,
    /// The recorder was attached to something that already ran.
    #[serde(rename = "not recorded")]
    NotRecorded,
}

/// What could not be recorded, by cause. All zero means that nothing is known to be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Losses {
    /// Runs of the BPF programs that the kernel skipped (`recursion_misses`): events nobody saw.
    pub missed_events: u64,
    /// Calls whose row could not be made because a map was full.
    pub map_full: u64,
    /// Tasks for which the kernel gave no storage: their calls were not recorded.
    pub task_storage: u64,
    /// Cgroups below the target that could not be added because the table was full.
    pub cgroups_full: u64,
    /// Exits without a known enter of tasks first seen at that exit (in flight when the recorder attached, and
    /// the return of fork in a child); nothing of the workload's own requests is lost by them.
    pub first_exits_skipped: u64,
    /// Notifications that vanished before they could be read or answered, their task having died: a call that
    /// may be uncounted.
    pub notifications_vanished: u64,
}

impl Losses {
    /// Whether something that was called may be missing from the rows.
    #[must_use]
    pub const fn lost_calls(&self) -> bool {
        self.missed_events > 0 || self.map_full > 0 || self.task_storage > 0 || self.cgroups_full > 0
    }

    /// Adds another recording's counters.
    pub(crate) const fn add(&mut self, other: &Self) {
        self.missed_events = self.missed_events.saturating_add(other.missed_events);
        self.map_full = self.map_full.saturating_add(other.map_full);
        self.task_storage = self.task_storage.saturating_add(other.task_storage);
        self.cgroups_full = self.cgroups_full.saturating_add(other.cgroups_full);
        self.first_exits_skipped = self.first_exits_skipped.saturating_add(other.first_exits_skipped);
        self.notifications_vanished =
            self.notifications_vanished.saturating_add(other.notifications_vanished);
    }
}

/// A phase of the workload that a trace covers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Which one.
    pub name: PhaseName,
    /// When it began, in milliseconds after the recording's start. Of several runs: the earliest.
    pub from_ms: u64,
}

/// The phases of a service, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PhaseName {
    /// From the start until it is ready.
    Startup,
    /// While it serves.
    Serving,
    /// After it was asked to stop.
    Shutdown,
}

impl PhaseName {
    /// All phases, in order of time.
    pub const ALL: [Self; 3] = [Self::Startup, Self::Serving, Self::Shutdown];

    /// The name as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Serving => "serving",
            Self::Shutdown => "shutdown",
        }
    }
}

/// One run among those that were merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The digest of that run's own trace.
    pub digest: Digest,
    /// What recorded it.
    pub recorder: Recorder,
    /// What was recorded.
    pub target: Target,
}

/// What one syscall of one ABI did.
///
/// `calls` = sum of `outcomes` + `in_flight` + `never_returned`, for every row. Calls that a filter answered
/// before they were entered are not among `calls` but in `denied`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The ABI it was called through.
    pub abi: Abi,
    /// Its number in that ABI (x32 without the marker bit).
    pub number: u32,
    /// Its name in that ABI; `syscall_N` where the number has none.
    pub name: String,
    /// How often it was entered.
    pub calls: u64,
    /// In how many of the trace's runs it was seen (entered or refused).
    pub runs: u64,
    /// How often a seccomp filter or its supervisor answered in the kernel's place.
    pub denied: u64,
    /// How the entered calls ended.
    #[serde(default, deserialize_with = "strict::map")]
    #[schemars(with = "BTreeMap<String, u64>")]
    pub outcomes: BTreeMap<Outcome, u64>,
    /// How the refused calls were answered; the sum is `denied`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "strict::map")]
    #[schemars(with = "BTreeMap<String, u64>")]
    pub refusals: BTreeMap<Outcome, u64>,
    /// Calls that had not returned when the recording ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub in_flight: u64,
    /// Calls whose task ended inside them (`exit`, `exit_group`, killed).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub never_returned: u64,
    /// The phases in which it was seen.
    pub phases: BTreeSet<PhaseName>,
    /// Who made it first. Of several runs: the smallest.
    pub first: FirstSight,
    /// What its arguments were; none where they were not captured. Since 1.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Arguments>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Who made a call first, and when.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirstSight {
    /// Milliseconds after the recording's start.
    pub after_ms: u64,
    /// The process (thread group) in the host's pid namespace.
    pub pid: u32,
    /// The calling thread's name (`comm`), not UTF-8 replaced.
    pub comm: String,
}

impl Row {
    /// Whether the kernel carried it out at least once: it succeeded, or how it ended is not known.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.never_returned > 0
            || self.in_flight > 0
            || self.outcomes.contains_key(&Outcome::Ok)
            || self.outcomes.contains_key(&Outcome::Unknown)
    }
}
