//! Names, lists and tables, as elements.

use std::collections::BTreeSet;

use maud::{Markup, Render, html};
use trace::PhaseName;

use crate::{review::text::sentence, terminal::visible};

/// A name, a call, a condition, a path; flags may go on in the next line.
pub(super) fn code(text: &str) -> Markup {
    let text = visible(text);
    html! {
        code { @for (place, part) in text.split('|').enumerate() { @if place > 0 { "|" wbr; } (part) } }
    }
}

/// A sentence in which names stand in back-ticks.
pub(super) fn prose(text: &str) -> Markup {
    let text = sentence(text);
    html! {
        @for (place, part) in text.split('`').enumerate() {
            @if place % 2 == 1 { (code(part)) } @else { (visible(part)) }
        }
    }
}

/// Several, each on its own.
pub(super) fn codes<'a>(texts: impl IntoIterator<Item = &'a String>) -> Markup {
    html! {
        ul.calls { @for text in texts { li { (code(text)) } } }
    }
}

/// The phases, in order.
pub(super) fn phases(phases: &BTreeSet<PhaseName>) -> String {
    phases.iter().map(|phase| phase.as_str()).collect::<Vec<_>>().join(", ")
}

/// Something with room around it in a table that can be scrolled by keyboard.
pub(super) fn scrolling(label: &str, table: impl Render) -> Markup {
    html! { div.scroll tabindex="0" role="region" aria-label=(label) { (table) } }
}
