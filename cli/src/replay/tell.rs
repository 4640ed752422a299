//! How the result of a replay is written: for people, as JSON Lines, as JUnit, and as GitHub's workflow commands.

use clap::ValueEnum;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde_json::json;
use synth::{Tallied, Tally};

use super::{
    court::{About, File, Kind},
    kernel::Asked,
    sum::{MOST, Noted, OfCall, Sum},
};
use crate::terminal::{print, thousands, visible};

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
        let mut line = json!({ "type": "trace", "version": 1, "trace": path, "complete": !file.is_incomplete, "startup": !file.lacks_start });
        extend(&mut line, &file.tally, file.asked.as_ref());
        print(text + &line.to_string() + "\n");
    }

    /// What came of all of them, and what a reader must know about that.
    pub(super) fn end(&self, sum: &Sum, warnings: &[String]) -> anyhow::Result<()> {
        match self.format {
            Format::Text => print(self.text(sum)),
            Format::Json => {
                let mut line = json!({
                    "type": "result", "version": 1, "profile": self.profile, "traces": sum.traces, "warnings": warnings,
                });
                extend(&mut line, &sum.tally, sum.asked.as_ref());
                print(line.to_string() + "\n");
            }
            Format::Junit => print(self.junit(sum).to_string()? + "\n"),
            Format::Github => print(self.github(sum, warnings)),
        }
        Ok(())
    }

    fn text(&self, sum: &Sum) -> String {
        let mut text = String::new();
        for (about, noted) in &sum.noted {
            text += &format!("{}\n        {}\n", headline(about), detail(noted, sum.traces));
        }
        if let Some(more) = beyond(sum) {
            text += &format!("and {more}\n");
        }
        for line in sum.asked.iter().flat_map(|asked| &asked.disagreements) {
            text += &format!("KERNEL AND SIMULATOR DISAGREE: {}\n", visible(line));
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

    fn github(&self, sum: &Sum, warnings: &[String]) -> String {
        let annotation = |kind: Kind| match kind {
            Kind::Denied => ("error", "seccomp profile refuses a recorded call"),
            Kind::Unknown => ("warning", "recording says too little about a call"),
            _ => ("notice", "seccomp profile refuses a call on purpose"),
        };
        let mut text = String::new();
        for (about, noted) in &sum.noted {
            let (command, title) = annotation(about.kind);
            let message = format!("{}; {}", headline(about), detail(noted, sum.traces));
            text += &workflow_command(command, title, &message);
        }
        if let (Some((worst, _)), Some(more)) = (sum.beyond.first_key_value(), beyond(sum)) {
            let (command, title) = annotation(*worst);
            text += &workflow_command(command, title, &more);
        }
        for line in sum.asked.iter().flat_map(|asked| &asked.disagreements) {
            text += &workflow_command("error", "kernel and simulator disagree", &visible(line));
        }
        for line in warnings {
            text += &workflow_command("warning", "not all could be judged", &visible(line));
        }
        text + &self.summary(sum)
    }

    /// A suite for the profile, a test for each system call of each ABI, and one for what is missing from the evidence.
    fn junit(&self, sum: &Sum) -> Report {
        let mut suite = TestSuite::new(self.profile.clone());
        for ((abi, name), OfCall { facts, worst }) in &sum.calls {
            let noted: Vec<(&About, &Noted)> =
                sum.noted.iter().filter(|(about, _)| about.abi == *abi && about.name == *name).collect();
            let kind = match worst {
                Some(Kind::Denied) => Some(NonSuccessKind::Failure),
                Some(Kind::Unknown) => Some(NonSuccessKind::Error),
                _ => None,
            };
            let mut lines: Vec<String> = noted
                .iter()
                .map(|(about, noted)| format!("{}; {}", headline(about), detail(noted, sum.traces)))
                .collect();
            let listed = noted.iter().map(|(about, _)| about.kind).min();
            if let Some(worst) = worst.filter(|worst| listed.is_none_or(|listed| *worst < listed)) {
                let most = thousands(MOST as u64);
                lines.insert(
                    0,
                    format!(
                        "{}: with arguments that are beyond the {most} calls that are listed",
                        word(worst)
                    ),
                );
            }
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
            status.set_message(visible(line));
            suite.add_test_case(TestCase::new("kernel and simulator agree", status));
        }
        let gaps = sum.gaps();
        if let Some(first) = gaps.first() {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_message(first.clone());
            status.set_type("evidence");
            status.set_description(gaps.join("\n"));
            let mut case = TestCase::new("the recordings are the whole evidence", status);
            case.set_classname(self.profile.clone());
            suite.add_test_case(case);
        }
        let mut report = Report::new("seccomp-learn replay");
        report.add_test_suite(suite);
        report
    }
}

/// What is said about a call, and why.
fn headline(about: &About) -> String {
    let About { kind, abi, section, call, why, .. } = about;
    let place = match section {
        synth::Section::Workload => String::new(),
        section => format!(" ({})", section.as_str()),
    };
    // Paths and names come from whoever was recorded, reasons from whoever wrote the sidecar.
    format!("{}: {abi} {}{place}: {}", word(*kind), visible(call), visible(why))
}

const fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Denied => "denied",
        Kind::Unknown => "unknown",
        _ => "refused on purpose",
    }
}

/// How many there are beyond those that are listed.
fn beyond(sum: &Sum) -> Option<String> {
    let each = sum.beyond.iter().map(|(kind, facts)| format!("{} more {}", thousands(*facts), word(*kind)));
    let text = each.collect::<Vec<_>>().join(", ");
    (!text.is_empty()).then(|| format!("{text}, that differ from all of these"))
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
    use super::{super::sum::tests::denied, *};

    /// What is listed is bounded; what came of a call is not lost with it.
    #[test]
    fn a_refusal_beyond_what_is_listed_is_a_failure_and_an_annotation() {
        let mut sum = Sum::default();
        sum.add(denied("ioctl", MOST));
        sum.add(denied("prctl", 3));
        let teller = Teller::new(Format::Junit, "profile.json".to_owned(), false);
        let junit = teller.junit(&sum);
        let suite = junit.test_suites.first().unwrap();
        assert_eq!((suite.tests, suite.failures), (2, 2));
        let more = "3 more denied, that differ from all of these";
        let github = teller.github(&sum, &[]);
        let lines: Vec<&str> = github.lines().filter(|line| line.contains(more)).collect();
        assert!(lines.len() == 1 && lines[0].starts_with("::error title="), "{lines:?}");
        assert!(teller.text(&sum).contains(&format!("and {more}\n")));
    }

    #[test]
    fn what_is_missing_from_the_evidence_is_an_error_and_a_warning() {
        let mut sum = Sum::default();
        sum.add(File { is_incomplete: true, ..denied("read", 0) });
        let teller = Teller::new(Format::Junit, "profile.json".to_owned(), false);
        let junit = teller.junit(&sum);
        let suite = junit.test_suites.first().unwrap();
        assert_eq!((suite.tests, suite.failures, suite.errors), (2, 0, 1));
        let github = teller.github(&sum, &sum.gaps());
        assert!(
            github.starts_with("::warning title=not all could be judged::1 of 1 traces were not closed"),
            "{github}"
        );
    }

    #[test]
    fn nothing_in_a_message_ends_a_workflow_command() {
        assert_eq!(
            workflow_command("error", "a: b, c", "100 %\r\n::set-output name=x::y"),
            "::error title=a%3A b%2C c::100 %25%0D%0A::set-output name=x::y\n"
        );
    }
}
