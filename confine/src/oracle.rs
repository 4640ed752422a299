//! The running kernel as oracle: what it makes of a filter and a call, without any call being carried out.
//!
//! Every answer of the filter is replaced by an errno of its own, so that whatever it lets through, kills or hands to
//! somebody comes back as a number. A child loads that, makes the calls, and writes the numbers to shared memory. Not
//! even `_exit` works in it, so it waits for its parent to kill it.
//!
//! Calls are made through the instructions of 64-bit x86; other machines have no oracle.

use std::{
    collections::BTreeMap,
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::{
    shared::Mapping,
    sys::{self, Instruction, Program},
};

/// `BPF_RET | BPF_K` and `BPF_RET | BPF_A`.
const RETURN: u16 = 0x06;
const RETURN_A: u16 = 0x16;
/// `SECCOMP_RET_ERRNO`, and the greatest errno that it gives back as it is (`MAX_ERRNO`).
const ERRNO: u32 = 0x0005_0000;
const MAX_ERRNO: u16 = 4095;

/// More than any number of calls needs: an instruction or two of the filter take a nanosecond.
const PATIENCE: Duration = Duration::from_secs(60);

/// A filter that the kernel can be asked about.
#[derive(Clone, Debug)]
pub struct Oracle {
    filter: Vec<Instruction>,
    /// What the filter really returns, by the errno in its place.
    marks: BTreeMap<u16, u32>,
}

/// A call to ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// How it is made.
    pub entry: Entry,
    /// Its number as seccomp sees it, with the marker bit of x32.
    pub number: u32,
    /// Its arguments; of 32-bit calls the lower halves.
    pub arguments: [u64; 6],
}

/// How a call enters the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// As 64-bit programs do.
    Syscall,
    /// As 32-bit programs do: `int 0x80`.
    Int80,
}

/// What the kernel answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The filter returned this.
    Filter(u32),
    /// The call got past the filter, and this came back.
    Kernel(i64),
}

/// Why the kernel cannot be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OracleError {
    /// Not the machine for it.
    #[error("the kernel can be asked on x86_64 only")]
    Machine,
    /// A filter whose answers are not all written in it.
    #[error("the filter computes what it returns, so its answers cannot be marked")]
    Computed,
    /// More different answers than errnos.
    #[error("the filter has {0} different answers, and there are 4095 errnos to mark them")]
    Answers(usize),
    /// More instructions than fit into the structure that loads them.
    #[error("the filter has {0} instructions; the kernel takes 4096")]
    Length(usize),
    /// The child could not be made.
    #[error("cannot make a process to ask the kernel")]
    Process(#[source] io::Error),
    /// The kernel did not take the filter.
    #[error(
        "this process may not load a seccomp filter; run where the container's own profile allows seccomp(2)"
    )]
    Filter(#[source] io::Error),
    /// The child was ended while it asked: by a filter that is already on this process, or by a call that no filter
    /// sees.
    #[error("the process that asked the kernel was ended by signal {0}")]
    Ended(i32),
    /// The child did not come to an end.
    #[error("the process that asked the kernel did not answer within a minute")]
    Late,
}

/// A call and its answer, in memory that parent and child share.
#[repr(C)]
struct Case {
    number: u64,
    arguments: [u64; 6],
    /// 1 for a call through `int 0x80`.
    int80: u64,
    answer: i64,
}

/// How far the child is; `REFUSED` has the errno beside it.
const ASKING: u64 = 0;
const DONE: u64 = 1;
const REFUSED: u64 = 2;

impl Oracle {
    /// Marks the answers of a filter.
    ///
    /// # Errors
    /// [`OracleError::Machine`], [`OracleError::Computed`], [`OracleError::Answers`] and [`OracleError::Length`].
    pub fn new(filter: &[Instruction]) -> Result<Self, OracleError> {
        if !cfg!(target_arch = "x86_64") {
            return Err(OracleError::Machine);
        }
        if u16::try_from(filter.len()).is_err() {
            return Err(OracleError::Length(filter.len()));
        }
        if filter.iter().any(|instruction| instruction.code == RETURN_A) {
            return Err(OracleError::Computed);
        }
        let mut answers: Vec<u32> = filter.iter().filter(|own| own.code == RETURN).map(|own| own.k).collect();
        answers.sort_unstable();
        answers.dedup();
        if answers.len() > usize::from(MAX_ERRNO) {
            return Err(OracleError::Answers(answers.len()));
        }
        // From above: the highest errnos are no call's own.
        let marks: BTreeMap<u16, u32> = (1..=MAX_ERRNO).rev().zip(answers).collect();
        let errnos: BTreeMap<u32, u16> = marks.iter().map(|(errno, ret)| (*ret, *errno)).collect();
        let marked = |instruction: &Instruction| match errnos.get(&instruction.k) {
            Some(errno) if instruction.code == RETURN => {
                Instruction { k: ERRNO | u32::from(*errno), ..*instruction }
            }
            _ => *instruction,
        };
        Ok(Self { filter: filter.iter().map(marked).collect(), marks })
    }

    /// Lets a child make the calls under the filter. They must all be such that filters see them.
    ///
    /// # Errors
    /// The others of [`OracleError`].
    pub fn ask(&self, calls: &[Call]) -> Result<Vec<Answer>, OracleError> {
        let answers = self.ask_marked(calls)?;
        let real = |answer: i64| {
            let errno = answer.checked_neg().and_then(|errno| u16::try_from(errno).ok());
            match errno.and_then(|errno| self.marks.get(&errno)) {
                Some(ret) => Answer::Filter(*ret),
                None => Answer::Kernel(answer),
            }
        };
        Ok(answers.into_iter().map(real).collect())
    }

    fn ask_marked(&self, calls: &[Call]) -> Result<Vec<i64>, OracleError> {
        // Cases have the alignment of the state before them.
        let size = size_of::<Case>().saturating_mul(calls.len()).saturating_add(2 * size_of::<AtomicU64>());
        let memory = Mapping::new(size).map_err(OracleError::Process)?;
        let first: *mut Case = memory.start::<u8>().wrapping_add(2 * size_of::<AtomicU64>()).cast();
        for (index, call) in calls.iter().enumerate() {
            let case = Case {
                number: u64::from(call.number),
                arguments: call.arguments,
                int80: u64::from(call.entry == Entry::Int80),
                answer: 0,
            };
            // SAFETY: one of the `calls.len()` aligned places that the mapping was made for; nobody else has it yet.
            unsafe { first.wrapping_add(index).write(case) };
        }
        // SAFETY: the mapping begins with two words, zeroed; only atomic accesses are made to them.
        let (state, errno) = unsafe { (&*memory.start::<AtomicU64>(), &*memory.start::<AtomicU64>().add(1)) };
        let length = u16::try_from(self.filter.len()).unwrap_or(u16::MAX);
        let program = Program { length, instructions: self.filter.as_ptr() };
        let parent = std::process::id();
        // SAFETY: the child makes system calls and touches memory that exists already, nothing else.
        let child = unsafe {
            sys::fork(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if libc::getppid().cast_unsigned() != parent {
                    libc::_exit(0);
                }
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                if sys::load(&raw const program, 0) < 0 {
                    errno.store(u64::from((*libc::__errno_location()).cast_unsigned()), Ordering::Relaxed);
                    state.store(REFUSED, Ordering::Release);
                    libc::_exit(0);
                }
                for index in 0..calls.len() {
                    let case = first.wrapping_add(index);
                    (*case).answer = make(&*case);
                }
                state.store(DONE, Ordering::Release);
                loop {
                    std::hint::spin_loop();
                }
            })
        }
        .map_err(OracleError::Process)?;
        let begun = Instant::now();
        let mut ended = None;
        let mut pause = Duration::from_micros(50);
        while state.load(Ordering::Acquire) == ASKING && ended.is_none() && begun.elapsed() < PATIENCE {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
            ended = reaped(child);
        }
        let signal = match ended {
            Some(status) => status,
            None => {
                // SAFETY: our own child, which was not waited for yet, so the number is its own.
                unsafe { libc::kill(child.cast_signed(), libc::SIGKILL) };
                sys::wait(child).unwrap_or_default()
            }
        };
        match state.load(Ordering::Acquire) {
            DONE => {}
            REFUSED => {
                let errno = i32::try_from(errno.load(Ordering::Relaxed)).unwrap_or(libc::EPERM);
                return Err(OracleError::Filter(io::Error::from_raw_os_error(errno)));
            }
            _ if ended.is_some() => return Err(OracleError::Ended(libc::WTERMSIG(signal))),
            _ => return Err(OracleError::Late),
        }
        // SAFETY: the same places; the child is gone.
        Ok((0..calls.len()).map(|index| unsafe { (*first.wrapping_add(index)).answer }).collect())
    }
}

/// The status of a child that has ended.
fn reaped(child: u32) -> Option<libc::c_int> {
    let mut status = 0;
    // SAFETY: waits into a local, for our own child.
    let own = unsafe { libc::waitpid(child.cast_signed(), &raw mut status, libc::WNOHANG) };
    (own == child.cast_signed()).then_some(status)
}

/// Makes the call without the C library, which would touch errno and cancellation.
///
/// # Safety
/// Only under a filter that answers every call in the kernel's place, so that nothing happens.
#[cfg(target_arch = "x86_64")]
unsafe fn make(case: &Case) -> i64 {
    let [a0, a1, a2, a3, a4, a5] = case.arguments;
    let answer: i64;
    if case.int80 == 0 {
        // SAFETY: the caller vouches that nothing is carried out; the instruction changes rax, rcx and r11.
        unsafe {
            std::arch::asm!(
                "syscall",
                inlateout("rax") case.number => answer,
                in("rdi") a0, in("rsi") a1, in("rdx") a2, in("r10") a3, in("r8") a4, in("r9") a5,
                lateout("rcx") _, lateout("r11") _,
                options(nostack),
            );
        }
        return answer;
    }
    let narrow: i64;
    // SAFETY: as above. rbx and rbp, which the compiler keeps for itself, are put back; Linux clears r8 to r11 on this
    // way in (arch/x86/entry/entry_64_compat.S before v6.4), and leaves the others alone.
    unsafe {
        std::arch::asm!(
            "push rbx",
            "push rbp",
            "mov ebx, dword ptr [r12]",
            "mov ebp, dword ptr [r12 + 40]",
            "int 0x80",
            "pop rbp",
            "pop rbx",
            inlateout("rax") case.number => narrow,
            in("r12") case.arguments.as_ptr(),
            in("rcx") a1, in("rdx") a2, in("rsi") a3, in("rdi") a4,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    // The answer has 32 bits.
    i64::from((narrow & 0xffff_ffff) as u32 as i32)
}

/// There is none: [`Oracle::new`] refuses.
///
/// # Safety
/// None is needed.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn make(_: &Case) -> i64 {
    i64::MIN
}
