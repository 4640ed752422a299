//! Programs that do nothing, on the hooks of the recorder: what `cargo xtask bench overhead` compares with.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod program {
    use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

    #[btf_tracepoint(function = "sys_enter")]
    fn sys_enter(_: BtfTracePointContext) -> i32 {
        0
    }

    #[btf_tracepoint(function = "sys_exit")]
    fn sys_exit(_: BtfTracePointContext) -> i32 {
        0
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 4] = *b"GPL\0";
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
