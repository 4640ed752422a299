//! Building the objects.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use super::{
    object,
    toolchain::{Tools, clean},
};
use crate::system;

/// The programs of `profiler-ebpf`.
const PROGRAMS: [&str; 2] = ["recorder", "empty"];
/// The machines whose kernels they are for.
const MACHINES: [&str; 2] = ["x86_64", "aarch64"];
/// Little-endian BPF; all our machines are.
const TARGET: &str = "bpfel-unknown-none";

/// A built object, stripped.
pub(super) struct Built {
    /// Its file's name among the checked-in objects.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Builds every program for every machine.
pub(super) fn all(tools: &Tools, store: &Path) -> anyhow::Result<Vec<Built>> {
    let mut built = Vec::new();
    for machine in MACHINES {
        for program in PROGRAMS {
            let bytes = one(tools, store, program, machine)
                .with_context(|| format!("could not build `{program}` for {machine}"))?;
            built.push(Built { name: format!("{program}.{machine}.bpf.o"), bytes });
        }
    }
    Ok(built)
}

fn one(tools: &Tools, store: &Path, program: &str, machine: &str) -> anyhow::Result<Vec<u8>> {
    let target = store.join("bpf");
    let mut cargo = Command::new("rustup");
    clean(&mut cargo);
    cargo.current_dir(system::root()?);
    cargo.args(["run", &tools.toolchain, "cargo", "rustc", "--quiet", "--locked", "--release"]);
    cargo.args(["-Zbuild-std=core", "--target", TARGET, "--target-dir"]).arg(&target);
    cargo.args(["--package", "seccomp-learn-profiler-ebpf", "--features", "bpf", "--bin", program]);
    cargo.args(["--", "-Clink-arg=--btf", "--cfg", &format!("bpf_target_arch=\"{machine}\"")]);
    cargo.args(["--check-cfg", "cfg(bpf_target_arch, values(\"x86_64\", \"aarch64\"))"]);
    // What the verifier and the loader want: one module, no unwinding, types.
    for (setting, value) in
        [("LTO", "true"), ("CODEGEN_UNITS", "1"), ("PANIC", "abort"), ("DEBUG", "2"), ("STRIP", "none")]
    {
        cargo.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
    }
    // Names of symbols hang on the flags, but not on the linker's path nor on remapped prefixes.
    cargo.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &tools.linker);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", remapped(tools)?);
    // aya-ebpf's own name for the machine.
    cargo.env("AYA_BPF_TARGET_ARCH", machine);
    if let Some(compiler) = &tools.core.compiler {
        cargo.env("RUSTC", compiler);
    }
    system::run(&mut cargo)?;
    let path = target.join(TARGET).join("release").join(program);
    let bytes = fs::read(&path).with_context(|| format!("could not read `{}`", path.display()))?;
    object::strip(&bytes)
}

/// Flags that put fixed names in the place of this machine's folders.
fn remapped(tools: &Tools) -> anyhow::Result<OsString> {
    let registry = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => std::env::home_dir().context("there is no home folder; set `CARGO_HOME`")?.join(".cargo"),
    };
    let folders = [
        (system::root()?, "/seccomp-learn"),
        (registry, "/cargo"),
        (tools.sysroot.clone(), "/rust"),
        (tools.core.sysroot.clone(), "/rust"),
    ];
    let mut flags = OsString::new();
    for (folder, name) in folders {
        if !flags.is_empty() {
            flags.push("\x1f");
        }
        flags.push("--remap-path-prefix=");
        flags.push(folder);
        flags.push("=");
        flags.push(name);
    }
    Ok(flags)
}
