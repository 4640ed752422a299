//! Findings, what is wider, what was left out, what no filter can see, and decisions.

use maud::{Markup, html};
use synth::{
    Severity,
    review::{Remark, Review, Wider},
};

use super::{
    Section,
    text::{code, codes, prose, scrolling},
};
use crate::terminal::{count, thousands, visible};

pub(super) fn section(review: &Review) -> Section {
    let (notes, serious): (Vec<&Remark>, Vec<&Remark>) =
        review.findings.iter().partition(|own| own.severity == Severity::Note);
    let body = html! {
        @if serious.is_empty() { p { "Nothing to object to, and nothing that needs a second look." } }
        @for own in serious { (finding(own)) }
        @if !notes.is_empty() {
            details.block {
                summary { (count(notes.len() as u64, "note")) " to know" }
                @for own in notes { (finding(own)) }
            }
        }
    };
    Section { id: "findings", title: "What to look at".to_owned(), body }
}

fn finding(own: &Remark) -> Markup {
    /// As many names as a reader looks through.
    const MOST: usize = 24;
    let (class, word) = match own.severity {
        Severity::Danger => ("danger", "objection"),
        Severity::Review => ("review", "look at"),
        Severity::Note => ("note", "note"),
    };
    let named = own.calls.iter().all(|call| own.detail.contains(&format!("`{call}`")));
    html! {
        article.finding.(class) {
            h3 { span { (visible(&own.title)) } " " span.pill.(class) { (word) } }
            p { (prose(&own.detail)) }
            @if !named { (codes(own.calls.iter().take(MOST))) }
            @if !named && own.calls.len() > MOST { p.soft { "and " (own.calls.len() - MOST) " more" } }
            p.todo { (prose(&own.what_to_do)) }
        }
    }
}

pub(super) fn wider(review: &Review) -> Section {
    let against = visible(&review.summary.against.name);
    let either = |cases: &[String], none: &str| {
        html! {
            @match cases {
                [] => { (none) }
                [one] if one == "always" => { "always" }
                cases => { ul { @for case in cases { li { (code(case)) } } } }
            }
        }
    };
    let body = html! {
        @if review.wider.is_empty() {
            p {
                "Nothing. Both filters were compared for every call that a program on " (review.subject.native)
                " can make, with any arguments: there is none that this profile lets through and " (against) " does not."
            }
        } @else {
            p { "Both filters were compared for every call that a program can make, with any arguments. This profile lets these through, and " (against) " does not." }
            (scrolling("What is wider", html! {
                table.stack {
                    thead { tr { th { "Syscall" } th { "Allowed here besides" } th { "Allowed by " (against) } th { "For example" } th { "Decision" } } }
                    tbody {
                        @for own in &review.wider {
                            tr {
                                th scope="row" { (code(&own.syscall)) }
                                td data-label="Allowed here besides" { (either(&own.here, "never")) }
                                td data-label={ "Allowed by " (against) } { (either(&own.there, "never")) }
                                td data-label="For example" { (code(&own.example)) }
                                td data-label="Decision" { (answers(own)) }
                            }
                        }
                    }
                }
            }))
        }
        @for text in &review.summary.undecided { p { "Not decided: " (visible(text)) } }
        p.soft.small {
            (against)
            @if let Some(source) = &review.summary.against.source { ": " (visible(source)) }
            ", " (code(&review.summary.against.digest.to_string()))
        }
    };
    Section { id: "wider", title: format!("Wider than {against}"), body }
}

/// What decisions say about a call that is wider.
fn answers(own: &Wider) -> Markup {
    html! {
        @for text in &own.decided { p { (visible(text)) } }
        @for text in &own.expired { p { (visible(text)) } }
        @if own.decided.is_empty() && !own.open.is_empty() {
            span.pill.danger { @if own.expired.is_empty() { "none" } @else { "expired" } }
        } @else if !own.open.is_empty() {
            p { span.pill.danger { "not for" } " " @for (place, case) in own.open.iter().enumerate() { @if place > 0 { " or " } (code(case)) } }
        }
    }
}

pub(super) fn left_out(review: &Review) -> Section {
    let body = html! {
        @if let Some(replayed) = &review.summary.replayed {
            p {
                "Each recorded call, with the arguments that were kept, was held against the compiled filter: "
                (thousands(replayed.allowed)) " of " (thousands(replayed.calls)) " calls are allowed"
                @for (number, what) in [
                    (replayed.on_purpose, "refused for a reason that is known"),
                    (replayed.not_needed, "refused and not needed"),
                    (replayed.denied, "needed and refused"),
                    (replayed.unknown, "cannot be judged"),
                ] { @if number > 0 { ", " (thousands(number)) " " (what) } }
                "."
            }
            @if !review.summary.answered_enosys.is_empty() {
                p { "Answered as not implemented, so that programs fall back to calls that are allowed:" }
                (codes(&review.summary.answered_enosys))
            }
            @if !replayed.unknown_syscalls.is_empty() { p { "Cannot be judged: " } (codes(&replayed.unknown_syscalls)) }
        } @else { p { "There are no traces that the profile could be held against." } }
        @if !review.left_out.is_empty() {
            (scrolling("What was left out", html! {
                table.stack {
                    thead { tr { th { "Syscall" } th { "With" } th.number { "Calls" } th { "Succeeded" } th { "Left out because" } } }
                    tbody {
                        @for own in &review.left_out {
                            tr {
                                th scope="row" { (code(&own.syscall)) @if own.whose != "workload" { p.soft { "by the " (own.whose) } } }
                                td data-label="With" {
                                    @match own.arguments.as_slice() {
                                        [] => { "any arguments" }
                                        list => { ul { @for text in list.iter().take(12) { li { (code(text)) } } @if list.len() > 12 { li { (list.len() - 12) " more ways" } } } }
                                    }
                                }
                                td.number data-label="Calls" { (thousands(own.calls)) }
                                td data-label="Succeeded" { (match own.succeeded { Some(true) => "yes", Some(false) => "no", None => "perhaps: as many calls failed" }) }
                                td data-label="Left out because" {
                                    (visible(&own.by))
                                    @if let Some(accepted) = &own.accepted { "; " (visible(accepted)) }
                                }
                            }
                        }
                    }
                }
            }))
            p { "A workload that calls them may fall back, or lose something that its health check does not show. If it needs one, a decision in " (code("workload.toml")) " lets it through." }
        }
        @for own in &review.answers {
            h3 { "Answered with " (visible(&own.answer)) @if own.when != "always" { ", where " (code(&own.when)) } }
            details {
                summary { (count(own.syscalls.len() as u64, "syscall")) ", so that programs get the answer that they can deal with" }
                (codes(&own.syscalls))
            }
        }
    };
    Section { id: "left-out", title: "Recorded, and refused now".to_owned(), body }
}

pub(super) fn blind(review: &Review) -> Section {
    let body = html! {
        p { "A filter has the number of a call and six registers. What follows passes it by, whatever the rules say." }
        (scrolling("What seccomp cannot see", html! {
            table.stack {
                thead { tr { th { "What" } th { "Why" } th { "What can see it" } th { "Allowed here" } } }
                tbody {
                    @for own in &review.blind {
                        tr {
                            th scope="row" { b { (own.title) } }
                            td { (own.detail) }
                            td data-label="What can see it" { (own.instead) }
                            td data-label="Allowed here" { @if !own.calls.is_empty() { (codes(&own.calls)) } }
                        }
                    }
                }
            }
        }))
    };
    Section { id: "blind", title: "What seccomp cannot see".to_owned(), body }
}

pub(super) fn decisions(review: &Review) -> Section {
    let body = html! {
        @if review.decisions.is_empty() {
            p { "None: nothing here was allowed, denied or accepted by a person." }
        } @else {
            p { "What reviewers decided; a decision outlives every synthesis until it expires." }
            (scrolling("Decisions", html! {
                table.stack {
                    thead { tr { th { "Decision" } th { "Syscall" } th { "When" } th { "Reason" } th { "Owner" } th { "Until" } } }
                    tbody {
                        @for own in &review.decisions {
                            tr {
                                th scope="row" { b { (own.verdict.as_str()) } }
                                td data-label="Syscall" { (code(&own.syscall)) }
                                td data-label="When" { @if own.when == "always" { "always" } @else { (code(&own.words)) } }
                                td data-label="Reason" { (visible(&own.reason)) }
                                td data-label="Owner" { (visible(&own.owner)) }
                                td data-label="Until" { @match own.expires { Some(day) => { (day.to_string()) }, None => { "for good" } } @if own.expired { " " span.pill.danger { "expired" } } }
                            }
                        }
                    }
                }
            }))
        }
    };
    Section { id: "decisions", title: "Decisions".to_owned(), body }
}
