//! Handing the listener from the child to the parent.
//!
//! The child cannot send it: sendmsg would be notified under its own filter, with nobody to answer. Fetching it
//! with pidfd_getfd needs ptrace rights, which the default profiles of container engines refuse. So the child
//! makes, before the filter, a helper that shares its descriptor table (CLONE_FILES). The helper is the *parent's*
//! child (CLONE_PARENT), so the workload never has a child it did not make, and it is outside the filter. It waits
//! for the listener's number, sends that descriptor and ends. `execve` gives the child a table of its own again.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// The state holds a container's annotations, which may be long.
const LONGEST_STATE: usize = 1 << 20;

/// A control message that carries one descriptor, padded as CMSG_SPACE has it.
#[repr(C, align(8))]
struct OneDescriptor {
    header: libc::cmsghdr,
    descriptor: libc::c_int,
}

/// Makes the helper; returns its process id, or −1 with `errno`. Async-signal-safe.
///
/// # Safety
/// Only in a process just forked, which has a single thread.
pub(crate) unsafe fn start_helper(socket: RawFd) -> libc::pid_t {
    let flags = libc::CLONE_FILES | libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: no stack and no CLONE_VM: the helper runs on its own copy of this memory, like after fork. With
    // all pointers zero the order of arguments, which differs between machines, does not matter.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if pid == 0 {
        // SAFETY: in the helper, a process just made.
        unsafe { help(socket) }
    }
    libc::pid_t::try_from(pid).unwrap_or(-1)
}

/// Receives a number, sends the descriptor of that number, ends. The parent's closing ends it as well.
///
/// # Safety
/// As [`start_helper`].
unsafe fn help(socket: RawFd) -> ! {
    // SAFETY: the calls read and write locals only, whose sizes are given; all are plain data.
    unsafe {
        let mut number: libc::c_int = -1;
        let wanted = size_of::<libc::c_int>();
        let got = loop {
            let got = libc::recv(socket, (&raw mut number).cast(), wanted, 0);
            if got >= 0 || *libc::__errno_location() != libc::EINTR {
                break got;
            }
        };
        if got == wanted as isize {
            let mut byte = 0u8;
            let mut data = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
            let mut control: OneDescriptor = mem::zeroed();
            control.header.cmsg_level = libc::SOL_SOCKET;
            control.header.cmsg_type = libc::SCM_RIGHTS;
            control.header.cmsg_len = libc::CMSG_LEN(wanted as u32) as _;
            control.descriptor = number;
            let mut message: libc::msghdr = mem::zeroed();
            message.msg_iov = &raw mut data;
            message.msg_iovlen = 1;
            message.msg_control = (&raw mut control).cast();
            message.msg_controllen = size_of::<OneDescriptor>() as _;
            libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL);
        }
        libc::_exit(0)
    }
}

const _: () = assert!(mem::offset_of!(OneDescriptor, descriptor) == size_of::<libc::cmsghdr>());

/// Asks the helper for the descriptor of this number.
pub(crate) fn fetch(socket: BorrowedFd<'_>, number: RawFd) -> io::Result<OwnedFd> {
    let request = number.to_ne_bytes();
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&request)], &[], MsgFlags::MSG_NOSIGNAL, None)?;
    let mut byte = [0u8];
    receive(socket, &mut byte)?.0.ok_or_else(|| {
        io::Error::new(io::ErrorKind::UnexpectedEof, "the helper ended before it handed the listener over")
    })
}

/// Receives what a container runtime sends to the socket of a profile's `listenerPath`: the listener, and the
/// container process state as JSON.
/// <https://github.com/opencontainers/runtime-spec/blob/v1.2.0/config-linux.md#containerprocessstate>
///
/// # Errors
/// When nothing comes, or no descriptor with it.
pub fn receive_listener(socket: &UnixStream) -> io::Result<(OwnedFd, Vec<u8>)> {
    let mut state = vec![0; LONGEST_STATE];
    let (descriptor, length) = receive(socket.as_fd(), &mut state)?;
    state.truncate(length);
    let none = || io::Error::new(io::ErrorKind::InvalidData, "no descriptor came with the container's state");
    Ok((descriptor.ok_or_else(none)?, state))
}

/// One message with at most one descriptor.
fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(Option<OwnedFd>, usize)> {
    let mut data = [IoSliceMut::new(buffer)];
    let mut space = nix::cmsg_space!(RawFd);
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut data, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(nix::Error::EINTR) => {}
            other => break other?,
        }
    };
    let mut descriptor = None;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            for number in numbers {
                // SAFETY: the kernel has just installed this descriptor for us; nobody else knows it.
                descriptor = Some(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
    Ok((descriptor, message.bytes))
}
