//! What a kubelet asks of the CRI: starting and stopping pods and containers.

use std::time::Duration;

use super::{Cri, method};
use crate::{
    ContainerSpec, EngineError, Output, PodSpec, SeccompSpec,
    background::PATIENCE,
    messages::{containerd::Empty, cri as message},
    pod,
};

impl Cri {
    /// Starts a pod's sandbox and returns its identifier. Its containers come after.
    pub fn run_pod(&self, spec: &PodSpec) -> Result<String, EngineError> {
        let request = format!("start the pod `{}`", spec.pod.name);
        let asked = message::RunPod { config: Some(pod_config(spec)), runtime_handler: spec.runtime.clone() };
        let answer: message::Id =
            self.call(method!(self, "RuntimeService", "RunPodSandbox"), asked, &request)?;
        Ok(answer.id)
    }

    /// Makes a container in a pod's sandbox and returns its identifier; it is not started yet.
    pub fn create(
        &self,
        pod_id: &str,
        container: &ContainerSpec,
        pod: &PodSpec,
    ) -> Result<String, EngineError> {
        let request = format!("make the container `{}`", container.name);
        let asked = message::CreateContainer {
            pod_sandbox_id: pod_id.to_owned(),
            config: Some(container_config(container, pod)),
            sandbox_config: Some(pod_config(pod)),
        };
        let answer: message::Id =
            self.call(method!(self, "RuntimeService", "CreateContainer"), asked, &request)?;
        Ok(answer.id)
    }

    /// Starts a container that was made.
    pub fn start(&self, id: &str) -> Result<(), EngineError> {
        self.tell(method!(self, "RuntimeService", "StartContainer"), id, "start the container")
    }

    /// Stops a container; what does not end in time is killed.
    pub fn stop(&self, id: &str, within: Duration) -> Result<(), EngineError> {
        let asked = message::StopContainer {
            container_id: id.to_owned(),
            timeout: i64::try_from(within.as_secs()).unwrap_or(i64::MAX),
        };
        let request = format!("stop the container `{id}`");
        let method = method!(self, "RuntimeService", "StopContainer");
        let patience = within.saturating_add(PATIENCE);
        let _: Empty = self.connection.call_within(patience, method, asked, &request, None)?;
        Ok(())
    }

    /// Removes a container.
    pub fn remove(&self, id: &str) -> Result<(), EngineError> {
        self.tell(method!(self, "RuntimeService", "RemoveContainer"), id, "remove the container")
    }

    /// Stops a pod with what runs in it.
    pub fn stop_pod(&self, pod_id: &str) -> Result<(), EngineError> {
        self.tell(method!(self, "RuntimeService", "StopPodSandbox"), pod_id, "stop the pod")
    }

    /// Removes a pod with its containers.
    pub fn remove_pod(&self, pod_id: &str) -> Result<(), EngineError> {
        self.tell(method!(self, "RuntimeService", "RemovePodSandbox"), pod_id, "remove the pod")
    }

    fn tell(&self, method: &'static str, id: &str, what: &str) -> Result<(), EngineError> {
        let asked = message::Id { id: id.to_owned() };
        let _: Empty = self.call(method, asked, &format!("{what} `{id}`"))?;
        Ok(())
    }

    /// Runs a command in a container, as an exec probe does.
    pub fn exec(&self, id: &str, command: &[&str], within: Duration) -> Result<Output, EngineError> {
        let asked = message::ExecSync {
            container_id: id.to_owned(),
            cmd: command.iter().map(|word| (*word).to_owned()).collect(),
            timeout: i64::try_from(within.as_secs()).unwrap_or(i64::MAX),
        };
        let answer: message::ExecSyncAnswer = self.connection.call_within(
            within.saturating_add(PATIENCE),
            method!(self, "RuntimeService", "ExecSync"),
            asked,
            &format!("run a command in the container `{id}`"),
            None,
        )?;
        Ok(Output { code: answer.exit_code, stdout: answer.stdout, stderr: answer.stderr })
    }
}

/// `NamespaceMode`: the pod's own, the container's own, the host's.
const POD: i32 = 0;
const CONTAINER: i32 = 1;
const NODE: i32 = 2;

/// The host's network, so that no network plugin is needed; a process namespace for each container, as usual.
const NAMESPACES: message::NamespaceOption =
    message::NamespaceOption { network: NODE, pid: CONTAINER, ipc: POD };

fn pod_config(spec: &PodSpec) -> message::PodConfig {
    message::PodConfig {
        metadata: Some(message::PodMetadata {
            name: spec.pod.name.clone(),
            uid: spec.pod.uid.clone(),
            namespace: spec.pod.namespace.clone(),
            attempt: spec.attempt,
        }),
        hostname: String::new(),
        log_directory: spec.log_directory.to_string_lossy().into_owned(),
        labels: spec.labels.clone().into_iter().collect(),
        annotations: std::collections::HashMap::new(),
        linux: Some(message::LinuxPod {
            cgroup_parent: spec.cgroup_parent.clone(),
            security_context: Some(message::SandboxSecurity {
                namespace_options: Some(NAMESPACES),
                seccomp: Some(security_profile(&SeccompSpec::RuntimeDefault)),
            }),
        }),
    }
}

fn container_config(spec: &ContainerSpec, pod: &PodSpec) -> message::ContainerConfig {
    let dropped = if spec.drop_all { vec!["ALL".to_owned()] } else { Vec::new() };
    message::ContainerConfig {
        metadata: Some(message::ContainerMetadata { name: spec.name.clone(), attempt: spec.attempt }),
        image: Some(message::ImageSpec { image: spec.image.clone(), user_specified_image: String::new() }),
        command: spec.command.clone(),
        args: Vec::new(),
        labels: pod::labels(&pod.pod, &spec.name).into_iter().collect(),
        annotations: std::collections::HashMap::new(),
        log_path: spec.log.to_string_lossy().into_owned(),
        linux: Some(message::LinuxContainer {
            security_context: Some(message::ContainerSecurity {
                capabilities: Some(message::Capability {
                    add_capabilities: Vec::new(),
                    drop_capabilities: dropped,
                }),
                privileged: false,
                namespace_options: Some(NAMESPACES),
                run_as_user: spec.user.map(|user| message::Int64 { value: i64::from(user) }),
                readonly_rootfs: spec.read_only,
                no_new_privs: spec.no_new_privileges,
                seccomp: Some(security_profile(&spec.seccomp)),
            }),
        }),
    }
}

fn security_profile(seccomp: &SeccompSpec) -> message::SecurityProfile {
    let (profile_type, localhost_ref) = match seccomp {
        SeccompSpec::RuntimeDefault => (0, String::new()),
        SeccompSpec::Unconfined => (1, String::new()),
        SeccompSpec::Localhost(path) => (2, path.to_string_lossy().into_owned()),
    };
    message::SecurityProfile { profile_type, localhost_ref }
}
