//! Decisions of a reviewer, as `workload.toml` has them: read strictly, since a slip in one opens or closes a call.

use std::time::SystemTime;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use synth::{Date, DecisionVerdict, decode::read_conditions};

use crate::terminal::{quoted, visible};

/// One `[[decision]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decision {
    /// `allow`, `deny` or `accept`.
    pub(crate) verdict: DecisionVerdict,
    /// The syscall.
    pub(crate) syscall: String,
    /// The conditions that must all hold, as the report or evidence writes them; none for the call as such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) when: Option<String>,
    /// Why.
    pub(crate) reason: String,
    /// Who answers for it.
    pub(crate) owner: String,
    /// The last day on which it counts, `2026-12-31`; none for good. A `deny` has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<String>,
}

impl Decision {
    /// As the synthesizer takes it.
    pub(crate) fn resolve(&self) -> anyhow::Result<synth::Decision> {
        let context = || format!("decision `{}` of `{}`", self.verdict.as_str(), self.syscall);
        self.checked().with_context(context)
    }

    fn checked(&self) -> anyhow::Result<synth::Decision> {
        ensure!(
            synth::is_syscall(&self.syscall),
            "unknown syscall `{}`; write its name as the report does",
            self.syscall
        );
        for (text, name) in [(&self.reason, "reason"), (&self.owner, "owner")] {
            ensure!(!text.trim().is_empty(), "`{name}` is empty; say who answers for it, and why");
        }
        let when = match self.when.as_deref() {
            None => Vec::new(),
            Some("always") => bail!("`always` is no condition; leave `when` out"),
            Some(text) => read_conditions(&self.syscall, text)?,
        };
        ensure!(
            self.expires.is_none() || self.verdict != DecisionVerdict::Deny,
            "a `deny` holds until it is taken out; leave `expires` out"
        );
        let expires = self.expires.as_deref().map(str::parse::<Date>).transpose()?;
        Ok(synth::Decision {
            verdict: self.verdict,
            syscall: self.syscall.clone(),
            when,
            reason: self.reason.clone(),
            owner: self.owner.clone(),
            expires,
        })
    }
}

/// A decision that someone may take.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Proposal {
    /// Which way.
    pub(crate) verdict: DecisionVerdict,
    /// The syscall.
    pub(crate) syscall: String,
    /// The conditions that must all hold; none for the call as such.
    pub(crate) when: Option<String>,
}

impl Proposal {
    /// The shell command that writes decisions as `workload.toml` has them. Whoever runs it answers for them.
    pub(crate) fn command(proposals: &[Self], reason: &str) -> String {
        let mut lines = Vec::new();
        for Self { verdict, syscall, when } in proposals {
            let pair =
                |key: &str, value: &str| quoted(format!("{key} = {}", toml::Value::String(visible(value))));
            lines.extend(["''".to_owned(), quoted("[[decision]]"), pair("verdict", verdict.as_str())]);
            lines.push(pair("syscall", syscall));
            lines.extend(when.as_deref().map(|when| pair("when", when)));
            lines.push(pair("reason", reason));
            lines.push(r#""owner = \"$(id -un)\"""#.to_owned());
        }
        format!("printf '%s\\n' {}", lines.join(" "))
    }
}

/// This day, UTC.
pub(crate) fn today() -> Option<Date> {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string().get(..10)?.parse().ok()
}
