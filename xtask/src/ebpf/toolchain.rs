//! The pinned compiler and linker.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use super::core_source::CoreSource;
use crate::system;

/// The compiler, as rustup names it.
pub(super) const NIGHTLY: &str = "nightly-2026-05-20";
/// The commit it was built from.
const COMMIT: &str = "e50aa6fba4e63ab34c72bf9acfd2c307c1155d1a";
/// The last version of the linker that brings no LLVM but uses the compiler's.
const LINKER_VERSION: &str = "0.10.2";

/// What builds a BPF object.
pub(super) struct Tools {
    /// The name under which rustup knows the compiler.
    pub toolchain: String,
    /// Where the compiler is installed.
    pub sysroot: PathBuf,
    /// The sources of `core`.
    pub core: CoreSource,
    /// The linker.
    pub linker: PathBuf,
}

impl Tools {
    /// Finds what is there, and installs what is not: the compiler into rustup's home, the rest into `store`.
    pub(super) fn ensure(store: &Path) -> anyhow::Result<Self> {
        let toolchain = nightly("building BPF objects")?;
        let sysroot = printed(compiler(&toolchain).args(["--print", "sysroot"]))?;
        let sysroot = PathBuf::from(sysroot.trim());
        let core = CoreSource::ensure(&toolchain, &sysroot, store)?;
        Ok(Self { linker: linker(store)?, toolchain, sysroot, core })
    }
}

/// The pinned compiler, installed if it is not there; `why` ends the sentence "`rustup` is missing for".
pub(crate) fn nightly(why: &str) -> anyhow::Result<String> {
    if system::find_program("rustup").is_none() {
        bail!("`rustup` is missing for {why}; install it from rustup.rs");
    }
    if let Some(toolchain) = installed() {
        return Ok(toolchain);
    }
    system::note(&format!("installing the compiler {NIGHTLY}"));
    let mut install = Command::new("rustup");
    install.args(["toolchain", "install", NIGHTLY, "--profile", "minimal"]);
    system::run(install.args(["--component", "rust-src", "--no-self-update"]))
        .with_context(|| format!("the compiler `{NIGHTLY}` could not be had from rustup"))?;
    installed().with_context(|| format!("`{NIGHTLY}` is not of commit {COMMIT}"))
}

/// A toolchain of the pinned commit, under whichever name it is installed.
fn installed() -> Option<String> {
    [NIGHTLY, "nightly"].into_iter().map(str::to_owned).find(|name| {
        printed(compiler(name).arg("-vV")).is_ok_and(|version| {
            version.lines().any(|line| line.strip_prefix("commit-hash: ") == Some(COMMIT))
        })
    })
}

/// The compiler of a toolchain. Asking for one that is not there must not install it.
fn compiler(toolchain: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", toolchain, "rustc"]).env("RUSTUP_AUTO_INSTALL", "0");
    command
}

/// What a command prints; its own complaints are part of the error.
pub(crate) fn printed(command: &mut Command) -> anyhow::Result<String> {
    let shown = system::show(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("could not start `{shown}`"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let last = complaint.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        bail!("`{shown}` failed with {}: {last}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn linker(store: &Path) -> anyhow::Result<PathBuf> {
    let program = store.join("bin/bpf-linker");
    let is_pinned = |path: &Path| {
        printed(Command::new(path).arg("--version"))
            .is_ok_and(|version| version.split_whitespace().any(|word| word == LINKER_VERSION))
    };
    if is_pinned(&program) {
        return Ok(program);
    }
    system::note(&format!("installing bpf-linker {LINKER_VERSION} into {}", store.display()));
    let mut install = system::cargo()?;
    clean(&mut install);
    // Not optimized: LLVM, which does the work, comes compiled with the compiler.
    install.args(["install", "--quiet", "--locked", "--force", "--debug", "--root"]);
    install.arg(store).arg("--target-dir");
    install.arg(store.join("bpf-linker")).arg(format!("bpf-linker@{LINKER_VERSION}"));
    system::run(&mut install).context("bpf-linker could not be had from the package registry")?;
    // What it was compiled from is of no use any more.
    let _ = fs::remove_dir_all(store.join("bpf-linker"));
    Ok(program)
}

/// Takes away what the cargo that runs this task, or the user's shell, would hand on to a build of its own.
pub(crate) fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let own = text.starts_with("CARGO_PROFILE_")
            || text.starts_with("CARGO_BUILD_")
            || text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_TARGET_");
        if own || ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC", "RUSTC_WRAPPER"].contains(&&*text) {
            command.env_remove(name);
        }
    }
}
