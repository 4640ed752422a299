//! One confined start of a workload: under a profile, driven like a recording, judged by its denials and its health.

use std::ffi::OsString;

use harness::{Denial, Mode, Run};
use profiler::drive::{Driven, End, Plan};
use serde_json::{Value, json};
use synth::Profile;

/// What a start showed.
#[derive(Debug)]
pub(crate) struct Trial(pub(crate) Run);

impl Trial {
    /// The refusals that speak against the profile: not the calls it answers with ENOSYS on purpose.
    pub(crate) fn refused(&self) -> impl Iterator<Item = &Denial> {
        self.0.denials.iter().filter(|denial| !denial.explicit_enosys)
    }

    /// Whether the workload was well: its helpers succeeded, and it did not end with an error of its own.
    pub(crate) fn is_well(&self) -> bool {
        let Driven { end, exit, ready, exercise, health, .. } = &self.0.driven;
        let ended_badly = *end == End::Ended && exit.is_some_and(|exit| exit.code() != 0);
        *end != End::NeverReady
            && !ended_badly
            && [ready, exercise, health].into_iter().all(|verdict| verdict.is_good())
    }
}

/// Starts the workload under the profile, drives it and stops it.
pub(crate) fn trial(
    profile: &Profile,
    command: &[OsString],
    mode: Mode,
    plan: &Plan,
) -> anyhow::Result<Trial> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(harness::run(profile, command, mode, plan)).map(Trial).map_err(Into::into)
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
pub(crate) fn denial_json(denial: &Denial, run: u32) -> Value {
    json!({
        "type": if denial.explicit_enosys { "enosys" } else { "denial" },
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
