//! The difference of two recordings, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};
use synth::decode;
use trace::{CallDifference, Difference, Open, Row, Values};

use super::words::seen;
use crate::terminal::{count, visible};

/// The version of the JSON.
const VERSION: u32 = 1;

/// As one JSON object.
pub(super) fn json(difference: &Difference<'_>, [old, new]: &[String; 2]) -> String {
    let calls: Vec<Value> = difference.calls.iter().filter_map(call_json).collect();
    let whole = json!({
        "type": "difference",
        "version": VERSION,
        "of": "traces",
        "old": old,
        "new": new,
        "calls": calls,
        "opened": difference.opened,
        "no_longer_opened": difference.no_longer_opened,
        "phases": difference.covered,
        "no_longer_phases": difference.no_longer_covered,
    });
    whole.to_string() + "\n"
}

fn call_json(call: &CallDifference<'_>) -> Option<Value> {
    let row = call.row()?;
    let values = |list: &[Values]| -> Vec<Value> {
        let one = |values: &Values| {
            json!({
                "call": words(call, row, values),
                "calls": values.calls,
                "denied": values.denied,
                "runs": values.runs,
                "phases": values.phases,
                "first": values.first,
            })
        };
        list.iter().map(one).collect()
    };
    let totals = |row: &Row| {
        json!({
            "calls": row.calls,
            "denied": row.denied,
            "runs": row.runs,
            "phases": row.phases,
            "first": row.first,
        })
    };
    Some(json!({
        "section": call.section,
        "abi": row.abi,
        "number": row.number,
        "name": row.name,
        "change": kind(call),
        "old": call.old.map(totals),
        "new": call.new.map(totals),
        "turns": call.turns.iter().map(|turn| turn.as_str()).collect::<Vec<_>>(),
        "arguments": values(&call.values),
        "no_longer_arguments": values(&call.no_longer),
        "not_all_arguments": call.not_all_values,
        "phases": call.phases,
        "no_longer_phases": call.no_longer_phases,
    }))
}

const fn kind(call: &CallDifference<'_>) -> &'static str {
    match (call.old, call.new) {
        (None, _) => "new",
        (_, None) => "gone",
        _ => "changed",
    }
}

fn words(call: &CallDifference<'_>, row: &Row, values: &Values) -> String {
    decode::recorded(row.abi, &row.name, &call.kept, values)
}

/// For people; so many runs are in the two.
pub(super) fn text(difference: &Difference<'_>, old_runs: u64, new_runs: u64) -> String {
    if difference.is_empty() {
        return "no difference: both show the same calls\n".to_owned();
    }
    let of = |wanted: &'static str| difference.calls.iter().filter(move |call| kind(call) == wanted);
    let counts = ["new", "gone", "changed"].map(|kind| (of(kind).count() as u64, kind));
    let words: Vec<String> = counts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, kind)| format!("{} {kind}", count(*number, "call")))
        .collect();
    let mut text = words.join(", ");
    if !text.is_empty() {
        text.push('\n');
    }
    if !difference.is_known() {
        text = "it cannot be told whether they differ: not all arguments were kept\n".to_owned();
    }
    for (only, phases) in [("new", &difference.covered), ("old", &difference.no_longer_covered)] {
        for phase in phases {
            let _ = writeln!(text, "phase {} is only in the {only} recording", phase.as_str());
        }
    }
    for (kind, runs) in [("new", new_runs), ("gone", old_runs), ("changed", new_runs)] {
        if of(kind).next().is_some() {
            let _ = writeln!(text, "\n{kind}");
        }
        for call in of(kind) {
            let Some(row) = call.row() else { continue };
            let _ = writeln!(text, "  {}", label(call, row));
            for line in lines(call, row, runs, old_runs) {
                let _ = writeln!(text, "      {}", visible(&line));
            }
        }
    }
    for (what, opens) in [("opened", &difference.opened), ("no longer opened", &difference.no_longer_opened)]
    {
        if !opens.is_empty() {
            let _ = writeln!(text, "\n{what}");
        }
        for open in opens {
            let _ = writeln!(text, "  {}", visible(&opened(open)));
        }
    }
    text
}

/// The name, with the ABI and the section where they are not the workload's usual ones.
fn label(call: &CallDifference<'_>, row: &Row) -> String {
    let place = match call.section {
        "exec.syscalls" => " in exec sessions",
        "runtime.setup" => " by the container runtime, before the filter",
        "runtime.start" => " by the container runtime, under the filter",
        _ => "",
    };
    let abi = if matches!(row.abi, trace::Abi::X86_64 | trace::Abi::Aarch64) {
        String::new()
    } else {
        format!(" [{}]", row.abi)
    };
    format!("{}{abi}{place}", row.name)
}

fn lines(call: &CallDifference<'_>, row: &Row, runs: u64, old_runs: u64) -> Vec<String> {
    let mut lines = Vec::new();
    if call.old.is_none() || call.new.is_none() {
        lines.extend(whole(row, runs));
    }
    for turn in &call.turns {
        let outcomes = |row: &Row| {
            let counts: Vec<String> = row
                .outcomes
                .iter()
                .chain(&row.refusals)
                .map(|(outcome, count)| format!("{outcome} {count}"))
                .collect();
            if counts.is_empty() { "never ended".to_owned() } else { counts.join(", ") }
        };
        if let (Some(old), Some(new)) = (call.old, call.new) {
            lines.push(format!("{} ({}; it was {})", turn.as_str(), outcomes(new), outcomes(old)));
        }
    }
    for (what, phases) in [("now in", &call.phases), ("no longer in", &call.no_longer_phases)] {
        if !phases.is_empty() {
            let names: Vec<&str> = phases.iter().map(|phase| phase.as_str()).collect();
            lines.push(format!("{what} {}", names.join(", ")));
        }
    }
    for (sign, values, runs) in [("now", &call.values, runs), ("no longer", &call.no_longer, old_runs)] {
        for values in values {
            let times = count(values.calls.saturating_add(values.denied), "call");
            let seen = seen(&times, (values.runs, runs), &values.phases, &values.first);
            lines.push(format!("{sign} {}: {seen}", words(call, row, values)));
        }
    }
    if call.not_all_values {
        lines.push("not all arguments were kept, so some differences may not be told".to_owned());
    }
    lines
}

/// Who made a call, and with which arguments.
fn whole(row: &Row, runs: u64) -> Vec<String> {
    /// More are only counted.
    const MOST: usize = 8;
    let times = count(row.calls.saturating_add(row.denied), "call");
    let mut lines = vec![seen(&times, (row.runs, runs), &row.phases, &row.first)];
    if row.calls == 0 {
        lines.push("only ever refused by a filter".to_owned());
    } else if !row.succeeded() {
        lines.push("it never succeeded".to_owned());
    }
    if let Some(arguments) = &row.arguments {
        let words = |values| decode::recorded(row.abi, &row.name, &arguments.kept, values);
        lines.extend(arguments.values.iter().take(MOST).map(words));
        if arguments.values.len() > MOST {
            lines.push(format!("… {} more", arguments.values.len() - MOST));
        }
    }
    lines
}

fn opened(open: &Open) -> String {
    let seen = seen(&count(open.calls, "open"), (open.runs, 1), &[].into(), &open.first);
    format!("{}: {seen}", open.path)
}
