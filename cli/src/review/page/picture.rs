//! The pictures: inline SVG, each with its content in words; what they show is in a table beside them, too. Bars are
//! drawn in percent and words stand beside them as text, so that both are as legible on a telephone as on a screen.

use maud::{Markup, html};
use synth::{
    Completeness, Estimate, Risk,
    review::{PhaseGroup, Summary, SurfaceClass},
};

use super::evidence;
use crate::terminal::{count, visible};

/// A share of the whole width; 0 of nothing.
fn percent(number: usize, of: usize) -> String {
    if of == 0 { "0%".to_owned() } else { format!("{:.2}%", number as f64 / of as f64 * 100.0) }
}

/// One bar of a picture: the narrower parts are drawn over the wider ones.
fn bar(words: &str, parts: &[(&str, usize)], most: usize) -> Markup {
    let mut parts = parts.to_vec();
    parts.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
    html! {
        svg.bar width="100%" height="24" role="img" aria-label=(words) {
            title { (words) }
            @for (class, number) in &parts { rect.(class) x="0" y="0" width=(percent(*number, most)) height="24" {} }
        }
    }
}

/// The key to the colours.
fn key(against: &str) -> Markup {
    html! {
        ul.key {
            li.own { "allowed here with any arguments" }
            li.own-light { "only with certain arguments" }
            li.ref { (against) }
            li { "all syscalls" }
        }
    }
}

/// One bar: what is allowed here, by the reference, and all that there is.
pub(super) fn overview(summary: &Summary) -> Markup {
    let against = visible(&summary.against.name);
    let always = summary.allowed.saturating_sub(summary.conditional);
    let all = summary.known.max(summary.allowed).max(summary.against_allowed);
    let words = format!(
        "Of {} syscalls this profile allows {}, {} of them only with certain arguments; {against} allows {}.",
        summary.known, summary.allowed, summary.conditional, summary.against_allowed
    );
    let parts =
        [("all", all), ("ref", summary.against_allowed), ("own-light", summary.allowed), ("own", always)];
    html! {
        figure.overview {
            (bar(&words, &parts, all))
            ul.key {
                li.own { "allowed here with any arguments: " (always) }
                li.own-light { "only with certain arguments: " (summary.conditional) }
                li.ref { (against) ": " (summary.against_allowed) }
                li { "all syscalls: " (summary.known) }
            }
        }
    }
}

/// A bar for each class.
pub(super) fn surface(classes: &[SurfaceClass], against: &str) -> Markup {
    let most = classes.iter().map(|class| class.known).max().unwrap_or(1);
    let row = |class: &SurfaceClass| {
        let own = class.always + class.conditional;
        let numbers = format!("{own} here, {} there, of {}", class.against, class.known);
        let words = format!(
            "{}: {own} here, {} by {against}, of {}",
            class.risk.as_str(),
            class.against,
            class.known
        );
        let parts = [("all", class.known), ("ref", class.against), ("own-light", own), ("own", class.always)];
        html! {
            li { b { (class.risk.as_str()) } (bar(&words, &parts, most)) span.soft { (numbers) } }
        }
    };
    html! {
        figure {
            ul.bars { @for class in classes { (row(class)) } }
            (key(against))
        }
    }
}

/// A bar for each set of phases.
pub(super) fn phases(groups: &[PhaseGroup]) -> Markup {
    let most = groups.iter().map(|group| group.syscalls.len()).max().unwrap_or(1);
    let row = |group: &PhaseGroup| {
        let (all, name) = (group.syscalls.len(), evidence::name(group));
        let words = format!("{name}: {all} calls, {} of them above harmless", group.notable);
        html! {
            li { b { (name) } (bar(&words, &[("own-light", all), ("own", group.notable)], most)) span.soft { (count(all as u64, "call")) } }
        }
    };
    html! {
        figure {
            ul.bars { @for group in groups { (row(group)) } }
            ul.key { li.own { "above " (Risk::Harmless.as_str()) } li.own-light { (Risk::Harmless.as_str()) } }
        }
    }
}

/// The saturation curves: how many were expected to be seen after so many runs.
pub(super) fn saturation(own: &Completeness) -> Markup {
    if own.syscalls.curve.len() < 2 {
        return html! { p.soft { "One run has no curve." } };
    }
    html! {
        figure {
            div.panels {
                (panel("Syscalls", &own.syscalls, own.runs))
                (panel("Calls with the values of their arguments", &own.arguments, own.runs))
            }
            figcaption {
                "How many different ones so many runs show, on average over their order. A curve that has become flat says that further runs of this scenario \
                 would show little more. The axis begins at 0. The band reaches from what was seen to the upper end of the estimate of all that there are (Chao2, 95 %), as far as it fits."
            }
        }
    }
}

/// One curve, in a square of 100 by 100 that is stretched.
fn panel(title: &str, estimate: &Estimate, runs: u64) -> Markup {
    let seen = estimate.observed as f64;
    let first = estimate.curve.first().map_or(0.0, |point| point.expected);
    let high = estimate.richness.map_or(seen, |own| own.high.clamp(seen, seen * 1.6));
    let top = high.max(1.0) * 1.05;
    let across = |own: u64| (own.saturating_sub(1)) as f64 / (runs.max(2) - 1) as f64 * 100.0;
    let down = |own: f64| 100.0 - own / top * 100.0;
    let point = |runs: u64, expected: f64| format!("{:.2},{:.2}", across(runs), down(expected));
    let points: Vec<String> = estimate.curve.iter().map(|own| point(own.runs, own.expected)).collect();
    let words = format!(
        "{title}: after 1 run {first:.0} are expected to have been seen, after {runs} runs {}",
        estimate.observed
    );
    html! {
        div {
            p.small { b { (title) } }
            svg.panel width="100%" height="180" viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label=(words) {
                title { (words) }
                rect.band x="0" width="100" y=(format!("{:.2}", down(high))) height=(format!("{:.2}", down(seen) - down(high))) {}
                path.axis d="M0,0 V100 H100" {}
                path.limit d={ "M0," (format!("{:.2}", down(seen))) " H100" } {}
                polyline.curve points=(points.join(" ")) {}
            }
            p.small.soft.ends {
                span { "1 run: " (format!("{first:.1}")) }
                span { (runs) " runs: " (estimate.observed) }
            }
        }
    }
}
