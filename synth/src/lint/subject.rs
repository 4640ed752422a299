//! The profile that is looked at, and what every check asks of it.

use std::collections::BTreeSet;

use trace::Abi;

use super::{Lint, Severity};
use crate::{
    clause::Clause,
    compile::{CompileError, CompileOptions},
    condition::parse_conditions,
    decode,
    difference::loadable,
    evidence::{Evidence, Reason},
    profile::{Condition, Profile},
    reach::{Found, Reach},
};

/// More names than a sentence bears are counted.
const MOST_NAMES: usize = 12;

/// No request of a driver, and no option: what passes with it passes with any.
const NO_VALUE: u64 = 0xdead_5e1f;

/// A profile with its filter, and why it is as it is.
pub(super) struct Subject<'a> {
    pub(super) profile: &'a Profile,
    pub(super) options: CompileOptions,
    pub(super) reach: Reach,
    pub(super) evidence: Option<&'a Evidence>,
}

impl<'a> Subject<'a> {
    pub(super) fn new(
        profile: &'a Profile,
        native: Abi,
        evidence: Option<&'a Evidence>,
    ) -> Result<Self, CompileError> {
        // The same on every host: what the oldest libseccomp that the profile is for makes of it.
        let named = evidence.and_then(|evidence| evidence.options.libseccomp.as_deref()?.parse().ok());
        let options = CompileOptions::default().with_libseccomp(named.unwrap_or_default());
        let program = loadable(profile, native, options)?;
        Ok(Self { profile, options, reach: Reach::new(program, native), evidence })
    }

    /// The machine's own ABI.
    pub(super) const fn native(&self) -> Abi {
        self.reach.native()
    }

    /// Whether a native call of this name that meets the conditions is carried out, as far as it could be told: what was
    /// not counts as one.
    pub(super) fn passes(&self, name: &str, conditions: &[Condition]) -> bool {
        self.reach.passes(self.native(), name, conditions) != Found::No
    }

    /// The same, of every ABI of the machine: the first in which it is so, and whether that could be told.
    pub(super) fn passes_anywhere(&self, name: &str, conditions: &[Condition]) -> Option<(Abi, bool)> {
        let passing = |abi: Abi| match self.reach.passes(abi, name, conditions) {
            Found::Yes => Some((abi, true)),
            Found::No => None,
            Found::Untold => Some((abi, false)),
        };
        self.reach.abis().iter().copied().find_map(passing)
    }

    /// Who needs the call with these arguments, as far as the evidence says; empty without evidence.
    fn needed_by(&self, name: &str, conditions: &[Condition]) -> String {
        let Some(evidence) = self.evidence else { return String::new() };
        let wanted = Clause::alternatives(conditions, |_| false);
        // A text that is no condition may be about these arguments.
        let about = |text: &String| {
            let read = if text == "always" { Ok(Vec::new()) } else { parse_conditions(text) };
            let own = read.map(|read| Clause::alternatives(&read, |_| false)).unwrap_or_default();
            own.is_empty() || own.iter().any(|own| wanted.iter().any(|want| own.and(want).is_some()))
        };
        let rules = evidence.rules.iter().filter(|rule| rule.syscall == name && rule.when.iter().any(about));
        let reasons: Vec<&Reason> = rules.flat_map(|rule| &rule.reasons).collect();
        let seen = reasons.iter().filter_map(|reason| match reason {
            Reason::Observed { calls, first, .. } | Reason::ExecSession { calls, first, .. } => {
                Some((*calls, first))
            }
            _ => None,
        });
        let calls = seen.clone().map(|(calls, _)| calls).fold(0, u64::saturating_add);
        match seen.map(|(_, first)| first).next() {
            Some(first) => {
                format!("a rule for `{name}` is there for {calls} calls, the first by {}", first.comm)
            }
            None if reasons.is_empty() => format!("the evidence has no rule for `{name}`"),
            None if reasons.iter().all(|reason| reason.is_runtime()) => {
                format!("`{name}` was not observed; it is there for the container runtime")
            }
            None => format!("`{name}` was not observed"),
        }
    }

    /// The same of several calls, as the end of a detail.
    pub(super) fn needed_by_all<'n>(
        &self,
        calls: impl IntoIterator<Item = (&'n str, &'n [Condition])>,
    ) -> String {
        if self.evidence.is_none() {
            return String::new();
        }
        let sentences: BTreeSet<String> =
            calls.into_iter().map(|(name, conditions)| self.needed_by(name, conditions)).collect();
        let shown: Vec<String> = sentences.into_iter().take(MOST_NAMES).collect();
        format!(". Evidence: {}", shown.join("; "))
    }
}

/// A call as a table here names it: `unshare`, `ioctl(arg1 & 0xffffffff == 0x5412)`.
pub(super) struct Pattern {
    pub(super) name: &'static str,
    pub(super) conditions: Vec<Condition>,
}

/// The calls of a text, separated by `|`. A text that cannot be read names no call, which a test of each table finds.
pub(super) fn patterns(text: &'static str) -> Vec<Pattern> {
    let one = |call: &'static str| {
        let call = call.trim();
        let Some((name, rest)) = call.split_once('(') else {
            return Some(Pattern { name: call, conditions: Vec::new() });
        };
        let conditions = parse_conditions(rest.strip_suffix(')')?).ok()?;
        Some(Pattern { name, conditions })
    };
    text.split('|').filter_map(one).collect()
}

/// A call with what is asked of its arguments, in words.
pub(super) fn shown(abi: Abi, pattern: &Pattern) -> String {
    let at = if matches!(abi, Abi::X86_64 | Abi::Aarch64) { String::new() } else { format!(" ({abi})") };
    let Pattern { name, conditions } = pattern;
    if conditions.is_empty() || conditions.iter().any(|condition| condition.value_two == NO_VALUE) {
        return format!("`{name}`{at}");
    }
    format!("`{name}`{at} with {}", decode::conditions(abi, name, conditions))
}

/// Names for a sentence, each in back-ticks; beyond a dozen the rest is counted.
pub(super) fn list<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: BTreeSet<&str> = names.into_iter().collect();
    let shown: Vec<String> = names.iter().take(MOST_NAMES).map(|name| format!("`{name}`")).collect();
    match names.len().checked_sub(MOST_NAMES) {
        Some(more) if more > 0 => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

/// Names as a lint carries them: ordered, each once.
pub(super) fn names<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<String> {
    names.into_iter().collect::<BTreeSet<&str>>().into_iter().map(str::to_owned).collect()
}

/// A lint about these calls.
pub(super) fn found<'n>(
    (id, severity): (&'static str, Severity),
    title: impl Into<String>,
    detail: impl Into<String>,
    calls: impl IntoIterator<Item = &'n str>,
    what_to_do: impl Into<String>,
) -> Lint {
    let (title, detail, what_to_do) = (title.into(), detail.into(), what_to_do.into());
    Lint { id, severity, title, detail, calls: names(calls), what_to_do }
}
