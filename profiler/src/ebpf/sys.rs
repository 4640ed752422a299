//! The few system calls that aya and nix do not wrap.

use std::{
    io,
    mem::size_of,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_prog_info};
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

/// `CLOCK_MONOTONIC` in nanoseconds, the clock of `bpf_ktime_get_ns`.
pub(super) fn monotonic_ns() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec()).unwrap_or(0))
    })
}
