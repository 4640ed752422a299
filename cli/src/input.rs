//! What a user names: traces, profiles, workload folders.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use harness::HeldOut;
use synth::{Container, Evidence, Profile};
use trace::{Abi, Trace};

use crate::{folder, output::read};

/// Reads one trace.
pub(crate) fn trace(path: &Path) -> anyhow::Result<Trace> {
    let bytes = read(path)?;
    Trace::read(bytes.as_slice()).with_context(|| format!("cannot read trace `{}`", path.display()))
}

/// Reads traces, of which a folder may stand for all that are in it, and merges them.
pub(crate) fn merged(paths: &[PathBuf]) -> anyhow::Result<Trace> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() { files.extend(folder::traces(path)?) } else { files.push(path.clone()) }
    }
    let traces = files.iter().map(|path| trace(path)).collect::<anyhow::Result<Vec<_>>>()?;
    trace::merge(traces).context("cannot merge the traces")
}

/// Reads a profile: a file, a workload folder, or the name of a shipped default.
pub(crate) fn profile(name: &Path) -> anyhow::Result<Profile> {
    if !name.exists()
        && let Some(reference) = name.to_str().and_then(synth::reference)
    {
        return Ok(reference.resolve(&container()));
    }
    let path = if name.is_dir() { name.join(folder::PROFILE) } else { name.to_owned() };
    if !path.exists() && !name.to_string_lossy().contains('/') {
        bail!(
            "cannot read `{}`: no such file, and no shipped default (docker, podman, containerd)",
            name.display()
        );
    }
    Profile::read(&read(&path)?).with_context(|| format!("cannot read profile `{}`", path.display()))
}

/// The evidence of a profile in a workload folder; a lone file's says nothing about what the user runs now.
pub(crate) fn evidence(name: &Path) -> anyhow::Result<Option<Evidence>> {
    let path = name.join(folder::EVIDENCE);
    if !name.is_dir() || !path.exists() {
        return Ok(None);
    }
    let evidence = Evidence::read(&read(&path)?);
    evidence.map(Some).with_context(|| format!("cannot read evidence `{}`", path.display()))
}

/// The held-out runs in a file; none where there is no such file.
pub(crate) fn held_out(path: &Path) -> anyhow::Result<HeldOut> {
    if !path.exists() {
        return Ok(HeldOut::default());
    }
    HeldOut::read(&read(path)?).with_context(|| format!("cannot read `{}`", path.display()))
}

/// A container on this host, as an engine starts it with its default capabilities.
pub(crate) fn container() -> Container {
    let (release, machine) = profiler::host::kernel();
    let native = Abi::native_of(&machine).unwrap_or(Abi::X86_64);
    Container::new(native, synth::version(&release).unwrap_or((5, 14)))
}
