//! What the report says about runs that were not recorded.

use std::{fmt::Write as _, path::PathBuf};

use synth::{Completeness, Estimate, Singleton};
use trace::Trace;

use super::table::{cell, code, table};
use crate::{input, terminal::count};

/// As many rows as a reader looks through.
const MOST: usize = 40;

/// What the runs of merged traces say; the files are those of the traces, one after the other.
pub(crate) fn completeness(merged: &Trace, files: &[PathBuf]) -> anyhow::Result<Completeness> {
    let mut made = synth::completeness(merged);
    for file in files {
        if made.arguments_once.iter().chain(&made.syscalls_once).all(|one| one.run.is_some()) {
            break;
        }
        made.found_in(&input::trace(file)?);
    }
    Ok(made)
}

/// The section.
pub(super) fn section(made: &Completeness) -> String {
    let mut text = format!("\n## Completeness\n\nAfter {}:\n\n", count(made.runs, "run"));
    let _ = writeln!(text, "- {}", made.syscalls.sentence("syscalls"));
    let _ = writeln!(text, "- {}", made.arguments.sentence("syscalls with their arguments"));
    if made.runs > 1 {
        let _ = write!(text, "\n{}", curve(&made.syscalls, &made.arguments));
    }
    // A syscall that was seen in one run only is among its ways, too.
    if !made.arguments_once.is_empty() {
        let list = &made.arguments_once;
        text.push_str("\nSeen in one run only, which is what a reviewer should look at:\n\n");
        text.push_str(&table(
            &["call", "how often", "in", "first by", "after", "run"],
            list.iter().take(MOST).map(row),
        ));
        if list.len() > MOST {
            let _ = writeln!(text, "\nAnd {} more.", list.len() - MOST);
        }
    }
    text.push_str("\nWhat these figures assume:\n\n");
    for assumption in &made.assumptions {
        let _ = writeln!(text, "- {}", cell(assumption));
    }
    text
}

/// The saturation curve: how many different ones so many runs show on average.
fn curve(syscalls: &Estimate, arguments: &Estimate) -> String {
    let points = syscalls.curve.iter().zip(&arguments.curve);
    let step = syscalls.curve.len().div_ceil(10).max(1);
    let last = syscalls.curve.last().map(|point| point.runs);
    let shown =
        points.enumerate().filter(|(place, (point, _))| place % step == 0 || Some(point.runs) == last);
    let rows = shown.map(|(_, (one, other))| {
        vec![one.runs.to_string(), format!("{:.1}", one.expected), format!("{:.1}", other.expected)]
    });
    table(&["runs", "syscalls", "with arguments"], rows)
}

fn row(one: &Singleton) -> Vec<String> {
    let phases: Vec<&str> = one.phases.iter().map(|phase| phase.as_str()).collect();
    let run =
        one.run.map_or_else(String::new, |run| code(&run.to_string().chars().take(19).collect::<String>()));
    vec![
        code(one.call.as_deref().unwrap_or(&one.syscall)),
        one.calls.to_string(),
        phases.join(", "),
        code(&one.first.comm),
        format!("{} ms", one.first.after_ms),
        run,
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use trace::{Abi, Backend, FirstSight, Outcome, PhaseName, Recorder, Row, Target, TargetKind};

    use super::*;

    fn run(number: u64, calls: &[(&str, u32)]) -> Trace {
        let recorder = Recorder {
            tool: "seccomp-learn 0.1.0".to_owned(),
            backend: Backend::Ebpf,
            kernel: "6.18.0".to_owned(),
            arch: "x86_64".to_owned(),
            started: "2026-01-01T00:00:00Z".to_owned(),
            duration_ms: number,
            perturbations: Vec::new(),
        };
        let row = |(name, number): &(&str, u32)| Row {
            abi: Abi::X86_64,
            number: *number,
            name: (*name).to_owned(),
            calls: 3,
            runs: 1,
            denied: 0,
            outcomes: [(Outcome::Ok, 3)].into(),
            refusals: BTreeMap::new(),
            in_flight: 0,
            never_returned: 0,
            phases: [PhaseName::Startup].into(),
            first: FirstSight { after_ms: 5, pid: 1, comm: "a|b`c".to_owned() },
            arguments: None,
        };
        let mut run = Trace::new(recorder, Target::new(TargetKind::Command));
        run.complete = true;
        run.syscalls = calls.iter().map(row).collect();
        run.seal().unwrap();
        run
    }

    #[test]
    fn the_section_leads_with_what_is_expected_and_lists_what_was_seen_once() {
        let runs = [run(1, &[("read", 0)]), run(2, &[("read", 0), ("write", 1)]), run(3, &[("read", 0)])];
        let mut made = synth::completeness(&trace::merge(runs.clone()).unwrap());
        runs.iter().for_each(|run| made.found_in(run));
        let text = section(&made);
        let digest = &runs[1].digest.unwrap().to_string()[..19];
        for part in [
            "After 3 runs:".to_owned(),
            "- 2 syscalls seen, 1 of them in one run only; 0.33 new ones expected in the next run;"
                .to_owned(),
            "| 1 | 1.3 | 1.3 |\n| 2 | 1.7 | 1.7 |\n| 3 | 2.0 | 2.0 |\n".to_owned(),
            format!("| `write` | 3 | startup | `a\\|b'c` | 5 ms | `{digest}` |"),
            "- The runs are repetitions of one scenario".to_owned(),
        ] {
            assert!(text.contains(&part), "{part}\n{text}");
        }
        let one = section(&synth::completeness(&runs[0]));
        assert!(one.contains("says nothing about the next") && !one.contains("| runs |"), "{one}");
    }
}
