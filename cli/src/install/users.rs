//! Which containers run with a profile, as far as the engines here can tell.

use std::path::Path;

use engine::{Container, Engine, EngineError, Kind, Seccomp, State};
use synth::{CompileOptions, Profile};
use trace::Abi;

use crate::containers::Engines;

/// What the engines said.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Containers that run with the profile, or are about to.
    pub(crate) running: Vec<String>,
    /// Containers that ran with it, and will read the file again when they are started again.
    pub(crate) stopped: Vec<String>,
    /// Engines that answered.
    pub(crate) answered: Vec<String>,
    /// Engines that are not here.
    pub(crate) absent: Vec<String>,
    /// Engines that are here and could not be asked, with the reason.
    pub(crate) silent: Vec<String>,
}

/// Asks every engine, or the chosen one, which containers have the profile that is in this file.
pub(crate) fn ask(engines: &Engines, file: &Path, profile: &Profile) -> Asked {
    let sockets = engines.sockets();
    let mut asked = Asked::default();
    let mut strangers = Vec::new();
    let kinds = Kind::ALL.into_iter().filter(|kind| engines.engine.is_none_or(|choice| choice == *kind));
    for kind in kinds {
        let list = Engine::connect(kind, &sockets).and_then(|engine| engine.list_using_seccomp());
        match list {
            Ok(list) => {
                asked.answered.push(kind.to_string());
                for (container, seccomp) in list {
                    if uses(&seccomp, file, profile) {
                        sort(&mut asked, kind, &container, &seccomp);
                    }
                }
            }
            // Somebody named its socket: then it should be there.
            Err(error @ (EngineError::NoSocket { .. } | EngineError::NotRunning { .. }))
                if engines.engine.is_some() || sockets.is_one() =>
            {
                asked.silent.push(chain(&error));
            }
            Err(EngineError::NoSocket { .. } | EngineError::NotRunning { .. }) => {
                asked.absent.push(kind.to_string());
            }
            // One socket was named, and only one engine can be behind it.
            Err(error) if sockets.is_one() && engines.engine.is_none() => strangers.push(chain(&error)),
            Err(error) => asked.silent.push(chain(&error)),
        }
    }
    if asked.answered.is_empty() {
        asked.silent.append(&mut strangers);
    }
    asked
}

fn sort(asked: &mut Asked, kind: Kind, container: &Container, seccomp: &Seccomp) {
    let id = container.id.get(..12).unwrap_or(&container.id);
    let pod = container.pod.as_ref().map(|pod| format!(" of pod {}/{}", pod.namespace, pod.name));
    let line = format!("`{}`{} ({kind} {id})", container.name, pod.unwrap_or_default());
    match container.state {
        State::Running { .. } | State::Created => asked.running.push(line),
        // An engine that keeps the text needs the file no more.
        State::Exited { .. } if matches!(seccomp, Seccomp::Inline(_)) => {}
        State::Exited { .. } => asked.stopped.push(line),
    }
}

/// Whether it is this profile: by the file's name, which has its digest in it, or by what it compiles to.
fn uses(seccomp: &Seccomp, file: &Path, profile: &Profile) -> bool {
    match seccomp {
        Seccomp::Unconfined | Seccomp::Default => false,
        Seccomp::Profile(path) => Path::new(path).file_name() == file.file_name(),
        Seccomp::Inline(text) => {
            let Ok(own) = Profile::read(text.as_bytes()) else { return false };
            own == *profile || (compiled(&own).is_some() && compiled(&own) == compiled(profile))
        }
    }
}

fn compiled(profile: &Profile) -> Option<Vec<synth::Instruction>> {
    let native = Abi::native_of(std::env::consts::ARCH)?;
    synth::compile(profile, native, CompileOptions::default()).ok().map(|program| program.instructions)
}

fn chain(error: &EngineError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_known_by_its_file_or_by_what_it_means() {
        let profile = synth::observe_profile(Abi::X86_64);
        let file = Path::new("/etc/x/observe-0123456789ab.json");
        let check = |seccomp: Seccomp, expected: bool| {
            assert_eq!(uses(&seccomp, file, &profile), expected, "{seccomp:?}");
        };
        check(Seccomp::Unconfined, false);
        check(Seccomp::Default, false);
        check(Seccomp::Profile("localhost/seccomp-learn/observe-0123456789ab.json".to_owned()), true);
        check(Seccomp::Profile("/elsewhere/observe-0123456789ab.json".to_owned()), true);
        check(Seccomp::Profile("/etc/x/observe-000000000000.json".to_owned()), false);
        check(Seccomp::Inline(profile.to_json()), true);
        let doubled = profile.to_json().replace("\"nfsservctl\"", "\"nfsservctl\", \"nfsservctl\"");
        check(Seccomp::Inline(doubled), true);
        check(Seccomp::Inline(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#.to_owned()), false);
        check(Seccomp::Inline("no profile".to_owned()), false);
    }
}
