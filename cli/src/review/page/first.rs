//! The first screen: the answers that a reviewer asks for before anything else.

use maud::{Markup, html};
use synth::{
    Severity,
    review::{RecordedImage, Review, Summary},
};

use super::{
    picture,
    text::{code, codes, prose},
};
use crate::{
    review::text::at_most,
    terminal::{count, thousands, visible},
};

pub(super) fn screen(review: &Review) -> Markup {
    let summary = &review.summary;
    html! {
        header {
            p.eyebrow {
                span { "Review of a seccomp profile" }
                span { a href="#sign" { "digest " span.mono { (short(&review.digests.review.to_string())) } } }
            }
            h1 { (visible(&review.subject.name)) }
            (about(review))
            (verdict(review))
            (picture::overview(summary))
            ul.answers {
                (left_out(summary))
                (not_observed(summary))
                (added(summary))
                (starts(summary))
                (attacks(review))
                (findings(review))
            }
        }
    }
}

/// As much of a digest as a person compares by eye; the whole is under Signing.
fn short(digest: &str) -> String {
    digest.trim_start_matches("sha256:").get(..16).unwrap_or_default().to_owned()
}

/// What was recorded, where, and when.
fn about(review: &Review) -> Markup {
    let subject = &review.subject;
    let mut facts = vec![subject.native.to_string()];
    if let Some(recorded) = &subject.recorded {
        let day = |text: &str| text.get(..10).unwrap_or(text).to_owned();
        let (from, to) = (day(&recorded.from), day(&recorded.to));
        let when = if from == to { from } else { format!("{from} to {to}") };
        facts.push(format!("{} recorded {when}", count(recorded.runs, "run")));
        facts.push(format!("{} calls", thousands(recorded.calls)));
    } else if let Some(made) = &subject.made {
        facts.push(count(made.runs, "recorded run"));
    } else {
        facts.push("nothing recorded: a profile without evidence".to_owned());
    }
    if let Some(made) = &subject.made {
        facts.push(format!("Linux {}", made.kernel));
    }
    let command = subject.made.as_ref().map(|made| made.command.join(" ")).filter(|text| !text.is_empty());
    let images = subject.recorded.as_ref().map(|own| own.images.as_slice()).unwrap_or_default();
    html! {
        @if let Some(newest) = images.first() {
            p.about {
                "image " (image(newest))
                @if images.len() > 1 {
                    " (" (count(newest.runs, "run")) "), earlier"
                    @for (place, older) in images.iter().skip(1).enumerate() {
                        @if place > 0 { "," } " " (image(older)) " (" (count(older.runs, "run")) ")"
                    }
                }
            }
        }
        @if let Some(command) = command { p.about { (code(&command)) } }
        p.about { (visible(&facts.join(" · "))) }
    }
}

/// An image by its name, or by as much of its digest as a person compares by eye.
fn image(image: &RecordedImage) -> Markup {
    let digest = || image.digest.map(|digest| short(&digest.to_string()));
    code(&image.name.clone().or_else(digest).unwrap_or_default())
}

/// The one sentence.
fn verdict(review: &Review) -> Markup {
    let summary = &review.summary;
    let against = visible(&summary.against.name);
    let undecided = review.wider.iter().any(|own| !own.open.is_empty());
    let unknown = !summary.undecided.is_empty();
    let tone = match (summary.wider.is_empty(), undecided || unknown) {
        (true, false) => "good",
        (false, false) => "warn",
        (_, true) => "bad",
    };
    html! {
        div.verdict.(tone) {
            @if summary.wider.is_empty() && unknown {
                strong { "! It could not be decided whether anything is wider than " (against) "." }
            } @else if summary.wider.is_empty() {
                strong { "✓ Nothing is wider than " (against) "." }
            } @else {
                strong { "! " (count(summary.wider.len() as u64, "call")) " wider than " (against) "." }
                (codes(summary.wider.iter().take(12)))
                p {
                    @if summary.wider.len() > 12 { "and " (summary.wider.len() - 12) " more; " }
                    @if undecided { "no decision answers for all of them. " }
                    @else { "each allowed by a decision. " }
                    a href="#wider" { "What exactly" }
                }
            }
            @if unknown {
                p { "Not decided: " (count(summary.undecided.len() as u64, "call")) ". " a href="#wider" { "Which, and why" } }
            }
            p {
                "The profile allows " b { (summary.allowed) } " of the " (summary.known) " syscalls of " (review.subject.native)
                ", " (summary.conditional) " of them only with certain arguments; " (against) " allows " (summary.against_allowed) ". "
                "Any other call: " (visible(&review.subject.default_answer)) "."
            }
        }
    }
}

/// One answer.
fn answer(title: &str, tone: &str, figure: &Markup, more: &Markup, link: (&str, &str)) -> Markup {
    let (id, words) = link;
    html! {
        li {
            h2 { (title) }
            p.figure.word.(tone) { (figure) }
            p { (more) }
            a href={ "#" (id) } { (words) }
        }
    }
}

fn left_out(summary: &Summary) -> Markup {
    let link = ("left-out", "What was left out");
    let title = "Succeeded while recording, refused now";
    let Some(replayed) = &summary.replayed else {
        let more = html! { "There are no traces that the profile could be held against." };
        return answer(title, "", &html! { "not known" }, &more, link);
    };
    let more = html! {
        (thousands(replayed.facts)) " different recorded calls were held against the filter: "
        @if replayed.denied_syscalls.is_empty() && replayed.unknown_syscalls.is_empty() { "all are allowed, or refused for a reason that is known. " }
        @if !replayed.denied_syscalls.is_empty() { b { (count(replayed.denied, "needed call")) " refused. " } }
        @if !replayed.unknown_syscalls.is_empty() {
            "Not to be judged, since arguments are not known: " (names(&replayed.unknown_syscalls)) ". "
        }
        @if !summary.left_out_perhaps.is_empty() {
            "Of " (names(&summary.left_out_perhaps)) " some calls failed while recording, perhaps those that are refused now. "
        }
        @if !summary.answered_enosys.is_empty() {
            "Answered as not implemented, so that programs fall back: "
            (names(&summary.answered_enosys)) "."
        }
    };
    let figure = html! {
        @if summary.left_out.is_empty() { "nothing" }
        @else {
            @for (place, name) in summary.left_out.iter().take(6).enumerate() { @if place > 0 { ", " } (code(name)) }
            @if summary.left_out.len() > 6 { " and " (summary.left_out.len() - 6) " more" }
        }
    };
    let none = summary.left_out.is_empty() && summary.left_out_perhaps.is_empty();
    let tone = match (replayed.denied_syscalls.is_empty(), none && replayed.unknown_syscalls.is_empty()) {
        (false, _) => "bad",
        (true, true) => "good",
        (true, false) => "warn",
    };
    answer(title, tone, &figure, &more, link)
}

/// Names, one after the other.
fn names(names: &std::collections::BTreeSet<String>) -> Markup {
    html! { @for (place, name) in names.iter().enumerate() { @if place > 0 { ", " } (code(name)) } }
}

fn not_observed(summary: &Summary) -> Markup {
    let link = ("rules", "Every rule and its reason");
    let title = "Allowed, but never observed";
    let Some(observed) = summary.observed else {
        let more = html! { "No evidence says which rules were seen to be used." };
        return answer(title, "", &html! { "not known" }, &more, link);
    };
    let not = summary.allowed.saturating_sub(observed);
    let kinds: Vec<String> = summary
        .not_observed
        .iter()
        .map(|(origin, number)| format!("{number} {}", origin.for_what()))
        .collect();
    let figure = html! { (not) " of " (summary.allowed) };
    let more = html! {
        @if not == 0 { "Every rule was used while recording." } @else { (kinds.join(", ")) "." }
    };
    answer(title, "", &figure, &more, link)
}

fn added(summary: &Summary) -> Markup {
    let link = ("rules", "Every rule and its reason");
    let title = "Added after a start was refused it";
    if summary.observed.is_none() {
        let more = html! { "No evidence says where the rules come from." };
        return answer(title, "", &html! { "not known" }, &more, link);
    }
    let names: std::collections::BTreeSet<&str> =
        summary.added.iter().map(|own| own.syscall.as_str()).collect();
    let figure = html! {
        @if names.is_empty() { "nothing" }
        @else { @for (place, name) in names.iter().enumerate() { @if place > 0 { ", " } (code(name)) } }
    };
    let more = html! {
        @if names.is_empty() { "The recordings showed everything that the trial starts used." }
        @else { "The recordings did not show it; a trial start under an earlier profile asked for it." }
    };
    answer(title, if names.is_empty() { "good" } else { "warn" }, &figure, &more, link)
}

fn starts(summary: &Summary) -> Markup {
    let link = ("completeness", "How complete the recording is");
    let title = "Starts under this profile";
    let Some(starts) = summary.starts else {
        let more = html! {
            "No start under this profile is on record: " (code("seccomp-learn test DIR --runs 59")) " without a denial leaves at most 5 % of such starts."
        };
        return answer(title, "warn", &html! { "none counted" }, &more, link);
    };
    let figure = html! { (starts.denied) " refused in " (count(starts.starts.into(), "start")) };
    let more = html! {
        @if let Some(bound) = starts.upper_bound {
            "Up to " (at_most(bound)) " of such starts may still meet a refusal (95 % confidence), and other uses of the workload were not tried. "
        }
        @if starts.not_known > 0 { (count(starts.not_known.into(), "further start")) " could not be judged." }
    };
    let few = starts.upper_bound.is_none_or(|bound| bound > 0.05);
    let tone = if starts.denied > 0 {
        "bad"
    } else if few {
        "warn"
    } else {
        "good"
    };
    answer(title, tone, &figure, &more, link)
}

fn attacks(review: &Review) -> Markup {
    let attacks = &review.attacks;
    let figure = html! { (attacks.blocked) " of " (attacks.decided) " blocked" };
    let outside = attacks.rows.len() - attacks.decided;
    let more = html! {
        (visible(&review.summary.against.name)) " blocks " (attacks.against_blocked) ". "
        "Vulnerabilities and escapes whose needed calls are known; " (outside) " more happen outside of any filter."
    };
    answer("Known attacks", "", &figure, &more, ("attacks", "Which, and what stays open"))
}

fn findings(review: &Review) -> Markup {
    /// As many titles as the first screen has room for.
    const MOST: usize = 3;
    let of = |severity: Severity| review.summary.findings.get(&severity).copied().unwrap_or_default();
    let (danger, look) = (of(Severity::Danger), of(Severity::Review));
    let figure = html! {
        @if danger > 0 { (count(danger as u64, "objection")) }
        @else if look > 0 { (count(look as u64, "thing")) " to look at" }
        @else { "nothing to object to" }
    };
    let serious = review.findings.iter().filter(|own| own.severity > Severity::Note);
    let more = html! {
        @for own in serious.take(MOST) { (prose(&own.title)) " " }
        @if danger + look > MOST { "And " (danger + look - MOST) " more. " }
        @else if danger + look == 0 { (count(of(Severity::Note) as u64, "note")) " to know." }
    };
    let tone = match (danger, look) {
        (1.., _) => "bad",
        (0, 1..) => "warn",
        (0, 0) => "good",
    };
    answer("Findings", tone, &figure, &more, ("findings", "What to do about them"))
}
