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
    review::{Compared, Digests, Input, Review, Starts},
};
use trace::Trace;

use crate::{
    exit, folder, input,
    output::{Output, SIDECAR_LIMIT, read, read_within},
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

/// Everything about a profile that a review is made from, as it was found.
struct Found {
    name: String,
    profile: Profile,
    bytes: Vec<u8>,
    evidence: Option<(Evidence, Vec<u8>)>,
    trace: Option<Trace>,
    files: Vec<PathBuf>,
    decisions: Vec<EvidenceDecision>,
    held_out: HeldOut,
}

impl Found {
    fn read(path: &Path) -> anyhow::Result<Self> {
        if path.is_dir() {
            return Self::folder(path);
        }
        let profile = input::profile(path)?;
        let mut own = Self {
            name: path.display().to_string(),
            bytes: profile.to_json().into_bytes(),
            profile,
            evidence: None,
            trace: None,
            files: Vec::new(),
            decisions: Vec::new(),
            held_out: HeldOut::default(),
        };
        if path.exists() {
            own.name = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
            own.bytes = read(path)?;
            own.evidence = evidence(&path.with_extension("evidence.json"))?;
            let options = own.evidence.as_ref().map(|(evidence, _)| &evidence.options);
            own.decisions = options.map(|options| options.decisions.clone()).unwrap_or_default();
        }
        Ok(own)
    }

    fn folder(path: &Path) -> anyhow::Result<Self> {
        let profile = input::profile(path)?;
        let full = path.canonicalize().with_context(|| format!("cannot read `{}`", path.display()))?;
        let name = full.file_name().unwrap_or(full.as_os_str()).to_string_lossy().into_owned();
        let evidence = evidence(&path.join(folder::EVIDENCE))?;
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
            evidence.as_ref().map(|(own, _)| own.options.decisions.clone()).unwrap_or_default()
        };
        let held_out = input::held_out(&path.join(folder::HELD_OUT))?;
        let bytes = read(&path.join(folder::PROFILE))?;
        Ok(Self { name, profile, bytes, evidence, trace, files, decisions, held_out })
    }

    /// The container that the profile is for.
    fn container(&self) -> Container {
        let host = input::container();
        let workload = self.evidence.as_ref().map(|(own, _)| &own.workload);
        let native = workload.map_or(host.native, |workload| workload.native);
        let kernel = workload.and_then(|workload| synth::version(&workload.kernel)).unwrap_or(host.kernel);
        Container::new(native, kernel)
    }

    /// How starts went that were watched after the profile was made.
    fn starts(&self) -> Option<Starts> {
        let image = self.trace.as_ref().and_then(|trace| trace.target.image);
        let tally = self.held_out.tally(self.profile.digest(), image);
        (tally.runs + tally.not_known > 0).then(|| Starts {
            starts: tally.runs,
            denied: tally.denied,
            not_known: tally.not_known,
            upper_bound: tally.upper_bound(),
        })
    }
}

/// The evidence beside a profile.
fn evidence(path: &Path) -> anyhow::Result<Option<(Evidence, Vec<u8>)>> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = read_within(path, SIDECAR_LIMIT)?;
    let evidence = Evidence::read(&bytes);
    let evidence = evidence.with_context(|| format!("cannot read evidence `{}`", path.display()))?;
    Ok(Some((evidence, bytes)))
}

/// Reviews a profile, or what is in a workload folder.
fn review(path: &Path, against: &Path) -> anyhow::Result<Review> {
    let found = Found::read(path)?;
    let container = found.container();
    let (name, source, resolved) = compared(against, &container)?;
    let against = Compared { name, source, profile: &resolved };
    let trace = found.trace.as_ref();
    let completeness = trace.map(|trace| report::completeness(trace, &found.files)).transpose()?;
    let runs = found.trace.iter().flat_map(|trace| match trace.merged.as_slice() {
        [] => trace.digest.into_iter().collect::<Vec<_>>(),
        runs => runs.iter().map(|run| run.digest).collect(),
    });
    let evidence = found.evidence.as_ref();
    let digests =
        Digests::new(&found.bytes, evidence.map(|(_, bytes)| bytes.as_slice()), runs, &found.decisions);
    let input = Input {
        name: &found.name,
        profile: &found.profile,
        native: container.native,
        evidence: evidence.map(|(own, _)| own),
        trace,
        completeness,
        decisions: found.decisions.clone(),
        against,
        starts: found.starts(),
        digests,
    };
    synth::review::review(&input).with_context(|| format!("cannot review `{}`", path.display()))
}

/// What a profile is compared with: its name for a person, where it comes from, and the profile.
fn compared(name: &Path, container: &Container) -> anyhow::Result<(String, Option<String>, Profile)> {
    let reference = name.to_str().filter(|_| !name.exists()).and_then(synth::reference);
    let Some(reference) = reference else {
        return Ok((name.display().to_string(), None, input::profile(name)?));
    };
    let title = if name == Path::new(RUNTIME_DEFAULT) {
        "RuntimeDefault".to_owned()
    } else {
        format!("the default of {}", reference.name)
    };
    let source = format!("{}: {}", reference.name, reference.provenance());
    Ok((title, Some(source), reference.resolve(container)))
}
