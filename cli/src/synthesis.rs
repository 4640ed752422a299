//! The options of synthesis, the same on the command line and in `workload.toml`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use synth::Options;

use crate::input;

/// How a profile is made from traces.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Choices {
    /// What is allowed beyond what was observed
    #[arg(long, value_enum, default_value_t)]
    pub(crate) margin: Margin,

    /// Whose own calls, made between loading the filter and starting the program, are allowed
    #[arg(long, value_enum, default_value_t)]
    pub(crate) runtime: Runtime,

    /// What no rule may exceed: `runtime-default`, `none`, or a profile's file
    #[arg(long, value_name = "CEILING", default_value = "runtime-default")]
    pub(crate) ceiling: Ceiling,

    /// What happens to every other call
    #[arg(long, value_enum, default_value_t)]
    pub(crate) default_action: DefaultAction,
}

/// `--margin`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Margin {
    /// What was observed and what every program needs; another kernel or libc may be refused something
    None,
    /// Also the siblings of what was observed: calls that do the same thing on another kernel or libc
    #[default]
    Portable,
}

/// `--runtime`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Runtime {
    /// Those of the runtime that the trace names; of runc and crun where it names none
    #[default]
    Auto,
    /// Those of runc
    Runc,
    /// Those of crun
    Crun,
    /// None: the profile cannot start a container
    None,
}

/// `--default-action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DefaultAction {
    /// Refuse it with EPERM
    #[default]
    Errno,
    /// Let it pass and log it: protects nothing
    Log,
}

/// `--ceiling`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(crate) enum Ceiling {
    /// The engines' own default profile.
    #[default]
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
    /// The options as the synthesizer takes them; a ceiling's file is read.
    pub(crate) fn options(&self) -> anyhow::Result<Options> {
        let ceiling = match &self.ceiling {
            Ceiling::RuntimeDefault => synth::Ceiling::RuntimeDefault,
            Ceiling::None => synth::Ceiling::None,
            Ceiling::Profile(path) => synth::Ceiling::Profile(input::profile(Path::new(path))?),
        };
        Ok(Options {
            margin: match self.margin {
                Margin::None => synth::Margin::None,
                Margin::Portable => synth::Margin::Portable,
            },
            runtime: match self.runtime {
                Runtime::Auto => synth::Runtime::Auto,
                Runtime::Runc => synth::Runtime::Runc,
                Runtime::Crun => synth::Runtime::Crun,
                Runtime::None => synth::Runtime::None,
            },
            ceiling,
            default_action: match self.default_action {
                DefaultAction::Errno => synth::DefaultAction::Errno,
                DefaultAction::Log => synth::DefaultAction::Log,
            },
            ..Options::default()
        })
    }
}
