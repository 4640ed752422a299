//! The real kernel as oracle: a filter is loaded in a child, which makes the calls and writes the answers down.
//!
//! Nothing is carried out: in the compiled filter whatever lets a call through, or kills, answers with an errno
//! that no call has. Under such a filter not even `_exit` works, so the child only writes answers to shared memory
//! and is killed by its parent.

#![allow(
    dead_code,
    clippy::print_stdout,
    reason = "each test file uses a part, and says what it cannot show"
)]

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use seccomp_learn_synth::{Program, Verdict};

/// Answers with an errno that no call has, in place of what would let a call through or end the child.
const ALLOW: u16 = 4094;
const KILL_THREAD: u16 = 4093;
const KILL_PROCESS: u16 = 4092;

/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;
const ERRNO: u32 = 0x0005_0000;

/// The number, as seccomp sees it, and the arguments.
pub(crate) type Call = (u32, [u64; 6]);

/// What came of asking the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It answered each call.
    Answers(Vec<i64>),
    /// A signal ended the child.
    Ended(i32),
    /// This process may not load a filter.
    NoFilter,
}

/// A call and the kernel's answer, in memory that parent and child share.
#[repr(C)]
struct Case {
    number: u64,
    args: [u64; 6],
    answer: i64,
}

/// The number that stands for a verdict in [`marked`] filters, as the kernel returns it.
pub(crate) fn mark(verdict: Verdict) -> i64 {
    let errno = match verdict {
        Verdict::Allow | Verdict::Log => ALLOW,
        Verdict::Errno(errno) => errno,
        Verdict::KillThread => KILL_THREAD,
        Verdict::KillProcess => KILL_PROCESS,
        other => panic!("{other:?} has no mark"),
    };
    -i64::from(errno)
}

/// The filter with answers in place of effects.
pub(crate) fn marked(program: &Program) -> Vec<libc::sock_filter> {
    let answer = |ret: u32| match Verdict::from_ret(ret) {
        verdict @ (Verdict::Allow | Verdict::Log | Verdict::KillThread | Verdict::KillProcess) => {
            ERRNO | u32::try_from(-mark(verdict)).unwrap()
        }
        _ => ret,
    };
    let filter = |instruction: &seccomp_learn_synth::Instruction| libc::sock_filter {
        code: instruction.code,
        jt: instruction.jt,
        jf: instruction.jf,
        k: if instruction.code == RETURN { answer(instruction.k) } else { instruction.k },
    };
    program.instructions.iter().map(filter).collect()
}

/// Loads the filter in a child, lets it make the calls, and gives back what the kernel answered.
pub(crate) fn ask_kernel(filter: &[libc::sock_filter], calls: &[Call]) -> Asked {
    let size = size_of::<AtomicU64>() + calls.len() * size_of::<Case>();
    // SAFETY: a new anonymous mapping that overlaps nothing; it is unmapped below.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(memory, libc::MAP_FAILED);
    // SAFETY: the mapping is zeroed, page-aligned and begins with the state; nobody else has a reference to it.
    let state = unsafe { &*memory.cast::<AtomicU64>() };
    // SAFETY: inside the mapping, right after the state, and aligned as the state is.
    let first = unsafe { memory.cast::<u8>().add(size_of::<AtomicU64>()).cast::<Case>() };
    for (index, (number, args)) in calls.iter().enumerate() {
        // SAFETY: one of the `calls.len()` places that the mapping was made for.
        unsafe { first.add(index).write(Case { number: u64::from(*number), args: *args, answer: 0 }) };
    }
    let program =
        libc::sock_fprog { len: u16::try_from(filter.len()).unwrap(), filter: filter.as_ptr().cast_mut() };
    // SAFETY: the child makes system calls and touches memory that exists already, nothing else.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // SAFETY: plain system calls on values that live until the child is killed.
        let loaded = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) == 0
        };
        if loaded {
            for index in 0..calls.len() {
                // SAFETY: the same place as above; the parent reads only after the state says so.
                let case = unsafe { &mut *first.add(index) };
                case.answer = raw_call(case.number, &case.args);
            }
        }
        state.store(if loaded { 1 } else { 2 }, Ordering::Release);
        loop {
            std::hint::spin_loop();
        }
    }
    let mut waited = 0;
    let mut status = 0;
    let mut ended = false;
    while state.load(Ordering::Acquire) == 0 && waited < 60_000 && !ended {
        std::thread::sleep(Duration::from_millis(1));
        waited += 1;
        // SAFETY: our own child; the status is a place of ours.
        ended = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == child;
    }
    if !ended {
        // SAFETY: our own child, which was not waited for yet.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
    }
    // SAFETY: inside the mapping; the child is gone.
    let answers = (0..calls.len()).map(|index| unsafe { (*first.add(index)).answer }).collect();
    let state = state.load(Ordering::Acquire);
    // SAFETY: the mapping from above; no reference to it is used after this.
    unsafe { libc::munmap(memory, size) };
    match state {
        1 => Asked::Answers(answers),
        2 => Asked::NoFilter,
        _ if ended && libc::WIFSIGNALED(status) => Asked::Ended(libc::WTERMSIG(status)),
        _ => panic!("the child did not finish"),
    }
}

/// A system call without the C library, which would touch errno and cancellation.
fn raw_call(number: u64, args: &[u64; 6]) -> i64 {
    let [a0, a1, a2, a3, a4, a5] = *args;
    let answer;
    // SAFETY: only made under a filter that answers every call in the kernel's place, so that nothing happens;
    // the instruction itself changes rax, rcx and r11.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => answer,
            in("rdi") a0, in("rsi") a1, in("rdx") a2, in("r10") a3, in("r8") a4, in("r9") a5,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// Prints why a test cannot run here; fails it when the kernel ring was asked for.
pub(crate) fn skip(reason: &str) {
    assert!(std::env::var_os("SECCOMP_LEARN_REQUIRE_KERNEL").is_none(), "required, but cannot run: {reason}");
    println!("skipped: {reason}");
}

/// Sebastiano Vigna's generator, <https://prng.di.unimi.it/splitmix64.c> (public domain).
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[usize::try_from(self.below(list.len() as u64)).unwrap()]
    }

    /// Small ones, single bits, the borders of 32 bits, and any.
    pub(crate) fn argument(&mut self) -> u64 {
        match self.below(6) {
            0..3 => self.below(64),
            3 => 1 << self.below(64),
            4 => 0xffff_ffff,
            _ => self.next(),
        }
    }
}
