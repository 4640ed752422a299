//! One confined start of a workload: under a profile, driven like a recording, judged by its denials and its health.

use std::{collections::BTreeSet, ffi::OsString, os::fd::AsFd};

use confine::Launch;
use harness::{Denial, Mode, Run};
use profiler::drive::{Driven, End, Plan};
use serde_json::{Value, json};
use synth::{Evidence, Finding, Profile};

/// What a start showed.
#[derive(Debug)]
pub(crate) struct Trial {
    /// How the start went.
    pub(crate) run: Run,
    /// Calls that the ceiling took out of the profile, a finding already: the engines' default refuses them too.
    pub(crate) above_ceiling: BTreeSet<String>,
}

/// How a refusal bears on the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bearing {
    /// The workload asked for something that was not learned.
    Denial,
    /// The ceiling took it out of the profile.
    AboveCeiling,
    /// The profile answers it with ENOSYS on purpose.
    Enosys,
}

impl Trial {
    /// How a refusal bears on the profile.
    pub(crate) fn bearing(&self, denial: &Denial) -> Bearing {
        if denial.explicit_enosys {
            Bearing::Enosys
        } else if self.above_ceiling.contains(&denial.name) {
            Bearing::AboveCeiling
        } else {
            Bearing::Denial
        }
    }

    /// The refusals that bear on the profile in this way.
    pub(crate) fn refused(&self, bearing: Bearing) -> impl Iterator<Item = &Denial> {
        self.run.denials.iter().filter(move |denial| self.bearing(denial) == bearing)
    }

    /// Whether the workload was well: its helpers succeeded, and it did not end with an error of its own.
    pub(crate) fn is_well(&self) -> bool {
        let Driven { end, exit, ready, exercise, health, .. } = &self.run.driven;
        let ended_badly = *end == End::Ended && exit.is_some_and(|exit| exit.code() != 0);
        *end != End::NeverReady
            && !ended_badly
            && [ready, exercise, health].into_iter().all(|verdict| verdict.is_good())
    }
}

/// The calls that the ceiling took out of a profile, from its evidence.
pub(crate) fn above_ceiling(evidence: &Evidence) -> BTreeSet<String> {
    let names = evidence.findings.iter().filter_map(|finding| match finding {
        Finding::AboveCeiling { syscall, .. } => Some(syscall.clone()),
        _ => None,
    });
    names.collect()
}

/// What a start is made of.
pub(crate) struct Setting<'a> {
    pub(crate) profile: &'a Profile,
    pub(crate) command: &'a [OsString],
    pub(crate) plan: &'a Plan,
    /// Calls whose refusal is known.
    pub(crate) above_ceiling: &'a BTreeSet<String>,
    /// Our standard output is for the result: the workload's goes to standard error.
    pub(crate) stdout_is_ours: bool,
}

/// Starts the workload under the profile, drives it and stops it.
pub(crate) fn trial(setting: &Setting<'_>, mode: Mode) -> anyhow::Result<Trial> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut launch = Launch::new(setting.command)?;
    if setting.stdout_is_ours {
        launch.stdout = Some(std::io::stderr().as_fd().try_clone_to_owned()?);
    }
    let run = runtime.block_on(harness::run(setting.profile, launch, mode, setting.plan))?;
    Ok(Trial { run, above_ceiling: setting.above_ceiling.clone() })
}

/// A denial in one line for a person: `mkdir("…") by sh (4711), serving, 3 times → EPERM`.
pub(crate) fn sentence(denial: &Denial) -> String {
    let times = if denial.count == 1 {
        "once".to_owned()
    } else {
        format!("{} times", crate::terminal::thousands(denial.count))
    };
    let arguments: Vec<String> = denial.args.iter().map(|argument| format!("{argument:#x}")).collect();
    let abi = if Some(denial.abi) == trace::Abi::native_of(std::env::consts::ARCH) {
        String::new()
    } else {
        format!(" ({})", denial.abi)
    };
    format!(
        "{}{abi} → {}, {times}, first by {} ({}) in {} with ({})",
        denial.name,
        denial.verdict,
        denial.comm,
        denial.pid,
        denial.phase.as_str(),
        arguments.join(", "),
    )
}

/// A denial for a program.
pub(crate) fn denial_json(denial: &Denial, bearing: Bearing, run: u32) -> Value {
    json!({
        "type": match bearing {
            Bearing::Denial => "denial",
            Bearing::AboveCeiling => "above-ceiling",
            Bearing::Enosys => "enosys",
        },
        "version": 1,
        "run": run,
        "abi": denial.abi,
        "number": denial.number,
        "name": denial.name,
        "args": denial.args.map(|argument| format!("{argument:#x}")),
        "verdict": denial.verdict.to_string(),
        "count": denial.count,
        "pid": denial.pid,
        "comm": denial.comm,
        "phase": denial.phase.as_str(),
        "after_ms": denial.after_ms,
        "remedy": denial.remedy,
    })
}
