//! `sched_process_fork`: what a recorded task makes, is recorded, and what is on it is the workload's own doing.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use profiler_ebpf::TaskState;

use crate::{kernel::Task, task};

#[btf_tracepoint(function = "sched_process_fork")]
fn sched_process_fork(context: BtfTracePointContext) -> i32 {
    let Some(parent) = Task::from_ptr(context.arg::<*const c_void>(0)) else { return 0 };
    let Some(child) = Task::from_ptr(context.arg::<*const c_void>(1)) else { return 0 };
    if task::known(parent).is_some() {
        if let Some(state) = task::make(child) {
            state.flags |= TaskState::DESCENDANT;
        }
    } else {
        // Made straight into a recorded cgroup, by a foreign task.
        task::recorded(child);
    }
    0
}
