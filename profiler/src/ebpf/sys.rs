//! The few system calls that aya and nix do not wrap.

use std::{
    io,
    mem::{MaybeUninit, size_of},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use aya::Pod;
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_map_info, bpf_prog_info};
use profiler_ebpf::TaskState;

/// Inserts a task into a map of task storage, unless it is there already.
pub(super) fn insert_task(map: BorrowedFd<'_>, pidfd: BorrowedFd<'_>, state: &TaskState) -> io::Result<()> {
    let key = pidfd.as_raw_fd();
    // SAFETY: all zeros are a valid `bpf_attr`.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    attributes.__bindgen_anon_2.map_fd = map.as_raw_fd().unsigned_abs();
    attributes.__bindgen_anon_2.key = ptr::from_ref(&key).addr() as u64;
    attributes.__bindgen_anon_2.__bindgen_anon_1.value = ptr::from_ref(state).addr() as u64;
    attributes.__bindgen_anon_2.flags = u64::from(aya_obj::generated::BPF_NOEXIST);
    // SAFETY: key and value are of the sizes that the map was declared with, and outlive the call.
    match unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attributes) } {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other,
    }
}

/// How many runs of a program the kernel skipped because it was running already on that CPU.
pub(super) fn recursion_misses(program: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: all zeros are a valid `bpf_prog_info`, and ask for no arrays.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    // SAFETY: all zeros are a valid `bpf_attr`.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    attributes.info.bpf_fd = program.as_raw_fd().unsigned_abs();
    attributes.info.info_len = size_of::<bpf_prog_info>() as u32;
    attributes.info.info = ptr::from_mut(&mut info).addr() as u64;
    // SAFETY: `info` is as long as said, and outlives the call; an older kernel fills less of it.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attributes)? };
    Ok(info.recursion_misses)
}

/// Goes through all entries of a hash map, a whole batch with each call; those that are added or removed meanwhile
/// may be among them or not.
pub(super) fn scan<K: Pod, V: Pod>(map: BorrowedFd<'_>, mut each: impl FnMut(K, V)) -> io::Result<()> {
    const BATCH: usize = 4096;
    let mut room = BATCH;
    // What the kernel keeps between calls is the number of a bucket.
    let (mut place, mut next): (u32, u32) = (0, 0);
    let mut is_first = true;
    loop {
        let mut keys: Vec<MaybeUninit<K>> = Vec::with_capacity(room);
        let mut values: Vec<MaybeUninit<V>> = Vec::with_capacity(room);
        // SAFETY: all zeros are a valid `bpf_attr`.
        let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
        attributes.batch.map_fd = map.as_raw_fd().unsigned_abs();
        attributes.batch.in_batch = if is_first { 0 } else { ptr::from_ref(&place).addr() as u64 };
        attributes.batch.out_batch = ptr::from_mut(&mut next).addr() as u64;
        attributes.batch.keys = keys.as_mut_ptr().addr() as u64;
        attributes.batch.values = values.as_mut_ptr().addr() as u64;
        attributes.batch.count = room as u32;
        // SAFETY: both vectors have room for as many entries as said, of the map's own sizes.
        let result = unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attributes) };
        let errno = result.as_ref().err().and_then(io::Error::raw_os_error);
        match errno {
            None | Some(libc::ENOENT) => {}
            // One bucket holds more than there is room for.
            Some(libc::ENOSPC) if room < 64 * BATCH => {
                room *= 2;
                continue;
            }
            Some(_) => return result,
        }
        // SAFETY: the kernel wrote so many of each.
        unsafe {
            let count = (attributes.batch.count as usize).min(room);
            keys.set_len(count);
            values.set_len(count);
            for (key, value) in keys.into_iter().zip(values) {
                each(key.assume_init(), value.assume_init());
            }
        }
        if errno.is_some() {
            return Ok(());
        }
        place = next;
        is_first = false;
    }
}

/// Calls `use_it` with this part of an array map that can be mapped.
pub(super) fn with_mapped<T>(
    map: BorrowedFd<'_>,
    offset: usize,
    length: usize,
    use_it: impl FnOnce(*mut u8) -> T,
) -> io::Result<T> {
    // SAFETY: no preconditions.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let inside = offset % page;
    let begin = libc::off_t::try_from(offset - inside).map_err(io::Error::other)?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping of the map's own memory.
    let mapped = unsafe {
        libc::mmap(ptr::null_mut(), length + inside, protection, libc::MAP_SHARED, map.as_raw_fd(), begin)
    };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: within the mapping.
    let result = use_it(unsafe { mapped.cast::<u8>().add(inside) });
    // SAFETY: nothing of the mapping outlives this.
    unsafe { libc::munmap(mapped, length + inside) };
    Ok(result)
}

/// What the kernel says of a map.
pub(super) fn map_info(map: BorrowedFd<'_>) -> io::Result<bpf_map_info> {
    // SAFETY: all zeros are a valid `bpf_map_info`.
    let mut info: bpf_map_info = unsafe { std::mem::zeroed() };
    // SAFETY: all zeros are a valid `bpf_attr`.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    attributes.info.bpf_fd = map.as_raw_fd().unsigned_abs();
    attributes.info.info_len = size_of::<bpf_map_info>() as u32;
    attributes.info.info = ptr::from_mut(&mut info).addr() as u64;
    // SAFETY: `info` is as long as said, and outlives the call; an older kernel fills less of it.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attributes)? };
    Ok(info)
}

/// `bpf(2)`.
///
/// # Safety
/// Every pointer in `attributes` is valid for what `command` does with it.
unsafe fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<()> {
    // SAFETY: the caller's word; the size is that of the structure.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            ptr::from_mut(attributes),
            size_of::<bpf_attr>() as libc::c_long,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A descriptor of a process.
pub(super) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0 as libc::c_long) };
    let fd = i32::try_from(fd).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits until every program that is running on any CPU has ended.
pub(super) fn wait_for_running_programs() {
    // The command waits for an RCU grace period, which tracing programs hold up. A kernel without it
    // (`nohz_full`) leaves a window of less than a microsecond, whose loss the law of counts would show.
    const MEMBARRIER_CMD_GLOBAL: libc::c_long = 1;
    // SAFETY: no pointers are passed.
    let _ = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0 as libc::c_long) };
}

/// Gives back to the kernel what the allocator keeps without using it.
pub(super) fn return_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds, the clock of `bpf_ktime_get_ns`.
pub(super) fn monotonic_ns() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec()).unwrap_or(0))
    })
}
