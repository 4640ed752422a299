//! Denials of a container, from what BPF saw a filter answer: the same words as for a command of ours.

use std::time::Duration;

use profiler::ebpf::{Class, Refusal};
use synth::{Profile, Verdict};
use trace::{Outcome, PhaseName};

use crate::{Denial, HarnessError, Judge, Stage};

/// The denials among refusals that were met while this profile was in force, in the order of their first sight.
/// `phases` are the phases of the drive; without any, everything is start-up.
///
/// # Errors
/// When the profile cannot be compiled.
pub fn attribute(
    profile: &Profile,
    refusals: &[Refusal],
    phases: &[(PhaseName, Duration)],
) -> Result<Vec<Denial>, HarnessError> {
    let judge = Judge::new(profile.clone())?;
    let mut denials: Vec<Denial> = refusals
        .iter()
        // What is called before the profile is loaded was refused by another.
        .filter(|refusal| refusal.class != Class::RuntimeSetup)
        .map(|refusal| {
            let args = refusal.arguments.unwrap_or_default();
            let verdict = verdict(&judge, refusal);
            Denial {
                abi: refusal.abi,
                number: refusal.number,
                name: refusal.name.clone(),
                args,
                verdict,
                explicit_enosys: judge.is_explicit_enosys(refusal.abi, refusal.number, verdict),
                count: refusal.count,
                pid: refusal.first.pid,
                comm: refusal.first.comm.clone(),
                stage: refusal.class.into(),
                phase: phase(phases, refusal.first.after_ms),
                after_ms: refusal.first.after_ms,
                remedy: judge.remedy(refusal.abi, refusal.number, &args),
            }
        })
        .collect();
    denials.sort_by_key(|denial| (denial.after_ms, denial.abi, denial.number));
    Ok(denials)
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
