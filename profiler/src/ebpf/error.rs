//! Why a recording by BPF cannot be started or read.

use std::{io, path::PathBuf};

/// Why a recording by BPF cannot be started or read.
#[derive(Debug, thiserror::Error)]
pub enum EbpfError {
    /// There is no BPF object for this machine.
    #[error("no BPF program for `{0}`; x86_64 and aarch64 have one, `--backend notify` needs none")]
    Architecture(&'static str),
    /// The kernel lacks what the program is built on: storage for tasks that tracing programs may use.
    #[error(
        "Linux {0} is too old to record by BPF; 5.14 or later is needed, `--backend notify` does with less"
    )]
    TooOld(String),
    /// The kernel does not describe its own types.
    #[error("cannot read `/sys/kernel/btf/vmlinux`; the kernel must be built with CONFIG_DEBUG_INFO_BTF")]
    Btf(#[source] io::Error),
    /// The kernel's description of its types is not understood.
    #[error("cannot understand `/sys/kernel/btf/vmlinux`: {0}")]
    BtfFormat(String),
    /// The kernel lacks a structure or field that the program reads.
    #[error("the kernel has no `{0}`; Linux 5.14 or later with BPF and seccomp is needed")]
    NoField(&'static str),
    /// The process may not use BPF.
    #[error("{0} needed to load BPF programs; run as root or with CAP_BPF and CAP_PERFMON")]
    Capability(String),
    /// The kernel is locked down against reading its memory.
    #[error("the kernel's lockdown mode `{0}` forbids BPF to read; boot with `lockdown=integrity` or none")]
    Lockdown(String),
    /// The kernel refused to load the program although the capabilities are there.
    #[error(
        "the kernel does not let this process load BPF programs; it may be in a user namespace, or a policy forbids bpf(2): run it on the host as root"
    )]
    Refused(#[source] io::Error),
    /// The object or one of its maps could not be loaded.
    #[error("cannot load the BPF object")]
    Load(#[source] Box<aya::EbpfError>),
    /// One of the programs could not be loaded or attached.
    #[error("cannot load or attach the BPF program `{program}`")]
    Program {
        /// The program's name.
        program: &'static str,
        /// The kernel's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A map could not be read or written.
    #[error("cannot use the BPF map `{map}`")]
    Map {
        /// The map's name.
        map: &'static str,
        /// The kernel's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The iterator over tasks failed.
    #[error("cannot go through the tasks with the BPF program `{program}`")]
    Iterate {
        /// The program's name.
        program: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The directory of the cgroup cannot be read.
    #[error("no such cgroup: cannot read `{}`", path.display())]
    Cgroup {
        /// The directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The directory is not one of a cgroup v2 mount.
    #[error(
        "`{}` is not in a cgroup v2 mount; name a directory below the mount of type cgroup2 that `/proc/mounts` lists",
        .0.display()
    )]
    NotCgroup2(PathBuf),
    /// The recorder is a part of what it is to record.
    #[error("the recorder itself runs in the cgroup `{}`; start it from another cgroup", .0.display())]
    RecorderInside(PathBuf),
    /// More cgroups than the table holds.
    #[error("there are more than {max} cgroups below `{}`; record one further down", path.display())]
    TooManyCgroups {
        /// The directory.
        path: PathBuf,
        /// How many there may be.
        max: u32,
    },
    /// All targets are taken.
    #[error("there are {0} targets already; end the recording of some of them first")]
    TooManyTargets(u32),
    /// A target that was never there, or was taken or discarded.
    #[error("target {0} is not being recorded")]
    NoTarget(u32),
    /// A name that no cgroup can have.
    #[error("`{0}` is no name of a cgroup: it is empty, has a slash, or is longer than {max} bytes", max = profiler_ebpf::NAME_LENGTH - 1)]
    Name(String),
    /// More names, nurseries or calls than the table holds.
    #[error("there is no room for more than {max} {what}")]
    TooMany {
        /// What there is no room for.
        what: &'static str,
        /// How many there may be.
        max: u32,
    },
    /// The process is gone, or is a thread that is not the first of its process.
    #[error("no such process: {pid}; name the pid of a process that runs, not of a thread")]
    Process {
        /// The process.
        pid: u32,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The recorder was asked to record itself.
    #[error("process {0} is the recorder itself; name another one")]
    RecorderItself(u32),
}
