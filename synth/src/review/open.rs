//! Which calls a profile carries out, judged by its compiled filter and not by its text: what no rule names counts,
//! too, where the default lets it through.

use std::collections::BTreeMap;

use trace::Abi;

use crate::{
    compile::{CompileError, CompileOptions, host_knows},
    possible::Registers,
    profile::Profile,
    replay::Judge,
};

/// The calls of a machine's own ABI that are carried out, by name, and whether whatever their arguments.
#[derive(Clone, Debug, Default)]
pub(super) struct Open(BTreeMap<String, bool>);

impl Open {
    pub(super) fn of(profile: &Profile, native: Abi) -> Result<Self, CompileError> {
        let judge = Judge::new(profile, native, CompileOptions::default())?;
        let mut open = BTreeMap::new();
        for number in native.numbers() {
            let name = native.name(number).to_string();
            // Nodes with a newer libseccomp have names in their filters that this host's leaves out.
            if !host_knows(&name) {
                if let Some(always) = as_written(profile, &name) {
                    open.insert(name, always);
                }
                continue;
            }
            let verdicts = judge.verdicts(native, number, &Registers::default());
            let (any, all) = verdicts.map_or((true, false), |verdicts| {
                let executes = |verdict: &crate::Verdict| verdict.executes();
                (verdicts.iter().any(executes), verdicts.iter().all(executes))
            });
            if any {
                open.insert(name, all);
            }
        }
        Ok(Self(open))
    }

    /// Whether the call is carried out whatever its arguments; none if it never is.
    pub(super) fn get(&self, name: &str) -> Option<bool> {
        self.0.get(name).copied()
    }

    /// The calls that are carried out, and whether whatever their arguments.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, bool)> {
        self.0.iter().map(|(name, always)| (name.as_str(), *always))
    }
}

/// What the profile's text says of a name; none if it refuses it.
pub(super) fn as_written(profile: &Profile, name: &str) -> Option<bool> {
    let entries = || profile.syscalls.iter().filter(|entry| entry.names.iter().any(|own| own == name));
    if entries().next().is_none() {
        return profile.default_action.executes().then_some(true);
    }
    let mut allowed = entries().filter(|entry| entry.action.executes()).peekable();
    allowed.peek()?;
    Some(allowed.any(|entry| entry.args.is_empty()))
}
