//! The keeper: a process that ends the workload when the one that listens is gone.
//!
//! Without it, the kernel answers every notified call of the workload with ENOSYS once the last listener closes:
//! a program whose `exit_group` fails does not even end (musl's libc loops for ever). The keeper holds a copy of
//! the listener and a socket to the listening process. A byte on the socket: the workload ended in order. Its end
//! without a byte: the keeper kills what is in the workload's cgroup, where it was given one, then the first process
//! with its descendants, and then whoever is left (daemons, without a cgroup) at its next notified call, until
//! nobody is under the filter any more. A call that was read and not answered when the listening process died would
//! wait for ever, so calls are read into memory that the keeper shares.
//!
//! The keeper is nobody's child but init's, in a session of its own, has all signals blocked and no other descriptor
//! open.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
    ptr::null_mut,
    sync::{Mutex, PoisonError},
};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};

use crate::{shared::Mapping, sys};

/// The keepers this process started. Where it adopts orphans, or is a container's first process, they are its
/// children, and must not be taken for the workload's.
static STARTED: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Whether a process is a keeper of this process's: none of the workload, and it ends by itself.
#[must_use]
pub fn is_keeper(pid: u32) -> bool {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner).contains(&pid)
}

/// The listening process's end; dropping it without [`Keeper::dismiss`] makes the keeper end the workload.
#[derive(Debug)]
pub(crate) struct Keeper(OwnedFd);

impl Keeper {
    /// Starts one for this listener, the workload's first process (id and pidfd), the `cgroup.kill` of its cgroup,
    /// and the memory that calls are read into.
    pub(crate) fn start(
        listener: BorrowedFd<'_>,
        workload: (u32, BorrowedFd<'_>),
        cgroup_kill: Option<File>,
        request: &Mapping,
    ) -> io::Result<Self> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let cgroup = cgroup_kill.as_ref().map_or(-1, |fd| fd.as_raw_fd());
        let kept = [theirs.as_raw_fd(), listener.as_raw_fd(), workload.1.as_raw_fd(), cgroup];
        // SAFETY: both children make raw calls and end here (see `kill_below` for the exception); the inner one is what stays, the outer
        // one ends at once so that init inherits it.
        let outer = unsafe {
            sys::fork(|| match libc::fork() {
                0 => keep(kept, workload.0, request),
                -1 => libc::_exit(1),
                pid => {
                    request.start::<libc::pid_t>().write_volatile(pid);
                    libc::_exit(0)
                }
            })
        }?;
        match sys::wait(outer) {
            Some(status) if !libc::WIFEXITED(status) || libc::WEXITSTATUS(status) != 0 => {
                Err(io::Error::from_raw_os_error(libc::EAGAIN))
            }
            _ => {
                // SAFETY: the outer child has ended, and the keeper writes there only after this process's end.
                let pid = unsafe { request.start::<libc::pid_t>().read_volatile() };
                STARTED.lock().unwrap_or_else(PoisonError::into_inner).push(pid.cast_unsigned());
                Ok(Self(ours))
            }
        }
    }

    /// The workload has ended: nothing to watch any more.
    pub(crate) fn dismiss(&self) {
        // A keeper that is gone already needs no dismissal.
        let _ = send(self.0.as_raw_fd(), b"d", MsgFlags::MSG_NOSIGNAL);
    }
}

/// The keeper's life.
///
/// # Safety
/// Only in a process just forked.
unsafe fn keep(kept: [RawFd; 4], first: u32, request: &Mapping) -> ! {
    let [socket, listener, workload, cgroup] = kept;
    // SAFETY: all pointers are to locals of the sizes the calls expect; nothing allocates or locks.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, null_mut());
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, c"seccomp-keeper".as_ptr());
        close_others(kept);

        let mut byte = 0u8;
        loop {
            match libc::recv(socket, (&raw mut byte).cast(), 1, 0) {
                1 => libc::_exit(0),
                -1 if *libc::__errno_location() == libc::EINTR => {}
                _ => break,
            }
        }
        if cgroup >= 0 {
            libc::write(cgroup, c"1".as_ptr().cast(), 1);
        }
        // Stopped, it makes no more children and reaps none; if that fails it has ended, and its id means nothing.
        if libc::syscall(libc::SYS_pidfd_send_signal, workload, libc::SIGSTOP, 0, 0) == 0 {
            kill_below(first);
            libc::syscall(libc::SYS_pidfd_send_signal, workload, libc::SIGKILL, 0, 0);
        }
        end_caller(listener, request);
        let mut poll = libc::pollfd { fd: listener, events: libc::POLLIN, revents: 0 };
        loop {
            if libc::poll(&raw mut poll, 1, -1) < 0 {
                continue;
            }
            if poll.revents & libc::POLLIN == 0 {
                // POLLHUP: no task is under the filter any more.
                libc::_exit(0);
            }
            request.start::<u8>().write_bytes(0, request.length());
            if libc::ioctl(listener, sys::IOCTL_RECV, request.start::<sys::Request>()) == 0 {
                end_caller(listener, request);
            }
        }
    }
}

/// Kills the process of the call in the buffer, if it still waits for an answer.
///
/// # Safety
/// As [`keep`]; the listening process is gone, so that nobody else uses the buffer.
unsafe fn end_caller(listener: RawFd, request: &Mapping) {
    // SAFETY: the buffer is at least as long as a `Request`, which is plain data; the rest are numbers and locals.
    unsafe {
        let request = request.start::<sys::Request>().read();
        if libc::ioctl(listener, sys::IOCTL_ID_VALID, &raw const request.id) != 0 {
            return;
        }
        if request.pid > 0 {
            libc::kill(request.pid.cast_signed(), libc::SIGKILL);
        } else {
            // A task of a pid namespace that we cannot see into: all that is left is the kernel's own answer.
            let mut response = sys::Response { id: request.id, value: 0, error: -libc::ENOSYS, flags: 0 };
            libc::ioctl(listener, sys::IOCTL_SEND, &raw mut response);
        }
    }
}

/// Kills the descendants of a stopped process, until none is found.
///
/// # Safety
/// As [`keep`]. It allocates: this process has a single thread, and fork leaves the allocator usable.
unsafe fn kill_below(first: u32) {
    // A process that forks faster than it is killed ends at its next notified call all the same.
    for _ in 0..16 {
        let parents: Vec<(u32, u32)> = all_processes();
        let mut found = vec![first];
        let mut next = 0;
        while let Some(&parent) = found.get(next) {
            found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        if found.len() == 1 {
            return;
        }
        for pid in found.into_iter().skip(1) {
            // SAFETY: takes no pointer. The id was read just now from the table of processes.
            unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
        }
    }
}

/// Every process that runs (no zombie), with its parent.
fn all_processes() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
            let stat = String::from_utf8_lossy(&stat);
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
            let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
            (state != "Z").then_some((pid, parent))
        })
        .collect()
}

/// Closes all descriptors but these, so that no pipe of the parent stays open because of the keeper.
///
/// # Safety
/// As [`keep`].
unsafe fn close_others(mut kept: [RawFd; 4]) {
    kept.sort_unstable();
    let mut first: RawFd = 0;
    for fd in kept.into_iter().filter(|fd| *fd >= 0) {
        // SAFETY: closes descriptors that nothing in this process uses.
        unsafe { close_from_to(first, fd.saturating_sub(1)) };
        first = fd.saturating_add(1);
    }
    // SAFETY: as above.
    unsafe { close_from_to(first, RawFd::MAX) };
}

/// # Safety
/// As [`keep`].
unsafe fn close_from_to(first: RawFd, last: RawFd) {
    if first > last {
        return;
    }
    // SAFETY: no pointers but to the local limit.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) == 0 {
            return;
        }
        // A container's profile may refuse close_range: one by one, up to the limit on numbers.
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        let most = RawFd::try_from(limit.rlim_cur).unwrap_or(RawFd::MAX).min(1 << 20);
        for fd in first..=last.min(most) {
            libc::close(fd);
        }
    }
}
