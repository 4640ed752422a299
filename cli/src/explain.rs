//! `explain`: one call, what it does, what allowing it opens up, and why it is in a profile.

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use synth::{AbiAnswer, Carried, Condition, Explanation, InProfile, Profile, Within, arguments, decode};
use trace::Abi;

use crate::{
    exit, input,
    terminal::{count, print, wrapped},
};

/// More attacks than a reader of a terminal looks through.
const MOST_ATTACKS: usize = 12;

/// Explain a call: what it does, what allowing it opens up, and why it is in a profile
///
/// Without a profile it says what is known about the call. With one it says whether the profile lets it through, by
/// which entry, and for what reasons.
///
/// Exits with 1 if the profile refuses what was asked about, and with 0 if it allows at least some of it.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// A call: `openat`, `socket(domain == AF_INET)`, `socket(AF_INET, SOCK_STREAM)`, `ioctl TIOCGWINSZ`, or an entry
    /// of a profile as JSON
    #[arg(value_name = "SYSCALL|RULE")]
    question: String,

    /// The profile: a file, a workload folder, or the name of a shipped default (docker, podman, containerd)
    #[arg(value_name = "PROFILE|DIR")]
    profile: Option<PathBuf>,

    /// One JSON object for each call, for programs
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let questions = questions(&options.question)?;
    let profile = options.profile.as_deref().map(input::profile).transpose()?;
    let evidence = match (options.profile.as_deref(), &profile) {
        (Some(path), Some(profile)) => input::evidence(path, profile)?,
        _ => None,
    };
    let native =
        evidence.as_ref().map_or_else(|| input::container().native, |evidence| evidence.workload.native);
    let within = profile.as_ref().map(|profile| Within { profile, evidence: evidence.as_ref(), native });
    let mut allowed = true;
    let mut text = String::new();
    for (syscall, conditions) in questions {
        let explanation = synth::explain(&syscall, &conditions, within)
            .with_context(|| format!("cannot explain `{syscall}`"))?;
        allowed &= explanation.is_allowed();
        if options.json {
            text += &explanation.to_json();
            text.push('\n');
        } else {
            if !text.is_empty() {
                text.push('\n');
            }
            text += &words(&explanation);
        }
    }
    print(text);
    Ok(exit::code(if allowed { exit::YES } else { exit::NO }))
}

/// What was asked about: calls with conditions that hold together.
fn questions(text: &str) -> anyhow::Result<Vec<(String, Vec<Condition>)>> {
    let text = text.trim();
    if text.starts_with('{') {
        // An entry is read as strictly as a profile is.
        let profile = format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{text}]}}"#);
        let profile = Profile::read(profile.as_bytes()).context("cannot read the entry")?;
        let entries = profile.syscalls.into_iter();
        return Ok(entries
            .flat_map(|entry| entry.names.into_iter().map(move |name| (name, entry.args.clone())))
            .collect());
    }
    let end =
        text.find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if !synth::is_syscall(name) {
        bail!(
            "unknown syscall `{name}`; write a name as in the manual, or a rule: `socket(domain == AF_INET)`"
        );
    }
    let rest = rest.trim();
    let conditions = match rest.strip_prefix('(').map(|rest| rest.strip_suffix(')')) {
        Some(Some(inner)) if inner.trim().is_empty() => Vec::new(),
        Some(Some(inner)) if inner.contains(['=', '<', '>']) => read(name, inner)?,
        Some(Some(inner)) => read(name, &by_place(inner))?,
        Some(None) => bail!("`{text}` has no `)`"),
        None if rest.is_empty() => Vec::new(),
        None => by_value(name, rest)?,
    };
    Ok(vec![(name.to_owned(), conditions)])
}

fn read(name: &str, text: &str) -> anyhow::Result<Vec<Condition>> {
    decode::read_conditions(name, text).with_context(|| format!("cannot read the rule for `{name}`"))
}

/// Arguments in their places, as conditions: `AF_INET, SOCK_STREAM` is `domain == AF_INET, type == SOCK_STREAM`. What is
/// left open is `_` or `…`.
fn by_place(arguments: &str) -> String {
    let condition = |(index, word): (u32, &str)| {
        let word = word.trim();
        if matches!(word, "" | "_" | "…" | "...") {
            return None;
        }
        let word = if word == "NULL" { "0" } else { word };
        Some(format!("arg{index} == {word}"))
    };
    (0..).zip(arguments.split(',')).filter_map(condition).collect::<Vec<_>>().join(", ")
}

/// Values of which it is known of which argument they are: `ioctl TIOCGWINSZ`.
fn by_value(name: &str, words: &str) -> anyhow::Result<Vec<Condition>> {
    let mut conditions: Vec<Condition> = Vec::new();
    for word in words.split_whitespace() {
        let named = arguments::arguments_of(name)
            .filter(|argument| conditions.iter().all(|own| own.index != argument.index))
            .find_map(|argument| decode::read_conditions(name, &format!("{} == {word}", argument.name)).ok());
        match named {
            Some(read) => conditions.extend(read),
            None => {
                bail!("`{word}` is no value of an argument of `{name}`; write `{name}(…)` with conditions")
            }
        }
    }
    Ok(conditions)
}

/// The explanation for a person.
fn words(explanation: &Explanation) -> String {
    let mut text = String::new();
    let name = &explanation.syscall;
    let asked =
        if explanation.when == "always" { String::new() } else { format!(" with {}", explanation.when) };
    let _ = writeln!(text, "{name}{asked}");
    if explanation.conditions != explanation.when {
        field(&mut text, "in numbers", &explanation.conditions);
    }
    if let Some(does) = explanation.does {
        field(&mut text, "does", does);
    }
    if let Some(risk) = explanation.risk {
        field(&mut text, "risk", &format!("{risk}: {}", risk.meaning()));
    }
    if let Some(opens) = explanation.opens {
        field(&mut text, "opens up", opens);
    }
    let numbers: Vec<String> =
        explanation.numbers.iter().map(|(abi, number)| format!("{abi} {number}")).collect();
    field(
        &mut text,
        "number",
        &if numbers.is_empty() { "on other machines only".to_owned() } else { numbers.join(", ") },
    );
    if let Some(source) = explanation.source {
        field(&mut text, "see", source);
    }
    for together in &explanation.together {
        let label = match together.kind.as_str() {
            "always" => "always added",
            "portable" => "added by the margin",
            "fallback" => "falls back",
            _ => "stands with",
        };
        let calls = if together.kind == "fallback" {
            together.calls.join(" on ENOSYS to ")
        } else {
            together.calls.join(" ")
        };
        field(&mut text, label, &format!("{calls}: {}", together.why));
    }
    attacks(&mut text, explanation);
    if let Some(profile) = &explanation.profile {
        in_profile(&mut text, profile, explanation);
    }
    text
}

fn attacks(text: &mut String, explanation: &Explanation) {
    let real: Vec<_> = explanation.attacks.iter().filter(|attack| !attack.control).collect();
    if real.is_empty() {
        return;
    }
    let show = |mut names: Vec<&str>| {
        let more = names.len().saturating_sub(MOST_ATTACKS);
        names.truncate(MOST_ATTACKS);
        names.join(", ") + &if more == 0 { String::new() } else { format!(" and {more} more") }
    };
    let names: Vec<&str> = real.iter().map(|attack| attack.name).collect();
    field(text, "needed by", &format!("{}: {}", count(size(names.len()), "known attack"), show(names)));
    let open: Vec<&str> = real.iter().filter(|own| own.open == Some(true)).map(|own| own.name).collect();
    if explanation.profile.is_some() {
        let blocked = real.len().saturating_sub(open.len());
        let rest =
            if open.is_empty() { "none is left open".to_owned() } else { format!("open: {}", show(open)) };
        field(text, "of these", &format!("the profile blocks {blocked}; {rest}"));
    }
}

fn size(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn in_profile(text: &mut String, profile: &InProfile, explanation: &Explanation) {
    text.push_str("In the profile\n");
    for answer in &profile.answers {
        let passing = answer.abi != own_abi(profile) && answer.answer == Carried::Refused;
        // That a foreign ABI refuses goes without saying.
        if !passing {
            field(text, answer.abi.as_str(), &carried(answer, explanation.numbers.get(&answer.abi)));
        }
    }
    if let Some(library) = &profile.unknown_to {
        field(
            text,
            "unknown to",
            &format!("libseccomp {library}, whose filters leave out what the profile says"),
        );
    }
    if profile.entries.is_empty() {
        field(text, "by", "the default action; no entry is about it");
    }
    for entry in &profile.entries {
        let numbers =
            if entry.words == entry.conditions { String::new() } else { format!(" [{}]", entry.conditions) };
        field(text, "by", &format!("{} {}{numbers}", entry.action, entry.words));
    }
    for why in &profile.why {
        if why.when != ["always"] {
            field(text, "for", &why.when.join(" or "));
        }
        for reason in &why.reasons {
            field(text, "why", reason);
        }
    }
    let came_with: std::collections::BTreeSet<&str> =
        profile.why.iter().flat_map(|why| &why.came_with).map(String::as_str).collect();
    if !came_with.is_empty() {
        field(text, "came with", &came_with.into_iter().collect::<Vec<_>>().join(" "));
    }
    if !profile.brought.is_empty() {
        let brought: Vec<&str> = profile.brought.iter().map(String::as_str).collect();
        field(text, "brought", &brought.join(" "));
    }
    for decision in &profile.decisions {
        field(text, "decided", decision);
    }
    for finding in &profile.findings {
        field(text, "found", finding);
    }
    for lint in &profile.lints {
        field(text, lint.severity.as_str(), &format!("{} ({}): {}", lint.title, lint.id, lint.what_to_do));
    }
    if profile.why.is_empty() && profile.entries.iter().any(|entry| entry.action == "SCMP_ACT_ALLOW") {
        let name = &explanation.syscall;
        field(text, "why", &format!("no evidence says why `{name}` is allowed; a workload folder has it"));
    }
}

fn own_abi(profile: &InProfile) -> Abi {
    profile.answers.first().map_or(Abi::X86_64, |answer| answer.abi)
}

fn carried(answer: &AbiAnswer, number: Option<&u32>) -> String {
    let unasked = number.is_some_and(|number| synth::bypasses_filters(answer.abi, *number));
    let refused = answer.refused_with.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    match (answer.answer, &answer.passes, &answer.fails) {
        _ if unasked => "carried out: the kernel asks no filter about it".to_owned(),
        (Carried::Unknown, ..) => "cannot be told: its conditions are too many".to_owned(),
        (Carried::Allowed, ..) => "allowed".to_owned(),
        (Carried::Refused, ..) => format!("refused: {refused}"),
        (Carried::Partly, Some(passes), Some(fails)) => {
            format!("allowed with some arguments, like {passes}, and else refused, like {fails}: {refused}")
        }
        (Carried::Partly, ..) => format!("allowed with some arguments, and else refused: {refused}"),
    }
}

/// A line with a label, broken where it gets too long.
fn field(text: &mut String, label: &str, value: &str) {
    *text += &wrapped(value.split(' '), &format!("  {label:14}"), &" ".repeat(16));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Vec<(String, String)> {
        let show =
            |(name, conditions): (String, Vec<Condition>)| (name, synth::display_conditions(&conditions));
        questions(text).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn a_rule_is_asked_about_in_every_spelling() {
        let socket = vec![("socket".to_owned(), "arg0 & 0xffffffff == 0x2".to_owned())];
        for text in [
            "socket(domain == AF_INET)",
            "socket(AF_INET)",
            "socket AF_INET",
            "socket(arg0 == 2, )",
            "socket(2, _)",
        ] {
            if text.ends_with(", )") {
                assert!(questions(text).is_err());
                continue;
            }
            assert_eq!(asked(text), socket, "{text}");
        }
        assert_eq!(asked(" openat "), [("openat".to_owned(), "always".to_owned())]);
        assert_eq!(asked("getpid()"), [("getpid".to_owned(), "always".to_owned())]);
        assert_eq!(asked("ioctl TIOCGWINSZ"), asked("ioctl(_, TIOCGWINSZ)"));
        assert_eq!(
            asked("ioctl(1, TIOCGWINSZ)")[0].1,
            "arg0 & 0xffffffff == 0x1, arg1 & 0xffffffff == 0x5413"
        );
        assert_eq!(asked("openat(AT_FDCWD)")[0].1, "arg0 & 0xffffffff == 0xffffff9c");
        assert_eq!(asked("kill(-1)")[0].1, "arg0 & 0xffffffff == 0xffffffff");
        assert_eq!(asked("socket AF_UNIX SOCK_DGRAM"), asked("socket(AF_UNIX, SOCK_DGRAM)"));
        let entry = r#"{"names": ["read", "socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]}"#;
        let both = asked(entry);
        assert_eq!((both.len(), both[1].1.as_str()), (2, "arg0 == 0x2"));
    }

    #[test]
    fn what_cannot_be_asked_names_its_culprit() {
        for (text, culprit) in [
            ("sokcet", "unknown syscall `sokcet`"),
            ("", "unknown syscall ``"),
            ("socket(domain == AF_INET", "has no `)`"),
            ("socket(domian == 2)", "domian"),
            ("socket AF_NOWHERE", "AF_NOWHERE"),
            ("openat(AT_FDWC)", "`AT_FDWC` is no value of `arg0`"),
            ("socket(AF_NOWHERE)", "`AF_NOWHERE` is no value of `domain`"),
            ("{\"names\": [\"read\"]}", "action"),
            ("{\"names\": [\"red\"], \"action\": \"SCMP_ACT_ALLOW\"}", "unknown syscall `red`"),
        ] {
            let error = format!("{:#}", questions(text).unwrap_err());
            assert!(error.contains(culprit), "{text}: {error}");
        }
    }
}
