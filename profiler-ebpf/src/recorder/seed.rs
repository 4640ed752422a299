//! An iterator over all tasks that finds those to be recorded which were there before the recording: the tasks of
//! the cgroups, or the threads and descendants of the process. Run until [`profiler_ebpf::Tally::seeded`] stands
//! still.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use profiler_ebpf::MODE_CGROUP;

use crate::{
    in_flight::Context,
    kernel::{KERNEL, Task, told},
    maps::{TASKS, add, tally},
    task,
};

#[unsafe(link_section = "iter/task")]
#[unsafe(no_mangle)]
extern "C" fn seed(context: *mut c_void) -> i32 {
    let Some(task) = Context(context).task() else { return 0 };
    if task::known(task).is_some() || !is_member(task) {
        return 0;
    }
    if task::make(task).is_some() {
        // SAFETY: a counter of ours.
        unsafe { add(&raw mut (*tally()).seeded) };
    }
    0
}

#[inline(always)]
fn is_member(task: Task) -> bool {
    if told(&KERNEL.mode) == MODE_CGROUP {
        return task::is_recorded(task.cgroup_id());
    }
    // The reader of the iterator is the recorder, which may be a child of what it records.
    if task.process() == (bpf_get_current_pid_tgid() >> 32) as u32 {
        return false;
    }
    let is_recorded = |other: Option<Task>| other.and_then(|other| TASKS.get(other)).is_some();
    is_recorded(task.group_leader()) || is_recorded(task.real_parent())
}
