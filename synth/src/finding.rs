//! Findings: what a person should know about a profile before relying on it.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trace::{Abi, strict};

use crate::{
    decision::{Date, Verdict},
    decode,
};

/// Something a person should know about a profile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Finding {
    /// The recording was not closed in order, and was accepted all the same.
    Incomplete,
    /// The recorder lost calls, and the recording was accepted all the same.
    LostCalls {
        /// How many events or calls are known to be missing.
        lost: u64,
    },
    /// The start of the workload is not in the recording.
    StartupNotRecorded,
    /// A filter was already on the workload while it was recorded.
    Confined {
        /// How many calls that filter answered.
        denied: u64,
        /// Which, by name, and how often each.
        #[serde(default, deserialize_with = "strict::map")]
        #[schemars(with = "BTreeMap<String, u64>")]
        refused: BTreeMap<String, u64>,
    },
    /// The workload called it, and the ceiling does not allow it.
    AboveCeiling {
        /// The syscall.
        syscall: String,
        /// How often it was called.
        calls: u64,
        /// Whether it succeeded at least once, as far as the recorder could see.
        succeeded: bool,
    },
    /// The workload called it, and the ceiling, or a decision beyond it, allows it only under conditions; the recording
    /// does not say whether the workload's calls meet them.
    Narrowed {
        /// The syscall.
        syscall: String,
        /// The alternatives under which it is allowed.
        when: Vec<String>,
    },
    /// It was not observed but would have been added, and the ceiling does not allow it.
    MarginAboveCeiling {
        /// The syscall.
        syscall: String,
    },
    /// The workload called it; it is answered with `ENOSYS`, and programs fall back.
    AnsweredEnosys {
        /// The syscall.
        syscall: String,
        /// How often it was called.
        calls: u64,
    },
    /// Every call was refused by a filter while recording, so it is not needed.
    OnlyRefused {
        /// The syscall.
        syscall: String,
        /// Through which ABI.
        abi: Abi,
        /// How often.
        denied: u64,
    },
    /// A number that no table names cannot be in a profile, which goes by names.
    Unnamed {
        /// The ABI.
        abi: Abi,
        /// The number.
        number: u32,
        /// How often it was called.
        calls: u64,
    },
    /// No table is of the runtime's version, so that of the nearest shipped version was taken.
    NearestRuntime {
        /// The runtime with its version.
        runtime: String,
        /// The version of the table.
        table: String,
    },
    /// No table is of the runtime that started the workload, so all were taken.
    UnknownRuntime {
        /// The runtime, as the trace names it.
        runtime: String,
    },
    /// It is allowed, but a node with this libseccomp does not know the name and refuses it.
    UnknownToLibseccomp {
        /// The syscall.
        syscall: String,
        /// The oldest supported libseccomp.
        libseccomp: String,
    },
    /// Profiles go by name: these are allowed in an ABI in which they were not observed.
    OtherAbi {
        /// The ABI.
        abi: Abi,
        /// The syscalls.
        syscalls: BTreeSet<String>,
    },
    /// The recording does not say with which arguments these were called, so they are allowed with any that the
    /// ceiling allows.
    WithoutArguments {
        /// The syscalls.
        syscalls: BTreeSet<String>,
    },
    /// It was called with more different arguments than a recording keeps, or with some that could not be read:
    /// it is allowed with those that are known, until someone decides.
    Wide {
        /// The syscall.
        syscall: String,
        /// Through which ABI.
        abi: Abi,
        /// Calls whose arguments are not known.
        beyond: u64,
    },
    /// The workload called it with arguments that the ceiling does not allow.
    ArgumentsAboveCeiling {
        /// The syscall.
        syscall: String,
        /// The arguments, in words.
        arguments: BTreeSet<String>,
        /// How often.
        calls: u64,
    },
    /// Every call failed with the same errno, as a probe does: it is refused with that errno.
    ProbeRefused {
        /// The syscall.
        syscall: String,
        /// The errno.
        errno: String,
        /// How often it was called.
        calls: u64,
    },
    /// A 32-bit argument came with an upper half that was not zero; the rule compares the lower one.
    UpperHalf {
        /// The syscall.
        syscall: String,
        /// The arguments.
        arguments: BTreeSet<String>,
        /// How often.
        calls: u64,
    },
    /// The workload asked for new namespaces.
    NamespaceFlags {
        /// The syscall.
        syscall: String,
        /// The flags, in words.
        flags: String,
        /// How often.
        calls: u64,
    },
    /// The workload asked for memory that is writable and executable at once.
    WritableExecutable {
        /// The syscall.
        syscall: String,
        /// How often.
        calls: u64,
    },
    /// A request to the GPU's driver that is not allowed unless someone decides so.
    NeverDerived {
        /// The request.
        request: String,
        /// The device.
        device: String,
        /// How often it was made.
        calls: u64,
    },
    /// A reviewer denied what the workload called.
    Denied {
        /// The syscall.
        syscall: String,
        /// The conditions; `always` for the call as such.
        when: String,
        /// How often the workload called that.
        calls: u64,
    },
    /// A reviewer accepted what was found.
    Accepted {
        /// The syscall.
        syscall: String,
        /// What was found.
        found: String,
        /// The same as data: what is accepted is this, and nothing that may be found later. Since 1.3.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        finding: Option<Box<Self>>,
        /// Who accepted it.
        owner: String,
        /// Why.
        reason: String,
        /// The last day on which that counts; none for good.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires: Option<Date>,
    },
    /// A decision to allow or to accept no longer counts.
    DecisionExpired {
        /// Which way it went.
        verdict: Verdict,
        /// The syscall.
        syscall: String,
        /// Who answers for it.
        owner: String,
        /// The last day on which it counted.
        expired: Date,
    },
}

/// What a finding asks of its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// To know.
    Note,
    /// To look at before the profile is used.
    Review,
    /// The evidence is incomplete.
    Incomplete,
    /// Someone has to decide before the profile can be relied on.
    Undecided,
}

impl Finding {
    /// What it asks of its reader.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self {
            Self::Incomplete | Self::LostCalls { .. } | Self::StartupNotRecorded => Level::Incomplete,
            // A filter that refused nothing hid nothing.
            Self::Confined { denied: 0, .. } => Level::Note,
            Self::Confined { .. }
            | Self::NearestRuntime { .. }
            | Self::UnknownRuntime { .. }
            | Self::AboveCeiling { .. }
            | Self::Unnamed { .. }
            | Self::WithoutArguments { .. }
            | Self::ArgumentsAboveCeiling { .. }
            | Self::NamespaceFlags { .. }
            | Self::WritableExecutable { .. }
            | Self::NeverDerived { .. }
            | Self::DecisionExpired { .. }
            | Self::UnknownToLibseccomp { .. } => Level::Review,
            Self::Wide { .. } => Level::Undecided,
            // Nearly every workload uses clone and socket, and the engines' defaults bound both.
            Self::Narrowed { .. }
            | Self::MarginAboveCeiling { .. }
            | Self::AnsweredEnosys { .. }
            | Self::OnlyRefused { .. }
            | Self::ProbeRefused { .. }
            | Self::UpperHalf { .. }
            | Self::Denied { .. }
            | Self::Accepted { .. }
            | Self::OtherAbi { .. } => Level::Note,
        }
    }

    /// The call that it is about, where it is one.
    #[must_use]
    pub fn syscall(&self) -> Option<&str> {
        match self {
            Self::AboveCeiling { syscall, .. }
            | Self::Narrowed { syscall, .. }
            | Self::MarginAboveCeiling { syscall }
            | Self::AnsweredEnosys { syscall, .. }
            | Self::OnlyRefused { syscall, .. }
            | Self::UnknownToLibseccomp { syscall, .. }
            | Self::Wide { syscall, .. }
            | Self::ArgumentsAboveCeiling { syscall, .. }
            | Self::ProbeRefused { syscall, .. }
            | Self::UpperHalf { syscall, .. }
            | Self::NamespaceFlags { syscall, .. }
            | Self::WritableExecutable { syscall, .. }
            | Self::Denied { syscall, .. }
            | Self::Accepted { syscall, .. }
            | Self::DecisionExpired { syscall, .. } => Some(syscall),
            Self::NeverDerived { .. } => Some("ioctl"),
            Self::Incomplete
            | Self::LostCalls { .. }
            | Self::StartupNotRecorded
            | Self::Confined { .. }
            | Self::Unnamed { .. }
            | Self::NearestRuntime { .. }
            | Self::UnknownRuntime { .. }
            | Self::OtherAbi { .. }
            | Self::WithoutArguments { .. } => None,
        }
    }

    /// One line for a person.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Incomplete => "the recording was not closed in order: calls may be missing".to_owned(),
            Self::LostCalls { lost } => format!("the recorder lost at least {lost} calls or events"),
            Self::StartupNotRecorded => {
                "the workload's start was not recorded: what only a start needs is missing".to_owned()
            }
            Self::Confined { denied: 0, .. } => {
                "a filter was already on the workload while it was recorded, and refused nothing".to_owned()
            }
            Self::Confined { denied, refused } => confined(*denied, refused),
            Self::AboveCeiling { syscall, calls, succeeded } => format!(
                "`{syscall}` was called {}{} and is not allowed by the ceiling: it will be refused",
                times(*calls),
                if *succeeded { " and succeeded" } else { " and never succeeded" }
            ),
            // Names of values differ between 64-bit ABIs only for flags of `open`, which no ceiling bounds.
            Self::Narrowed { syscall, when } => format!(
                "`{syscall}` is allowed only where {}; the recording does not say whether the workload's calls are such",
                decode::alternatives(Abi::X86_64, syscall, when)
            ),
            Self::MarginAboveCeiling { syscall } => {
                format!("`{syscall}` was not observed, and is left out because the ceiling does not allow it")
            }
            Self::AnsweredEnosys { syscall, calls } => format!(
                "`{syscall}` was called {} and is answered with ENOSYS, so that programs fall back",
                times(*calls)
            ),
            Self::OnlyRefused { syscall, abi, denied } => format!(
                "`{syscall}` ({abi}) was refused by a filter {} while recording: not needed, not allowed",
                all_times(*denied)
            ),
            Self::Unnamed { abi, number, calls } => format!(
                "number {number} of {abi} was called {}; no name for it is known, so it will be refused",
                times(*calls)
            ),
            Self::NearestRuntime { runtime, table } => format!(
                "no table is of {runtime}, so the nearest shipped one, {table}, was taken; measure yours with `seccomp-learn runtime-base`"
            ),
            Self::UnknownRuntime { runtime } => format!(
                "`{runtime}` is a runtime without a table, so those of runc and crun were taken; try the profile with `seccomp-learn test` before relying on it"
            ),
            Self::UnknownToLibseccomp { syscall, libseccomp } => format!(
                "`{syscall}` is not known to libseccomp {libseccomp}: nodes with that version will refuse it"
            ),
            Self::OtherAbi { abi, syscalls } => format!(
                "{} calls are allowed in {abi} that were not observed there, since profiles go by name",
                syscalls.len()
            ),
            Self::WithoutArguments { syscalls } => format!(
                "the recording does not say with which arguments {} were called: record again, so that rules can go by them",
                list(syscalls)
            ),
            Self::Wide { syscall, beyond, .. } => format!(
                "`{syscall}` was called {} with arguments that are not known, being too many or unreadable, and will be refused unless they are among those that are: decide in `workload.toml` to `allow` or to `accept` that",
                times(*beyond)
            ),
            Self::ArgumentsAboveCeiling { syscall, arguments, calls } => format!(
                "`{syscall}` was called {} with arguments that the ceiling does not allow: {}; that will be refused",
                times(*calls),
                list(arguments)
            ),
            Self::ProbeRefused { syscall, errno, calls } => {
                format!(
                    "`{syscall}` failed with {errno} {}, so it stays refused with {errno}",
                    all_times(*calls)
                )
            }
            Self::UpperHalf { syscall, arguments, calls } => format!(
                "`{syscall}` was called {} with something in the upper half of {}, which the kernel does not read, nor does the rule",
                times(*calls),
                list(arguments)
            ),
            Self::NamespaceFlags { syscall, flags, calls } => {
                format!("`{syscall}` asked for new namespaces {}: {flags}", times(*calls))
            }
            Self::WritableExecutable { syscall, calls } => format!(
                "`{syscall}` asked {} for memory that is writable and executable at once, so that is allowed",
                times(*calls)
            ),
            Self::NeverDerived { request, device, calls } => format!(
                "{request} was called {} on {device}: it would let every other request through, so it is not allowed unless a decision says so",
                times(*calls)
            ),
            Self::Denied { syscall, when, calls } => {
                format!(
                    "`{syscall}` ({when}) is denied by a decision; the workload called it {}",
                    times(*calls)
                )
            }
            Self::Accepted { found, owner, reason, expires, .. } => {
                let until = expires.map_or_else(String::new, |expires| format!(" until {expires}"));
                format!("accepted by {owner}{until} ({reason}): {found}")
            }
            Self::DecisionExpired { verdict, syscall, owner, expired } => format!(
                "the decision of {owner} to {} `{syscall}` expired after {expired} and no longer counts",
                verdict.as_str()
            ),
        }
    }
}

/// So many calls, in words.
pub(crate) fn calls(number: usize) -> String {
    if number == 1 { "one call".to_owned() } else { format!("{number} calls") }
}

/// How often, in words.
fn times(number: u64) -> String {
    if number == 1 { "once".to_owned() } else { format!("{number} times") }
}

/// Every time, in words.
fn all_times(number: u64) -> String {
    if number == 1 { "the one time".to_owned() } else { format!("all {number} times") }
}

/// The first of a list, and how many more there are.
fn list<'a>(words: impl IntoIterator<Item = &'a String>) -> String {
    /// More than these would hide the sentence around them.
    const LISTED: usize = 12;
    let words: Vec<&str> = words.into_iter().map(String::as_str).collect();
    let more = words.len().saturating_sub(LISTED);
    let mut text = words.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(", {more} more"));
    }
    text
}

/// What a filter refused while recording, and what that means.
fn confined(denied: u64, refused: &BTreeMap<String, u64>) -> String {
    let list = list(&refused.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>());
    let list = if list.is_empty() { String::new() } else { format!(" ({list})") };
    format!(
        "a filter was already on the workload and answered {denied} calls{list}: what would come after them was not seen; record it unconfined if it needs them"
    )
}
