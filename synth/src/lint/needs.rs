//! What a profile has to let through to be of use, and what becomes of it on other machines.

use trace::Abi;

use super::{
    Lint, Severity,
    subject::{Subject, found, list},
};
use crate::{
    catalogue::{Risk, catalogue},
    evidence::Reason,
    knowledge::siblings,
    runtime_table::{RuntimeCase, RuntimeTable, shipped_runtimes},
};

pub(super) fn needs(subject: &Subject<'_>) -> Vec<Lint> {
    let mut lints = Vec::new();
    lints.extend(runtimes(subject));
    lints.extend(always(subject));
    lints.extend(vanishing(subject));
    lints.extend(unobserved(subject));
    lints
}

/// What a runtime calls for sure when it starts a container, and the filter refuses.
fn missing(subject: &Subject<'_>, table: &'static RuntimeTable) -> Vec<&'static str> {
    let starts = table
        .need
        .iter()
        .filter(|need| !need.by_chance && (need.seen.is_empty() || need.seen.contains(&RuntimeCase::Start)));
    let names = starts.flat_map(|need| need.names.iter().map(String::as_str));
    let has = |name: &&str| subject.native().number(name).is_some();
    let refused = |name: &&str| match table.ways(name) {
        Some(ways) => ways.iter().any(|way| !subject.passes(name, way)),
        None => !subject.passes(name, &[]),
    };
    names.filter(has).filter(refused).collect()
}

fn runtimes(subject: &Subject<'_>) -> Option<Lint> {
    let all = shipped_runtimes().map(|table| (table.label(), missing(subject, table)));
    let (fine, short): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, missing)| missing.is_empty());
    if short.is_empty() {
        return None;
    }
    let texts: Vec<String> = short
        .iter()
        .map(|(label, missing)| format!("{label} calls {}", list(missing.iter().copied())))
        .collect();
    let (severity, title, starts) = if fine.is_empty() {
        (Severity::Review, "No container runtime can start a container with it", String::new())
    } else {
        let fine: Vec<&str> = fine.iter().map(|(label, _)| label.as_str()).collect();
        let starts = format!("; {} can", fine.join(", "));
        (Severity::Note, "Not every container runtime can start a container with it", starts)
    };
    Some(found(
        ("runtime-cannot-start", severity),
        title,
        format!(
            "after loading the filter, as far as its table knows, {}, which is refused{starts}",
            texts.join("; ")
        ),
        short.iter().flat_map(|(_, missing)| missing.iter().copied()),
        "add what the runtime calls: `seccomp-learn synth --runtime runc` or `crun`",
    ))
}

fn always(subject: &Subject<'_>) -> Option<Lint> {
    let has = |name: &&str| subject.native().number(name).is_some();
    let needed =
        siblings().always.iter().flat_map(|needed| needed.names.iter().map(move |name| (name, needed)));
    let refused: Vec<_> = needed.filter(|(name, _)| has(name) && !subject.passes(name, &[])).collect();
    let texts: Vec<String> =
        refused.iter().map(|(name, needed)| format!("`{name}` {}", needed.why)).collect();
    (!refused.is_empty()).then(|| {
        found(
            ("always-needed", Severity::Review),
            "It refuses what every program needs",
            texts.join("; "),
            refused.iter().map(|(name, _)| *name),
            "allow them; nothing is gained by refusing them",
        )
    })
}

/// Names that the libseccomp which the profile is for does not know: their entries are not in its filters.
fn vanishing(subject: &Subject<'_>) -> Option<Lint> {
    let oldest = subject.options.libseccomp.unwrap_or_default();
    let program = subject.reach.program();
    let abis = subject.reach.abis();
    let entries = |name: &str| {
        let entries = subject.profile.syscalls.iter();
        entries.filter(|entry| entry.names.iter().any(|own| own == name)).collect::<Vec<_>>()
    };
    // A call of another architecture is missed by nobody.
    let has = |name: &&str| abis.iter().any(|abi: &Abi| abi.number(name).is_some());
    let unknown = || program.unknown.iter().map(String::as_str).filter(has);
    let of = |executes: bool| {
        unknown()
            .filter(|name| entries(name).iter().any(|entry| entry.action.executes() == executes))
            .collect::<Vec<&str>>()
    };
    let (allowed, refused) = (of(true), of(false));
    let open = subject.profile.default_action.executes() && !refused.is_empty();
    if allowed.is_empty() && !open {
        return None;
    }
    let (severity, detail, calls) = if open {
        (
            Severity::Danger,
            format!(
                "the default action allows, so {} pass there although an entry refuses them",
                list(refused.iter().copied())
            ),
            refused,
        )
    } else {
        (
            Severity::Review,
            format!("{} are allowed here and refused there", list(allowed.iter().copied())),
            allowed,
        )
    };
    Some(found(
        ("unknown-to-libseccomp", severity),
        format!("Entries vanish on nodes with libseccomp {}", oldest.as_str()),
        format!(
            "a runtime leaves out names that its library does not know, with no more than a line in its log: {detail}"
        ),
        calls,
        "use a newer libseccomp on the nodes, or do without these calls",
    ))
}

/// Calls of some power for which no one was seen to have a use.
fn unobserved(subject: &Subject<'_>) -> Option<Lint> {
    let rules = &subject.evidence?.rules;
    let stands_for_itself = |reason: &Reason| {
        reason.is_runtime()
            || matches!(
                reason,
                Reason::Observed { .. }
                    | Reason::ExecSession { .. }
                    | Reason::Added { .. }
                    | Reason::Decision { .. }
                    | Reason::Always { .. }
            )
    };
    let calls: Vec<&str> = rules
        .iter()
        .map(|rule| rule.syscall.as_str())
        .filter(|name| catalogue(name).is_some_and(|known| known.risk >= Risk::Inspect))
        .filter(|name| subject.passes(name, &[]))
        .filter(|name| {
            let mut own = rules.iter().filter(|rule| rule.syscall == **name);
            !own.any(|rule| rule.observed || rule.reasons.iter().any(stands_for_itself))
        })
        .collect();
    (!calls.is_empty()).then(|| {
        found(
            ("power-without-evidence", Severity::Review),
            "Calls of some power that were not observed",
            format!("{} are allowed for the sake of other machines only", list(calls.iter().copied())),
            calls,
            "refuse them by a decision in workload.toml, or make the profile with `--margin none`",
        )
    })
}
