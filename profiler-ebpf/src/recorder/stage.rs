//! The stages of a container's start: what the runtime does before its filter is, or would be, loaded, and what
//! afterwards.

use profiler_ebpf::{Call, TaskState, group};

use crate::{
    kernel::{KERNEL, Registers, Task, told},
    maps::TARGETS,
};

/// Moves a task of a container runtime on, before the call that it now makes is counted.
#[inline(always)]
pub(crate) fn advance(task: Task, state: &mut TaskState, call: Call, registers: Registers) {
    if told(&KERNEL.stages) == 0 {
        return;
    }
    let class = group::class(state.group);
    if class != group::SETUP && class != group::MARKED {
        return;
    }
    let Some(target) = TARGETS.get_ptr_mut(group::index(state.group)) else { return };
    if task.filters() > state.filters {
        state.group = group::target(state.group) | group::START;
        // SAFETY: an element of the map; the flag is only ever set.
        unsafe { (*target).loaded = 1 };
    } else if class == group::SETUP && is_marker(call, registers) {
        state.group = group::target(state.group) | group::MARKED;
        // SAFETY: as above.
        unsafe { (*target).marked = 1 };
    }
}

/// Whether a runtime makes this call shortly before the earliest moment at which it loads a filter.
#[inline(always)]
fn is_marker(call: Call, registers: Registers) -> bool {
    /// `prctl` in the two native tables.
    const PRCTL: u32 = if cfg!(bpf_target_arch = "x86_64") { 157 } else { 167 };
    /// `access`; arm64 has only `faccessat`, whose mode is the third argument.
    const ACCESS: u32 = if cfg!(bpf_target_arch = "x86_64") { 21 } else { 48 };
    // `include/uapi/linux/prctl.h`, and `X_OK` of `unistd.h`.
    const PR_GET_PDEATHSIG: u32 = 2;
    const PR_SET_KEEPCAPS: u32 = 8;
    const PR_CAPBSET_DROP: u32 = 24;
    const X_OK: u32 = 1;
    if call.abi != Call::NATIVE || call.number != PRCTL && call.number != ACCESS {
        return false;
    }
    let [first, second, third, ..] = registers.arguments(call);
    if call.number == ACCESS {
        // crun 1.8.1 looks its program up after pivot_root; soon after that it loads the filter, also for `exec`.
        let mode = if cfg!(bpf_target_arch = "x86_64") { second } else { third };
        return mode as u32 == X_OK;
    }
    // runc reads the signal of its parent's death, then tells its parent that it is ready, then loads the filter:
    // https://github.com/opencontainers/runc/blob/v1.1.5/libcontainer/standard_init_linux.go. For `exec` it gives
    // up capabilities soon after loading it, and so does any other runtime.
    let option = first as u32;
    option == PR_GET_PDEATHSIG || option == PR_SET_KEEPCAPS || option == PR_CAPBSET_DROP
}
