//! `diff`: what changed between two profiles or two recordings, by meaning.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, de::IgnoredAny};
use synth::{CompileOptions, Evidence, Profile};
use trace::{Abi, Trace};

use crate::{
    exit, folder, input,
    output::{TRACE_LIMIT, read_within},
    terminal::{print, say},
};

mod profiles;
mod traces;
mod words;

/// Say what changed between two profiles, or two recordings
///
/// Profiles are compared by what their compiled filters answer to every call there is: two files that mean the same do
/// not differ, whatever their text. Recordings are compared by the calls in them, their arguments, phases and how they
/// ended; how often something happened is no difference.
///
/// Exits with 0 if nothing changed, with 1 if something did, and with 3 if the recordings say too little to tell.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// What was: a profile, a trace, a workload folder, or the name of a shipped default (docker, podman, containerd)
    old: PathBuf,

    /// What is, of the same kind
    new: PathBuf,

    /// Of workload folders, compare the traces instead of the profiles
    #[arg(long)]
    traces: bool,

    /// How the answer is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// For programs: one JSON object
    Json,
}

/// One of the two that are compared.
enum Side {
    Profile(Box<Known>),
    Trace(Box<Trace>),
}

/// A profile, and why it is as it is where that is known.
struct Known {
    profile: Profile,
    evidence: Option<Evidence>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let (old, new) = sides(options)?;
    let names = [&options.old, &options.new].map(|path| path.display().to_string());
    let (text, code) = match (old, new) {
        (Side::Profile(old), Side::Profile(new)) => profiles(options.format, &names, &old, &new)?,
        (Side::Trace(old), Side::Trace(new)) => traces(options.format, &names, &old, &new),
        (Side::Profile(_), Side::Trace(_)) => return Err(unlike(&options.old, &options.new)),
        (Side::Trace(_), Side::Profile(_)) => return Err(unlike(&options.new, &options.old)),
    };
    print(text);
    Ok(exit::code(code))
}

fn unlike(profile: &Path, trace: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "`{}` is a profile and `{}` is a trace; compare two of a kind, or judge the trace with `seccomp-learn replay`",
        profile.display(),
        trace.display()
    )
}

fn profiles(format: Format, names: &[String; 2], old: &Known, new: &Known) -> anyhow::Result<(String, u8)> {
    let native = native([old, new]);
    let difference = synth::difference(&old.profile, &new.profile, native, CompileOptions::default())
        .context("cannot compile the profiles")?;
    for undecided in &difference.undecided {
        say(format!("undecided: {} ({}): {}", undecided.name, undecided.place.abi, undecided.why));
    }
    if difference.calls.is_empty() && !difference.undecided.is_empty() {
        bail!(
            "it could not be decided whether the profiles differ; make them anew with `seccomp-learn synth`"
        );
    }
    let evidence = [old.evidence.as_ref(), new.evidence.as_ref()];
    let text = match format {
        Format::Text => profiles::text(&difference, native, [&old.profile, &new.profile], evidence),
        Format::Json => profiles::json(&difference, names, native, evidence),
    };
    Ok((text, if difference.is_empty() { exit::YES } else { exit::NO }))
}

/// The machine's own ABI: this host's, unless both profiles are for another one.
fn native(sides: [&Known; 2]) -> Abi {
    let host = input::container().native;
    let listed = |known: &Known| -> BTreeSet<Abi> {
        let architectures = known.profile.architectures.iter().filter_map(|one| one.abi());
        architectures.filter(|abi| matches!(abi, Abi::X86_64 | Abi::Aarch64)).collect()
    };
    let [old, new] = sides.map(listed);
    if old.contains(&host) || new.contains(&host) {
        return host;
    }
    old.intersection(&new).next().copied().unwrap_or(host)
}

fn traces(format: Format, names: &[String; 2], old: &Trace, new: &Trace) -> (String, u8) {
    for (name, trace) in names.iter().zip([old, new]) {
        if !trace.complete || trace.losses.lost_calls() {
            say(format!(
                "`{name}` was not closed, or calls were lost: what is not in it may have happened all the same"
            ));
        }
    }
    let difference = trace::difference(old, new);
    let text = match format {
        Format::Text => traces::text(&difference, old.runs, new.runs),
        Format::Json => traces::json(&difference, names),
    };
    let code = match (difference.is_empty(), difference.is_known()) {
        (true, _) => exit::YES,
        (false, true) => exit::NO,
        (false, false) => exit::EVIDENCE,
    };
    (text, code)
}

/// Both sides. A folder beside a trace stands for its traces.
fn sides(options: &Options) -> anyhow::Result<(Side, Side)> {
    let lone = [&options.old, &options.new].into_iter().find(|path| options.traces && !path.is_dir());
    if let Some(path) = lone {
        bail!(
            "`{}` is no folder, of which `--traces` would take the traces; leave `--traces` out",
            path.display()
        );
    }
    let old = side(&options.old, options.traces)?;
    let new = side(&options.new, options.traces)?;
    Ok(match (old, new) {
        (Side::Trace(old), Side::Profile(_)) if options.new.is_dir() => {
            (Side::Trace(old), side(&options.new, true)?)
        }
        (Side::Profile(_), Side::Trace(new)) if options.old.is_dir() => {
            (side(&options.old, true)?, Side::Trace(new))
        }
        pair => pair,
    })
}

fn side(path: &Path, traces: bool) -> anyhow::Result<Side> {
    let is_trace =
        if path.is_dir() { traces || !path.join(folder::PROFILE).exists() } else { is_trace(path)? };
    if is_trace {
        return Ok(Side::Trace(Box::new(input::merged(&[path.to_owned()])?)));
    }
    let profile = input::profile(path)?;
    let evidence = input::sidecar(path, &profile)?.and_then(|sidecar| sidecar.own_or_say(path));
    Ok(Side::Profile(Box::new(Known { profile, evidence })))
}

/// Whether the file is a trace by its content; what it is not, the reader of profiles says.
fn is_trace(path: &Path) -> anyhow::Result<bool> {
    /// What only a trace has.
    #[derive(Deserialize)]
    struct Keys {
        recorder: Option<IgnoredAny>,
    }
    if !path.exists() {
        return Ok(false);
    }
    input::no_pipe(path)?;
    let bytes = read_within(path, TRACE_LIMIT)?;
    Ok(serde_json::from_slice::<Keys>(&bytes).is_ok_and(|keys| keys.recorder.is_some()))
}
