//! Attaches BPF programs and holds them until its standard input ends: for `cargo xtask bench overhead`.
//!
//! `hold record DIRECTORY` records a cgroup as the tool does; `hold empty HOOK…` attaches programs that do nothing.

#![expect(clippy::print_stdout, reason = "says when the programs are attached")]

use std::io::{Read as _, Write as _};

use anyhow::{Context as _, bail};
use aya::{Btf, Ebpf, programs::BtfTracePoint};
use seccomp_learn_profiler::ebpf::{EbpfRecorder, Watch};

#[cfg(target_arch = "x86_64")]
static EMPTY: &[u8] = aya::include_bytes_aligned!("../../profiler-ebpf/objects/empty.x86_64.bpf.o");
#[cfg(target_arch = "aarch64")]
static EMPTY: &[u8] = aya::include_bytes_aligned!("../../profiler-ebpf/objects/empty.aarch64.bpf.o");
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static EMPTY: &[u8] = &[];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["record", directory] => {
            let recorder = EbpfRecorder::start(&Watch::Cgroup((*directory).into()))?;
            hold()?;
            drop(recorder);
        }
        ["empty", hooks @ ..] if !hooks.is_empty() => {
            let types = Btf::from_sys_fs()?;
            let mut ebpf = Ebpf::load(EMPTY)?;
            for hook in hooks {
                let program = ebpf.program_mut(hook).with_context(|| format!("no program `{hook}`"))?;
                let program: &mut BtfTracePoint = program.try_into()?;
                program.load(hook, &types)?;
                program.attach()?;
            }
            hold()?;
        }
        _ => bail!("usage: hold record DIRECTORY | hold empty HOOK…"),
    }
    Ok(())
}

fn hold() -> anyhow::Result<()> {
    println!("attached");
    std::io::stdout().flush()?;
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest)?;
    Ok(())
}
