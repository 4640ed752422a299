//! The attack corpus, `profiles/knowledge/attacks.toml`: which known attacks a profile takes a needed call from.
//!
//! Judged on the compiled filter: a call counts as refused if the filter refuses it for every argument that the
//! attack can choose.

use std::sync::LazyLock;

use serde::Deserialize;
use trace::Abi;

use crate::{
    clause::Clause,
    compile::{CompileError, CompileOptions, Program, compile},
    condition::parse_conditions,
    profile::{Condition, Profile},
    simulate::{SeccompData, simulate},
};

/// A vulnerability or an escape, and what using it needs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attack {
    /// Its CVE number, or the technique.
    pub name: String,
    /// What is needed; all of it.
    pub needs: Vec<AttackNeed>,
    /// The kind of attack.
    pub class: String,
    /// What else has to be so.
    pub gate: String,
    /// What Docker's default profile does about it.
    pub docker: DockerDefault,
    /// Whether no filter mitigates it: reported apart.
    #[serde(default)]
    pub control: bool,
    /// Where the needed calls are known from.
    pub source: String,
    /// What a reader should know besides.
    #[serde(default)]
    pub note: String,
}

/// What Docker's default profile does about an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DockerDefault {
    /// It refuses something that is needed.
    Blocked,
    /// It allows all that is needed.
    Allowed,
    /// The attack makes no call inside the container.
    Outside,
}

/// Alternatives, of which an attack needs one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct AttackNeed {
    text: String,
    calls: Vec<(String, Vec<Condition>)>,
}

impl AttackNeed {
    /// As it stands in the table.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of the calls.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.calls.iter().map(|(name, _)| name.as_str())
    }
}

impl TryFrom<String> for AttackNeed {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let call = |call: &str| {
            let call = call.trim();
            let (name, conditions) = match call.split_once('(') {
                None => (call, Vec::new()),
                Some((name, rest)) => {
                    let inner = rest.strip_suffix(')').ok_or_else(|| format!("`{call}` has no `)`"))?;
                    (name, parse_conditions(inner).map_err(|error| error.to_string())?)
                }
            };
            if crate::is_syscall(name) {
                Ok((name.to_owned(), conditions))
            } else {
                Err(format!("unknown syscall `{name}`"))
            }
        };
        let calls = text.split('|').map(call).collect::<Result<_, String>>()?;
        Ok(Self { text, calls })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Corpus {
    attack: Vec<Attack>,
}

#[expect(clippy::expect_used, reason = "the file is part of the program, and a test reads it")]
static CORPUS: LazyLock<Vec<Attack>> = LazyLock::new(|| {
    let text = include_str!("../../profiles/knowledge/attacks.toml");
    toml::from_str::<Corpus>(text).expect("the shipped corpus reads").attack
});

/// The whole corpus.
#[must_use]
pub fn attacks() -> &'static [Attack] {
    &CORPUS
}

/// What a profile does about an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttackVerdict {
    /// It refuses this.
    Blocked(&'static AttackNeed),
    /// It allows all that is needed.
    Open,
    /// The attack makes no call inside the container: no filter decides about it.
    Outside,
}

/// What a profile does about the corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttackScore {
    /// Each attack with the verdict, in the table's order.
    pub rows: Vec<(&'static Attack, AttackVerdict)>,
}

impl AttackScore {
    /// How many attacks are blocked.
    #[must_use]
    pub fn blocked(&self) -> usize {
        self.rows.iter().filter(|(_, verdict)| matches!(verdict, AttackVerdict::Blocked(_))).count()
    }

    /// How many attacks a filter decides about.
    #[must_use]
    pub fn decided(&self) -> usize {
        self.rows.iter().filter(|(_, verdict)| *verdict != AttackVerdict::Outside).count()
    }

    /// The attacks that stay open, negative controls left aside.
    pub fn open(&self) -> impl Iterator<Item = &'static Attack> {
        let open = |(_, verdict): &&(&Attack, AttackVerdict)| *verdict == AttackVerdict::Open;
        self.rows.iter().filter(open).map(|(attack, _)| *attack).filter(|attack| !attack.control)
    }
}

/// Judges a profile by the corpus, for calls through the machine's own ABI.
///
/// # Errors
/// The profile cannot be compiled.
pub fn attack_score(profile: &Profile, native: Abi) -> Result<AttackScore, CompileError> {
    let program = compile(profile, native, CompileOptions::default())?;
    let judge = Judge { profile, program, native };
    let rows = attacks().iter().map(|attack| (attack, judge.attack(attack))).collect();
    Ok(AttackScore { rows })
}

struct Judge<'a> {
    profile: &'a Profile,
    program: Program,
    native: Abi,
}

impl Judge<'_> {
    fn attack(&self, attack: &'static Attack) -> AttackVerdict {
        if attack.docker == DockerDefault::Outside {
            return AttackVerdict::Outside;
        }
        let refused =
            |need: &&AttackNeed| !need.calls.iter().any(|(name, conditions)| self.passes(name, conditions));
        attack.needs.iter().find(refused).map_or(AttackVerdict::Open, AttackVerdict::Blocked)
    }

    /// Whether some arguments that meet the conditions pass the filter. Where the profile allows the call under
    /// conditions of its own, arguments that meet both are tried; the filter has the last word.
    fn passes(&self, name: &str, conditions: &[Condition]) -> bool {
        let Some(number) = self.native.number(name) else { return false };
        let wanted = Clause::alternatives(conditions, |_| false);
        let entries = self.profile.syscalls.iter().filter(|entry| entry.names.iter().any(|own| own == name));
        let offered = entries.flat_map(|entry| Clause::of_entry(&entry.args, |_| false));
        let both: Vec<Clause> = offered
            .flat_map(|offer| wanted.iter().filter_map(|want| want.and(&offer)).collect::<Vec<_>>())
            .collect();
        wanted.iter().chain(&both).any(|clause| {
            let data = SeccompData::call(self.native, number, clause.witness());
            simulate(&self.program, &data).is_ok_and(crate::Verdict::executes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{Container, reference};

    #[test]
    fn the_corpus_says_of_docker_what_the_filter_does() {
        let docker = reference("docker").unwrap().resolve(&Container::new(Abi::X86_64, (6, 18)));
        let score = attack_score(&docker, Abi::X86_64).unwrap();
        assert_eq!((score.blocked(), score.decided()), (62, 111));
        for (attack, verdict) in &score.rows {
            let expected = match attack.docker {
                DockerDefault::Blocked => matches!(verdict, AttackVerdict::Blocked(_)),
                DockerDefault::Allowed => *verdict == AttackVerdict::Open,
                DockerDefault::Outside => *verdict == AttackVerdict::Outside,
            };
            assert!(expected, "{}: {verdict:?}", attack.name);
        }
        let controls = attacks().iter().filter(|attack| attack.control);
        assert_eq!(controls.filter(|attack| attack.docker != DockerDefault::Outside).count(), 3);
    }

    #[test]
    fn an_attack_may_choose_the_arguments_it_leaves_open() {
        let read = |text: &str| Profile::read(text.as_bytes()).unwrap();
        let blocked = |args: &str, name: &str| {
            let profile = read(&format!(
                r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                    {{"names": ["splice", "write", "openat", "pipe2"], "action": "SCMP_ACT_ALLOW", "args": [{args}]}}]}}"#
            ));
            let score = attack_score(&profile, Abi::X86_64).unwrap();
            let (_, verdict) = score.rows.iter().find(|(attack, _)| attack.name == name).unwrap();
            matches!(verdict, AttackVerdict::Blocked(_))
        };
        // Dirty Pipe: any arguments will do, so a condition that some meet does not stop it.
        assert!(!blocked("", "CVE-2022-0847"));
        assert!(!blocked(r#"{"index": 3, "value": 77, "op": "SCMP_CMP_EQ"}"#, "CVE-2022-0847"));
        assert!(blocked("", "CVE-2017-6951"));
    }
}
