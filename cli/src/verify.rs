//! `verify`: the gate of a CI job. Runs nothing of the workload: its folder is held against its own evidence, against
//! what it is about to be used for, and against fresh traces.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use synth::{CompileOptions, Evidence, Judge, Profile};
use trace::{Abi, Digest, Trace};

use crate::{
    folder::{self, Workload},
    image_name::pinned,
    input,
    output::{SIDECAR_LIMIT, read_within},
    terminal::quoted,
};

mod again;
mod bounds;
mod check;
mod remedy;
mod replayed;
mod rules;
mod subject;

use check::Checks;

/// Check a workload's folder without running anything: the gate of a CI job
///
/// Exit code 1: a check failed. Exit code 3: the evidence is incomplete, or about another image, driver or architecture.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The workload's folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// The image that the profile is to be used for, by its digest as a registry knows it: `sha256:…`, or a reference
    /// that ends with one [default: the image that workload.toml names, by that name]
    #[arg(long, value_name = "DIGEST", value_parser = asked)]
    image: Option<Asked>,

    /// The GPU driver that it is to be used with: a version, or its branch, such as 570
    #[arg(long, value_name = "VERSION", value_parser = crate::synthesis::branch)]
    driver: Option<u32>,

    /// The architecture that it is to be used on: x86_64 or aarch64 [default: the one that was recorded]
    #[arg(long, value_name = "ARCH", value_parser = architecture)]
    arch: Option<Abi>,

    /// Traces of the workload as it is now, that are not in the folder: what is new in them fails, what is missing warns
    #[arg(long, value_name = "TRACE", num_args = 1..)]
    fresh: Vec<PathBuf>,

    /// One JSON object for each line, for programs
    #[arg(long)]
    json: bool,
}

/// The image that was asked about.
#[derive(Clone, Debug)]
struct Asked {
    digest: Digest,
    /// The whole reference, where it was given.
    reference: Option<String>,
}

/// A digest, or a reference that ends with one.
fn asked(text: &str) -> Result<Asked, String> {
    let (reference, digest) =
        text.rsplit_once('@').map_or((None, text), |(_, digest)| (Some(text.to_owned()), digest));
    let digest = digest.parse().map_err(|_| "no digest of an image; write it as `sha256:…`".to_owned())?;
    Ok(Asked { digest, reference })
}

/// An architecture, as the kernel or as registries call it.
fn architecture(text: &str) -> Result<Abi, String> {
    let name = match text {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        name => name,
    };
    Abi::native_of(name)
        .ok_or_else(|| "no architecture that is supported; write x86_64 or aarch64".to_owned())
}

pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let json = options.json;
    let case = Case::read(options)?;
    let mut checks = Checks::default();
    subject::check(&case, &mut checks);
    replayed::check(&case, &mut checks)?;
    rules::check(&case, &mut checks)?;
    again::check(&case, &mut checks)?;
    bounds::ceiling(&case, &mut checks)?;
    bounds::decisions(&case, &mut checks)?;
    if case.fresh.is_some() {
        replayed::fresh(&case, &mut checks)?;
    }
    Ok(checks.tell(&case.folder, json))
}

/// All that is looked at.
struct Case {
    folder: PathBuf,
    workload: Workload,
    /// The profile, and its bytes.
    profile: Profile,
    bytes: Vec<u8>,
    /// The sidecar, and its bytes.
    evidence: Evidence,
    evidence_bytes: Vec<u8>,
    /// The folder's traces, and all of them together.
    files: Vec<PathBuf>,
    merged: Trace,
    /// The same of fresh ones.
    fresh_files: Vec<PathBuf>,
    fresh: Option<Trace>,
    /// The profile, compiled.
    judge: Judge,
    /// How the profile is made.
    how: synth::Options,
    /// What it is to be used for.
    image: Option<Asked>,
    /// The digest of the image that the workload names, where it does.
    pinned: Option<Digest>,
    driver: Option<u32>,
    arch: Option<Abi>,
}

impl Case {
    fn read(options: Options) -> anyhow::Result<Self> {
        let Options { folder, image, driver, arch, fresh, .. } = options;
        if !folder.join(folder::WORKLOAD).exists() {
            return Err(no_folder(&folder));
        }
        let workload = Workload::read(&folder)?;
        let pinned = workload.target.image.as_deref().map(pinned).transpose();
        let pinned = pinned.with_context(|| format!("cannot verify `{}`", folder.display()))?.flatten();
        let bytes = of_folder(&folder, folder::PROFILE)?;
        let context = |name: &str| format!("cannot read `{}`", folder.join(name).display());
        let profile = Profile::read(&bytes).with_context(|| context(folder::PROFILE))?;
        let evidence_bytes = of_folder(&folder, folder::EVIDENCE)?;
        let evidence = Evidence::read(&evidence_bytes).with_context(|| context(folder::EVIDENCE))?;
        let files = folder::traces(&folder)?;
        let merged = input::merged(&files)?;
        let fresh_files = input::trace_files(&fresh)?;
        fresh_files.iter().try_for_each(|path| input::no_pipe(path))?;
        let fresh = if fresh_files.is_empty() { None } else { Some(input::merged(&fresh_files)?) };
        let judge = Judge::new(&profile, evidence.workload.native, CompileOptions::default())
            .with_context(|| format!("cannot compile `{}`", folder.join(folder::PROFILE).display()))?
            .with_evidence(&evidence);
        let mut how = workload.synthesis.options()?;
        workload.resolve(&mut how)?;
        how.without_startup = evidence.options.without_startup;
        how.accept_incomplete = evidence.options.accept_incomplete;
        Ok(Self {
            folder,
            workload,
            profile,
            bytes,
            evidence,
            evidence_bytes,
            files,
            merged,
            fresh_files,
            fresh,
            judge,
            how,
            image,
            pinned,
            driver,
            arch,
        })
    }
}

/// What is no workload's folder, and what to give in its place.
fn no_folder(path: &Path) -> anyhow::Error {
    let holder = path.parent().filter(|parent| path.is_file() && parent.join(folder::WORKLOAD).exists());
    if let Some(folder) = holder {
        return anyhow!(
            "`{}` is a file; give its folder: `seccomp-learn verify {}`",
            path.display(),
            quoted(folder)
        );
    }
    let is_else = path.exists() && !path.is_dir();
    let place = if is_else { "DIR".to_owned() } else { quoted(path) };
    anyhow!("`{}` is no workload folder; make one with `seccomp-learn learn -o {place}`", path.display())
}

fn of_folder(folder: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let path = folder.join(name);
    if !path.exists() {
        bail!(
            "`{}` has no `{name}`; make it with `seccomp-learn synth {} -o {}`",
            folder.display(),
            quoted(folder),
            quoted(folder.join(folder::PROFILE))
        );
    }
    read_within(&path, SIDECAR_LIMIT)
}
