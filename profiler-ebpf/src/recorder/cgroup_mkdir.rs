//! `cgroup_mkdir`: a cgroup below a recorded one is recorded too, and one that was waited for becomes a target of
//! its own. The hook comes before the directory can be seen, so no task is in it yet; the kernel makes one cgroup
//! at a time.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_ktime_get_ns, generated::bpf_probe_read_kernel_str},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use profiler_ebpf::{Member, NAME_LENGTH, PATH_LENGTH, SLOT_COUNT, STARTUP, group, open, slot};

use crate::{
    kernel::Cgroup,
    maps::{
        CGROUPS, FREE, NEWS, NURSERIES, OPEN, SLOTS, TARGETS, WANTED, add, common_tally, is_fleet, opened,
        tally,
    },
};

#[btf_tracepoint(function = "cgroup_mkdir")]
fn cgroup_mkdir(context: BtfTracePointContext) -> i32 {
    let cgroup = Cgroup(context.arg::<*const c_void>(0));
    if !cgroup.is_v2() {
        return 0;
    }
    let parent = cgroup.parent().id();
    // SAFETY: the value is a word that nobody changes.
    let above = unsafe { CGROUPS.get(parent) }.copied();
    if is_fleet() {
        // SAFETY: as above.
        let depth = match above {
            Some(above) => above.depth,
            None => unsafe { NURSERIES.get(parent) }.copied().unwrap_or(0),
        };
        if depth > 0 || is_wanted(cgroup) {
            let parent = above.and_then(|above| opened(above.index)).map_or(0, |(target, _)| target);
            born(cgroup, parent, depth.saturating_sub(1), context.arg::<*const u8>(1));
            return 0;
        }
    }
    if let Some(above) = above
        && !enlist(cgroup.id(), Member { index: above.index, depth: 0 })
    {
        let of = opened(above.index).map_or(0, |(target, _)| target);
        // SAFETY: a counter of ours.
        unsafe { add(&raw mut (*tally(of)).cgroups_full) };
    }
    0
}

/// Records a cgroup. False if there was no room.
#[inline(always)]
fn enlist(id: u64, member: Member) -> bool {
    if CGROUPS.insert(id, member, u64::from(BPF_ANY)).is_err() {
        return false;
    }
    // Two ids in one slot: any of them will do, the other is found in the hash.
    let _ = SLOTS.set(id as u32 & (SLOT_COUNT - 1), slot(id, member.index), u64::from(BPF_ANY));
    true
}

/// Whether a cgroup of this name is waited for.
#[inline(always)]
fn is_wanted(cgroup: Cgroup) -> bool {
    let mut name = [0u8; NAME_LENGTH];
    // SAFETY: the buffer is as long as said; a longer name is cut, and is then no name that was waited for.
    unsafe {
        bpf_probe_read_kernel_str(name.as_mut_ptr().cast(), NAME_LENGTH as u32, cgroup.name().cast());
        WANTED.get(name).is_some()
    }
}

/// The cgroup becomes a target.
#[inline(always)]
fn born(cgroup: Cgroup, parent: u32, depth: u32, path: *const u8) {
    let id = cgroup.id();
    let Ok(Some(new)) = FREE.pop() else {
        // SAFETY: a counter of ours.
        unsafe { add(&raw mut (*common_tally()).targets_full) };
        return;
    };
    let index = group::index(new);
    let Some(target) = TARGETS.get_ptr_mut(index) else { return };
    // SAFETY: an element of the map that nobody else has until its target is opened.
    unsafe {
        (*target).group = new;
        (*target).parent = parent;
        (*target).cgroup = id;
        (*target).armed_ns = bpf_ktime_get_ns();
        bpf_probe_read_kernel_str((&raw mut (*target).path).cast(), PATH_LENGTH as u32, path.cast());
    }
    let _ = OPEN.set(index, open(new, STARTUP), u64::from(BPF_ANY));
    if !enlist(id, Member { index, depth }) {
        // SAFETY: a counter of ours.
        unsafe { add(&raw mut (*target).tally.cgroups_full) };
    }
    // Never full: there is room for every target.
    let _ = NEWS.push(new, u64::from(BPF_ANY));
}
