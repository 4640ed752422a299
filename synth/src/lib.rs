//! From evidence to seccomp rules: pure. Traces and tables come in as values, a profile and its evidence go out.
//!
//! [`synthesize`] runs the passes over a [`trace::Trace`]; [`compile`] makes the filter that a runtime would load
//! from a [`Profile`], and [`simulate`] asks it about any call.

pub mod arguments;
mod attacks;
mod clause;
mod compile;
mod condition;
mod decision;
pub mod decode;
mod evidence;
mod finding;
pub mod format;
mod kernel;
mod knowledge;
mod library;
mod names;
pub mod nvidia;
mod observe_profile;
mod passes;
mod profile;
mod reference;
mod rules;
mod runtime_table;
mod sidecar;
mod simulate;
mod stub;
mod synthesize;

pub use attacks::{
    Attack, AttackCall, AttackNeed, AttackScore, AttackVerdict, DockerDefault, attack_score, attacks,
};
pub use compile::{
    CompileError, CompileOptions, Instruction, Lookup, Program, compile, host_knows, library_version,
    repeats_an_argument,
};
pub use condition::{ConditionError, display_conditions, parse_conditions};
pub use decision::{Date, DateError, Decision, Verdict as DecisionVerdict};
pub use evidence::{
    Counts, EVIDENCE_VERSION, Evidence, EvidenceCeiling, EvidenceDecision, EvidenceError, EvidenceOptions,
    EvidenceRule, Reason, Workload, evidence_schema,
};
pub use finding::{Finding, Level};
pub use kernel::{Answer, Answerer, ask, bypasses_filters, is_constant_allow};
pub use library::{Libseccomp, UnknownLibseccomp};
pub use names::is_syscall;
pub use observe_profile::observe_profile;
pub use profile::{ARGUMENTS, Action, Architecture, Condition, Entry, Flag, Operator, Profile, ProfileError};
pub use reference::{Capabilities, Container, Reference, reference, references, version};
pub use runtime_table::{
    RuntimeCase, RuntimeName, RuntimeNeed, RuntimeTable, RuntimeTableError, shipped_runtime, shipped_runtimes,
};
pub use simulate::{Execution, MAX_INSTRUCTIONS, SeccompData, SimulateError, Verdict, execute, simulate};
pub use synthesize::{
    Addition, ArgumentMode, Ceiling, DefaultAction, GpuDrivers, Margin, Options, Runtime, SynthError,
    Synthesis, synthesize,
};
