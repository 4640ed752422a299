//! `cgroup_release`: the last task has left a removed cgroup; its place in the bounded tables is free again.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{
    kernel::Cgroup,
    maps::{CGROUPS, NURSERIES, TARGETS, is_fleet},
};

#[btf_tracepoint(function = "cgroup_release")]
fn cgroup_release(context: BtfTracePointContext) -> i32 {
    let cgroup = Cgroup(context.arg::<*const c_void>(0));
    if !cgroup.is_v2() {
        return 0;
    }
    let id = cgroup.id();
    if is_fleet() {
        let _ = NURSERIES.remove(id);
        // SAFETY: the value is a word that nobody changes; an element of the map.
        unsafe {
            if let Some(member) = CGROUPS.get(id)
                && let Some(target) = TARGETS.get_ptr_mut(member.index)
                && (*target).cgroup == id
            {
                (*target).released = 1;
            }
        }
    }
    // Its slot stays as it is: a neighbour may rely on it, and the id never comes again.
    let _ = CGROUPS.remove(id);
    0
}
