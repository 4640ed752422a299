//! What the container runtime that is installed here calls by itself, on the thread that becomes the workload,
//! between loading the filter and the exec: a profile must allow it, or no container starts.
//!
//! Measured by running the runtime with every kind of process it treats differently, under a filter that refuses
//! nothing, in a cgroup of our own that is recorded in stages.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{SigSet, Signal},
        stat::Mode,
    },
    unistd::Uid,
};
use trace::{Arguments, FilterMoment, Kept, RuntimeCalls};

use crate::{
    CapturePlan,
    cgroup::{self, CgroupError, OwnCgroup},
    ebpf::{EbpfError, Fleet},
    host,
};

mod bundle;
mod installed;
mod program;

use bundle::{Bundle, Variant};
pub use installed::{Installed, RuntimeKind};
use program::Program;

/// How a program was started in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Case {
    /// In a container that ran already, else as the container's own.
    pub exec: bool,
    /// With no_new_privs, which loads the filter later.
    pub no_new_privileges: bool,
}

impl Case {
    /// All four.
    pub const ALL: [Self; 4] = [
        Self { exec: false, no_new_privileges: false },
        Self { exec: false, no_new_privileges: true },
        Self { exec: true, no_new_privileges: false },
        Self { exec: true, no_new_privileges: true },
    ];
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Each call that was seen under the filter.
    pub seen: BTreeMap<String, Seen>,
    /// How many containers were started.
    pub starts: u32,
    /// How many programs were started in running ones.
    pub execs: u32,
}

/// How a call was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// In which cases.
    pub cases: BTreeSet<Case>,
    /// With which arguments, each time all that were kept of them; none where that is not known of every call.
    pub arguments: Option<BTreeSet<Vec<(Kept, u64)>>>,
}

impl Seen {
    fn add(&mut self, case: Case, arguments: Option<&Arguments>) {
        let complete = arguments.filter(|arguments| arguments.beyond == 0 && arguments.unread == 0);
        let values = complete.map(|Arguments { kept, values, .. }| {
            values.iter().map(|values| kept.iter().cloned().zip(values.arguments.iter().copied()).collect())
        });
        let before = if self.cases.is_empty() { Some(BTreeSet::new()) } else { self.arguments.take() };
        self.arguments =
            before.zip(values).map(|(before, values)| before.into_iter().chain(values).collect());
        self.cases.insert(case);
    }
}

/// Why a runtime could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeBaseError {
    /// No such program.
    #[error("cannot run `{program}`; install the runtime, or name its program with --program")]
    Missing {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The program is another one.
    #[error("`{program}` is not {kind}: it calls itself `{says}`; give its own name with --runtime", kind = kind.as_str())]
    Other {
        /// The program.
        program: PathBuf,
        /// What it should be.
        kind: RuntimeKind,
        /// What it says.
        says: String,
    },
    /// Its version cannot be read.
    #[error("`{program}` has no version that can be read: `{says}`; expected one like 1.1.5")]
    NoVersion {
        /// The program.
        program: PathBuf,
        /// What it says.
        says: String,
    },
    /// Containers need root.
    #[error("measuring starts containers, which needs root; run it as root")]
    NotRoot,
    /// The runtime failed under a filter that refuses nothing.
    #[error("`{command}` failed: {says}; containers must start here before their runtime can be measured")]
    Failed {
        /// The runtime's command line.
        command: String,
        /// How it ended, and its last word.
        says: String,
    },
    /// The runtime did what was asked but nothing of it was seen.
    #[error("no call of {0} was seen under a filter, so there is nothing to write; does it support seccomp?")]
    NothingSeen(String),
    /// The recorder lost calls.
    #[error("the recorder lost calls, so the table would have holes; measure again on a quieter machine")]
    Lost,
    /// Someone asked to stop.
    #[error("interrupted; nothing was written")]
    Interrupted,
    /// No cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// No recording.
    #[error(transparent)]
    Ebpf(#[from] EbpfError),
    /// A file could not be had.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Measures the runtime. `seccomp` is the `linux.seccomp` of every container, a filter that refuses nothing; `plan` says
/// what to keep of arguments; `rounds` is how often every kind of process is started, since a scheduler varies; `progress` is told what is
/// being done.
///
/// # Errors
/// See [`RuntimeBaseError`].
pub fn measure(
    runtime: &Installed,
    seccomp: serde_json::Value,
    plan: &CapturePlan,
    rounds: u32,
    progress: &mut dyn FnMut(Case),
) -> Result<Measured, RuntimeBaseError> {
    if !Uid::effective().is_root() {
        return Err(RuntimeBaseError::NotRoot);
    }
    // Let go last, when nothing of ours is left.
    let signals = Signals::hold();
    let io = |source| RuntimeBaseError::Io { what: "make a container's files", source };
    let folder = tempfile::Builder::new().prefix("seccomp-learn.").tempdir().map_err(io)?;
    let (_, machine) = host::kernel();
    let bundle = folder.path().join("bundle");
    fs::create_dir(&bundle).map_err(io)?;
    let before = nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    let bundle = Bundle::make(&bundle, &machine, seccomp).map_err(io);
    nix::sys::stat::umask(before);

    let mut fleet = Fleet::start(true)?;
    fleet.keep(plan)?;
    let cgroup = OwnCgroup::create()?;
    let below = below_mount(cgroup.path())?;
    let mut session = Session {
        runtime,
        folder: folder.path(),
        bundle: bundle?,
        cgroup: cgroup.path().to_owned(),
        below,
        serial: 0,
        measured: Measured::default(),
    };
    let result = Case::ALL.into_iter().try_for_each(|case| {
        progress(case);
        session.case(&mut fleet, case, rounds.max(1), &signals)
    });
    let Session { measured, below, .. } = session;
    // Whatever is left in it ends, so that the others are empty.
    drop(cgroup);
    remove_from_other_hierarchies(&below);
    result?;
    if measured.seen.is_empty() {
        return Err(RuntimeBaseError::NothingSeen(runtime.kind.as_str().to_owned()));
    }
    Ok(measured)
}

/// A measurement under way.
struct Session<'a> {
    runtime: &'a Installed,
    /// Ours, with the bundle, the runtime's state and its sockets in it.
    folder: &'a Path,
    bundle: Bundle,
    /// The recorded cgroup, and its path below the root of the hierarchy.
    cgroup: PathBuf,
    below: String,
    serial: u32,
    measured: Measured,
}

impl Session<'_> {
    /// Records one case.
    fn case(
        &mut self,
        fleet: &mut Fleet,
        case: Case,
        rounds: u32,
        signals: &Signals,
    ) -> Result<(), RuntimeBaseError> {
        let host = if case.exec { Some(self.waiting_container()?) } else { None };
        let target = fleet.add(&self.cgroup)?;
        let all = (0..rounds).flat_map(|round| Variant::all(case.no_new_privileges, round));
        let result = all.into_iter().try_for_each(|variant| {
            if signals.came() {
                return Err(RuntimeBaseError::Interrupted);
            }
            match &host {
                Some(container) => self.exec(container, variant),
                None => self.start(variant),
            }
        });
        let seen = fleet.take(&[target])?;
        if let Some(container) = &host {
            self.delete(container)?;
        }
        result?;
        if seen.observations.losses.lost_calls() {
            return Err(RuntimeBaseError::Lost);
        }
        let RuntimeCalls { filter, start, .. } = seen
            .runtime
            .ok_or_else(|| RuntimeBaseError::NothingSeen(self.runtime.kind.as_str().to_owned()))?;
        if filter != FilterMoment::Loaded {
            return Err(RuntimeBaseError::NothingSeen(self.runtime.kind.as_str().to_owned()));
        }
        for row in start {
            self.measured.seen.entry(row.name).or_default().add(case, row.arguments.as_ref());
        }
        Ok(())
    }

    /// A name for the next container, and its cgroup below the recorded one.
    fn next(&mut self) -> (String, String) {
        self.serial += 1;
        let name = format!("seccomp-learn-{}-{}", std::process::id(), self.serial);
        let cgroup = format!("{}/{name}", self.below);
        (name, cgroup)
    }

    fn configure(&self, variant: Variant, program: Program, cgroup: &str) -> Result<(), RuntimeBaseError> {
        self.bundle
            .configure(variant, program, cgroup)
            .map_err(|source| RuntimeBaseError::Io { what: "write a container's configuration", source })
    }

    /// Starts a container in one step, or made and started apart, which waits in between; a terminal needs the
    /// second. Every other container without one is started so, too.
    fn start(&mut self, variant: Variant) -> Result<(), RuntimeBaseError> {
        let (name, cgroup) = self.next();
        self.configure(variant, Program::Exit, &cgroup)?;
        let bundle = self.bundle.folder().to_string_lossy().into_owned();
        let started = if variant.terminal || self.serial.is_multiple_of(2) {
            let terminal = variant.terminal.then(|| self.terminal()).transpose()?;
            let socket = terminal.iter().flat_map(|(_, path)| ["--console-socket", path]);
            let create = ["create", "--bundle", &bundle].into_iter().chain(socket).chain([name.as_str()]);
            self.run(create).and_then(|()| self.run(["start", &name])).and_then(|()| self.wait_for(0))
        } else {
            self.run(["run", "--bundle", &bundle, &name])
        };
        self.measured.starts += 1;
        // `run` has deleted it already.
        let deleted = self.delete(&name);
        started.and(deleted)
    }

    fn exec(&mut self, container: &str, variant: Variant) -> Result<(), RuntimeBaseError> {
        let process = self
            .bundle
            .process(variant)
            .map_err(|source| RuntimeBaseError::Io { what: "write a process' configuration", source })?;
        let process = process.to_string_lossy().into_owned();
        let terminal = variant.terminal.then(|| self.terminal()).transpose()?;
        let socket = terminal.iter().flat_map(|(_, path)| ["--detach", "--console-socket", path]);
        let arguments = ["exec", "--process", &process].into_iter().chain(socket).chain([container]);
        self.run(arguments)?;
        self.measured.execs += 1;
        self.wait_for(1)
    }

    /// A container that stays, for others to run in.
    fn waiting_container(&mut self) -> Result<String, RuntimeBaseError> {
        let (name, cgroup) = self.next();
        let variant = Variant {
            no_new_privileges: false,
            unprivileged: false,
            capable: true,
            terminal: false,
            by_name: false,
        };
        self.configure(variant, Program::Wait, &cgroup)?;
        let bundle = self.bundle.folder().to_string_lossy().into_owned();
        self.run(["run", "--detach", "--bundle", &bundle, &name])?;
        Ok(name)
    }

    fn delete(&self, name: &str) -> Result<(), RuntimeBaseError> {
        self.run(["delete", "--force", name])?;
        self.wait_for(0)
    }

    fn run<'s>(&self, arguments: impl IntoIterator<Item = &'s str>) -> Result<(), RuntimeBaseError> {
        self.runtime.run(self.folder, arguments)
    }

    /// A socket to which the runtime sends the terminal it makes. Nobody takes it, which holds it open.
    fn terminal(&self) -> Result<(UnixListener, String), RuntimeBaseError> {
        let io = |source| RuntimeBaseError::Io { what: "make a socket for a terminal", source };
        let path = self.folder.join("terminal");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        Ok((UnixListener::bind(&path).map_err(io)?, path.to_string_lossy().into_owned()))
    }

    /// Waits until so many processes are left in the containers.
    fn wait_for(&self, left: usize) -> Result<(), RuntimeBaseError> {
        let limit = Instant::now() + Duration::from_secs(30);
        loop {
            let processes = cgroup::processes(&self.cgroup).map_err(|source| RuntimeBaseError::Io {
                what: "look into the containers' cgroup",
                source,
            })?;
            if processes.len() <= left {
                return Ok(());
            }
            if Instant::now() > limit {
                let says = format!("{} processes are left in its container", processes.len());
                return Err(RuntimeBaseError::Failed {
                    command: self.runtime.kind.as_str().to_owned(),
                    says,
                });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The path of a cgroup below the root of its hierarchy.
fn below_mount(path: &Path) -> Result<String, RuntimeBaseError> {
    let mount = cgroup::mount_point()?;
    let below = path.strip_prefix(&mount).unwrap_or(path);
    Ok(format!("/{}", below.display()))
}

/// On a host with cgroups of both versions runtimes make the same path in every hierarchy of version 1, and leave
/// all but its last part.
fn remove_from_other_hierarchies(below: &str) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in table.lines() {
        if let Some((left, right)) = line.split_once(" - ")
            && right.starts_with("cgroup ")
            && let Some(mount) = left.split(' ').nth(4)
        {
            remove_empty(&Path::new(mount).join(below.trim_start_matches('/')));
        }
    }
}

fn remove_empty(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

/// Requests to stop are held back while containers exist, and answered between two of them.
struct Signals {
    held: SigSet,
    before: SigSet,
}

impl Signals {
    const STOP: [Signal; 3] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM];

    fn hold() -> Self {
        let before = SigSet::thread_get_mask().unwrap_or_else(|_| SigSet::empty());
        let held = SigSet::from_iter(Self::STOP);
        let _ = held.thread_block();
        Self { held, before }
    }

    /// Whether one came; it is taken.
    fn came(&self) -> bool {
        // Signals sent to the process, as a bit mask from signal 1 on: proc_pid_status(5).
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let pending = status
            .lines()
            .find_map(|line| u64::from_str_radix(line.strip_prefix("ShdPnd:")?.trim(), 16).ok())
            .unwrap_or_default();
        Self::STOP.iter().any(|signal| pending & (1 << (*signal as u32 - 1)) != 0) && self.held.wait().is_ok()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = self.before.thread_set_mask();
    }
}
