//! `cargo xtask ebpf`: builds the BPF objects that are checked in beside their source, or checks that they are
//! what the source gives.
//!
//! The compiler, the sources of `core` and the linker are pinned, and paths are remapped, so that any folder on
//! any machine gives the same instructions. `core`'s sources and the linker are fetched if they are not there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::system;

mod btf;
mod build;
mod core_source;
mod object;
pub(crate) mod toolchain;

/// Options of `ebpf`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Builds into `target/` and compares with the checked-in objects instead of replacing them
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let store = system::target()?.join("xtask");
    fs::create_dir_all(&store).with_context(|| format!("could not make `{}`", store.display()))?;
    let tools = toolchain::Tools::ensure(&store)?;
    if !options.check && !tools.core.is_pinned() {
        bail!(
            "the sources of `core` ({}) are not the pinned ones; the objects would be no others' objects: run \
             `rustup component add rust-src --toolchain {}`",
            tools.core.digest,
            toolchain::NIGHTLY
        );
    }
    let mut differences = 0;
    for built in build::all(&tools, &store)? {
        let path = system::root()?.join("profiler-ebpf/objects").join(&built.name);
        if options.check {
            differences += usize::from(!check(&built, &path)?);
        } else {
            write(&path, &built.bytes)?;
            system::note(&format!("{}: {}", built.name, object::describe(&built.bytes)?.summary()));
        }
    }
    if differences == 0 {
        return Ok(());
    }
    let core = if tools.core.is_pinned() {
        String::new()
    } else {
        format!(" (built with other sources of `core` than the pinned ones: {})", tools.core.digest)
    };
    bail!("{differences} checked-in BPF objects are not what the source gives{core}; run `cargo xtask ebpf`");
}

/// Compares what matters to the kernel; says what differs.
fn check(built: &build::Built, path: &Path) -> anyhow::Result<bool> {
    let checked_in = fs::read(path)
        .with_context(|| format!("could not read `{}`; run `cargo xtask ebpf`", path.display()))?;
    let new = object::describe(&built.bytes)?;
    let old = object::describe(&checked_in)
        .with_context(|| format!("`{}` is no BPF object; run `cargo xtask ebpf`", path.display()))?;
    let differing = old.differences(&new);
    if differing.is_empty() {
        let bytes = if checked_in == built.bytes { ", byte for byte" } else { "" };
        system::note(&format!("{}: the same ({}){bytes}", built.name, new.summary()));
        return Ok(true);
    }
    system::note(&format!("{}: differs; - is checked in, + is what the source gives", built.name));
    for line in differing.iter().take(20) {
        system::note(&format!("  {line}"));
    }
    if differing.len() > 20 {
        system::note(&format!("  … and {} more", differing.len() - 20));
    }
    Ok(false)
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().context("the objects' folder has no parent")?;
    fs::create_dir_all(folder).with_context(|| format!("could not make `{}`", folder.display()))?;
    let unfinished: PathBuf = path.with_extension("unfinished");
    fs::write(&unfinished, bytes).with_context(|| format!("could not write `{}`", unfinished.display()))?;
    fs::rename(&unfinished, path).with_context(|| format!("could not write `{}`", path.display()))
}
