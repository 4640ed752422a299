//! The CRI: how a kubelet talks to containerd and CRI-O. Version 1, or v1alpha2 where an engine is older.
//!
//! The CRI does not say which containers of a pod are init containers or sidecars: a kubelet knows, and tells nobody
//! on the node. What happened shows it, see [`Cri::containers`].

use std::{collections::BTreeMap, path::Path};

mod facts;
mod kubelet;

use prost::Message;
use serde_json::Value;
use trace::{ContainerKind, Digest, Pod};

use crate::{
    Container, EngineError, Kind, Sockets, State, docker::number_of, error::Asked, grpc::Connection,
    messages::cri as message, pod, runtime,
};
use facts::{Life, details, kinds, parent, seccomp, user};

/// A method's path, in the version that the engine speaks.
macro_rules! method {
    ($self:expr, $service:literal, $name:literal) => {
        if $self.old {
            concat!("/runtime.v1alpha2.", $service, "/", $name)
        } else {
            concat!("/runtime.v1.", $service, "/", $name)
        }
    };
}
use method;

/// A CRI that answers.
#[derive(Clone, Debug)]
pub struct Cri {
    connection: Connection,
    version: String,
    old: bool,
}

/// A pod as the CRI lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CriPod {
    /// The sandbox's identifier.
    pub id: String,
    /// The pod.
    pub pod: Pod,
    /// Whether the sandbox is up; a pod that was restarted has older ones that are not.
    pub ready: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When the sandbox was made: nanoseconds since 1970.
    pub created_ns: i64,
    /// The engine's name for the runtime; empty for its default.
    pub runtime: String,
}

/// A container as the CRI lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CriContainer {
    /// Its identifier.
    pub id: String,
    /// Its name in the pod; a restarted container has the same.
    pub name: String,
    /// How often it was restarted before.
    pub restart: u32,
    /// What it does now.
    pub state: PodState,
    /// When it was made: nanoseconds since 1970.
    pub created_ns: i64,
    /// What it is in the pod, as far as this can be told by now.
    pub kind: ContainerKind,
}

/// What the CRI says a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodState {
    /// It was made and not started yet.
    Created,
    /// It runs.
    Running,
    /// It ended.
    Exited,
    /// The engine does not know.
    Unknown,
}

impl Cri {
    /// Connects to the first CRI that answers, of this engine if one is chosen.
    pub fn connect(sockets: &Sockets, choice: Option<Kind>) -> Result<Self, EngineError> {
        let mut asked = Vec::new();
        for socket in sockets.of_cri(choice) {
            match Self::at(&socket) {
                Ok(cri) => return Ok(cri),
                // A socket that somebody named is the only one there is: its own error says more.
                Err(error) if sockets.of_cri(choice).len() == 1 => return Err(error),
                Err(error) => {
                    asked.push(Asked { kind: serving(&socket), outcome: error.outcome(), socket });
                }
            }
        }
        Err(EngineError::NoEngine { asked })
    }

    /// Connects to the CRI behind this socket, whoever serves it.
    pub fn at(socket: &Path) -> Result<Self, EngineError> {
        Self::expecting(serving(socket), socket)
    }

    /// Connects to the CRI behind this socket; errors name the engine that should be there.
    pub(crate) fn expecting(kind: Kind, socket: &Path) -> Result<Self, EngineError> {
        let connection = Connection::open(kind, socket)?;
        let mut cri = Self { connection, version: String::new(), old: false };
        let version = match cri.ask_version() {
            // An older engine does not know the service by its newer name.
            Err(EngineError::Stranger { .. }) => {
                cri.old = true;
                cri.ask_version().map_err(|error| match error {
                    EngineError::Stranger { kind, socket, problem } => EngineError::Stranger {
                        kind,
                        socket,
                        problem: format!(
                            "{problem}; is its CRI disabled, or does it speak neither v1 nor v1alpha2?"
                        ),
                    },
                    other => other,
                })?
            }
            other => other?,
        };
        if version.runtime_name.starts_with("cri-o") {
            cri.connection.kind = Kind::Crio;
        } else if version.runtime_name.starts_with("docker") {
            cri.connection.kind = Kind::Docker;
        }
        cri.version = number_of(&version.runtime_version);
        Ok(cri)
    }

    fn ask_version(&self) -> Result<message::Version, EngineError> {
        let request = message::VersionRequest { version: String::new() };
        self.connection.call(method!(self, "RuntimeService", "Version"), request, "say its version", None)
    }

    /// Which engine serves it.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.connection.kind
    }

    /// The engine's version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.connection.socket
    }

    fn call<Q, A>(&self, method: &'static str, message: Q, request: &str) -> Result<A, EngineError>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.connection.call(method, message, request, None)
    }

    /// The pods of a namespace, by their name and labels where given; the newest sandbox first.
    pub fn pods(
        &self,
        namespace: &str,
        name: Option<&str>,
        labels: &[(String, String)],
    ) -> Result<Vec<CriPod>, EngineError> {
        let filter =
            message::PodFilter { id: String::new(), label_selector: labels.iter().cloned().collect() };
        let answer: message::Pods = self.call(
            method!(self, "RuntimeService", "ListPodSandbox"),
            message::ListPods { filter: Some(filter) },
            "list its pods",
        )?;
        let mut pods: Vec<CriPod> = answer.items.into_iter().filter_map(CriPod::new).collect();
        pods.retain(|pod| pod.pod.namespace == namespace && name.is_none_or(|name| pod.pod.name == name));
        pods.sort_by(|a, b| b.created_ns.cmp(&a.created_ns).then_with(|| a.id.cmp(&b.id)));
        Ok(pods)
    }

    /// The cgroup that the containers of this sandbox are made in, as its maker asked for it: a path with cgroupfs
    /// (`/kubepods/besteffort/podUID`), a slice with systemd (`kubepods-besteffort-podUID.slice`).
    pub fn cgroup_parent(&self, pod_id: &str) -> Result<Option<String>, EngineError> {
        let (_, info) = self.pod_status(pod_id)?;
        let asked = info.pointer("/config/linux/cgroup_parent").and_then(Value::as_str);
        let own = info.pointer("/runtimeSpec/linux/cgroupsPath").and_then(Value::as_str).and_then(parent);
        Ok(asked.filter(|path| !path.is_empty()).or(own).map(str::to_owned))
    }

    fn pod_status(&self, pod_id: &str) -> Result<(message::PodItemStatus, Value), EngineError> {
        let request = format!("describe the pod `{pod_id}`");
        let asked = message::PodStatusRequest { pod_sandbox_id: pod_id.to_owned(), verbose: true };
        let answer: message::PodStatus =
            self.call(method!(self, "RuntimeService", "PodSandboxStatus"), asked, &request)?;
        let status = answer.status.ok_or_else(|| self.connection.unreadable(&request, "no status"))?;
        Ok((status, details(&answer.info)))
    }

    /// The containers of a sandbox, in the order in which they were made.
    ///
    /// What happened tells their kinds: a container that ended before another was made, well, was an init container;
    /// one that was made before an init container and outlived it is a sidecar. So a pod that still starts up may
    /// show an init container as an ordinary one.
    pub fn containers(&self, pod_id: &str) -> Result<Vec<CriContainer>, EngineError> {
        let mut containers = self.list(Some(pod_id))?;
        containers.sort_by(|a, b| a.created_ns.cmp(&b.created_ns).then_with(|| a.id.cmp(&b.id)));
        let mut ended = Vec::new();
        for container in &containers {
            ended.push(match container.state {
                PodState::Exited => self.ended(&container.id)?,
                PodState::Created | PodState::Running | PodState::Unknown => None,
            });
        }
        let lives: Vec<Life<'_>> = containers
            .iter()
            .zip(&ended)
            .map(|(container, ended)| Life {
                name: &container.name,
                made: container.created_ns,
                ended: ended.map(|(at, _)| at),
                well: ended.is_some_and(|(_, code)| code == 0),
            })
            .collect();
        let kinds = kinds(&lives);
        for (container, kind) in containers.iter_mut().zip(kinds) {
            container.kind = kind;
        }
        Ok(containers)
    }

    fn list(&self, pod_id: Option<&str>) -> Result<Vec<CriContainer>, EngineError> {
        let filter = message::ContainerFilter {
            id: String::new(),
            pod_sandbox_id: pod_id.unwrap_or_default().to_owned(),
        };
        let answer: message::Containers = self.call(
            method!(self, "RuntimeService", "ListContainers"),
            message::ListContainers { filter: Some(filter) },
            "list its containers",
        )?;
        Ok(answer.containers.into_iter().map(CriContainer::new).collect())
    }

    /// When a container ended, and with which code; none where it did not, or is gone.
    fn ended(&self, id: &str) -> Result<Option<(i64, i32)>, EngineError> {
        match self.status(id) {
            Ok((status, _)) if status.finished_at > 0 => Ok(Some((status.finished_at, status.exit_code))),
            Ok(_) => Ok(None),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn status(&self, id: &str) -> Result<(message::ContainerStatus, Value), EngineError> {
        let request = format!("describe the container `{id}`");
        let asked = message::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
        let answer: message::ContainerStatusAnswer =
            self.call(method!(self, "RuntimeService", "ContainerStatus"), asked, &request)?;
        let status = answer.status.ok_or_else(|| self.connection.unreadable(&request, "no status"))?;
        Ok((status, details(&answer.info)))
    }

    /// All containers of all pods.
    pub(crate) fn ids(&self) -> Result<Vec<String>, EngineError> {
        Ok(self.list(None)?.into_iter().map(|container| container.id).collect())
    }

    /// The ids of the containers that answer to `name`: by the whole id, by the name in their pod, else by an id's
    /// beginning. Of a container that was restarted, the newest.
    pub(crate) fn named(&self, name: &str) -> Result<Vec<String>, EngineError> {
        let mut all = self.list(None)?;
        all.sort_by_key(|container| std::cmp::Reverse(container.created_ns));
        if all.iter().any(|container| container.id == name) {
            return Ok(vec![name.to_owned()]);
        }
        let live =
            |container: &&CriContainer| matches!(container.state, PodState::Created | PodState::Running);
        let called: Vec<&CriContainer> = all.iter().filter(|container| container.name == name).collect();
        let alive: Vec<&CriContainer> = called.iter().copied().filter(live).collect();
        let chosen = if alive.is_empty() { called } else { alive };
        if !chosen.is_empty() {
            return Ok(chosen.into_iter().map(|container| container.id.clone()).collect());
        }
        Ok(all
            .into_iter()
            .map(|container| container.id)
            .filter(|id| crate::docker::begins(id, name))
            .collect())
    }

    /// A container with everything that the engine tells.
    pub fn inspect(&self, id: &str) -> Result<Container, EngineError> {
        let (status, info) = self.status(id)?;
        let text = |pointer: &str| info.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let metadata = status.metadata.unwrap_or_default();
        let sandbox = text("/sandboxID").unwrap_or_default();
        let handler = self.handler(&sandbox)?;
        // containerd names the binary if it is not runc; CRI-O only the handler, which is called as its runtime is.
        let called = text("/runtimeOptions/binary_name")
            .or_else(|| text("/runtimeOptions/BinaryName"))
            .filter(|name| !name.is_empty())
            .or_else(|| text("/runtimeType").filter(|name| name.starts_with("io.containerd.")))
            .or_else(|| Some(handler).filter(|name| !name.is_empty()));
        let name = called.as_deref().and_then(runtime::name);
        let runtime_version = called
            .as_deref()
            .filter(|called| called.contains('/'))
            .and_then(runtime::runtime_version)
            .or_else(|| name.as_deref().and_then(runtime::runtime_version));
        let labels: BTreeMap<String, String> = status.labels.into_iter().collect();
        let image = status.image.unwrap_or_default();
        // A kubelet resolves the name before it asks; what a person wrote is kept where it is known.
        let asked = [
            text("/config/image/user_specified_image"),
            Some(image.user_specified_image),
            text("/config/image/image").filter(|name| !name.starts_with("sha256:")),
            Some(image.image),
        ];
        let asked = asked.into_iter().flatten().find(|name| !name.is_empty());
        let privileged = info
            .pointer("/config/linux/security_context/privileged")
            .or_else(|| info.pointer("/privileged"))
            .and_then(Value::as_bool);
        let command = info.pointer("/runtimeSpec/process/args").and_then(Value::as_array);
        Ok(Container {
            name: metadata.name,
            state: match status.state {
                0 => State::Created,
                1 => State::Running {
                    pid: info
                        .pointer("/pid")
                        .and_then(Value::as_u64)
                        .and_then(|pid| u32::try_from(pid).ok())
                        .ok_or_else(|| {
                            self.connection
                                .unreadable(&format!("describe the container `{id}`"), "no process")
                        })?,
                },
                _ => State::Exited { code: status.exit_code },
            },
            image_digest: self.image_digest(&status.image_ref)?,
            image_name: asked,
            runtime: name,
            runtime_version,
            seccomp: seccomp(&info),
            no_new_privileges: info
                .pointer("/runtimeSpec/process")
                .map(|process| process.get("noNewPrivileges").and_then(Value::as_bool).unwrap_or(false)),
            user: user(&info),
            command: command.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
            pod: pod::of_labels(&labels),
            kind: self.kind_of(&sandbox, id)?,
            restart: metadata.attempt,
            privileged: privileged.unwrap_or(false),
            id: status.id,
            labels,
        })
    }

    fn kind_of(&self, sandbox: &str, id: &str) -> Result<ContainerKind, EngineError> {
        if sandbox.is_empty() {
            return Ok(ContainerKind::Container);
        }
        let all = self.containers(sandbox)?;
        Ok(all
            .into_iter()
            .find(|container| container.id == id)
            .map_or(ContainerKind::Container, |found| found.kind))
    }

    /// The runtime that a sandbox asked for.
    fn handler(&self, sandbox: &str) -> Result<String, EngineError> {
        if sandbox.is_empty() {
            return Ok(String::new());
        }
        match self.pod_status(sandbox) {
            Ok((status, _)) => Ok(status.runtime_handler),
            Err(error) if error.is_missing() => Ok(String::new()),
            Err(error) => Err(error),
        }
    }

    /// The digest in a registry, else the image's identifier.
    fn image_digest(&self, reference: &str) -> Result<Option<Digest>, EngineError> {
        if reference.is_empty() {
            return Ok(None);
        }
        let in_name = |name: &str| name.rsplit_once('@').and_then(|(_, digest)| digest.parse().ok());
        if let Some(digest) = in_name(reference) {
            return Ok(Some(digest));
        }
        let image = message::ImageSpec { image: reference.to_owned(), user_specified_image: String::new() };
        let answer: message::ImageStatus = self.call(
            method!(self, "ImageService", "ImageStatus"),
            message::ImageStatusRequest { image: Some(image) },
            "describe an image",
        )?;
        let image = answer.image.unwrap_or_default();
        let known = image.repo_digests.iter().find_map(|name| in_name(name));
        Ok(known.or_else(|| image.id.parse().ok()).or_else(|| reference.parse().ok()))
    }
}

/// Who a socket belongs to, by its name.
fn serving(socket: &Path) -> Kind {
    let name = socket.file_name().unwrap_or_default().to_string_lossy();
    if name.contains("crio") {
        Kind::Crio
    } else if name.contains("docker") {
        Kind::Docker
    } else {
        Kind::Containerd
    }
}

impl CriPod {
    fn new(item: message::PodItem) -> Option<Self> {
        let metadata = item.metadata?;
        Some(Self {
            id: item.id,
            pod: Pod { namespace: metadata.namespace, name: metadata.name, uid: metadata.uid },
            ready: item.state == 0,
            labels: item.labels.into_iter().collect(),
            created_ns: item.created_at,
            runtime: item.runtime_handler,
        })
    }
}

impl CriContainer {
    fn new(item: message::ContainerItem) -> Self {
        let metadata = item.metadata.unwrap_or_default();
        Self {
            id: item.id,
            name: metadata.name,
            restart: metadata.attempt,
            state: match item.state {
                0 => PodState::Created,
                1 => PodState::Running,
                2 => PodState::Exited,
                _ => PodState::Unknown,
            },
            created_ns: item.created_at,
            kind: ContainerKind::Container,
        }
    }
}
