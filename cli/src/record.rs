//! `record`: watches a workload and writes the trace.

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::bail;
use clap::{ArgGroup, Args};
use profiler::{
    Recording, Request, Subject,
    containers::ContainerSubject,
    drive::{Driven, End},
};

use crate::{
    containers::{Engines, ImageTarget, Observe, PodTarget},
    exit,
    output::Output,
    recorded::{Recorded, Writing},
    session::{Backend, Life, capture, duration},
    terminal::{Live, remarks, say},
};

/// This tool's name and version, as traces and evidence carry it.
pub(crate) const TOOL: &str = concat!("seccomp-learn ", env!("CARGO_PKG_VERSION"));

/// Watch a workload and write down every syscall it makes
#[derive(Args, Debug)]
#[command(group(
    ArgGroup::new("target")
        .required(true)
        .multiple(true)
        .args(["cgroup", "pid", "container", "pod", "selector", "image", "command"])
))]
pub(crate) struct Options {
    /// Where the trace goes; `-` is standard output. For a pod the folder of its traces
    /// [default: trace.json, for a pod traces]
    #[arg(short, long, value_name = "FILE|DIR")]
    output: Option<PathBuf>,

    /// How the calls are seen
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,

    /// Stop after this time
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,

    #[command(flatten)]
    life: Life,

    /// One JSON object for each trace on standard output, for programs
    #[arg(long)]
    json: bool,

    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,

    /// Record a cgroup and all below it, by its directory or its path below the cgroup v2 mount
    #[arg(long, value_name = "PATH", conflicts_with_all = ["pid", "container", "pod", "selector", "image", "command"])]
    cgroup: Option<PathBuf>,

    /// Record this process, its threads and its descendants
    #[arg(long, value_name = "PID", conflicts_with_all = ["container", "pod", "selector", "image", "command"])]
    pid: Option<u32>,

    #[command(flatten)]
    pods: PodTarget,

    #[command(flatten)]
    image: ImageTarget,

    #[command(flatten)]
    engines: Engines,

    /// Start this command and record it from its first call; with `--image` the arguments of the container
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    if let Some(subject) = container(&options)? {
        return containers(options, subject);
    }
    let path = options.output.clone().unwrap_or_else(|| "trace.json".into());
    let stdout_is_ours = path.as_os_str() == "-" || options.json;
    if options.json && path.as_os_str() == "-" {
        bail!("`--json` and the trace cannot both go to standard output; give a file with `-o`");
    }
    let output = Output::prepare(&path)?;
    let subject = match (options.cgroup, options.pid) {
        (Some(path), _) => Subject::Cgroup(path),
        (_, Some(pid)) => Subject::Process(pid),
        _ => Subject::Command(options.command),
    };
    let plan = options.life.plan(None, options.duration);
    let request =
        Request { subject, backend: options.backend.into(), plan, capture: capture(), stdout_is_ours };
    let mut live = Live::new(options.quiet);
    let recorded = profiler::record(&request, TOOL, &mut live);
    live.clear();
    let Recording { mut trace, driven } = recorded?;

    for remark in remarks(&driven) {
        say(format!("warning: {remark}"));
    }
    if trace.syscalls.is_empty() {
        bail!("nothing was recorded: the target made no call; `{}` was not written", output.name());
    }
    trace.seal()?;
    let mut bytes = Vec::new();
    trace.write(&mut bytes)?;
    let name = output.name().to_string();
    output.write(&bytes)?;
    let recorded = Recorded { trace: &trace, name: &name };
    recorded.tell(options.quiet, options.json);
    let unwell = !driven.exercise.is_good() || driven.end == End::NeverReady;
    Ok(exit::code(code(trace.losses.lost_calls(), unwell)))
}

const fn code(lost: bool, unwell: bool) -> u8 {
    if lost {
        exit::EVIDENCE
    } else if unwell {
        exit::NO
    } else {
        exit::YES
    }
}

/// What of the engines' is meant, if anything is.
fn container(options: &Options) -> anyhow::Result<Option<ContainerSubject>> {
    let found = options.pods.subject(&options.engines)?;
    let made = options.image.run(&options.engines, &options.command)?;
    let subject = match (found, made) {
        (Some(_), Some(_)) => {
            bail!("`--image` starts a container of its own; leave out `--container` or `--pod`")
        }
        (Some(_), None) if !options.command.is_empty() => {
            bail!("a command after `--` is for `--image`, or for a recording without a container")
        }
        (Some(found), None) => found,
        (None, Some(run)) => ContainerSubject::Image(run),
        (None, None) => return Ok(None),
    };
    if matches!(options.backend, Backend::Notify) {
        bail!(
            "backend `notify` records only commands that it starts itself; use `--backend ebpf` for containers"
        );
    }
    Ok(Some(subject))
}

fn containers(options: Options, subject: ContainerSubject) -> anyhow::Result<ExitCode> {
    let pod = options.pods.is_pod();
    let default = if pod { "traces" } else { "trace.json" };
    let path = options.output.clone().unwrap_or_else(|| default.into());
    let stdout = path.as_os_str() == "-";
    if stdout && (pod || options.json) {
        bail!("several results cannot all go to standard output; give a place with `-o`");
    }
    let observe = Observe::new()?;
    let by_label = options.pods.selector.is_some();
    let mut writing = Writing::prepare(&path, pod, by_label, options.quiet, options.json)?;
    let plan = options.life.plan(None, options.duration);
    let request = observe.request(subject, &options.engines, plan, stdout || options.json);
    let recorded = profiler::containers::record(&request, TOOL, &mut writing);
    writing.clear();
    let recorded = recorded?;
    let (mut lost, mut unwell) = (false, false);
    for recording in &recorded {
        lost |= recording.trace.losses.lost_calls();
        unwell |= !recording.driven.exercise.is_good() || recording.driven.end == End::NeverReady;
    }
    if let Some(first) = recorded.first() {
        // How a container ended is said with its trace.
        for remark in remarks(&Driven { exit: None, ..first.driven.clone() }) {
            say(format!("warning: {remark}"));
        }
        if !pod && first.driven.end == End::Ended && first.container.pid().is_some() {
            say(format!(
                "note: `{}` was started again; only its first run is in the trace",
                first.container.name
            ));
        }
    }
    writing.finish()?;
    Ok(exit::code(code(lost, unwell)))
}
