//! The attack corpus: what stays open, what is blocked, and the negative controls.

use maud::{Markup, html};
use synth::review::{AttackOutcome, AttackRow, Review};

use super::{
    Section,
    text::{code, scrolling},
};
use crate::terminal::visible;

pub(super) fn section(review: &Review) -> Section {
    let attacks = &review.attacks;
    let of = |keep: &dyn Fn(&AttackRow) -> bool| -> Vec<&AttackRow> {
        attacks.rows.iter().filter(|row| keep(row)).collect()
    };
    let open = of(&|row| !row.control && row.outcome == AttackOutcome::Open);
    let newly = open.iter().filter(|row| row.against == AttackOutcome::Blocked).count();
    let blocked = of(&|row| !row.control && row.outcome == AttackOutcome::Blocked);
    let more = blocked.iter().filter(|row| row.against == AttackOutcome::Open).count();
    let controls = of(&|row| row.control || row.outcome == AttackOutcome::Outside);
    let judged = controls.iter().filter(|row| row.outcome != AttackOutcome::Outside).count();
    let stopped = controls.iter().filter(|row| row.outcome == AttackOutcome::Blocked).count();
    let against = visible(&review.summary.against.name);
    let body = html! {
        p {
            "Of " (attacks.decided) " vulnerabilities and escapes that a filter decides about, this profile takes a needed call from "
            b { (attacks.blocked) } "; " (against) " from " (attacks.against_blocked) ". "
            @if newly > 0 { b { (newly) " that " (against) " blocks are open here. " } }
            (more) " that " (against) " leaves open are blocked here. "
            "Negative controls among them: " (judged) ", of which " (stopped) " blocked."
        }
        p.soft {
            "Blocked means that a call which using the flaw needs is refused with any arguments it could use. Open does not mean exploitable: \
             most also need the flaw to be in the running kernel, and what is under “also needs”."
        }
        details.block open { summary { "Open (" (open.len()) ")" } (table(&open, "Uses what is allowed", &against)) }
        details.block open {
            summary { "Negative controls: what no filter mitigates (" (controls.len()) ")" }
            p { "They happen outside of the filter, or with calls that every workload needs. They are here so that the figure above is not mistaken for safety." }
            (table(&controls, "Its calls", &against))
        }
        details.block { summary { "Blocked (" (blocked.len()) ")" } (table(&blocked, "Needs, and is refused", &against)) }
    };
    Section { id: "attacks", title: "Known attacks".to_owned(), body }
}

fn table(rows: &[&AttackRow], calls: &str, against: &str) -> Markup {
    if rows.is_empty() {
        return html! { p { "None." } };
    }
    scrolling(
        calls,
        html! {
            table.stack {
                thead { tr { th { "Attack" } th { "Here" } th { (against) } th { (calls) } th { "Also needs" } th { "Kind, and note" } } }
                tbody {
                    @for row in rows {
                        tr {
                            th.key-cell scope="row" { b { (row.name) } }
                            td data-label="Here" { (outcome(row.outcome)) }
                            td data-label=(against) { (outcome(row.against)) }
                            td data-label=(calls) { @for (place, call) in row.calls.iter().enumerate() { @if place > 0 { ", " } (code(call)) } }
                            td data-label="Also needs" { @if row.gate == "none" { "nothing else" } @else { (row.gate) } }
                            td data-label="Kind, and note" {
                                @if !row.control { (row.class) @if !row.note.is_empty() { ": " } }
                                (row.note)
                            }
                        }
                    }
                }
            }
        },
    )
}

fn outcome(outcome: AttackOutcome) -> Markup {
    let class = match outcome {
        AttackOutcome::Open => "open",
        AttackOutcome::Blocked => "blocked",
        AttackOutcome::Outside => "outside",
    };
    let word = match outcome {
        AttackOutcome::Outside => "outside",
        other => other.in_words(),
    };
    html! { span.pill.(class) { (word) } }
}
