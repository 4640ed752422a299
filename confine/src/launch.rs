//! The parent's side of starting a command: fork, gate, hand-over.

use std::{
    env,
    ffi::{CString, OsStr, OsString},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::PathBuf,
    ptr::null,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use libc::c_char;
use nix::{
    fcntl::OFlag,
    sys::{
        signal::Signal,
        socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair},
        wait::waitpid,
    },
    unistd::{Pid, pipe2},
};

use crate::{
    Child, Instruction, Listener, LoadFlags, SpawnError,
    entry::{self, Plan},
    handover,
    shared::Shared,
    sys,
};

/// The filter a command runs under.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// None.
    #[default]
    None,
    /// This program, loaded as a runtime loads it.
    Enforce(Vec<Instruction>),
    /// This program, with a listener for the calls it hands to user notification.
    Listen(Vec<Instruction>),
}

/// A command to start. Its environment and working directory are the caller's.
#[derive(Debug, Default)]
pub struct Launch {
    /// The program, absolute; [`crate::resolve`] finds it.
    pub program: PathBuf,
    /// Its arguments, its own name (`argv[0]`) included.
    pub arguments: Vec<OsString>,
    /// `cgroup.procs` of a cgroup, opened for writing; the child is in it before the gate.
    pub cgroup: Option<OwnedFd>,
    /// The filter to load after the gate.
    pub filter: Filter,
    /// The flags to load it with.
    pub flags: LoadFlags,
    /// Standard input; inherited when none.
    pub stdin: Option<OwnedFd>,
    /// Standard output; inherited when none.
    pub stdout: Option<OwnedFd>,
    /// Standard error; inherited when none.
    pub stderr: Option<OwnedFd>,
}

impl Launch {
    /// A command by name or path with its arguments, `argv[0]` being the name.
    ///
    /// # Errors
    /// Those of [`crate::resolve`].
    pub fn new(command: &[OsString]) -> Result<Self, SpawnError> {
        let name = command.first().map_or(OsStr::new(""), OsString::as_os_str);
        Ok(Self { program: crate::resolve(name)?, arguments: command.to_vec(), ..Self::default() })
    }
}

/// A command that waits at the gate. Dropping it ends the process; so does the end of this one.
#[derive(Debug)]
pub struct Gated {
    child: Option<Child>,
    gate: OwnedFd,
    handover: Option<OwnedFd>,
    cgroup_kill: Option<File>,
}

/// Between the making of pipes and the closing of the child's ends no other thread may fork here, or its child
/// would hold them open.
static FORKING: Mutex<()> = Mutex::new(());

/// Starts the command up to the gate; it sleeps there when this returns.
///
/// # Errors
/// When a step fails, which is named. `execve` comes later: see [`Child::wait_exec`].
pub fn spawn(launch: Launch) -> Result<Gated, SpawnError> {
    let path = c_string(launch.program.as_os_str())?;
    let arguments =
        launch.arguments.iter().map(|argument| c_string(argument)).collect::<Result<Vec<_>, _>>()?;
    let environment = env::vars_os()
        .map(|(name, value)| {
            let joined = [name.as_bytes(), b"=", value.as_bytes()].concat();
            c_string(&OsString::from_vec(joined))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let (argument_list, environment_list) = (pointers(&arguments), pointers(&environment));
    let stdio = [launch.stdin, launch.stdout, launch.stderr].map(|fd| fd.map(above_stdio).transpose());
    let [stdin, stdout, stderr] = stdio;
    let stdio = [stdin, stdout, stderr].into_iter().collect::<io::Result<Vec<_>>>();
    let stdio = stdio.map_err(|e| SpawnError::setup("duplicating a descriptor", e))?;

    let (instructions, listen) = match &launch.filter {
        Filter::None => (None, false),
        Filter::Enforce(instructions) => (Some(instructions), false),
        Filter::Listen(instructions) => (Some(instructions), true),
    };
    let program = match instructions {
        None => None,
        Some(list) => Some(sys::Program {
            length: u16::try_from(list.len())
                .map_err(|_| SpawnError::Filter(io::Error::from_raw_os_error(libc::EINVAL)))?,
            instructions: list.as_ptr(),
        }),
    };
    let mut flags = launch.flags.bits();
    if listen {
        flags |= sys::FLAG_NEW_LISTENER | sys::FLAG_WAIT_KILLABLE_RECV;
    }
    let no_new_privileges = program.is_some() && sys::needs_no_new_privs() && !sys::no_new_privs();

    let shared = Shared::new().map_err(|e| SpawnError::setup("mapping a shared page", e))?;
    let pair = |kind| socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC);
    let named = |step| move |errno: nix::Error| SpawnError::setup(step, errno.into());

    let lock = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
    let (gate, gate_end) = pair(SockType::Stream).map_err(named("making a socket pair"))?;
    let (status, status_end) = pipe2(OFlag::O_CLOEXEC).map_err(named("making a pipe"))?;
    let handover =
        listen.then(|| pair(SockType::SeqPacket)).transpose().map_err(named("making a socket pair"))?;
    let (handover, handover_end) = handover.unzip();

    let raw = |fd: Option<&OwnedFd>| fd.map_or(-1, |fd| fd.as_raw_fd());
    let mut targets = [-1; 3];
    for (target, fd) in targets.iter_mut().zip(&stdio) {
        *target = raw(fd.as_ref());
    }
    let plan = Plan {
        path: path.as_ptr(),
        arguments: argument_list.as_ptr(),
        environment: environment_list.as_ptr(),
        stdio: targets,
        cgroup: raw(launch.cgroup.as_ref()),
        gate: gate_end.as_raw_fd(),
        status: status_end.as_raw_fd(),
        parents: [gate.as_raw_fd(), status.as_raw_fd(), raw(handover.as_ref())],
        handover: raw(handover_end.as_ref()),
        filter: program.as_ref(),
        flags,
        no_new_privileges,
        page: shared.page(),
    };
    // SAFETY: what `plan` points at lives until the end of this function; `enter` never returns.
    let pid = unsafe { sys::fork(|| entry::enter(&plan)) };
    let pid = pid.map_err(|e| SpawnError::setup("fork", e))?;
    drop((gate_end, status_end, handover_end));
    drop(lock);

    let child = Child::new(pid, status, shared, launch.program, no_new_privileges)
        .map_err(|e| SpawnError::setup("opening a pidfd", e))?;
    let cgroup_kill = launch.cgroup.filter(|_| listen).and_then(|procs| cgroup_kill(&procs));
    let mut gated = Gated { child: Some(child), gate, handover, cgroup_kill };
    if let Some(child) = &mut gated.child {
        child.wait_gate()?;
    }
    Ok(gated)
}

/// The `cgroup.kill` beside a `cgroup.procs`, since 5.14.
fn cgroup_kill(procs: &OwnedFd) -> Option<File> {
    let procs = fs::read_link(format!("/proc/self/fd/{}", procs.as_raw_fd())).ok()?;
    File::options().write(true).open(procs.with_file_name("cgroup.kill")).ok()
}

fn c_string(text: &OsStr) -> Result<CString, SpawnError> {
    CString::new(text.as_bytes()).map_err(|_| SpawnError::NulByte(text.to_string_lossy().into_owned()))
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([null()]).collect()
}

/// A descriptor above 2, so that connecting one of 0 to 2 never closes another's source.
fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    let number: RawFd = nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(3))?;
    // SAFETY: fcntl has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

impl Gated {
    /// The process id of the waiting child.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::pid)
    }

    /// Lets it go. With [`Filter::Listen`] the listener comes back, and must be served for the program to start.
    ///
    /// # Errors
    /// When the child died at the gate, or the listener could not be had; the child has ended then.
    pub fn release(mut self) -> Result<(Child, Option<Listener>), SpawnError> {
        let opened = send(self.gate.as_raw_fd(), b"g", MsgFlags::MSG_NOSIGNAL);
        let Some(child) = &mut self.child else {
            return Err(SpawnError::setup("releasing it", io::Error::from_raw_os_error(libc::ESRCH)));
        };
        if opened.is_err() {
            return Err(child.not_started());
        }
        let listener = match &self.handover {
            None => None,
            Some(socket) => {
                let number = listener_number(child)?;
                let fd = handover::fetch(socket.as_fd(), number)
                    .map_err(|e| SpawnError::setup("taking over the listener", e))?;
                self.handover = None;
                reap_helper(child);
                let listener = Listener::new(fd, child, self.cgroup_kill.take())
                    .map_err(|e| SpawnError::setup("setting up the listener", e))?;
                Some(listener)
            }
        };
        match self.child.take() {
            Some(child) => Ok((child, listener)),
            None => Err(SpawnError::setup("releasing it", io::Error::from_raw_os_error(libc::ESRCH))),
        }
    }
}

/// Waits until the child has loaded its filter. The child says so in memory, since any call would be notified.
fn listener_number(child: &mut Child) -> Result<RawFd, SpawnError> {
    loop {
        if let Some(number) = child.shared().listener() {
            return Ok(number);
        }
        if child.shared().failure().is_some() {
            return Err(child.not_started());
        }
        match child.try_wait() {
            Ok(None) => std::thread::sleep(Duration::from_micros(20)),
            Ok(Some(_)) => return Err(child.not_started()),
            Err(source) => return Err(SpawnError::setup("waiting for it", source)),
        }
    }
}

fn reap_helper(child: &Child) {
    if let Some(pid) = child.shared().helper() {
        // It may have been reaped by a caller that waits for any child; then there is nothing to do.
        while waitpid(Pid::from_raw(pid), None) == Err(nix::Error::EINTR) {}
    }
}

impl Drop for Gated {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if self.handover.take().is_some() {
            // Its socket has just closed, which ends it.
            reap_helper(&child);
        }
        if child.try_wait().is_ok_and(|exit| exit.is_none()) {
            // ESRCH: it ended by itself meanwhile; wait says so.
            let _ = child.signal(Signal::SIGKILL);
            let _ = child.wait();
        }
    }
}
