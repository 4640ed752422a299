//! `sched_process_fork`: what a recorded task makes, is recorded, and what is on it is the workload's own doing.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use profiler_ebpf::{TaskState, group};

use crate::{
    kernel::Task,
    maps::{is_fleet, opened},
    task,
};

#[btf_tracepoint(function = "sched_process_fork")]
fn sched_process_fork(context: BtfTracePointContext) -> i32 {
    let Some(parent) = Task::from_ptr(context.arg::<*const c_void>(0)) else { return 0 };
    let Some(child) = Task::from_ptr(context.arg::<*const c_void>(1)) else { return 0 };
    match task::known(parent) {
        Some(parent) if !is_fleet() || is_followed(parent) => {
            if let Some(state) = task::make(child, parent.group) {
                state.flags |= TaskState::DESCENDANT;
                state.group = parent.group;
                state.filters = parent.filters;
            }
        }
        // Made straight into a recorded cgroup, by a foreign task.
        _ => _ = task::recorded(child),
    }
    0
}

/// Whether the parent's target is still recorded; also before it is open, while those present are looked up.
#[inline(always)]
fn is_followed(parent: &TaskState) -> bool {
    let of = parent.group;
    matches!(opened(group::index(of)), Some((target, _)) if target == group::target(of) && target != 0)
}
