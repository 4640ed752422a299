//! `sys_enter`: a call passed the filters and begins.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use profiler_ebpf::{Call, Counted, TaskState};

use crate::{
    capture::{self, Made},
    count,
    kernel::{Registers, Task},
    stage, task,
};

#[btf_tracepoint(function = "sys_enter")]
fn sys_enter(context: BtfTracePointContext) -> i32 {
    let current = Task::current();
    let Some((state, phase)) = task::recorded(current) else { return 0 };
    if phase == 0 {
        return 0;
    }
    if state.flags & TaskState::SEEN == 0 {
        task::see(current, state);
    }
    let call = current.call(context.arg::<u64>(1) as u32);
    let registers = Registers(context.arg::<*const c_void>(0));
    stage::advance(current, state, call, registers);
    let counted = Counted { call, group: state.group };
    // The exit's own number lies (execve, rt_sigreturn): the exit is counted for what is stored here.
    state.number = call.number;
    state.entered = counted.group;
    if !count::enter(counted, phase) {
        state.abi = Call::UNCOUNTED;
        return 0;
    }
    state.abi = call.abi;
    state.path = capture::keep_entered(&Made { task: current, counted, phase }, registers);
    0
}
