//! What a user names: traces, profiles, workload folders.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use harness::HeldOut;
use synth::{Container, Evidence, Profile};
use trace::{Abi, Merger, Trace};

use crate::{
    folder,
    output::{SIDECAR_LIMIT, TRACE_LIMIT, read, read_within},
};

/// Reads one trace.
pub(crate) fn trace(path: &Path) -> anyhow::Result<Trace> {
    let bytes = read_within(path, TRACE_LIMIT)?;
    Trace::read(bytes.as_slice()).with_context(|| format!("cannot read trace `{}`", path.display()))
}

/// The files of traces: a workload folder stands for its traces, another folder for every `.json` in it.
pub(crate) fn trace_files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
        } else if path.join(folder::TRACES).is_dir() || path.join(folder::WORKLOAD).exists() {
            files.extend(folder::traces(path)?);
        } else {
            let own = folder::json_files(path)?;
            if own.is_empty() {
                bail!("no trace in `{}`; a folder of traces has them as `*.json`", path.display());
            }
            files.extend(own);
        }
    }
    Ok(files)
}

/// Reads traces, of which a folder may stand for all that are in it, and merges them: one after the other, so that
/// memory does not grow with their number.
pub(crate) fn merged(paths: &[PathBuf]) -> anyhow::Result<Trace> {
    let files = trace_files(paths)?;
    let mut runs = Vec::new();
    let mut kept = BTreeMap::new();
    for path in &files {
        let bytes = read_within(path, TRACE_LIMIT)?;
        let own = Trace::runs_in(bytes.as_slice());
        runs.push(own.with_context(|| format!("cannot read trace `{}`", path.display()))?);
        // A pipe is read once.
        if files.len() == 1 || !path.is_file() {
            kept.insert(runs.len(), bytes);
        }
    }
    let mut merger = Merger::of(runs).context("cannot merge the traces")?;
    for (path, place) in files.iter().zip(1..) {
        let trace = match kept.remove(&place) {
            Some(bytes) => Trace::read(bytes.as_slice())
                .with_context(|| format!("cannot read trace `{}`", path.display()))?,
            None => trace(path)?,
        };
        merger.add(trace).with_context(|| format!("cannot merge trace `{}`", path.display()))?;
    }
    merger.finish().context("cannot merge the traces")
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
    let evidence = Evidence::read(&read_within(&path, SIDECAR_LIMIT)?);
    evidence.map(Some).with_context(|| format!("cannot read evidence `{}`", path.display()))
}

/// The held-out runs in a file; none where there is no such file.
pub(crate) fn held_out(path: &Path) -> anyhow::Result<HeldOut> {
    if !path.exists() {
        return Ok(HeldOut::default());
    }
    HeldOut::read(&read_within(path, SIDECAR_LIMIT)?)
        .with_context(|| format!("cannot read `{}`", path.display()))
}

/// A container on this host, as an engine starts it with its default capabilities.
pub(crate) fn container() -> Container {
    let (release, machine) = profiler::host::kernel();
    let native = Abi::native_of(&machine).unwrap_or(Abi::X86_64);
    Container::new(native, synth::version(&release).unwrap_or((5, 14)))
}
