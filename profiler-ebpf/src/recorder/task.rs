//! Which tasks are recorded, and what is known of each.

use profiler_ebpf::{MODE_PROCESS, SLOT_COUNT, TaskState};

use crate::{
    kernel::{KERNEL, Task, told},
    maps::{CGROUPS, SLOTS, TASKS, add, tally},
};

/// The state of a running task that is recorded; none for a foreign one.
#[inline(always)]
pub(crate) fn recorded(task: Task) -> Option<&'static mut TaskState> {
    if told(&KERNEL.mode) == MODE_PROCESS {
        return known(task);
    }
    if is_recorded(task.cgroup_id()) { make(task) } else { None }
}

/// The state of a task that had an event, or that a recorded task made.
#[inline(always)]
pub(crate) fn known(task: Task) -> Option<&'static mut TaskState> {
    if task.has_storage() { TASKS.get(task) } else { None }
}

/// The state of a task that is to be recorded.
#[inline(always)]
pub(crate) fn make(task: Task) -> Option<&'static mut TaskState> {
    let state = TASKS.get_or_make(task);
    if state.is_none() {
        // SAFETY: a counter of ours.
        unsafe { add(&raw mut (*tally()).task_storage) };
    }
    state
}

/// Whether a cgroup is recorded. For most foreign ones this is one load from an array.
#[inline(always)]
pub(crate) fn is_recorded(cgroup: u64) -> bool {
    // Ids count up, so their low bits tell neighbours apart.
    match SLOTS.get(cgroup as u32 & (SLOT_COUNT - 1)) {
        None | Some(0) => false,
        Some(id) if *id == cgroup => true,
        // SAFETY: only whether there is an entry is asked.
        Some(_) => unsafe { CGROUPS.get(cgroup) }.is_some(),
    }
}

/// Marks the task as seen; on its first event, notes whether a filter that is not the workload's own is on it.
#[inline(always)]
pub(crate) fn see(task: Task, state: &mut TaskState) {
    state.flags |= TaskState::SEEN;
    if state.flags & TaskState::DESCENDANT == 0 && task.is_filtered() {
        // SAFETY: a counter of ours.
        unsafe { add(&raw mut (*tally()).confined) };
    }
}
