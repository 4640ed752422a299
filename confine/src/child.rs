//! The started process: whether its program runs, signals, and how it ended.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    path::PathBuf,
};

use nix::{
    errno::Errno,
    sys::{
        signal::Signal,
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
};

use crate::{
    Exit, SpawnError,
    shared::{Shared, Stage},
};

/// `PF_FORKNOEXEC` of `include/linux/sched.h`: forked, but never executed anything. A zombie keeps it.
const FORK_NO_EXEC: u64 = 0x40;

/// A command that was started. Dropping it neither ends nor reaps the process.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    pidfd: OwnedFd,
    status: Option<File>,
    shared: Shared,
    path: PathBuf,
    no_new_privileges: bool,
    exit: Option<Exit>,
}

impl Child {
    pub(crate) fn new(
        pid: u32,
        status: OwnedFd,
        shared: Shared,
        path: PathBuf,
        no_new_privileges: bool,
    ) -> io::Result<Self> {
        // SAFETY: takes no pointer; the process is our unreaped child, so the number is its own.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if pidfd < 0 {
            return Err(io::Error::last_os_error());
        }
        let number = i32::try_from(pidfd).map_err(io::Error::other)?;
        // SAFETY: the kernel has just made this descriptor for us.
        let pidfd = unsafe { OwnedFd::from_raw_fd(number) };
        Ok(Self { pid, pidfd, status: Some(status.into()), shared, path, no_new_privileges, exit: None })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A descriptor of the process; it becomes readable when the process ends.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Whether `no_new_privs` had to be set for the filter, so that the workload cannot gain privileges by
    /// executing a set-user-id program.
    #[must_use]
    pub fn no_new_privileges(&self) -> bool {
        self.no_new_privileges
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Blocks until the child is at the gate.
    pub(crate) fn wait_gate(&mut self) -> Result<(), SpawnError> {
        let mut byte = [0u8];
        let got = match &mut self.status {
            Some(status) => read(status, &mut byte).map_err(|e| SpawnError::setup("waiting for it", e))?,
            None => 0,
        };
        if got == 0 {
            return Err(self.not_started());
        }
        // The byte was written just before the child turned to the gate. It sleeps there and nowhere else.
        for _ in 0..10_000 {
            match self.stat() {
                Some((state, _)) if state != 'S' => std::thread::yield_now(),
                _ => break,
            }
        }
        Ok(())
    }

    /// Blocks until the program runs, or says why it does not. Under a listener, somebody else must answer it
    /// meanwhile: `execve` waits for the answer.
    ///
    /// # Errors
    /// [`SpawnError`] with the reason of `execve` or of the steps before it; the child is reaped then.
    pub fn wait_exec(&mut self) -> Result<(), SpawnError> {
        let Some(mut status) = self.status.take() else { return Ok(()) };
        let mut byte = [0u8];
        // Closed by execve, or by the end of the process.
        while read(&mut status, &mut byte).map_err(|e| SpawnError::setup("waiting for execve", e))? > 0 {}
        match (self.shared.failure(), self.stat()) {
            (None, Some((_, flags))) if flags & FORK_NO_EXEC == 0 => Ok(()),
            // Without /proc there is only what the child said itself.
            (None, None) => Ok(()),
            _ => Err(self.not_started()),
        }
    }

    /// Why it was not started; reaps it.
    pub(crate) fn not_started(&mut self) -> SpawnError {
        let exit = match self.wait() {
            Ok(exit) => exit,
            Err(source) => return SpawnError::setup("waiting for it", source),
        };
        let path = self.path.clone();
        match self.shared.failure() {
            None => SpawnError::EndedBeforeExec { path, exit },
            Some((Stage::Filter, source)) => SpawnError::Filter(source),
            Some((Stage::Exec, source)) => match source.raw_os_error() {
                Some(libc::ENOENT) if !path.exists() => {
                    SpawnError::NotFound(path.to_string_lossy().into_owned())
                }
                Some(libc::ENOEXEC) => SpawnError::NotAProgram(path),
                Some(libc::EACCES) if crate::resolve(path.as_os_str()).is_err() => {
                    SpawnError::NotExecutable(path)
                }
                _ => SpawnError::Exec { path, source },
            },
            Some((stage, source)) => SpawnError::setup(stage.words(), source),
        }
    }

    /// State and flags out of /proc/PID/stat, which zombies keep.
    fn stat(&self) -> Option<(char, u64)> {
        let text = std::fs::read(format!("/proc/{}/stat", self.pid)).ok()?;
        let text = String::from_utf8_lossy(&text);
        // The name, which may hold anything, ends at the last parenthesis; then state is field 3, flags field 9.
        let (_, fields) = text.rsplit_once(')')?;
        let mut fields = fields.split_whitespace();
        let state = fields.next()?.chars().next()?;
        Some((state, fields.nth(5)?.parse().ok()?))
    }

    /// How it ended, or none while it runs.
    ///
    /// # Errors
    /// When somebody else reaped it.
    pub fn try_wait(&mut self) -> io::Result<Option<Exit>> {
        self.wait_with(WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG)
    }

    /// Blocks until it ends.
    ///
    /// # Errors
    /// When somebody else reaped it.
    pub fn wait(&mut self) -> io::Result<Exit> {
        loop {
            if let Some(exit) = self.wait_with(WaitPidFlag::WEXITED)? {
                return Ok(exit);
            }
        }
    }

    fn wait_with(&mut self, flags: WaitPidFlag) -> io::Result<Option<Exit>> {
        if self.exit.is_none() {
            let status = loop {
                match waitid(Id::PIDFd(self.pidfd.as_fd()), flags) {
                    Err(Errno::EINTR) => {}
                    other => break other?,
                }
            };
            self.exit = match status {
                WaitStatus::Exited(_, code) => Some(Exit::Code(code)),
                WaitStatus::Signaled(_, signal, _) => Some(Exit::Signal(signal as i32)),
                _ => None,
            };
        }
        Ok(self.exit)
    }

    /// Sends a signal, never to another process: through the pidfd.
    ///
    /// # Errors
    /// `ESRCH` when it has ended, `EPERM` when it runs as somebody else.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        // SAFETY: no pointer but the optional siginfo, which is null.
        let answer = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.pidfd.as_raw_fd(), signal as i32, 0, 0)
        };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Sends a signal to one thread of a process. Nothing keeps the number from being another's by now, unless the
/// thread waits in a call that is still to be answered.
///
/// # Errors
/// `ESRCH` when there is no such thread, `EPERM` when it runs as somebody else.
pub fn signal_thread(process: u32, thread: u32, signal: Signal) -> io::Result<()> {
    // SAFETY: takes no pointer.
    let answer = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal as i32) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn read(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
