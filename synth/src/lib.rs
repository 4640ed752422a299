//! From evidence to seccomp rules: pure. Traces and tables come in as values, a profile and its evidence go out.
//!
//! [`synthesize`] runs the passes over a [`trace::Trace`]; [`compile`] makes the filter that a runtime would load
//! from a [`Profile`], and [`simulate`] asks it about any call.

pub mod arguments;
mod attacks;
mod catalogue;
mod clause;
mod compile;
mod completeness;
mod condition;
mod cost;
mod decision;
pub mod decode;
mod difference;
mod evidence;
mod explain;
mod finding;
pub mod format;
mod kernel;
mod knowledge;
mod library;
mod lint;
mod machine;
mod names;
pub mod nvidia;
mod observe_profile;
mod passes;
mod possible;
mod profile;
mod reach;
mod reference;
mod replay;
pub mod review;
mod rules;
mod runtime_table;
mod sidecar;
mod simulate;
mod stub;
mod synthesize;

pub use attacks::{
    Attack, AttackCall, AttackNeed, AttackScore, AttackVerdict, DockerDefault, attack_score, attacks,
};
pub use catalogue::{Description, Risk, catalogue, descriptions};
pub use compile::{
    CompileError, CompileOptions, Instruction, Lookup, Program, compile, host_knows, library_version,
    repeats_an_argument,
};
pub use completeness::{Completeness, CurvePoint, Estimate, Richness, Singleton, completeness};
pub use condition::{ConditionError, display_conditions, parse_conditions};
pub use cost::{CallCost, Cost, CostError, CostLookup, CostOf, FilterCost, Mix, cost};
pub use decision::{Date, DateError, Decision, Verdict as DecisionVerdict, allowing};
pub use difference::{CallDifference, Change, Difference, Part, Place, Side, Undecided, difference};
pub use evidence::{
    Counts, EVIDENCE_VERSION, Evidence, EvidenceCeiling, EvidenceDecision, EvidenceError, EvidenceOptions,
    EvidenceRule, Reason, Workload, evidence_schema,
};
pub use explain::{
    AbiAnswer, AttackUse, Carried, EXPLANATION_VERSION, Explanation, InProfile, Said, Together, Why, Within,
    explain,
};
pub use finding::{Finding, Level};
pub use kernel::{Answer, Answerer, ask, bypasses_filters, is_constant_allow};
pub use library::{Libseccomp, UnknownLibseccomp};
pub use lint::{Lint, Severity, lint};
pub use machine::Machine;
pub use names::is_syscall;
pub use observe_profile::observe_profile;
pub use possible::Registers;
pub use profile::{ARGUMENTS, Action, Architecture, Condition, Entry, Flag, Operator, Profile, ProfileError};
pub use reference::{Capabilities, Container, Reference, reference, references, version};
pub use replay::{
    Fact, Judge, Judgement, NotNeeded, Purpose, Replay, Section, Tallied, Tally, Unknown, replay,
};
pub use runtime_table::{
    RuntimeCase, RuntimeName, RuntimeNeed, RuntimeTable, RuntimeTableError, shipped_runtime, shipped_runtimes,
};
pub use simulate::{Execution, MAX_INSTRUCTIONS, SeccompData, SimulateError, Verdict, execute, simulate};
pub use synthesize::{
    Addition, ArgumentMode, Ceiling, DefaultAction, GpuDrivers, Margin, Options, Runtime, SynthError,
    Synthesis, ceiling, synthesize,
};
