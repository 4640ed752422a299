//! An iterator over all tasks that finds those to be recorded which were there before the recording: the tasks of
//! the cgroups, or the threads and descendants of the process. Run until [`profiler_ebpf::Tally::seeded`] stands
//! still.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use profiler_ebpf::{MODE_CGROUP, group};

use crate::{
    in_flight::Context,
    kernel::{KERNEL, Task, told},
    maps::{TARGETS, TASKS, add, common_tally, is_fleet, opened},
    task,
};

#[unsafe(link_section = "iter/task")]
#[unsafe(no_mangle)]
extern "C" fn seed(context: *mut c_void) -> i32 {
    let Some(task) = Context(context).task() else { return 0 };
    if is_fleet() {
        present(task);
    } else if task::known(task).is_none() && is_member(task) && task::make(task, 0).is_some() {
        // SAFETY: a counter of ours.
        unsafe { add(&raw mut (*common_tally()).seeded) };
    }
    0
}

/// A task of a target that is not open yet belongs to its workload.
#[inline(always)]
fn present(task: Task) {
    let Some(index) = task::find(task.cgroup_id()) else { return };
    let Some((target, 0)) = opened(index) else { return };
    let Some(state) = task::make(task, target) else { return };
    if group::target(state.group) == target {
        return;
    }
    state.group = target;
    state.flags = 0;
    state.filters = task.filters();
    // SAFETY: an element of the map, and a counter of ours.
    unsafe {
        if let Some(target) = TARGETS.get_ptr_mut(index) {
            (*target).late = 1;
        }
        add(&raw mut (*common_tally()).seeded);
    }
}

#[inline(always)]
fn is_member(task: Task) -> bool {
    if told(&KERNEL.mode) == MODE_CGROUP {
        return task::find(task.cgroup_id()).is_some();
    }
    // The reader of the iterator is the recorder, which may be a child of what it records.
    if task.process() == (bpf_get_current_pid_tgid() >> 32) as u32 {
        return false;
    }
    let is_recorded = |other: Option<Task>| other.and_then(|other| TASKS.get(other)).is_some();
    is_recorded(task.group_leader()) || is_recorded(task.real_parent())
}
