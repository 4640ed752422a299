//! Denials of a container, from what BPF saw a filter answer: the same words as for a command of ours.

use std::time::Duration;

use profiler::ebpf::{Class, Refusal};
use synth::{Profile, Verdict, decode};
use trace::{Outcome, PhaseName, Row, Trace, Values};

use crate::{Denial, HarnessError, Judge, Stage};

/// The denials among refusals that were met while this profile was in force, in the order of their first sight. Where
/// the trace of the same start has the arguments of refused calls, there is one for each of them.
/// `phases` are the phases of the drive; without any, everything is start-up.
///
/// # Errors
/// When the profile cannot be compiled.
pub fn attribute(
    profile: &Profile,
    refusals: &[Refusal],
    trace: &Trace,
    phases: &[(PhaseName, Duration)],
) -> Result<Vec<Denial>, HarnessError> {
    let judge = Judge::new(profile.clone())?.under(trace.target.runtime.as_deref())?;
    let mut denials = Vec::new();
    // What is called before the profile is loaded was refused by another.
    for refusal in refusals.iter().filter(|refusal| refusal.class != Class::RuntimeSetup) {
        let whole = denial(&judge, refusal, phases);
        let alone = refusals.iter().filter(|other| is_same_call(refusal, other)).count() == 1;
        let parts = row(trace, refusal).filter(|_| alone).map(|row| parts(&judge, &whole, row, phases));
        let parts = parts.unwrap_or_default();
        let known: u64 = parts.iter().map(|part| part.count).sum();
        if known < whole.count {
            denials.push(Denial { count: whole.count - known, ..whole });
        }
        denials.extend(parts);
    }
    denials.sort_by_key(|denial| (denial.after_ms, denial.abi, denial.number));
    Ok(denials)
}

fn is_same_call(one: &Refusal, other: &Refusal) -> bool {
    (one.class, one.abi, one.number) == (other.class, other.abi, other.number)
}

/// Where the trace has the call.
fn row<'a>(trace: &'a Trace, refusal: &Refusal) -> Option<&'a Row> {
    let rows = match refusal.class {
        Class::Workload => trace.syscalls.as_slice(),
        Class::ExecSession => trace.exec.as_ref().map_or(&[][..], |exec| &exec.syscalls),
        Class::RuntimeSetup | Class::RuntimeStart => &[],
    };
    rows.iter().find(|row| (row.abi, row.number) == (refusal.abi, refusal.number))
}

fn denial(judge: &Judge, refusal: &Refusal, phases: &[(PhaseName, Duration)]) -> Denial {
    let (abi, number) = (refusal.abi, refusal.number);
    let args = refusal.arguments.as_ref();
    let verdict = verdict(judge, refusal);
    Denial {
        abi,
        number,
        name: refusal.name.clone(),
        args: refusal.arguments.unwrap_or_default(),
        verdict,
        explicit_enosys: judge.is_explicit_enosys(abi, number, verdict),
        count: refusal.count,
        pid: refusal.first.pid,
        comm: refusal.first.comm.clone(),
        stage: refusal.class.into(),
        phase: phase(phases, refusal.first.after_ms),
        after_ms: refusal.first.after_ms,
        file: None,
        remedy: judge.remedy(abi, number, args),
        rule: judge.rule(abi, number, args),
    }
}

/// The refused calls of a row, one for each of their arguments.
fn parts(judge: &Judge, whole: &Denial, row: &Row, phases: &[(PhaseName, Duration)]) -> Vec<Denial> {
    let Some(arguments) = &row.arguments else { return Vec::new() };
    let part = |values: &Values| {
        let args = decode::registers(&arguments.kept, values);
        Denial {
            args,
            count: values.denied,
            pid: values.first.pid,
            comm: values.first.comm.clone(),
            phase: phase(phases, values.first.after_ms),
            after_ms: values.first.after_ms,
            file: values.file.as_ref().map(decode::file),
            remedy: judge.remedy(whole.abi, whole.number, Some(&args)),
            rule: judge.rule(whole.abi, whole.number, Some(&args)),
            ..whole.clone()
        }
    };
    arguments.values.iter().filter(|values| values.denied > 0).map(part).collect()
}

/// How it was answered: the profile knows it better than the kernel's return value shows it, unless another filter
/// answered.
fn verdict(judge: &Judge, refusal: &Refusal) -> Verdict {
    let seen = answer(refusal.outcome);
    let said = judge.verdict(refusal.abi, refusal.number, refusal.arguments.unwrap_or_default());
    let same = match (seen, said) {
        (Verdict::KillProcess, Verdict::KillThread | Verdict::KillProcess | Verdict::Trap)
        | (Verdict::Notify, Verdict::Notify | Verdict::Trace(_)) => true,
        (seen, said) => seen == said,
    };
    if same { said } else { seen }
}

/// What the kernel's return value shows of an answer.
pub(crate) fn answer(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Ok => Verdict::Errno(0),
        Outcome::Error(errno) => Verdict::Errno(errno.number()),
        Outcome::Killed => Verdict::KillProcess,
        Outcome::Unknown => Verdict::Notify,
    }
}

fn phase(phases: &[(PhaseName, Duration)], after_ms: u64) -> PhaseName {
    let after = Duration::from_millis(after_ms);
    let mut begun = phases.iter().filter(|(_, from)| *from <= after);
    begun.next_back().map_or(PhaseName::Startup, |(name, _)| *name)
}

impl From<Class> for Stage {
    fn from(class: Class) -> Self {
        match class {
            Class::Workload => Self::Workload,
            Class::RuntimeSetup => Self::Setup,
            Class::RuntimeStart => Self::Start,
            Class::ExecSession => Self::Exec,
        }
    }
}
