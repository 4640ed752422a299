//! The attack corpus, `profiles/knowledge/attacks.toml`: which known attacks a profile takes a needed call from.
//!
//! Judged on the compiled filter: a call counts as refused only if the filter refuses it for every choice of the
//! arguments that the attack leaves open, the upper halves included that the kernel does not read.

use std::{collections::BTreeSet, sync::LazyLock};

use serde::Deserialize;
use trace::Abi;

use crate::{
    arguments::is_narrow,
    clause::Clause,
    compile::{CompileError, CompileOptions, Program, compile},
    condition::parse_conditions,
    decode,
    profile::{Condition, Operator, Profile},
    simulate::{SeccompData, simulate},
};

/// How many arguments are tried before a call that the filter refuses here and there counts as open.
const MOST_TRIES: usize = 1_000;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttackVerdict {
    /// It refuses this, with all its alternatives.
    Blocked(&'static AttackNeed),
    /// It allows all that is needed: for each need a call that passes.
    Open(Vec<AttackCall>),
    /// The attack makes no call inside the container: no filter decides about it.
    Outside,
}

/// A call that an attack needs and a profile allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttackCall {
    /// What it is needed for.
    pub need: &'static AttackNeed,
    /// The call, one of the need's alternatives.
    pub syscall: &'static str,
    /// Arguments that meet the need's conditions and pass; others may, too.
    pub arguments: [u64; 6],
    /// Whether the profile has conditions on the call, which these arguments meet.
    pub conditioned: bool,
}

impl AttackCall {
    /// Why it passes, in words: the name of a call that the profile allows always, or the arguments that meet its
    /// conditions.
    #[must_use]
    pub fn in_words(&self, native: Abi) -> String {
        if self.conditioned {
            decode::call(native, self.syscall, &self.arguments, &decode::Context::default())
        } else {
            self.syscall.to_owned()
        }
    }
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

    /// The attacks that stay open, with what they need and get; negative controls left aside.
    pub fn open(&self) -> impl Iterator<Item = (&'static Attack, &[AttackCall])> {
        self.rows.iter().filter(|(attack, _)| !attack.control).filter_map(|(attack, verdict)| match verdict {
            AttackVerdict::Open(calls) => Some((*attack, calls.as_slice())),
            AttackVerdict::Blocked(_) | AttackVerdict::Outside => None,
        })
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
        let mut passing = Vec::new();
        for need in &attack.needs {
            match self.need(need) {
                Some(call) => passing.push(call),
                None => return AttackVerdict::Blocked(need),
            }
        }
        AttackVerdict::Open(passing)
    }

    fn need(&self, need: &'static AttackNeed) -> Option<AttackCall> {
        need.calls.iter().find_map(|(syscall, conditions)| {
            let arguments = self.passing(syscall, conditions)?;
            let mut entries = self.entries(syscall, true);
            let conditioned = !entries.any(|entry| entry.is_empty());
            Some(AttackCall { need, syscall, arguments, conditioned })
        })
    }

    /// The conditions of the entries that carry a call out, or that do not.
    fn entries<'b>(&'b self, name: &'b str, executes: bool) -> impl Iterator<Item = &'b [Condition]> {
        let entries = self.profile.syscalls.iter().filter(move |entry| entry.action.executes() == executes);
        entries
            .filter(move |entry| entry.names.iter().any(|own| own == name))
            .map(|entry| entry.args.as_slice())
    }

    /// Arguments that meet the conditions and pass the filter, if any do. The profile's rules say where to look, the
    /// filter has the last word: arguments that meet the conditions and a rule that allows the call are tried, and
    /// where a rule refuses those, the others.
    fn passing(&self, name: &str, conditions: &[Condition]) -> Option<[u64; 6]> {
        let number = self.native.number(name)?;
        let conditions: Vec<Condition> = conditions.iter().map(|own| as_read(name, *own)).collect();
        let clauses = |entries: &mut dyn Iterator<Item = &[Condition]>| -> BTreeSet<Clause> {
            entries.flat_map(|args| Clause::of_entry(args, |_| false)).collect()
        };
        let wanted = Clause::alternatives(&conditions, |_| false);
        let offered = clauses(&mut self.entries(name, true));
        let refusing = clauses(&mut self.entries(name, false)).into_iter();
        let refusing: Vec<_> = refusing.map(|clause| (clause.clone(), clause.conditions())).collect();
        let both = offered.iter().flat_map(|offer| wanted.iter().filter_map(|want| want.and(offer)));
        let mut untried: Vec<Clause> = both.collect();
        if self.profile.default_action.executes() {
            untried.extend(wanted.iter().cloned());
        }
        let mut tries = 0;
        while let Some(clause) = untried.pop() {
            let arguments = clause.witness();
            let data = SeccompData::call(self.native, number, arguments);
            // A search that takes too long has found nothing that says the call is refused.
            tries += 1;
            if tries > MOST_TRIES || simulate(&self.program, &data).is_ok_and(crate::Verdict::executes) {
                return Some(arguments);
            }
            let refuses = |own: &&(Clause, Vec<Condition>)| own.1.iter().all(|own| own.holds(&arguments));
            untried
                .extend(refusing.iter().find(refuses).map(|own| clause.without(&own.0)).unwrap_or_default());
        }
        None
    }
}

/// The condition as the kernel reads the argument: where it takes 32 bits of the register, the attack may set the
/// others as it likes.
fn as_read(syscall: &str, condition: Condition) -> Condition {
    let Condition { index, value, op, .. } = condition;
    let low = u64::from(u32::MAX);
    match op {
        Operator::Eq if is_narrow(syscall, index) && value <= low => {
            Condition { index, value: low, value_two: value, op: Operator::MaskedEq }
        }
        _ => condition,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        profile::{Action, Entry},
        reference::{Container, reference},
    };

    #[test]
    fn the_corpus_says_of_docker_what_the_filter_does() {
        let docker = reference("docker").unwrap().resolve(&Container::new(Abi::X86_64, (6, 18)));
        let score = attack_score(&docker, Abi::X86_64).unwrap();
        assert_eq!((score.blocked(), score.decided()), (62, 111));
        for (attack, verdict) in &score.rows {
            let expected = match attack.docker {
                DockerDefault::Blocked => matches!(verdict, AttackVerdict::Blocked(_)),
                DockerDefault::Allowed => matches!(verdict, AttackVerdict::Open(_)),
                DockerDefault::Outside => *verdict == AttackVerdict::Outside,
            };
            assert!(expected, "{}: {verdict:?}", attack.name);
        }
        let controls = attacks().iter().filter(|attack| attack.control);
        assert_eq!(controls.filter(|attack| attack.docker != DockerDefault::Outside).count(), 3);
    }

    fn judge(profile: &Profile, test: impl FnOnce(&Judge<'_>)) {
        let program = compile(profile, Abi::X86_64, CompileOptions::default()).unwrap();
        test(&Judge { profile, program, native: Abi::X86_64 });
    }

    fn profile(default: &str, entries: &[(&str, &str, &str)]) -> Profile {
        let text = format!(r#"{{"defaultAction": "SCMP_ACT_{default}", "syscalls": []}}"#);
        let entries = entries.iter().map(|(names, action, args)| Entry {
            names: names.split_whitespace().map(str::to_owned).collect(),
            action: Action::from_name(&format!("SCMP_ACT_{action}")).unwrap(),
            errno_ret: None,
            args: if args.is_empty() { Vec::new() } else { parse_conditions(args).unwrap() },
        });
        Profile { syscalls: entries.collect(), ..Profile::read(text.as_bytes()).unwrap() }
    }

    #[test]
    fn an_attack_may_choose_the_arguments_it_leaves_open() {
        let passes = |profile: &Profile, need: &str, expected: bool| {
            judge(profile, |judge| {
                let need = AttackNeed::try_from(need.to_owned()).unwrap();
                let passes = need.calls.iter().any(|(name, args)| judge.passing(name, args).is_some());
                assert_eq!(passes, expected, "{}", need.as_str());
            });
        };
        let inet = "arg0 & 0xffffffff == 2";
        let allow = profile(
            "ERRNO",
            &[
                ("socket", "ALLOW", inet),
                ("setsockopt", "ALLOW", "arg1 & 0xffffffff == 1, arg2 & 0xffffffff == 15"),
                ("clone", "ALLOW", "arg0 & 0x7e020000 == 0"),
                ("pipe2", "ALLOW", "arg1 & 0xfffff77f == 0"),
                ("splice", "ALLOW", ""),
                ("prctl", "ALLOW", "arg0 == 4, arg1 == 0"),
            ],
        );
        // Blocked only where every family is refused.
        passes(&allow, "socket", true);
        passes(&allow, "socket(arg0 == 2)", true);
        passes(&allow, "socket(arg0 == 2, arg2 == 6)", true);
        passes(&allow, "socket(arg0 == 17)", false);
        passes(&allow, "setsockopt", true);
        passes(&allow, "setsockopt(arg1 == 1)", true);
        passes(&allow, "setsockopt(arg2 == 15)", true);
        passes(&allow, "setsockopt(arg1 == 0, arg2 == 15)", false);
        passes(&allow, "setsockopt(arg1 == 0, arg2 == 15) | socket", true);
        // A flag among others; the other bits are free.
        passes(&allow, "clone(arg0 & 0x100 == 0x100)", true);
        passes(&allow, "clone(arg0 & 0x10000000 == 0x10000000)", false);
        passes(&allow, "clone(arg0 & 0x10000100 == 0x10000100)", false);
        passes(&allow, "pipe2(arg1 & 0x80 == 0x80)", true);
        passes(&allow, "pipe2(arg1 & 0x4000 == 0x4000)", false);
        passes(&allow, "splice(arg5 == 1)", true);
        passes(&allow, "prctl(arg0 == 4, arg1 == 1)", false);
        passes(&allow, "mount", false);
        // What a list refuses can be asked for with garbage in the half that the kernel does not read.
        let list = profile("ALLOW", &[("ioctl", "ERRNO", "arg1 == 0x5412"), ("socket", "ERRNO", "arg0 > 2")]);
        passes(&list, "ioctl(arg1 == 0x5412)", true);
        passes(&list, "socket(arg0 == 17)", false);
        passes(&list, "socket", true);
        let masked = profile("ALLOW", &[("ioctl", "ERRNO", "arg1 & 0xffffffff == 0x5412")]);
        passes(&masked, "ioctl(arg1 == 0x5412)", false);
        passes(&masked, "ioctl", true);
        // Rules that refuse what another would allow.
        let holes = profile(
            "ERRNO",
            &[("ioctl", "ALLOW", "arg1 & 0xff00 == 0x5400"), ("ioctl", "KILL", "arg1 == 0x5400")],
        );
        passes(&holes, "ioctl(arg1 & 0xffffff00 == 0x5400)", true);
    }

    #[test]
    fn what_stays_open_says_how() {
        let profile = profile(
            "ERRNO",
            &[("openat write", "ALLOW", ""), ("ioctl", "ALLOW", "arg1 & 0xffffffff == 0x5401")],
        );
        let score = attack_score(&profile, Abi::X86_64).unwrap();
        let (_, calls) = score.open().find(|(attack, _)| attack.name == "CVE-2014-0196").unwrap();
        let words: Vec<String> = calls.iter().map(|call| call.in_words(Abi::X86_64)).collect();
        assert_eq!(words[0], "openat");
        assert!(words[1].starts_with("ioctl(") && words[1].contains("TCGETS"), "{words:?}");
        assert_eq!(words[2], "write");
        assert!(score.open().all(|(attack, _)| !attack.control));
    }

    /// Values that rules, attacks and the tests' own neighbours of them are about.
    fn value() -> impl Strategy<Value = u64> {
        prop::sample::select(vec![
            0,
            1,
            2,
            3,
            4,
            6,
            7,
            0x80,
            0x8001,
            u64::from(u32::MAX),
            1 << 32,
            1 << 32 | 2,
        ])
    }

    fn test() -> impl Strategy<Value = Condition> {
        (0u32..2, value(), value(), any::<bool>()).prop_map(|(index, value, two, masked)| match masked {
            true => Condition { index, value, value_two: two & value, op: Operator::MaskedEq },
            false => Condition { index, value, value_two: 0, op: Operator::Eq },
        })
    }

    /// What an entry compares: one inequality, or any tests.
    fn args() -> impl Strategy<Value = Vec<Condition>> {
        let op = prop::sample::select(vec![Operator::Ne, Operator::Gt, Operator::Le]);
        let inequality = (0u32..2, value(), op)
            .prop_map(|(index, value, op)| vec![Condition { index, value, value_two: 0, op }]);
        prop_oneof![1 => inequality, 3 => prop::collection::vec(test(), 0..3)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

        /// Whatever the rules are, allowing and refusing ones: where any of many arguments passes, one is found.
        #[test]
        fn what_passes_is_found(
            allowing in prop::collection::vec(args(), 0..4), refusing in prop::collection::vec(prop::collection::vec(test(), 0..3), 0..3),
            wanted in prop::collection::vec(test(), 0..3), by_default in any::<bool>(),
        ) {
            let entry = |action, args: &Vec<Condition>| {
                Entry { names: vec!["ioctl".to_owned()], action, errno_ret: None, args: args.clone() }
            };
            let mut profile = profile(if by_default { "ALLOW" } else { "ERRNO" }, &[]);
            profile.syscalls.extend(allowing.iter().map(|args| entry(Action::Allow, args)));
            profile.syscalls.extend(refusing.iter().map(|args| entry(Action::Trap, args)));
            // What the library does not take is no filter.
            let Ok(program) = compile(&profile, Abi::X86_64, CompileOptions::default()) else { return Ok(()) };
            let judge = Judge { profile: &profile, program, native: Abi::X86_64 };
            let as_read: Vec<Condition> = wanted.iter().map(|own| as_read("ioctl", *own)).collect();
            let executes = |arguments: [u64; 6]| {
                simulate(&judge.program, &SeccompData::call(Abi::X86_64, 16, arguments)).unwrap().executes()
            };
            let mut values = vec![u64::MAX];
            for near in [0, 1, 2, 3, 4, 5, 6, 7, 8, 0x7f, 0x80, 0x81, 0x8000, 0x8001, u64::from(u32::MAX)] {
                values.extend([near, near | 1 << 32, near | 1 << 33]);
            }
            let pairs = values.iter().flat_map(|x| values.iter().map(move |y| [*x, *y, 0, 0, 0, 0]));
            let brute = pairs.filter(|args| as_read.iter().all(|own| own.holds(args))).find(|args| executes(*args));
            let found = judge.passing("ioctl", &wanted);
            if let Some(found) = found {
                prop_assert!(executes(found) && as_read.iter().all(|own| own.holds(&found)), "{:x?}", found);
            }
            prop_assert!(found.is_some() || brute.is_none(), "{:x?}", brute);
        }
    }
}
