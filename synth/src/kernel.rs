//! What the kernel answers to a call under a filter: not every call makes it run the filter.
//!
//! Since Linux 5.11 the kernel notes, when a filter is loaded, which numbers it allows whatever their arguments, and
//! later carries those out without asking (`seccomp_cache_prepare`). And two calls, which the kernel itself makes a
//! probed x86-64 program issue, pass every filter by.
//! <https://github.com/torvalds/linux/blob/v6.18/kernel/seccomp.c>

use std::sync::LazyLock;

use trace::Abi;

use crate::{
    compile::Program,
    simulate::{SeccompData, SimulateError, Verdict, execute, op},
};

/// `uretprobe` and `uprobe`.
const PROBES: [u32; 2] = [335, 336];

/// The last number of the kernel's tables, which end alike on all architectures: what the bitmap covers.
static LAST: LazyLock<u32> = LazyLock::new(|| Abi::X86_64.numbers().max().unwrap_or(0));

/// `SECCOMP_RET_ALLOW`, without data.
const RET_ALLOW: u32 = 0x7fff_0000;

/// An answer, and how the kernel comes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The answer, with the errno if it is one.
    pub verdict: Verdict,
    /// How many of the filter's instructions run.
    pub instructions: u32,
    /// Who answers.
    pub by: Answerer,
}

/// Who answers a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answerer {
    /// The filter runs.
    Filter,
    /// The kernel's bitmap of what is allowed whatever its arguments.
    Bitmap,
    /// Nobody is asked: no filter has a say about this call.
    Nobody,
}

/// What a kernel as of Linux 6.18 answers to a call under this filter alone.
///
/// # Errors
/// See [`SimulateError`]: the filter is none that the kernel would take.
pub fn ask(program: &Program, abi: Abi, number: u32, args: [u64; 6]) -> Result<Answer, SimulateError> {
    if bypasses_filters(abi, number) {
        return Ok(Answer { verdict: Verdict::Allow, instructions: 0, by: Answerer::Nobody });
    }
    if is_constant_allow(program, abi, number) {
        return Ok(Answer { verdict: Verdict::Allow, instructions: 0, by: Answerer::Bitmap });
    }
    let execution = execute(program, &SeccompData::call(abi, number, args))?;
    let (verdict, instructions) = (execution.verdict, execution.instructions);
    Ok(Answer { verdict, instructions, by: Answerer::Filter })
}

/// Whether the kernel carries the call out whatever any filter says: `seccomp_uprobe_exception`. `uretprobe` from
/// Linux 6.14 on, and in stable releases since 6.11 got the call; `uprobe` since it exists, 6.18.
#[must_use]
pub fn bypasses_filters(abi: Abi, number: u32) -> bool {
    abi == Abi::X86_64 && PROBES.contains(&number)
}

/// Whether the kernel finds, when it loads the filter, that the number is allowed whatever the arguments:
/// `seccomp_is_const_allow`. It follows the filter as long as that looks at the number and the architecture only, and
/// in the few instructions that libseccomp makes of a profile.
///
/// The bitmap has a bit for each number of the native table and of the 32-bit one; x32 is in neither.
#[must_use]
pub fn is_constant_allow(program: &Program, abi: Abi, number: u32) -> bool {
    abi != Abi::X32 && number <= *LAST && follow(program, abi, number) == Some(RET_ALLOW)
}

/// The constant that the filter returns; none if the kernel cannot tell.
fn follow(program: &Program, abi: Abi, number: u32) -> Option<u32> {
    let mut value = 0u32;
    let mut at = 0usize;
    // Jumps only go forward, so this ends.
    while let Some(instruction) = program.instructions.get(at) {
        let k = instruction.k;
        let branch = |taken: bool| usize::from(if taken { instruction.jt } else { instruction.jf });
        let mut jump = 0;
        match instruction.code {
            op::LD_W_ABS => match k {
                0 => value = abi.seccomp_number(number),
                4 => value = abi.audit_arch(),
                _ => return None,
            },
            op::AND => value &= k,
            op::RET_K => return Some(k),
            op::JA => jump = usize::try_from(k).ok()?,
            op::JEQ_K => jump = branch(value == k),
            op::JGT_K => jump = branch(value > k),
            op::JGE_K => jump = branch(value >= k),
            op::JSET_K => jump = branch(value & k != 0),
            _ => return None,
        }
        at = at.checked_add(1)?.checked_add(jump)?;
    }
    None
}
