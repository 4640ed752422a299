//! `cgroup_release`: the last task has left a removed cgroup; its place in the bounded table is free again.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{kernel::Cgroup, maps::CGROUPS};

#[btf_tracepoint(function = "cgroup_release")]
fn cgroup_release(context: BtfTracePointContext) -> i32 {
    let cgroup = Cgroup(context.arg::<*const c_void>(0));
    if cgroup.is_v2() {
        // Its slot stays as it is: a neighbour may rely on it, and the id never comes again.
        let _ = CGROUPS.remove(cgroup.id());
    }
    0
}
