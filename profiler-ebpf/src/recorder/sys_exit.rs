//! `sys_exit`: a call ends, or something that never began.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use profiler_ebpf::{Call, Counted, Ending, TaskState};

use crate::{
    capture::{self, Made},
    count,
    kernel::{Registers, Task},
    maps::{add, tally},
    opened, stage, task,
};

#[btf_tracepoint(function = "sys_exit")]
fn sys_exit(context: BtfTracePointContext) -> i32 {
    let current = Task::current();
    let returned: i64 = context.arg(1);
    match task::known(current) {
        Some(state) if state.abi != Call::NONE => paired(state, returned),
        // Never seen and without a filter: whatever ends here, no filter answered it.
        None if !current.is_filtered() => {}
        // A task that is known may have left what is recorded.
        _ => {
            if let Some((state, phase)) = task::recorded(current)
                && phase != 0
            {
                unpaired(current, state, phase, Registers(context.arg::<*const c_void>(0)), returned);
            }
        }
    }
    0
}

/// The end of the call that `sys_enter` stored.
#[inline(always)]
fn paired(state: &mut TaskState, returned: i64) {
    let call = Call { number: state.number, abi: state.abi };
    let counted = Counted { call, group: state.entered };
    state.abi = Call::NONE;
    let errno = errno(returned);
    match errno {
        _ if call.abi == Call::UNCOUNTED => return,
        Some(errno) if !is_sigreturn(call) => count::error(counted, errno),
        _ => count::ok(counted),
    }
    if state.path != 0 {
        opened::keep(counted.group, errno.unwrap_or(0), state.path);
        state.path = 0;
    }
}

/// An exit without an enter. It is a filter's answer on a task that has a filter and is not at its first event:
/// there it may be the end of fork in the child, or of a call that began before the recording.
#[inline(always)]
fn unpaired(task: Task, state: &mut TaskState, phase: u32, registers: Registers, returned: i64) {
    if state.flags & TaskState::SEEN == 0 {
        task::see(task, state);
        // SAFETY: a counter of ours.
        unsafe { add(&raw mut (*tally(state.group)).first_exits) };
        return;
    }
    if !task.is_filtered() {
        return;
    }
    let kind = match errno(returned) {
        Some(errno) => Ending::REFUSED | errno,
        None if returned == registers.original() => Ending::REFUSED_BY_SIGNAL,
        None => Ending::REFUSED,
    };
    let call = task.call(registers.number());
    stage::advance(task, state, call, registers);
    let counted = Counted { call, group: state.group };
    if count::refused(&counted, kind, phase, registers) {
        capture::keep_refused(&Made { task, counted, phase }, registers);
    }
}

/// The error that a return value means: -4095 to -1, `MAX_ERRNO` in `include/linux/err.h`.
#[inline(always)]
fn errno(returned: i64) -> Option<u32> {
    if (-4095..0).contains(&returned) { Some(-returned as u32) } else { None }
}

/// Whether the call is a return from a signal handler. It "returns" what the interrupted call returned, which
/// says nothing of its own end.
#[inline(always)]
fn is_sigreturn(call: Call) -> bool {
    match call.abi {
        Call::NATIVE if cfg!(bpf_target_arch = "x86_64") => call.number == 15,
        Call::NATIVE => call.number == 139,
        // i386 and arm have the same two numbers, `sigreturn` and `rt_sigreturn`.
        Call::COMPAT => call.number == 119 || call.number == 173,
        Call::X32 => call.number == 513,
        _ => false,
    }
}
