//! Which tasks are recorded, and what is known of each.

use profiler_ebpf::{MODE_PROCESS, SLOT_COUNT, TaskState, group, in_slot};

use crate::{
    kernel::{KERNEL, Task, told},
    maps::{self, CGROUPS, SLOTS, TASKS, add, is_fleet, opened, tally},
};

/// The state of a running task that is recorded, and the bit of its target's phase, which is 0 while the recording
/// of one target is not open; none for a foreign one.
#[inline(always)]
pub(crate) fn recorded(task: Task) -> Option<(&'static mut TaskState, u32)> {
    if told(&KERNEL.mode) == MODE_PROCESS {
        return known(task).map(|state| (state, maps::phase()));
    }
    let index = find(task.cgroup_id())?;
    if !is_fleet() {
        return make(task, 0).map(|state| (state, maps::phase()));
    }
    let (target, phase) = opened(index)?;
    if phase == 0 {
        return None;
    }
    let state = make(task, target)?;
    if group::target(state.group) != target {
        adopt(task, state, target);
    }
    Some((state, phase))
}

/// A task comes into a target from outside: a container runtime, if such are told apart.
#[inline(always)]
fn adopt(task: Task, state: &mut TaskState, target: u32) {
    let class = if told(&KERNEL.stages) == 0 { group::WORKLOAD } else { group::SETUP };
    state.group = target | class;
    state.flags = 0;
    state.filters = task.filters();
}

/// The state of a task that had an event, or that a recorded task made.
#[inline(always)]
pub(crate) fn known(task: Task) -> Option<&'static mut TaskState> {
    if task.has_storage() { TASKS.get(task) } else { None }
}

/// The state of a task that is to be recorded for a target.
#[inline(always)]
pub(crate) fn make(task: Task, target: u32) -> Option<&'static mut TaskState> {
    let state = TASKS.get_or_make(task);
    if state.is_none() {
        // SAFETY: a counter of ours.
        unsafe { add(&raw mut (*tally(target)).task_storage) };
    }
    state
}

/// The index of the target that a cgroup belongs to. For most foreign ones this is one load from an array.
#[inline(always)]
pub(crate) fn find(cgroup: u64) -> Option<u32> {
    // Ids count up, so their low bits tell neighbours apart.
    let slot = *SLOTS.get(cgroup as u32 & (SLOT_COUNT - 1))?;
    if slot == 0 {
        return None;
    }
    if let Some(index) = in_slot(slot, cgroup) {
        return Some(index);
    }
    // SAFETY: the value is a word that nobody changes.
    unsafe { CGROUPS.get(cgroup) }.map(|member| member.index)
}

/// Marks the task as seen; on its first event, notes whether a filter that is not the workload's own is on it.
#[inline(always)]
pub(crate) fn see(task: Task, state: &mut TaskState) {
    state.flags |= TaskState::SEEN;
    let own = state.flags & TaskState::DESCENDANT != 0 || group::class(state.group) != group::WORKLOAD;
    if !own && task.is_filtered() {
        // SAFETY: a counter of ours.
        unsafe { add(&raw mut (*tally(state.group)).confined) };
    }
}
