//! Paths of the GPU driver's files that are opened. Read when the call ends: at its beginning the page with the
//! path may not be there yet.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::generated::bpf_probe_read_user_str};
use profiler_ebpf::{OPENED_PATH, Opened, Seen, group};

use crate::{
    count,
    maps::{OPENED, add, tally},
};

/// How the parts of the paths begin, from a slash on, that are kept. User space looks closer.
const PARTS: [u64; 8] = [
    u64::from_be_bytes(*b"/dev/nvi"),
    u64::from_be_bytes(*b"/dev/dri"),
    u64::from_be_bytes(*b"/dev/gdr"),
    u64::from_be_bytes(*b"/dev/shm"),
    u64::from_be_bytes(*b"/proc/dr"),
    u64::from_be_bytes(*b"/libcuda"),
    u64::from_be_bytes(*b"/libnvid"),
    u64::from_be_bytes(*b"/libnvcu"),
];
/// The end of a folder's name, below which paths are kept: `ComputeCache`.
const FOLDER: u64 = u64::from_be_bytes(*b"teCache/");

/// Keeps the path at an address of the running task, which opened it or tried to, if it is one of the driver's and
/// the workload did.
#[inline(never)]
pub(crate) fn keep(of: u32, errno: u32, address: u64) {
    if group::class(of) != group::WORKLOAD {
        return;
    }
    let mut key = Opened { group: of, errno, path: [0; OPENED_PATH] };
    // SAFETY: the buffer is as long as said; the helper looks after addresses that are none.
    let length = unsafe {
        bpf_probe_read_user_str(
            key.path.as_mut_ptr().cast(),
            OPENED_PATH as u32,
            core::ptr::with_exposed_provenance(address as usize),
        )
    };
    if length <= 0 || !is_kept(&key.path) {
        return;
    }
    if OPENED.get_ptr_mut(&key).is_none() && (length as usize) < OPENED_PATH {
        let fresh = Seen { calls: 0, denied: 0, first: count::first_sight() };
        let _ = OPENED.insert(&key, &fresh, u64::from(BPF_NOEXIST));
    }
    // SAFETY: an entry is removed only when no program can be at it; a counter of ours.
    unsafe {
        match OPENED.get_ptr_mut(&key) {
            Some(opened) => add(&raw mut (*opened).calls),
            None => add(&raw mut (*tally(of)).opens_beyond),
        }
    }
}

/// Whether the path looks like one that is kept.
#[inline(always)]
fn is_kept(path: &[u8; OPENED_PATH]) -> bool {
    // The last eight bytes; before the first, as if there were a slash.
    let mut last = u64::from(b'/');
    for byte in path {
        if *byte == 0 {
            return false;
        }
        last = last << 8 | u64::from(*byte);
        if last >> 56 == u64::from(b'/') && PARTS.contains(&last) || last == FOLDER {
            return true;
        }
    }
    false
}
