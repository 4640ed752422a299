//! The `ebpf` backend against the real kernel: counts, tasks, filters and bounds, with programs whose calls are
//! known to the last one.
//!
//! Needs root, BPF and cgroup v2. Each test says why it is skipped; `SECCOMP_LEARN_REQUIRE_KERNEL=1` makes a skip
//! a failure.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "clippy.toml's exceptions reach test functions, not their helpers"
)]

mod arguments;
mod bounds;
mod counting;
mod errors;
mod filters;
mod fleet;
mod following;
mod known;
mod stages;
mod support;
mod workload;
