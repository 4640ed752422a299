//! Starting a container of our own, through the engine's own command, so that every option of it can be given.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::{Container, Engine, EngineError, Kind, Sockets, docker::output};

/// A container to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The engine.
    pub kind: Kind,
    /// Its command; none for `docker`, `podman` or `ctr` where the system finds it. A
    /// `nerdctl` takes the options of Docker's.
    pub program: Option<PathBuf>,
    /// The image.
    pub image: String,
    /// Options for the engine's `create`, as a person would give them.
    pub options: Vec<OsString>,
    /// The container's command and arguments; empty for the image's own.
    pub arguments: Vec<OsString>,
    /// A seccomp profile to confine it with; none leaves it to `options`, and else to the engine.
    pub seccomp: Option<PathBuf>,
    /// Its name; none for one that is made up.
    pub name: Option<String>,
}

/// A container that was made, and is ours to start, stop and remove.
#[derive(Clone, Debug)]
pub struct Created {
    /// Its identifier.
    pub id: String,
    kind: Kind,
    program: PathBuf,
    /// What stands before the subcommand.
    global: Vec<OsString>,
    language: Language,
}

/// How an engine's command is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    /// Docker's, which Podman and nerdctl speak as well.
    Docker,
    /// That of `ctr`: containers and their tasks are different things.
    Ctr,
}

impl Run {
    /// Makes the container without starting it: its identifier, and so the names of its cgroup, are known before
    /// there is any process of it.
    pub fn create(&self) -> Result<Created, EngineError> {
        self.create_with(&Sockets::default())
    }

    /// The same at an engine that listens elsewhere: where these sockets name one, and no program of the user's own
    /// knows better, the engine's command is sent there. Podman's command needs no socket.
    pub fn create_with(&self, sockets: &Sockets) -> Result<Created, EngineError> {
        let program = self.program()?;
        let socket = sockets.only().filter(|_| self.program.is_none());
        let global: Vec<OsString> = match (self.kind, socket) {
            (Kind::Docker, Some(socket)) => vec!["--host".into(), joined("unix://", socket)],
            (Kind::Containerd, Some(socket)) => vec!["--address".into(), socket.into()],
            _ => Vec::new(),
        };
        let output =
            |words: Vec<OsString>| output(&program, &global.iter().cloned().chain(words).collect::<Vec<_>>());
        let language = self.language(&program);
        let id = match language {
            Language::Docker => {
                let stdout = output(self.docker_arguments())?;
                // Podman may say what it pulled first.
                let text = String::from_utf8_lossy(&stdout);
                text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default().to_owned()
            }
            Language::Ctr => {
                let id = self.name.clone().unwrap_or_else(made_up_name);
                output(self.ctr_arguments(&id))?;
                id
            }
        };
        if id.is_empty() {
            return Err(EngineError::Command {
                command: format!("{} create", program.display()),
                status: "exit status: 0".to_owned(),
                message: "it named no container".to_owned(),
            });
        }
        Ok(Created { id, kind: self.kind, program, global, language })
    }

    fn program(&self) -> Result<PathBuf, EngineError> {
        match (&self.program, self.kind) {
            (_, Kind::Crio) => Err(EngineError::NoCommand { kind: self.kind }),
            (Some(program), _) => Ok(program.clone()),
            (None, Kind::Docker) => Ok("docker".into()),
            (None, Kind::Podman) => Ok("podman".into()),
            (None, Kind::Containerd) => Ok("ctr".into()),
        }
    }

    fn language(&self, program: &Path) -> Language {
        let is_nerdctl = program.file_name().is_some_and(|name| name.to_string_lossy().contains("nerdctl"));
        if self.kind == Kind::Containerd && !is_nerdctl { Language::Ctr } else { Language::Docker }
    }

    fn docker_arguments(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["create".into()];
        if let Some(name) = &self.name {
            words.extend(["--name".into(), name.into()]);
        }
        words.extend(self.options.iter().cloned());
        if let Some(profile) = &self.seccomp {
            words.extend(["--security-opt".into(), joined("seccomp=", profile)]);
        }
        words.push(self.image.clone().into());
        words.extend(self.arguments.iter().cloned());
        words
    }

    fn ctr_arguments(&self, id: &str) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["container".into(), "create".into()];
        words.extend(self.options.iter().cloned());
        if let Some(profile) = &self.seccomp {
            words.extend(["--seccomp".into(), "--seccomp-profile".into(), profile.into()]);
        }
        words.extend([self.image.clone().into(), id.into()]);
        words.extend(self.arguments.iter().cloned());
        words
    }
}

impl Created {
    /// Which engine made it.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The command that starts it, attached: it shows what the container says and ends with its exit code.
    #[must_use]
    pub fn start_command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.global);
        match self.language {
            Language::Docker => command.args(["start", "--attach"]),
            Language::Ctr => command.args(["task", "start"]),
        };
        command.arg(&self.id);
        command
    }

    /// The engine that has it: over its socket where that answers, else by its command.
    pub fn engine(&self, sockets: &Sockets) -> Result<Engine, EngineError> {
        match Engine::connect(self.kind, sockets) {
            // Another instance may listen at the usual place than the one that the command talks to.
            Ok(engine) if engine.inspect(&self.id).is_ok() => Ok(engine),
            other if matches!(self.kind, Kind::Docker | Kind::Podman) => {
                drop(other);
                Engine::by_command_with(self.kind, &self.program, &self.global)
            }
            other => other,
        }
    }

    /// What the engine says about it now, by its own command.
    pub fn inspect(&self) -> Result<Container, EngineError> {
        Engine::by_command_with(self.kind, &self.program, &self.global)?.inspect(&self.id)
    }

    /// The engine with its version, and what it says about the container now.
    pub fn describe(&self, sockets: &Sockets) -> Result<(String, Container), EngineError> {
        let engine = self.engine(sockets)?;
        Ok((engine.with_version(), engine.inspect(&self.id)?))
    }

    /// Stops it: SIGTERM, and SIGKILL after `timeout`.
    pub fn stop(&self, timeout: Duration) -> Result<(), EngineError> {
        let seconds = timeout.as_secs().to_string();
        if self.language == Language::Docker {
            return self.command(&["stop", "--time", &seconds]);
        }
        // `ctr` sends a signal and does not wait; the first process of a container ignores what it does not handle.
        self.command(&["task", "kill", "--signal", "SIGTERM"])?;
        let asked = Instant::now();
        while self.has_task() {
            if asked.elapsed() >= timeout {
                return self.command(&["task", "kill", "--all", "--signal", "SIGKILL"]);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Whether a task of `ctr` still runs.
    fn has_task(&self) -> bool {
        let words: Vec<OsString> =
            self.global.iter().cloned().chain(["task", "ls"].map(OsString::from)).collect();
        let listed = output(&self.program, &words).unwrap_or_default();
        String::from_utf8_lossy(&listed).lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(self.id.as_str()) && words.any(|word| word == "RUNNING")
        })
    }

    /// Removes it, running or not.
    pub fn remove(&self) -> Result<(), EngineError> {
        if self.language == Language::Docker {
            return self.command(&["rm", "--force"]);
        }
        // A container that never started, or ended, has no task any more.
        let _ = self.command(&["task", "rm", "--force"]);
        self.command(&["container", "rm"])
    }

    fn command(&self, arguments: &[&str]) -> Result<(), EngineError> {
        let mut words = self.global.clone();
        words.extend(arguments.iter().map(OsString::from));
        words.push(self.id.clone().into());
        output(&self.program, &words).map(drop)
    }
}

fn joined(prefix: &str, path: &Path) -> OsString {
    let mut joined = OsString::from(prefix);
    joined.push(path);
    joined
}

/// A name that nobody else has: containerd's containers are named by whoever makes them.
fn made_up_name() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("seccomp-learn-{}-{}", std::process::id(), now.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kind: Kind) -> Run {
        Run {
            kind,
            program: None,
            image: "localhost/a:1".to_owned(),
            options: vec!["--user".into(), "7".into()],
            arguments: vec!["ls".into(), "-l".into()],
            seccomp: Some("/p.json".into()),
            name: Some("n".to_owned()),
        }
    }

    #[test]
    fn options_stand_before_the_image() {
        let words = run(Kind::Docker).docker_arguments();
        let expected = "create --name n --user 7 --security-opt seccomp=/p.json localhost/a:1 ls -l";
        assert_eq!(words.join(std::ffi::OsStr::new(" ")), expected);
        let words = run(Kind::Containerd).ctr_arguments("n");
        let expected = "container create --user 7 --seccomp --seccomp-profile /p.json localhost/a:1 n ls -l";
        assert_eq!(words.join(std::ffi::OsStr::new(" ")), expected);
        let languages =
            ["ctr", "/usr/local/bin/nerdctl"].map(|name| run(Kind::Containerd).language(Path::new(name)));
        assert_eq!(languages, [Language::Ctr, Language::Docker]);
        assert!(matches!(run(Kind::Crio).create(), Err(EngineError::NoCommand { .. })));
    }

    #[test]
    fn a_command_that_is_missing_is_named() {
        let missing = Run { program: Some("/nonexistent/docker".into()), ..run(Kind::Docker) };
        let error = missing.create().unwrap_err().to_string();
        assert!(error.contains("`/nonexistent/docker`") && error.contains("--engine-program"), "{error}");
    }
}
