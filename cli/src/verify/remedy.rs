//! The commands that mend what a check found, or accept it: each can be run as it is written.

use std::path::PathBuf;

use synth::{DecisionVerdict, decode::read_conditions};

use super::{Asked, Case, check::Check};
use crate::{
    decisions::Proposal,
    folder::{self, PROFILE},
    image_name::{is_version_of, plain},
    terminal::quoted,
};

impl Case {
    /// The command that makes the profile from what is in the folder.
    pub(super) fn synth_command(&self) -> String {
        let folder = quoted(&self.folder);
        let mut command = format!("seccomp-learn synth {folder} -o {}", quoted(self.folder.join(PROFILE)));
        if self.how.without_startup {
            command += " --without-startup";
        }
        if self.how.accept_incomplete {
            command += " --accept-incomplete";
        }
        command
    }

    /// The command that records the workload anew, and makes and proves its profile.
    pub(super) fn record_command(&self) -> String {
        let target = &self.workload.target;
        if target.image.is_some() || !target.command.is_empty() {
            return format!("seccomp-learn learn -o {}", quoted(&self.folder));
        }
        format!(
            "seccomp-learn record -o {} --container NAME && {}",
            quoted(folder::next_trace(&self.folder)),
            self.synth_command()
        )
    }

    /// The same of the image that was asked about: into this folder where it is another version of what is in it.
    pub(super) fn record_image_command(&self, asked: &Asked) -> String {
        let target = &self.workload.target;
        let Some(own) = &target.image else {
            if target.command.is_empty() {
                return self.record_command();
            }
            let reference = asked.reference.clone().unwrap_or_else(|| format!("NAME@{}", asked.digest));
            return format!(
                "seccomp-learn learn -o {} --image {}",
                quoted(self.beside("image")),
                quoted(reference)
            );
        };
        let reference = asked.reference.clone().unwrap_or_else(|| format!("{}@{}", plain(own), asked.digest));
        let folder = if is_version_of(own, &reference) {
            self.folder.clone()
        } else {
            self.beside(plain(&reference).rsplit('/').next().unwrap_or("image"))
        };
        format!("seccomp-learn learn -o {} --image {}", quoted(folder), quoted(reference))
    }

    /// The command that records the workload into a folder of its own, for what this one cannot hold.
    pub(super) fn record_beside_command(&self, what: &str) -> String {
        let folder::Workload { target, life, .. } = &self.workload;
        let mut words = vec!["seccomp-learn learn -o".to_owned(), quoted(self.beside(what))];
        let mut option = |name: &str, value: &str| words.extend([name.to_owned(), quoted(value)]);
        for (name, value) in [
            ("--ready", &life.ready),
            ("--exercise", &life.exercise),
            ("--health-cmd", &life.health),
            ("--reset", &life.reset),
            ("--image", &target.image),
        ] {
            if let Some(value) = value {
                option(name, value);
            }
        }
        for run_option in &target.run_options {
            option("--run-option", run_option);
        }
        if !target.command.is_empty() {
            words.push("--".to_owned());
            words.extend(target.command.iter().map(quoted));
        }
        words.join(" ")
    }

    /// A folder next to this one.
    fn beside(&self, what: &str) -> PathBuf {
        let mut name = self.folder.file_name().unwrap_or("workload".as_ref()).to_owned();
        name.push("-");
        name.push(what);
        self.folder.with_file_name(name)
    }

    /// The command that makes the fresh traces part of the folder.
    pub(super) fn adopt_command(&self) -> String {
        let files: Vec<String> = self.fresh_files.iter().map(quoted).collect();
        let next = quoted(folder::next_trace(&self.folder));
        let copy = match files.as_slice() {
            [file] => format!("cp {file} {next}"),
            files => format!("seccomp-learn merge {} -o {next}", files.join(" ")),
        };
        format!("{copy} && {}", self.synth_command())
    }

    /// The command that writes decisions down; what comes after it is for the caller to say.
    pub(super) fn decide_command(&self, proposals: &[Proposal], reason: &str) -> String {
        let file = quoted(self.folder.join(folder::WORKLOAD));
        format!("{} >> {file}", Proposal::command(proposals, reason))
    }

    /// What was changed by hand is undone by synthesis, and kept by decisions where those can say it.
    pub(super) fn kept_or_undone(&self, check: Check, proposals: &[Proposal]) -> Check {
        if proposals.is_empty() {
            return check.remedy(self.synth_command());
        }
        let decide = self.decide_command(proposals, &format!("{PROFILE} was edited so by hand"));
        check
            .remedy(format!("{decide} && {}", self.synth_command()))
            .otherwise("to undo it", self.synth_command())
    }
}

/// Decisions for the cases of a call, as a difference of profiles has them; none where they cannot say it.
pub(super) fn proposals(verdict: DecisionVerdict, syscall: &str, cases: &[String]) -> Vec<Proposal> {
    let proposal =
        |when: Option<&String>| Proposal { verdict, syscall: syscall.to_owned(), when: when.cloned() };
    if cases == ["always"] {
        return vec![proposal(None)];
    }
    if cases.iter().any(|when| read_conditions(syscall, when).is_err()) {
        return Vec::new();
    }
    cases.iter().map(|when| proposal(Some(when))).collect()
}
