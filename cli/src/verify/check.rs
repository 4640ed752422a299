//! What the checks said: for a person and for a program, and the exit code.

use std::{path::Path, process::ExitCode};

use serde_json::{Value, json};

use crate::{
    exit,
    terminal::{count, print, visible},
};

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// To know; nothing depends on it.
    Warning,
    /// The evidence says nothing about this.
    NoEvidence,
    /// Not as it should be.
    Failed,
}

impl Status {
    /// The word for a person, and for a program.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Ok => ("ok", "ok"),
            Self::Warning => ("warning", "warning"),
            Self::NoEvidence => ("NO EVIDENCE", "no-evidence"),
            Self::Failed => ("FAILED", "failed"),
        }
    }
}

/// One thing that was checked.
#[derive(Debug)]
pub(super) struct Check {
    name: &'static str,
    status: Status,
    message: String,
    details: Vec<String>,
    remedy: Option<String>,
    /// Another command, and what for.
    otherwise: Option<(&'static str, String)>,
    /// What a program gets besides.
    more: Option<(&'static str, Value)>,
}

impl Check {
    pub(super) fn new(name: &'static str, status: Status, message: impl Into<String>) -> Self {
        let (message, details) = (message.into(), Vec::new());
        Self { name, status, message, details, remedy: None, otherwise: None, more: None }
    }

    /// One that the evidence says nothing about, with the command that changes that.
    pub(super) fn no_evidence(
        name: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(name, Status::NoEvidence, message).remedy(remedy)
    }

    /// The command that mends it, or accepts it.
    pub(super) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// Another command, in place of that one, and what for.
    pub(super) fn otherwise(self, what: &'static str, command: String) -> Self {
        Self { otherwise: Some((what, command)), ..self }
    }

    /// Lines below it.
    pub(super) fn details(self, details: Vec<String>) -> Self {
        Self { details, ..self }
    }

    /// What a program gets besides.
    pub(super) fn with(self, key: &'static str, value: Value) -> Self {
        Self { more: Some((key, value)), ..self }
    }

    fn text(&self) -> String {
        const INDENT: &str = "             ";
        let (word, message) = (self.status.words().0, visible(&self.message));
        let mut text = format!("{word:<13}{}: {message}\n", self.name);
        for detail in &self.details {
            text += &format!("{INDENT}{}\n", visible(detail));
        }
        if let Some(remedy) = &self.remedy {
            text += &format!("{INDENT}run: {}\n", visible(remedy));
        }
        if let Some((what, command)) = &self.otherwise {
            text += &format!("{INDENT}or, {what}: {}\n", visible(command));
        }
        text
    }

    fn json(&self) -> Value {
        let mut value = json!({
            "type": "check", "version": 1, "check": self.name, "status": self.status.words().1,
            "message": self.message, "details": self.details, "remedy": self.remedy,
            "otherwise": self.otherwise.as_ref().map(|(_, command)| command),
        });
        if let (Some((key, more)), Some(object)) = (&self.more, value.as_object_mut()) {
            object.insert((*key).to_owned(), more.clone());
        }
        value
    }
}

/// All that was checked, in order.
#[derive(Debug, Default)]
pub(super) struct Checks(Vec<Check>);

impl Checks {
    pub(super) fn add(&mut self, check: Check) {
        self.0.push(check);
    }

    /// Whether all is well with this one so far.
    pub(super) fn is_good(&self, name: &str) -> bool {
        self.0.iter().filter(|own| own.name == name).all(|own| own.status <= Status::Warning)
    }

    /// Prints everything, and says how the program ends.
    pub(super) fn tell(&self, folder: &Path, json: bool) -> ExitCode {
        let of = |status| self.0.iter().filter(|own| own.status == status).count() as u64;
        let (failed, without) = (of(Status::Failed), of(Status::NoEvidence));
        let code = match (failed, without) {
            (0, 0) => exit::YES,
            (0, _) => exit::EVIDENCE,
            _ => exit::NO,
        };
        let mut text = String::new();
        for check in &self.0 {
            text += &if json { format!("{}\n", check.json()) } else { check.text() };
        }
        text += &if json {
            let result = json!({
                "type": "result", "version": 1, "verified": code == exit::YES, "failed": failed,
                "no_evidence": without, "warnings": of(Status::Warning), "exit": code,
            });
            format!("{result}\n")
        } else {
            let name = visible(&folder.to_string_lossy());
            match code {
                exit::YES => format!("`{name}` is verified\n"),
                exit::EVIDENCE => {
                    format!("`{name}` is not verified: the evidence is not about this, or not complete\n")
                }
                _ => format!("`{name}` is not verified: {}\n", count(failed, "failure")),
            }
        };
        print(text);
        exit::code(code)
    }
}
