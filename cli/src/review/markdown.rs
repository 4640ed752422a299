//! The review as Markdown, for a comment on a pull request: the first screen and what needs a look, no more.

use std::fmt::Write as _;

use synth::{
    Severity,
    review::{AttackOutcome, Review},
};

use super::text::{at_most, sentence};
use crate::terminal::{count, thousands, visible};

/// As many of a list as a comment carries.
const MOST: usize = 20;

pub(super) fn markdown(review: &Review) -> String {
    let mut text = format!("## Seccomp profile {}\n\n", code(&review.subject.name));
    first(review, &mut text);
    findings(review, &mut text);
    lists(review, &mut text);
    let _ = writeln!(
        text,
        "\n---\nDigest over all that this rests on: {}. Every rule with its reasons: `seccomp-learn review` as a page.",
        code(&review.digests.review.to_string())
    );
    text
}

fn first(review: &Review, text: &mut String) {
    let summary = &review.summary;
    let against = cell(&summary.against.name);
    let wider = if summary.wider.is_empty() {
        if summary.undecided.is_empty() { "nothing" } else { "nothing that is known" }.to_owned()
    } else {
        format!("**{}**: {}", count(summary.wider.len() as u64, "call"), list(&summary.wider, cell))
    };
    let mut line = |what: &str, answer: String| {
        let _ = writeln!(text, "| {what} | {answer} |");
    };
    line("", String::new());
    line("---", "---".to_owned());
    line(&format!("Wider than {against}"), wider);
    if !summary.undecided.is_empty() {
        let number = count(summary.undecided.len() as u64, "call");
        line(&format!("Not decided whether within {against}"), format!("**{number}**"));
    }
    line(
        "Allowed",
        format!(
            "{} of {} syscalls, {} only with certain arguments ({against}: {})",
            summary.allowed, summary.known, summary.conditional, summary.against_allowed
        ),
    );
    if let Some(replayed) = &summary.replayed {
        let left =
            if summary.left_out.is_empty() { "nothing".to_owned() } else { list(&summary.left_out, cell) };
        line("Succeeded while recording, refused now", left);
        if !(replayed.denied_syscalls.is_empty() && replayed.unknown_syscalls.is_empty()) {
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
        line(
            "Added after a denial",
            if added.is_empty() { "nothing".to_owned() } else { list(&added, cell) },
        );
    }
    let starts = summary.starts.map_or_else(
        || "none counted".to_owned(),
        |starts| {
            let bound = starts
                .upper_bound
                .map(|bound| format!("; up to {} of such starts may still meet a refusal", at_most(bound)));
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
        let about = if calls.is_empty() { String::new() } else { format!(" ({})", list(&calls, code)) };
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
            let mut said: Vec<String> = own.decided.iter().chain(&own.expired).map(|own| code(own)).collect();
            if !own.open.is_empty() {
                let cases = own.open.iter().map(|case| code(case)).collect::<Vec<_>>().join(" or ");
                said.push(if own.open == own.here {
                    "**no decision**".to_owned()
                } else {
                    format!("**no decision** for {cases}")
                });
            }
            let _ = writeln!(text, "- {}: {here}; {}", code(&own.syscall), said.join("; "));
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
            "\nThe recording: {}, {}{}.",
            count(completeness.runs, "run"),
            completeness.syscalls.sentence("syscalls"),
            completeness.syscalls.provided()
        );
    }
}

/// Names, the first of many.
fn list(names: &std::collections::BTreeSet<String>, show: fn(&str) -> String) -> String {
    let mut words: Vec<String> = names.iter().take(MOST).map(|name| show(name)).collect();
    if names.len() > MOST {
        words.push(format!("{} more", names.len() - MOST));
    }
    words.join(", ")
}

/// What others chose: in a code span nothing of it is Markdown, a link or a mention.
fn code(text: &str) -> String {
    format!("`{}`", visible(text).replace('`', "'"))
}

/// The same in a table, where a pipe ends the cell, in code, too, and a backslash in front of it is taken away from the
/// pipe's: so such a text is written by its letters' numbers.
/// <https://github.github.com/gfm/#example-200>
fn cell(text: &str) -> String {
    let text = visible(text);
    if !text.contains('|') {
        return code(&text);
    }
    let one = |letter: char| {
        if letter.is_ascii_punctuation() { format!("&#{};", u32::from(letter)) } else { letter.to_string() }
    };
    format!("<code>{}</code>", text.chars().map(one).collect::<String>())
}

/// A sentence of ours: names stand in back-ticks, and others chose some of them.
fn words(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(place, part)| if place % 2 == 1 { code(part) } else { escaped(part) }).collect()
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for own in visible(text).chars() {
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
        assert_eq!(code("a`b|c\n<img>"), "`a'b|c\\u{a}<img>`");
        assert_eq!(code("a\\|b"), "`a\\|b`");
        assert_eq!(cell("a`b"), "`a'b`");
        assert_eq!(cell("PROT_READ|<b>\\|`"), "<code>PROT&#95;READ&#124;&#60;b&#62;&#92;&#124;&#96;</code>");
        assert_eq!(words("<b> @all [x](http://y) *z*"), "&lt;b> &#64;all \\[x\\](http://y) \\*z\\*");
        assert_eq!(words("a `<b>|` _c_"), "a `<b>|` \\_c\\_");
    }
}
