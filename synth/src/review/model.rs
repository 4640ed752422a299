//! The types of a review. Its JSON Schema is generated from these and checked in.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use trace::{Abi, Digest, FirstSight, GpuDriver, PhaseName};

use crate::{
    catalogue::Risk,
    completeness::Completeness,
    cost::Cost,
    decision::{Date, Verdict},
    explain::Carried,
    lint::Severity,
};

/// The version of this format, `major.minor`.
pub const REVIEW_VERSION: &str = "1.0";

/// What a person needs who is to sign a profile.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Review {
    /// Format version, `major.minor`.
    pub version: String,
    /// Name and version of the tool that made the review.
    pub tool: String,
    /// What the profile is of.
    pub subject: Subject,
    /// What is signed.
    pub digests: Digests,
    /// The first screen.
    pub summary: Summary,
    /// What to look at, the worst first.
    pub findings: Vec<Remark>,
    /// What is allowed that the reference refuses.
    pub wider: Vec<Wider>,
    /// What the workload did while it was recorded and the profile refuses.
    pub left_out: Vec<LeftOut>,
    /// Every syscall that is allowed, with the reasons.
    pub rules: Vec<Rule>,
    /// What is refused in another way than by default.
    pub answers: Vec<SpecialAnswer>,
    /// What reviewers decided.
    pub decisions: Vec<Decided>,
    /// What no filter can see, as far as it concerns this profile.
    pub blind: Vec<Blind>,
    /// What a filter refused while the workload was recorded.
    pub refused: Vec<Refused>,
    /// Known attacks.
    pub attacks: Attacks,
    /// The observed calls by the phases that they were made in.
    pub phases: Vec<PhaseGroup>,
    /// How many calls are open, by what they can be used for.
    pub surface: Vec<SurfaceClass>,
    /// What the runs say about those that were not recorded; none where there are no traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completeness: Option<Completeness>,
    /// What the filter costs the workload's own mix of calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// What a profile is of, and how it came about.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Subject {
    /// What the user calls it.
    pub name: String,
    /// The machine's own ABI.
    pub native: Abi,
    /// The architectures whose calls it judges; calls through others end the process.
    pub architectures: Vec<String>,
    /// How a call is answered that no rule names.
    pub default_answer: String,
    /// How the profile was made; none where no evidence says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made: Option<Made>,
    /// What was recorded; none where there are no traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Recorded>,
}

/// How a profile was made.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Made {
    /// Name and version of the tool.
    pub tool: String,
    /// What it is never wider than.
    pub ceiling: String,
    /// Where the ceiling comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling_source: Option<String>,
    /// How far rules go by arguments: `off`, `stable`, `exact`.
    pub arguments: String,
    /// What is allowed beyond what was observed: `none`, `portable`.
    pub margin: String,
    /// Whose own calls are allowed besides.
    pub runtime: Vec<String>,
    /// The command, secrets masked.
    pub command: Vec<String>,
    /// The image's digest: that of the newest run, where they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
    /// The container runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_runtime: Option<String>,
    /// The kernel that was recorded on.
    pub kernel: String,
    /// The GPU driver that was loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_driver: Option<GpuDriver>,
    /// How many runs it was made from.
    pub runs: u64,
    /// The phases that were covered.
    pub phases: Vec<PhaseName>,
}

/// What was recorded.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Recorded {
    /// When the first run began: RFC 3339, UTC.
    pub from: String,
    /// When the last run began.
    pub to: String,
    /// How many runs.
    pub runs: u64,
    /// How many calls the workload made in them.
    pub calls: u64,
    /// How the calls were seen.
    pub backend: String,
    /// The kernels that were recorded on.
    pub kernels: BTreeSet<String>,
    /// Whether every recording was closed in order.
    pub complete: bool,
    /// Whether the start of the workload is in every one.
    pub with_startup: bool,
    /// Whether calls are known to be missing.
    pub lost_calls: bool,
    /// Whether a filter was on the workload already.
    pub confined: bool,
    /// Whether a GPU device was used; none where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<bool>,
    /// The images, that of the newest run first; none where no container was recorded.
    pub images: Vec<RecordedImage>,
    /// Whether it ran with `no_new_privs`, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_new_privileges: Option<bool>,
    /// Sessions that were started beside the workload in its container.
    pub exec_sessions: u64,
    /// In which ways the recording changed the workload.
    pub perturbations: BTreeSet<String>,
}

/// An image that was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RecordedImage {
    /// Its name, as the engine was given it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// How many of the runs are of it.
    pub runs: u64,
}

/// What the recorded calls get from the profile: each is judged by the compiled filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Replayed {
    /// How many different calls were judged, by their arguments.
    pub facts: u64,
    /// How many calls that is.
    pub calls: u64,
    /// Of these, those that are allowed.
    pub allowed: u64,
    /// Those that were needed and are refused.
    pub denied: u64,
    /// Those that are refused on purpose.
    pub on_purpose: u64,
    /// Those that are refused and were not needed.
    pub not_needed: u64,
    /// Those of which it cannot be told.
    pub unknown: u64,
    /// What was needed and is refused, by name.
    pub denied_syscalls: BTreeSet<String>,
    /// Of which it cannot be told, by name.
    pub unknown_syscalls: BTreeSet<String>,
    /// Whether the container runtime's own calls are among them.
    pub with_runtime: bool,
}

/// What is signed: one digest over everything that the review rests on.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Digests {
    /// SHA-256 of `manifest`.
    pub review: Digest,
    /// Of the profile's file.
    pub profile: Digest,
    /// Of the evidence's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Digest>,
    /// The traces' own digests, ordered.
    pub traces: Vec<Digest>,
    /// That of all of them merged, where they are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merged: Option<Digest>,
    /// Of the file of the starts that were held out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out: Option<Digest>,
    /// Of what the profile is compared with: the file, or a shipped default's JSON.
    pub against: Digest,
    /// The lines that `review` is the digest of.
    pub manifest: String,
}

/// The first screen.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Summary {
    /// What the profile is compared with.
    pub against: Against,
    /// The calls that are wider than there, by name.
    pub wider: BTreeSet<String>,
    /// The calls of which it could not be decided, with the reason.
    pub undecided: Vec<String>,
    /// How many syscalls are allowed.
    pub allowed: usize,
    /// Of these, those with conditions on their arguments.
    pub conditional: usize,
    /// How many syscalls the machine's own ABI has.
    pub known: usize,
    /// How many syscalls the reference allows.
    pub against_allowed: usize,
    /// Of the allowed ones, those that were observed; none where nothing says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<usize>,
    /// The others by why they are there.
    pub not_observed: BTreeMap<Origin, usize>,
    /// The syscalls that the workload used with success and that the profile refuses.
    pub left_out: BTreeSet<String>,
    /// Those of which some calls succeeded and some failed, and of which the profile refuses no more than failed.
    pub left_out_perhaps: BTreeSet<String>,
    /// What the recorded calls get; none where there are no traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<Replayed>,
    /// The syscalls that the workload called and that are answered with `ENOSYS`, so that it falls back.
    pub answered_enosys: BTreeSet<String>,
    /// What was added after a confined start was refused it.
    pub added: Vec<Added>,
    /// How starts under the profile went that were not used to make it; none where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starts: Option<Starts>,
    /// How many findings of each weight.
    pub findings: BTreeMap<Severity, usize>,
}

/// What a profile is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Against {
    /// Its name: `RuntimeDefault`, a file.
    pub name: String,
    /// Where it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// SHA-256 of its file, or of a shipped default's JSON.
    pub digest: Digest,
}

/// How starts under a profile went.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Starts {
    /// Starts that were watched from start to stop after the profile was made.
    pub starts: u32,
    /// Of these, those with a denial.
    pub denied: u32,
    /// Further starts that could not be judged.
    pub not_known: u32,
    /// The share of starts that may still meet a denial, at 95 % confidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upper_bound: Option<f64>,
}

/// What was added after a confined start was refused it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Added {
    /// The syscall.
    pub syscall: String,
    /// Under which conditions.
    pub when: String,
    /// What was seen.
    pub why: String,
}

/// Why a rule is there, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The workload made the call while it was recorded.
    Observed,
    /// A session beside the workload made the call.
    ExecSession,
    /// Added after a confined start was refused it.
    Added,
    /// A reviewer allowed it.
    Decision,
    /// Every program needs it.
    Always,
    /// It stands for an observed call on another kernel or C library.
    Sibling,
    /// It is called where another one is answered with `ENOSYS`.
    Fallback,
    /// Another kernel or machine makes it a real call.
    Portable,
    /// Values that do not matter for what the call may do.
    Harmless,
    /// Another branch of the GPU's driver calls it.
    Driver,
    /// The container runtime calls it between loading the filter and starting the workload.
    Runtime,
    /// Nothing says why.
    Unexplained,
}

/// Something to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Remark {
    /// What kind of thing it is, the same for good.
    pub id: String,
    /// How much of an objection it is.
    pub severity: Severity,
    /// In a few words.
    pub title: String,
    /// What is so, and why it matters.
    pub detail: String,
    /// The calls it is about.
    pub calls: Vec<String>,
    /// What to do about it.
    pub what_to_do: String,
    /// Where it was found: `profile` or `evidence`.
    pub found_in: String,
}

/// A call that is allowed where the reference refuses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Wider {
    /// The syscall; for numbers without a name `syscall_463 to syscall_511`.
    pub syscall: String,
    /// In which ABIs.
    pub abis: BTreeSet<Abi>,
    /// The cases that the profile allows beyond the reference, in words.
    pub here: Vec<String>,
    /// The cases that the reference allows; empty where it never does.
    pub there: Vec<String>,
    /// A call that shows the difference.
    pub example: String,
    /// Who allowed that, or some of it, and why.
    pub decided: Vec<String>,
    /// Decisions that allowed it, or some of it, and no longer count.
    pub expired: Vec<String>,
    /// Those of the cases that no decision answers for; empty where it was decided.
    pub open: Vec<String>,
}

/// What a reviewer decided, and whether it still counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Decided {
    /// Which way.
    pub verdict: Verdict,
    /// The syscall.
    pub syscall: String,
    /// The conditions that must all hold; `always` for the call as such.
    pub when: String,
    /// The same in words.
    pub words: String,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// The last day on which it counts; none for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Date>,
    /// Whether that day was over when the review was made.
    pub expired: bool,
}

/// Something that the workload did and that the profile refuses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct LeftOut {
    /// The syscall.
    pub syscall: String,
    /// With which arguments, in words; empty for any.
    pub arguments: Vec<String>,
    /// How often it was called.
    pub calls: u64,
    /// Whether it succeeded, at least once; none where as many calls of this name failed, perhaps these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<bool>,
    /// Who made it: `workload`, `runtime start`, `exec session`.
    pub whose: String,
    /// What took it out.
    pub by: String,
    /// Who accepted that, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<String>,
}

/// A syscall that is allowed.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Rule {
    /// The syscall.
    pub syscall: String,
    /// What it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub does: Option<String>,
    /// What it can be used for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// What allowing it opens up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opens: Option<String>,
    /// Why it is there: the strongest of its reasons.
    pub origin: Origin,
    /// Whether it is allowed whatever its arguments.
    pub always: bool,
    /// Whether the reference refuses some of it.
    pub wider: bool,
    /// The ways in which it is allowed.
    pub ways: Vec<Way>,
    /// How often the workload called it.
    pub calls: u64,
    /// In how many runs.
    pub runs: u64,
    /// In which phases.
    pub phases: BTreeSet<PhaseName>,
    /// Who made it first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<FirstSight>,
    /// How its calls ended.
    pub outcomes: BTreeMap<String, u64>,
    /// The arguments it was called with, the most frequent first.
    pub seen: Vec<Seen>,
    /// What reviewers decided about it.
    pub decisions: Vec<String>,
    /// The attacks that need it and stay open.
    pub attacks: Vec<String>,
}

/// One way in which a call is allowed, or several for the same reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Way {
    /// The alternatives in words.
    pub words: Vec<String>,
    /// The same as the profile has them.
    pub raw: Vec<String>,
    /// Why it is there, in a word.
    pub origin: Origin,
    /// Why it is there, a sentence each.
    pub reasons: Vec<String>,
}

/// Arguments that a call was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Seen {
    /// The call in words.
    pub call: String,
    /// How often.
    pub calls: u64,
    /// In which phases.
    pub phases: BTreeSet<PhaseName>,
    /// Who made it first.
    pub first: FirstSight,
    /// Whether an exec session made it.
    pub in_exec: bool,
}

/// Calls that are refused in another way than by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SpecialAnswer {
    /// The answer.
    pub answer: String,
    /// The syscalls.
    pub syscalls: Vec<String>,
    /// The conditions in words; `always` for none.
    pub when: String,
}

/// Something that no filter can see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Blind {
    /// What kind of thing it is.
    pub id: String,
    /// In a few words.
    pub title: String,
    /// Why a filter cannot see it.
    pub detail: String,
    /// The allowed calls that it is about.
    pub calls: Vec<String>,
    /// What can, in its place.
    pub instead: String,
}

/// What a filter refused while the workload was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Refused {
    /// The ABI.
    pub abi: Abi,
    /// The syscall.
    pub syscall: String,
    /// How often.
    pub times: u64,
    /// The answers, and how often each.
    pub answers: BTreeMap<String, u64>,
    /// Whether it was also carried out at other times.
    pub also_made: bool,
    /// Who was refused it first.
    pub first: FirstSight,
    /// What the profile does about it.
    pub here: Carried,
}

/// What the profile does about known attacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Attacks {
    /// How many it takes a needed call from.
    pub blocked: usize,
    /// How many the reference does.
    pub against_blocked: usize,
    /// How many a filter decides about.
    pub decided: usize,
    /// Each attack.
    pub rows: Vec<AttackRow>,
}

/// A known attack, and what the profile does about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AttackRow {
    /// Its CVE number, or the technique.
    pub name: String,
    /// The kind of attack.
    pub class: String,
    /// What else has to be so.
    pub gate: String,
    /// What the profile does.
    pub outcome: AttackOutcome,
    /// What the reference does.
    pub against: AttackOutcome,
    /// What is refused that it needs, or what is allowed that it uses.
    pub calls: Vec<String>,
    /// Whether it is in the corpus to show what no filter mitigates.
    pub control: bool,
    /// Where the needed calls are known from.
    pub source: String,
    /// What a reader should know besides.
    pub note: String,
}

/// What a profile does about an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AttackOutcome {
    /// All that it needs is allowed.
    Open,
    /// Something that it needs is refused.
    Blocked,
    /// It makes no call that a filter judges.
    Outside,
}

/// Calls that were made in the same phases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PhaseGroup {
    /// The phases.
    pub phases: BTreeSet<PhaseName>,
    /// The calls, those first that ask for most attention.
    pub syscalls: Vec<String>,
    /// Of these, those above harmless.
    pub notable: usize,
}

/// How many calls of a class are open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SurfaceClass {
    /// The class.
    pub risk: Risk,
    /// What it means.
    pub meaning: String,
    /// How many calls of the machine's own ABI are in it.
    pub known: usize,
    /// How many of these the reference allows, at least under conditions.
    pub against: usize,
    /// How many the profile allows whatever the arguments.
    pub always: usize,
    /// How many it allows under conditions.
    pub conditional: usize,
    /// Those that it allows.
    pub syscalls: Vec<String>,
}
