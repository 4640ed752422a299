//! `uninstall`: takes an installed profile away, unless a container runs with it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use synth::Profile;

use crate::{
    containers::Engines,
    exit, input,
    install::{Asked, At, Place, ask},
    output::read,
    terminal::{print, say},
};

/// Take an installed profile away, unless a container runs with it
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The installed profile: its name with or without the digits, its `localhostProfile`, its path, or the file or
    /// workload folder that it was installed from
    #[arg(value_name = "PROFILE|NAME")]
    profile: PathBuf,

    #[command(flatten)]
    place: At,

    #[command(flatten)]
    engines: Engines,

    /// Take it away although an engine could not be asked: a container that needs it will not start again
    #[arg(long)]
    without_asking: bool,

    /// One JSON object, for programs
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let place = options.place.find()?;
    let name = named(&place, &options.profile)?;
    let file = place.file(&name);
    let profile = Profile::read(&read(&file)?).with_context(|| {
        format!("`{}` is no profile; remove it yourself if it is not needed", file.display())
    })?;
    let asked = ask(&options.engines, &file, &profile);
    for line in &asked.stopped {
        say(format!("warning: {line} cannot be started again without it"));
    }
    if !asked.answered.is_empty() {
        say(format!("asked {}", asked.answered.join(", ")));
    } else if asked.silent.is_empty() {
        say("no container engine answers here, so none could be asked");
    }
    let in_use = !asked.running.is_empty();
    for line in &asked.running {
        say(format!("error: in use by {line}; start it with another profile first"));
    }
    let unknown = !asked.silent.is_empty();
    for line in &asked.silent {
        say(format!("{}: {line}", if options.without_asking { "warning" } else { "error" }));
    }
    let removed = !in_use && (!unknown || options.without_asking);
    if removed {
        fs::remove_file(&file)
            .with_context(|| format!("cannot remove `{}`; run as whoever installed it", file.display()))?;
    }
    if options.json {
        print(report(&name, &file, removed, &asked).to_string() + "\n");
    } else if removed {
        print(format!("removed {}\n", file.display()));
    } else {
        say(format!("`{}` was left in its place", file.display()));
    }
    if in_use {
        return Ok(exit::code(exit::NO));
    }
    if !removed {
        say("to remove it all the same: `--without-asking`");
        return Ok(exit::code(exit::FAILED));
    }
    Ok(exit::code(exit::YES))
}

fn report(name: &str, file: &Path, removed: bool, asked: &Asked) -> serde_json::Value {
    json!({
        "type": "uninstalled", "version": 1, "removed": removed, "name": name, "path": file,
        "running": asked.running, "stopped": asked.stopped, "asked": asked.answered,
        "absent": asked.absent, "not_asked": asked.silent,
    })
}

/// The name under which it is installed.
fn named(place: &Place, given: &Path) -> anyhow::Result<String> {
    let installed = place.installed()?;
    let text = given.to_string_lossy();
    let last = given.file_name().unwrap_or_default().to_string_lossy();
    let stem = last.strip_suffix(".json").unwrap_or(&last);
    // Its own path, its localhostProfile, its full name.
    let inside = !text.contains('/')
        || std::path::absolute(given)?.starts_with(&place.folder)
        || place.localhost_profile(stem).is_some_and(|own| own == text);
    if inside && let Some(name) = installed.iter().find(|name| *name == stem) {
        return Ok(name.clone());
    }
    let matching: Vec<&String> = if !text.contains('/') && !given.exists() {
        // The digits after the last hyphen may be left out.
        installed.iter().filter(|name| name.rsplit_once('-').is_some_and(|(own, _)| own == text)).collect()
    } else if given.exists() {
        let bytes = input::profile(given)?.to_json();
        let same = |name: &&String| fs::read(place.file(name)).is_ok_and(|own| own == bytes.as_bytes());
        installed.iter().filter(same).collect()
    } else {
        Vec::new()
    };
    match matching.as_slice() {
        [only] => Ok((*only).clone()),
        [] => bail!(
            "`{text}` is not installed in `{}`; {}",
            place.folder.display(),
            match installed.as_slice() {
                [] => "nothing is; say where with `--for` and `--root`".to_owned(),
                names => format!("there are {}", names.join(", ")),
            }
        ),
        several => bail!(
            "`{text}` is installed as {}; name one of them",
            several.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
        ),
    }
}
