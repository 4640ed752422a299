//! Attaches BPF programs and holds them until its standard input ends: for `cargo xtask bench overhead`.
//!
//! `hold record DIRECTORY` records a cgroup as the tool does, `hold arguments DIRECTORY` with the arguments of two
//! calls, `hold fleet DIRECTORY…` many cgroups, with these arguments; `hold empty HOOK…` attaches programs that do
//! nothing. `hold memory DIRECTORY COUNT` holds nothing: it makes so many cgroups
//! below the directory, records a program in each, and says how much memory that took.

#![expect(clippy::print_stdout, reason = "says when the programs are attached")]

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, bail};
use aya::{Btf, Ebpf, programs::BtfTracePoint};
use seccomp_learn_profiler::{
    CaptureArgument, CaptureCall, CapturePlan, Descriptor,
    ebpf::{EbpfRecorder, Fleet, Watch},
};
use trace::{Abi, Kept};

#[cfg(target_arch = "x86_64")]
static EMPTY: &[u8] = aya::include_bytes_aligned!("../../profiler-ebpf/objects/empty.x86_64.bpf.o");
#[cfg(target_arch = "aarch64")]
static EMPTY: &[u8] = aya::include_bytes_aligned!("../../profiler-ebpf/objects/empty.aarch64.bpf.o");
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static EMPTY: &[u8] = &[];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["record", directory] => record(directory, &CapturePlan::default())?,
        ["arguments", directory] => record(directory, &arguments_kept()?)?,
        ["fleet", directories @ ..] if !directories.is_empty() => {
            let mut fleet = Fleet::start(true)?;
            fleet.keep(&arguments_kept()?)?;
            for directory in directories {
                fleet.add(Path::new(directory))?;
            }
            hold()?;
            drop(fleet);
        }
        ["memory", directory, count] => memory(Path::new(directory), count.parse()?)?,
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
        _ => bail!(
            "usage: hold record DIRECTORY | hold arguments DIRECTORY | hold fleet DIRECTORY… | hold memory DIRECTORY COUNT | hold empty HOOK…"
        ),
    }
    Ok(())
}

fn record(directory: &str, plan: &CapturePlan) -> anyhow::Result<()> {
    let recorder = EbpfRecorder::start(&Watch::Cgroup(directory.into()), plan)?;
    hold()?;
    drop(recorder);
    Ok(())
}

/// What is kept of the calls that are measured, as by the table of the tool: of `getsockopt` the level and the
/// option, of `ioctl` the request and what the descriptor is.
fn arguments_kept() -> anyhow::Result<CapturePlan> {
    let abi = Abi::native_of(std::env::consts::ARCH).context("no ABI of this machine")?;
    let call = |syscall: &str, kept: &[u32], descriptor: Option<u32>| {
        let argument = |index: &u32| CaptureArgument {
            kept: Kept { index: *index, offset: None, name: format!("argument {index}"), mask: 0xffff_ffff },
            width: 32,
        };
        let number = abi.number(syscall).with_context(|| format!("no call `{syscall}`"))?;
        let descriptor = descriptor.map(|index| Descriptor { index, unless: None });
        anyhow::Ok(CaptureCall { abi, number, arguments: kept.iter().map(argument).collect(), descriptor })
    };
    let calls = vec![call("getsockopt", &[1, 2], None)?, call("ioctl", &[1], Some(0))?];
    Ok(CapturePlan { calls, opens: true })
}

/// Records so many cgroups with a program in each, and prints in KiB: this process's memory, that of the maps here,
/// and that of the maps with 256 possible CPUs.
fn memory(directory: &Path, count: usize) -> anyhow::Result<()> {
    let mut fleet = Fleet::start(true)?;
    fleet.keep(&arguments_kept()?)?;
    fleet.nurse(directory, 1)?;
    for index in 0..count {
        let path = directory.join(index.to_string());
        fs::create_dir(&path)?;
        let script = format!("echo $$ > {}/cgroup.procs; exec ls -l /", path.display());
        let status = Command::new("sh").args(["-c", &script]).stdout(std::process::Stdio::null()).status()?;
        anyhow::ensure!(status.success(), "the program in `{}` failed", path.display());
    }
    let born = fleet.news()?;
    anyhow::ensure!(born.len() == count, "{} of {count} cgroups became targets", born.len());
    let status = fs::read_to_string("/proc/self/status")?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let resident = resident.trim().trim_end_matches(" kB").to_owned();
    let memory = fleet.memory()?;
    let targets: Vec<_> = born.iter().map(|born| born.target).collect();
    let sets: Vec<_> = targets.iter().map(std::slice::from_ref).collect();
    let lost = fleet.take_each(&sets)?.iter().filter(|taken| taken.observations.losses.lost_calls()).count();
    for index in 0..count {
        fs::remove_dir(directory.join(index.to_string()))?;
    }
    println!("{resident} {} {} {lost}", memory.maps / 1024, memory.for_cpus(256) / 1024);
    Ok(())
}

fn hold() -> anyhow::Result<()> {
    println!("attached");
    std::io::stdout().flush()?;
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest)?;
    Ok(())
}
