//! `sched_process_exec`: in a container, the runtime's stage ends when it becomes the workload, or a session of
//! `exec`.

use core::ffi::c_void;

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::btf_tracepoint, programs::BtfTracePointContext};
use profiler_ebpf::group;

use crate::{
    kernel::{KERNEL, Task, told},
    maps::{TARGETS, add, phase_of},
    task,
};

#[btf_tracepoint(function = "sched_process_exec")]
fn sched_process_exec(context: BtfTracePointContext) -> i32 {
    if told(&KERNEL.stages) == 0 {
        return 0;
    }
    let Some(task) = Task::from_ptr(context.arg::<*const c_void>(0)) else { return 0 };
    let Some(state) = task::known(task) else { return 0 };
    let class = group::class(state.group);
    if class == group::WORKLOAD || class == group::EXEC || phase_of(state.group) == 0 {
        return 0;
    }
    // A runtime that executes itself again, or a hook, is in its parent's mount namespace. The parent of what it
    // becomes is outside, also when the task was handed to another one.
    let parent = task.real_parent().map_or(0, Task::mount_namespace);
    if parent == task.mount_namespace() {
        return 0;
    }
    let Some(target) = TARGETS.get_ptr_mut(group::index(state.group)) else { return 0 };
    // The call in flight stays the runtime's: its group is kept apart.
    // SAFETY: an element of the map; the counters are added to atomically.
    unsafe {
        if (*target).first_exec_ns == 0 && (*target).late == 0 {
            (*target).first_exec_ns = bpf_ktime_get_ns();
            (*target).init = task.process();
            state.group = group::target(state.group) | group::WORKLOAD;
        } else {
            add(&raw mut (*target).sessions);
            state.group = group::target(state.group) | group::EXEC;
        }
        if task.is_filtered() {
            add(&raw mut (*target).tally.confined);
        }
    }
    0
}
