//! What a user names: traces, profiles, workload folders.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use synth::{Container, Evidence, Profile};
use trace::{Abi, MergeError, Merger, Trace};

use crate::{
    folder,
    output::{SIDECAR_LIMIT, TRACE_LIMIT, read, read_within},
    terminal::{quoted, say},
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

/// Refuses what can be read only once, where it is read more than once.
pub(crate) fn no_pipe(path: &Path) -> anyhow::Result<()> {
    if path.exists() && !path.is_file() {
        bail!("`{}` is no file; a pipe can be read only once, so put it into a file first", path.display());
    }
    Ok(())
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
    let mut merger =
        Merger::of(runs).map_err(|error| named(error, &files)).context("cannot merge the traces")?;
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

/// Which files it is about, where that is known.
fn named(error: MergeError, files: &[PathBuf]) -> anyhow::Error {
    if let MergeError::Overlap { run, inputs: [one, other] } = error
        && let (Some(one), Some(other)) = (files.get(one), files.get(other))
    {
        return anyhow!(
            "`{}` and `{}` share run `{run}` but neither contains the other; merge the traces of the single runs instead",
            one.display(),
            other.display()
        );
    }
    error.into()
}

/// Reads a profile: a file, a workload folder, or the name of a shipped default.
pub(crate) fn profile(name: &Path) -> anyhow::Result<Profile> {
    if !name.exists()
        && let Some(reference) = name.to_str().and_then(synth::reference)
    {
        return Ok(reference.resolve(&container()));
    }
    let path = profile_file(name)?;
    if !path.exists() && !name.to_string_lossy().contains('/') {
        bail!(
            "cannot read `{}`: no such file, and no shipped default (docker, podman, containerd)",
            name.display()
        );
    }
    Profile::read(&read(&path)?).with_context(|| format!("cannot read profile `{}`", path.display()))
}

/// The file of a profile: of a workload folder the one in it, which must be there.
pub(crate) fn profile_file(name: &Path) -> anyhow::Result<PathBuf> {
    if !name.is_dir() {
        return Ok(name.to_owned());
    }
    let path = name.join(folder::PROFILE);
    if !path.exists() {
        let [folder, file] = [name, &path].map(quoted);
        bail!(
            "`{}` has no `{}`; make one with `seccomp-learn synth {folder} -o {file}`",
            name.display(),
            folder::PROFILE
        );
    }
    Ok(path)
}

/// What lies beside a profile as its evidence.
pub(crate) struct Sidecar {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) evidence: Evidence,
    /// Whether it is about this very profile: reasons say nothing about a profile that was changed after them.
    pub(crate) is_own: bool,
}

impl Sidecar {
    /// The evidence, if it is about this very profile; says so where it is not.
    pub(crate) fn own_or_say(self, profile: &Path) -> Option<Evidence> {
        if !self.is_own {
            say(format!(
                "warning: `{}` is about another profile than `{}`, so its reasons are left out; make both anew with `seccomp-learn synth`",
                self.path.display(),
                profile.display()
            ));
        }
        self.is_own.then_some(self.evidence)
    }
}

/// The sidecar of a profile: in its folder, or beside its file. A shipped default has none.
pub(crate) fn sidecar(name: &Path, profile: &Profile) -> anyhow::Result<Option<Sidecar>> {
    let path = if name.is_dir() { name.join(folder::EVIDENCE) } else { name.with_extension("evidence.json") };
    if !name.exists() || !path.exists() {
        return Ok(None);
    }
    let bytes = read_within(&path, SIDECAR_LIMIT)?;
    let evidence = Evidence::read(&bytes);
    let evidence = evidence.with_context(|| format!("cannot read evidence `{}`", path.display()))?;
    let is_own = evidence.profile == profile.digest();
    Ok(Some(Sidecar { path, bytes, evidence, is_own }))
}

/// The evidence of a profile in a workload folder; a lone file's says nothing about what the user runs now, and what is
/// about another profile nothing about this one.
pub(crate) fn evidence(name: &Path, profile: &Profile) -> anyhow::Result<Option<Evidence>> {
    let sidecar = if name.is_dir() { sidecar(name, profile)? } else { None };
    Ok(sidecar.and_then(|sidecar| sidecar.own_or_say(name)))
}

/// A container on this host, as an engine starts it with its default capabilities.
pub(crate) fn container() -> Container {
    let (release, machine) = profiler::host::kernel();
    let native = Abi::native_of(&machine).unwrap_or(Abi::X86_64);
    Container::new(native, synth::version(&release).unwrap_or((5, 14)))
}
