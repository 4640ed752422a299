//! Entries that do not do what they seem to: each is held against the filter of its call with and without it.

use std::collections::{BTreeMap, BTreeSet};

use trace::Abi;

use super::{
    Lint, Severity,
    subject::{Subject, found},
};
use crate::{
    compile::{compile, repeats_an_argument},
    condition::display_conditions,
    decode,
    profile::{Condition, Entry, Operator, Profile},
    reach::{Reach, pairs},
    simulate::Verdict,
};

/// More entries about one call than people write: beyond, each is not compared with the others.
const MOST_ENTRIES: usize = 200;

/// More entries with conditions, or about calls with such, than people write in a profile: as many are compared.
const MOST_COMPARED: usize = 1_000;

/// What is wrong with entries, by kind: the calls, each with what was found about it.
type Found = BTreeMap<Kind, BTreeMap<String, BTreeSet<String>>>;

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// It refuses, and what it is to refuse passes.
    VoidRefusal,
    /// Its two conditions on one argument are alternatives.
    RepeatedArgument,
    /// Its mask leaves out bits of its value.
    OutsideMask,
    /// Its conditions hold for no call.
    NeverTrue,
    /// Another entry answers first.
    Overruled,
    /// Another entry allows the call whatever its arguments.
    VoidCondition,
    /// Without it nothing changes.
    Redundant,
    /// It compares an address.
    Pointer,
    /// A number that does not fit into 64 bits with a sign.
    Unsigned,
}

impl Kind {
    const fn words(self) -> (&'static str, Severity, &'static str, &'static str, &'static str) {
        match self {
            Self::VoidRefusal => (
                "void-refusal",
                Severity::Danger,
                "What an entry refuses passes",
                "another entry allows it, and an allowing rule without conditions erases refusing ones",
                "write only what is allowed: the conditions under which the call passes",
            ),
            Self::RepeatedArgument => (
                "repeated-argument",
                Severity::Danger,
                "Two conditions on one argument are alternatives",
                "runc, crun and youki make a rule of each condition of such an entry, so that one of them is enough; \
                 crun reads the first six only",
                "write one entry for each alternative, and one condition with a mask for a range",
            ),
            Self::OutsideMask => (
                "value-outside-mask",
                Severity::Danger,
                "A masked comparison with a value that the mask cannot give",
                "libseccomp drops the bits outside of the mask, so that calls pass which the text does not allow",
                "SCMP_CMP_MASKED_EQ takes the mask in `value` and the result in `valueTwo`; put that right",
            ),
            Self::NeverTrue => (
                "never-true",
                Severity::Review,
                "A condition that no call meets",
                "the entry has no effect",
                "put the condition right, or take the entry out",
            ),
            Self::Overruled => (
                "overruled",
                Severity::Review,
                "An entry that another one overrules",
                "the filter answers otherwise than the entry says, at least to some of its calls",
                "keep one of the two",
            ),
            Self::VoidCondition => (
                "void-condition",
                Severity::Review,
                "Conditions that have no effect",
                "another entry allows the call whatever its arguments",
                "take the entry without conditions out, or those with them",
            ),
            Self::Redundant => (
                "redundant-entry",
                Severity::Note,
                "An entry that changes nothing",
                "the filter answers the same without it",
                "take it out",
            ),
            Self::Pointer => (
                "pointer-condition",
                Severity::Review,
                "A condition on an address",
                "what an address points to cannot be seen, and addresses differ from run to run",
                "take the condition out; what is in memory no filter can decide about",
            ),
            Self::Unsigned => (
                "not-for-spo",
                Severity::Note,
                "A number that the security-profiles-operator cannot hold",
                "its profiles have numbers with a sign, so values from 2^63 on cannot be given",
                "compare the lower 32 bits with a mask",
            ),
        }
    }
}

pub(super) fn entries(subject: &Subject<'_>) -> Vec<Lint> {
    let mut all = Found::new();
    let mut by_name: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in &subject.profile.syscalls {
        for name in &entry.names {
            by_name.entry(name).or_default().push(entry);
        }
    }
    let mut left = MOST_COMPARED;
    for (name, entries) in by_name {
        if entries.len() > 1 || entries.iter().any(|entry| !entry.args.is_empty()) {
            call(subject, name, &entries, &mut left, &mut all);
        }
    }
    all.into_iter().map(|(kind, calls)| lint(kind, &calls)).collect()
}

fn lint(kind: Kind, calls: &BTreeMap<String, BTreeSet<String>>) -> Lint {
    const MOST: usize = 6;
    let (id, severity, title, why, what_to_do) = kind.words();
    let texts: Vec<&str> = calls.values().flatten().map(String::as_str).collect();
    let shown = texts.iter().take(MOST).copied().collect::<Vec<_>>().join("; ");
    let more = match texts.len().checked_sub(MOST) {
        Some(more) if more > 0 => format!("; and {more} more"),
        _ => String::new(),
    };
    found(
        (id, severity),
        title,
        format!("{why}: {shown}{more}"),
        calls.keys().map(String::as_str),
        what_to_do,
    )
}

/// The profile with these entries alone, about one call.
fn about(profile: &Profile, name: &str, entries: &[&Entry]) -> Profile {
    let own = |entry: &&Entry| Entry { names: vec![name.to_owned()], ..(*entry).clone() };
    Profile { syscalls: entries.iter().map(own).collect(), ..profile.clone() }
}

fn call(subject: &Subject<'_>, name: &str, entries: &[&Entry], left: &mut usize, found: &mut Found) {
    // A name that no ABI of the machine has is in no filter.
    let abi = subject.reach.abis().iter().copied().find(|abi| abi.number(name).is_some());
    let Some((abi, number)) = abi.and_then(|abi| Some((abi, abi.number(name)?))) else { return };
    let mut note = |kind, entry: &Entry| {
        let text = said(abi, name, entry);
        found.entry(kind).or_default().entry(name.to_owned()).or_default().insert(text);
    };
    for entry in entries {
        written(abi, name, entry, &mut note);
    }
    // What libseccomp does not know, or refuses to put together in another order, is not compared.
    let filter = |entries: &[&Entry]| {
        let program =
            compile(&about(subject.profile, name, entries), subject.native(), subject.options).ok()?;
        program.unknown.is_empty().then(|| Reach::new(program, subject.native()))
    };
    let (Some(none), Some(whole)) = (filter(&[]), filter(entries)) else { return };
    if entries.len() > MOST_ENTRIES.min(*left) {
        return subject.reach.note_untold(abi, number);
    }
    *left -= entries.len();
    let budget = subject.reach.budget();
    let unconditional = entries.iter().any(|entry| entry.action.executes() && entry.args.is_empty());
    for (place, entry) in entries.iter().enumerate() {
        // What the entry is about: where it alone makes a difference to the default.
        let Some(alone) = filter(&[entry]) else { continue };
        let is_about = |before, alone| before != alone;
        let Some(own) = pairs([&none, &alone, &whole], (abi, number), budget, is_about) else {
            return subject.reach.note_untold(abi, number);
        };
        if repeats_an_argument(&entry.args) && own.iter().any(|own| !all_hold(&entry.args, &own.example)) {
            note(Kind::RepeatedArgument, entry);
        }
        if own.is_empty() {
            if !entry.args.is_empty() && differs_from_default(subject.profile, entry) {
                note(Kind::NeverTrue, entry);
            }
        } else if own.iter().any(|own| !own.alone.executes() && own.whole.executes()) {
            note(Kind::VoidRefusal, entry);
        } else if own
            .iter()
            .any(|own| own.whole != own.alone && !(own.alone.executes() && own.whole.executes()))
        {
            note(Kind::Overruled, entry);
        } else if entries.len() > 1 {
            let rest = entries.iter().enumerate().filter(|(at, _)| *at != place);
            let rest: Vec<&Entry> = rest.map(|(_, entry)| *entry).collect();
            let Some(rest) = filter(&rest) else { continue };
            let Some(answers) = pairs([&none, &rest, &whole], (abi, number), budget, |_, _| true) else {
                return subject.reach.note_untold(abi, number);
            };
            if answers.iter().all(|own| own.alone == own.whole) {
                let void = unconditional && !entry.args.is_empty();
                note(if void { Kind::VoidCondition } else { Kind::Redundant }, entry);
            }
        }
    }
}

/// What is wrong with what stands in an entry, as far as it has an effect on a filter.
fn written(abi: Abi, name: &str, entry: &Entry, note: &mut impl FnMut(Kind, &Entry)) {
    for condition in &entry.args {
        if condition.op == Operator::MaskedEq && condition.value_two & !condition.value != 0 {
            note(Kind::OutsideMask, entry);
        }
        // A comparison with NULL tells whether there is something at all.
        if decode::is_address(abi, name, condition.index) && condition.value != 0 {
            note(Kind::Pointer, entry);
        }
        if condition.value.max(condition.value_two) > i64::MAX.cast_unsigned() {
            note(Kind::Unsigned, entry);
        }
    }
}

fn differs_from_default(profile: &Profile, entry: &Entry) -> bool {
    entry.action != profile.default_action || entry.errno() != profile.default_errno()
}

fn all_hold(conditions: &[Condition], args: &[u64; 6]) -> bool {
    conditions.iter().all(|condition| condition.holds(args))
}

/// An entry about one call, in words.
fn said(abi: Abi, name: &str, entry: &Entry) -> String {
    let action = match entry.errno() {
        Some(errno) => Verdict::Errno(errno).to_string(),
        None => entry.action.as_str().to_owned(),
    };
    let conditions = decode::conditions(abi, name, &entry.args);
    if entry.args.is_empty() {
        return format!("`{name}`: {action}");
    }
    let raw = display_conditions(&entry.args);
    let numbers = if raw == conditions { String::new() } else { format!(" ({raw})") };
    format!("`{name}` with {conditions}{numbers}: {action}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_an_id_of_its_own() {
        let kinds = [
            Kind::VoidRefusal,
            Kind::RepeatedArgument,
            Kind::OutsideMask,
            Kind::NeverTrue,
            Kind::Overruled,
            Kind::VoidCondition,
            Kind::Redundant,
            Kind::Pointer,
            Kind::Unsigned,
        ];
        let ids: BTreeSet<&str> = kinds.iter().map(|kind| kind.words().0).collect();
        assert_eq!(ids.len(), kinds.len());
    }
}
