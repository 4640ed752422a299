//! A filter that was checked once and is asked often.
//!
//! Up to the first look at an argument a filter goes by the architecture and the number alone. So that part is run
//! once for each range of numbers that it treats alike, when the machine is made; a call then begins where it ends.
//! What is counted is what the kernel's interpreter runs, all the same.

use trace::Abi;

use crate::{
    compile::{Instruction, Program},
    simulate::{
        DATA_SIZE, Execution, MAX_INSTRUCTIONS, MEMORY_WORDS, Point, SeccompData, SimulateError, Verdict, op,
        resume,
    },
};

/// A filter, ready to be asked about any number of calls.
#[derive(Clone, Debug)]
pub struct Machine {
    code: Vec<Instruction>,
    /// By architecture, the numbers in order: where each range begins, and what is done with it.
    tables: Vec<(u32, Vec<(u32, Prefix)>)>,
}

/// How far a filter comes by the architecture and the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefix {
    /// It answers.
    Answer(Execution),
    /// It looks at something else.
    Looks { at: usize, a: Loaded, ran: u32 },
}

/// What stands in the accumulator as long as only the architecture and the number were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loaded {
    This(u32),
    /// The bits of the number in the mask.
    Number(u32),
}

impl Machine {
    /// Checks a filter as the kernel does when it is loaded, and prepares it.
    ///
    /// # Errors
    /// See [`SimulateError`]: the filter is none that the kernel would take.
    pub fn new(program: &Program) -> Result<Self, SimulateError> {
        let code = program.instructions.clone();
        check(&code)?;
        let mut architectures: Vec<u32> = Abi::ALL.into_iter().map(Abi::audit_arch).collect();
        architectures.dedup();
        architectures.retain(|arch| code.iter().any(|instruction| instruction.k == *arch));
        let tables = architectures.into_iter().filter_map(|arch| Some((arch, ranges(&code, arch)?)));
        let tables = tables.collect();
        Ok(Self { code, tables })
    }

    /// The instructions.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.code
    }

    /// Runs the filter over one call.
    #[must_use]
    pub fn run(&self, data: &SeccompData) -> Execution {
        match self.start(data.arch, data.nr.cast_unsigned()) {
            Start::Answer(execution) => execution,
            // A checked filter comes to an end.
            Start::At(point) => resume(&self.code, data, point).unwrap_or(Execution {
                verdict: Verdict::KillProcess,
                ret: 0x8000_0000,
                instructions: 0,
            }),
        }
    }

    /// Where a call begins.
    pub(crate) fn start(&self, arch: u32, number: u32) -> Start {
        let Some((_, ranges)) = self.tables.iter().find(|(own, _)| *own == arch) else {
            return Start::At(Point::default());
        };
        let after = ranges.partition_point(|(first, _)| *first <= number);
        match after.checked_sub(1).and_then(|at| ranges.get(at)) {
            Some((_, Prefix::Answer(execution))) => Start::Answer(*execution),
            Some((_, Prefix::Looks { at, a, ran })) => {
                let a = match a {
                    Loaded::This(value) => *value,
                    Loaded::Number(mask) => number & mask,
                };
                Start::At(Point { at: *at, a, ran: *ran })
            }
            None => Start::At(Point::default()),
        }
    }
}

/// Where a call begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// At its end: the arguments do not matter.
    Answer(Execution),
    /// Here.
    At(Point),
}

/// Numbers that came to the same place.
#[derive(Clone, Copy, Debug)]
struct Walk {
    first: u32,
    last: u32,
    at: usize,
    a: Loaded,
    ran: u32,
}

/// What a filter does with every number of an architecture; none if it tells too many apart.
fn ranges(code: &[Instruction], arch: u32) -> Option<Vec<(u32, Prefix)>> {
    // Each comparison with a number divides a range into three at most.
    let most = code.len().saturating_mul(2).saturating_add(64);
    let mut ended: usize = 0;
    let mut ranges: Vec<(u32, Prefix)> = Vec::new();
    // The lowest numbers are on top.
    let mut open = vec![Walk { first: 0, last: u32::MAX, at: 0, a: Loaded::This(0), ran: 0 }];
    while let Some(walk) = open.pop() {
        match advance(code, arch, walk)? {
            Step::On(next) => open.push(next),
            Step::Parts(parts) => open.extend(parts.into_iter().rev()),
            Step::End(prefix) => {
                ended = ended.saturating_add(1);
                if ranges.last().is_none_or(|(_, own)| *own != prefix) {
                    ranges.push((walk.first, prefix));
                }
            }
        }
        if ended.saturating_add(open.len()) > most {
            return None;
        }
    }
    Some(ranges)
}

enum Step {
    On(Walk),
    /// The same place for parts of the numbers, in order.
    Parts(Vec<Walk>),
    End(Prefix),
}

/// One instruction.
fn advance(code: &[Instruction], arch: u32, walk: Walk) -> Option<Step> {
    let Walk { first, last, at, a, ran } = walk;
    let Instruction { code: operation, jt, jf, k } = *code.get(at)?;
    let to = |jump: usize, a: Loaded| {
        Some(Step::On(Walk {
            at: at.checked_add(1)?.checked_add(jump)?,
            a,
            ran: ran.checked_add(1)?,
            ..walk
        }))
    };
    let looks = Some(Step::End(Prefix::Looks { at, a, ran }));
    match operation {
        op::LD_W_ABS if k == 0 => to(0, Loaded::Number(u32::MAX)),
        op::LD_W_ABS if k == 4 => to(0, Loaded::This(arch)),
        op::AND => to(
            0,
            match a {
                Loaded::This(value) => Loaded::This(value & k),
                Loaded::Number(mask) => Loaded::Number(mask & k),
            },
        ),
        op::JA => to(usize::try_from(k).ok()?, a),
        op::RET_K => Some(Step::End(Prefix::Answer(Execution {
            verdict: Verdict::from_ret(k),
            ret: k,
            instructions: ran.checked_add(1)?,
        }))),
        op::JEQ_K | op::JGT_K | op::JGE_K | op::JSET_K => {
            let holds = |value: u32| match operation {
                op::JEQ_K => value == k,
                op::JGT_K => value > k,
                op::JGE_K => value >= k,
                _ => value & k != 0,
            };
            let branch = |holds: bool| usize::from(if holds { jt } else { jf });
            let mask = match a {
                Loaded::This(value) => return to(branch(holds(value)), a),
                Loaded::Number(mask) => mask,
            };
            if first == last {
                return to(branch(holds(first & mask)), a);
            }
            let parts = |borders: &[u32]| {
                let mut parts = Vec::new();
                let mut begin = first;
                for border in borders.iter().filter(|border| (first..last).contains(*border)) {
                    parts.push(Walk { first: begin, last: *border, ..walk });
                    begin = border.saturating_add(1);
                }
                parts.push(Walk { first: begin, last, ..walk });
                Some(Step::Parts(parts))
            };
            // Borders are the last numbers of a part.
            let borders: &[u32] = match (operation, mask, k.checked_sub(1)) {
                (op::JGT_K, u32::MAX, _) => &[k],
                (op::JEQ_K, u32::MAX, Some(before)) => &[before, k],
                (op::JEQ_K, u32::MAX, None) => &[k],
                (op::JGE_K, u32::MAX, Some(before)) => &[before],
                (op::JGE_K, u32::MAX, None) => &[],
                _ => {
                    // By bits: those in which the numbers differ may be anything.
                    let free = u32::MAX.checked_shr((first ^ last).leading_zeros()).unwrap_or(0);
                    let bits = if operation == op::JSET_K { mask & k } else { mask };
                    if free & bits == 0 {
                        return to(branch(holds(first & mask)), a);
                    }
                    let same = bits & !free;
                    if operation == op::JSET_K && first & same != 0 {
                        return to(branch(true), a);
                    }
                    if operation == op::JEQ_K && (k & !mask != 0 || (first ^ k) & same != 0) {
                        return to(branch(false), a);
                    }
                    let middle = first | free >> 1;
                    return parts(&[middle]);
                }
            };
            if borders.iter().any(|border| (first..last).contains(border)) {
                return parts(borders);
            }
            to(branch(holds(first)), a)
        }
        _ => looks,
    }
}

/// What `bpf_check_classic` and `seccomp_check_filter` ask of a filter.
fn check(code: &[Instruction]) -> Result<(), SimulateError> {
    if code.is_empty() || code.len() > MAX_INSTRUCTIONS {
        return Err(SimulateError::Length(code.len()));
    }
    // For each instruction, the places of the memory that are written on every way there.
    let mut written = vec![u16::MAX; code.len()];
    let mut own = 0u16;
    for (at, instruction) in code.iter().enumerate() {
        let Instruction { code: operation, jt, jf, k } = *instruction;
        let wrong = SimulateError::Instruction { at, instruction: *instruction };
        own &= written.get(at).copied().unwrap_or(0);
        let slot = || {
            let slot = usize::try_from(k).ok().filter(|slot| *slot < MEMORY_WORDS);
            slot.map(|slot| 1u16 << slot).ok_or(wrong.clone())
        };
        let mut reach = |jump: usize, own: u16| {
            let target = at.saturating_add(1).saturating_add(jump);
            let place = written.get_mut(target).ok_or(SimulateError::Unending(at))?;
            *place &= own;
            Ok(())
        };
        match operation {
            op::LD_W_ABS if k % 4 == 0 && k < DATA_SIZE => {}
            op::ST | op::STX => own |= slot()?,
            op::LD_MEM | op::LDX_MEM if own & slot()? != 0 => {}
            op::LD_W_LEN | op::LDX_W_LEN | op::LD_IMM | op::LDX_IMM | op::TAX | op::TXA | op::NEG => {}
            op::RET_K | op::RET_A => continue,
            op::JA => {
                reach(usize::try_from(k).map_err(|_| wrong)?, own)?;
                own = u16::MAX;
                continue;
            }
            op::JEQ_K
            | op::JEQ_X
            | op::JGT_K
            | op::JGT_X
            | op::JGE_K
            | op::JGE_X
            | op::JSET_K
            | op::JSET_X => {
                reach(usize::from(jt), own)?;
                reach(usize::from(jf), own)?;
                own = u16::MAX;
                continue;
            }
            _ if operation & op::CLASS == op::ALU => {
                let from_x = operation & op::SOURCE_X != 0;
                match operation & !op::SOURCE_X {
                    op::ADD | op::SUB | op::MUL | op::AND | op::OR | op::XOR => {}
                    op::LSH | op::RSH if from_x || k < 32 => {}
                    op::DIV if from_x || k != 0 => {}
                    _ => return Err(wrong),
                }
            }
            _ => return Err(wrong),
        }
        reach(0, own)?;
    }
    Ok(())
}
