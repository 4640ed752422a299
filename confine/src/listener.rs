//! The listener of a filter: receiving and answering notified calls.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{
    Child,
    keeper::Keeper,
    shared::Mapping,
    sys::{self, Request, Response},
};

/// A call that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// What [`Listener::reply`] is given.
    pub id: u64,
    /// The calling *thread*, in our pid namespace; 0 where it is not visible from there.
    pub thread: u32,
    /// `AUDIT_ARCH_*` of the ABI it was called through.
    pub arch: u32,
    /// The syscall's number as seccomp sees it: with the marker bit for x32.
    pub number: i32,
    /// Where the program called from.
    pub instruction_pointer: u64,
    /// The six argument registers.
    pub arguments: [u64; 6],
}

/// What [`Listener::receive`] has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A call to be answered.
    Call(Notification),
    /// A call whose task died before it could be read.
    Vanished,
    /// The caller's own descriptor became readable.
    Woken,
    /// No task is under the filter any more; there will be nothing else.
    Ended,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The kernel carries the call out.
    Continue,
    /// The call fails with this errno, without being carried out. 0 is a success that returns 0, as for a filter.
    Errno(u16),
    /// The call returns this, without being carried out.
    Return(i64),
}

/// The listener of a filter.
///
/// Dropping it before [`Event::Ended`] was seen ends the workload (the crate's second invariant).
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    /// None where somebody else started the workload and answers for it.
    keeper: Option<Keeper>,
    /// Shared with the keeper, which must know the call that was read last and perhaps never answered.
    request: Mapping,
    response: Vec<u64>,
    ended: bool,
    unanswered: u64,
    no_new_privileges: bool,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Listener {
    /// A listener over this descriptor, with a keeper for the workload's cgroup.
    pub(crate) fn new(fd: OwnedFd, workload: &Child, cgroup_kill: Option<File>) -> io::Result<Self> {
        let mut listener = Self::from_descriptor(fd)?;
        let process = (workload.pid(), workload.pidfd());
        listener.keeper = Some(Keeper::start(listener.fd.as_fd(), process, cgroup_kill, &listener.request)?);
        listener.no_new_privileges = workload.no_new_privileges();
        Ok(listener)
    }

    /// A listener that a container runtime handed over. It has no keeper: when it is dropped, or this process dies,
    /// every notified call fails with ENOSYS, and the container is still there.
    ///
    /// # Errors
    /// When this kernel has no user notification, or there is no memory.
    pub fn from_descriptor(fd: OwnedFd) -> io::Result<Self> {
        // A later kernel may have longer structures; it writes as much as it has.
        let (request, response) = sys::notification_sizes()?;
        let request = Mapping::new(request.max(size_of::<Request>()))?;
        let response = vec![0; response.max(size_of::<Response>()).div_ceil(8)];
        // The workload's task and ours take turns on one CPU, without the scheduler in between. Since 6.6; before,
        // EINVAL, and it is only slower.
        // SAFETY: SET_FLAGS takes the flags by value.
        unsafe { libc::ioctl(fd.as_raw_fd(), sys::IOCTL_SET_FLAGS, sys::SYNC_WAKE_UP) };
        Ok(Self {
            fd,
            keeper: None,
            request,
            response,
            ended: false,
            unanswered: 0,
            no_new_privileges: false,
        })
    }

    /// Waits for the next call, or until `wake` is readable, which has precedence.
    ///
    /// # Errors
    /// When the kernel refuses to hand over a call; none is expected.
    pub fn receive(&mut self, wake: Option<BorrowedFd<'_>>) -> io::Result<Event> {
        self.receive_within(wake, PollTimeout::NONE).map(|event| event.unwrap_or(Event::Vanished))
    }

    /// The next call that is already there.
    ///
    /// # Errors
    /// As [`Listener::receive`].
    pub fn try_receive(&mut self) -> io::Result<Option<Event>> {
        self.receive_within(None, PollTimeout::ZERO)
    }

    fn receive_within(
        &mut self,
        wake: Option<BorrowedFd<'_>>,
        timeout: PollTimeout,
    ) -> io::Result<Option<Event>> {
        // RECV itself would block for ever once the last task is gone.
        let (calls, woken) = loop {
            let listener = PollFd::new(self.fd.as_fd(), PollFlags::POLLIN);
            let answer = match wake {
                None => {
                    let mut fds = [listener];
                    poll(&mut fds, timeout).map(|_| (fds[0].revents(), None))
                }
                Some(wake) => {
                    let mut fds = [listener, PollFd::new(wake, PollFlags::POLLIN)];
                    poll(&mut fds, timeout).map(|_| (fds[0].revents(), fds[1].revents()))
                }
            };
            match answer {
                Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(found) => break found,
            }
        };
        let (calls, woken) = (calls.unwrap_or(PollFlags::empty()), woken.unwrap_or(PollFlags::empty()));
        if !woken.is_empty() {
            return Ok(Some(Event::Woken));
        }
        if calls.contains(PollFlags::POLLIN) {
            return self.read().map(Some);
        }
        if calls.is_empty() {
            return Ok(None);
        }
        self.ended = true;
        Ok(Some(Event::Ended))
    }

    fn read(&mut self) -> io::Result<Event> {
        // The kernel refuses a buffer that is not zeroed.
        // SAFETY: RECV writes one `struct seccomp_notif`, for whose size the buffer was made.
        let answer = unsafe {
            self.request.start::<u8>().write_bytes(0, self.request.length());
            libc::ioctl(self.fd.as_raw_fd(), sys::IOCTL_RECV, self.request.start::<Request>())
        };
        if answer != 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ENOENT | libc::EINTR) => Ok(Event::Vanished),
                _ => Err(error),
            };
        }
        // SAFETY: the buffer is at least as long as `Request`, page-aligned, and `Request` is plain data.
        let request = unsafe { self.request.start::<Request>().read() };
        Ok(Event::Call(Notification {
            id: request.id,
            thread: request.pid,
            arch: request.arch,
            number: request.number,
            instruction_pointer: request.instruction_pointer,
            arguments: request.arguments,
        }))
    }

    /// Whether the call still waits; only then is what /proc says about its thread about that thread.
    #[must_use]
    pub fn id_valid(&self, id: u64) -> bool {
        // SAFETY: ID_VALID reads one u64.
        unsafe { libc::ioctl(self.fd.as_raw_fd(), sys::IOCTL_ID_VALID, &raw const id) == 0 }
    }

    /// Answers a call. False when its task was gone, or was interrupted by a signal and will call again.
    ///
    /// # Errors
    /// When the kernel does not take the answer; none is expected.
    pub fn reply(&mut self, id: u64, reply: Reply) -> io::Result<bool> {
        let mut response = Response { id, value: 0, error: 0, flags: 0 };
        match reply {
            Reply::Continue => response.flags = sys::REPLY_CONTINUE,
            Reply::Errno(errno) => response.error = -i32::from(errno),
            Reply::Return(value) => response.value = value,
        }
        self.response.fill(0);
        // SAFETY: the buffer is at least as long as `Response`, aligned to 8; SEND reads one such structure.
        let answer = unsafe {
            self.response.as_mut_ptr().cast::<Response>().write(response);
            libc::ioctl(self.fd.as_raw_fd(), sys::IOCTL_SEND, self.response.as_mut_ptr())
        };
        if answer == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ENOENT) => {
                self.unanswered += 1;
                Ok(false)
            }
            _ => Err(error),
        }
    }

    /// Whether `no_new_privs` had to be set for the filter, so that set-user-id programs gain nothing under it.
    #[must_use]
    pub fn no_new_privileges(&self) -> bool {
        self.no_new_privileges
    }

    /// How many calls were read whose answer came too late: the task had died, or was interrupted.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.unanswered
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.ended
            && let Some(keeper) = &mut self.keeper
        {
            keeper.dismiss();
        }
    }
}
