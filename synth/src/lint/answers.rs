//! How the filter answers: to what no rule names, and to what it refuses.

use std::collections::BTreeSet;

use trace::{Abi, Errno};

use super::{
    Lint, Severity,
    subject::{Subject, found, list},
};
use crate::{profile::Flag, reach::Found, simulate::Verdict};

/// A number that no architecture gave a call.
const UNNAMED: u32 = 1_022;

/// From here on all architectures share their numbers: what C libraries probe for, `pidfd_send_signal` (Linux 5.1).
const FIRST_PROBED: u32 = 424;

/// Where x32 has numbers of its own.
const LAST_PROBED: u32 = 511;

pub(super) fn answers(subject: &Subject<'_>) -> Vec<Lint> {
    let default = default_of(subject);
    let mut lints = Vec::new();
    lints.extend(permissive(default));
    lints.extend(answered(subject));
    lints.extend(probes(subject, default));
    lints.extend(flags(subject));
    lints
}

/// What the filter answers to a call that no profile can name.
pub(super) fn default_of(subject: &Subject<'_>) -> Verdict {
    let ways = subject.reach.ways(subject.native(), UNNAMED, &[]).unwrap_or_default();
    ways.first().map_or(Verdict::KillProcess, |way| way.verdict)
}

fn permissive(default: Verdict) -> Option<Lint> {
    let what = match default {
        Verdict::Allow => "is allowed",
        Verdict::Log => "is allowed, and written to the log",
        _ => return None,
    };
    Some(found(
        ("default-allows", Severity::Danger),
        "What no rule names is allowed",
        format!(
            "a call that no rule names {what}: the profile is a list of what is refused, which every new call of \
             a kernel, every other spelling of a call and every ABI gets past"
        ),
        [],
        "make the default action SCMP_ACT_ERRNO and name what is allowed; `seccomp-learn synth` does",
    ))
}

/// The native calls that some arguments are known to get this answer for.
fn answered_with(subject: &Subject<'_>, is_it: impl Fn(Verdict) -> bool) -> Vec<&'static str> {
    let native = subject.native();
    let is_found = |number: &u32| subject.reach.find(native, *number, &[], &is_it) == Found::Yes;
    let numbers = native.numbers().filter(is_found);
    numbers.filter_map(|number| known(native, number)).collect()
}

fn known(abi: Abi, number: u32) -> Option<&'static str> {
    match abi.name(number) {
        trace::SyscallName::Known(name) => Some(name),
        trace::SyscallName::Unknown(_) => None,
    }
}

fn answered(subject: &Subject<'_>) -> Vec<Lint> {
    let mut lints = Vec::new();
    let mut add = |id, severity, title: &str, detail: &str, what: &str, is_it: &dyn Fn(Verdict) -> bool| {
        let calls = answered_with(subject, is_it);
        if !calls.is_empty() {
            let detail = format!("{detail}: {}", list(calls.iter().copied()));
            lints.push(found((id, severity), title, detail, calls, what));
        }
    };
    add(
        "kills-thread",
        Severity::Review,
        "A refusal ends one thread only",
        "the thread that makes the call ends without a word, and the rest of the process goes on with what it held \
         locked",
        "use SCMP_ACT_ERRNO, or SCMP_ACT_KILL_PROCESS where going on is worse",
        &|verdict| verdict == Verdict::KillThread,
    );
    add(
        "kills-process",
        Severity::Note,
        "A refusal ends the process",
        "a program cannot fall back on another way, and a call that a new library only tries ends it",
        "keep it for what no program has business with; SCMP_ACT_ERRNO for the rest",
        &|verdict| matches!(verdict, Verdict::KillProcess | Verdict::Trap),
    );
    add(
        "pretends-success",
        Severity::Review,
        "A refused call pretends to have succeeded",
        "errno 0 makes the kernel return 0 without carrying the call out, and the program believes it",
        "give an errno, EPERM or ENOSYS",
        &|verdict| verdict == Verdict::Errno(0),
    );
    add(
        "supervised",
        Severity::Review,
        "Someone else answers",
        "the answer comes from a supervisor or a tracer: without one the call fails, and a supervisor that lets it \
         continue decides on memory which the program can change meanwhile (seccomp_unotify(2))",
        "make sure that who answers is part of the review, and does not decide by what pointers point to",
        &|verdict| matches!(verdict, Verdict::Notify | Verdict::Trace(_)),
    );
    lints
}

/// Calls that are newer than programs may expect.
fn probes(subject: &Subject<'_>, default: Verdict) -> Option<Lint> {
    if default.executes() || default == Verdict::Errno(Errno::ENOSYS.number()) {
        return None;
    }
    let native = subject.native();
    let refused = |number: &u32| {
        let ways = subject.reach.ways(native, *number, &[]).unwrap_or_default();
        let fallback = Verdict::Errno(Errno::ENOSYS.number());
        !ways.is_empty() && ways.iter().all(|way| !way.verdict.executes() && way.verdict != fallback)
    };
    let numbers = native.numbers().filter(|number| (FIRST_PROBED..=LAST_PROBED).contains(number));
    let all: BTreeSet<&str> = numbers.filter(refused).filter_map(|number| known(native, number)).collect();
    // What an entry of a name that libseccomp does not know is to answer with ENOSYS is not answered so.
    let (vanished, calls): (BTreeSet<&str>, BTreeSet<&str>) =
        all.into_iter().partition(|name| subject.profile.answers_enosys(name));
    // Of these some were asked for already when the profile's C library was new.
    let falls_back =
        |name: &&&str| matches!(**name, "clone3" | "faccessat2" | "openat2" | "close_range" | "fchmodat2");
    let known: Vec<&str> = calls.iter().filter(falls_back).copied().collect();
    let severity = if known.is_empty() { Severity::Note } else { Severity::Review };
    let worst = match known.as_slice() {
        [] => String::new(),
        names => {
            format!("; C libraries and runtimes go on without {} on ENOSYS only", list(names.iter().copied()))
        }
    };
    if calls.is_empty() {
        return (!vanished.is_empty()).then(|| {
            found(
                ("enosys-vanishes", Severity::Note),
                "Entries that answer ENOSYS vanish on nodes with an old libseccomp",
                format!(
                    "libseccomp {} knows none of {}: they get the default answer there",
                    subject.options.libseccomp.unwrap_or_default(),
                    list(vanished.iter().copied())
                ),
                vanished,
                "nothing, as long as no program needs them: runc's own rule answers ENOSYS above the highest number \
                 that is named",
            )
        });
    }
    Some(found(
        ("refused-without-enosys", severity),
        "New calls are refused with an errno that no program expects",
        format!(
            "{} of the calls since Linux 5.1 are not allowed and answered otherwise than with ENOSYS{worst}. \
                 runc answers ENOSYS to numbers above the highest that the profile names; crun and youki do not",
            calls.len()
        ),
        calls,
        "answer ENOSYS to what is newer than Linux 5.1 and not allowed; `seccomp-learn synth` does",
    ))
}

/// What is said to the kernel besides the filter.
fn flags(subject: &Subject<'_>) -> Vec<Lint> {
    let mut lints = Vec::new();
    let flags = subject.profile.flags.as_deref();
    let has = |flag| flags.is_some_and(|flags| flags.contains(&flag));
    if flags.is_none() || has(Flag::SpecAllow) {
        let why = if flags.is_none() {
            "the profile has no `flags`, and runc and crun then set SECCOMP_FILTER_FLAG_SPEC_ALLOW"
        } else {
            "the profile sets SECCOMP_FILTER_FLAG_SPEC_ALLOW"
        };
        lints.push(found(
            ("spec-allow", Severity::Note),
            "Speculative store bypass is not mitigated",
            format!("{why}: CPUs that are open to it run this workload without that mitigation, and faster"),
            [],
            "write `\"flags\": []` where the workload runs code that it does not trust",
        ));
    }
    if has(Flag::Tsync) {
        lints.push(found(
            ("tsync", Severity::Note),
            "The filter is for all threads, says the profile, and runtimes differ",
            "SECCOMP_FILTER_FLAG_TSYNC is ignored by runc and handed on by crun and youki; a runtime has one thread \
             left when it loads the filter, so nothing depends on it",
            [],
            "leave it out",
        ));
    }
    lints
}
