//! An iterator over all tasks that counts the calls which have not returned when the recording ends.

use core::ffi::c_void;

use profiler_ebpf::{Call, Ending};

use crate::{count, kernel::Task, task};

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
    let call = Call { number: state.number, abi: state.abi };
    // Taken away, so that a task which ends from now on is not counted a second time.
    state.abi = Call::NONE;
    if call.abi != Call::NONE && call.abi != Call::UNCOUNTED {
        count::ending(call, Ending::IN_FLIGHT);
    }
    0
}
