//! What the review rests on: the surface next to the reference, the phases, how complete the recording is, what was
//! refused meanwhile, and how all this was made.

use maud::{Markup, html};
use synth::{
    Carried, Completeness, Estimate, Singleton,
    review::{Review, SurfaceClass},
};

use super::{
    Section, picture,
    text::{code, codes, phases as in_phases, scrolling},
};
use crate::{
    review::text::at_most,
    terminal::{count, thousands, visible},
};

pub(super) fn surface(review: &Review) -> Section {
    let against = visible(&review.summary.against.name);
    let row = |class: &SurfaceClass| {
        html! {
            tr {
                th scope="row" { b { (class.risk.as_str()) } p.soft.small { (class.meaning) } }
                td.number data-label="Always" { (class.always) }
                td.number data-label="With conditions" { (class.conditional) }
                td.number data-label=(against) { (class.against) }
                td.number data-label="Linux has" { (class.known) }
                td data-label="Allowed here" {
                    @if class.syscalls.is_empty() { "none" }
                    @else { a href={ "#rules-" (class.risk.as_str()) } { (count(class.syscalls.len() as u64, "syscall")) } }
                }
            }
        }
    };
    let body = html! {
        p { "How many calls are open, by the worst that a call can be used for, next to " (against) " and to all that there is." }
        (picture::surface(&review.surface, &against))
        (scrolling("The surface in numbers", html! {
            table.stack {
                thead { tr { th { "Class" } th.number { "Always" } th.number { "With conditions" } th.number { (against) } th.number { "Linux has" } th { "Allowed here" } } }
                tbody { @for class in &review.surface { (row(class)) } }
            }
        }))
    };
    Section { id: "surface", title: format!("What is open, next to {against}"), body }
}

pub(super) fn phases(review: &Review) -> Section {
    let body = html! {
        @if review.phases.is_empty() { p { "No evidence says in which phase a call was made." } }
        @else {
            p {
                "The observed calls by the phases of the workload in which they were made. What only start-up needs is open for the rest of its life, too: \
                 a filter cannot be narrowed from outside once it is loaded; the workload itself could load a second one when it is ready."
            }
            (picture::phases(&review.phases))
            (scrolling("The phases in words", html! {
                table.stack {
                    thead { tr { th { "Made in" } th.number { "Calls" } th.number { "Above harmless" } th { "Which" } } }
                    tbody {
                        @for group in &review.phases {
                            tr {
                                th scope="row" { b { (name(group)) } }
                                td.number data-label="Calls" { (group.syscalls.len()) }
                                td.number data-label="Above harmless" { (group.notable) }
                                td data-label="Which" { (codes(&group.syscalls)) }
                            }
                        }
                    }
                }
            }))
        }
    };
    Section { id: "phases", title: "What only start-up needs".to_owned(), body }
}

/// The phases of a group in words: `startup only`.
pub(super) fn name(group: &synth::review::PhaseGroup) -> String {
    let text = in_phases(&group.phases).replace(", ", " and ");
    if group.phases.len() == 1 { format!("{text} only") } else { text }
}

pub(super) fn completeness(review: &Review) -> Section {
    let body = html! {
        (starts(review))
        @match &review.completeness {
            None => p { "There are no traces, so nothing says how complete the recording is." },
            Some(completeness) => (runs(completeness)),
        }
    };
    Section { id: "completeness", title: "How complete the recording is".to_owned(), body }
}

fn starts(review: &Review) -> Markup {
    html! {
        h3 { "Starts that were held out" }
        @match review.summary.starts {
            None => p { "None on record. Starts under the finished profile are what says most about it: " (code("seccomp-learn test DIR --runs 59")) " without a denial leaves at most 5 % of such starts, 299 leave 1 %." },
            Some(starts) => {
                p {
                    (count(starts.starts.into(), "start")) " under this very profile, which were not used to make it; "
                    (starts.denied) " with a denial. "
                    @if let Some(bound) = starts.upper_bound { "At 95 % confidence up to " (at_most(bound)) " of such starts may still meet one. " }
                    @if starts.not_known > 0 { (count(starts.not_known.into(), "further start")) " could not be judged." }
                }
                p.soft { "That holds for the scenario that was started, and for no other: log rotation, certificate renewal, running out of memory or a driver reset were not tried unless the scenario has them." }
            }
        }
    }
}

fn runs(own: &Completeness) -> Markup {
    html! {
        h3 { "The recorded runs" }
        p { "Syscalls: " (own.syscalls.sentence("syscalls")) "." }
        p { "With the values of their arguments: " (own.arguments.sentence("calls")) "." }
        (picture::saturation(own))
        (curve("Syscalls", &own.syscalls))
        (curve("Calls with the values of their arguments", &own.arguments))
        @if own.runs > 1 {
            h3 { "Seen in one run only" }
            @if own.arguments_once.is_empty() {
                p { "Nothing: whatever was seen was seen in at least two runs." }
            } @else {
                p { "What a reviewer should look at: what one run of " (own.runs) " showed, another one may not, or may show more like it." }
                (singletons(&own.arguments_once))
            }
        }
        details.block {
            summary { "What these figures assume" }
            ul { @for text in &own.assumptions { li { (visible(text)) } } }
        }
    }
}

fn curve(title: &str, estimate: &Estimate) -> Markup {
    if estimate.curve.len() < 2 {
        return html! {};
    }
    html! {
        details {
            summary.small { (title) ": the curve in numbers" }
            table {
                thead { tr { th.number { "Runs" } th.number { "Expected to be seen" } } }
                tbody { @for point in &estimate.curve { tr { td.number { (point.runs) } td.number { (format!("{:.1}", point.expected)) } } } }
            }
        }
    }
}

/// A syscall that was seen in one run only is among these by its arguments, too.
fn singletons(all: &[Singleton]) -> Markup {
    /// As many as a reader looks through.
    const MOST: usize = 60;
    html! {
        (scrolling("Seen in one run only", html! {
            table.stack {
                thead { tr { th { "Call" } th.number { "How often" } th { "In" } th { "First by" } th { "Run" } } }
                tbody {
                    @for own in all.iter().take(MOST) {
                        tr {
                            th scope="row" { (code(own.call.as_ref().unwrap_or(&own.syscall))) }
                            td.number data-label="How often" { (thousands(own.calls)) }
                            td data-label="In" { (in_phases(&own.phases)) }
                            td data-label="First by" { (code(&own.first.comm)) " after " (thousands(own.first.after_ms)) " ms" }
                            td data-label="Run" { @if let Some(run) = own.run { code { (run.to_string().get(7..19).unwrap_or_default()) } } }
                        }
                    }
                }
            }
        }))
        @if all.len() > MOST { p { (all.len() - MOST) " more are in the JSON." } }
    }
}

pub(super) fn refused(review: &Review) -> Section {
    let body = html! {
        @if review.subject.recorded.is_none() { p { "There are no traces." } }
        @else if review.refused.is_empty() { p { "Nothing: no filter answered any call while the workload was recorded." } }
        @else {
            p { "What a filter that was on the workload already answered in the kernel's place. What would have come after a refusal was not seen." }
            (scrolling("Refused while recording", html! {
                table.stack {
                    thead { tr { th { "Syscall" } th.number { "Refused" } th { "Answers" } th { "Also carried out" } th { "First by" } th { "In this profile" } } }
                    tbody {
                        @for own in &review.refused {
                            tr {
                                th scope="row" { (code(&own.syscall)) @if own.abi != review.subject.native { " (" (own.abi) ")" } }
                                td.number data-label="Refused" { (thousands(own.times)) }
                                td data-label="Answers" { (own.answers.iter().map(|(answer, times)| format!("{answer} {}", thousands(*times))).collect::<Vec<_>>().join(", ")) }
                                td data-label="Also carried out" { @if own.also_made { "yes" } @else { "no, so it was not needed" } }
                                td data-label="First by" { (code(&own.first.comm)) " after " (thousands(own.first.after_ms)) " ms" }
                                td data-label="In this profile" { (here(own.here)) }
                            }
                        }
                    }
                }
            }))
        }
    };
    Section { id: "refused", title: "Refused while recording".to_owned(), body }
}

const fn here(answer: Carried) -> &'static str {
    match answer {
        Carried::Allowed => "allowed",
        Carried::Partly => "some of it allowed",
        Carried::Refused => "refused",
        Carried::Unknown => "not known",
    }
}

pub(super) fn about(review: &Review) -> Section {
    let mut facts: Vec<(&str, String)> = Vec::new();
    let subject = &review.subject;
    let mut add = |name: &'static str, text: String| {
        if !text.is_empty() {
            facts.push((name, text));
        }
    };
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    if let Some(made) = &subject.made {
        if subject.recorded.is_none() {
            add("image", made.image.map(|digest| digest.to_string()).unwrap_or_default());
        }
        add("command", made.command.join(" "));
        add("container runtime", made.container_runtime.clone().unwrap_or_default());
        add("made by", made.tool.clone());
        let source = made.ceiling_source.as_ref().map(|source| format!(" ({source})")).unwrap_or_default();
        add("never wider than", format!("{}{source}", made.ceiling));
        add("rules go by arguments", made.arguments.clone());
        add("margin", made.margin.clone());
        add("runtimes it starts under", made.runtime.join(", "));
        let driver = made.gpu_driver.as_ref().map(|driver| format!("{} {}", driver.vendor, driver.version));
        add("GPU driver", driver.unwrap_or_else(|| "none was loaded".to_owned()));
        let covered: Vec<&str> = made.phases.iter().map(|phase| phase.as_str()).collect();
        add("phases covered", covered.join(", "));
    }
    if let Some(recorded) = &subject.recorded {
        for image in &recorded.images {
            let digest = image.digest.map(|digest| digest.to_string());
            let words = [image.name.clone(), digest].into_iter().flatten().collect::<Vec<_>>().join(", ");
            add("image", format!("{words}: {}", count(image.runs, "run")));
        }
        add("recorded", format!("{} from {} to {}", count(recorded.runs, "run"), recorded.from, recorded.to));
        add("recorded with", recorded.backend.clone());
        add("kernels", recorded.kernels.iter().cloned().collect::<Vec<_>>().join(", "));
        add("closed in order", yes(recorded.complete));
        add("with the start", yes(recorded.with_startup));
        add("lost calls", yes(recorded.lost_calls));
        add("under a filter already", yes(recorded.confined));
        add("used a GPU", recorded.gpu.map(yes).unwrap_or_default());
        add("no_new_privs", recorded.no_new_privileges.map(yes).unwrap_or_default());
        add("exec sessions", recorded.exec_sessions.to_string());
        add("changed by recording", recorded.perturbations.iter().cloned().collect::<Vec<_>>().join("; "));
    }
    add("architectures", subject.architectures.join(", "));
    add("every other call", subject.default_answer.clone());
    let body = html! {
        dl.facts { @for (name, text) in &facts { dt { (name) } dd { (visible(text)) } } }
        @if subject.made.is_none() { p { "The profile has no evidence of its own, so nothing is known of how it was made." } }
    };
    Section { id: "about", title: "The evidence".to_owned(), body }
}
