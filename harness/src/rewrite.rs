//! Rewriting a compiled program so that what it refuses is handed to a listener instead.
//!
//! Only the compiled program is touched: a profile with other actions would be compiled to another program.

use synth::{Program, Verdict};
use trace::Abi;

/// `BPF_RET | BPF_K` and `BPF_RET | BPF_A`.
const RETURN: u16 = 0x06;
const RETURN_COMPUTED: u16 = 0x16;
/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K` and `BPF_JMP | BPF_JSET | BPF_K`.
const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_SET: u16 = 0x45;
/// `SECCOMP_RET_USER_NOTIF`.
const NOTIFY: u32 = 0x7fc0_0000;
/// `SECCOMP_SET_MODE_FILTER` and `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
const SET_MODE_FILTER: u32 = 1;
const NEW_LISTENER: u32 = 8;
/// `BPF_MAXINSNS`.
const LONGEST: usize = 4096;

/// The instructions as they are, for the kernel.
pub(crate) fn plain(program: &Program) -> Vec<confine::Instruction> {
    program.instructions.iter().map(|one| instruction(one.code, one.jt, one.jf, one.k)).collect()
}

/// The instructions with every refusal turned into a notification; none if the program computes its answers,
/// which libseccomp's never do.
pub(crate) fn notifying(program: &Program, native: Abi) -> Option<Vec<confine::Instruction>> {
    let mut rewritten = plain(program);
    for one in &mut rewritten {
        match one.code {
            RETURN_COMPUTED => return None,
            RETURN if !Verdict::from_ret(one.k).executes() => one.k = NOTIFY,
            _ => {}
        }
    }
    let own_listener = own_listener(native);
    // Without room for it, the workload's own attempt is refused without a remark.
    if own_listener.len() + rewritten.len() <= LONGEST {
        rewritten.splice(0..0, own_listener);
    }
    Some(rewritten)
}

/// Notifies when the workload asks for a listener of its own, which the kernel will refuse; else falls through.
fn own_listener(native: Abi) -> Vec<confine::Instruction> {
    let Some(seccomp) = native.number("seccomp") else { return Vec::new() };
    // Offsets into struct seccomp_data: number 0, architecture 4, low halves of the first arguments 16 and 24.
    vec![
        instruction(LOAD, 0, 0, 4),
        instruction(JUMP_EQUAL, 0, 7, native.audit_arch()),
        instruction(LOAD, 0, 0, 0),
        instruction(JUMP_EQUAL, 0, 5, native.seccomp_number(seccomp)),
        instruction(LOAD, 0, 0, 16),
        instruction(JUMP_EQUAL, 0, 3, SET_MODE_FILTER),
        instruction(LOAD, 0, 0, 24),
        instruction(JUMP_SET, 0, 1, NEW_LISTENER),
        instruction(RETURN, 0, 0, NOTIFY),
    ]
}

const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> confine::Instruction {
    confine::Instruction { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use synth::{CompileOptions, Profile, SeccompData, compile, simulate};

    use super::*;

    /// Whatever is asked: what the original carries out, the rewritten one does too, and what it refuses is
    /// notified.
    #[test]
    fn the_rewritten_program_differs_in_its_refusals_only() {
        for name in ["docker", "podman", "containerd"] {
            let profile =
                synth::reference(name).unwrap().resolve(&synth::Container::new(Abi::X86_64, (6, 18)));
            check(&profile);
        }
        let strict = br#"{"defaultAction":"SCMP_ACT_KILL_PROCESS","syscalls":[
            {"names":["read"],"action":"SCMP_ACT_ALLOW"},{"names":["write"],"action":"SCMP_ACT_LOG"},
            {"names":["open"],"action":"SCMP_ACT_TRAP"},{"names":["close"],"action":"SCMP_ACT_TRACE"},
            {"names":["stat"],"action":"SCMP_ACT_KILL"},{"names":["poll"],"action":"SCMP_ACT_ERRNO","errnoRet":13}]}"#;
        check(&Profile::read(strict).unwrap());
    }

    fn check(profile: &Profile) {
        let original = compile(profile, Abi::X86_64, CompileOptions::default()).unwrap();
        let rewritten = notifying(&original, Abi::X86_64).unwrap();
        let instructions = rewritten
            .iter()
            .map(|one| synth::Instruction { code: one.code, jt: one.jt, jf: one.jf, k: one.k })
            .collect();
        let rewritten = Program { instructions, unknown: Vec::new() };
        let mut asked = 0;
        for abi in [Abi::X86_64, Abi::I386, Abi::X32, Abi::Aarch64] {
            for number in 0..600 {
                for first in [0, 1, 2, 16, 0x7e02_0000, u64::MAX] {
                    let data = SeccompData::call(abi, number, [first, 1, 8, 8, 0, 0]);
                    let (before, after) = (simulate(&original, &data), simulate(&rewritten, &data));
                    let before = before.unwrap();
                    let expected = if before.executes() { before } else { Verdict::Notify };
                    assert_eq!(after.unwrap(), expected, "{abi} {number} {first:#x}");
                    asked += 1;
                }
            }
        }
        assert_eq!(asked, 4 * 600 * 6);
        // seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER | SPEC_ALLOW, …)
        for (flags, verdict) in [(8, Verdict::Notify), (12, Verdict::Notify)] {
            let data = SeccompData::call(Abi::X86_64, 317, [1, flags, 0, 0, 0, 0]);
            assert_eq!(simulate(&rewritten, &data).unwrap(), verdict);
        }
    }
}
