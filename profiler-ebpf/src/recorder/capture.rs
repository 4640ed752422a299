//! Keeping arguments: distinct tuples, through masks that user space says, up to a bound.

use aya_ebpf::bindings::BPF_NOEXIST;
use profiler_ebpf::{Counted, MAX_TUPLES_A_CALL, Tuple, Width};

use crate::{
    kernel::Registers,
    maps::{MASKS, TUPLES, WIDTHS, add},
};

/// `-EEXIST`: another CPU was first.
const EXISTS: i32 = -17;

/// Keeps the call's arguments, if they are asked for.
#[inline(always)]
pub(crate) fn keep(counted: Counted, registers: Registers) {
    let Some(row) = counted.call.row() else { return };
    let Some(masks) = MASKS.get(row) else { return };
    if masks.kept == 0 {
        return;
    }
    let [a, b, c, d, e, f] = registers.arguments(counted.call);
    let [k, l, m, n, o, p] = masks.masks;
    let arguments = [a & k, b & l, c & m, d & n, e & o, f & p];
    count(&Tuple { counted, reserved: 0, arguments });
}

#[inline(never)]
fn count(tuple: &Tuple) {
    if let Some(count) = TUPLES.get_ptr_mut(tuple) {
        // SAFETY: an entry is removed only when no program can be at it.
        unsafe { add(count) };
        return;
    }
    let width = match WIDTHS.get_ptr_mut(tuple.counted) {
        Some(width) => width,
        None => {
            let _ = WIDTHS.insert(tuple.counted, Width { tuples: 0, wide: 0 }, u64::from(BPF_NOEXIST));
            // Full: there is no entry that says so, and user space knows that every call beyond is wide.
            let Some(width) = WIDTHS.get_ptr_mut(tuple.counted) else { return };
            width
        }
    };
    // SAFETY: as above.
    unsafe {
        let kept = if (*width).tuples >= MAX_TUPLES_A_CALL {
            None
        } else {
            match TUPLES.insert(tuple, 0, u64::from(BPF_NOEXIST)) {
                Ok(()) => {
                    add(&raw mut (*width).tuples);
                    TUPLES.get_ptr_mut(tuple)
                }
                Err(EXISTS) => TUPLES.get_ptr_mut(tuple),
                Err(_) => None,
            }
        };
        match kept {
            Some(count) => add(count),
            None => add(&raw mut (*width).wide),
        }
    }
}
