//! Calls whose tested argument can be anything: `hostile-arguments` makes them with as many values as it is told.

use libc::c_long;

/// A call, and its registers for each number; the kernel refuses them all early.
pub struct Hostile {
    pub name: &'static str,
    pub number: c_long,
    /// The registers for a number below 2¹⁷. [`crate::known::HERE`] stands for a struct whose first word is `field`.
    pub registers: fn(u64) -> [u64; 6],
    /// The field in the struct, if there is one.
    pub field: Option<Field>,
}

/// A field of a struct that a call points to.
pub struct Field {
    /// Which word of the struct it is in.
    pub word: usize,
    /// That word for a number.
    pub value: fn(u64) -> u64,
}

const NONE: u64 = u64::MAX;
const HERE: u64 = crate::known::HERE;

const fn call(name: &'static str, number: c_long, registers: fn(u64) -> [u64; 6]) -> Hostile {
    Hostile { name, number, registers, field: None }
}

/// The call with the most requests.
pub const IOCTL: Hostile = call("ioctl", libc::SYS_ioctl, |n| [NONE, n, 0, 0, 0, 0]);

/// All others that the argument table has a rule for.
pub const OTHERS: &[Hostile] = &[
    call("socket", libc::SYS_socket, |n| [n + 1000, 1, 0, 0, 0, 0]),
    call("socketpair", libc::SYS_socketpair, |n| [n + 1000, 1, 0, 0, 0, 0]),
    call("setsockopt", libc::SYS_setsockopt, |n| [NONE, 6, n, 0, 0, 0]),
    call("getsockopt", libc::SYS_getsockopt, |n| [NONE, 6, n, 0, 0, 0]),
    call("mmap", libc::SYS_mmap, |n| [0, 0, 0, n << 12 | 0x22, NONE, 0]),
    call("mprotect", libc::SYS_mprotect, |n| [1, 1, n, 0, 0, 0]),
    call("pkey_mprotect", libc::SYS_pkey_mprotect, |n| [1, 1, n, NONE, 0, 0]),
    // Always CLONE_THREAD, never CLONE_SIGHAND.
    call("clone", libc::SYS_clone, |n| [0x1_0000 | n & 0x7ff | n >> 11 << 25, 0, 0, 0, 0, 0]),
    // Always CLONE_PTRACE, which unshare refuses.
    call("unshare", libc::SYS_unshare, |n| [n & 0x1fff | 0x2000 | n >> 13 << 14, 0, 0, 0, 0, 0]),
    call("setns", libc::SYS_setns, |n| [NONE, n, 0, 0, 0, 0]),
    call("prctl", libc::SYS_prctl, |n| [n + 0x1000_0000, 0, 0, 0, 0, 0]),
    call("arch_prctl", libc::SYS_arch_prctl, |n| [n + 0x1_0000, 0, 0, 0, 0, 0]),
    call("fcntl", libc::SYS_fcntl, |n| [0, n + 0x1_0000, 0, 0, 0, 0]),
    call("futex", libc::SYS_futex, |n| [0, n << 9 | 0x7f, 0, 0, 0, 0]),
    call("madvise", libc::SYS_madvise, |n| [0, 0, n + 1000, 0, 0, 0]),
    call("memfd_create", libc::SYS_memfd_create, |n| [0, (n + 1) << 8, 0, 0, 0, 0]),
    call("mbind", libc::SYS_mbind, |n| [0, 0, n + 0x100, 0, 0, NONE]),
    call("set_mempolicy", libc::SYS_set_mempolicy, |n| [n + 0x100, 0, 0, 0, 0, 0]),
    call("keyctl", libc::SYS_keyctl, |n| [n + 1000, 0, 0, 0, 0, 0]),
    call("bpf", libc::SYS_bpf, |n| [n + 1000, 0, 0, 0, 0, 0]),
    call("ptrace", libc::SYS_ptrace, |n| [n + 0x1_0000, NONE, 0, 0, 0, 0]),
    call("seccomp", libc::SYS_seccomp, |n| [n + 1000, 0, 0, 0, 0, 0]),
    call("timerfd_settime", libc::SYS_timerfd_settime, |n| [NONE, n, 0, 0, 0, 0]),
    call("splice", libc::SYS_splice, |n| [NONE, 0, NONE, 0, 1, n]),
    call("tee", libc::SYS_tee, |n| [NONE, NONE, 1, n, 0, 0]),
    call("vmsplice", libc::SYS_vmsplice, |n| [NONE, 0, 0, n, 0, 0]),
    call("pipe2", libc::SYS_pipe2, |n| [0, n | 0x1000_0000, 0, 0, 0, 0]),
    call("sendto", libc::SYS_sendto, |n| [NONE, 0, 0, n, 0, 0]),
    call("recvfrom", libc::SYS_recvfrom, |n| [NONE, 0, 0, n, 0, 0]),
    call("sendmsg", libc::SYS_sendmsg, |n| [NONE, 0, n, 0, 0, 0]),
    call("recvmsg", libc::SYS_recvmsg, |n| [NONE, 0, n, 0, 0, 0]),
    call("sendmmsg", libc::SYS_sendmmsg, |n| [NONE, 0, 0, n, 0, 0]),
    call("recvmmsg", libc::SYS_recvmmsg, |n| [NONE, 0, 0, n, 0, 0]),
    call("userfaultfd", libc::SYS_userfaultfd, |n| [n | 0x1000_0000, 0, 0, 0, 0, 0]),
    Hostile {
        name: "clone3",
        number: libc::SYS_clone3,
        registers: |_| [HERE, 64, 0, 0, 0, 0],
        field: Some(Field { word: 0, value: |n| n << 34 | 0x1_0000 }),
    },
    Hostile {
        name: "io_uring_setup",
        number: libc::SYS_io_uring_setup,
        registers: |_| [1, HERE, 0, 0, 0, 0],
        field: Some(Field { word: 1, value: |n| n | 0x8000_0000 }),
    },
    Hostile {
        name: "perf_event_open",
        number: libc::SYS_perf_event_open,
        registers: |n| [HERE, 0, NONE, NONE, n + 0x100, 0],
        field: Some(Field { word: 0, value: |n| n }),
    },
];
