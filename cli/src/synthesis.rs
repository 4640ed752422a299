//! The options of synthesis, the same on the command line and in `workload.toml`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use synth::Options;

use crate::input;

/// How a profile is made from traces. What is not said here is what the workload's folder says, else the default.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Choices {
    /// What is allowed beyond what was observed [default: portable]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) margin: Option<Margin>,

    /// Whose own calls, made between loading the filter and starting the program, are allowed [default: auto]
    #[arg(long, value_enum)]
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

/// `--runtime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Runtime {
    /// Those of the runtime that the trace names; of runc and crun where it names none
    Auto,
    /// Those of runc
    Runc,
    /// Those of crun
    Crun,
    /// None: the profile cannot start a container
    None,
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
        self.runtime = self.runtime.or(stored.runtime);
        self.ceiling = self.ceiling.take().or_else(|| stored.ceiling.clone());
        self.default_action = self.default_action.or(stored.default_action);
    }

    /// The options as the synthesizer takes them; a ceiling's file is read.
    pub(crate) fn options(&self) -> anyhow::Result<Options> {
        let ceiling = match &self.ceiling {
            None | Some(Ceiling::RuntimeDefault) => synth::Ceiling::RuntimeDefault,
            Some(Ceiling::None) => synth::Ceiling::None,
            Some(Ceiling::Profile(path)) => synth::Ceiling::Profile(input::profile(Path::new(path))?),
        };
        Ok(Options {
            margin: match self.margin {
                Some(Margin::None) => synth::Margin::None,
                None | Some(Margin::Portable) => synth::Margin::Portable,
            },
            runtime: match self.runtime {
                None | Some(Runtime::Auto) => synth::Runtime::Auto,
                Some(Runtime::Runc) => synth::Runtime::Runc,
                Some(Runtime::Crun) => synth::Runtime::Crun,
                Some(Runtime::None) => synth::Runtime::None,
            },
            ceiling,
            default_action: match self.default_action {
                None | Some(DefaultAction::Errno) => synth::DefaultAction::Errno,
                Some(DefaultAction::Log) => synth::DefaultAction::Log,
            },
            ..Options::default()
        })
    }
}
