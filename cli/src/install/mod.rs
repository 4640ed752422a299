//! `install`: puts a profile where kubelet, Docker or Podman finds it, after checking that it works here.

mod check;
mod host;
mod place;
mod users;

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use serde_json::json;
use synth::{Profile, format::ProfileName};

use crate::{
    exit,
    format::usual_name,
    input,
    terminal::{print, say},
};

pub(crate) use self::{
    place::{Consumer, Place},
    users::{Asked, ask},
};

/// Put a profile where kubelet, Docker or Podman finds it
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The profile: a file, a workload folder, or the name of a shipped default (docker, podman, containerd)
    #[arg(value_name = "PROFILE|DIR", required_unless_present = "observe", conflicts_with = "observe")]
    profile: Option<PathBuf>,

    /// Install the profile that lets everything pass, for recording where Pod Security forbids Unconfined
    #[arg(long)]
    observe: bool,

    #[command(flatten)]
    place: At,

    /// What the installed file is called, before the first digits of its digest [default: as the folder or file]
    #[arg(long, value_name = "NAME")]
    name: Option<ProfileName>,

    /// The container runtime that will load it [default: every runc and crun that is installed]
    #[arg(long, value_name = "PATH")]
    runtime: Option<PathBuf>,

    /// Install it although this is not what it was learned on: what only this runtime, kernel or driver calls will
    /// be refused
    #[arg(long)]
    accept_other_host: bool,

    /// One JSON object, for programs
    #[arg(long)]
    json: bool,
}

/// Where installed profiles are.
#[derive(Args, Debug)]
pub(crate) struct At {
    /// Who loads it
    #[arg(long = "for", value_name = "WHO", value_enum, default_value = "kubelet")]
    consumer: Consumer,

    /// Kubelet's root directory, or the folder that Docker's or Podman's options will name [default:
    /// /var/lib/kubelet, or /etc/seccomp-learn/profiles]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

impl At {
    /// The place.
    pub(crate) fn find(&self) -> anyhow::Result<Place> {
        Place::find(self.consumer, self.root.as_deref())
    }
}

pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let place = options.place.find()?;
    let (profile, evidence, usual) = match &options.profile {
        Some(name) => {
            let profile = input::profile(name)?;
            let evidence = check::evidence(name, &profile)?;
            (profile, evidence, usual_name(name))
        }
        None => (synth::observe_profile(input::container().native), None, ProfileName::nearest("observe")),
    };
    let findings = check::check(&profile, evidence.as_ref(), options.runtime.as_deref())?;
    for line in &findings.refused {
        say(format!("error: {line}"));
    }
    let tolerated = options.accept_other_host;
    for line in &findings.mismatched {
        say(format!("{}: {line}", if tolerated { "warning" } else { "error" }));
    }
    if !findings.refused.is_empty() {
        return Ok(exit::code(exit::NO));
    }
    if !findings.mismatched.is_empty() && !tolerated {
        say("to install it all the same: `--accept-other-host`");
        return Ok(exit::code(exit::EVIDENCE));
    }
    if !options.observe {
        findings.notes.iter().for_each(|line| say(format!("note: {line}")));
    }
    let name = options.name.unwrap_or(usual).of(&profile);
    let new = place.put(&name, profile.to_json().as_bytes())?;
    report(&place, &name, &profile, new, options.json);
    Ok(exit::code(exit::YES))
}

fn report(place: &Place, name: &str, profile: &Profile, new: bool, json: bool) {
    let file = place.file(name);
    if json {
        let object = json!({
            "type": "installed", "version": 1, "new": new, "name": name, "path": file,
            "digest": profile.digest(), "localhostProfile": place.localhost_profile(name),
            "line": place.line(name).trim_end(),
        });
        print(object.to_string() + "\n");
        return;
    }
    say(format!(
        "{} {} ({})",
        if new { "installed" } else { "is there already:" },
        file.display(),
        profile.digest()
    ));
    print(place.line(name));
}
