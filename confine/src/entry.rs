//! What the child does between fork and `execve`: only async-signal-safe calls, nothing allocated.
//!
//! The order matters: all that can be done before the gate is done before it, so that a recorder or filter that
//! comes into force at the gate sees the workload only.

use std::{
    io,
    os::fd::RawFd,
    ptr::{null, null_mut},
};

use libc::{c_char, c_int, c_ulong};

use crate::{
    handover,
    shared::{Page, Stage},
    sys,
};

/// The exit code of a child whose parent went away or that failed to start; the page says why.
const FAILED: c_int = 127;

/// Everything the child needs, made before the fork. Descriptors that are not given are −1.
pub(crate) struct Plan<'a> {
    pub(crate) path: *const c_char,
    pub(crate) arguments: *const *const c_char,
    pub(crate) environment: *const *const c_char,
    pub(crate) stdio: [RawFd; 3],
    pub(crate) cgroup: RawFd,
    /// The child's end; a byte opens it.
    pub(crate) gate: RawFd,
    /// Written once before the gate, closed by `execve`.
    pub(crate) status: RawFd,
    /// The parent's ends, which the child inherited and must not hold.
    pub(crate) parents: [RawFd; 3],
    /// The helper's end of the hand-over; −1 where no listener is wanted.
    pub(crate) handover: RawFd,
    pub(crate) filter: Option<&'a sys::Program>,
    pub(crate) flags: c_ulong,
    pub(crate) no_new_privileges: bool,
    pub(crate) page: &'a Page,
}

/// Runs in the child, which was forked with all signals blocked.
///
/// # Safety
/// Only in a process just forked; the pointers of `plan` are alive and null-terminated.
pub(crate) unsafe fn enter(plan: &Plan<'_>) -> ! {
    // SAFETY: each call below takes numbers, or pointers into this process's copy of the parent's memory that
    // `plan` keeps alive; none of them allocates or takes a lock.
    unsafe {
        for fd in plan.parents {
            libc::close(fd);
        }
        reset_signals();
        for (target, fd) in (0..).zip(plan.stdio) {
            if fd >= 0 && libc::dup2(fd, target) < 0 {
                fail(plan.page, Stage::Stdio);
            }
        }
        if plan.handover >= 0 {
            // Before the cgroup is entered, so that the helper is never in it.
            match handover::start_helper(plan.handover) {
                -1 => fail(plan.page, Stage::Helper),
                pid => plan.page.set_helper(pid),
            }
        }
        if plan.cgroup >= 0 && libc::write(plan.cgroup, c"0".as_ptr().cast(), 1) != 1 {
            fail(plan.page, Stage::Cgroup);
        }
        if plan.no_new_privileges && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            fail(plan.page, Stage::NoNewPrivileges);
        }
        libc::write(plan.status, c"r".as_ptr().cast(), 1);

        let mut byte = 0u8;
        loop {
            match libc::read(plan.gate, (&raw mut byte).cast(), 1) {
                1 => break,
                -1 if errno() == libc::EINTR => {}
                // The parent is gone, or gave the child up.
                _ => leave(),
            }
        }

        if let Some(filter) = plan.filter {
            match load(filter, plan.flags) {
                -1 => fail(plan.page, Stage::Filter),
                number if plan.flags & sys::FLAG_NEW_LISTENER != 0 => plan.page.set_listener(number),
                _ => {}
            }
        }
        libc::execve(plan.path, plan.arguments, plan.environment);
        fail(plan.page, Stage::Exec)
    }
}

/// Loads the filter; a kernel that does not know WAIT_KILLABLE_RECV (before 5.19) is asked again without it.
///
/// # Safety
/// As [`enter`].
unsafe fn load(filter: &sys::Program, flags: c_ulong) -> c_int {
    // SAFETY: `filter` is alive, by its reference and by the plan that owns its instructions.
    let answer = unsafe { sys::load(filter, flags) };
    let older = flags & !sys::FLAG_WAIT_KILLABLE_RECV;
    if answer < 0 && errno() == libc::EINVAL && older != flags {
        // SAFETY: as above.
        return c_int::try_from(unsafe { sys::load(filter, older) }).unwrap_or(-1);
    }
    c_int::try_from(answer).unwrap_or(-1)
}

/// Default dispositions where the parent has handlers, which must never run here: the child shares the parent's
/// pipes. What is ignored stays ignored (nohup), except SIGPIPE, which Rust's runtime ignores on its own.
///
/// # Safety
/// As [`enter`].
unsafe fn reset_signals() {
    // SAFETY: sigaction and sigset_t are plain data, valid as zeroes; the calls only touch these locals.
    unsafe {
        for signal in 1..=64 {
            let mut action: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, null(), &raw mut action) != 0 {
                continue;
            }
            let kept = [libc::SIG_DFL, libc::SIG_IGN].contains(&action.sa_sigaction);
            if !kept || signal == libc::SIGPIPE {
                action = std::mem::zeroed();
                action.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &raw const action, null_mut());
            }
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, null_mut());
    }
}

fn errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn fail(page: &Page, stage: Stage) -> ! {
    page.fail(stage, errno());
    leave()
}

/// Ends the process even where the filter refuses both ways to exit.
fn leave() -> ! {
    // SAFETY: neither call takes a pointer; after them nothing but a trap is left.
    unsafe {
        libc::syscall(libc::SYS_exit_group, FAILED);
        libc::syscall(libc::SYS_exit, FAILED);
    }
    trap()
}

fn trap() -> ! {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: raises SIGILL, whose disposition is the default one (`reset_signals`).
    unsafe {
        std::arch::asm!("ud2", options(noreturn, nomem, nostack))
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("udf #0", options(noreturn, nomem, nostack))
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    loop {
        std::hint::spin_loop();
    }
}
