//! containerd without a kubelet: what `ctr` and `nerdctl` start. Every namespace is looked into, but Docker's own:
//! Docker names its containers itself.

use std::{collections::BTreeMap, path::Path};

use prost::Message as _;
use serde_json::Value;
use trace::{ContainerKind, Digest};

use crate::{
    Container, Cri, EngineError, Kind, Seccomp, State,
    docker::{begins, number_of},
    grpc::Connection,
    messages::containerd as message,
    pod, runtime,
};

/// The namespace in which Docker keeps its containers.
const DOCKERS: &str = "moby";
/// The namespace of the CRI.
const CRIS: &str = "k8s.io";
/// The label with which nerdctl names a container.
const NERDCTL_NAME: &str = "nerdctl/name";

/// A containerd that answers.
#[derive(Clone, Debug)]
pub(crate) struct Containerd {
    pub(crate) connection: Connection,
    pub(crate) version: String,
    /// Its CRI, where that is not disabled.
    cri: Option<Cri>,
}

impl Containerd {
    pub(crate) fn connect(socket: &Path) -> Result<Self, EngineError> {
        let connection = Connection::open(Kind::Containerd, socket)?;
        let answer: message::Version = connection.call(
            "/containerd.services.version.v1.Version/Version",
            message::Empty {},
            "say its version",
            None,
        )?;
        let cri = match Cri::at(socket) {
            Ok(cri) => Some(cri),
            Err(EngineError::Stranger { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { connection, version: number_of(&answer.version), cri })
    }

    fn namespaces(&self) -> Result<Vec<String>, EngineError> {
        let answer: message::Namespaces = self.connection.call(
            "/containerd.services.namespaces.v1.Namespaces/List",
            message::Name::default(),
            "list its namespaces",
            None,
        )?;
        Ok(answer
            .namespaces
            .into_iter()
            .map(|namespace| namespace.name)
            .filter(|name| name != DOCKERS)
            .collect())
    }

    fn list(&self, namespace: &str) -> Result<Vec<message::Container>, EngineError> {
        let answer: message::Containers = self.connection.call(
            "/containerd.services.containers.v1.Containers/List",
            message::Filters::default(),
            "list its containers",
            Some(namespace),
        )?;
        Ok(answer.containers)
    }

    /// Every container with its namespace; not the sandboxes of pods, which are nobody's workload.
    fn all(&self) -> Result<Vec<(String, message::Container)>, EngineError> {
        let mut all = Vec::new();
        for namespace in self.namespaces()? {
            let listed = self.list(&namespace)?;
            let kept = listed.into_iter().filter(|container| !is_sandbox(container));
            all.extend(kept.map(|container| (namespace.clone(), container)));
        }
        Ok(all)
    }

    /// The ids of the containers that answer to `name`, as in [`crate::find`].
    pub(crate) fn named(&self, name: &str) -> Result<Vec<String>, EngineError> {
        let all = self.all()?;
        let exact: Vec<String> = all
            .iter()
            .filter(|(_, container)| !is_cri(container))
            .filter(|(_, container)| container.id == name || own_name(container) == name)
            .map(|(_, container)| container.id.clone())
            .collect();
        let in_pods = match &self.cri {
            Some(cri) => cri.named(name)?,
            None => Vec::new(),
        };
        if !exact.is_empty() || in_pods.iter().any(|id| !begins(id, name)) {
            return Ok(exact.into_iter().chain(in_pods).collect());
        }
        let begun =
            all.into_iter().filter(|(_, container)| !is_cri(container) && begins(&container.id, name));
        Ok(begun.map(|(_, container)| container.id).chain(in_pods).collect())
    }

    pub(crate) fn ids(&self) -> Result<Vec<String>, EngineError> {
        Ok(self.all()?.into_iter().map(|(_, container)| container.id).collect())
    }

    pub(crate) fn inspect(&self, id: &str) -> Result<Container, EngineError> {
        let found = self.all()?.into_iter().find(|(_, container)| container.id == id);
        let Some((namespace, container)) = found else {
            return Err(EngineError::Refused {
                kind: Kind::Containerd,
                socket: self.connection.socket.clone(),
                request: format!("describe the container `{id}`"),
                message: format!("no container `{id}` in any namespace"),
                missing: true,
            });
        };
        match &self.cri {
            Some(cri) if namespace == CRIS && is_cri(&container) => cri.inspect(id),
            _ => self.describe(&namespace, container),
        }
    }

    fn describe(&self, namespace: &str, container: message::Container) -> Result<Container, EngineError> {
        let request = format!("describe the container `{}`", container.id);
        let spec = container.spec.as_ref().map(|spec| spec.value.as_slice()).unwrap_or_default();
        let spec: Value = serde_json::from_slice(spec)
            .map_err(|error| self.connection.unreadable(&request, &format!("its specification: {error}")))?;
        let image = self.image_digest(namespace, &container.image)?;
        let called = container.runtime.as_ref().map(called).unwrap_or_default();
        let name = runtime::name(&called);
        let runtime_version = if called.contains('/') {
            runtime::runtime_version(&called)
        } else {
            name.as_deref().and_then(runtime::runtime_version)
        };
        let process = spec.get("process");
        let user = process.and_then(|process| process.get("user"));
        let number = |key: &str| user.and_then(|user| user.get(key)).and_then(Value::as_u64).unwrap_or(0);
        let command = process.and_then(|process| process.get("args")).and_then(Value::as_array);
        let labels: BTreeMap<String, String> = container.labels.clone().into_iter().collect();
        Ok(Container {
            name: own_name(&container).to_owned(),
            state: self.state(namespace, &container.id)?,
            image_digest: image,
            runtime: name,
            runtime_version,
            seccomp: match spec.pointer("/linux/seccomp") {
                None | Some(Value::Null) => Seccomp::Unconfined,
                Some(loaded) => Seccomp::Inline(loaded.to_string()),
            },
            no_new_privileges: process
                .map(|process| process.get("noNewPrivileges").and_then(Value::as_bool).unwrap_or(false)),
            user: user.map(|_| format!("{}:{}", number("uid"), number("gid"))),
            command: command.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
            pod: pod::of_labels(&labels),
            kind: ContainerKind::Container,
            restart: 0,
            // A privileged container is one that sees everything of /proc.
            privileged: spec
                .pointer("/linux/maskedPaths")
                .and_then(Value::as_array)
                .is_none_or(Vec::is_empty),
            image_name: Some(container.image).filter(|name| !name.is_empty()),
            id: container.id,
            labels,
        })
    }

    fn state(&self, namespace: &str, id: &str) -> Result<State, EngineError> {
        let task: Result<message::Task, EngineError> = self.connection.call(
            "/containerd.services.tasks.v1.Tasks/Get",
            message::TaskRequest { container_id: id.to_owned() },
            &format!("describe the task of `{id}`"),
            Some(namespace),
        );
        let process = match task {
            Ok(task) => task.process.unwrap_or_default(),
            // Without a task it was not started yet, or is over and done with: containerd does not tell which.
            Err(error) if error.is_missing() => return Ok(State::Created),
            Err(error) => return Err(error),
        };
        Ok(match process.status {
            1 => State::Created,
            3 => State::Exited { code: i32::try_from(process.exit_status).unwrap_or(i32::MAX) },
            _ => State::Running { pid: process.pid },
        })
    }

    fn image_digest(&self, namespace: &str, image: &str) -> Result<Option<Digest>, EngineError> {
        if image.is_empty() {
            return Ok(None);
        }
        let answer: Result<message::ImageAnswer, EngineError> = self.connection.call(
            "/containerd.services.images.v1.Images/Get",
            message::Name { name: image.to_owned() },
            "describe an image",
            Some(namespace),
        );
        match answer {
            Ok(answer) => {
                Ok(answer.image.and_then(|image| image.target).and_then(|target| target.digest.parse().ok()))
            }
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The runtime as containerd was told: the binary where the options name one, else the shim.
fn called(runtime: &message::Runtime) -> String {
    let options = runtime.options.as_ref().and_then(|options| {
        options
            .type_url
            .ends_with("containerd.runc.v1.Options")
            .then(|| message::RuncOptions::decode(&*options.value).ok())?
    });
    options
        .map(|options| options.binary_name)
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| runtime.name.clone())
}

fn own_name(container: &message::Container) -> &str {
    container.labels.get(NERDCTL_NAME).map_or(&container.id, String::as_str)
}

/// Whether the CRI made it.
fn is_cri(container: &message::Container) -> bool {
    container.labels.contains_key("io.cri-containerd.kind")
}

fn is_sandbox(container: &message::Container) -> bool {
    container.labels.get("io.cri-containerd.kind").is_some_and(|kind| kind == "sandbox")
}
