//! The review as Markdown, for a comment on a pull request: the first screen and what needs a look, no more.

use std::fmt::Write as _;

use synth::{
    Severity,
    review::{AttackOutcome, Review},
};

use super::text::{percent, plain, sentence};
use crate::terminal::{count, thousands};

/// As many of a list as a comment carries.
const MOST: usize = 20;

pub(super) fn markdown(review: &Review) -> String {
    let mut text = format!("## Seccomp profile {}\n\n", code(&review.subject.name));
    first(review, &mut text);
    findings(review, &mut text);
    lists(review, &mut text);
    let _ = writeln!(
        text,
        "\n---\nDigest over profile, evidence, traces and decisions: {}. Every rule with its reasons: `seccomp-learn review` as a page.",
        code(&review.digests.review.to_string())
    );
    text
}

fn first(review: &Review, text: &mut String) {
    let summary = &review.summary;
    let against = code(&summary.against.name);
    let wider = if summary.wider.is_empty() {
        "nothing".to_owned()
    } else {
        format!("**{}**: {}", count(summary.wider.len() as u64, "call"), list(&summary.wider))
    };
    let mut line = |what: &str, answer: String| {
        let _ = writeln!(text, "| {what} | {answer} |");
    };
    line("", String::new());
    line("---", "---".to_owned());
    line(&format!("Wider than {against}"), wider);
    line(
        "Allowed",
        format!(
            "{} of {} syscalls, {} only with certain arguments ({against}: {})",
            summary.allowed, summary.known, summary.conditional, summary.against_allowed
        ),
    );
    if let Some(replayed) = &summary.replayed {
        let left = if summary.left_out.is_empty() { "nothing".to_owned() } else { list(&summary.left_out) };
        line("Succeeded while recording, refused now", left);
        if replayed.denied + replayed.unknown > 0 {
            line(
                "Recorded calls",
                format!(
                    "**{} needed and refused**, {} cannot be judged, of {}",
                    thousands(replayed.denied),
                    thousands(replayed.unknown),
                    thousands(replayed.calls)
                ),
            );
        }
    }
    if let Some(observed) = summary.observed {
        let kinds: Vec<String> = summary
            .not_observed
            .iter()
            .map(|(origin, number)| format!("{number} {}", origin.for_what()))
            .collect();
        let not = summary.allowed.saturating_sub(observed);
        line("Allowed, never observed", format!("{not}: {}", kinds.join(", ")));
        let added: std::collections::BTreeSet<String> =
            summary.added.iter().map(|own| own.syscall.clone()).collect();
        line("Added after a denial", if added.is_empty() { "nothing".to_owned() } else { list(&added) });
    }
    let starts = summary.starts.map_or_else(
        || "none counted".to_owned(),
        |starts| {
            let bound = starts
                .upper_bound
                .map(|bound| format!("; up to {} of such starts may still meet a refusal", percent(bound)));
            let starts = format!("{} refused in {}", starts.denied, count(starts.starts.into(), "start"));
            starts + &bound.unwrap_or_default()
        },
    );
    line("Starts under this profile", starts);
    let attacks = &review.attacks;
    line(
        "Known attacks",
        format!(
            "{} of {} blocked ({against}: {})",
            attacks.blocked, attacks.decided, attacks.against_blocked
        ),
    );
}

fn findings(review: &Review, text: &mut String) {
    let serious = review.findings.iter().filter(|own| own.severity > Severity::Note);
    let mut any = false;
    for own in serious {
        if !any {
            text.push_str("\n### What to look at\n\n");
        }
        any = true;
        let calls: std::collections::BTreeSet<String> = own.calls.iter().cloned().collect();
        let about = if calls.is_empty() { String::new() } else { format!(" ({})", list(&calls)) };
        let _ = writeln!(
            text,
            "- **{}: {}**{about}. {} → {}",
            own.severity,
            words(&own.title),
            words(&sentence(&own.detail)),
            words(&sentence(&own.what_to_do))
        );
    }
    if !any {
        text.push_str("\nNothing to object to.\n");
    }
}

fn lists(review: &Review, text: &mut String) {
    if !review.wider.is_empty() {
        let _ = write!(text, "\n### Wider than {}\n\n", code(&review.summary.against.name));
        for own in review.wider.iter().take(MOST) {
            let here = own.here.iter().map(|case| code(case)).collect::<Vec<_>>().join(" or ");
            let decided = own.decided.as_ref().map_or("no decision".to_owned(), |text| code(text));
            let _ = writeln!(text, "- {}: {here}; {decided}", code(&own.syscall));
        }
    }
    let newly: Vec<String> = review
        .attacks
        .rows
        .iter()
        .filter(|row| row.outcome == AttackOutcome::Open && row.against == AttackOutcome::Blocked)
        .map(|row| row.name.clone())
        .collect();
    if !newly.is_empty() {
        let _ = writeln!(text, "\nOpen here and not there: {}.", newly.join(", "));
    }
    if let Some(completeness) = &review.completeness {
        let _ = writeln!(
            text,
            "\nThe recording: {}, {}.",
            count(completeness.runs, "run"),
            completeness.syscalls.sentence("syscalls")
        );
    }
}

/// Names, the first of many.
fn list(names: &std::collections::BTreeSet<String>) -> String {
    let mut words: Vec<String> = names.iter().take(MOST).map(|name| code(name)).collect();
    if names.len() > MOST {
        words.push(format!("{} more", names.len() - MOST));
    }
    words.join(", ")
}

/// What others chose: in a code span nothing of it is Markdown, a link or a mention.
fn code(text: &str) -> String {
    format!("`{}`", plain(text).replace('`', "'").replace('|', "\\|"))
}

/// A sentence of ours: names stand in back-ticks, and others chose some of them.
fn words(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(place, part)| if place % 2 == 1 { code(part) } else { escaped(part) }).collect()
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for own in plain(text).chars() {
        match own {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '@' => out.push_str("&#64;"),
            '*' | '_' | '[' | ']' | '|' | '~' | '#' | '\\' | '!' => {
                out.push('\\');
                out.push(own);
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_others_chose_is_markdown() {
        assert_eq!(code("a`b|c\n<img>"), "`a'b\\|c\\u{a}<img>`");
        assert_eq!(words("<b> @all [x](http://y) *z*"), "&lt;b> &#64;all \\[x\\](http://y) \\*z\\*");
        assert_eq!(words("a `<b>|` _c_"), "a `<b>\\|` \\_c\\_");
    }
}
