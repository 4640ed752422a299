//! `review`: what a person needs who is to sign a profile, as a page, as Markdown or as JSON, and as a statement that
//! can be signed.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use harness::HeldOut;
use synth::{
    Container, Evidence, EvidenceDecision, Profile, Severity,
    review::{Compared, Digests, Files, Input, Review, Starts},
};
use trace::{Digest, Trace};

use crate::{
    decisions::today,
    exit, folder, held_out,
    input::{self, Sidecar},
    output::{Output, read},
    report,
    terminal::say,
};

mod markdown;
mod page;
mod text;

/// Show what a profile allows and why, for the person who signs it
///
/// Exit code 1: something stands in the way of signing. Exit code 3: the evidence is about another profile. The result
/// is written in either case.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// A profile, a workload folder, or the name of a shipped default
    #[arg(value_name = "PROFILE|DIR")]
    profile: PathBuf,

    /// What it is compared with: runtime-default, docker, podman, containerd, or a profile
    #[arg(long, value_name = "NAME|FILE", default_value = RUNTIME_DEFAULT)]
    against: PathBuf,

    /// A page for a browser, Markdown for a pull request, or JSON for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Write what the review rests on as an in-toto statement, for `cosign attest-blob --statement`
    #[arg(long, conflicts_with = "format")]
    attest: bool,

    /// Where it goes; `-` is standard output. A page goes to review.html if this is not given, anything else to
    /// standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// In which form a review is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One self-contained page
    #[default]
    Html,
    /// Markdown, short enough for a comment
    Md,
    /// Everything, versioned
    Json,
}

const RUNTIME_DEFAULT: &str = "runtime-default";

pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let page = options.format == Format::Html && !options.attest;
    let default = if page { "review.html" } else { "-" };
    let output = options.output.unwrap_or_else(|| default.into());
    let output = Output::prepare(&output)?;
    let review = review(&options.profile, &options.against)?;
    let text = match options.format {
        _ if options.attest => review.statement(),
        Format::Html => page::page(&review),
        Format::Md => markdown::markdown(&review),
        Format::Json => review.to_json(),
    };
    let name = output.name().to_string();
    output.write(text.as_bytes())?;
    if name != "-" {
        say(format!("wrote {name}"));
    }
    Ok(exit::code(answer(&review)))
}

/// Whether something stands in the way of signing; says what.
fn answer(review: &Review) -> u8 {
    let dangers = review.findings.iter().filter(|finding| finding.severity == Severity::Danger);
    let dangers: Vec<_> = dangers.collect();
    for danger in &dangers {
        say(format!("{}: {}", danger.severity, danger.title));
    }
    if dangers
        .iter()
        .any(|danger| ["other-evidence", "edited-evidence", "other-traces"].contains(&danger.id.as_str()))
    {
        return exit::EVIDENCE;
    }
    if dangers.is_empty() { exit::YES } else { exit::NO }
}

/// Everything about a profile that a review is made from, as it was found: each file is read once, so that what is signed
/// is what was judged.
struct Found {
    name: String,
    profile: Profile,
    bytes: Vec<u8>,
    evidence: Option<Sidecar>,
    trace: Option<Trace>,
    files: Vec<PathBuf>,
    decisions: Vec<EvidenceDecision>,
    held_out: Option<(HeldOut, Vec<u8>)>,
}

impl Found {
    fn read(path: &Path) -> anyhow::Result<Self> {
        if path.is_dir() {
            return Self::folder(path);
        }
        let (profile, bytes) = profile(path)?;
        let name =
            if path.exists() { path.file_stem().unwrap_or(path.as_os_str()) } else { path.as_os_str() };
        let evidence = input::sidecar(path, &profile)?;
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            decisions: recorded_decisions(evidence.as_ref()),
            profile,
            bytes,
            evidence,
            trace: None,
            files: Vec::new(),
            held_out: None,
        })
    }

    fn folder(path: &Path) -> anyhow::Result<Self> {
        let (profile, bytes) = profile(&input::profile_file(path)?)?;
        let full = path.canonicalize().with_context(|| format!("cannot read `{}`", path.display()))?;
        let name = full.file_name().unwrap_or(full.as_os_str()).to_string_lossy().into_owned();
        let evidence = input::sidecar(path, &profile)?;
        let (trace, files) = if path.join(folder::TRACES).is_dir() {
            (Some(input::merged(&[path.to_owned()])?), folder::traces(path)?)
        } else {
            (None, Vec::new())
        };
        let decisions = if path.join(folder::WORKLOAD).exists() {
            let mut how = synth::Options::default();
            folder::Workload::read(path)?.resolve(&mut how)?;
            how.decisions.iter().map(EvidenceDecision::from).collect()
        } else {
            recorded_decisions(evidence.as_ref())
        };
        let held_out = held_out::read(&path.join(folder::HELD_OUT))?;
        Ok(Self { name, profile, bytes, evidence, trace, files, decisions, held_out })
    }

    /// The evidence, if it is about this profile.
    fn own_evidence(&self) -> Option<&Evidence> {
        self.evidence.as_ref().filter(|own| own.is_own).map(|own| &own.evidence)
    }

    /// The container that the profile is for.
    fn container(&self) -> Container {
        let host = input::container();
        let workload = self.evidence.as_ref().map(|own| &own.evidence.workload);
        let native = workload.map_or(host.native, |workload| workload.native);
        let kernel = workload.and_then(|workload| synth::version(&workload.kernel)).unwrap_or(host.kernel);
        Container::new(native, kernel)
    }

    /// How starts went that were watched after the profile was made.
    fn starts(&self) -> Option<Starts> {
        let (list, _) = self.held_out.as_ref()?;
        let (profile, image) = held_out::about(&self.profile, self.own_evidence());
        let tally = list.tally(profile, image);
        (tally.runs + tally.not_known > 0).then(|| Starts {
            starts: tally.runs,
            denied: tally.denied,
            not_known: tally.not_known,
            upper_bound: tally.upper_bound(),
        })
    }
}

/// A profile, and the bytes that it was read from: a file's, or a shipped default's JSON.
fn profile(path: &Path) -> anyhow::Result<(Profile, Vec<u8>)> {
    if !path.exists() {
        let profile = input::profile(path)?;
        let bytes = profile.to_json().into_bytes();
        return Ok((profile, bytes));
    }
    let bytes = read(path)?;
    let profile = Profile::read(&bytes);
    Ok((profile.with_context(|| format!("cannot read profile `{}`", path.display()))?, bytes))
}

/// What was decided when the profile was made.
fn recorded_decisions(sidecar: Option<&Sidecar>) -> Vec<EvidenceDecision> {
    sidecar.map(|own| own.evidence.options.decisions.clone()).unwrap_or_default()
}

/// Reviews a profile, or what is in a workload folder.
fn review(path: &Path, against: &Path) -> anyhow::Result<Review> {
    let found = Found::read(path)?;
    let container = found.container();
    let against = compared(against, &container)?;
    let trace = found.trace.as_ref();
    let completeness = trace.map(|trace| report::completeness(trace, &found.files)).transpose()?;
    let files = Files {
        profile: &found.bytes,
        evidence: found.evidence.as_ref().map(|own| own.bytes.as_slice()),
        held_out: found.held_out.as_ref().map(|(_, bytes)| bytes.as_slice()),
    };
    let digests = Digests::new(files, trace, &found.decisions, against.digest);
    let input = Input {
        name: &found.name,
        profile: &found.profile,
        native: container.native,
        evidence: found.evidence.as_ref().map(|own| &own.evidence),
        trace,
        completeness,
        decisions: found.decisions.clone(),
        today: today(),
        against: Compared {
            name: against.name,
            source: against.source,
            digest: against.digest,
            profile: &against.profile,
        },
        starts: found.starts(),
        digests,
    };
    synth::review::review(&input).with_context(|| format!("cannot review `{}`", path.display()))
}

/// What a profile is compared with.
struct Against {
    /// Its name for a person.
    name: String,
    /// Where it comes from.
    source: Option<String>,
    profile: Profile,
    /// Of its file, or of a shipped default's JSON.
    digest: Digest,
}

fn compared(name: &Path, container: &Container) -> anyhow::Result<Against> {
    let reference = name.to_str().filter(|_| !name.exists()).and_then(synth::reference);
    let Some(reference) = reference else {
        let path = if name.is_dir() { name.join(folder::PROFILE) } else { name.to_owned() };
        let (profile, bytes) = profile(&path)?;
        let digest = Digest::of(&bytes);
        return Ok(Against { name: name.display().to_string(), source: None, profile, digest });
    };
    let title = if name == Path::new(RUNTIME_DEFAULT) {
        "RuntimeDefault".to_owned()
    } else {
        format!("the default of {}", reference.name)
    };
    let profile = reference.resolve(container);
    let source = format!("{}: {}", reference.name, reference.provenance());
    let digest = Digest::of(profile.to_json().as_bytes());
    Ok(Against { name: title, source: Some(source), profile, digest })
}
