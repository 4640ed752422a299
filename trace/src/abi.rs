//! The system call ABIs and their tables of names.
//!
//! Numbers and names come from the `syscalls` crate, which generates them from the kernel's tables; x32 has
//! no table there, so its own numbers (512 and up, `arch/x86/entry/syscalls/syscall_64.tbl`) are listed here.
//! Two of the crate's names are not the kernel's, nor libseccomp's, and are put right, as is a range that 64-bit
//! Arm does not have.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use syscalls::{aarch64, arm, x86, x86_64};

/// The bit that marks an x32 call: `__X32_SYSCALL_BIT`, `arch/x86/include/uapi/asm/unistd.h`.
const X32_BIT: u32 = 0x4000_0000;

/// A system call ABI: the pair of register convention and number table that a call was made through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Abi {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 32-bit x86, also on a 64-bit kernel (`TS_COMPAT`).
    I386,
    /// 64-bit x86 with 32-bit pointers; numbers are written without the marker bit `0x40000000`.
    X32,
    /// 64-bit Arm.
    Aarch64,
    /// 32-bit Arm EABI, also on a 64-bit kernel.
    Arm,
}

/// An ABI name that is none of the five known ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown abi `{0}`; known are x86_64, i386, x32, aarch64 and arm")]
pub struct UnknownAbi(pub String);

/// A syscall's name, or its number where the tables have no name for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SyscallName {
    /// A name of the kernel's table.
    Known(&'static str),
    /// A number without a name; written `syscall_N`.
    Unknown(u32),
}

impl fmt::Display for SyscallName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(name) => f.write_str(name),
            Self::Unknown(number) => write!(f, "syscall_{number}"),
        }
    }
}

/// The x32 numbers that x86_64 does not share: same file, "x32-specific system call numbers".
const X32_ONLY: [(u32, &str); 36] = [
    (512, "rt_sigaction"),
    (513, "rt_sigreturn"),
    (514, "ioctl"),
    (515, "readv"),
    (516, "writev"),
    (517, "recvfrom"),
    (518, "sendmsg"),
    (519, "recvmsg"),
    (520, "execve"),
    (521, "ptrace"),
    (522, "rt_sigpending"),
    (523, "rt_sigtimedwait"),
    (524, "rt_sigqueueinfo"),
    (525, "sigaltstack"),
    (526, "timer_create"),
    (527, "mq_notify"),
    (528, "kexec_load"),
    (529, "waitid"),
    (530, "set_robust_list"),
    (531, "get_robust_list"),
    (532, "vmsplice"),
    (533, "move_pages"),
    (534, "preadv"),
    (535, "pwritev"),
    (536, "rt_tgsigqueueinfo"),
    (537, "recvmmsg"),
    (538, "sendmmsg"),
    (539, "process_vm_readv"),
    (540, "process_vm_writev"),
    (541, "setsockopt"),
    (542, "getsockopt"),
    (543, "io_setup"),
    (544, "io_submit"),
    (545, "execveat"),
    (546, "preadv2"),
    (547, "pwritev2"),
];

/// `__NR3264_fstatat` of `include/uapi/asm-generic/unistd.h`, and the name that is a keyword in Rust.
const MISNAMED: [(Abi, u32, &str); 2] = [(Abi::Aarch64, 79, "newfstatat"), (Abi::I386, 17, "break")];

impl Abi {
    /// All ABIs, in the order in which they are written.
    pub const ALL: [Self; 5] = [Self::X86_64, Self::I386, Self::X32, Self::Aarch64, Self::Arm];

    /// The name used in traces: `x86_64`, `i386`, `x32`, `aarch64` or `arm`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::I386 => "i386",
            Self::X32 => "x32",
            Self::Aarch64 => "aarch64",
            Self::Arm => "arm",
        }
    }

    /// The value that `seccomp_data.arch` holds for this ABI: `AUDIT_ARCH_*`, `include/uapi/linux/audit.h`.
    ///
    /// x32 shares x86_64's and is told apart by the number's marker bit.
    #[must_use]
    pub const fn audit_arch(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// The ABI and plain number of a call as seccomp sees it; none for an architecture that is not supported.
    #[must_use]
    pub const fn from_audit_arch(arch: u32, number: u32) -> Option<(Self, u32)> {
        match arch {
            0xc000_003e if number & X32_BIT != 0 && number != u32::MAX => {
                Some((Self::X32, number & !X32_BIT))
            }
            0xc000_003e => Some((Self::X86_64, number)),
            0x4000_0003 => Some((Self::I386, number)),
            0xc000_00b7 => Some((Self::Aarch64, number)),
            0x4000_0028 => Some((Self::Arm, number)),
            _ => None,
        }
    }

    /// The number as `seccomp_data.nr` holds it: with the marker bit for x32, unchanged for the others.
    #[must_use]
    pub const fn seccomp_number(self, number: u32) -> u32 {
        match self {
            Self::X32 => number | X32_BIT,
            _ => number,
        }
    }

    /// The name libseccomp and OCI profiles use for this architecture: `SCMP_ARCH_*`.
    #[must_use]
    pub const fn scmp_arch(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::I386 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
        }
    }

    /// The ABI that an OCI profile names `SCMP_ARCH_*`; none for one that is not supported.
    #[must_use]
    pub fn from_scmp_arch(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|abi| abi.scmp_arch() == name)
    }

    /// The ABI of 64-bit programs on a machine that `uname -m` calls `machine`.
    #[must_use]
    pub fn native_of(machine: &str) -> Option<Self> {
        match machine {
            "x86_64" => Some(Self::X86_64),
            "aarch64" | "arm64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// The name of a number in this ABI's table.
    #[must_use]
    pub fn name(self, number: u32) -> SyscallName {
        self.table_name(number).map_or(SyscallName::Unknown(number), SyscallName::Known)
    }

    fn table_name(self, number: u32) -> Option<&'static str> {
        let id = number as usize;
        if let Some((.., name)) = MISNAMED.iter().find(|(abi, own, ..)| (*abi, *own) == (self, number)) {
            return Some(name);
        }
        match self {
            Self::X86_64 => x86_64::Sysno::new(id).map(|sysno| sysno.name()),
            Self::I386 => x86::Sysno::new(id).map(|sysno| sysno.name()),
            // 403 to 423 are the 64-bit time calls of 32-bit machines: `include/uapi/asm-generic/unistd.h`.
            Self::Aarch64 if matches!(number, 403..=423) => None,
            Self::Aarch64 => aarch64::Sysno::new(id).map(|sysno| sysno.name()),
            Self::Arm => arm::Sysno::new(id).map(|sysno| sysno.name()),
            Self::X32 => X32_ONLY
                .iter()
                .find(|(own, _)| *own == number)
                .map(|(_, name)| *name)
                .or_else(|| x86_64::Sysno::new(id).map(|sysno| sysno.name())),
        }
    }

    /// The number of a name in this ABI's table, `syscall_N` included; none for a name it does not have.
    #[must_use]
    pub fn number(self, name: &str) -> Option<u32> {
        if let Some(number) = name.strip_prefix("syscall_") {
            return number.parse().ok();
        }
        if let Some((_, number, ..)) = MISNAMED.iter().find(|(abi, .., own)| (*abi, *own) == (self, name)) {
            return Some(*number);
        }
        let id = match self {
            Self::X86_64 => name.parse::<x86_64::Sysno>().ok().map(|sysno| sysno.id()),
            Self::I386 => name.parse::<x86::Sysno>().ok().map(|sysno| sysno.id()),
            Self::Aarch64 => name
                .parse::<aarch64::Sysno>()
                .ok()
                .map(|sysno| sysno.id())
                .filter(|id| !matches!(id, 403..=423)),
            Self::Arm => name.parse::<arm::Sysno>().ok().map(|sysno| sysno.id()),
            Self::X32 => {
                if let Some((number, _)) = X32_ONLY.iter().find(|(_, own)| *own == name) {
                    return Some(*number);
                }
                name.parse::<x86_64::Sysno>().ok().map(|sysno| sysno.id())
            }
        };
        id.and_then(|id| u32::try_from(id).ok())
    }

    /// Every number this ABI's table names, ascending.
    pub fn numbers(self) -> impl Iterator<Item = u32> {
        (0..1024).filter(move |number| self.table_name(*number).is_some())
    }
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Abi {
    type Err = UnknownAbi;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|abi| abi.as_str() == text).ok_or_else(|| UnknownAbi(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree_in_every_table() {
        for abi in Abi::ALL {
            let numbers: Vec<u32> = abi.numbers().collect();
            assert!(numbers.len() > 290, "{abi}: {}", numbers.len());
            for number in numbers {
                let name = abi.name(number).to_string();
                let back = abi.number(&name).unwrap();
                // x32 leaves the shared numbers of its own calls without a name of their own.
                assert!(back == number || abi == Abi::X32, "{abi} {name} {number} {back}");
            }
        }
    }

    #[test]
    fn known_points_of_the_kernel_tables() {
        assert_eq!(Abi::X86_64.name(435), SyscallName::Known("clone3"));
        assert_eq!(Abi::I386.name(11), SyscallName::Known("execve"));
        assert_eq!(Abi::X32.name(512), SyscallName::Known("rt_sigaction"));
        assert_eq!(Abi::X32.name(39), SyscallName::Known("getpid"));
        assert_eq!(Abi::Aarch64.name(221), SyscallName::Known("execve"));
        assert_eq!(Abi::Aarch64.name(79), SyscallName::Known("newfstatat"));
        assert_eq!(Abi::Aarch64.name(403), SyscallName::Unknown(403));
        assert_eq!(Abi::Aarch64.number("clock_gettime64"), None);
        assert_eq!(Abi::I386.number("break"), Some(17));
        assert_eq!(Abi::X86_64.name(9999).to_string(), "syscall_9999");
        assert_eq!(Abi::X86_64.number("syscall_9999"), Some(9999));
        assert_eq!(Abi::X86_64.number("sokcet"), None);
        assert_eq!(Abi::from_audit_arch(0xc000_003e, 0x4000_0200), Some((Abi::X32, 512)));
        assert_eq!(Abi::X32.seccomp_number(512), 0x4000_0200);
    }
}
