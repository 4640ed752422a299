//! Every rule: the calls that ask for most attention first.

use std::collections::BTreeSet;

use maud::{Markup, html};
use synth::{
    Risk,
    review::{Origin, Review, Rule, Way},
};

use super::{
    Section,
    text::{code, codes, phases},
};
use crate::terminal::{count, thousands, visible};

/// As many alternatives as fit into a line of the table; all are in its details.
const SHORT: usize = 3;

pub(super) fn section(review: &Review) -> Section {
    let classes: Vec<(Option<Risk>, Vec<&Rule>)> = Risk::ALL
        .into_iter()
        .rev()
        .map(Some)
        .chain([None])
        .map(|risk| (risk, review.rules.iter().filter(|rule| rule.risk == risk).collect::<Vec<_>>()))
        .filter(|(_, rules)| !rules.is_empty())
        .collect();
    let origins: BTreeSet<Origin> =
        review.rules.iter().flat_map(|rule| &rule.ways).map(|way| way.origin).collect();
    let body = html! {
        p {
            "By what a call can be used for, the classes first that ask for most attention. Each call has its conditions, its reasons and "
            "what was seen under " b { "details" } "."
        }
        (filters(review))
        @for (risk, rules) in &classes {
            // What is harmless is most of it: one look is enough, and a click shows it.
            details.class id={ "rules-" (risk.map_or("unknown", Risk::as_str)) } open[*risk != Some(Risk::Harmless)] {
                summary {
                    b { (risk.map_or("not known", Risk::as_str)) " (" (rules.len()) ")" }
                    @if let Some(risk) = risk { span.soft { " " (risk.meaning()) } }
                }
                table.stack.rules {
                    thead { tr { th { "Syscall" } th { "Allowed when" } th { "Why it is here" } th { "Seen" } } }
                    @for rule in rules { (row(rule)) }
                }
            }
        }
        details.block {
            summary { "What the reasons mean" }
            dl.facts { @for origin in origins { dt { (origin.in_words()) } dd { (origin.meaning()) } } }
        }
    };
    Section { id: "rules", title: format!("Every rule ({})", review.rules.len()), body }
}

fn filters(review: &Review) -> Markup {
    let number = |keep: &dyn Fn(&&Rule) -> bool| review.rules.iter().filter(keep).count();
    let choices = [
        ("all", "all", review.rules.len()),
        ("unseen", "not observed", number(&|rule| is_unseen(rule))),
        ("conditional", "with conditions", number(&|rule| !rule.always)),
        ("notable", "above harmless", number(&|rule| is_notable(rule))),
        ("wider", "wider", number(&|rule| rule.wider)),
    ];
    html! {
        fieldset {
            legend { "Show" }
            @for (id, name, number) in choices {
                input type="radio" name="show" id={ "show-" (id) } checked[id == "all"];
                label for={ "show-" (id) } { (name) " (" (number) ")" }
            }
        }
    }
}

const fn is_unseen(rule: &Rule) -> bool {
    !rule.origin.is_observed()
}

fn is_notable(rule: &Rule) -> bool {
    rule.risk != Some(Risk::Harmless)
}

fn row(rule: &Rule) -> Markup {
    let mut classes = vec!["rule"];
    for (class, is) in [
        ("unseen", is_unseen(rule)),
        ("conditional", !rule.always),
        ("notable", is_notable(rule)),
        ("wider", rule.wider),
    ] {
        if is {
            classes.push(class);
        }
    }
    html! {
        tbody class=(classes.join(" ")) id={ "rule-" (rule.syscall) } {
            tr {
                th scope="row" {
                    span.name { (code(&rule.syscall)) }
                    @if rule.wider { " " span.pill.danger { "wider" } }
                    @if let Some(does) = &rule.does { p.soft { (does) } }
                }
                td data-label="Allowed when" { (when(rule)) }
                td data-label="Why" { (why(rule)) }
                td data-label="Seen" { (seen(rule)) }
            }
            tr.more { td colspan="4" { details { summary.small.soft { "details of " (visible(&rule.syscall)) } (details(rule)) } } }
        }
    }
}

/// The conditions, where they are few.
fn when(rule: &Rule) -> Markup {
    let all: Vec<&String> = rule.ways.iter().flat_map(|way| &way.words).collect();
    html! {
        @if rule.always { "always" }
        @else {
            @for words in all.iter().take(SHORT) { p { (code(words)) } }
            @if all.len() > SHORT { p.soft { "and " (all.len() - SHORT) " more" } }
        }
    }
}

fn why(rule: &Rule) -> Markup {
    let others: BTreeSet<Origin> =
        rule.ways.iter().map(|way| way.origin).filter(|own| *own != rule.origin).collect();
    html! {
        @if is_unseen(rule) { b { "not observed" } ": " }
        (rule.origin.in_words())
        @for origin in others { p.soft { "also: " (origin.in_words()) } }
        @for decision in &rule.decisions { p { (visible(decision)) } }
    }
}

fn seen(rule: &Rule) -> Markup {
    html! {
        @if let Some(first) = &rule.first {
            (thousands(rule.calls)) "×, " (phases(&rule.phases))
            p.soft { "first by " (code(&first.comm)) " after " (thousands(first.after_ms)) " ms" }
        }
    }
}

fn details(rule: &Rule) -> Markup {
    html! {
        div.inner {
            @if let Some(opens) = &rule.opens { h4 { "What allowing it opens up" } p { (opens) } }
            @if !rule.attacks.is_empty() {
                h4 { "Open attacks that use it" }
                p { (rule.attacks.join(", ")) }
            }
            h4 { (if rule.ways.len() == 1 { "The rule" } else { "The rules" }) }
            @for way in &rule.ways { (self::way(way)) }
            @if rule.ways.iter().all(|way| way.reasons.is_empty()) { p.soft { "No evidence says why it is here." } }
            @if !rule.outcomes.is_empty() {
                h4 { "How the recorded calls ended" }
                p { (rule.outcomes.iter().map(|(name, times)| format!("{name} {}", thousands(*times))).collect::<Vec<_>>().join(", ")) }
            }
            @if !rule.seen.is_empty() {
                h4 { "What it was called with, the most frequent first" }
                table.stack {
                    thead { tr { th { "Call" } th.number { "How often" } th { "In" } th { "First by" } } }
                    tbody {
                        @for own in &rule.seen {
                            tr {
                                td { (code(&own.call)) }
                                td.number data-label="How often" { (thousands(own.calls)) }
                                td data-label="In" { (phases(&own.phases)) @if own.in_exec { " exec sessions" } }
                                td data-label="First by" { (code(&own.first.comm)) " (pid " (own.first.pid) ")" }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn way(way: &Way) -> Markup {
    let always = way.raw.iter().any(|raw| raw == "always");
    html! {
        p {
            b { (way.origin.in_words()) } ": "
            @if always { "allowed always" }
            @else { "allowed when " @for (place, words) in way.words.iter().enumerate() { @if place > 0 { " or " } (code(words)) } }
        }
        @for reason in &way.reasons { p.soft { (visible(reason)) } }
        @if !always {
            details {
                summary.small { "as the profile has it (" (count(way.raw.len() as u64, "alternative")) ")" }
                (codes(&way.raw))
            }
        }
    }
}
