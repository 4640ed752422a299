//! What a reviewer would object to in a profile: each finding decided on the compiled filter, never on the text.
//!
//! It has what minijail's policy linter, seccomp-tools' audit and seccompute look for, and what only shows where a
//! filter can be asked about any arguments.

mod answers;
mod bypass;
mod entries;
mod needs;
mod powers;
mod subject;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trace::Abi;

use crate::{compile::CompileError, evidence::Evidence, profile::Profile};

/// Something about a profile that a reviewer should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Lint {
    /// What kind of thing it is: `wx-memory`, the same for good.
    pub id: &'static str,
    /// How much of an objection it is.
    pub severity: Severity,
    /// In a few words.
    pub title: String,
    /// What is so, and why it matters.
    pub detail: String,
    /// The calls it is about, by name.
    pub calls: Vec<String>,
    /// What to do about it.
    pub what_to_do: String,
}

/// How much of an objection a lint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// To know.
    Note,
    /// To look at before the profile is signed.
    Review,
    /// The profile does not hold what it seems to promise, or lets out of the container.
    Danger,
}

impl Severity {
    /// The word for it, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Review => "review",
            Self::Danger => "danger",
        }
    }
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a reviewer would object to, the worst first, then by name. `evidence` adds what can only be said about a
/// profile whose making is known.
///
/// # Errors
/// The profile cannot be compiled, or the kernel would not take its filter.
pub fn lint(profile: &Profile, native: Abi, evidence: Option<&Evidence>) -> Result<Vec<Lint>, CompileError> {
    let subject = subject::Subject::new(profile, native, evidence)?;
    let mut lints = answers::answers(&subject);
    lints.extend(powers::powers(&subject));
    lints.extend(bypass::bypasses(&subject));
    lints.extend(needs::needs(&subject));
    lints.extend(entries::entries(&subject));
    // Last: what the others could not be told is known by now.
    lints.extend(untold(&subject));
    lints.sort_by(|a, b| b.severity.cmp(&a.severity).then(a.id.cmp(b.id)).then(a.title.cmp(&b.title)));
    Ok(lints)
}

/// The calls of which something could not be told: what may be carried out counts as such, and nothing else is said.
fn untold(subject: &subject::Subject<'_>) -> Option<Lint> {
    let untold = subject.reach.untold();
    let names: BTreeSet<String> =
        untold.into_iter().map(|(abi, number)| abi.name(number).to_string()).collect();
    let names = || names.iter().map(String::as_str);
    names().next()?;
    Some(subject::found(
        ("undecided", Severity::Danger),
        "What passes could not be decided of every call",
        format!(
            "there are too many conditions on {}, and ways to meet them: what may pass there counts as if it did, and \
             its entries are not held against each other",
            subject::list(names())
        ),
        names(),
        "write fewer alternatives for a call, each a mask on one argument",
    ))
}
