//! What a profile would answer, without loading it: for each call always the same, or depending on which bits of
//! which arguments.
//!
//! The compiled program is asked, not the profile: what runtimes make of a repeated argument, an unknown name or a
//! foreign ABI is in it. It is run with unknown arguments, both ways at each comparison of one, and the bits that are
//! compared are noted. Two calls that agree in those bits get the same answer.

use std::collections::BTreeSet;

use synth::{
    CompileOptions, Instruction, Profile, Program, SeccompData, Verdict, ask, bypasses_filters, compile,
};
use trace::Abi;

use crate::{HarnessError, remedy};

/// What a program answers to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is carried out, whatever its arguments.
    Allowed,
    /// It is refused, whatever its arguments, in this way.
    Refused(Verdict),
    /// It depends on these bits of its arguments.
    Depends([u64; 6]),
}

/// A profile, compiled as a runtime does it, that is asked about calls.
#[derive(Clone, Debug)]
pub struct Judge {
    profile: Profile,
    program: Program,
    native: Abi,
}

impl Judge {
    /// Above every number of every table.
    pub(crate) const NUMBERS: u32 = 1024;

    /// Compiles the profile for this machine.
    ///
    /// # Errors
    /// It cannot be compiled, or this machine is none that profiles are judged on.
    pub fn new(profile: Profile) -> Result<Self, HarnessError> {
        let machine = std::env::consts::ARCH;
        let native = Abi::native_of(machine).ok_or(HarnessError::Machine(machine))?;
        let program = compile(&profile, native, CompileOptions::default())?;
        Ok(Self { profile, program, native })
    }

    /// The same as this container runtime loads the profile: runc, by its name with or without a version, answers calls
    /// above the highest number that the profile names with ENOSYS.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn under(self, runtime: Option<&str>) -> Result<Self, HarnessError> {
        let is_runc = runtime.and_then(|runtime| runtime.split(' ').next()) == Some("runc");
        let options = CompileOptions::default().with_enosys_stub(is_runc);
        let program = compile(&self.profile, self.native, options)?;
        Ok(Self { program, ..self })
    }

    /// The profile that is asked.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// This machine's own ABI.
    pub(crate) const fn native(&self) -> Abi {
        self.native
    }

    /// The names that the profile allows and this host's libseccomp does not know: here they are refused.
    #[must_use]
    pub fn lost_names(&self) -> Vec<&str> {
        let allowed = self.profile.allowed();
        self.program.unknown.iter().map(String::as_str).filter(|name| allowed.contains(name)).collect()
    }

    /// What becomes of a call with these arguments.
    #[must_use]
    pub fn verdict(&self, abi: Abi, number: u32, arguments: [u64; 6]) -> Verdict {
        // The kernel would not take a program that cannot be followed.
        ask(&self.program, abi, number, arguments).map_or(Verdict::KillProcess, |answer| answer.verdict)
    }

    /// What becomes of a call, as far as that is the same for all its arguments.
    #[must_use]
    pub fn answer(&self, abi: Abi, number: u32) -> Answer {
        if bypasses_filters(abi, number) {
            return Answer::Allowed;
        }
        let Some(walk) = Walk::through(&self.program, &SeccompData::call(abi, number, [0; 6])) else {
            return Answer::Depends([u64::MAX; 6]);
        };
        if walk.verdicts.iter().all(|verdict| verdict.executes()) {
            return Answer::Allowed;
        }
        if !walk.verdicts.iter().any(|verdict| verdict.executes()) {
            return Answer::Refused(self.verdict(abi, number, [0; 6]));
        }
        Answer::Depends(walk.compared)
    }

    /// Every call whose answer depends on its arguments, with the bits that matter.
    #[must_use]
    pub fn dependent(&self) -> Vec<(Abi, u32, [u64; 6])> {
        let abis: &[Abi] = match self.native {
            Abi::Aarch64 => &[Abi::Aarch64, Abi::Arm],
            _ => &[Abi::X86_64, Abi::I386, Abi::X32],
        };
        let calls = abis.iter().flat_map(|abi| (0..Self::NUMBERS).map(|number| (*abi, number)));
        calls
            .filter_map(|(abi, number)| match self.answer(abi, number) {
                Answer::Depends(masks) => Some((abi, number, masks)),
                Answer::Allowed | Answer::Refused(_) => None,
            })
            .collect()
    }

    /// Whether the profile means ENOSYS when it says so for this call, so that programs take their way around it.
    #[must_use]
    pub fn is_explicit_enosys(&self, abi: Abi, number: u32, verdict: Verdict) -> bool {
        verdict == Verdict::Errno(trace::Errno::ENOSYS.number())
            && remedy::says_enosys(&self.profile, &abi.name(number).to_string())
    }

    /// The smallest rule that would allow a call, as OCI JSON on one line: with its arguments, where they are known.
    #[must_use]
    pub fn remedy(&self, abi: Abi, number: u32, arguments: Option<&[u64; 6]>) -> String {
        remedy::remedy(&self.profile, self.native, abi, &abi.name(number).to_string(), arguments)
    }

    /// The same in words: `socket when domain == AF_NETLINK`.
    #[must_use]
    pub fn rule(&self, abi: Abi, number: u32, arguments: Option<&[u64; 6]>) -> String {
        remedy::in_words(&self.profile, abi, &abi.name(number).to_string(), arguments)
    }
}

/// What the accumulator holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Known(u32),
    /// Half of an argument, some of its bits cleared.
    Argument {
        index: usize,
        high: bool,
        mask: u32,
    },
}

/// Everything that one call can meet in a program.
#[derive(Debug, Default)]
struct Walk {
    verdicts: BTreeSet<Verdict>,
    compared: [u64; 6],
}

/// The instructions of libseccomp's programs: `include/uapi/linux/bpf_common.h`.
const LOAD: u16 = 0x20;
const LOAD_IMMEDIATE: u16 = 0x00;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const JUMP_SET: u16 = 0x45;

impl Walk {
    /// None for a program that is not of libseccomp's form.
    fn through(program: &Program, call: &SeccompData) -> Option<Self> {
        let mut walk = Self::default();
        let mut seen = BTreeSet::new();
        let mut pending = vec![(0usize, Value::Known(0))];
        while let Some((at, value)) = pending.pop() {
            if !seen.insert((at, value)) {
                continue;
            }
            let Instruction { code, jt, jf, k } = *program.instructions.get(at)?;
            let next = at + 1;
            match code {
                LOAD => pending.push((next, load(call, k)?)),
                LOAD_IMMEDIATE => pending.push((next, Value::Known(k))),
                AND => pending.push((next, value.and(k))),
                RETURN => {
                    walk.verdicts.insert(Verdict::from_ret(k));
                }
                JUMP => pending.push((next + usize::try_from(k).ok()?, value)),
                JUMP_EQUAL | JUMP_GREATER | JUMP_GREATER_EQUAL | JUMP_SET => {
                    let (taken, not_taken) = walk.branch(code, value, k);
                    if taken {
                        pending.push((next + usize::from(jt), value));
                    }
                    if not_taken {
                        pending.push((next + usize::from(jf), value));
                    }
                }
                _ => return None,
            }
        }
        Some(walk)
    }

    /// Which ways a comparison can go; what it compares is noted.
    fn branch(&mut self, code: u16, value: Value, k: u32) -> (bool, bool) {
        let (index, high, mask) = match value {
            Value::Known(value) => {
                let taken = match code {
                    JUMP_EQUAL => value == k,
                    JUMP_GREATER => value > k,
                    JUMP_GREATER_EQUAL => value >= k,
                    _ => value & k != 0,
                };
                return (taken, !taken);
            }
            Value::Argument { index, high, mask } => (index, high, mask),
        };
        let bits = if code == JUMP_SET { mask & k } else { mask };
        // What was cleared cannot be set.
        if bits == 0 || (code == JUMP_EQUAL && k & !mask != 0) {
            return (false, true);
        }
        if let Some(compared) = self.compared.get_mut(index) {
            *compared |= u64::from(bits) << if high { 32 } else { 0 };
        }
        (true, true)
    }
}

impl Value {
    const fn and(self, k: u32) -> Self {
        match self {
            Self::Known(value) => Self::Known(value & k),
            Self::Argument { mask, .. } if mask & k == 0 => Self::Known(0),
            Self::Argument { index, high, mask } => Self::Argument { index, high, mask: mask & k },
        }
    }
}

/// A word of `struct seccomp_data`; none for the instruction pointer, which no profile can compare.
fn load(call: &SeccompData, offset: u32) -> Option<Value> {
    match offset {
        0 => Some(Value::Known(call.nr.cast_unsigned())),
        4 => Some(Value::Known(call.arch)),
        16..=60 if offset.is_multiple_of(4) => {
            let index = usize::try_from((offset - 16) / 8).ok()?;
            Some(Value::Argument { index, high: offset % 8 == 4, mask: u32::MAX })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(profile: &str) -> Judge {
        let profile = Profile::read(profile.as_bytes()).unwrap();
        let program = compile(&profile, Abi::X86_64, CompileOptions::default()).unwrap();
        Judge { profile, program, native: Abi::X86_64 }
    }

    const PROFILE: &str = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],"syscalls":[
        {"names":["read","write"],"action":"SCMP_ACT_ALLOW"},
        {"names":["getsid"],"action":"SCMP_ACT_LOG"},
        {"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38},
        {"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":4294967295,"valueTwo":2,"op":"SCMP_CMP_MASKED_EQ"}]},
        {"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"op":"SCMP_CMP_MASKED_EQ"}]},
        {"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]},
        {"names":["ioctl"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":4294967295,"valueTwo":21505,"op":"SCMP_CMP_MASKED_EQ"},{"index":2,"value":7,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]},
        {"names":["kill"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":15,"op":"SCMP_CMP_LE"}]},
        {"names":["fcntl"],"action":"SCMP_ACT_ALLOW"},
        {"names":["fcntl"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":3,"op":"SCMP_CMP_EQ"}]},
        {"names":["mprotect"],"action":"SCMP_ACT_ERRNO","errnoRet":13,"args":[{"index":2,"value":4,"valueTwo":4,"op":"SCMP_CMP_MASKED_EQ"}]},
        {"names":["prctl"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":15,"op":"SCMP_CMP_EQ"},{"index":0,"value":16,"op":"SCMP_CMP_EQ"}]}]}"#;

    #[test]
    fn a_call_is_allowed_refused_or_depends_on_the_bits_that_are_compared() {
        let judge = judge(PROFILE);
        let check = |name: &str, expected: Answer| {
            assert_eq!(judge.answer(Abi::X86_64, Abi::X86_64.number(name).unwrap()), expected, "{name}");
        };
        let bits = |index: usize, mask: u64| {
            let mut masks = [0; 6];
            masks[index] = mask;
            Answer::Depends(masks)
        };
        check("read", Answer::Allowed);
        check("getsid", Answer::Allowed);
        check("fcntl", Answer::Allowed);
        check("mkdir", Answer::Refused(Verdict::Errno(1)));
        check("clone3", Answer::Refused(Verdict::Errno(38)));
        check("socket", bits(0, 0xffff_ffff));
        check("clone", bits(0, 2_114_060_288));
        check("personality", bits(0, u64::MAX));
        check("ioctl", Answer::Depends([0, 0xffff_ffff, 7, 0, 0, 0]));
        check("kill", bits(1, u64::MAX));
        // Refused in one way or in another.
        check("mprotect", Answer::Refused(Verdict::Errno(1)));
        check("prctl", bits(0, u64::MAX));
        assert_eq!(judge.answer(Abi::X86_64, 999), Answer::Refused(Verdict::Errno(1)));
        // No filter is asked about the kernel's own probes.
        assert_eq!(judge.answer(Abi::X86_64, 335), Answer::Allowed);
        assert_eq!(judge.verdict(Abi::X86_64, 336, [0; 6]), Verdict::Allow);
        // The highest call that the profile names is clone3, 435: runc has an answer of its own above.
        for (runtime, errno) in
            [(Some("runc 1.1.5"), 38), (Some("runc"), 38), (Some("crun 1.8.1"), 1), (None, 1)]
        {
            let judge = judge.clone().under(runtime).unwrap();
            assert_eq!(judge.answer(Abi::X86_64, 437), Answer::Refused(Verdict::Errno(errno)), "{runtime:?}");
            assert_eq!(judge.answer(Abi::X86_64, 434), Answer::Refused(Verdict::Errno(1)), "{runtime:?}");
        }
        assert_eq!(judge.answer(Abi::I386, 3), Answer::Allowed);
        assert_eq!(judge.answer(Abi::Aarch64, 3), Answer::Refused(Verdict::KillThread));
        let dependent = judge.dependent();
        let named = |abi: Abi| {
            let calls = dependent.iter().filter(|(own, ..)| *own == abi);
            calls.map(|(abi, number, _)| abi.name(*number).to_string()).collect::<BTreeSet<_>>()
        };
        let expected = ["clone", "ioctl", "kill", "personality", "prctl", "socket"].map(str::to_owned);
        assert_eq!(named(Abi::X86_64), BTreeSet::from(expected));
        // No socket: there it is a call of socketcall, too, which libseccomp compares.
        assert!(named(Abi::I386).contains("clone") && named(Abi::X32).is_empty());
    }

    /// What is not compared does not matter, for any profile, call and argument.
    #[test]
    fn two_calls_that_agree_in_the_bits_get_the_same_answer() {
        let mut judges = vec![judge(PROFILE)];
        for name in ["docker", "podman", "containerd"] {
            let container = synth::Container::new(Abi::X86_64, (6, 18));
            judges.push(judge(&synth::reference(name).unwrap().resolve(&container).to_json()));
        }
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let (mut allowed, mut refused) = (0, 0);
        for judge in &judges {
            for (abi, number, masks) in judge.dependent() {
                let mut both = BTreeSet::new();
                for round in 0..2000u32 {
                    // Small values, values that the profile names, any value.
                    let arguments = [(); 6].map(|()| match (round % 3, next()) {
                        (0, value) => value % 64,
                        (1, value) => interesting(judge, value),
                        (_, value) => value,
                    });
                    let mut masked = arguments;
                    masked.iter_mut().zip(masks).for_each(|(argument, mask)| *argument &= mask);
                    let verdict = judge.verdict(abi, number, arguments);
                    assert_eq!(judge.verdict(abi, number, masked), verdict, "{abi} {number} {arguments:x?}");
                    both.insert(verdict.executes());
                }
                allowed += u32::from(both.contains(&true));
                refused += u32::from(both.contains(&false));
            }
            for number in 0..500 {
                let expected = match judge.answer(Abi::X86_64, number) {
                    Answer::Allowed => true,
                    Answer::Refused(_) => false,
                    Answer::Depends(_) => continue,
                };
                let arguments = [(); 6].map(|()| next());
                assert_eq!(judge.verdict(Abi::X86_64, number, arguments).executes(), expected, "{number}");
            }
        }
        assert!(allowed > 20 && refused > 20, "{allowed} {refused}: the samples do not reach both answers");
    }

    fn interesting(judge: &Judge, random: u64) -> u64 {
        let conditions: Vec<_> = judge.profile.syscalls.iter().flat_map(|entry| &entry.args).collect();
        let one = conditions[random as usize % conditions.len()];
        if random & (1 << 40) == 0 { one.value } else { one.value_two }
    }

    #[test]
    fn a_program_of_another_form_is_not_guessed_at() {
        let mut judge = judge(PROFILE);
        // A = ip; if A == 0 goto …
        judge.program.instructions.insert(0, Instruction { code: LOAD, jt: 0, jf: 0, k: 8 });
        assert_eq!(judge.answer(Abi::X86_64, 0), Answer::Depends([u64::MAX; 6]));
    }
}
