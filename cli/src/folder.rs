//! One folder for one workload: `workload.toml`, `traces/`, the profile, its evidence, the report.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail, ensure};
use engine::Run;
use serde::{Deserialize, Serialize};
use synth::{
    Options,
    decode::{read_conditions, registers_of},
};

use crate::{
    decisions::{Decision, today},
    output::{Output, read},
};

/// What the workload is, and how it is driven.
pub(crate) const WORKLOAD: &str = "workload.toml";
/// The folder of the evidence.
pub(crate) const TRACES: &str = "traces";
/// The profile.
pub(crate) const PROFILE: &str = "profile.json";
/// Why each rule is in it.
pub(crate) const EVIDENCE: &str = "profile.evidence.json";
/// The runs that were watched after the profile was made.
pub(crate) const HELD_OUT: &str = "heldout.json";
/// What a person reads first.
pub(crate) const REPORT: &str = "report.md";

/// `workload.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Workload {
    /// What is run.
    pub(crate) target: Target,
    /// How it is driven.
    #[serde(default)]
    pub(crate) life: Life,
    /// How its profile is made.
    #[serde(default)]
    pub(crate) synthesis: crate::synthesis::Choices,
    /// What a reviewer decided.
    #[serde(default, rename = "decision", skip_serializing_if = "Vec::is_empty")]
    pub(crate) decisions: Vec<Decision>,
    /// What confined starts were refused, and was then allowed as far as the ceiling does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) added: Vec<Added>,
}

/// A call that a confined start was refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Added {
    /// The syscall.
    pub(crate) syscall: String,
    /// Through which ABI it was called.
    pub(crate) abi: trace::Abi,
    /// Its arguments, as far as a rule can test them; none for a call without such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) when: Option<String>,
    /// What was seen.
    pub(crate) why: String,
}

impl Added {
    /// As the synthesizer takes it.
    fn resolve(&self) -> anyhow::Result<synth::Addition> {
        let context = || format!("added `{}`", self.syscall);
        let arguments = |text: &str| {
            registers_of(&read_conditions(&self.syscall, text)?)
                .with_context(|| format!("`{text}` is more than one call; write `==` for each argument"))
        };
        ensure!(synth::is_syscall(&self.syscall), "unknown syscall `{}`", self.syscall);
        Ok(synth::Addition {
            syscall: self.syscall.clone(),
            abi: self.abi,
            why: self.why.clone(),
            arguments: self.when.as_deref().map(arguments).transpose().with_context(context)?,
        })
    }
}

/// What is run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Target {
    /// The command with its arguments, secrets masked; with an image the arguments of the container.
    pub(crate) command: Vec<String>,
    /// The image, where a container engine runs the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    /// The engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) engine: Option<String>,
    /// Its own command, where that is not its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) engine_program: Option<PathBuf>,
    /// The options of its `create`, secrets masked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) run_options: Vec<String>,
}

impl Target {
    /// A command.
    pub(crate) fn command(command: &[OsString]) -> Self {
        Self { command: masked(command), ..Self::default() }
    }

    /// A container.
    pub(crate) fn container(run: &Run) -> Self {
        Self {
            command: masked(&run.arguments),
            image: Some(run.image.clone()),
            engine: Some(run.kind.to_string()),
            engine_program: run.program.clone(),
            run_options: masked(&run.options),
        }
    }

    /// In one line, for a person.
    pub(crate) fn in_words(&self) -> String {
        let command = self.command.join(" ").replace('\n', " ⏎ ");
        match &self.image {
            None => command,
            Some(image) if command.is_empty() => image.clone(),
            Some(image) => format!("{image} {command}"),
        }
    }
}

/// Words as they may be written down.
fn masked(words: &[OsString]) -> Vec<String> {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    trace::mask_arguments(&words)
}

/// How it is driven: shell commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Life {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ready: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exercise: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) health: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reset: Option<String>,
}

impl Workload {
    /// Reads the folder's `workload.toml`.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(WORKLOAD);
        let text =
            String::from_utf8(read(&path)?).with_context(|| format!("`{}` is not UTF-8", path.display()))?;
        Self::parse(&text).with_context(|| format!("cannot read `{}`", path.display()))
    }

    /// Reads what a `workload.toml` says, and checks it.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let workload: Self = toml::from_str(text).map_err(|error| in_one_line(text, &error))?;
        workload.resolve(&mut Options::default())?;
        Ok(workload)
    }

    /// Puts what was decided and added into the options of a synthesis.
    pub(crate) fn resolve(&self, options: &mut Options) -> anyhow::Result<()> {
        for decision in &self.decisions {
            options.decisions.push(decision.resolve()?);
        }
        for added in &self.added {
            options.allow.push(added.resolve()?);
        }
        options.today = today();
        Ok(())
    }

    /// Writes it, with a line that says what it is.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        Output::prepare(&folder.join(WORKLOAD))?.write(self.to_toml()?.as_bytes())
    }

    /// What [`Self::write`] writes.
    pub(crate) fn to_toml(&self) -> anyhow::Result<String> {
        let text = toml::to_string(self).context("cannot put the workload into TOML")?;
        Ok(format!(
            "# What this workload is, how it is driven, and how its profile is made. Yours to edit.\n\n{text}"
        ))
    }

    /// The stored command, if it can be run as it stands.
    pub(crate) fn command(&self) -> anyhow::Result<Vec<OsString>> {
        unmasked(&self.target.command, "command", "give the command after `--`")
    }

    /// The stored container, if the workload is one and it can be started as it stands.
    pub(crate) fn image_run(&self) -> anyhow::Result<Option<Run>> {
        let Some(image) = &self.target.image else { return Ok(None) };
        let engine = self.target.engine.as_deref().unwrap_or_default();
        let kind = engine.parse().map_err(anyhow::Error::msg);
        Ok(Some(Run {
            kind: kind.with_context(|| format!("`{WORKLOAD}` names no engine for its image"))?,
            program: self.target.engine_program.clone(),
            image: image.clone(),
            options: unmasked(
                &self.target.run_options,
                "run options",
                "give `--image` and `--run-option` again",
            )?,
            arguments: unmasked(
                &self.target.command,
                "arguments",
                "give `--image` and the arguments after `--`",
            )?,
            seccomp: None,
            name: None,
        }))
    }
}

/// What is wrong with a TOML file, and where.
fn in_one_line(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let message = error.message().replace('\n', ", ");
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => anyhow!("line {}: {message}", before.matches('\n').count() + 1),
        None => anyhow!(message),
    }
}

fn unmasked(words: &[String], what: &str, remedy: &str) -> anyhow::Result<Vec<OsString>> {
    if let Some(word) = words.iter().find(|word| word.contains("***")) {
        bail!("`{WORKLOAD}` has a masked secret in its {what} (`{word}`); {remedy}");
    }
    Ok(words.iter().map(OsString::from).collect())
}

/// The trace files of a workload's folder, in the order of their names.
pub(crate) fn traces(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let path = folder.join(TRACES);
    let files = json_files(&path)?;
    if files.is_empty() {
        bail!("no trace in `{}`; make one with `learn -o {}`", path.display(), folder.display());
    }
    Ok(files)
}

/// The files of a folder that are named `*.json`, in the order of their names.
pub(crate) fn json_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let context = || format!("cannot read `{}`", folder.display());
    let entries = fs::read_dir(folder).with_context(context)?;
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(context)?;
    files.retain(|file| file.extension() == Some("json".as_ref()));
    files.sort();
    Ok(files)
}

/// The name for the next trace of a folder: `run-001.json`, `run-002.json`, …
pub(crate) fn next_trace(folder: &Path) -> PathBuf {
    let folder = folder.join(TRACES);
    (1u32..)
        .map(|number| folder.join(format!("run-{number:03}.json")))
        .find(|path| !path.exists())
        .unwrap_or(folder)
}
