//! How the result of a replay is written: for people, as JSON Lines, as JUnit, and as GitHub's workflow commands.

use clap::ValueEnum;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde_json::json;
use synth::{Tallied, Tally};

use super::{
    court::{About, File, Kind},
    kernel::Asked,
    sum::{Noted, Sum},
};
use crate::terminal::{print, thousands};

/// `--format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people: what is refused or not known, and a sum
    #[default]
    Text,
    /// JSON Lines: every recorded call, each trace, and the result
    Json,
    /// JUnit XML, as CI systems show it: a test for each system call
    Junit,
    /// GitHub's workflow commands: what is refused as errors, what is not known as warnings
    Github,
}

impl Format {
    /// Whether every fact is told.
    pub(super) const fn lists_all(self) -> bool {
        matches!(self, Self::Json)
    }
}

/// Writes while the traces are judged, and at the end.
pub(super) struct Teller {
    format: Format,
    profile: String,
    has_evidence: bool,
}

impl Teller {
    pub(super) const fn new(format: Format, profile: String, has_evidence: bool) -> Self {
        Self { format, profile, has_evidence }
    }

    /// What came of a trace.
    pub(super) fn trace(&self, file: &File) {
        if self.format != Format::Json {
            return;
        }
        let path = file.path.display().to_string();
        let mut text = String::new();
        for told in &file.told {
            let About { kind, abi, name, section, call, why } = &told.about;
            let phases: Vec<&str> = told.phases.iter().map(|phase| phase.as_str()).collect();
            let line = json!({
                "type": "call", "version": 1, "trace": path, "judgement": kind.as_str(), "abi": abi.as_str(),
                "syscall": name, "number": told.number, "section": section.as_str(), "call": call,
                "why": if why.is_empty() { None } else { Some(why) }, "calls": told.calls, "phases": phases,
                "first": told.first,
            });
            text += &(line.to_string() + "\n");
        }
        let mut line =
            json!({ "type": "trace", "version": 1, "trace": path, "complete": !file.is_incomplete });
        extend(&mut line, &file.tally, file.asked.as_ref());
        print(text + &line.to_string() + "\n");
    }

    /// What came of all of them.
    pub(super) fn end(&self, sum: &Sum) -> anyhow::Result<()> {
        match self.format {
            Format::Text => print(self.text(sum)),
            Format::Json => {
                let mut line =
                    json!({ "type": "result", "version": 1, "profile": self.profile, "traces": sum.traces });
                extend(&mut line, &sum.tally, sum.asked.as_ref());
                print(line.to_string() + "\n");
            }
            Format::Junit => print(self.junit(sum).to_string()? + "\n"),
            Format::Github => print(self.github(sum)),
        }
        Ok(())
    }

    fn text(&self, sum: &Sum) -> String {
        let mut text = String::new();
        for (about, noted) in &sum.noted {
            text += &format!("{}\n        {}\n", headline(about), detail(noted, sum.traces));
        }
        if sum.beyond > 0 {
            text += &format!("and {} more that differ from all of these\n", thousands(sum.beyond));
        }
        for line in sum.asked.iter().flat_map(|asked| &asked.disagreements) {
            text += &format!("KERNEL AND SIMULATOR DISAGREE: {line}\n");
        }
        text + &self.summary(sum)
    }

    /// Two or three sentences.
    fn summary(&self, sum: &Sum) -> String {
        let Tally { allowed, denied, on_purpose, unknown, not_needed } = sum.tally;
        let Tallied { facts, calls } = sum.tally.total();
        let mut parts = vec![
            format!("{} allowed", thousands(allowed.facts)),
            format!("{} denied", thousands(denied.facts)),
            format!("{} unknown", thousands(unknown.facts)),
            format!("{} not needed", thousands(not_needed.facts)),
        ];
        if self.has_evidence || on_purpose.facts > 0 {
            parts.insert(2, format!("{} refused on purpose", thousands(on_purpose.facts)));
        }
        let traces = if sum.traces == 1 { "1 trace".to_owned() } else { format!("{} traces", sum.traces) };
        let mut text = format!(
            "{traces}, {} different recorded calls (made {} times): {}\n",
            thousands(facts),
            thousands(calls),
            parts.join(", ")
        );
        if let Some(asked) = &sum.asked {
            text += &asked_in_words(asked);
            text += "\n";
        }
        text
    }

    fn github(&self, sum: &Sum) -> String {
        let mut text = String::new();
        for (about, noted) in &sum.noted {
            let (command, title) = match about.kind {
                Kind::Denied => ("error", "seccomp profile refuses a recorded call"),
                Kind::Unknown => ("warning", "recording says too little about a call"),
                _ => ("notice", "seccomp profile refuses a call on purpose"),
            };
            let message = format!("{}; {}", headline(about), detail(noted, sum.traces));
            text += &workflow_command(command, title, &message);
        }
        for line in sum.asked.iter().flat_map(|asked| &asked.disagreements) {
            text += &workflow_command("error", "kernel and simulator disagree", line);
        }
        text + &self.summary(sum)
    }

    /// A suite for the profile, a test for each system call of each ABI.
    fn junit(&self, sum: &Sum) -> Report {
        let mut suite = TestSuite::new(self.profile.clone());
        for ((abi, name), facts) in &sum.calls {
            let noted: Vec<(&About, &Noted)> =
                sum.noted.iter().filter(|(about, _)| about.abi == *abi && about.name == *name).collect();
            let worst = noted.iter().map(|(about, _)| about.kind).min();
            let kind = match worst {
                Some(Kind::Denied) => Some(NonSuccessKind::Failure),
                Some(Kind::Unknown) => Some(NonSuccessKind::Error),
                _ => None,
            };
            let lines: Vec<String> = noted
                .iter()
                .map(|(about, noted)| format!("{}; {}", headline(about), detail(noted, sum.traces)))
                .collect();
            let mut status = kind.map_or_else(TestCaseStatus::success, TestCaseStatus::non_success);
            if kind.is_some() {
                status.set_message(lines.first().cloned().unwrap_or_default());
                status.set_type(worst.map_or("", Kind::as_str));
                status.set_description(lines.join("\n"));
            }
            let mut case = TestCase::new(name.clone(), status);
            case.set_classname(format!("{}.{abi}", self.profile));
            case.set_system_out(if kind.is_none() && !lines.is_empty() {
                lines.join("\n")
            } else {
                format!("{} different recorded calls", thousands(*facts))
            });
            suite.add_test_case(case);
        }
        for line in sum.asked.iter().flat_map(|asked| &asked.disagreements) {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(line.clone());
            suite.add_test_case(TestCase::new("kernel and simulator agree", status));
        }
        let mut report = Report::new("seccomp-learn replay");
        report.add_test_suite(suite);
        report
    }
}

/// What is said about a call, and why.
fn headline(about: &About) -> String {
    let About { kind, abi, section, call, why, .. } = about;
    let word = match kind {
        Kind::Denied => "denied",
        Kind::Unknown => "unknown",
        _ => "refused on purpose",
    };
    let place = match section {
        synth::Section::Workload => String::new(),
        section => format!(" ({})", section.as_str()),
    };
    // Paths and names come from whoever was recorded.
    format!("{word}: {abi} {}{place}: {why}", call.escape_debug().to_string().replace("\\'", "'"))
}

fn detail(noted: &Noted, of: u64) -> String {
    let Noted { calls, traces, .. } = noted;
    let times = if *calls == 1 { "once".to_owned() } else { format!("{} times", thousands(*calls)) };
    let place = if of == 1 { String::new() } else { format!(" in {traces} of {of} traces") };
    format!("called {times}{place}; {}", noted.first_in_words())
}

fn asked_in_words(asked: &Asked) -> String {
    let Asked { answered, not_checked, disagreements } = asked;
    let agree = answered.saturating_sub(u64::try_from(disagreements.len()).unwrap_or(u64::MAX));
    let mut text =
        format!("the kernel answered {} of {} as the simulator does", thousands(agree), thousands(*answered));
    if *not_checked > 0 {
        text += &format!("; {} not checked, since such calls cannot be made here", thousands(*not_checked));
    }
    text
}

fn extend(line: &mut serde_json::Value, tally: &Tally, asked: Option<&Asked>) {
    let Some(object) = line.as_object_mut() else { return };
    for (name, tallied) in [
        ("allowed", tally.allowed),
        ("denied", tally.denied),
        ("on_purpose", tally.on_purpose),
        ("unknown", tally.unknown),
        ("not_needed", tally.not_needed),
    ] {
        object.insert(name.to_owned(), json!({ "facts": tallied.facts, "calls": tallied.calls }));
    }
    if let Some(Asked { answered, not_checked, disagreements }) = asked {
        object.insert(
            "kernel".to_owned(),
            json!({ "answered": answered, "not_checked": not_checked, "disagreements": disagreements }),
        );
    }
}

/// A workflow command: what would end it is escaped, as GitHub's own toolkit does (`packages/core/src/command.ts`).
/// <https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands>
fn workflow_command(command: &str, title: &str, message: &str) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    format!("::{command} title={}::{}\n", property(title), data(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_message_ends_a_workflow_command() {
        assert_eq!(
            workflow_command("error", "a: b, c", "100 %\r\n::set-output name=x::y"),
            "::error title=a%3A b%2C c::100 %25%0D%0A::set-output name=x::y\n"
        );
    }
}
