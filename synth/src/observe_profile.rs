//! The profile to record under where something must be loaded: it lets every call of every ABI pass.
//!
//! Pod Security `restricted` forbids Unconfined and allows Localhost; and where a runtime really loads a filter,
//! a recorder sees the moment exactly. A profile without a rule may be left out as empty by an engine, so this
//! one has a rule, which changes nothing: the kernel answers that call with ENOSYS anyway.

use trace::{Abi, Errno};

use crate::profile::{Action, Architecture, Entry, Profile};

/// Has a number on x86-64, i386, aarch64 and arm, and is not implemented since Linux 3.1.
/// <https://github.com/torvalds/linux/blob/v6.12/kernel/sys_ni.c>
const NOT_IMPLEMENTED: &str = "nfsservctl";

/// The profile that refuses nothing, for a machine whose own ABI is `native`.
#[must_use]
pub fn observe_profile(native: Abi) -> Profile {
    // An ABI that the profile does not list would be killed, not allowed.
    let abis: &[Abi] = match native {
        Abi::X86_64 | Abi::I386 | Abi::X32 => &[Abi::X86_64, Abi::I386, Abi::X32],
        Abi::Aarch64 | Abi::Arm => &[Abi::Aarch64, Abi::Arm],
    };
    Profile {
        default_action: Action::Allow,
        default_errno_ret: None,
        architectures: abis.iter().copied().map(Architecture::from).collect(),
        flags: None,
        listener_path: None,
        listener_metadata: None,
        syscalls: vec![Entry {
            names: vec![NOT_IMPLEMENTED.to_owned()],
            action: Action::Errno,
            errno_ret: Some(Errno::ENOSYS.number()),
            args: Vec::new(),
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CompileOptions, SeccompData, Verdict, compile, simulate};

    #[test]
    fn it_is_a_filter_that_refuses_nothing() {
        for native in [Abi::X86_64, Abi::Aarch64] {
            let profile = observe_profile(native);
            assert_eq!(Profile::read(profile.to_json().as_bytes()).unwrap(), profile);
            let program = compile(&profile, native, CompileOptions::default()).unwrap();
            assert!(program.unknown.is_empty() && program.instructions.len() > 1, "{program:?}");
            for abi in profile.architectures.iter().filter_map(|architecture| architecture.abi()) {
                for number in abi.numbers() {
                    let name = abi.name(number).to_string();
                    let data = SeccompData::call(abi, number, [0; 6]);
                    let verdict = simulate(&program, &data).unwrap();
                    // x32 has no number of its own for it.
                    let refused = name == NOT_IMPLEMENTED && abi != Abi::X32;
                    let expected = if refused { Verdict::Errno(38) } else { Verdict::Allow };
                    assert_eq!(verdict, expected, "{abi} {name}");
                }
            }
        }
    }
}
