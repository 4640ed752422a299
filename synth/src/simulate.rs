//! The filter simulator: runs a compiled filter over any call, as the kernel's interpreter would.
//!
//! The accepted instructions are those of `seccomp_check_filter` (kernel/seccomp.c at v6.18) after
//! `bpf_check_classic` (net/core/filter.c): <https://github.com/torvalds/linux/blob/v6.18/kernel/seccomp.c>

use trace::Abi;

use crate::compile::{Instruction, Program};

/// The longest filter: `BPF_MAXINSNS`, `include/uapi/linux/bpf_common.h`.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// `BPF_MEMWORDS`, `include/uapi/linux/filter.h`.
pub(crate) const MEMORY_WORDS: usize = 16;

/// The size of `struct seccomp_data`.
pub(crate) const DATA_SIZE: u32 = 64;

/// What a filter sees of a call: `struct seccomp_data`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeccompData {
    /// The number, with the marker bit for x32.
    pub nr: i32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Where the call came from.
    pub instruction_pointer: u64,
    /// The six arguments, all 64 bits of each register.
    pub args: [u64; 6],
}

impl SeccompData {
    /// A call of this ABI by its plain number.
    #[must_use]
    pub const fn call(abi: Abi, number: u32, args: [u64; 6]) -> Self {
        Self {
            nr: abi.seccomp_number(number).cast_signed(),
            arch: abi.audit_arch(),
            instruction_pointer: 0,
            args,
        }
    }

    /// The aligned 32-bit word at a byte offset, little-endian as on every machine supported here.
    pub(crate) const fn word(&self, offset: u32) -> Option<u32> {
        const fn half(value: u64, high: bool) -> u32 {
            (if high { value >> 32 } else { value & 0xffff_ffff }) as u32
        }
        let [a0, a1, a2, a3, a4, a5] = self.args;
        let high = offset & 4 != 0;
        Some(match offset {
            0 => self.nr.cast_unsigned(),
            4 => self.arch,
            8 | 12 => half(self.instruction_pointer, high),
            16 | 20 => half(a0, high),
            24 | 28 => half(a1, high),
            32 | 36 => half(a2, high),
            40 | 44 => half(a3, high),
            48 | 52 => half(a4, high),
            56 | 60 => half(a5, high),
            _ => return None,
        })
    }
}

/// What a filter answers to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It is carried out.
    Allow,
    /// It is carried out, and logged.
    Log,
    /// It fails with this errno; 0 pretends success.
    Errno(u16),
    /// The thread ends.
    KillThread,
    /// The process ends.
    KillProcess,
    /// SIGSYS.
    Trap,
    /// A tracer is asked, with this datum.
    Trace(u16),
    /// A supervisor is asked.
    Notify,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Allow => f.write_str("allowed"),
            Self::Log => f.write_str("allowed and logged"),
            Self::Errno(0) => f.write_str("skipped, as if it had succeeded"),
            Self::Errno(number) => match trace::Errno::new(*number) {
                Some(errno) => errno.fmt(f),
                None => write!(f, "errno {number}"),
            },
            Self::KillThread => f.write_str("thread killed"),
            Self::KillProcess => f.write_str("process killed"),
            Self::Trap => f.write_str("SIGSYS"),
            Self::Trace(_) => f.write_str("handed to a tracer"),
            Self::Notify => f.write_str("handed to a listener"),
        }
    }
}

impl Verdict {
    /// What the kernel does for this return value; an action it does not know ends the process.
    #[must_use]
    pub const fn from_ret(ret: u32) -> Self {
        let data = (ret & 0xffff) as u16;
        match ret & 0xffff_0000 {
            0x7fff_0000 => Self::Allow,
            0x7ffc_0000 => Self::Log,
            // "Set low-order bits as an errno, capped at MAX_ERRNO."
            0x0005_0000 => Self::Errno(if data > 4095 { 4095 } else { data }),
            0x0000_0000 => Self::KillThread,
            0x0003_0000 => Self::Trap,
            0x7ff0_0000 => Self::Trace(data),
            0x7fc0_0000 => Self::Notify,
            _ => Self::KillProcess,
        }
    }

    /// Whether the call is carried out.
    #[must_use]
    pub const fn executes(self) -> bool {
        matches!(self, Self::Allow | Self::Log)
    }
}

/// A filter that the kernel would not take, or that left its own bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimulateError {
    /// No instructions, or more than the kernel takes.
    #[error("a filter has 1 to 4096 instructions, not {0}")]
    Length(usize),
    /// An instruction that seccomp does not have, or with an operand it does not take.
    #[error("instruction {at}: `{instruction:?}` is none that seccomp takes")]
    Instruction {
        /// Its place, from 0.
        at: usize,
        /// What stands there.
        instruction: Instruction,
    },
    /// A jump past the end, or an end that is no return.
    #[error("instruction {0}: the filter can run past its end")]
    Unending(usize),
}

/// One run of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execution {
    /// The answer.
    pub verdict: Verdict,
    /// The raw return value.
    pub ret: u32,
    /// How many instructions ran.
    pub instructions: u32,
}

/// Runs the filter over one call.
///
/// # Errors
/// See [`SimulateError`]: the filter is none that the kernel would take.
pub fn simulate(program: &Program, data: &SeccompData) -> Result<Verdict, SimulateError> {
    execute(program, data).map(|execution| execution.verdict)
}

/// Runs the filter over one call, and says how.
///
/// # Errors
/// As [`simulate`].
pub fn execute(program: &Program, data: &SeccompData) -> Result<Execution, SimulateError> {
    let code = program.instructions.as_slice();
    if code.is_empty() || code.len() > MAX_INSTRUCTIONS {
        return Err(SimulateError::Length(code.len()));
    }
    resume(code, data, Point::default())
}

/// A place inside a filter that was reached without the index register and the memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Point {
    /// The next instruction.
    pub(crate) at: usize,
    /// The accumulator.
    pub(crate) a: u32,
    /// How many instructions ran before.
    pub(crate) ran: u32,
}

/// Runs the filter over one call, from a place that the call reaches.
pub(crate) fn resume(
    code: &[Instruction],
    data: &SeccompData,
    from: Point,
) -> Result<Execution, SimulateError> {
    let Point { mut at, mut a, ran } = from;
    let mut x = 0u32;
    let mut memory = [0u32; MEMORY_WORDS];
    // Jumps only go forward, so no instruction runs twice.
    for count in ran.saturating_add(1)..=MAX_INSTRUCTIONS as u32 {
        let instruction = *code.get(at).ok_or(SimulateError::Unending(at))?;
        let Instruction { code: operation, jt, jf, k } = instruction;
        let wrong = SimulateError::Instruction { at, instruction };
        let slot = |index: u32| usize::try_from(index).ok().filter(|index| *index < MEMORY_WORDS);
        let mut jump = 0usize;
        let branch = |taken: bool| usize::from(if taken { jt } else { jf });
        let end = |ret: u32| Execution { verdict: Verdict::from_ret(ret), ret, instructions: count };
        match operation {
            op::LD_W_ABS => a = data.word(k).ok_or(wrong)?,
            op::LD_W_LEN => a = DATA_SIZE,
            op::LDX_W_LEN => x = DATA_SIZE,
            op::LD_IMM => a = k,
            op::LDX_IMM => x = k,
            op::LD_MEM => a = slot(k).and_then(|slot| memory.get(slot)).copied().ok_or(wrong)?,
            op::LDX_MEM => x = slot(k).and_then(|slot| memory.get(slot)).copied().ok_or(wrong)?,
            op::ST => *slot(k).and_then(|slot| memory.get_mut(slot)).ok_or(wrong)? = a,
            op::STX => *slot(k).and_then(|slot| memory.get_mut(slot)).ok_or(wrong)? = x,
            op::TAX => x = a,
            op::TXA => a = x,
            op::NEG => a = a.wrapping_neg(),
            op::RET_K => return Ok(end(k)),
            op::RET_A => return Ok(end(a)),
            op::JA => jump = usize::try_from(k).map_err(|_| wrong)?,
            op::JEQ_K => jump = branch(a == k),
            op::JEQ_X => jump = branch(a == x),
            op::JGT_K => jump = branch(a > k),
            op::JGT_X => jump = branch(a > x),
            op::JGE_K => jump = branch(a >= k),
            op::JGE_X => jump = branch(a >= x),
            op::JSET_K => jump = branch(a & k != 0),
            op::JSET_X => jump = branch(a & x != 0),
            _ if operation & op::CLASS == op::ALU => {
                let from_x = operation & op::SOURCE_X != 0;
                let operand = if from_x { x } else { k };
                a = match operation & !op::SOURCE_X {
                    op::ADD => a.wrapping_add(operand),
                    op::SUB => a.wrapping_sub(operand),
                    op::MUL => a.wrapping_mul(operand),
                    op::AND => a & operand,
                    op::OR => a | operand,
                    op::XOR => a ^ operand,
                    // A constant shift of 32 or more is refused when the filter is loaded; one from X is
                    // taken modulo 32, as eBPF's 32-bit shifts are.
                    op::LSH if from_x || k < 32 => a.wrapping_shl(operand),
                    op::RSH if from_x || k < 32 => a.wrapping_shr(operand),
                    op::DIV => match a.checked_div(operand) {
                        Some(quotient) => quotient,
                        // Dividing by a zero X ends the filter with 0 (`bpf_convert_filter`).
                        None if from_x => return Ok(end(0)),
                        None => return Err(wrong),
                    },
                    _ => return Err(wrong),
                };
            }
            _ => return Err(wrong),
        }
        at = at.saturating_add(1).saturating_add(jump);
    }
    Err(SimulateError::Unending(at))
}

/// The instructions that seccomp takes: `include/uapi/linux/bpf_common.h` and `filter.h`.
pub(crate) mod op {
    pub(crate) const CLASS: u16 = 0x07;
    pub(crate) const ALU: u16 = 0x04;
    pub(crate) const JMP: u16 = 0x05;
    pub(crate) const SOURCE_X: u16 = 0x08;
    pub(crate) const LD_IMM: u16 = 0x00;
    pub(crate) const LD_W_ABS: u16 = 0x20;
    pub(crate) const LD_MEM: u16 = 0x60;
    pub(crate) const LD_W_LEN: u16 = 0x80;
    pub(crate) const LDX_IMM: u16 = 0x01;
    pub(crate) const LDX_MEM: u16 = 0x61;
    pub(crate) const LDX_W_LEN: u16 = 0x81;
    pub(crate) const ST: u16 = 0x02;
    pub(crate) const STX: u16 = 0x03;
    pub(crate) const ADD: u16 = 0x04;
    pub(crate) const SUB: u16 = 0x14;
    pub(crate) const MUL: u16 = 0x24;
    pub(crate) const DIV: u16 = 0x34;
    pub(crate) const OR: u16 = 0x44;
    pub(crate) const AND: u16 = 0x54;
    pub(crate) const LSH: u16 = 0x64;
    pub(crate) const RSH: u16 = 0x74;
    pub(crate) const NEG: u16 = 0x84;
    pub(crate) const XOR: u16 = 0xa4;
    pub(crate) const JA: u16 = 0x05;
    pub(crate) const JEQ_K: u16 = 0x15;
    pub(crate) const JEQ_X: u16 = 0x1d;
    pub(crate) const JGT_K: u16 = 0x25;
    pub(crate) const JGT_X: u16 = 0x2d;
    pub(crate) const JGE_K: u16 = 0x35;
    pub(crate) const JGE_X: u16 = 0x3d;
    pub(crate) const JSET_K: u16 = 0x45;
    pub(crate) const JSET_X: u16 = 0x4d;
    pub(crate) const RET_K: u16 = 0x06;
    pub(crate) const RET_A: u16 = 0x16;
    pub(crate) const TAX: u16 = 0x07;
    pub(crate) const TXA: u16 = 0x87;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(code: &[(u16, u8, u8, u32)], data: &SeccompData) -> Result<Execution, SimulateError> {
        let instructions = code.iter().map(|&(code, jt, jf, k)| Instruction { code, jt, jf, k }).collect();
        execute(&Program { instructions, unknown: Vec::new() }, data)
    }

    /// A filter that computes something into A and returns it; the data are made of the word's place.
    fn computes(code: &[(u16, u8, u8, u32)], expected: u32) {
        let args = [0x1111_1111_2222_2222, 0x3333_3333_4444_4444, 5, 6, 7, 0x8888_8888_9999_9999];
        let data =
            SeccompData { nr: -2, arch: 0xc000_003e, instruction_pointer: 0xaaaa_aaaa_bbbb_bbbb, args };
        let mut code = code.to_vec();
        code.push((op::RET_A, 0, 0, 0));
        assert_eq!(run(&code, &data).unwrap().ret, expected, "{code:?}");
    }

    #[test]
    fn every_instruction_does_what_the_kernel_says() {
        for (offset, word) in
            [(0, 0xffff_fffe), (4, 0xc000_003e), (8, 0xbbbb_bbbb), (12, 0xaaaa_aaaa), (16, 0x2222_2222)]
        {
            computes(&[(op::LD_W_ABS, 0, 0, offset)], word);
        }
        for (offset, word) in [(20, 0x1111_1111), (24, 0x4444_4444), (28, 0x3333_3333), (60, 0x8888_8888)] {
            computes(&[(op::LD_W_ABS, 0, 0, offset)], word);
        }
        computes(&[(op::LD_W_LEN, 0, 0, 0)], 64);
        computes(&[(op::LDX_W_LEN, 0, 0, 0), (op::TXA, 0, 0, 0)], 64);
        computes(
            &[(op::LD_IMM, 0, 0, 9), (op::ST, 0, 0, 15), (op::LD_IMM, 0, 0, 1), (op::LD_MEM, 0, 0, 15)],
            9,
        );
        computes(
            &[(op::LDX_IMM, 0, 0, 9), (op::STX, 0, 0, 0), (op::LDX_MEM, 0, 0, 0), (op::TXA, 0, 0, 0)],
            9,
        );
        computes(&[(op::LD_IMM, 0, 0, 5), (op::NEG, 0, 0, 0)], 5u32.wrapping_neg());
        for (operation, left, right, expected) in [
            (op::ADD, u32::MAX, 2, 1),
            (op::SUB, 1, 2, u32::MAX),
            (op::MUL, 0x8000_0001, 2, 2),
            (op::DIV, 7, 2, 3),
            (op::AND, 6, 3, 2),
            (op::OR, 6, 3, 7),
            (op::XOR, 6, 3, 5),
            (op::LSH, 1, 31, 0x8000_0000),
            (op::RSH, 0x8000_0000, 31, 1),
        ] {
            computes(&[(op::LD_IMM, 0, 0, left), (operation, 0, 0, right)], expected);
            let with_x =
                [(op::LDX_IMM, 0, 0, right), (op::LD_IMM, 0, 0, left), (operation | op::SOURCE_X, 0, 0, 0)];
            computes(&with_x, expected);
        }
        // Division by a zero X ends the filter, with 0.
        computes(&[(op::LD_IMM, 0, 0, 7), (op::DIV | op::SOURCE_X, 0, 0, 0), (op::LD_IMM, 0, 0, 1)], 0);
        for (operation, a, k, taken) in [
            (op::JEQ_K, 3, 3, true),
            (op::JEQ_K, 3, 4, false),
            (op::JGT_K, 3, 3, false),
            (op::JGT_K, 4, 3, true),
            (op::JGE_K, 3, 3, true),
            (op::JGE_K, 2, 3, false),
            (op::JSET_K, 6, 3, true),
            (op::JSET_K, 4, 3, false),
        ] {
            let by_k =
                [(op::LD_IMM, 0, 0, a), (operation, 0, 1, k), (op::RET_K, 0, 0, 11), (op::LD_IMM, 0, 0, 12)];
            computes(&by_k, if taken { 11 } else { 12 });
            let by_x = [
                (op::LD_IMM, 0, 0, a),
                (op::LDX_IMM, 0, 0, k),
                (operation | op::SOURCE_X, 0, 1, 0),
                (op::RET_K, 0, 0, 11),
                (op::LD_IMM, 0, 0, 12),
            ];
            computes(&by_x, if taken { 11 } else { 12 });
        }
        computes(&[(op::JA, 0, 0, 1), (op::RET_K, 0, 0, 1), (op::LD_IMM, 0, 0, 2)], 2);
    }

    #[test]
    fn a_filter_that_the_kernel_refuses_is_refused() {
        let data = SeccompData::default();
        assert_eq!(run(&[], &data), Err(SimulateError::Length(0)));
        assert_eq!(run(&[(op::LD_IMM, 0, 0, 0); 4097], &data), Err(SimulateError::Length(4097)));
        for bad in [
            (op::LD_W_ABS, 0, 0, 2),
            (op::LD_W_ABS, 0, 0, 64),
            (0x28, 0, 0, 0),
            (0x30, 0, 0, 0),
            (0x94, 0, 0, 2),
            (op::DIV, 0, 0, 0),
            (op::LSH, 0, 0, 32),
            (op::ST, 0, 0, 16),
            (op::LD_MEM, 0, 0, 16),
        ] {
            let got = run(&[bad, (op::RET_K, 0, 0, 0)], &data);
            assert!(matches!(got, Err(SimulateError::Instruction { at: 0, .. })), "{bad:?}: {got:?}");
        }
        assert_eq!(
            run(&[(op::JA, 0, 0, u32::MAX)], &data),
            Err(SimulateError::Unending(1 + u32::MAX as usize))
        );
        assert_eq!(run(&[(op::LD_IMM, 0, 0, 0)], &data), Err(SimulateError::Unending(1)));
    }

    #[test]
    fn return_values_mean_what_the_kernel_makes_of_them() {
        for (ret, verdict) in [
            (0x7fff_0000, Verdict::Allow),
            (0x7fff_1234, Verdict::Allow),
            (0x7ffc_0000, Verdict::Log),
            (0x0005_0001, Verdict::Errno(1)),
            (0x0005_0000, Verdict::Errno(0)),
            (0x0005_ffff, Verdict::Errno(4095)),
            (0x0000_0000, Verdict::KillThread),
            (0x8000_0000, Verdict::KillProcess),
            (0x0003_0007, Verdict::Trap),
            (0x7ff0_0007, Verdict::Trace(7)),
            (0x7fc0_0000, Verdict::Notify),
            (0x1234_0000, Verdict::KillProcess),
        ] {
            assert_eq!(Verdict::from_ret(ret), verdict, "{ret:#x}");
        }
    }
}
