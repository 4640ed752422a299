//! An iterator over all tasks that counts the calls which have not returned when the recording ends: of many
//! targets, the recording of those that are closed. Their tasks are foreign from then on.

use core::ffi::c_void;

use profiler_ebpf::{Call, Counted, Ending, TaskState, group};

use crate::{
    count,
    kernel::Task,
    maps::{is_fleet, opened},
    task,
};

/// A `struct bpf_iter__task *`.
pub(crate) struct Context(pub(crate) *mut c_void);

impl Context {
    /// The task; none in the last round.
    #[inline(always)]
    pub(crate) fn task(&self) -> Option<Task> {
        // SAFETY: the second field of the context, after `meta`; the verifier knows both.
        Task::from_ptr(unsafe { self.0.cast::<*const c_void>().add(1).read_volatile() })
    }
}

#[unsafe(link_section = "iter/task")]
#[unsafe(no_mangle)]
extern "C" fn in_flight(context: *mut c_void) -> i32 {
    let Some(task) = Context(context).task() else { return 0 };
    let Some(state) = task::known(task) else { return 0 };
    if is_fleet() && !is_closed(state) {
        return 0;
    }
    let call = Call { number: state.number, abi: state.abi };
    let counted = Counted { call, group: state.entered };
    // Taken away, so that a task which ends from now on is not counted a second time.
    state.abi = Call::NONE;
    if is_fleet() {
        state.group = 0;
        state.flags = 0;
    }
    if call.abi != Call::NONE && call.abi != Call::UNCOUNTED {
        count::ending(counted, Ending::IN_FLIGHT);
    }
    0
}

#[inline(always)]
fn is_closed(state: &TaskState) -> bool {
    let of = state.group;
    matches!(opened(group::index(of)), Some((target, 0)) if target == group::target(of) && target != 0)
}
