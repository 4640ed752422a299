//! The `ebpf` backend: BPF programs on `sys_enter` and `sys_exit` count what a cgroup, or a process with its
//! descendants, asks of the kernel ([`EbpfRecorder`], counters for each CPU), or what many cgroups do ([`Fleet`],
//! counters that CPUs share).
//!
//! The tests of `tests/ebpf` passed on Linux 6.18 on x86_64, and on 6.1 those of arguments, filters and refusals.
//! Before arguments were kept all but those with container runtimes passed on 6.1; before there were many targets
//! they also passed on 5.15, and on 6.1 on aarch64. The stacks of a program and of what it calls may take 512 bytes
//! together before private stacks came (6.13): what is not inlined in `profiler-ebpf` is so for that reason.
//!
//! **Invariant:** only `program.rs` talks to aya's program API. Nothing is pinned: when the recorder dies, the
//! kernel takes its programs and maps away.

mod arguments;
mod btf;
mod cgroup;
mod error;
mod files;
mod fleet;
mod kernel;
mod observe;
mod opens;
mod permission;
mod program;
mod recorder;
mod sys;
mod tables;

pub use error::EbpfError;
pub use fleet::{
    Born, Class, Condition, ContainerObservations, Fleet, Memory, Refusal, TargetId, Tuple, Tuples,
};
pub use recorder::{EbpfRecorder, Watch, probe};
