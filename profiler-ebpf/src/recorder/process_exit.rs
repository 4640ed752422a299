//! `sched_process_exit`: a task ends inside a call, or because a filter ended it.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::generated::bpf_task_pt_regs, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use profiler_ebpf::{Call, Counted, Ending, TaskState};

use crate::{
    capture::{self, Made},
    count,
    kernel::{KERNEL, Registers, Task, told},
    maps::{add, phase_of, tally},
    task,
};

/// The signal of seccomp, on every architecture that we have.
const SIGSYS: u32 = 31;

#[btf_tracepoint(function = "sched_process_exit")]
fn sched_process_exit(context: BtfTracePointContext) -> i32 {
    let Some(task) = Task::from_ptr(context.arg::<*const c_void>(0)) else { return 0 };
    let Some(state) = task::known(task) else { return 0 };
    let call = Call { number: state.number, abi: state.abi };
    state.abi = Call::NONE;
    match call.abi {
        Call::NONE => killed_by_filter(task, state),
        Call::UNCOUNTED => {}
        _ => count::ending(Counted { call, group: state.entered }, Ending::NEVER_RETURNED),
    }
    0
}

/// `SECCOMP_RET_KILL_THREAD` in a process with other threads ends the thread at once, without an exit of the
/// call. Every other death by a filter goes through a signal to the whole process, after an exit that was seen.
#[inline(always)]
fn killed_by_filter(task: Task, state: &TaskState) {
    let phase = phase_of(state.group);
    let code = task.exit_code();
    // The low seven bits are the signal: `do_exit(SIGSYS)`.
    let own_death = code & 0x7f == SIGSYS && task.group_exit_code() != Some(code);
    if !own_death || phase == 0 || state.flags & TaskState::SEEN == 0 || !task.is_filtered() {
        return;
    }
    if told(&KERNEL.has_task_pt_regs) == 0 {
        // SAFETY: a counter of ours.
        unsafe { add(&raw mut (*tally(state.group)).unnamed_kills) };
        return;
    }
    // SAFETY: the task is the one that the kernel handed to the hook.
    let registers = Registers(unsafe { bpf_task_pt_regs(task.as_ptr().cast()) } as *const c_void);
    let counted = Counted { call: task.call(registers.number()), group: state.group };
    if count::refused(&counted, Ending::REFUSED_BY_SIGNAL, phase, registers) {
        capture::keep_refused(&Made { task, counted, phase }, registers);
    }
}
