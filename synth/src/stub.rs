//! runc's stub: what it puts in front of the filter so that calls newer than the profile fail with `ENOSYS`.
//!
//! For each architecture that the profile lists, a number above the highest that the profile names there, whatever
//! it says about it, is answered before the filter runs. crun and youki have no such stub.
//! <https://github.com/opencontainers/runc/blob/v1.1.5/libcontainer/seccomp/patchbpf/enosys_linux.go>

use std::collections::BTreeMap;

use trace::Abi;

use crate::compile::Instruction;

/// `SECCOMP_RET_ERRNO` with `ENOSYS`.
const RET_ENOSYS: u32 = 0x0005_0026;

/// The bit that marks an x32 call.
const X32_BIT: u32 = 0x4000_0000;

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Where a jump leads.
#[derive(Clone, Copy)]
enum To {
    /// To the next instruction.
    Next,
    /// Over this many.
    Over(usize),
    /// To the answer.
    Enosys,
    /// To the filter.
    Filter,
    /// To the section of this number.
    Section(usize),
}

/// An instruction whose jumps have no distance yet.
struct Line {
    code: u16,
    k: u32,
    taken: To,
    otherwise: To,
}

const fn load(offset: u32) -> Line {
    Line { code: LOAD, k: offset, taken: To::Next, otherwise: To::Next }
}

const fn jump(to: To) -> Line {
    Line { code: JUMP, k: 0, taken: to, otherwise: To::Next }
}

const fn compare(code: u16, k: u32, taken: To, otherwise: To) -> Line {
    Line { code, k, taken, otherwise }
}

/// The instructions that go in front of a filter, by the highest number, as seccomp sees it, that the profile names
/// in each of its ABIs.
pub(crate) fn stub(highest: &BTreeMap<Abi, u32>) -> Vec<Instruction> {
    let mut machines: BTreeMap<u32, (Option<u32>, Option<u32>)> = BTreeMap::new();
    for (abi, last) in highest {
        let (plain, x32) = machines.entry(abi.audit_arch()).or_default();
        *if *abi == Abi::X32 { x32 } else { plain } = Some(*last);
    }
    let sections: Vec<Vec<Line>> =
        machines.iter().map(|(arch, (plain, x32))| section(*arch, *plain, *x32)).collect();
    let mut lines = vec![load(4)];
    for (number, arch) in machines.keys().enumerate() {
        lines.push(compare(JUMP_EQUAL, *arch, To::Section(number), To::Next));
    }
    lines.push(jump(To::Filter));
    let mut starts = Vec::new();
    for section in sections {
        starts.push(lines.len());
        lines.extend(section);
    }
    lines.push(Line { code: RETURN, k: RET_ENOSYS, taken: To::Next, otherwise: To::Next });
    let end = lines.len();
    let distance = |from: usize, to: To| {
        let target = match to {
            To::Next => from + 1,
            To::Over(lines) => from + 1 + lines,
            To::Enosys => end - 1,
            To::Filter => end,
            To::Section(number) => starts.get(number).copied().unwrap_or(end),
        };
        target - from - 1
    };
    let instruction = |(at, line): (usize, &Line)| {
        let (taken, otherwise) = (distance(at, line.taken), distance(at, line.otherwise));
        // At most five ABIs with six lines each: no jump is longer than a byte.
        let byte = |distance: usize| u8::try_from(distance).unwrap_or(u8::MAX);
        match line.code {
            JUMP => Instruction { code: JUMP, jt: 0, jf: 0, k: u32::from(byte(taken)) },
            code => Instruction { code, jt: byte(taken), jf: byte(otherwise), k: line.k },
        }
    };
    lines.iter().enumerate().map(instruction).collect()
}

/// What is done for one value of `seccomp_data.arch`, of which x86-64 has two ABIs.
fn section(arch: u32, plain: Option<u32>, x32: Option<u32>) -> Vec<Line> {
    let above = |last, otherwise| compare(JUMP_GREATER, last, To::Enosys, otherwise);
    let mut lines = vec![load(0)];
    match (plain, x32) {
        (Some(plain), Some(x32)) => {
            lines.push(compare(JUMP_SET, X32_BIT, To::Over(1), To::Next));
            lines.push(above(plain, To::Over(1)));
            lines.push(above(x32, To::Next));
        }
        (Some(plain), None) => {
            if arch == Abi::X86_64.audit_arch() {
                lines.push(compare(JUMP_SET, X32_BIT, To::Over(1), To::Next));
            }
            lines.push(above(plain, To::Next));
        }
        (None, Some(x32)) => {
            lines.push(compare(JUMP_SET, X32_BIT, To::Next, To::Over(1)));
            lines.push(above(x32, To::Next));
        }
        (None, None) => {}
    }
    lines.push(jump(To::Filter));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Program, SeccompData, Verdict, execute};

    /// The stub in front of a filter that allows everything.
    fn run(highest: &[(Abi, u32)], abi: Abi, number: u32) -> (Verdict, u32) {
        let mut instructions = stub(&highest.iter().copied().collect());
        instructions.push(Instruction { code: RETURN, jt: 0, jf: 0, k: 0x7fff_0000 });
        let program = Program { instructions, unknown: Vec::new() };
        let execution = execute(&program, &SeccompData::call(abi, number, [0; 6])).unwrap();
        (execution.verdict, execution.instructions)
    }

    #[test]
    fn numbers_above_the_highest_of_their_abi_are_unknown() {
        let all = [
            (Abi::X86_64, 300),
            (Abi::I386, 200),
            (Abi::X32, 0x4000_0000 + 400),
            (Abi::Aarch64, 100),
            (Abi::Arm, 50),
        ];
        for (abi, last) in all {
            let last = last & !X32_BIT;
            for (number, expected) in
                [(0, Verdict::Allow), (last, Verdict::Allow), (last + 1, Verdict::Errno(38))]
            {
                assert_eq!(run(&all, abi, number).0, expected, "{abi} {number}");
                // With this ABI alone, others are left to the filter.
                let alone = [(abi, abi.seccomp_number(last))];
                assert_eq!(run(&alone, abi, number).0, expected, "{abi} {number}");
                for other in Abi::ALL.into_iter().filter(|other| *other != abi) {
                    assert_eq!(run(&alone, other, 1000).0, Verdict::Allow, "{abi} {other}");
                }
            }
        }
        assert_eq!(run(&[], Abi::X86_64, 1000).0, Verdict::Allow);
    }

    #[test]
    fn the_price_of_a_call_is_runcs() {
        // Loads the architecture, finds it, loads the number, compares it (once more where x32 shares the
        // architecture), jumps to the filter, which is one instruction here.
        assert_eq!(run(&[(Abi::Aarch64, 100)], Abi::Aarch64, 5), (Verdict::Allow, 6));
        assert_eq!(run(&[(Abi::X86_64, 100)], Abi::X86_64, 5), (Verdict::Allow, 7));
        assert_eq!(run(&[(Abi::X86_64, 100)], Abi::X86_64, 500), (Verdict::Errno(38), 6));
    }
}
