//! The difference of two profiles, for people and for programs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde_json::{Value, json};
use synth::{
    CallDifference, Change, Difference, Evidence, EvidenceRule, Part, Profile, Reason, Verdict,
    review::sentences,
};
use trace::Abi;

use super::words::listed;
use crate::terminal::{count, thousands, wrapped};

/// The version of the JSON.
const VERSION: u32 = 1;

// As `synth::difference` has them.
const ALWAYS: &str = "always";
const OTHERWISE: &str = "in all other cases";

/// In this order a reviewer looks at it.
const CHANGES: [Change; 5] =
    [Change::NewlyAllowed, Change::Wider, Change::Moved, Change::Narrower, Change::NoLongerAllowed];

/// As one JSON object.
pub(super) fn json(
    difference: &Difference,
    [old, new]: &[String; 2],
    native: Abi,
    evidence: [Option<&Evidence>; 2],
) -> String {
    let reasons = |evidence: Option<&Evidence>, name: &str| -> Value {
        let Some(evidence) = evidence else { return Value::Null };
        let reasons: BTreeSet<&Reason> = rules(evidence, name).flat_map(|rule| &rule.reasons).collect();
        json!(reasons)
    };
    let call = |call: &CallDifference| {
        let mut value = json!(call);
        if let Some(object) = value.as_object_mut() {
            let [old, new] = evidence.map(|evidence| reasons(evidence, &call.name));
            object.insert("evidence".to_owned(), json!({ "old": old, "new": new }));
        }
        value
    };
    let calls: Vec<Value> = difference.calls.iter().map(call).collect();
    let whole = json!({
        "type": "difference",
        "version": VERSION,
        "of": "profiles",
        "old": old,
        "new": new,
        "native": native,
        "calls": calls,
        "undecided": difference.undecided,
    });
    whole.to_string() + "\n"
}

/// For people.
pub(super) fn text(
    difference: &Difference,
    native: Abi,
    [old, new]: [&Profile; 2],
    evidence: [Option<&Evidence>; 2],
) -> String {
    let mut text = summary(difference);
    // An ABI that only one of them is about is told in one line.
    let mut only = String::new();
    let mut calls = difference.calls.clone();
    for abi in Abi::ALL.into_iter().filter(|abi| *abi != native) {
        let lists = |profile: &Profile| profile.architectures.iter().any(|one| one.abi() == Some(abi));
        if lists(old) != lists(new) {
            only += &one_sided(difference, abi, lists(new));
            calls.iter_mut().for_each(|call| call.places.retain(|place| place.abi != abi));
        }
    }
    calls.retain(|call| !call.places.is_empty());
    for change in CHANGES {
        let of_it: Vec<&CallDifference> = calls.iter().filter(|call| call.change == change).collect();
        if of_it.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n{}", change.as_str());
        // What can be said by its name alone is.
        let (named, told): (Vec<_>, Vec<_>) = of_it
            .into_iter()
            .map(|call| (label(call, native, &calls), lines(call, evidence)))
            .partition(|(_, lines)| lines.is_empty());
        for (label, lines) in told {
            let _ = writeln!(text, "  {label}");
            for line in lines {
                text += &wrapped(line.split(' '), "      ", "        ");
            }
        }
        let names: Vec<String> = named.into_iter().map(|(label, _)| label).collect();
        text += &wrapped(listed(&names), "  ", "  ");
    }
    text += &answers(&calls, native);
    if !only.is_empty() {
        text = format!("{text}\n{only}");
    }
    text
}

fn summary(difference: &Difference) -> String {
    let mut counts: BTreeMap<Change, u64> = BTreeMap::new();
    for call in &difference.calls {
        *counts.entry(call.change).or_default() += 1;
    }
    if counts.is_empty() {
        return "no difference: both answer every call alike\n".to_owned();
    }
    let words = counts.iter().map(|(change, number)| {
        let with = if matches!(change, Change::Moved | Change::Answer) { "with " } else { "" };
        format!("{} {with}{}", thousands(*number), change.as_str())
    });
    let total = difference.calls.len() as u64;
    let verb = if total == 1 { "differs" } else { "differ" };
    format!("{} {verb}: {}\n", count(total, "call"), words.collect::<Vec<_>>().join(", "))
}

/// What happens to an ABI that one of the two profiles does not list.
fn one_sided(difference: &Difference, abi: Abi, is_new: bool) -> String {
    let side = |call: &CallDifference| if is_new { call.new.clone() } else { call.old.clone() };
    let other = |call: &CallDifference| if is_new { call.old.clone() } else { call.new.clone() };
    let of_abi: Vec<&CallDifference> =
        difference.calls.iter().filter(|call| call.places.iter().any(|place| place.abi == abi)).collect();
    let allowed = of_abi.iter().filter(|call| side(call).executes()).count() as u64;
    let answers: BTreeSet<Verdict> = of_abi.iter().flat_map(|call| other(call).verdicts).collect();
    let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
    let allowed = count(allowed, "call");
    let (only, what) = if is_new {
        ("new", format!("{allowed} let through, where the old one answers"))
    } else {
        ("old", format!("{allowed} no longer let through, the new one answers"))
    };
    format!("{abi} is only in the {only} profile: {what} {}\n", answers.join(" or "))
}

/// The name, and the ABIs where the machine's own is not among them or the name stands there twice.
fn label(call: &CallDifference, native: Abi, calls: &[CallDifference]) -> String {
    let abis: BTreeSet<&str> = call.places.iter().map(|place| place.abi.as_str()).collect();
    let is_own = call.places.iter().any(|place| place.abi == native);
    let is_alone = calls.iter().filter(|other| other.name == call.name).count() == 1;
    if is_own && is_alone {
        return call.name.clone();
    }
    format!("{} [{}]", call.name, abis.into_iter().collect::<Vec<_>>().join(" "))
}

/// What there is to say besides the name.
fn lines(call: &CallDifference, [old, new]: [Option<&Evidence>; 2]) -> Vec<String> {
    let mut lines = Vec::new();
    let or = |cases: &[String]| cases.join("; or ");
    match call.change {
        Change::NewlyAllowed if call.new.when != [ALWAYS] => {
            lines.push(format!("when {}", or(&call.new.when)))
        }
        Change::NoLongerAllowed if call.old.when != [ALWAYS] => {
            lines.push(format!("it was when {}", or(&call.old.when)));
        }
        Change::NewlyAllowed | Change::NoLongerAllowed | Change::Answer => {}
        Change::Wider | Change::Narrower | Change::Moved => {
            lines.push(format!("was: {}", or(&call.old.when)));
            lines.push(format!("now: {}", or(&call.new.when)));
        }
    }
    let parts = [("also", &call.gained), ("no longer", &call.lost)];
    for (what, part) in parts.into_iter().filter_map(|(what, part)| Some((what, part.as_ref()?))) {
        let is_said = [&call.old.when, &call.new.when].contains(&&part.when);
        if !is_said && !matches!(&part.when[..], [when] if when == ALWAYS || when == OTHERWISE) {
            lines.push(format!("{what}: {}", or(&part.when)));
        }
        if part.when != [ALWAYS] {
            lines.push(example(part));
        }
    }
    if let Some(part) = call.answered.as_ref().filter(|_| call.change != Change::Answer) {
        lines.push(format!("besides, {}: {}", or(&part.when), answer(part.old, part.new)));
    }
    let mut why = |evidence: Option<&Evidence>, part: &Option<Part>, prefix: &str| {
        if let (Some(evidence), Some(part)) = (evidence, part) {
            let reasons = reasons(evidence, &call.name, &part.when);
            lines.extend(reasons.into_iter().map(|reason| format!("{prefix}{reason}")));
        }
    };
    why(new, &call.gained, "");
    why(old, &call.lost, "before: ");
    lines
}

fn example(part: &Part) -> String {
    format!("for example {}: {}", part.call, answer(part.old, part.new))
}

fn answer(old: Verdict, new: Verdict) -> String {
    format!("{old}, now {new}")
}

/// The calls that are refused, or let through, in another way, by the two answers.
fn answers(calls: &[CallDifference], native: Abi) -> String {
    let mut groups: BTreeMap<(Verdict, Verdict), Vec<String>> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.change == Change::Answer) {
        let Some(part) = &call.answered else { continue };
        let mut label = label(call, native, calls);
        if part.when != [ALWAYS] {
            let _ = write!(label, " ({})", part.when.join("; or "));
        }
        groups.entry((part.old, part.new)).or_default().push(label);
    }
    let mut text = String::new();
    if !groups.is_empty() {
        let _ = writeln!(text, "\n{}", Change::Answer.as_str());
    }
    for ((old, new), names) in groups {
        let _ = writeln!(text, "  {}: {}", answer(old, new), count(names.len() as u64, "call"));
        text += &wrapped(listed(&names), "      ", "      ");
    }
    text
}

fn rules<'e>(evidence: &'e Evidence, name: &str) -> impl Iterator<Item = &'e EvidenceRule> {
    evidence.rules.iter().filter(move |rule| rule.syscall == name)
}

/// Why a profile lets the call through in these cases: by the rules that speak of one of them, or else by all about
/// the call.
fn reasons(evidence: &Evidence, name: &str, when: &[String]) -> Vec<String> {
    let speaks = |rule: &&EvidenceRule| rule.words.iter().any(|words| when.contains(words));
    let of_these: Vec<&EvidenceRule> = rules(evidence, name).filter(speaks).collect();
    let rules = if of_these.is_empty() { rules(evidence, name).collect() } else { of_these };
    let reasons: BTreeSet<Reason> = rules.iter().flat_map(|rule| rule.reasons.clone()).collect();
    sentences(&reasons)
}
