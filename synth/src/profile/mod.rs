//! The OCI seccomp profile (`linux.seccomp` of the runtime specification): its types, a reader that refuses
//! whatever a runtime would silently drop or misread, and a writer with one spelling for each profile.
//!
//! <https://github.com/opencontainers/runtime-spec/blob/v1.2.0/config-linux.md#seccomp>

mod read;

use serde::Serialize;
use trace::{Abi, Digest};

pub use read::ProfileError;

/// How many arguments a syscall has.
pub const ARGUMENTS: u32 = 6;

/// The errno that runtimes use where a profile names none: `EPERM`.
const DEFAULT_ERRNO: u16 = 1;

/// A seccomp profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// What happens to a call that no entry names.
    pub default_action: Action,
    /// The errno of the default action, or the data of `SCMP_ACT_TRACE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u16>,
    /// The architectures whose calls the filter judges, the native one always among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<Architecture>,
    /// Flags of seccomp(2). Absent is not the same as empty: runtimes have their own default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<Flag>>,
    /// Socket that receives the descriptor for `SCMP_ACT_NOTIFY`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<String>,
    /// What is sent along to that socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<String>,
    /// The entries, in the order in which they are added to the filter.
    pub syscalls: Vec<Entry>,
}

/// One entry of a profile: the same for each of its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Syscall names.
    pub names: Vec<String>,
    /// What happens to them.
    pub action: Action,
    /// The errno of the action, or the data of `SCMP_ACT_TRACE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u16>,
    /// The conditions that must all hold. If two are about the same argument, every condition counts for
    /// itself: runc, crun and youki read it so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Condition>,
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which argument, from 0.
    pub index: u32,
    /// What it is compared with; the mask of `SCMP_CMP_MASKED_EQ`.
    pub value: u64,
    /// What the masked argument must be; 0 for the other operators.
    #[serde(skip_serializing_if = "is_zero")]
    pub value_two: u64,
    /// How it is compared.
    pub op: Operator,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// What has one spelling in a profile.
trait Named: Sized + Copy + 'static {
    fn name(self) -> &'static str;
}

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum $type {
            $($(#[$variant_doc])* #[serde(rename = $name)] $variant,)+
        }

        impl $type {
            pub(super) const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The name in profiles.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The one with this name in profiles.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|one| one.as_str() == name)
            }
        }

        impl Named for $type {
            fn name(self) -> &'static str {
                self.as_str()
            }
        }
    };
}

named! {
    /// What a filter answers.
    Action {
        /// Ends the thread; the older name.
        Kill = "SCMP_ACT_KILL",
        /// Ends the thread.
        KillThread = "SCMP_ACT_KILL_THREAD",
        /// Ends the process.
        KillProcess = "SCMP_ACT_KILL_PROCESS",
        /// Sends SIGSYS.
        Trap = "SCMP_ACT_TRAP",
        /// Fails with an errno.
        Errno = "SCMP_ACT_ERRNO",
        /// Asks a tracer.
        Trace = "SCMP_ACT_TRACE",
        /// Asks a supervisor.
        Notify = "SCMP_ACT_NOTIFY",
        /// Allows, and writes to the kernel's audit log.
        Log = "SCMP_ACT_LOG",
        /// Allows.
        Allow = "SCMP_ACT_ALLOW",
    }
}

named! {
    /// How an argument is compared, as 64 unsigned bits.
    Operator {
        /// Not equal.
        Ne = "SCMP_CMP_NE",
        /// Less than.
        Lt = "SCMP_CMP_LT",
        /// Less than or equal.
        Le = "SCMP_CMP_LE",
        /// Equal.
        Eq = "SCMP_CMP_EQ",
        /// Greater than or equal.
        Ge = "SCMP_CMP_GE",
        /// Greater than.
        Gt = "SCMP_CMP_GT",
        /// `argument & value == valueTwo`.
        MaskedEq = "SCMP_CMP_MASKED_EQ",
    }
}

named! {
    /// A flag of seccomp(2).
    Flag {
        /// All threads get the filter.
        Tsync = "SECCOMP_FILTER_FLAG_TSYNC",
        /// What is refused is logged.
        Log = "SECCOMP_FILTER_FLAG_LOG",
        /// No mitigation of speculative store bypass.
        SpecAllow = "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        /// A supervised call is only interrupted by a fatal signal.
        WaitKillableRecv = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    }
}

impl Action {
    /// Whether the call is carried out.
    #[must_use]
    pub const fn executes(self) -> bool {
        matches!(self, Self::Allow | Self::Log)
    }
}

/// The architectures of the runtime specification.
const ARCHITECTURES: [&str; 22] = [
    "SCMP_ARCH_NATIVE",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
];

/// An architecture that a filter judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Architecture(&'static str);

impl Architecture {
    /// The one with this name in profiles.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        ARCHITECTURES.iter().find(|own| **own == name).map(|own| Self(own))
    }

    /// The name in profiles: `SCMP_ARCH_*`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// The ABI, for those that traces know.
    #[must_use]
    pub fn abi(self) -> Option<Abi> {
        Abi::from_scmp_arch(self.0)
    }
}

impl From<Abi> for Architecture {
    fn from(abi: Abi) -> Self {
        Self(abi.scmp_arch())
    }
}

impl Profile {
    /// The profile as JSON: pretty-printed, with a final newline; the same profile gives the same bytes.
    #[must_use]
    pub fn to_json(&self) -> String {
        // A struct of strings and numbers always serializes.
        serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default()
    }

    /// The digest of [`Self::to_json`].
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_json().as_bytes())
    }

    /// The errno of a call that no entry names, if that is how it is refused.
    #[must_use]
    pub fn default_errno(&self) -> Option<u16> {
        (self.default_action == Action::Errno).then(|| self.default_errno_ret.unwrap_or(DEFAULT_ERRNO))
    }

    /// The names that are carried out, at least under conditions.
    #[must_use]
    pub fn allowed(&self) -> std::collections::BTreeSet<&str> {
        let entries = self.syscalls.iter().filter(|entry| entry.action.executes());
        entries.flat_map(|entry| entry.names.iter().map(String::as_str)).collect()
    }

    /// Whether an entry answers this name with `ENOSYS` on purpose.
    #[must_use]
    pub fn answers_enosys(&self, name: &str) -> bool {
        self.syscalls.iter().any(|entry| {
            entry.action == Action::Errno
                && entry.errno_ret == Some(trace::Errno::ENOSYS.number())
                && entry.args.is_empty()
                && entry.names.iter().any(|own| own == name)
        })
    }
}

impl Entry {
    /// The errno of this entry, if that is how it refuses.
    #[must_use]
    pub fn errno(&self) -> Option<u16> {
        (self.action == Action::Errno).then(|| self.errno_ret.unwrap_or(DEFAULT_ERRNO))
    }
}
