//! The simulators: any program over any call ends, the prepared one says what the plain one does, and the kernel's
//! bitmap nothing that they do not.

use synth::{Instruction, Machine, Program, SeccompData, Verdict, execute, is_constant_allow};
use trace::Abi;

/// A call of 56 bytes and then instructions of eight.
pub fn filter(data: &[u8]) -> bool {
    let Some((call, code)) = data.split_at_checked(56) else { return false };
    let word = |at: usize| call.get(at * 8..at * 8 + 8)?.try_into().ok().map(u64::from_le_bytes);
    let args = [1, 2, 3, 4, 5, 6].map(|at| word(at).unwrap_or_default());
    let number = word(0).unwrap_or_default();
    let abi = Abi::ALL[(number >> 32) as usize % Abi::ALL.len()];
    let number = number as u32 & 0x3fff_ffff;
    let instructions: Vec<Instruction> = code
        .as_chunks::<8>()
        .0
        .iter()
        .map(|&[c0, c1, jt, jf, k0, k1, k2, k3]| Instruction {
            code: u16::from_le_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_le_bytes([k0, k1, k2, k3]),
        })
        .collect();
    let program = Program { instructions, unknown: Vec::new() };
    let data = SeccompData::call(abi, number, args);
    let execution = execute(&program, &data);
    if let Ok(machine) = Machine::new(&program) {
        assert_eq!(Ok(machine.run(&data)), execution);
    }
    if let Ok(execution) = &execution {
        assert!(execution.instructions as usize <= program.instructions.len());
        assert_eq!(execution.verdict, Verdict::from_ret(execution.ret));
        if is_constant_allow(&program, abi, number) {
            assert_eq!(execution.verdict, Verdict::Allow);
        }
    }
    true
}
