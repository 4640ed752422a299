//! One recording from start to stop: picks the backend, starts or finds the target, drives it, and hands over
//! the trace. Writes no file.

use std::{
    ffi::OsString,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use confine::{Filter, Launch};
use trace::{
    Backend, Phase, PhaseName, Recorder as About, Startup, Target, TargetKind, Trace, mask_arguments,
};

use crate::{
    CapturePlan, Progress, RecordError, Recorder,
    cgroup::{self, OwnCgroup},
    containers::Event,
    drive::{Driven, Plan, Signals, Watcher, drive},
    ebpf::{self, EbpfRecorder, Fleet, TargetId, Watch},
    host,
    notify::{self, NotifyRecorder},
    place::{self, Place},
};

/// Which backend to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first that works: `ebpf`, else `notify`.
    #[default]
    Auto,
    /// BPF, or an error.
    Ebpf,
    /// User notification, or an error.
    Notify,
}

/// What to record.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A command with its arguments; not empty.
    Command(Vec<OsString>),
    /// A cgroup, by its directory or its path below the cgroup v2 mount.
    Cgroup(PathBuf),
    /// A process with its threads and descendants.
    Process(u32),
}

/// What to record, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to record.
    pub subject: Subject,
    /// Which backend to take.
    pub backend: Choice,
    /// What to do with the workload between start and stop.
    pub plan: Plan,
    /// What to keep of the arguments of calls.
    pub capture: CapturePlan,
    /// Our standard output is for the result: the command's goes to standard error.
    pub stdout_is_ours: bool,
}

/// What a recording tells while it runs.
pub trait Observer: Send {
    /// Said once, before the workload starts: the backend that was taken, and why.
    fn chosen(&mut self, backend: Backend, reason: &str);
    /// The workload runs under this process id; none where nothing was started.
    fn started(&mut self, pid: Option<u32>);
    /// Said a few times a second.
    fn progress(&mut self, elapsed: Duration, phase: PhaseName, progress: &Progress);
    /// What happens while containers are recorded.
    fn event(&mut self, _event: &Event<'_>) {}
    /// The programs for containers are attached, and there is no target yet.
    fn armed(&mut self, _fleet: &mut Fleet) {}
    /// A look at a container's run, by its id: a few times a second, and once before it is taken.
    fn peek(&mut self, _fleet: &Fleet, _id: &str, _targets: &[TargetId]) {}
}

/// A trace, and how the workload fared meanwhile.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The trace.
    pub trace: Trace,
    /// How the drive went.
    pub driven: Driven,
}

/// Records.
///
/// # Errors
/// See [`RecordError`]; nothing is left behind then: no process, no cgroup, no attached program.
pub fn record(request: &Request, tool: &str, observer: &mut dyn Observer) -> Result<Recording, RecordError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| RecordError::Io { what: "cannot start the runtime", source })?;
    let (backend, reason) = choose(request)?;
    match &request.subject {
        Subject::Command(command) => {
            let (mut launch, own) = prepare(command, backend)?;
            if request.stdout_is_ours {
                let stderr = std::io::stderr().as_fd().try_clone_to_owned();
                let what = "cannot hand on standard error";
                launch.stdout = Some(stderr.map_err(|source| RecordError::Io { what, source })?);
            }
            observer.chosen(backend, &reason);
            runtime.block_on(record_command(request, tool, backend, launch, own, observer))
        }
        Subject::Cgroup(path) => {
            let path = cgroup::find(path)?;
            if cgroup::processes(&path).is_ok_and(|pids| pids.contains(&std::process::id())) {
                return Err(RecordError::Ourselves(std::process::id()));
            }
            observer.chosen(backend, &reason);
            let populated = cgroup::processes(&path).is_ok_and(|pids| !pids.is_empty());
            let mut target = target_of(TargetKind::Cgroup);
            target.cgroup = Some(below_mount(&path)?);
            let startup = if populated { Startup::NotRecorded } else { Startup::Recorded };
            let place = Place::Cgroup(path.clone());
            runtime.block_on(record_running(
                request,
                tool,
                &Watch::Cgroup(path),
                place,
                target,
                startup,
                observer,
            ))
        }
        Subject::Process(pid) => {
            if !Path::new("/proc").join(pid.to_string()).exists() {
                return Err(RecordError::NoProcess(*pid));
            }
            if place::is_ancestor_of_ours(*pid) {
                return Err(RecordError::Ourselves(*pid));
            }
            observer.chosen(backend, &reason);
            let mut target = target_of(TargetKind::Pid);
            target.pid = Some(*pid);
            target.command = mask_arguments(&command_line(*pid));
            let (watch, place) = (Watch::Process(*pid), Place::Process(*pid));
            let startup = Startup::NotRecorded;
            runtime.block_on(record_running(request, tool, &watch, place, target, startup, observer))
        }
    }
}

fn choose(request: &Request) -> Result<(Backend, String), RecordError> {
    let command = matches!(request.subject, Subject::Command(_));
    let ebpf = || ebpf::probe().map_err(|error| chain(&error));
    match request.backend {
        Choice::Ebpf => ebpf::probe().map_err(Into::into).map(|()| (Backend::Ebpf, "asked for".to_owned())),
        Choice::Notify if !command => Err(RecordError::NotifyNeedsCommand("asked for".to_owned())),
        Choice::Notify => {
            notify::probe().map_err(Into::into).map(|()| (Backend::Notify, "asked for".to_owned()))
        }
        // A command needs a cgroup of its own besides.
        Choice::Auto => match ebpf().and_then(|()| {
            if command { OwnCgroup::create().map(drop).map_err(|error| chain(&error)) } else { Ok(()) }
        }) {
            Ok(()) => Ok((Backend::Ebpf, "BPF works here".to_owned())),
            Err(why) if !command => Err(RecordError::NotifyNeedsCommand(why)),
            Err(why) => match notify::probe() {
                Ok(()) => Ok((Backend::Notify, format!("not ebpf: {why}"))),
                Err(error) => Err(RecordError::NoBackend { ebpf: why, notify: chain(&error) }),
            },
        },
    }
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The command, with a cgroup of its own where one can be had. `ebpf` cannot do without; `notify` then looks
/// among our descendants.
fn prepare(command: &[OsString], backend: Backend) -> Result<(Launch, Option<OwnCgroup>), RecordError> {
    let mut launch = Launch::new(command)?;
    let own = match OwnCgroup::create().and_then(|own| own.entrance().map(|entrance| (own, entrance))) {
        Ok(both) => Some(both),
        Err(error) if backend == Backend::Ebpf => return Err(error.into()),
        Err(_) => None,
    };
    let (own, entrance) = own.unzip();
    launch.cgroup = entrance;
    launch.filter = match backend {
        Backend::Ebpf => Filter::None,
        Backend::Notify => Filter::Listen(notify::filter()?),
    };
    Ok((launch, own))
}

async fn record_command(
    request: &Request,
    tool: &str,
    backend: Backend,
    launch: Launch,
    own: Option<OwnCgroup>,
    observer: &mut dyn Observer,
) -> Result<Recording, RecordError> {
    let io = |what| move |source| RecordError::Io { what, source };
    let mut target = target_of(TargetKind::Command);
    let words: Vec<String> =
        launch.arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    target.command = mask_arguments(&words);
    let place = match &own {
        Some(own) => Place::Cgroup(own.path().to_owned()),
        None => {
            place::adopt_orphans().map_err(io("cannot adopt orphans"))?;
            Place::Descendants
        }
    };
    let mut signals = Signals::listen().map_err(io("cannot listen for signals"))?;
    let gated = confine::spawn(launch)?;
    let started_at = host::now();
    let (mut recorder, mut child): (Box<dyn Recorder>, _) = match (&own, backend) {
        (Some(own), Backend::Ebpf) => {
            let watch = Watch::Cgroup(own.path().to_owned());
            let recorder = EbpfRecorder::start(&watch, &request.capture)?;
            let (child, _) = gated.release()?;
            (Box::new(recorder), child)
        }
        _ => {
            let (child, listener) = gated.release()?;
            let listener = listener.ok_or(RecordError::NotifyNeedsCommand("no listener".to_owned()))?;
            (Box::new(NotifyRecorder::start(listener, request.capture.clone())?), child)
        }
    };
    let started = Instant::now();
    child.wait_exec()?;
    observer.started(Some(child.pid()));
    let mut watcher = Progressing { recorder: recorder.as_mut(), observer, next: Duration::ZERO };
    let driven = drive(&request.plan, Some(&mut child), &place, started, &mut signals, &mut watcher).await;
    let driven = driven.map_err(io("cannot follow the command"))?;
    target.exit_code = driven.exit.map(confine::Exit::code);
    finish(tool, backend, started_at, target, Startup::Recorded, recorder, driven)
}

async fn record_running(
    request: &Request,
    tool: &str,
    watch: &Watch,
    place: Place,
    target: Target,
    startup: Startup,
    observer: &mut dyn Observer,
) -> Result<Recording, RecordError> {
    let started_at = host::now();
    let listening = Signals::listen();
    let mut signals =
        listening.map_err(|source| RecordError::Io { what: "cannot listen for signals", source })?;
    let mut recorder = EbpfRecorder::start(watch, &request.capture)?;
    // What already runs is past its start.
    if startup == Startup::NotRecorded {
        recorder.set_phase(PhaseName::Serving);
    }
    observer.started(None);
    let started = Instant::now();
    let mut watcher = Progressing { recorder: &mut recorder, observer, next: Duration::ZERO };
    let driven = drive(&request.plan, None, &place, started, &mut signals, &mut watcher).await;
    let mut driven = driven.map_err(|source| RecordError::Io { what: "cannot follow the target", source })?;
    if startup == Startup::NotRecorded {
        driven.phases = vec![(PhaseName::Serving, Duration::ZERO)];
    }
    finish(tool, Backend::Ebpf, started_at, target, startup, Box::new(recorder), driven)
}

fn finish(
    tool: &str,
    backend: Backend,
    started_at: String,
    mut target: Target,
    startup: Startup,
    recorder: Box<dyn Recorder>,
    driven: Driven,
) -> Result<Recording, RecordError> {
    let observed = recorder.finish().map_err(RecordError::Finish)?;
    let (kernel, arch) = host::kernel();
    target.gpu = observed.gpu;
    let about = About {
        tool: tool.to_owned(),
        backend,
        kernel,
        arch,
        started: started_at,
        duration_ms: milliseconds(driven.elapsed),
        perturbations: observed.perturbations,
    };
    let mut trace = Trace::new(about, target);
    trace.complete = true;
    trace.confined = observed.confined;
    trace.startup = startup;
    trace.losses = observed.losses;
    trace.phases =
        driven.phases.iter().map(|(name, at)| Phase { name: *name, from_ms: milliseconds(*at) }).collect();
    trace.syscalls = observed.rows;
    (trace.opens, trace.opens_beyond) = (observed.opens, observed.opens_beyond);
    Ok(Recording { trace, driven })
}

/// How often the observer hears of progress: the drive ticks more often, and reading the maps is not free.
const PROGRESS: Duration = Duration::from_millis(250);

/// Hands the drive's phases and ticks to the recorder and the observer.
struct Progressing<'a> {
    recorder: &'a mut dyn Recorder,
    observer: &'a mut dyn Observer,
    next: Duration,
}

impl Watcher for Progressing<'_> {
    fn phase(&mut self, phase: PhaseName) {
        self.recorder.set_phase(phase);
    }

    fn tick(&mut self, elapsed: Duration, phase: PhaseName) {
        if elapsed >= self.next {
            self.next = elapsed + PROGRESS;
            let progress = self.recorder.progress();
            self.observer.progress(elapsed, phase, &progress);
        }
    }
}

fn target_of(kind: TargetKind) -> Target {
    Target { gpu_driver: host::gpu_driver(), ..Target::new(kind) }
}

fn below_mount(path: &Path) -> Result<String, RecordError> {
    let mount = cgroup::mount_point()?;
    Ok(format!("/{}", path.strip_prefix(&mount).unwrap_or(path).display()))
}

fn command_line(pid: u32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .filter(|word| !word.is_empty())
        .collect()
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
