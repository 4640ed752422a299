//! `watch`: the denials of something that runs, or what a profile would refuse to it that is not loaded.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use engine::{Container, Kind, Seccomp};
use harness::{
    Judge,
    watch::{Containers, Judges, Look, OneCgroup, OneProcess, Watch},
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{SigSet, Signal},
    sys::signalfd::{SfdFlags, SignalFd},
};
use synth::Profile;

use crate::{
    containers::{Engines, PodTarget},
    held_out::Ledger,
    input,
    output::read,
    session::duration,
    terminal::say,
};

mod pods;
mod show;

use show::Show;

/// Watch something that runs: which calls its filter refuses, or which ones a profile would
///
/// Nothing is changed in what is watched, and it is never stopped. Without `--duration` the watch ends when the target
/// does, or with Ctrl-C.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,

    #[command(flatten)]
    pod: PodTarget,

    #[command(flatten)]
    engines: Engines,

    /// Ask this profile instead of loading it: which of the calls that are made would it refuse? A file, a workload
    /// folder, or the name of a shipped default (docker, podman, containerd)
    #[arg(long, value_name = "PROFILE|DIR")]
    profile: Option<PathBuf>,

    /// Watch for this time; a container that stops meanwhile is waited for
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,

    /// Leave out what is started in the container besides: `exec` sessions and probes
    #[arg(long)]
    without_exec: bool,

    /// Add each run that is seen from its start to its stop to this workload folder, as a held-out run of its profile
    #[arg(short, long, value_name = "DIR", conflicts_with = "evidence")]
    output: Option<PathBuf>,

    /// Add each run that is seen from its start to its stop to this file
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,

    /// One JSON object for each line, for programs
    #[arg(long)]
    json: bool,
}

/// What is watched, where it is no container.
#[derive(Args, Debug)]
#[group(multiple = false)]
struct Target {
    /// Watch a cgroup and all below it, by its directory or its path below the cgroup v2 mount
    #[arg(long, value_name = "PATH", conflicts_with_all = ["container", "pod", "selector"])]
    cgroup: Option<PathBuf>,

    /// Watch this process, its threads and its descendants; what was seen is said at the end
    #[arg(long, value_name = "PID", conflicts_with_all = ["container", "pod", "selector"])]
    pid: Option<u32>,
}

/// What the exit codes mean here.
const HELP: &str = "\
Exit codes:
  0  nothing was refused, nor would be
  1  something was
  2  it could not be done
  3  no denial, but calls were lost, or some call's answer depends on arguments that are not known";

/// How often what was counted is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long a container that has stopped is waited for where no time was given.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let asked = match &options.profile {
        Some(profile) => Some(Judge::new(input::profile(profile)?)?),
        None => None,
    };
    if let Some(judge) = &asked {
        let lost = judge.lost_names();
        if !lost.is_empty() {
            say(format!(
                "warning: this host's libseccomp does not know `{}`, which the profile allows: here it would refuse them",
                lost.join("`, `")
            ));
        }
    }
    let ledger = Ledger::open(options.output.as_deref(), options.evidence.as_deref())?;
    let mut show = Show::new(options.json, asked.is_some(), ledger);
    if options.pod.is_pod() {
        return pods::run(&options, asked, show);
    }
    // Before anything starts a thread: they all leave these signals to us.
    let signals = signals().context("cannot listen for signals")?;
    let mut watch = start(&options, asked, &show)?;
    show.ready();
    let began = Instant::now();
    loop {
        for event in watch.look()? {
            show.event(event)?;
        }
        let time_is_up = options.duration.is_some_and(|duration| began.elapsed() >= duration);
        if time_is_up || watch.is_over() || interrupted(&signals, LOOK)? {
            break;
        }
    }
    for event in watch.finish()? {
        show.event(event)?;
    }
    Ok(show.result())
}

fn start(options: &Options, asked: Option<Judge>, show: &Show) -> anyhow::Result<Box<dyn Watch>> {
    let without_exec = options.without_exec;
    let look = |asked| Look { judges: Judges { asked, in_force: None }, without_exec };
    if let Some(path) = &options.target.cgroup {
        return Ok(Box::new(OneCgroup::start(path, look(asked))?));
    }
    if let Some(pid) = options.target.pid {
        return Ok(Box::new(OneProcess::start(pid, look(asked))?));
    }
    let Some(name) = &options.pod.container else {
        anyhow::bail!(
            "nothing to watch; name a container with `--container`, a pod with `--pod`, or give `--cgroup` or `--pid`"
        );
    };
    let sockets = options.engines.sockets();
    let patience = options.duration.is_none().then_some(PATIENCE);
    let watch = Containers::start(
        name,
        options.engines.engine,
        sockets,
        asked,
        Box::new(in_force),
        without_exec,
        patience,
    )?;
    let (container, engine) = watch.container();
    show.found(container, &engine);
    Ok(Box::new(watch))
}

/// The profile that a container runs under, where it can be known.
fn in_force(container: &Container, kind: Kind) -> Option<Judge> {
    let profile = match &container.seccomp {
        Seccomp::Unconfined => return None,
        _ if container.privileged => return None,
        Seccomp::Inline(text) => Profile::read(text.as_bytes()).ok()?,
        Seccomp::Profile(path) => Profile::read(&read(path.as_ref()).ok()?).ok()?,
        Seccomp::Default => {
            let name = match kind {
                Kind::Docker => "docker",
                Kind::Podman => "podman",
                Kind::Containerd | Kind::Crio => "containerd",
            };
            synth::reference(name)?.resolve(&input::container())
        }
    };
    Judge::new(profile).ok()
}

fn signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)
}

/// Sleeps; says whether somebody asked us to stop.
fn interrupted(signals: &SignalFd, time: Duration) -> anyhow::Result<bool> {
    use std::os::fd::AsFd as _;
    let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::ZERO);
    match poll(&mut fds, timeout) {
        Err(nix::Error::EINTR) => Ok(false),
        other => Ok(other.context("cannot wait for signals")? > 0),
    }
}
