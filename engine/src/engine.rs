//! One engine, whichever it is, and the search for a container among all of them.

use std::{ffi::OsString, fmt, path::Path};

use crate::{
    Asked, Container, Cri, EngineError, Kind, Seccomp, Sockets, containerd::Containerd, docker,
    docker::Docker,
};

/// An engine that answers.
#[derive(Clone, Debug)]
pub struct Engine(Talk);

#[derive(Clone, Debug)]
enum Talk {
    Docker(Docker),
    Containerd(Containerd),
    Cri(Cri),
    /// Docker's or Podman's command, where there is no socket to ask.
    Command(docker::ByCommand),
}

/// A container, and the engine that has it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The engine.
    pub engine: Engine,
    /// The container.
    pub container: Container,
}

impl Engine {
    /// Connects to an engine, at the first of its sockets where it answers.
    pub fn connect(kind: Kind, sockets: &Sockets) -> Result<Self, EngineError> {
        let paths = sockets.of(kind);
        let mut absent = None;
        for socket in &paths {
            match Self::at(kind, socket) {
                Ok(engine) => return Ok(engine),
                Err(error) if error.is_absent() => {
                    absent.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(absent.unwrap_or(EngineError::NoEngine { asked: Vec::new() }))
    }

    /// Connects to the engine behind one socket.
    pub fn at(kind: Kind, socket: &Path) -> Result<Self, EngineError> {
        Ok(Self(match kind {
            Kind::Docker | Kind::Podman => Talk::Docker(Docker::connect(kind, socket)?),
            Kind::Containerd => Talk::Containerd(Containerd::connect(socket)?),
            Kind::Crio => Talk::Cri(crio(socket)?),
        }))
    }

    /// Asks Docker or Podman through their own command: Podman needs no service for that.
    pub fn by_command(kind: Kind, program: &Path) -> Result<Self, EngineError> {
        Self::by_command_with(kind, program, &[])
    }

    /// The same with these options before the subcommand.
    pub(crate) fn by_command_with(
        kind: Kind,
        program: &Path,
        global: &[OsString],
    ) -> Result<Self, EngineError> {
        if !matches!(kind, Kind::Docker | Kind::Podman) {
            return Err(EngineError::NoCommand { kind });
        }
        Ok(Self(Talk::Command(docker::ByCommand::new(kind, program, global))))
    }

    /// Which engine it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match &self.0 {
            Talk::Docker(docker) => docker.kind(),
            Talk::Containerd(_) => Kind::Containerd,
            Talk::Cri(cri) => cri.kind(),
            Talk::Command(command) => command.kind,
        }
    }

    /// Its version, without what a distribution appends.
    #[must_use]
    pub fn version(&self) -> &str {
        match &self.0 {
            Talk::Docker(docker) => &docker.version,
            Talk::Containerd(containerd) => &containerd.version,
            Talk::Cri(cri) => cri.version(),
            Talk::Command(command) => &command.version,
        }
    }

    /// `docker 20.10.24`, as a trace names the engine.
    #[must_use]
    pub fn with_version(&self) -> String {
        format!("{} {}", self.kind(), self.version())
    }

    /// Where it listens; its command where it was asked by that.
    #[must_use]
    pub fn socket(&self) -> &Path {
        match &self.0 {
            Talk::Docker(docker) => docker.socket(),
            Talk::Containerd(containerd) => &containerd.connection.socket,
            Talk::Cri(cri) => cri.socket(),
            Talk::Command(command) => &command.program,
        }
    }

    /// The container with this id (the whole id) as it is now.
    pub fn inspect(&self, id: &str) -> Result<Container, EngineError> {
        match &self.0 {
            Talk::Docker(docker) => docker.inspect(id),
            Talk::Containerd(containerd) => containerd.inspect(id),
            Talk::Cri(cri) => cri.inspect(id),
            Talk::Command(command) => command.inspect(id),
        }
    }

    /// The ids of the containers that answer to a name: by the whole id or the name, else by an id's beginning of
    /// at least three digits.
    pub fn named(&self, name: &str) -> Result<Vec<String>, EngineError> {
        match &self.0 {
            Talk::Docker(docker) => docker.named(name),
            Talk::Containerd(containerd) => containerd.named(name),
            Talk::Cri(cri) => cri.named(name),
            Talk::Command(command) => command.inspect(name).map(|container| vec![container.id]),
        }
    }

    /// Every container that was not removed, with its profile: the running ones, and those that may be started
    /// again.
    pub fn list_using_seccomp(&self) -> Result<Vec<(Container, Seccomp)>, EngineError> {
        let ids = match &self.0 {
            Talk::Docker(docker) => docker.ids()?,
            Talk::Containerd(containerd) => containerd.ids()?,
            Talk::Cri(cri) => cri.ids()?,
            Talk::Command(_) => Vec::new(),
        };
        let mut found = Vec::new();
        for id in ids {
            match self.inspect(&id) {
                Ok(container) if container.seccomp == Seccomp::Unconfined => {}
                Ok(container) => found.push((container.clone(), container.seccomp)),
                // Removed since it was listed.
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_version())
    }
}

/// What a search comes to at an engine that answers.
const FOUND: &str = "found";
const NOT_FOUND: &str = "no such container";

/// CRI-O, which has no interface but the CRI; containerd behind it answers for itself.
fn crio(socket: &Path) -> Result<Cri, EngineError> {
    let cri = Cri::expecting(Kind::Crio, socket)?;
    if cri.kind() == Kind::Crio {
        return Ok(cri);
    }
    Err(EngineError::Stranger {
        kind: Kind::Crio,
        socket: socket.to_owned(),
        problem: format!("{} {} does; use `--engine {}`", cri.kind(), cri.version(), cri.kind()),
    })
}

/// The container that a name or an id means. Every engine that answers is asked, or the chosen one alone; the same
/// container seen by two of them (Docker's through containerd) is one.
pub fn find(name: &str, choice: Option<Kind>, sockets: &Sockets) -> Result<Found, EngineError> {
    let mut asked = Vec::new();
    let mut found: Vec<(Engine, String)> = Vec::new();
    let mut forbidden = None;
    for kind in Kind::ALL.into_iter().filter(|kind| choice.is_none_or(|choice| choice == *kind)) {
        for socket in sockets.of(kind) {
            let ids =
                Engine::at(kind, &socket).and_then(|engine| engine.named(name).map(|ids| (engine, ids)));
            let outcome = match ids {
                Ok((engine, ids)) => {
                    let outcome = if ids.is_empty() { NOT_FOUND } else { FOUND }.to_owned();
                    for id in ids {
                        if !found.iter().any(|(_, known)| *known == id) {
                            found.push((engine.clone(), id));
                        }
                    }
                    outcome
                }
                // What was chosen by name has only this one place to be.
                Err(error) if choice.is_some() && sockets.of(kind).len() == 1 => return Err(error),
                Err(error) => {
                    let outcome = error.outcome();
                    if matches!(error, EngineError::NotPermitted { .. }) {
                        forbidden.get_or_insert(error);
                    }
                    outcome
                }
            };
            asked.push(Asked { kind, socket, outcome });
        }
    }
    let answered = |asked: &Asked| asked.outcome == FOUND || asked.outcome == NOT_FOUND;
    let anybody = asked.iter().any(answered);
    if sockets.is_one() && choice.is_none() {
        // One socket for all: the engines that do not listen there have nothing to say.
        match anybody {
            true => asked.retain(answered),
            false => asked.truncate(1),
        }
    }
    let name = name.to_owned();
    match found.as_slice() {
        [] => Err(match forbidden {
            Some(error) if !anybody => error,
            _ if !anybody => EngineError::NoEngine { asked },
            _ => EngineError::NoContainer { name, asked },
        }),
        [(engine, id)] => {
            let container = engine.inspect(id)?;
            Ok(Found { engine: engine.clone(), container })
        }
        several => Err(EngineError::Ambiguous { name, found: several.iter().map(described).collect() }),
    }
}

/// One of several, so that a person can choose.
fn described((engine, id): &(Engine, String)) -> String {
    let short = id.get(..12).unwrap_or(id);
    match engine.inspect(id) {
        Ok(container) => match container.pod {
            Some(pod) => format!(
                "{} `{short}` ({}, pod {}/{})",
                engine.kind(),
                container.name,
                pod.namespace,
                pod.name
            ),
            None => format!("{} `{short}` ({})", engine.kind(), container.name),
        },
        Err(_) => format!("{} `{short}`", engine.kind()),
    }
}
