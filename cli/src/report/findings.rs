//! What the report says about findings, decisions, and starts that were watched later.

use std::{collections::BTreeSet, fmt::Write as _};

use harness::HeldOut;
use synth::{Evidence, EvidenceDecision, Finding, Level, decode};
use trace::{Abi, Digest};

use super::table::{cell, code, table};
use crate::terminal::{count, visible};

/// What a person should know, what waits for a decision first.
pub(super) fn findings(evidence: &Evidence) -> String {
    let of = |keep: fn(Level) -> bool| evidence.findings.iter().filter(move |finding| keep(finding.level()));
    let list = |findings: Vec<&Finding>| -> String {
        findings.into_iter().map(|finding| format!("- {}\n", visible(&finding.message()))).collect()
    };
    let mut text = String::new();
    let undecided: Vec<&Finding> = of(|level| level == Level::Undecided).collect();
    if !undecided.is_empty() {
        let syscalls: BTreeSet<&str> = undecided.iter().filter_map(|finding| finding.syscall()).collect();
        let _ = write!(text, "\n## To decide\n\n{}", list(undecided));
        text.push_str("\nSay in `workload.toml` what is to be, with a reason and a name, and make the profile again:\n\n```toml\n");
        for syscall in syscalls {
            let _ = write!(
                text,
                "[[decision]]\nverdict = \"accept\"  # or \"allow\", perhaps with when = \"…\"\nsyscall = \"{syscall}\"\nreason = \"\"\nowner = \"\"\n"
            );
        }
        text.push_str("```\n");
    }
    text.push_str("\n## Findings\n\n");
    let review: Vec<&Finding> = of(|level| matches!(level, Level::Review | Level::Incomplete)).collect();
    if review.is_empty() {
        text.push_str("None that needs a look.\n");
    }
    text.push_str(&list(review));
    let notes: Vec<&Finding> = of(|level| level == Level::Note).collect();
    if !notes.is_empty() {
        let _ = write!(text, "\nTo know:\n\n{}", list(notes));
    }
    text
}

/// What reviewers decided.
pub(super) fn decisions(evidence: &Evidence) -> String {
    let row = |decision: &EvidenceDecision| {
        vec![
            decision.verdict.as_str().to_owned(),
            code(&decision.syscall),
            match decision.when.as_str() {
                "always" => "always".to_owned(),
                when => code(&decode::alternatives(Abi::X86_64, &decision.syscall, &[when.to_owned()])),
            },
            cell(&decision.reason),
            cell(&decision.owner),
            decision.expires.map_or_else(|| "for good".to_owned(), |expires| expires.to_string()),
        ]
    };
    let text = table(
        &["decision", "syscall", "when", "reason", "owner", "until"],
        evidence.options.decisions.iter().map(row),
    );
    if text.is_empty() { text } else { format!("\n## Decisions\n\n{text}") }
}

/// What starts showed that were watched after the profile was made.
pub(super) fn held(profile: Digest, image: Option<Digest>, list: &HeldOut) -> String {
    if list.runs.is_empty() {
        return String::new();
    }
    let tally = list.tally(profile, image);
    let mut text = format!(
        "\n## Held out\n\nWatched, or started under it, after the profile was made, from start to stop: {}, {} with a denial.\n",
        count(tally.runs.into(), "start"),
        tally.denied,
    );
    if let Some(bound) = tally.upper_bound() {
        let _ = writeln!(
            text,
            "At 95 % confidence up to {:.0} % of such starts may still meet a denial.",
            (bound * 100.0).ceil()
        );
    }
    if tally.not_known > 0 {
        let _ = writeln!(
            text,
            "{} could not be judged: the answer to some call depends on arguments that were not seen.",
            count(tally.not_known.into(), "further start")
        );
    }
    let others = list.runs.len().saturating_sub((tally.runs + tally.not_known) as usize);
    if others > 0 {
        let _ = writeln!(text, "Not counted: {} of other profiles or images.", count(others as u64, "start"));
    }
    text
}

#[cfg(test)]
mod tests {
    use harness::{HeldOutDenial, HeldOutRun, Judged};

    use super::*;

    #[test]
    fn held_out_starts_are_counted_for_their_profile() {
        let run = |number: u8, profile: &[u8], denials: Vec<HeldOutDenial>| HeldOutRun {
            started: format!("2026-01-01T00:00:{number:02}Z"),
            duration_ms: 1,
            container: "c".to_owned(),
            name: None,
            pod: None,
            image: None,
            judged: Judged::Enforced,
            profile: Some(Digest::of(profile)),
            tool: "seccomp-learn 0.1.0".to_owned(),
            kernel: "6.8.0".to_owned(),
            arch: "x86_64".to_owned(),
            gpu_driver: None,
            calls: Some(1),
            denials,
            not_known: Vec::new(),
        };
        let denial = HeldOutDenial {
            abi: Abi::X86_64,
            syscall: "mkdir".to_owned(),
            answer: "EPERM".to_owned(),
            count: 1,
        };
        let mut list = HeldOut::default();
        assert_eq!(held(Digest::of(b"own"), None, &list), "");
        for number in 0..20 {
            list.add(run(number, b"own", Vec::new()));
        }
        list.add(run(20, b"other", vec![denial]));
        let text = held(Digest::of(b"own"), None, &list);
        for part in [
            "20 starts, 0 with a denial",
            "up to 14 % of such starts",
            "Not counted: 1 start of other profiles or images",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
