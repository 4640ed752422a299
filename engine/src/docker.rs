//! Docker and Podman: the same questions, over the API that both serve, or from Podman's command, which needs
//! no service.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;
use serde_json::Value;
use trace::Digest;

use crate::{
    Container, EngineError, Kind,
    http::{Api, escape},
    inspection::{Defaults, Inspection},
};

/// The oldest Docker API that is known to say everything: Docker 1.13.
const OLDEST: (u32, u32) = (1, 25);

/// A Docker or Podman that answers.
#[derive(Clone, Debug)]
pub(crate) struct Docker {
    api: Api,
    pub(crate) version: String,
    defaults: Defaults,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: String,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    components: Option<Vec<Component>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    #[serde(default)]
    runtimes: Option<BTreeMap<String, Runtime>>,
    #[serde(default)]
    security_options: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Runtime {
    #[serde(default)]
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
}

impl Docker {
    /// Connects and asks who it is.
    pub(crate) fn connect(kind: Kind, socket: &Path) -> Result<Self, EngineError> {
        let api = Api { kind, socket: socket.to_owned() };
        let version: Version = match api.get("/version", "say its version") {
            Err(
                EngineError::Answer { kind, socket, problem, .. }
                | EngineError::Refused { kind, socket, message: problem, .. },
            ) => {
                return Err(EngineError::Stranger { kind, socket, problem });
            }
            other => other?,
        };
        let stranger = |problem: String| EngineError::Stranger { kind, socket: socket.to_owned(), problem };
        let podman =
            version.components.iter().flatten().any(|component| component.name.starts_with("Podman"));
        if podman != (kind == Kind::Podman) {
            let other = if podman { Kind::Podman } else { Kind::Docker };
            return Err(stranger(format!("{other} {} does; use `--engine {other}`", version.version)));
        }
        let number = version.api_version.split_once('.');
        let number = number.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        if number.is_some_and(|number: (u32, u32)| number < OLDEST) {
            let (major, minor) = OLDEST;
            return Err(stranger(format!(
                "version {} speaks API {}, older than {major}.{minor}; upgrade it",
                version.version, version.api_version
            )));
        }
        let info: Info = api.get("/info", "describe itself")?;
        Ok(Self { api, version: number_of(&version.version), defaults: info.into_defaults(kind) })
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.api.kind
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.api.socket
    }

    /// The ids of the containers that answer to `name`: by the whole id or name, else by an id's beginning.
    pub(crate) fn named(&self, name: &str) -> Result<Vec<String>, EngineError> {
        let all: Vec<Listed> = self.api.get("/containers/json?all=true", "list its containers")?;
        let exact: Vec<String> =
            all.iter().filter(|listed| listed.is(name)).map(|listed| listed.id.clone()).collect();
        if !exact.is_empty() {
            return Ok(exact);
        }
        Ok(all.into_iter().map(|listed| listed.id).filter(|id| begins(id, name)).collect())
    }

    pub(crate) fn ids(&self) -> Result<Vec<String>, EngineError> {
        let all: Vec<Listed> = self.api.get("/containers/json?all=true", "list its containers")?;
        Ok(all.into_iter().map(|listed| listed.id).collect())
    }

    pub(crate) fn inspect(&self, id: &str) -> Result<Container, EngineError> {
        let prefix = if self.kind() == Kind::Podman { "/v4.0.0/libpod" } else { "" };
        let request = format!("describe the container `{id}`");
        let inspection: Inspection =
            self.api.get(&format!("{prefix}/containers/{}/json", escape(id)), &request)?;
        let image = (!inspection.image.is_empty()).then(|| {
            self.api.get(&format!("{prefix}/images/{}/json", escape(&inspection.image)), "describe an image")
        });
        let digest = match image {
            Some(Ok(image)) => registry_digest(&image),
            // An image may be removed while its container lives.
            Some(Err(error)) if !error.is_missing() => return Err(error),
            _ => None,
        };
        Ok(inspection.into_container(self.kind(), digest, &self.defaults))
    }
}

impl Listed {
    fn is(&self, name: &str) -> bool {
        self.id == name || self.names.iter().flatten().any(|own| own.trim_start_matches('/') == name)
    }
}

/// Whether an id may be meant by its beginning. A short name must not pick a container by accident.
pub(crate) fn begins(id: &str, name: &str) -> bool {
    name.len() >= 3 && id.starts_with(name)
}

impl Info {
    fn into_defaults(self, kind: Kind) -> Defaults {
        let options = self.security_options.unwrap_or_default();
        // Podman names the file it would use, which still is its default.
        let seccomp = (kind == Kind::Docker)
            .then(|| options.iter().find_map(|option| option.strip_prefix("name=seccomp,profile=")))
            .flatten();
        Defaults {
            seccomp: seccomp.map(str::to_owned),
            no_new_privileges: options.iter().any(|option| option.contains("name=no-new-privileges")),
            runtimes: self
                .runtimes
                .unwrap_or_default()
                .into_iter()
                .map(|(name, runtime)| (name, runtime.path))
                .collect(),
        }
    }
}

/// `20.10.24+dfsg1` is 20.10.24.
pub(crate) fn number_of(version: &str) -> String {
    let version = version.strip_prefix('v').unwrap_or(version);
    version.split(['+', '~']).next().unwrap_or(version).to_owned()
}

/// The digest that a registry knows the image by. Podman gives images that were never in one such a digest as well:
/// that of the manifest it keeps.
fn registry_digest(image: &Image) -> Option<Digest> {
    image.repo_digests.iter().flatten().find_map(|name| name.rsplit_once('@')?.1.parse().ok())
}

/// Docker or Podman through their own command.
#[derive(Clone, Debug)]
pub(crate) struct ByCommand {
    pub(crate) kind: Kind,
    pub(crate) program: PathBuf,
    /// What stands before the subcommand.
    global: Vec<OsString>,
    pub(crate) version: String,
}

impl ByCommand {
    pub(crate) fn new(kind: Kind, program: &Path, global: &[OsString]) -> Self {
        let mut command =
            Self { kind, program: program.to_owned(), global: global.to_vec(), version: String::new() };
        command.version = command.ask_version().unwrap_or_else(|| "of unknown version".to_owned());
        command
    }

    fn ask(&self, arguments: &[&str]) -> Result<Vec<u8>, EngineError> {
        let words: Vec<OsString> =
            self.global.iter().cloned().chain(arguments.iter().map(OsString::from)).collect();
        output(&self.program, &words)
    }

    fn ask_version(&self) -> Option<String> {
        let value: Value =
            serde_json::from_slice(&self.ask(&["version", "--format", "{{json .}}"]).ok()?).ok()?;
        // Podman without a service has no server part.
        let side = if self.kind == Kind::Docker { value.get("Server") } else { value.get("Client") };
        Some(number_of(side?.get("Version")?.as_str()?))
    }

    pub(crate) fn inspect(&self, id: &str) -> Result<Container, EngineError> {
        let unreadable = |problem: String| EngineError::Answer {
            kind: self.kind,
            socket: self.program.clone(),
            request: format!("describe the container `{id}`"),
            problem,
        };
        let output = self.ask(&["container", "inspect", id])?;
        let all: Vec<Inspection> =
            serde_json::from_slice(&output).map_err(|error| unreadable(error.to_string()))?;
        let inspection = all.into_iter().next().ok_or_else(|| unreadable("an empty list".to_owned()))?;
        // A container may have no image (`podman run --rootfs`), or none any more.
        let image = self.ask(&["image", "inspect", &inspection.image]).ok();
        let images: Vec<Image> =
            image.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Ok(inspection.into_container(self.kind, images.first().and_then(registry_digest), &self.defaults()))
    }

    /// Docker's command passes on what its daemon says of itself.
    fn defaults(&self) -> Defaults {
        let info =
            (self.kind == Kind::Docker).then(|| self.ask(&["info", "--format", "{{json .}}"]).ok()).flatten();
        let info = info.and_then(|bytes| serde_json::from_slice::<Info>(&bytes).ok());
        info.map(|info| info.into_defaults(self.kind)).unwrap_or_default()
    }
}

/// Runs an engine's command that must succeed, and returns what it says.
pub(crate) fn output(program: &Path, arguments: &[OsString]) -> Result<Vec<u8>, EngineError> {
    let mut command = Command::new(program);
    let output = command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| EngineError::Program { program: PathBuf::from(program), source })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
    Err(EngineError::Command {
        command: format!("{} {}", program.display(), words.join(" ")),
        status: output.status.to_string(),
        message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
