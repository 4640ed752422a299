//! What two profiles answer differently: decided on their compiled filters, for every call that a program on the
//! machine can make, whatever the JSON looks like.
//!
//! Both filters are run at once over symbols instead of arguments ([`explore`]); where their answers differ, the
//! solver ([`word`]) has arguments for which they do, and those are the example. [`words`] says in which cases. What
//! costs more than its [`budget`] is undecided; a call that was found to be answered differently is one all the same.

mod budget;
mod call;
mod explore;
mod word;
mod words;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use trace::Abi;

use crate::{
    compile::{CompileError, CompileOptions, Program, compile},
    profile::Profile,
    simulate::{MAX_INSTRUCTIONS, SimulateError, Verdict},
};

pub(crate) use budget::{Budget, Question, TooHard};
pub(crate) use explore::{Numbers, Words, explore, smallest};
pub(crate) use word::Test;

/// What two profiles answer differently. Empty for two that mean the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Difference {
    /// The calls that are answered differently, by name, then by ABI and number.
    pub calls: Vec<CallDifference>,
    /// The calls of which it could not be decided, with the reason: they may differ or not, or in more cases than are
    /// known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undecided: Vec<Undecided>,
}

/// A call that is answered differently, at least with some arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CallDifference {
    /// Its name; for numbers without one `syscall_463`, or `syscall_463 to syscall_511`.
    pub name: String,
    /// Where: the same is true of each.
    pub places: Vec<Place>,
    /// What changed.
    pub change: Change,
    /// What the old one answers.
    pub old: Side,
    /// What the new one answers.
    pub new: Side,
    /// What the new one lets through and the old one does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gained: Option<Part>,
    /// What the old one lets through and the new one does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<Part>,
    /// What both refuse, or both let through, but not in the same way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered: Option<Part>,
}

/// Numbers of an ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Place {
    /// The ABI.
    pub abi: Abi,
    /// The first number; x32 without the marker bit.
    pub first: u32,
    /// The last one.
    pub last: u32,
}

/// What changed about a call, from the old filter to the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It was never carried out, and now is, at least with some arguments.
    NewlyAllowed,
    /// It was carried out, and still is, in more cases.
    Wider,
    /// It is carried out in other cases: some are new, and some are gone.
    Moved,
    /// It is still carried out, in fewer cases.
    Narrower,
    /// It was carried out, at least with some arguments, and never is now.
    NoLongerAllowed,
    /// It is carried out in the same cases, but answered differently: another errno, a signal, a log entry.
    Answer,
}

impl Change {
    /// As a person says it: `newly allowed`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NewlyAllowed => "newly allowed",
            Self::Wider => "wider",
            Self::Moved => "other conditions",
            Self::Narrower => "narrower",
            Self::NoLongerAllowed => "no longer allowed",
            Self::Answer => "another answer",
        }
    }
}

/// What one filter answers to a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Side {
    /// Every answer that it gives, by some arguments.
    #[serde(serialize_with = "as_texts")]
    #[schemars(with = "Vec<String>")]
    pub verdicts: BTreeSet<Verdict>,
    /// The cases in which it is carried out, in words, each an alternative; empty for never, `always` for any.
    pub when: Vec<String>,
}

impl Side {
    /// Whether it carries the call out, at least with some arguments.
    #[must_use]
    pub fn executes(&self) -> bool {
        self.verdicts.iter().any(|verdict| verdict.executes())
    }
}

/// Some of the arguments of a call, for which the answers differ.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Part {
    /// The cases in words, each an alternative; `always` for any arguments.
    pub when: Vec<String>,
    /// Arguments for which it is so: all 64 bits of each register.
    #[serde(serialize_with = "as_hex")]
    #[schemars(with = "Vec<String>")]
    pub example: [u64; 6],
    /// The call with these arguments in words, as far as the filters look at them.
    pub call: String,
    /// What the old filter answers to the example.
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "String")]
    pub old: Verdict,
    /// What the new one answers to it.
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "String")]
    pub new: Verdict,
}

/// Calls of which it could not be decided whether they are answered differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Undecided {
    /// Its name, as in [`CallDifference::name`].
    pub name: String,
    /// Where.
    pub place: Place,
    /// Why.
    pub why: String,
}

fn as_text<S: Serializer>(verdict: &Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(verdict)
}

fn as_texts<S: Serializer>(verdicts: &BTreeSet<Verdict>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(verdicts.iter().map(ToString::to_string))
}

fn as_hex<S: Serializer>(example: &[u64; 6], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(example.iter().map(|value| format!("{value:#x}")))
}

impl Difference {
    /// Whether the two mean the same, and nothing was left undecided.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.undecided.is_empty()
    }

    /// The calls of which the new filter lets something through that the old one does not.
    pub fn wider(&self) -> impl Iterator<Item = &CallDifference> {
        self.calls.iter().filter(|call| call.gained.is_some())
    }

    /// The calls of which the old filter lets something through that the new one does not.
    pub fn narrower(&self) -> impl Iterator<Item = &CallDifference> {
        self.calls.iter().filter(|call| call.lost.is_some())
    }
}

/// What `new` answers differently from `old`, on a machine whose own ABI is `native`.
///
/// All numbers of all ABIs of the machine are compared, those without a name in ranges. The kernel's exceptions
/// ([`crate::bypasses_filters`]) are not looked at: this is about the filters.
///
/// # Errors
/// One of the profiles cannot be compiled, or the kernel would not take its filter.
pub fn difference(
    old: &Profile,
    new: &Profile,
    native: Abi,
    options: CompileOptions,
) -> Result<Difference, CompileError> {
    let (before, now) = (loadable(old, native, options)?, loadable(new, native, options)?);
    Ok(call::compare(&call::Sides { old: (old, &before), new: (new, &now) }, native))
}

/// Compiles a profile to a filter that is no longer than the kernel takes.
pub(crate) fn loadable(
    profile: &Profile,
    native: Abi,
    options: CompileOptions,
) -> Result<Program, CompileError> {
    let program = compile(profile, native, options)?;
    match program.instructions.len() {
        length if length > MAX_INSTRUCTIONS => Err(CompileError::Filter(SimulateError::Length(length))),
        _ => Ok(program),
    }
}
