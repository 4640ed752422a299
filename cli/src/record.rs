//! `record`: watches a workload and writes the trace.

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use profiler::{Request, Subject};

use crate::{
    exit,
    output::Output,
    session::{Backend, Life, duration},
    terminal::{Live, count, losses, remarks, say, thousands},
};

/// This tool's name and version, as traces and evidence carry it.
pub(crate) const TOOL: &str = concat!("seccomp-learn ", env!("CARGO_PKG_VERSION"));

/// Watch a workload and write down every syscall it makes
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Where the trace goes; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "trace.json")]
    output: PathBuf,

    /// How the calls are seen
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,

    /// Stop after this time
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,

    #[command(flatten)]
    life: Life,

    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    target: Target,
}

/// What is recorded: exactly one.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Target {
    /// Record a cgroup and all below it, by its directory or its path below the cgroup v2 mount
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,

    /// Record this process, its threads and its descendants
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,

    /// Start this command and record it from its first call
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let output = Output::prepare(&options.output)?;
    let subject = match (options.target.cgroup, options.target.pid) {
        (Some(path), _) => Subject::Cgroup(path),
        (_, Some(pid)) => Subject::Process(pid),
        _ => Subject::Command(options.target.command),
    };
    let plan = options.life.plan(None, options.duration);
    let stdout_is_ours = options.output.as_os_str() == "-";
    let request = Request { subject, backend: options.backend.into(), plan, stdout_is_ours };
    let mut live = Live::new(options.quiet);
    let recorded = profiler::record(&request, TOOL, &mut live);
    live.clear();
    let recorded = recorded?;

    let trace = recorded.trace;
    let remarks = remarks(&recorded.driven);
    for remark in &remarks {
        say(format!("warning: {remark}"));
    }
    if trace.syscalls.is_empty() {
        anyhow::bail!("nothing was recorded: the target made no call; `{}` was not written", output.name());
    }
    let mut bytes = Vec::new();
    trace.write(&mut bytes)?;
    let name = output.name().to_string();
    output.write(&bytes)?;
    if !options.quiet {
        let calls = trace.syscalls.iter().map(|row| row.calls.saturating_add(row.denied)).sum();
        // Tenths are enough, except for what is over in no time.
        let grain = if trace.recorder.duration_ms < 1000 { 1 } else { 100 };
        let seconds = Duration::from_millis(trace.recorder.duration_ms / grain * grain);
        say(format!(
            "{}, {} in {}; wrote {name}",
            count(trace.syscalls.len() as u64, "syscall"),
            count(calls, "call"),
            humantime::format_duration(seconds),
        ));
    }
    if trace.confined {
        let denied: Vec<String> = trace
            .syscalls
            .iter()
            .filter(|row| row.denied > 0)
            .map(|row| format!("{} ({})", row.name, thousands(row.denied)))
            .collect();
        say("note: a seccomp filter was already on the workload (`confined: true`)");
        if !denied.is_empty() {
            say(format!("note: it refused {}", denied.join(", ")));
        }
    }
    let lost = losses(&trace.losses);
    for loss in &lost {
        say(format!("lost: {loss}"));
    }
    let unwell =
        !recorded.driven.exercise.is_good() || recorded.driven.end == profiler::drive::End::NeverReady;
    Ok(exit::code(if trace.losses.lost_calls() {
        exit::EVIDENCE
    } else if unwell {
        exit::NO
    } else {
        exit::YES
    }))
}
