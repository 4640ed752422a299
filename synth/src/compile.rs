//! From a profile to the filter that a runtime would load: the one file that talks to libseccomp.
//!
//! It follows runc (`libcontainer/seccomp/seccomp_linux.go` at v1.1.5): the architectures are added to the
//! native one; rules are added in order; a rule whose answer is the default's is left out; a name that the
//! library does not know is left out; where two conditions are about one argument, each condition becomes a
//! rule of its own; above eight calls the library makes a binary tree. runc's `ENOSYS` stub is an option.
//! <https://github.com/opencontainers/runc/blob/v1.1.5/libcontainer/seccomp/seccomp_linux.go>

use std::{
    collections::BTreeMap,
    io::{Read, Seek},
    os::fd::{FromRawFd, OwnedFd},
};

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use trace::Abi;

use crate::{
    library::Libseccomp,
    profile::{Action, Architecture, Condition, Entry, Operator, Profile},
    stub::stub,
};

/// One classic BPF instruction: `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// How many to skip if a comparison holds.
    pub jt: u8,
    /// How many to skip if it does not.
    pub jf: u8,
    /// Its operand.
    pub k: u32,
}

const _: () = assert!(size_of::<Instruction>() == 8);

/// A compiled filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The instructions, in order.
    pub instructions: Vec<Instruction>,
    /// The names of the profile that the library does not know: their entries are not in the filter, whatever
    /// they say.
    pub unknown: Vec<String>,
}

/// How a profile is compiled. The default is what runc and crun do with this host's library, without runc's stub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompileOptions {
    /// How the filter looks a call up.
    pub lookup: Lookup,
    /// Whose names count: what this release does not know is left out, as on a node that has it. Names that this
    /// host's library does not know are left out in any case.
    pub libseccomp: Option<Libseccomp>,
    /// Whether runc's stub answers calls above the highest number that the profile names.
    pub enosys_stub: bool,
}

impl CompileOptions {
    /// The same with another way to look a call up.
    #[must_use]
    pub const fn with_lookup(self, lookup: Lookup) -> Self {
        Self { lookup, ..self }
    }

    /// The same on a node with this release of libseccomp.
    #[must_use]
    pub const fn with_libseccomp(self, release: Libseccomp) -> Self {
        Self { libseccomp: Some(release), ..self }
    }

    /// The same with or without runc's stub.
    #[must_use]
    pub const fn with_enosys_stub(self, enosys_stub: bool) -> Self {
        Self { enosys_stub, ..self }
    }

    fn knows(self, name: &str) -> bool {
        self.libseccomp.is_none_or(|release| release.knows(name))
    }
}

/// How a filter finds the rule for a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lookup {
    /// As runc: a tree if the profile names more than eight calls.
    #[default]
    AsRunc,
    /// One comparison after the other.
    Linear,
    /// A binary tree.
    Tree,
}

/// runc's bound, which counts the names of all entries.
const TREE_ABOVE: usize = 8;

/// `EPERM`, runc's errno where the profile names none; also the datum of `SCMP_ACT_TRACE`.
const DEFAULT_ERRNO: u16 = 1;

/// A profile that cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Only the ABI of 64-bit programs can be a machine's own.
    #[error("`{0}` is no machine's own ABI; use x86_64 or aarch64")]
    NotNative(Abi),
    /// Supervised calls cannot be the default: runc refuses that too.
    #[error("`SCMP_ACT_NOTIFY` cannot be the default action; list the calls that are to be supervised")]
    NotifyDefault,
    /// libseccomp refused.
    #[error("libseccomp cannot {step}")]
    Library {
        /// What it was asked to do.
        step: String,
        /// What it said.
        #[source]
        source: libseccomp::error::SeccompError,
    },
    /// The filter could not be taken over from libseccomp.
    #[error("cannot take the compiled filter over from libseccomp")]
    Export(#[source] std::io::Error),
    /// The kernel would not take the filter: it is too long.
    #[error("the kernel would not take the compiled filter; write fewer conditions")]
    Filter(#[source] crate::SimulateError),
}

/// Compiles a profile for a machine whose own ABI is `native`.
///
/// # Errors
/// See [`CompileError`].
pub fn compile(profile: &Profile, native: Abi, options: CompileOptions) -> Result<Program, CompileError> {
    let own = match native {
        Abi::X86_64 => ScmpArch::X8664,
        Abi::Aarch64 => ScmpArch::Aarch64,
        other => return Err(CompileError::NotNative(other)),
    };
    if profile.default_action == Action::Notify {
        return Err(CompileError::NotifyDefault);
    }
    let default = action(profile.default_action, profile.default_errno_ret);
    let mut context = ScmpFilterContext::new(default).map_err(step(|| "make a filter".to_owned()))?;
    add_architectures(&mut context, own, &profile.architectures)?;
    let names = profile.syscalls.iter().map(|entry| entry.names.len()).sum::<usize>();
    let tree = match options.lookup {
        Lookup::AsRunc => names > TREE_ABOVE,
        Lookup::Linear => false,
        Lookup::Tree => true,
    };
    if tree {
        context.set_ctl_optimize(2).map_err(step(|| "make a binary tree".to_owned()))?;
    }
    let mut unknown = Vec::new();
    for entry in &profile.syscalls {
        let answer = action(entry.action, entry.errno_ret);
        if answer == default {
            continue;
        }
        for name in &entry.names {
            match ScmpSyscall::from_name(name) {
                Ok(syscall) if options.knows(name) => {
                    add_rules(&mut context, answer, syscall, name, entry)?;
                }
                _ => unknown.push(name.clone()),
            }
        }
    }
    unknown.sort_unstable();
    unknown.dedup();
    let mut instructions = Vec::new();
    if options.enosys_stub && !matches!(profile.default_action, Action::Allow | Action::Log | Action::Trace) {
        instructions = stub(&highest(profile, native, options));
    }
    instructions.extend(export(&context)?);
    Ok(Program { instructions, unknown })
}

/// The highest number that a profile names, whatever it says about it, in each ABI that it lists.
fn highest(profile: &Profile, native: Abi, options: CompileOptions) -> BTreeMap<Abi, u32> {
    let mut highest = BTreeMap::new();
    for architecture in &profile.architectures {
        let abi = if architecture.as_str() == "SCMP_ARCH_NATIVE" { Some(native) } else { architecture.abi() };
        let Some((abi, arch)) = abi.and_then(|abi| Some((abi, abi.scmp_arch().parse().ok()?))) else {
            continue;
        };
        let number = |name: &String| {
            let syscall = ScmpSyscall::from_name_by_arch(name, arch).ok().filter(|_| options.knows(name))?;
            // Negative: the library's own numbers for calls that this architecture does not have.
            u32::try_from(syscall.as_raw_syscall()).ok()
        };
        if let Some(last) = profile
            .syscalls
            .iter()
            .flat_map(|entry| &entry.names)
            .filter_map(number)
            .max()
            .filter(|last| *last > 0)
        {
            highest.insert(abi, last);
        }
    }
    highest
}

/// Whether this host's libseccomp knows the name. What a shipped profile may name is decided by
/// [`Libseccomp::knows`] instead, which is the same everywhere.
#[must_use]
pub fn host_knows(name: &str) -> bool {
    ScmpSyscall::from_name(name).is_ok()
}

/// The version of this host's libseccomp.
#[must_use]
pub fn library_version() -> Option<(u32, u32, u32)> {
    libseccomp::ScmpVersion::current().ok().map(|version| (version.major, version.minor, version.micro))
}

fn step(what: impl FnOnce() -> String) -> impl FnOnce(libseccomp::error::SeccompError) -> CompileError {
    move |source| CompileError::Library { step: what(), source }
}

/// A context begins with the architecture of this process; names are resolved for it too, and translated by
/// the library for each architecture of the filter, so that the filter of another machine can be made here.
fn add_architectures(
    context: &mut ScmpFilterContext,
    own: ScmpArch,
    architectures: &[Architecture],
) -> Result<(), CompileError> {
    let add = |context: &mut ScmpFilterContext, arch: ScmpArch, name: &str| {
        context.add_arch(arch).map(|_| ()).map_err(step(|| format!("add architecture `{name}`")))
    };
    if !context.is_arch_present(own).map_err(step(|| "list architectures".to_owned()))? {
        add(context, own, "native")?;
        context
            .remove_arch(ScmpArch::Native)
            .map_err(step(|| "remove this host's architecture".to_owned()))?;
    }
    for architecture in architectures {
        if architecture.as_str() == "SCMP_ARCH_NATIVE" {
            continue;
        }
        let arch = architecture
            .as_str()
            .parse()
            .map_err(step(|| format!("handle architecture `{}`", architecture.as_str())))?;
        add(context, arch, architecture.as_str())?;
    }
    Ok(())
}

fn add_rules(
    context: &mut ScmpFilterContext,
    answer: ScmpAction,
    syscall: ScmpSyscall,
    name: &str,
    entry: &Entry,
) -> Result<(), CompileError> {
    let failed = || step(|| format!("add a rule for `{name}`"));
    let conditions: Vec<ScmpArgCompare> = entry.args.iter().map(condition).collect();
    if conditions.is_empty() {
        context.add_rule(answer, syscall).map_err(failed())?;
    } else if repeats_an_argument(&entry.args) {
        for condition in conditions {
            context.add_rule_conditional(answer, syscall, &[condition]).map_err(failed())?;
        }
    } else {
        context.add_rule_conditional(answer, syscall, &conditions).map_err(failed())?;
    }
    Ok(())
}

/// Whether two conditions are about the same argument, in which case they are alternatives.
#[must_use]
pub fn repeats_an_argument(conditions: &[Condition]) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    !conditions.iter().all(|condition| seen.insert(condition.index))
}

fn action(action: Action, errno: Option<u16>) -> ScmpAction {
    let errno = errno.unwrap_or(DEFAULT_ERRNO);
    match action {
        Action::Kill | Action::KillThread => ScmpAction::KillThread,
        Action::KillProcess => ScmpAction::KillProcess,
        Action::Trap => ScmpAction::Trap,
        Action::Errno => ScmpAction::Errno(i32::from(errno)),
        Action::Trace => ScmpAction::Trace(errno),
        Action::Notify => ScmpAction::Notify,
        Action::Log => ScmpAction::Log,
        Action::Allow => ScmpAction::Allow,
    }
}

fn condition(condition: &Condition) -> ScmpArgCompare {
    let Condition { index, value, value_two, op } = *condition;
    let (op, datum) = match op {
        Operator::Ne => (ScmpCompareOp::NotEqual, value),
        Operator::Lt => (ScmpCompareOp::Less, value),
        Operator::Le => (ScmpCompareOp::LessOrEqual, value),
        Operator::Eq => (ScmpCompareOp::Equal, value),
        Operator::Ge => (ScmpCompareOp::GreaterEqual, value),
        Operator::Gt => (ScmpCompareOp::Greater, value),
        Operator::MaskedEq => (ScmpCompareOp::MaskedEqual(value), value_two),
    };
    ScmpArgCompare::new(index, op, datum)
}

/// libseccomp 2.5 writes a filter only to a descriptor; this one is memory.
fn export(context: &ScmpFilterContext) -> Result<Vec<Instruction>, CompileError> {
    // SAFETY: the name is a C string that lives as long as the program; no other memory is touched.
    let descriptor = unsafe { libc::memfd_create(c"seccomp-filter".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(CompileError::Export(std::io::Error::last_os_error()));
    }
    // SAFETY: the kernel just made this descriptor for us, and nobody else has it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    #[expect(clippy::disallowed_types, reason = "memory that only has a descriptor, not a file")]
    let mut memory = std::fs::File::from(descriptor);
    context.export_bpf(&memory).map_err(step(|| "compile the filter".to_owned()))?;
    let mut bytes = Vec::new();
    memory.rewind().and_then(|()| memory.read_to_end(&mut bytes)).map_err(CompileError::Export)?;
    let (instructions, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(CompileError::Export(std::io::ErrorKind::InvalidData.into()));
    }
    Ok(instructions
        .iter()
        .map(|&[c0, c1, jt, jf, k0, k1, k2, k3]| Instruction {
            code: u16::from_ne_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        })
        .collect())
}
