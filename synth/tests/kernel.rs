//! The real kernel as oracle: the filters of this project and of the engines, loaded and asked about random calls,
//! answer as the simulator says.
//!
//! Nothing is carried out: in the compiled filter whatever lets a call through, or kills, answers with an errno
//! that no call has. Under such a filter not even `_exit` works, so the child only writes answers to shared memory
//! and is killed by its parent.

#![cfg(target_arch = "x86_64")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

mod common;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use seccomp_learn_synth::{
    CompileOptions, Container, Margin, Options, Profile, Program, SeccompData, Verdict, compile, references,
    simulate, synthesize,
};
use trace::Abi;

const CASES: usize = 100_000;

/// Answers with an errno that no call has, in place of what would let a call through or end the child.
const ALLOW: u32 = 4094;
const KILL_THREAD: u32 = 4093;
const KILL_PROCESS: u32 = 4092;

/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;
const ERRNO: u32 = 0x0005_0000;

/// A call and the kernel's answer, in memory that parent and child share.
#[repr(C)]
struct Case {
    number: u64,
    args: [u64; 6],
    answer: i64,
}

#[test]
fn the_kernel_answers_as_the_simulator_says() {
    let container = Container::new(Abi::X86_64, (6, 18));
    let names = "read write openat fstat mmap execve clone clone3 socket personality ioctl futex exit_group";
    let learned =
        synthesize(&common::named(names), &Options { margin: Margin::Portable, ..Options::default() });
    let mut profiles = vec![("learned", learned.unwrap().profile)];
    profiles.extend(
        references().iter().map(|reference| (reference.name.as_str(), reference.resolve(&container))),
    );
    let calls = calls();
    for (name, profile) in profiles {
        check(name, &profile, &calls);
    }
}

fn check(name: &str, profile: &Profile, calls: &[(u64, [u64; 6])]) {
    let program = compile(profile, Abi::X86_64, CompileOptions::default()).unwrap();
    let Some(answers) = ask_kernel(&marked(&program), calls) else {
        eprintln!("skipped: this process may not load a filter");
        return;
    };
    for ((number, args), answer) in calls.iter().zip(answers) {
        let nr = u32::try_from(*number).unwrap().cast_signed();
        let data = SeccompData { nr, arch: Abi::X86_64.audit_arch(), instruction_pointer: 0, args: *args };
        let expected = match simulate(&program, &data).unwrap() {
            Verdict::Allow | Verdict::Log => ALLOW,
            Verdict::Errno(errno) => u32::from(errno),
            Verdict::KillThread => KILL_THREAD,
            Verdict::KillProcess => KILL_PROCESS,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(answer, -i64::from(expected), "{name}: {number} {args:x?}");
    }
}

/// The filter with answers in place of effects.
fn marked(program: &Program) -> Vec<libc::sock_filter> {
    let mark = |ret: u32| match Verdict::from_ret(ret) {
        Verdict::Allow | Verdict::Log => ERRNO | ALLOW,
        Verdict::KillThread => ERRNO | KILL_THREAD,
        Verdict::KillProcess => ERRNO | KILL_PROCESS,
        _ => ret,
    };
    let filter = |instruction: &seccomp_learn_synth::Instruction| libc::sock_filter {
        code: instruction.code,
        jt: instruction.jt,
        jf: instruction.jf,
        k: if instruction.code == RETURN { mark(instruction.k) } else { instruction.k },
    };
    program.instructions.iter().map(filter).collect()
}

/// Random calls, always the same: those that the shipped profiles put conditions on more often than others,
/// x32's too.
fn calls() -> Vec<(u64, [u64; 6])> {
    let mut random = SplitMix(1);
    let mut calls = Vec::with_capacity(CASES);
    while calls.len() < CASES {
        let number = match random.below(8) {
            0..4 => random.below(470),
            4..6 => [41, 56, 135, 16, 435][random.below(5) as usize],
            6 => random.below(560) | 0x4000_0000,
            _ => random.below(0x7fff_ffff),
        };
        // 335 and 336, uretprobe and uprobe, pass seccomp by: kernel/seccomp.c, seccomp_uprobe_exception.
        if (335..=336).contains(&number) {
            continue;
        }
        calls.push((number, std::array::from_fn(|_| random.argument())));
    }
    calls
}

/// Sebastiano Vigna's generator, <https://prng.di.unimi.it/splitmix64.c> (public domain).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Small ones, single bits, the borders of 32 bits, and any.
    fn argument(&mut self) -> u64 {
        match self.below(6) {
            0..3 => self.below(64),
            3 => 1 << self.below(64),
            4 => 0xffff_ffff,
            _ => self.next(),
        }
    }
}

/// Loads the filter in a child, lets it make the calls, and gives back what the kernel answered.
fn ask_kernel(filter: &[libc::sock_filter], calls: &[(u64, [u64; 6])]) -> Option<Vec<i64>> {
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
        unsafe { first.add(index).write(Case { number: *number, args: *args, answer: 0 }) };
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
    while state.load(Ordering::Acquire) == 0 && waited < 60_000 {
        std::thread::sleep(Duration::from_millis(1));
        waited += 1;
    }
    // SAFETY: our own child, which was not waited for yet.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    let loaded = state.load(Ordering::Acquire);
    assert_ne!(loaded, 0, "the child did not finish");
    // SAFETY: inside the mapping; the child is gone.
    let answers = (0..calls.len()).map(|index| unsafe { (*first.add(index)).answer }).collect();
    // SAFETY: the mapping from above; no reference to it is used after this.
    unsafe { libc::munmap(memory, size) };
    (loaded == 1).then_some(answers)
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
