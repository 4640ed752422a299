//! The recorder's BPF program: counts what recorded tasks ask for, in maps. One file for each hook.
//!
//! Built by `cargo xtask ebpf` for `bpfel-unknown-none`; on other targets it is empty.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "atomic add has no other name for this target")
)]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]

#[cfg(target_arch = "bpf")]
mod capture;
#[cfg(target_arch = "bpf")]
mod cgroup_mkdir;
#[cfg(target_arch = "bpf")]
mod cgroup_release;
#[cfg(target_arch = "bpf")]
mod count;
#[cfg(target_arch = "bpf")]
mod file;
#[cfg(target_arch = "bpf")]
mod in_flight;
#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod opened;
#[cfg(target_arch = "bpf")]
mod process_exec;
#[cfg(target_arch = "bpf")]
mod process_exit;
#[cfg(target_arch = "bpf")]
mod process_fork;
#[cfg(target_arch = "bpf")]
mod seed;
#[cfg(target_arch = "bpf")]
mod stage;
#[cfg(target_arch = "bpf")]
mod sys_enter;
#[cfg(target_arch = "bpf")]
mod sys_exit;
#[cfg(target_arch = "bpf")]
mod task;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel lends `bpf_get_current_task_btf` only to programs under a licence compatible with the GPL.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}
