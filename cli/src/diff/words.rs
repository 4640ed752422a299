//! What both kinds of differences say alike: who called something and when, and lines.

use std::collections::BTreeSet;

use trace::{FirstSight, PhaseName};

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
    format!("{text}; first by {comm} (pid {pid}) after {after_ms} ms")
}

/// Names as a list with commas.
pub(super) fn listed(names: &[String]) -> Vec<String> {
    let last = names.len().saturating_sub(1);
    let one = |(place, name): (usize, &String)| if place == last { name.clone() } else { format!("{name},") };
    names.iter().enumerate().map(one).collect()
}
