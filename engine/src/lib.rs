//! Asks container engines what they run: Docker and Podman over their HTTP API, containerd and every CRI
//! implementation over gRPC, each on its Unix socket; and starts a container through an engine's own command.
//!
//! What is asked is what a recording needs: which container a name means, its process, its image, its runtime and
//! how it is confined. Nothing here changes an engine, except [`Run`], and the write calls of [`Cri`], which stand
//! in for a kubelet. All calls block; see [`EngineError`] for what can go wrong.

mod background;
mod container;
mod containerd;
mod cri;
mod docker;
mod engine;
mod error;
mod grpc;
mod http;
mod inspection;
mod messages;
mod names;
mod pod;
mod run;
mod runtime;
mod sockets;

pub use container::{Container, Seccomp, State};
pub use cri::{Cri, CriContainer, CriPod, PodState};
pub use engine::{Engine, Found, find};
pub use error::{Asked, EngineError};
pub use names::{cgroup_names, container_id};
pub use pod::{ContainerSpec, Output, PodSpec, SeccompSpec};
pub use run::{Created, Run};
pub use runtime::runtime_version;
pub use sockets::{Kind, Sockets};
pub use trace::{ContainerKind, Pod};
