//! seccomp(2) itself: loading a program, what the kernel offers, and the structures of user notification
//! (`include/uapi/linux/seccomp.h`).

use std::io;

use libc::{c_long, c_ulong, c_ushort};

/// One classic-BPF instruction, with the layout of `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Opcode.
    pub code: u16,
    /// Jump offset when true.
    pub jt: u8,
    /// Jump offset when false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

const _: () = assert!(size_of::<Instruction>() == 8);

/// `struct sock_fprog`.
#[repr(C)]
pub(crate) struct Program {
    pub(crate) length: c_ushort,
    pub(crate) instructions: *const Instruction,
}

/// The flags a program is loaded with: `SECCOMP_FILTER_FLAG_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadFlags {
    /// Leave the speculative-store-bypass mitigation off, which runc and crun do for a profile without `flags`.
    pub spec_allow: bool,
    /// Log every action but ALLOW (`SECCOMP_FILTER_FLAG_LOG`).
    pub log: bool,
}

impl Default for LoadFlags {
    /// As runc and crun load a profile that has no `flags`.
    fn default() -> Self {
        Self { spec_allow: true, log: false }
    }
}

const SET_MODE_FILTER: c_ulong = 1;
const GET_NOTIF_SIZES: c_ulong = 3;
pub(crate) const FLAG_LOG: c_ulong = 1 << 1;
pub(crate) const FLAG_SPEC_ALLOW: c_ulong = 1 << 2;
pub(crate) const FLAG_NEW_LISTENER: c_ulong = 1 << 3;
pub(crate) const FLAG_WAIT_KILLABLE_RECV: c_ulong = 1 << 5;

impl LoadFlags {
    pub(crate) const fn bits(self) -> c_ulong {
        (if self.spec_allow { FLAG_SPEC_ALLOW } else { 0 }) | (if self.log { FLAG_LOG } else { 0 })
    }
}

/// Loads a program on the calling thread. Async-signal-safe.
///
/// # Safety
/// `program` points at a [`Program`] whose instructions are alive.
pub(crate) unsafe fn load(program: *const Program, flags: c_ulong) -> c_long {
    // SAFETY: the kernel copies the program before it returns; the caller vouches for the pointers.
    unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, program) }
}

/// The sizes of the notification structures of the running kernel: request, reply, data.
pub(crate) fn notification_sizes() -> io::Result<(usize, usize)> {
    let mut sizes = [0u16; 3];
    // SAFETY: the kernel writes three u16 (`struct seccomp_notif_sizes`) into the array.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, GET_NOTIF_SIZES, 0, sizes.as_mut_ptr()) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    let [request, reply, _] = sizes.map(usize::from);
    Ok((request, reply))
}

/// `struct seccomp_notif` with its `struct seccomp_data`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) pid: u32,
    pub(crate) flags: u32,
    pub(crate) number: i32,
    pub(crate) arch: u32,
    pub(crate) instruction_pointer: u64,
    pub(crate) arguments: [u64; 6],
}

const _: () = assert!(size_of::<Request>() == 80);

/// `struct seccomp_notif_resp`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Response {
    pub(crate) id: u64,
    pub(crate) value: i64,
    pub(crate) error: i32,
    pub(crate) flags: u32,
}

const _: () = assert!(size_of::<Response>() == 24);

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`.
pub(crate) const REPLY_CONTINUE: u32 = 1;
/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`, since 6.6.
pub(crate) const SYNC_WAKE_UP: c_ulong = 1;

const fn ioctl_number(direction: u32, number: u32, size: usize) -> libc::Ioctl {
    // The requests of seccomp have type '!'; both machines we build for use the generic encoding.
    #[expect(clippy::cast_possible_truncation, reason = "sizes are below 2^14")]
    let size = size as u32;
    ((direction << 30) | (size << 16) | (0x21 << 8) | number) as libc::Ioctl
}

pub(crate) const IOCTL_RECV: libc::Ioctl = ioctl_number(3, 0, size_of::<Request>());
pub(crate) const IOCTL_SEND: libc::Ioctl = ioctl_number(3, 1, size_of::<Response>());
pub(crate) const IOCTL_ID_VALID: libc::Ioctl = ioctl_number(1, 2, 8);
pub(crate) const IOCTL_SET_FLAGS: libc::Ioctl = ioctl_number(1, 4, 8);

/// Whether a seccomp filter is on the calling thread already, from outside.
#[must_use]
pub fn confined() -> bool {
    // SAFETY: PR_GET_SECCOMP takes no pointer. 2 is SECCOMP_MODE_FILTER; a failing prctl is itself a sign of
    // a filter, since the call exists wherever seccomp does.
    let mode = unsafe { libc::prctl(libc::PR_GET_SECCOMP) };
    mode == 2 || (mode < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL))
}

/// Whether loading a filter needs `no_new_privs` first: without CAP_SYS_ADMIN in the user namespace.
pub(crate) fn needs_no_new_privs() -> bool {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    const CAP_SYS_ADMIN: u32 = 21;
    let header = Header { version: VERSION_3, pid: 0 };
    // Two times (effective, permitted, inheritable).
    let mut data = [0u32; 6];
    // SAFETY: version 3 writes two `struct __user_cap_data_struct`, six u32 together.
    let answer = unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) };
    let [effective, ..] = data;
    answer != 0 || effective & (1 << CAP_SYS_ADMIN) == 0
}

/// Whether `no_new_privs` is on already.
pub(crate) fn no_new_privs() -> bool {
    // SAFETY: takes no pointer.
    unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 }
}

/// Forks with all signals blocked, so that no handler of ours runs in the child, which shares our pipes.
///
/// # Safety
/// `child` makes async-signal-safe calls only: other threads may have held any lock at the fork.
pub(crate) unsafe fn fork(child: impl FnOnce() -> std::convert::Infallible) -> io::Result<u32> {
    // SAFETY: sigset_t is plain data and the masks are locals; the caller vouches for the child.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let pid = libc::fork();
        if pid == 0 {
            child();
        }
        let failure = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        u32::try_from(pid).map_err(|_| failure)
    }
}

/// Waits for a child of ours; none when somebody else reaped it.
pub(crate) fn wait(pid: u32) -> Option<libc::c_int> {
    let mut status = 0;
    loop {
        // SAFETY: waits into a local.
        if unsafe { libc::waitpid(pid.cast_signed(), &raw mut status, 0) } >= 0 {
            return Some(status);
        }
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    }
}

/// Tries in a short-lived child whether a filter with a listener can be loaded here.
///
/// # Errors
/// What seccomp(2) answered: `EBUSY` where a listener is on this process already, `ENOSYS` or `EINVAL` where the
/// kernel has no user notification, `EPERM` where a container's profile refuses it.
pub fn probe_listener() -> io::Result<()> {
    // An allow-all program (BPF_RET|BPF_K ALLOW) that no one will have to answer.
    let allow = [Instruction { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 }];
    let program = Program { length: 1, instructions: allow.as_ptr() };
    notification_sizes()?;
    // SAFETY: the child makes three calls without locks and ends; `program` and `allow` are in its copied memory.
    let pid = unsafe {
        fork(|| {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            let failed = load(&raw const program, FLAG_NEW_LISTENER) < 0;
            libc::_exit(if failed { *libc::__errno_location() } else { 0 })
        })
    }?;
    match wait(pid) {
        Some(status) if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 => Ok(()),
        Some(status) if libc::WIFEXITED(status) => {
            Err(io::Error::from_raw_os_error(libc::WEXITSTATUS(status)))
        }
        // A profile that kills for it.
        _ => Err(io::Error::from_raw_os_error(libc::EPERM)),
    }
}
