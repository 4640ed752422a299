//! What both kinds of differences say alike: who called something and when, and lines.

use std::collections::BTreeSet;

use trace::{FirstSight, PhaseName};

/// As wide as a line gets.
const WIDTH: usize = 100;

/// Text that someone else chose, without what a terminal would obey.
pub(super) fn visible(text: &str) -> String {
    let one = |letter: char| {
        if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() }
    };
    text.chars().map(one).collect()
}

/// What was seen of a call: `3 calls in 2 of 3 runs, startup; first by python3 (pid 4711) after 12 ms`.
pub(super) fn seen(
    times: &str,
    (runs, of): (u64, u64),
    phases: &BTreeSet<PhaseName>,
    first: &FirstSight,
) -> String {
    let mut text = times.to_owned();
    if of > 1 {
        text += &format!(" in {runs} of {of} runs");
    }
    let phases: Vec<&str> = phases.iter().map(|phase| phase.as_str()).collect();
    if !phases.is_empty() {
        text += &format!(", {}", phases.join(" and "));
    }
    let FirstSight { after_ms, pid, comm } = first;
    format!("{text}; first by {} (pid {pid}) after {after_ms} ms", visible(comm))
}

/// Words, or names that stay whole, in lines of a readable width: the first line begins with `first`, the others
/// with `next`.
pub(super) fn wrapped(words: &[String], first: &str, next: &str) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in words {
        let indent = if lines.is_empty() { first } else { next };
        if !line.is_empty() && indent.len() + line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines += &format!("{indent}{line}\n");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    if !line.is_empty() {
        lines += &format!("{}{line}\n", if lines.is_empty() { first } else { next });
    }
    lines
}

/// The words of a sentence.
pub(super) fn words_of(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Names as a list with commas.
pub(super) fn listed(names: &[String]) -> Vec<String> {
    let last = names.len().saturating_sub(1);
    let one = |(place, name): (usize, &String)| if place == last { name.clone() } else { format!("{name},") };
    names.iter().enumerate().map(one).collect()
}
