//! `cgroup_mkdir`: a cgroup below a recorded one is recorded too. The hook comes before the directory can be
//! seen, so no task is in it yet.

use core::ffi::c_void;

use aya_ebpf::{bindings::BPF_ANY, macros::btf_tracepoint, programs::BtfTracePointContext};
use profiler_ebpf::SLOT_COUNT;

use crate::{
    kernel::Cgroup,
    maps::{CGROUPS, SLOTS, add, tally},
    task,
};

#[btf_tracepoint(function = "cgroup_mkdir")]
fn cgroup_mkdir(context: BtfTracePointContext) -> i32 {
    let cgroup = Cgroup(context.arg::<*const c_void>(0));
    if !cgroup.is_v2() || !task::is_recorded(cgroup.parent().id()) {
        return 0;
    }
    let id = cgroup.id();
    if CGROUPS.insert(id, id, u64::from(BPF_ANY)).is_err() {
        // SAFETY: a counter of ours.
        unsafe { add(&raw mut (*tally()).cgroups_full) };
        return 0;
    }
    // Two ids in one slot: any of them will do, the other is found in the hash.
    let _ = SLOTS.set(id as u32 & (SLOT_COUNT - 1), id, u64::from(BPF_ANY));
    0
}
