//! `synth`: turns traces into a profile, with the reason for each rule beside it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use synth::{Finding, Level, Synthesis};
use trace::Trace;

use crate::{
    exit, folder,
    format::Form,
    input,
    output::{Output, write_both},
    synthesis::Choices,
    terminal::{count, print, say},
};

/// Turn traces into a seccomp profile
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Traces, or workload folders with traces in them
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,

    /// Where the profile goes, its evidence beside it as `NAME.evidence.json`; `-` is standard output, without evidence
    #[arg(short, long, value_name = "FILE", default_value = "profile.json")]
    output: PathBuf,

    #[command(flatten)]
    form: Form,

    #[command(flatten)]
    choices: Choices,

    #[command(flatten)]
    risks: Risks,
}

/// Evidence that is taken although something is missing from it; each flag is named after the risk.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Risks {
    /// Take traces without the start of the workload: what only start-up needs will be refused
    #[arg(long)]
    pub(crate) without_startup: bool,

    /// Take traces that were not closed or lost calls: what they lost will be refused
    #[arg(long)]
    pub(crate) accept_incomplete: bool,
}

pub(crate) fn run(mut options: Options) -> anyhow::Result<ExitCode> {
    options.form.check(&options.output)?;
    let merged = input::merged(&options.traces)?;
    let folders = options.traces.iter().filter(|path| path.is_dir());
    let workloads =
        folders.map(|folder| folder::Workload::read(folder)).collect::<anyhow::Result<Vec<_>>>()?;
    for workload in &workloads {
        options.choices.or_stored(&workload.synthesis);
    }
    let beside = (options.output.as_os_str() != "-").then(|| options.output.with_extension("evidence.json"));
    let profile = Output::prepare(&options.output)?;
    let evidence = beside.as_deref().map(Output::prepare).transpose()?;
    let mut how = options.choices.options()?;
    for workload in &workloads {
        workload.resolve(&mut how)?;
    }
    how.without_startup = options.risks.without_startup;
    how.accept_incomplete = options.risks.accept_incomplete;
    let made = match synthesize(&merged, &how)? {
        Ok(made) => made,
        Err(code) => return Ok(code),
    };
    let folder = options.traces.iter().find(|path| path.is_dir());
    let written = options.form.write(&made.profile, folder.unwrap_or(&options.output), &options.output)?;
    let name = profile.name().to_string();
    match evidence {
        Some(evidence) => {
            let reasons = made.evidence.to_json();
            write_both((profile, written.profile.as_bytes()), (evidence, reasons.as_bytes()))?;
        }
        None => profile.write(written.profile.as_bytes())?,
    }
    say_summary(&made, &merged);
    if name != "-" {
        say(format!("wrote {name}"));
    }
    if let Some(hint) = written.hint {
        say(hint);
    }
    print(written.line.unwrap_or_default());
    let undecided = say_undecided(&made, folder.map(PathBuf::as_path));
    Ok(exit::code(if undecided { exit::EVIDENCE } else { exit::YES }))
}

/// What someone has to decide before the profile can be relied on, and how; says whether there is any.
pub(crate) fn say_undecided(made: &Synthesis, folder: Option<&Path>) -> bool {
    let undecided = made.evidence.findings.iter().filter(|finding| finding.level() == Level::Undecided);
    let syscalls: BTreeSet<&str> = undecided.filter_map(Finding::syscall).collect();
    let place = match folder {
        Some(folder) => format!("put into `{}`", folder.join(folder::WORKLOAD).display()),
        None => "give a workload folder instead of traces, and put into its `workload.toml`".to_owned(),
    };
    for syscall in &syscalls {
        say(format!(
            "undecided: `{syscall}`; {place}: [[decision]] verdict = \"accept\" (it stays so) or \"allow\" (perhaps under a condition, `when`), syscall = \"{syscall}\", reason, owner",
        ));
    }
    !syscalls.is_empty()
}

/// Synthesizes; evidence that is refused is an answer of its own (exit code 3), said here.
pub(crate) fn synthesize(trace: &Trace, how: &synth::Options) -> anyhow::Result<Result<Synthesis, ExitCode>> {
    match synth::synthesize(trace, how) {
        Ok(made) => Ok(Ok(made)),
        Err(error) if error.is_incomplete_evidence() => {
            say(format!("error: {error}"));
            Ok(Err(exit::code(exit::EVIDENCE)))
        }
        Err(error) => Err(error).context("cannot make a profile"),
    }
}

/// How many syscalls the profile allows, how complete the runs are, and the findings that a person should look at.
pub(crate) fn say_summary(made: &Synthesis, trace: &Trace) {
    let counts = made.evidence.counts;
    let runtime = counts.allowed.saturating_sub(counts.allowed_without_runtime);
    say(format!(
        "{} allowed: {} observed, {} for the container runtime alone, {} with a condition",
        count(counts.allowed as u64, "syscall"),
        counts.observed,
        runtime,
        counts.conditional,
    ));
    let completeness = synth::completeness(trace).arguments;
    say(format!(
        "after {}: {}{}",
        count(trace.runs, "run"),
        completeness.sentence("syscalls with their arguments"),
        completeness.provided()
    ));
    for finding in &made.evidence.findings {
        if finding.level() > Level::Note {
            say(format!("finding: {}", finding.message()));
        }
    }
}
