//! `seccomp-learn replay`: what a profile would have answered to every call that traces have. Nothing of them is run.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};

use crate::{exit, input, terminal::say};

mod court;
mod kernel;
mod sum;
mod tell;

use court::Court;
use sum::Sum;
use tell::{Format, Teller};

/// Judge recorded calls against a profile: which it allows, which it refuses, and which the recording says too little
/// about. Nothing is run; what only a filter answered while recording counts as not needed
///
/// Exit code 1: a call that was needed is refused, or kernel and simulator disagree. Exit code 3: nothing is refused,
/// and the recordings say too little: about a call, or they were not closed, lost calls or lack the workload's start.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The profile: a file, a workload folder, or the name of a shipped default (docker, podman, containerd)
    #[arg(value_name = "PROFILE|DIR")]
    profile: PathBuf,

    /// The traces, or folders of traces; without any, those of the workload folder
    #[arg(value_name = "TRACE|DIR")]
    traces: Vec<PathBuf>,

    /// Ask the running kernel too: the filter is loaded in a child with markers for its verdicts, so that nothing is
    /// carried out, and each call is made there; both must agree
    #[arg(long)]
    native: bool,

    /// As which runtime loads the profile
    #[arg(long, value_enum, default_value_t)]
    runtime: Runtime,

    /// How the result is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

/// `--runtime`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Runtime {
    /// The profile as it stands
    #[default]
    Crun,
    /// With runc's stub: calls newer than all that the profile names fail with ENOSYS
    Runc,
}

/// `replay`.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let profile = input::profile(&options.profile)?;
    let evidence = input::evidence(&options.profile, &profile)?;
    let files = match options.traces.as_slice() {
        [] => {
            anyhow::ensure!(
                options.profile.is_dir(),
                "no trace to judge; name some after the profile, or give a workload folder that has them"
            );
            input::trace_files(std::slice::from_ref(&options.profile))?
        }
        named => input::trace_files(named)?,
    };
    let compile = synth::CompileOptions::default().with_enosys_stub(options.runtime == Runtime::Runc);
    let court = Court::new(profile, evidence, compile, options.native, options.format.lists_all())?;
    let teller = Teller::new(options.format, options.profile.display().to_string(), court.has_evidence());
    let mut sum = Sum::default();
    court.judge_all(&files, |file| {
        teller.trace(&file);
        sum.add(file);
    })?;
    let warnings = sum.warnings(&court.unknown_names());
    for warning in &warnings {
        say(format!("warning: {warning}"));
    }
    teller.end(&sum, &warnings)?;
    Ok(exit::code(sum.exit()))
}
