//! Calls with arguments that are known to the last bit of each register: `known-arguments` makes them, and the tests
//! look for them in traces. Nearly all fail, and none leaves a trace in the system.

use libc::c_long;
use trace::{FileKind, Kept};

/// A call with what is in its registers.
pub struct Known {
    pub name: &'static str,
    pub number: c_long,
    pub registers: [u64; 6],
    /// What the register that is [`HERE`] points to.
    pub memory: &'static [u64],
    /// What its descriptor is, where that is captured.
    pub file: Option<FileKind>,
}

/// Stands for the address of `memory`.
pub const HERE: u64 = 0x4845_5245_4845_5245;

/// A descriptor of −1 as C passes it, and as a program passes it that extends it with zeros.
const NEGATIVE: u64 = u64::MAX;
const NEGATIVE_INT: u64 = 0xffff_ffff;
/// What is set in upper halves that the kernel does not read.
const UPPER: u64 = 0xdead_beef_0000_0000;

/// The descriptors that `known-arguments` opens before it makes the calls.
pub const NULL: u64 = 100;
pub const PIPE: u64 = 101;
pub const UNIX_SOCKET: u64 = 102;
pub const EVENT: u64 = 103;
pub const MEMORY: u64 = 104;
pub const FILE: u64 = 105;
pub const DIRECTORY: u64 = 106;
pub const EPOLL: u64 = 107;
pub const TERMINAL: u64 = 108;
pub const TCP: u64 = 109;

/// A system call on i386, through `int 0x80`: number and arguments.
pub const I386: [(&str, u32, [u32; 3]); 3] =
    [("ioctl", 54, [100, 0x8004_5430, 0]), ("mprotect", 125, [0, 0, 4]), ("prctl", 172, [3, 0, 0])];

macro_rules! calls {
    ($($name:ident ($($register:expr),*) $(at $memory:expr)? $(, on $file:ident)?;)*) => {
        &[$(Known {
            name: stringify!($name),
            number: numbers::$name,
            registers: padded(&[$($register),*]),
            memory: memory(&[$(&$memory)?]),
            file: file(&[$(FileKind::$file)?]),
        }),*]
    };
}

const fn padded(registers: &[u64]) -> [u64; 6] {
    let mut all = [0; 6];
    let mut index = 0;
    while index < registers.len() {
        all[index] = registers[index];
        index += 1;
    }
    all
}

const fn memory(given: &[&'static [u64]]) -> &'static [u64] {
    if given.is_empty() { &[] } else { given[0] }
}

const fn file(given: &[FileKind]) -> Option<FileKind> {
    if given.is_empty() { None } else { Some(given[0]) }
}

#[allow(non_upper_case_globals, reason = "the calls are written as their names are")]
mod numbers {
    pub(super) use libc::{
        SYS_arch_prctl as arch_prctl, SYS_bpf as bpf, SYS_clone as clone, SYS_clone3 as clone3,
        SYS_fcntl as fcntl, SYS_futex as futex, SYS_getsockopt as getsockopt,
        SYS_io_uring_setup as io_uring_setup, SYS_ioctl as ioctl, SYS_keyctl as keyctl,
        SYS_madvise as madvise, SYS_mbind as mbind, SYS_memfd_create as memfd_create, SYS_mmap as mmap,
        SYS_mprotect as mprotect, SYS_perf_event_open as perf_event_open, SYS_personality as personality,
        SYS_pipe2 as pipe2, SYS_pkey_mprotect as pkey_mprotect, SYS_prctl as prctl, SYS_ptrace as ptrace,
        SYS_recvfrom as recvfrom, SYS_recvmmsg as recvmmsg, SYS_recvmsg as recvmsg, SYS_seccomp as seccomp,
        SYS_sendmmsg as sendmmsg, SYS_sendmsg as sendmsg, SYS_sendto as sendto,
        SYS_set_mempolicy as set_mempolicy, SYS_setns as setns, SYS_setsockopt as setsockopt,
        SYS_socket as socket, SYS_socketpair as socketpair, SYS_splice as splice, SYS_tee as tee,
        SYS_timerfd_settime as timerfd_settime, SYS_unshare as unshare, SYS_userfaultfd as userfaultfd,
        SYS_vmsplice as vmsplice,
    };
}

/// The calls, in the order in which they are made.
pub const CALLS: &[Known] = calls! {
    ioctl(NULL, 0x5401), on CharacterDevice;
    ioctl(NULL, UPPER | 0x5413), on CharacterDevice;
    ioctl(TERMINAL, 0x8004_5430), on CharacterDevice;
    ioctl(TERMINAL, 0xffff_ffff_8004_5430), on CharacterDevice;
    ioctl(NEGATIVE, 0x5412), on None;
    ioctl(NEGATIVE_INT, 0x541b), on None;
    ioctl(PIPE, 0x541b), on Pipe;
    ioctl(UNIX_SOCKET, 0x8912), on Socket;
    ioctl(TCP, 0x8912), on Socket;
    ioctl(EVENT, 0x5421), on Anonymous;
    ioctl(EPOLL, 0x5451), on Anonymous;
    ioctl(MEMORY, 0xffff_ffff_8008_6601), on Memory;
    ioctl(FILE, 0x8008_6601), on Regular;
    ioctl(FILE, 1), on Regular;
    ioctl(DIRECTORY, 0x8008_6601), on Directory;
    // AF_INET, AF_INET6, AF_UNIX, AF_NETLINK, AF_PACKET, AF_VSOCK, none at all, and AF_INET with an upper half.
    socket(2, 1, 6);
    socket(2, 0x8_0002, 0);
    socket(10, 0x801, 0);
    socket(10, 2, 17);
    socket(1, 0x8_0001, 0);
    socket(16, 0x8_0003, 15);
    socket(16, 3, 0);
    socket(17, 3, 0x300);
    socket(40, 1, 0);
    socket(NEGATIVE, 1, 0);
    socket(0x7fff_ffff, NEGATIVE_INT, NEGATIVE);
    socket(UPPER | 2, UPPER | 1, UPPER);
    socketpair(1, 0x8_0005, 0, 0);
    socketpair(2, 1, 6, 0);
    setsockopt(TCP, 6, 1, 0, 0);
    setsockopt(TCP, 6, 31, 0, 0);
    setsockopt(TCP, 1, 2, 0, 0);
    setsockopt(NEGATIVE, 41, 26, 0, 0);
    setsockopt(TCP, NEGATIVE, UPPER | 9, 0, 0);
    getsockopt(TCP, 1, 4, 0, 0);
    getsockopt(NEGATIVE, 0, 64, 0, 0);
    mmap(0, 4096, 7, 0x22, NEGATIVE, 0);
    mmap(0, 4096, 1, 1, MEMORY, 0), on Memory;
    mmap(0, 4096, 1, 2, FILE, 0), on Regular;
    mmap(0, 4096, 1, 2, NEGATIVE_INT, 0), on None;
    mmap(0, 4096, UPPER | 3, 0x22, 0, 0);
    mmap(0, 0, 0, 0x4022, NEGATIVE, 0);
    mprotect(1, 1, 1);
    mprotect(0, 0, 4);
    mprotect(0, 0, 0x100_0006);
    mprotect(0, 0, UPPER | 1);
    pkey_mprotect(0, 0, 3, NEGATIVE);
    // A thread without shared signal handlers; a user namespace with shared file system state.
    clone(0x1_0000);
    clone(UPPER | 0x1000_0200);
    clone3(HERE, 64) at [0x1_0000, 0, 0, 0, 0, 0, 0, 0];
    clone3(HERE, 64) at [0x2_1000_0200, 0, 0, 0, 0, 0, 0, 0];
    clone3(0, 64);
    unshare(0);
    unshare(0x100_0000_0000);
    setns(NEGATIVE, 0x4000_0000);
    setns(NULL, UPPER);
    prctl(3);
    prctl(UPPER | 39);
    prctl(15, 0);
    prctl(NEGATIVE);
    prctl(0x5356_4d41, 1);
    arch_prctl(0x1011);
    arch_prctl(0x3001);
    arch_prctl(0x1003, HERE) at [0];
    personality(0xffff_ffff);
    personality(NEGATIVE);
    fcntl(NULL, 1);
    fcntl(NULL, UPPER | 3);
    fcntl(NEGATIVE, 1030);
    fcntl(MEMORY, 1034);
    futex(HERE, 0x81, 1) at [0];
    futex(HERE, 0x189, 7, 0, 0, 1) at [0];
    futex(HERE, UPPER | 0x7f) at [0];
    madvise(0, 0, 4);
    madvise(0, 0, 14);
    madvise(0, 0, NEGATIVE);
    memfd_create(HERE, 3) at [0x0061];
    memfd_create(HERE, 0x8000_0000) at [0x0061];
    mbind(0, 0, 2, 0, 0, 1);
    mbind(0, 0, UPPER | 0x8001, 0, 0, NEGATIVE);
    set_mempolicy(0);
    set_mempolicy(NEGATIVE);
    keyctl(0, NEGATIVE);
    keyctl(11);
    keyctl(0x7fff_ffff);
    bpf(0);
    bpf(NEGATIVE);
    ptrace(2, NEGATIVE);
    ptrace(0x4206, NEGATIVE);
    ptrace(NEGATIVE, NEGATIVE);
    seccomp(2, 0, 0);
    seccomp(0x1000, 0xf, 0);
    timerfd_settime(NEGATIVE, 1);
    timerfd_settime(NULL, UPPER | 3);
    splice(NEGATIVE, 0, NEGATIVE, 0, 0, 3);
    splice(PIPE, 0, PIPE, 0, 1, NEGATIVE);
    tee(NEGATIVE, NEGATIVE, 0, 2);
    vmsplice(NEGATIVE, 0, 0, 8);
    pipe2(0, 0x8_0000);
    pipe2(0, 0x4800);
    pipe2(0, NEGATIVE);
    io_uring_setup(1, HERE) at [0, 0x4000_0000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    io_uring_setup(1, 0);
    perf_event_open(HERE, 0, NEGATIVE, NEGATIVE, 8) at [0x70_0000_0001, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    sendto(NEGATIVE, 0, 0, 0x4000);
    sendto(UNIX_SOCKET, 0, 0, UPPER | 0x4040);
    recvfrom(NEGATIVE, 0, 0, 0x42);
    sendmsg(NEGATIVE, 0, 0x4000);
    recvmsg(UNIX_SOCKET, 0, 0x4000_0040);
    sendmmsg(NEGATIVE, 0, 0, 0x4000_0000);
    recvmmsg(NEGATIVE, 0, 0, 0x1_0000, 0);
    userfaultfd(0xf000_0001);
};

impl Known {
    /// What a trace keeps of it. None where the struct that it points to cannot be read.
    pub fn tuple(&self, kept: &[Kept]) -> Option<Vec<u64>> {
        let value = |kept: &Kept| {
            let register = self.registers[kept.index as usize];
            Some(match kept.offset {
                None => register & kept.mask,
                Some(offset) => {
                    let bytes: Vec<u8> = self.memory.iter().flat_map(|word| word.to_le_bytes()).collect();
                    let field = bytes.get(offset as usize..)?.first_chunk::<8>()?;
                    u64::from_le_bytes(*field) & kept.mask
                }
            })
        };
        kept.iter().map(value).collect()
    }

    /// The 32-bit arguments whose upper half is not zero.
    pub fn upper<'kept>(&self, kept: &'kept [Kept]) -> Vec<&'kept str> {
        let set = |kept: &&Kept| {
            kept.offset.is_none()
                && synth::arguments::argument(self.name, kept.index)
                    .is_some_and(|argument| argument.width == 32)
                && self.registers[kept.index as usize] >> 32 != 0
        };
        kept.iter().filter(set).map(|kept| kept.name.as_str()).collect()
    }
}
