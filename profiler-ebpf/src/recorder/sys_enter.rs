//! `sys_enter`: a call passed the filters and begins.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use profiler_ebpf::{Call, TaskState};

use crate::{count, kernel::Task, maps, task};

#[btf_tracepoint(function = "sys_enter")]
fn sys_enter(context: BtfTracePointContext) -> i32 {
    let current = Task::current();
    let Some(state) = task::recorded(current) else { return 0 };
    let phase = maps::phase();
    if phase == 0 {
        return 0;
    }
    if state.flags & TaskState::SEEN == 0 {
        task::see(current, state);
    }
    let call = current.call(context.arg::<u64>(1) as u32);
    // The exit's own number lies (execve, rt_sigreturn): the exit is counted for what is stored here.
    state.number = call.number;
    state.abi = if count::enter(call, phase) { call.abi } else { Call::UNCOUNTED };
    0
}
