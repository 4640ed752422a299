//! Pods: what a kubelet says about them in labels, and what it would ask for to start one.

use std::{collections::BTreeMap, path::PathBuf};

use trace::Pod;

/// The labels by which every kubelet marks what it starts:
/// <https://github.com/kubernetes/kubernetes/blob/v1.30.0/staging/src/k8s.io/kubelet/pkg/types/labels.go>.
const NAME: &str = "io.kubernetes.pod.name";
const NAMESPACE: &str = "io.kubernetes.pod.namespace";
const UID: &str = "io.kubernetes.pod.uid";
pub(crate) const CONTAINER: &str = "io.kubernetes.container.name";

/// The pod that a container's labels name.
pub(crate) fn of_labels(labels: &BTreeMap<String, String>) -> Option<Pod> {
    let label = |key: &str| labels.get(key).cloned();
    Some(Pod { namespace: label(NAMESPACE)?, name: label(NAME)?, uid: label(UID).unwrap_or_default() })
}

/// The labels of a container in this pod.
pub(crate) fn labels(pod: &Pod, container: &str) -> BTreeMap<String, String> {
    [(NAME, pod.name.as_str()), (NAMESPACE, &pod.namespace), (UID, &pod.uid), (CONTAINER, container)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// A pod to be started, as a kubelet would have it: on the host's network, so that no network plugin is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSpec {
    /// Its name, namespace and identifier.
    pub pod: Pod,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The cgroup that its containers' cgroups are made in; empty for the engine's own choice.
    pub cgroup_parent: String,
    /// The engine's name for the runtime; empty for its default.
    pub runtime: String,
    /// The folder for what the containers say; empty for nowhere.
    pub log_directory: PathBuf,
    /// How often the pod's sandbox was made before.
    pub attempt: u32,
}

/// A container in a pod to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Its name in the pod.
    pub name: String,
    /// How often it was restarted.
    pub attempt: u32,
    /// The image, which the engine must have already.
    pub image: String,
    /// The command; empty for the image's own.
    pub command: Vec<String>,
    /// Its seccomp profile.
    pub seccomp: SeccompSpec,
    /// Whether it runs with no_new_privs (`allowPrivilegeEscalation: false`).
    pub no_new_privileges: bool,
    /// The numeric user; none for the image's own.
    pub user: Option<u32>,
    /// Whether all capabilities are taken away.
    pub drop_all: bool,
    /// Whether its root filesystem is read-only.
    pub read_only: bool,
    /// Where its output goes, below the pod's folder; empty for nowhere.
    pub log: PathBuf,
}

/// A seccomp profile as a pod asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeccompSpec {
    /// The engine's own.
    RuntimeDefault,
    /// None.
    Unconfined,
    /// A file on the node, by its absolute path.
    Localhost(PathBuf),
}

/// What a command in a container said and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit code.
    pub code: i32,
    /// Its output.
    pub stdout: Vec<u8>,
    /// Its error output.
    pub stderr: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_lead_back_to_the_pod() {
        let pod = Pod { namespace: "default".to_owned(), name: "nim".to_owned(), uid: "u".to_owned() };
        assert_eq!(of_labels(&labels(&pod, "main")), Some(pod));
        assert_eq!(of_labels(&BTreeMap::new()), None);
    }
}
