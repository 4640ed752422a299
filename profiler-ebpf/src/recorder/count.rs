//! Counting: rows, endings, first sight.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns},
};
use profiler_ebpf::{Call, Cell, Ending, FirstSight};

use crate::maps::{CELLS, ENDINGS, FIRST, RARE, add, tally};

/// `-EEXIST`: another CPU was first.
const EXISTS: i32 = -17;

/// Counts a call that was entered. False if there was no row for it; then it was counted as lost.
#[inline(always)]
pub(crate) fn enter(call: Call, phase: u32) -> bool {
    if let Some(cell) = own_cell(call) {
        // SAFETY: this CPU's cell, which no other CPU writes; a program that is preempted by itself is not run.
        unsafe {
            (*cell).calls += 1;
            if (*cell).phases & phase == 0 {
                sight(call, cell, phase);
            }
        }
        return true;
    }
    let Some(cell) = rare_cell(call) else { return false };
    // SAFETY: a cell of the hash, whose entries are never removed.
    unsafe {
        add(&raw mut (*cell).calls);
        if (*cell).phases & phase == 0 {
            sight(call, cell, phase);
        }
    }
    true
}

/// Counts a call that returned something that is no error.
#[inline(always)]
pub(crate) fn ok(call: Call) {
    if let Some(cell) = own_cell(call) {
        // SAFETY: this CPU's cell.
        unsafe { (*cell).ok += 1 };
    } else if let Some(cell) = rare_cell(call) {
        // SAFETY: a cell of the hash, shared by all CPUs.
        unsafe { add(&raw mut (*cell).ok) };
    }
}

/// Counts a call that failed.
#[inline(always)]
pub(crate) fn error(call: Call, errno: u32) {
    if let Some(cell) = own_cell(call) {
        // The first error of the cell is counted in place: a loop on EAGAIN never meets the hash.
        // SAFETY: this CPU's cell.
        unsafe {
            if (*cell).errno == errno {
                (*cell).errors += 1;
                return;
            }
            if (*cell).errno == 0 {
                (*cell).errno = errno;
                (*cell).errors = 1;
                return;
            }
        }
    }
    ending(call, errno);
}

/// Counts a call that a filter answered: `kind` is an [`Ending::REFUSED`].
#[inline(always)]
pub(crate) fn refused(call: Call, kind: u32, phase: u32) {
    let Some(cell) = own_cell(call).or_else(|| rare_cell(call)) else { return };
    // SAFETY: a cell of ours; only its phases are written, as at any first sight.
    unsafe {
        if (*cell).phases & phase == 0 {
            sight(call, cell, phase);
        }
    }
    ending(call, kind);
}

/// Counts an ending in the hash.
#[inline(never)]
pub(crate) fn ending(call: Call, kind: u32) {
    let key = Ending { call, kind };
    if let Some(count) = ENDINGS.get_ptr_mut(key) {
        // SAFETY: entries are never removed.
        unsafe { add(count) };
        return;
    }
    // Another CPU may insert meanwhile: whoever is second must find the entry and add to it.
    let _ = ENDINGS.insert(key, 0, u64::from(BPF_NOEXIST));
    let counter = match ENDINGS.get_ptr_mut(key) {
        Some(count) => count,
        // SAFETY: a counter of ours.
        None => unsafe { &raw mut (*tally()).endings_full },
    };
    // SAFETY: entries are never removed.
    unsafe { add(counter) };
}

/// This CPU's cell; none for a call that has no row.
#[inline(always)]
fn own_cell(call: Call) -> Option<*mut Cell> {
    call.row().and_then(|row| CELLS.get_ptr_mut(row))
}

/// The shared cell of a call without a row. None if the hash is full; counted as lost.
#[inline(never)]
fn rare_cell(call: Call) -> Option<*mut Cell> {
    if let Some(cell) = RARE.get_ptr_mut(call) {
        return Some(cell);
    }
    let empty = Cell { calls: 0, ok: 0, errors: 0, errno: 0, phases: 0 };
    let _ = RARE.insert(call, empty, u64::from(BPF_NOEXIST));
    let cell = RARE.get_ptr_mut(call);
    if cell.is_none() {
        // SAFETY: a counter of ours.
        unsafe { add(&raw mut (*tally()).rows_full) };
    }
    cell
}

/// The first event of a call on this CPU in this phase: who and when, unless another CPU was first.
#[inline(never)]
fn sight(call: Call, cell: *mut Cell, phase: u32) {
    // SAFETY: the caller's cell. Bits are only ever set; in a shared cell a lost bit is set by the next call.
    let phases = unsafe { (*cell).phases };
    if phases == 0 {
        let first = FirstSight {
            // SAFETY: no preconditions.
            nanoseconds: unsafe { bpf_ktime_get_ns() },
            process: (bpf_get_current_pid_tgid() >> 32) as u32,
            reserved: 0,
            comm: bpf_get_current_comm().unwrap_or_default(),
        };
        // If the kernel had no room just now, the next call tries again.
        if !matches!(FIRST.insert(call, first, u64::from(BPF_NOEXIST)), Ok(()) | Err(EXISTS)) {
            return;
        }
    }
    // SAFETY: as above.
    unsafe { (*cell).phases = phases | phase };
}
