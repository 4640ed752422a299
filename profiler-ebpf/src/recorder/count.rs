//! Counting: rows, endings, first sight.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns},
};
use profiler_ebpf::{
    Call, Cell, Counted, Ending, FirstSight, Refused, Shared, SharedCell, TABLE_NUMBERS, group,
};

use crate::{
    kernel::Registers,
    maps::{BLOCKS, CELLS, ENDINGS, FIRST, RARE, REFUSED, TARGETS, WIDTHS, add, is_fleet, tally},
};

/// `-EEXIST`: another CPU was first.
const EXISTS: i32 = -17;
/// `-E2BIG`: the map is full.
const FULL: i32 = -7;

/// Counts a call that was entered. False if there was no row for it; then it was counted as lost.
#[inline(always)]
pub(crate) fn enter(counted: Counted, phase: u32) -> bool {
    if !is_fleet()
        && let Some(cell) = own_cell(counted.call)
    {
        // SAFETY: this CPU's cell, which no other CPU writes; a program that is preempted by itself is not run.
        unsafe {
            (*cell).calls += 1;
            if (*cell).phases & phase == 0 {
                sight(counted, &raw mut (*cell).phases, phase);
            }
        }
        return true;
    }
    if let Some(cell) = block_cell(counted) {
        // SAFETY: a cell of the target's block.
        unsafe {
            add(&raw mut (*cell).calls);
            if (*cell).phases & phase == 0 {
                sight(counted, &raw mut (*cell).phases, phase);
            }
        }
        return true;
    }
    let Some(cell) = rare_cell(&counted) else { return false };
    // SAFETY: a cell of the hash; an entry is removed only when no program can be at it.
    unsafe {
        add(&raw mut (*cell).calls);
        if (*cell).phases & phase == 0 {
            (*cell).phases |= phase;
        }
    }
    true
}

/// Counts a call that returned something that is no error.
#[inline(always)]
pub(crate) fn ok(counted: Counted) {
    if !is_fleet()
        && let Some(cell) = own_cell(counted.call)
    {
        // SAFETY: this CPU's cell.
        unsafe { (*cell).ok += 1 };
    } else if let Some(cell) = block_cell(counted) {
        // SAFETY: a cell of the target's block.
        unsafe { add(&raw mut (*cell).ok) };
    } else if let Some(cell) = rare_cell(&counted) {
        // SAFETY: a cell of the hash, shared by all CPUs.
        unsafe { add(&raw mut (*cell).ok) };
    }
}

/// Counts a call that failed.
#[inline(always)]
pub(crate) fn error(counted: Counted, errno: u32) {
    if !is_fleet()
        && let Some(cell) = own_cell(counted.call)
    {
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
    if errno == SharedCell::ERRNO
        && let Some(cell) = block_cell(counted)
    {
        // SAFETY: a cell of the target's block.
        unsafe { add(&raw mut (*cell).errors) };
        return;
    }
    ending(counted, errno);
}

/// Counts a call that a filter answered: `kind` is an [`Ending::REFUSED`]. False if there was no row for it; then
/// it was counted as lost. Not inlined: the stacks of all callers and callees together are 512 bytes.
#[inline(never)]
pub(crate) fn refused(counted: &Counted, kind: u32, phase: u32, registers: Registers) -> bool {
    let counted = *counted;
    // SAFETY: cells of ours; only their phases are written, as at any first sight.
    unsafe {
        if !is_fleet()
            && let Some(cell) = own_cell(counted.call)
        {
            if (*cell).phases & phase == 0 {
                sight(counted, &raw mut (*cell).phases, phase);
            }
        } else if let Some(cell) = block_cell(counted) {
            if (*cell).phases & phase == 0 {
                sight(counted, &raw mut (*cell).phases, phase);
            }
        } else if let Some(cell) = rare_cell(&counted) {
            (*cell).phases |= phase;
        } else {
            return false;
        }
    }
    if !is_fleet() || !refused_at(&Ending { counted, kind }, registers) {
        ending(counted, kind);
    }
    true
}

/// How many tuples of arguments are kept for a call that was counted; none for one that has no row.
#[inline(always)]
pub(crate) fn tuples(counted: Counted) -> Option<*mut u32> {
    if !is_fleet() {
        return counted.call.row().and_then(|row| WIDTHS.get_ptr_mut(row));
    }
    // SAFETY: cells of ours.
    unsafe {
        match block_cell(counted) {
            Some(cell) => Some(&raw mut (*cell).tuples),
            None => RARE.get_ptr_mut(&counted).map(|shared| &raw mut (*shared).cell.tuples),
        }
    }
}

/// Counts a refusal together with its arguments. False if there was no room for it.
#[inline(never)]
fn refused_at(key: &Ending, registers: Registers) -> bool {
    if REFUSED.get_ptr_mut(key).is_none() {
        let fresh =
            Refused { count: 0, arguments: registers.arguments(key.counted.call), first: first_sight() };
        let _ = REFUSED.insert(key, &fresh, u64::from(BPF_NOEXIST));
    }
    // SAFETY: an entry is removed only when no program can be at it; an element of the map.
    unsafe {
        if let Some(refused) = REFUSED.get_ptr_mut(key) {
            add(&raw mut (*refused).count);
            return true;
        }
        if let Some(target) = TARGETS.get_ptr_mut(group::index(key.counted.group)) {
            (*target).refused_full = 1;
        }
    }
    false
}

/// Counts an ending in the hash.
#[inline(never)]
pub(crate) fn ending(counted: Counted, kind: u32) {
    let key = Ending { counted, kind };
    if let Some(count) = ENDINGS.get_ptr_mut(key) {
        // SAFETY: an entry is removed only when no program can be at it.
        unsafe { add(count) };
        return;
    }
    // Another CPU may insert meanwhile: whoever is second must find the entry and add to it.
    let _ = ENDINGS.insert(key, 0, u64::from(BPF_NOEXIST));
    let counter = match ENDINGS.get_ptr_mut(key) {
        Some(count) => count,
        // SAFETY: a counter of ours.
        None => unsafe { &raw mut (*tally(counted.group)).endings_full },
    };
    // SAFETY: as above.
    unsafe { add(counter) };
}

/// This CPU's cell; none for a call that has no row.
#[inline(always)]
fn own_cell(call: Call) -> Option<*mut Cell> {
    call.row().and_then(|row| CELLS.get_ptr_mut(row))
}

/// The cell in the target's block; none for what has no row there, or where there is only one target.
#[inline(always)]
fn block_cell(counted: Counted) -> Option<*mut SharedCell> {
    let has_row = counted.call.abi == Call::NATIVE
        && counted.call.number < TABLE_NUMBERS
        && group::class(counted.group) == group::WORKLOAD;
    if !is_fleet() || !has_row {
        return None;
    }
    BLOCKS.get_ptr_mut(group::index(counted.group) * TABLE_NUMBERS + counted.call.number)
}

/// The shared cell of a call without a row. None if the hash is full; counted as lost.
#[inline(never)]
fn rare_cell(counted: &Counted) -> Option<*mut SharedCell> {
    if RARE.get_ptr_mut(counted).is_none() {
        let cell = SharedCell { calls: 0, ok: 0, errors: 0, tuples: 0, phases: 0 };
        // Whoever inserts it is the first.
        let fresh = Shared { cell, first: first_sight() };
        let _ = RARE.insert(counted, &fresh, u64::from(BPF_NOEXIST));
    }
    let Some(shared) = RARE.get_ptr_mut(counted) else {
        // SAFETY: a counter of ours.
        unsafe { add(&raw mut (*tally(counted.group)).rows_full) };
        return None;
    };
    // SAFETY: an entry is removed only when no program can be at it.
    Some(unsafe { &raw mut (*shared).cell })
}

/// The first event of a call in this cell and this phase: who and when, unless another CPU was first.
#[inline(never)]
fn sight(counted: Counted, phases: *mut u32, phase: u32) {
    // SAFETY: the caller's cell. Bits are only ever set; in a shared cell a lost bit is set by the next call.
    let before = unsafe { *phases };
    if before == 0 {
        match FIRST.insert(&counted, &first_sight(), u64::from(BPF_NOEXIST)) {
            Ok(()) | Err(EXISTS) => {}
            Err(FULL) if is_fleet() => {
                // SAFETY: a counter of ours.
                unsafe { add(&raw mut (*tally(counted.group)).rows_full) };
            }
            // If the kernel had no room just now, the next call tries again.
            Err(_) => return,
        }
    }
    // SAFETY: as above.
    unsafe { *phases = before | phase };
}

/// The running task, now.
#[inline(always)]
pub(crate) fn first_sight() -> FirstSight {
    FirstSight {
        // SAFETY: no preconditions.
        nanoseconds: unsafe { bpf_ktime_get_ns() },
        process: (bpf_get_current_pid_tgid() >> 32) as u32,
        phases: 0,
        comm: bpf_get_current_comm().unwrap_or_default(),
    }
}
