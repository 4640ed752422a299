//! One call explained: what it does, what allowing it opens up, and what a profile says about it and why.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use trace::Abi;

use crate::{
    attacks::{AttackVerdict, attack_score, attacks},
    catalogue::{Risk, catalogue},
    clause::Clause,
    compile::{CompileError, CompileOptions, compile},
    condition::{display_conditions, parse_conditions},
    decode,
    evidence::{Evidence, EvidenceRule, Reason},
    finding::Finding,
    kernel::bypasses_filters,
    knowledge::siblings,
    lint::{Lint, lint},
    profile::{Action, Condition, Profile},
    reach::Reach,
    review::sentences,
    simulate::Verdict,
};

/// The version of an explanation's JSON, `major.minor`.
pub const EXPLANATION_VERSION: &str = "1.0";

/// What is known about a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Format version, `major.minor`.
    pub version: &'static str,
    /// The call.
    pub syscall: String,
    /// The arguments that are asked about, as conditions in words; `always` for any.
    pub when: String,
    /// The same in numbers.
    pub conditions: String,
    /// What it does; none for a call that is in no table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub does: Option<&'static str>,
    /// The worst kind of thing that it can be used for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// What allowing it opens up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opens: Option<&'static str>,
    /// Where the facts come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<&'static str>,
    /// Its number in each ABI that has it.
    pub numbers: BTreeMap<Abi, u32>,
    /// What it belongs together with.
    pub together: Vec<Together>,
    /// Known attacks that need it, or it among others.
    pub attacks: Vec<AttackUse>,
    /// What the profile says, where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<InProfile>,
}

/// Why synthesis adds a call, or adds others for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Together {
    /// What they have in common: a class of calls of which one takes another's place, `always`, `portable`.
    pub kind: String,
    /// The calls, this one among them.
    pub calls: Vec<String>,
    /// What is known about them.
    pub why: String,
}

/// An attack that needs a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttackUse {
    /// The attack.
    pub name: &'static str,
    /// What it needs besides, each with its alternatives.
    pub besides: Vec<&'static str>,
    /// Whether no filter mitigates it.
    pub control: bool,
    /// Whether the profile lets through all that it needs, where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
}

/// What a profile says about a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InProfile {
    /// In each ABI of the machine that has the call, its own first: whether it is carried out.
    pub answers: Vec<AbiAnswer>,
    /// The entries that are about it, in the order of the profile; those that the question is about.
    pub entries: Vec<Said>,
    /// Why the evidence has them, as far as the question is about them.
    pub why: Vec<Why>,
    /// The calls of the profile that are there because of this one.
    pub brought: BTreeSet<String>,
    /// What a reviewer decided about it.
    pub decisions: Vec<String>,
    /// What was found about it when the profile was made.
    pub findings: Vec<String>,
    /// What there is to look at.
    pub lints: Vec<Lint>,
    /// The libseccomp that does not know the name, so that what the profile says is not in its filters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_to: Option<String>,
}

/// Whether a call is carried out in an ABI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AbiAnswer {
    /// The ABI.
    pub abi: Abi,
    /// Whether it is.
    pub answer: Carried,
    /// What it fails with where it is not.
    pub refused_with: BTreeSet<String>,
    /// A call that is carried out, in words, where only some are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passes: Option<String>,
    /// One that is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
}

/// Whether calls are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Carried {
    /// All of them.
    Allowed,
    /// Those with some arguments.
    Partly,
    /// None.
    Refused,
    /// That cannot be told.
    Unknown,
}

/// An entry of a profile about a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    /// Its answer: `SCMP_ACT_ALLOW`, or the errno.
    pub action: String,
    /// The conditions in words.
    pub words: String,
    /// The same in numbers.
    pub conditions: String,
}

/// A rule of the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// The alternatives in words.
    pub when: Vec<String>,
    /// Whether the call was observed so.
    pub observed: bool,
    /// The reasons, a sentence each.
    pub reasons: Vec<String>,
    /// The calls that it came with: those whose observation added it.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub came_with: BTreeSet<String>,
}

/// The profile that a call is looked up in.
#[derive(Clone, Copy, Debug)]
pub struct Within<'a> {
    /// The profile.
    pub profile: &'a Profile,
    /// Why it is as it is, where that is known.
    pub evidence: Option<&'a Evidence>,
    /// The machine's own ABI.
    pub native: Abi,
}

/// Explains a call, or calls of this name that meet the conditions; none are met by all.
///
/// # Errors
/// The profile cannot be compiled.
pub fn explain(
    syscall: &str,
    conditions: &[Condition],
    place: Option<Within<'_>>,
) -> Result<Explanation, CompileError> {
    let known = catalogue(syscall);
    let native = place.map_or(Abi::X86_64, |place| place.native);
    let numbers =
        Abi::ALL.into_iter().filter_map(|abi| Some((abi, abi.number(syscall)?))).collect::<BTreeMap<_, _>>();
    Ok(Explanation {
        version: EXPLANATION_VERSION,
        syscall: syscall.to_owned(),
        when: decode::conditions(native, syscall, conditions),
        conditions: display_conditions(conditions),
        does: known.map(|known| known.does.as_str()),
        risk: known.map(|known| known.risk),
        opens: known.and_then(|known| known.opens.as_deref()),
        source: known.map(|known| known.source.as_str()),
        numbers,
        together: together(syscall),
        attacks: attack_uses(syscall, place)?,
        profile: place.map(|place| in_profile(syscall, conditions, place)).transpose()?,
    })
}

fn together(syscall: &str) -> Vec<Together> {
    let table = siblings();
    let has = |names: &crate::knowledge::Names| names.iter().any(|name| name == syscall);
    let calls = |names: &crate::knowledge::Names| names.iter().map(str::to_owned).collect::<Vec<_>>();
    let classes = table.class.iter().filter(|class| has(&class.names)).map(|class| Together {
        kind: class.name.clone(),
        calls: calls(&class.names),
        why: class.why.clone(),
    });
    let lists = [("always", &table.always), ("portable", &table.portable)];
    let needed = lists.into_iter().flat_map(|(kind, list)| list.iter().map(move |needed| (kind, needed)));
    let needed = needed.filter(|(_, needed)| has(&needed.names)).map(|(kind, needed)| Together {
        kind: kind.to_owned(),
        calls: calls(&needed.names),
        why: needed.why.clone(),
    });
    let fallbacks = table.fallback.iter().filter(|own| own.from == syscall || own.to == syscall);
    let fallbacks = fallbacks.map(|own| Together {
        kind: "fallback".to_owned(),
        calls: vec![own.from.clone(), own.to.clone()],
        why: own.why.clone(),
    });
    classes.chain(needed).chain(fallbacks).collect()
}

fn attack_uses(syscall: &str, place: Option<Within<'_>>) -> Result<Vec<AttackUse>, CompileError> {
    let open: Option<BTreeSet<&str>> = match place {
        Some(place) => {
            let rows = attack_score(place.profile, place.native)?.rows.into_iter();
            let open = rows.filter(|(_, verdict)| matches!(verdict, AttackVerdict::Open(_)));
            Some(open.map(|(attack, _)| attack.name.as_str()).collect())
        }
        None => None,
    };
    let uses = attacks()
        .iter()
        .filter(|attack| attack.needs.iter().any(|need| need.names().any(|name| name == syscall)));
    let row = |attack: &'static crate::attacks::Attack| AttackUse {
        name: &attack.name,
        besides: attack
            .needs
            .iter()
            .filter(|need| need.names().all(|name| name != syscall))
            .map(crate::attacks::AttackNeed::as_str)
            .collect(),
        control: attack.control,
        open: open.as_ref().map(|open| open.contains(attack.name.as_str())),
    };
    Ok(uses.map(row).collect())
}

fn in_profile(syscall: &str, conditions: &[Condition], place: Within<'_>) -> Result<InProfile, CompileError> {
    let Within { profile, evidence, native } = place;
    let named = evidence.and_then(|evidence| evidence.options.libseccomp.as_deref()?.parse().ok());
    let options = CompileOptions::default().with_libseccomp(named.unwrap_or_default());
    let program = compile(profile, native, options)?;
    let is_unknown = program.unknown.iter().any(|name| name == syscall);
    let reach = Reach::new(program, native);
    let asked = Clause::alternatives(conditions, |_| false);
    let touches = |own: &Clause| asked.iter().any(|asked| asked.and(own).is_some());
    let entries = profile.syscalls.iter().filter(|entry| entry.names.iter().any(|name| name == syscall));
    let entries = entries.filter(|entry| Clause::of_entry(&entry.args, |_| false).iter().any(touches));
    let said = entries.map(|entry| Said {
        action: match (entry.action, entry.errno()) {
            (Action::Errno, Some(errno)) => Verdict::Errno(errno).to_string(),
            (action, _) => action.as_str().to_owned(),
        },
        words: decode::conditions(native, syscall, &entry.args),
        conditions: display_conditions(&entry.args),
    });
    let lints = lint(profile, native, evidence)?.into_iter();
    let decisions = evidence.iter().flat_map(|evidence| &evidence.options.decisions);
    Ok(InProfile {
        answers: reach.abis().iter().filter_map(|abi| answer(&reach, *abi, syscall, &asked)).collect(),
        entries: said.collect(),
        why: evidence.map(|evidence| why(evidence, syscall, native, touches)).unwrap_or_default(),
        brought: evidence.map(|evidence| brought(evidence, syscall)).unwrap_or_default(),
        findings: evidence
            .iter()
            .flat_map(|evidence| &evidence.findings)
            .filter(|finding| finding.syscall() == Some(syscall))
            .map(Finding::message)
            .collect(),
        decisions: decisions
            .filter(|own| own.syscall == syscall)
            .map(|own| {
                let until = own.expires.map(|expires| format!(" until {expires}")).unwrap_or_default();
                let (verdict, owner) = (own.verdict.as_str(), &own.owner);
                format!("{verdict} {} by {owner}{until}: {}", own.when, own.reason)
            })
            .collect(),
        lints: lints.filter(|own| own.calls.iter().any(|name| name == syscall)).collect(),
        unknown_to: is_unknown.then(|| options.libseccomp.unwrap_or_default().to_string()),
    })
}

/// What the filter answers to the calls that were asked about; none where the ABI has no such call.
fn answer(reach: &Reach, abi: Abi, syscall: &str, asked: &BTreeSet<Clause>) -> Option<AbiAnswer> {
    let number = abi.number(syscall)?;
    let plain = |answer| AbiAnswer { abi, answer, refused_with: BTreeSet::new(), passes: None, fails: None };
    if bypasses_filters(abi, number) {
        return Some(plain(Carried::Allowed));
    }
    let mut ways = Vec::new();
    for clause in asked {
        let Some(own) = reach.ways(abi, number, &clause.conditions()) else {
            return Some(plain(Carried::Unknown));
        };
        ways.extend(own);
    }
    let shown = |example: &[u64; 6]| {
        let context = decode::Context { detail: decode::Detail::Named, ..decode::Context::default() };
        decode::call(abi, syscall, example, &context)
    };
    let passes = ways.iter().find(|way| way.verdict.executes());
    let fails = ways.iter().find(|way| !way.verdict.executes());
    let answer = match (passes, fails) {
        (Some(_), None) => Carried::Allowed,
        (Some(_), Some(_)) => Carried::Partly,
        (None, _) => Carried::Refused,
    };
    let is_partly = answer == Carried::Partly;
    Some(AbiAnswer {
        abi,
        answer,
        refused_with: ways
            .iter()
            .filter(|way| !way.verdict.executes())
            .map(|way| way.verdict.to_string())
            .collect(),
        passes: passes.filter(|_| is_partly).map(|way| shown(&way.example)),
        fails: fails.filter(|_| is_partly).map(|way| shown(&way.example)),
    })
}

fn why(evidence: &Evidence, syscall: &str, native: Abi, touches: impl Fn(&Clause) -> bool) -> Vec<Why> {
    let about = |text: &String| match parse_conditions(text) {
        Ok(read) => Clause::alternatives(&read, |_| false).iter().any(&touches),
        Err(_) => true,
    };
    let rules = evidence.rules.iter().filter(|rule| rule.syscall == syscall);
    let one = |rule: &EvidenceRule| Why {
        when: decode::alternatives_list(native, syscall, &rule.when),
        observed: rule.observed,
        reasons: sentences(&rule.reasons),
        came_with: rule.reasons.iter().flat_map(came_with).collect(),
    };
    rules.filter(|rule| rule.when.iter().any(about)).map(one).collect()
}

/// The calls whose observation is a reason.
fn came_with(reason: &Reason) -> BTreeSet<String> {
    match reason {
        Reason::Sibling { of, .. } => of.clone(),
        Reason::Fallback { of, .. } => BTreeSet::from([of.clone()]),
        _ => BTreeSet::new(),
    }
}

/// The calls that are in the profile because of this one.
fn brought(evidence: &Evidence, syscall: &str) -> BTreeSet<String> {
    let because =
        |rule: &&EvidenceRule| rule.reasons.iter().any(|reason| came_with(reason).contains(syscall));
    evidence.rules.iter().filter(because).map(|rule| rule.syscall.clone()).collect()
}

impl Explanation {
    /// Whether the profile is known to carry out what was asked about, through the machine's own ABI, at least in part;
    /// without a profile nothing is refused.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.profile.as_ref().is_none_or(|own| {
            own.answers
                .first()
                .is_some_and(|answer| matches!(answer.answer, Carried::Allowed | Carried::Partly))
        })
    }

    /// The explanation as JSON, on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings, numbers and ordered maps always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }
}
