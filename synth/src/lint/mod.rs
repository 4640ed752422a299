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
/// The profile cannot be compiled.
pub fn lint(profile: &Profile, native: Abi, evidence: Option<&Evidence>) -> Result<Vec<Lint>, CompileError> {
    let subject = subject::Subject::new(profile, native, evidence)?;
    let mut lints = answers::answers(&subject);
    lints.extend(powers::powers(&subject));
    lints.extend(bypass::bypasses(&subject));
    lints.extend(needs::needs(&subject));
    lints.extend(entries::entries(&subject));
    lints.sort_by(|a, b| b.severity.cmp(&a.severity).then(a.id.cmp(b.id)).then(a.title.cmp(&b.title)));
    Ok(lints)
}
