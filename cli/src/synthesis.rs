//! The options of synthesis, the same on the command line and in `workload.toml`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use synth::{Options, RuntimeTable};

use crate::{input, output::read};

/// How a profile is made from traces. What is not said here is what the workload's folder says, else the default.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Choices {
    /// What is allowed beyond what was observed [default: portable]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) margin: Option<Margin>,

    /// Whose own calls, made between loading the filter and starting the program, are allowed: `auto` (of the runtime
    /// that the trace names), `runc`, `crun`, `none` (the profile cannot start a container), or a table's file. A
    /// table that `runtime-base` measured, in `profiles/runtime` here, goes before shipped ones [default: auto]
    #[arg(long, value_name = "RUNTIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) runtime: Option<Runtime>,

    /// What no rule may exceed: `runtime-default`, `none`, or a profile's file [default: runtime-default]
    #[arg(long, value_name = "CEILING")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ceiling: Option<Ceiling>,

    /// What happens to every other call [default: errno]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) default_action: Option<DefaultAction>,

    /// How far rules go by the arguments of calls [default: stable]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) arguments: Option<Arguments>,

    /// A branch of the GPU driver that the profile is to hold for, such as 570; may be repeated [default: every branch
    /// that is known]
    #[arg(long = "gpu-driver", value_name = "BRANCH", value_parser = branch)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) gpu_drivers: Vec<u32>,

    /// The oldest libseccomp that the profile is loaded with: names that it does not know are findings [default: 2.5.4]
    #[arg(long, value_name = "VERSION", value_parser = libseccomp)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) libseccomp: Option<String>,

    /// Leave out what exec sessions (`docker exec`, exec probes) called: they will be refused it
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) without_exec: bool,
}

/// `--margin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Margin {
    /// What was observed and what every program needs; another kernel or libc may be refused something
    None,
    /// Also the siblings of what was observed: calls that do the same thing on another kernel or libc
    Portable,
}

/// `--arguments`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arguments {
    /// Not at all: a call that was seen is allowed with whatever the ceiling allows
    Off,
    /// What was seen, and harmless values of the same argument that another input or host may bring
    Stable,
    /// Only what was seen: another input or host may be refused something
    Exact,
}

/// A branch of the driver, from its number or a whole version: `570`, `570.86.15`.
pub(crate) fn branch(text: &str) -> Result<u32, String> {
    let number = text.split('.').next().and_then(|major| major.parse().ok());
    number.ok_or_else(|| "no branch of a driver; write its number, such as 570".to_owned())
}

/// A libseccomp of the table.
fn libseccomp(text: &str) -> Result<String, synth::UnknownLibseccomp> {
    text.parse::<synth::Libseccomp>().map(|known| known.to_string())
}

/// `--runtime`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(crate) enum Runtime {
    /// Those of the runtime that the trace names; of runc and crun where it names none.
    Auto,
    /// Those of runc.
    Runc,
    /// Those of crun.
    Crun,
    /// None.
    None,
    /// Those of a table's file.
    Table(PathBuf),
}

impl From<String> for Runtime {
    fn from(text: String) -> Self {
        match text.as_str() {
            "auto" => Self::Auto,
            "runc" => Self::Runc,
            "crun" => Self::Crun,
            "none" => Self::None,
            _ => Self::Table(text.into()),
        }
    }
}

impl From<&str> for Runtime {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Runtime> for String {
    fn from(runtime: Runtime) -> Self {
        match runtime {
            Runtime::Auto => "auto".to_owned(),
            Runtime::Runc => "runc".to_owned(),
            Runtime::Crun => "crun".to_owned(),
            Runtime::None => "none".to_owned(),
            Runtime::Table(path) => path.to_string_lossy().into_owned(),
        }
    }
}

impl Runtime {
    /// The choice as the synthesizer takes it, and the tables that were measured.
    fn resolve(&self) -> anyhow::Result<(synth::Runtime, Vec<RuntimeTable>)> {
        Ok(match self {
            Self::None => (synth::Runtime::None, Vec::new()),
            Self::Table(path) => {
                if !path.exists() && !path.to_string_lossy().contains(['/', '.']) {
                    bail!(
                        "unknown runtime `{}`; give auto, runc, crun, none, or a table's file",
                        path.display()
                    );
                }
                (synth::Runtime::Table(runtime_table(path)?), Vec::new())
            }
            Self::Auto => (synth::Runtime::Auto, measured()?),
            Self::Runc => (synth::Runtime::Runc, measured()?),
            Self::Crun => (synth::Runtime::Crun, measured()?),
        })
    }
}

/// Where `runtime-base` puts what it measured, and where it is looked for: below the current directory.
pub(crate) const MEASURED: &str = "profiles/runtime";

/// Reads the table of a runtime's calls.
pub(crate) fn runtime_table(path: &Path) -> anyhow::Result<RuntimeTable> {
    let context = || format!("cannot read runtime table `{}`", path.display());
    let text = String::from_utf8(read(path)?).with_context(context)?;
    RuntimeTable::read(&text).with_context(context)
}

/// The measured tables, in the order of their names.
fn measured() -> anyhow::Result<Vec<RuntimeTable>> {
    let Ok(entries) = std::fs::read_dir(MEASURED) else { return Ok(Vec::new()) };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension() == Some("toml".as_ref()));
    files.sort();
    files.iter().map(|file| runtime_table(file)).collect()
}

/// `--default-action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DefaultAction {
    /// Refuse it with EPERM
    Errno,
    /// Let it pass and log it: protects nothing
    Log,
}

/// `--ceiling`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(crate) enum Ceiling {
    /// The engines' own default profile.
    RuntimeDefault,
    /// Nothing.
    None,
    /// This profile: a file, or a shipped default by name.
    Profile(PathBuf),
}

impl From<String> for Ceiling {
    fn from(text: String) -> Self {
        match text.as_str() {
            "runtime-default" => Self::RuntimeDefault,
            "none" => Self::None,
            _ => Self::Profile(text.into()),
        }
    }
}

impl From<&str> for Ceiling {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Ceiling> for String {
    fn from(ceiling: Ceiling) -> Self {
        match ceiling {
            Ceiling::RuntimeDefault => "runtime-default".to_owned(),
            Ceiling::None => "none".to_owned(),
            Ceiling::Profile(path) => path.to_string_lossy().into_owned(),
        }
    }
}

impl Choices {
    /// Fills in what a folder's `workload.toml` says.
    pub(crate) fn or_stored(&mut self, stored: &Self) {
        self.margin = self.margin.or(stored.margin);
        self.runtime = self.runtime.take().or_else(|| stored.runtime.clone());
        self.ceiling = self.ceiling.take().or_else(|| stored.ceiling.clone());
        self.default_action = self.default_action.or(stored.default_action);
        self.without_exec |= stored.without_exec;
        self.arguments = self.arguments.or(stored.arguments);
        if self.gpu_drivers.is_empty() {
            self.gpu_drivers.clone_from(&stored.gpu_drivers);
        }
        self.libseccomp = self.libseccomp.take().or_else(|| stored.libseccomp.clone());
    }

    /// The options as the synthesizer takes them; the files of a ceiling and of runtimes' tables are read.
    pub(crate) fn options(&self) -> anyhow::Result<Options> {
        let ceiling = match &self.ceiling {
            None | Some(Ceiling::RuntimeDefault) => synth::Ceiling::RuntimeDefault,
            Some(Ceiling::None) => synth::Ceiling::None,
            Some(Ceiling::Profile(path)) => synth::Ceiling::Profile(input::profile(Path::new(path))?),
        };
        let gpu_drivers = match self.gpu_drivers.as_slice() {
            [] => synth::GpuDrivers::All,
            branches => synth::GpuDrivers::Only(branches.iter().copied().collect()),
        };
        let oldest = synth::Libseccomp::OLDEST;
        let libseccomp: synth::Libseccomp = self.libseccomp.as_deref().unwrap_or(oldest).parse()?;
        let (runtime, measured) = self.runtime.as_ref().unwrap_or(&Runtime::Auto).resolve()?;
        Ok(Options {
            margin: match self.margin {
                Some(Margin::None) => synth::Margin::None,
                None | Some(Margin::Portable) => synth::Margin::Portable,
            },
            runtime,
            measured,
            without_exec: self.without_exec,
            arguments: match self.arguments {
                Some(Arguments::Off) => synth::ArgumentMode::Off,
                None | Some(Arguments::Stable) => synth::ArgumentMode::Stable,
                Some(Arguments::Exact) => synth::ArgumentMode::Exact,
            },
            gpu_drivers,
            libseccomp,
            ceiling,
            default_action: match self.default_action {
                None | Some(DefaultAction::Errno) => synth::DefaultAction::Errno,
                Some(DefaultAction::Log) => synth::DefaultAction::Log,
            },
            ..Options::default()
        })
    }
}
