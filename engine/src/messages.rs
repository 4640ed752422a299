//! The messages of containerd's and the CRI's gRPC interfaces, with the fields that are used here.
//!
//! The field numbers are those of containerd's `api/` and of Kubernetes' `cri-api/pkg/apis/runtime/v1/api.proto`;
//! `v1alpha2` has the same. Fields that are not declared are skipped on the way in and unset on the way out.

use std::collections::HashMap;

use prost::Message;

pub(crate) mod containerd {
    use super::{HashMap, Message};

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Empty {}

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Any {
        #[prost(string, tag = "1")]
        pub type_url: String,
        #[prost(bytes = "vec", tag = "2")]
        pub value: Vec<u8>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Version {
        #[prost(string, tag = "1")]
        pub version: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Name {
        #[prost(string, tag = "1")]
        pub name: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Namespaces {
        #[prost(message, repeated, tag = "1")]
        pub namespaces: Vec<Name>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Filters {
        #[prost(string, repeated, tag = "1")]
        pub filters: Vec<String>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Runtime {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, optional, tag = "2")]
        pub options: Option<Any>,
    }

    /// `containerd.runc.v1.Options`.
    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct RuncOptions {
        #[prost(string, tag = "6")]
        pub binary_name: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Container {
        #[prost(string, tag = "1")]
        pub id: String,
        #[prost(map = "string, string", tag = "2")]
        pub labels: HashMap<String, String>,
        #[prost(string, tag = "3")]
        pub image: String,
        #[prost(message, optional, tag = "4")]
        pub runtime: Option<Runtime>,
        #[prost(message, optional, tag = "5")]
        pub spec: Option<Any>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Containers {
        #[prost(message, repeated, tag = "1")]
        pub containers: Vec<Container>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct TaskRequest {
        #[prost(string, tag = "1")]
        pub container_id: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Process {
        #[prost(uint32, tag = "3")]
        pub pid: u32,
        #[prost(int32, tag = "4")]
        pub status: i32,
        #[prost(uint32, tag = "9")]
        pub exit_status: u32,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Task {
        #[prost(message, optional, tag = "1")]
        pub process: Option<Process>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Descriptor {
        #[prost(string, tag = "2")]
        pub digest: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Image {
        #[prost(message, optional, tag = "3")]
        pub target: Option<Descriptor>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ImageAnswer {
        #[prost(message, optional, tag = "1")]
        pub image: Option<Image>,
    }
}

pub(crate) mod cri {
    use super::{HashMap, Message};

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct VersionRequest {
        #[prost(string, tag = "1")]
        pub version: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Version {
        #[prost(string, tag = "2")]
        pub runtime_name: String,
        #[prost(string, tag = "3")]
        pub runtime_version: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Int64 {
        #[prost(int64, tag = "1")]
        pub value: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct PodMetadata {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub uid: String,
        #[prost(string, tag = "3")]
        pub namespace: String,
        #[prost(uint32, tag = "4")]
        pub attempt: u32,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct PodFilter {
        #[prost(string, tag = "1")]
        pub id: String,
        #[prost(map = "string, string", tag = "3")]
        pub label_selector: HashMap<String, String>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ListPods {
        #[prost(message, optional, tag = "1")]
        pub filter: Option<PodFilter>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct PodItem {
        #[prost(string, tag = "1")]
        pub id: String,
        #[prost(message, optional, tag = "2")]
        pub metadata: Option<PodMetadata>,
        #[prost(int32, tag = "3")]
        pub state: i32,
        #[prost(int64, tag = "4")]
        pub created_at: i64,
        #[prost(map = "string, string", tag = "5")]
        pub labels: HashMap<String, String>,
        #[prost(map = "string, string", tag = "6")]
        pub annotations: HashMap<String, String>,
        #[prost(string, tag = "7")]
        pub runtime_handler: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Pods {
        #[prost(message, repeated, tag = "1")]
        pub items: Vec<PodItem>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct PodStatusRequest {
        #[prost(string, tag = "1")]
        pub pod_sandbox_id: String,
        #[prost(bool, tag = "2")]
        pub verbose: bool,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct PodStatus {
        #[prost(message, optional, tag = "1")]
        pub status: Option<PodItemStatus>,
        #[prost(map = "string, string", tag = "2")]
        pub info: HashMap<String, String>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct PodItemStatus {
        #[prost(message, optional, tag = "2")]
        pub metadata: Option<PodMetadata>,
        #[prost(int32, tag = "3")]
        pub state: i32,
        #[prost(string, tag = "9")]
        pub runtime_handler: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ContainerMetadata {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(uint32, tag = "2")]
        pub attempt: u32,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ImageSpec {
        #[prost(string, tag = "1")]
        pub image: String,
        #[prost(string, tag = "18")]
        pub user_specified_image: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ContainerFilter {
        #[prost(string, tag = "1")]
        pub id: String,
        #[prost(string, tag = "3")]
        pub pod_sandbox_id: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ListContainers {
        #[prost(message, optional, tag = "1")]
        pub filter: Option<ContainerFilter>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ContainerItem {
        #[prost(string, tag = "1")]
        pub id: String,
        #[prost(string, tag = "2")]
        pub pod_sandbox_id: String,
        #[prost(message, optional, tag = "3")]
        pub metadata: Option<ContainerMetadata>,
        #[prost(int32, tag = "6")]
        pub state: i32,
        #[prost(int64, tag = "7")]
        pub created_at: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Containers {
        #[prost(message, repeated, tag = "1")]
        pub containers: Vec<ContainerItem>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ContainerStatusRequest {
        #[prost(string, tag = "1")]
        pub container_id: String,
        #[prost(bool, tag = "2")]
        pub verbose: bool,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ContainerStatus {
        #[prost(string, tag = "1")]
        pub id: String,
        #[prost(message, optional, tag = "2")]
        pub metadata: Option<ContainerMetadata>,
        #[prost(int32, tag = "3")]
        pub state: i32,
        #[prost(int64, tag = "6")]
        pub finished_at: i64,
        #[prost(int32, tag = "7")]
        pub exit_code: i32,
        #[prost(message, optional, tag = "8")]
        pub image: Option<ImageSpec>,
        #[prost(string, tag = "9")]
        pub image_ref: String,
        #[prost(string, tag = "10")]
        pub reason: String,
        #[prost(string, tag = "11")]
        pub message: String,
        #[prost(map = "string, string", tag = "12")]
        pub labels: HashMap<String, String>,
        #[prost(map = "string, string", tag = "13")]
        pub annotations: HashMap<String, String>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ContainerStatusAnswer {
        #[prost(message, optional, tag = "1")]
        pub status: Option<ContainerStatus>,
        #[prost(map = "string, string", tag = "2")]
        pub info: HashMap<String, String>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ImageStatusRequest {
        #[prost(message, optional, tag = "1")]
        pub image: Option<ImageSpec>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Image {
        #[prost(string, tag = "1")]
        pub id: String,
        #[prost(string, repeated, tag = "3")]
        pub repo_digests: Vec<String>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ImageStatus {
        #[prost(message, optional, tag = "1")]
        pub image: Option<Image>,
    }

    // What a kubelet sends.

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct NamespaceOption {
        #[prost(int32, tag = "1")]
        pub network: i32,
        #[prost(int32, tag = "2")]
        pub pid: i32,
        #[prost(int32, tag = "3")]
        pub ipc: i32,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct SecurityProfile {
        #[prost(int32, tag = "1")]
        pub profile_type: i32,
        #[prost(string, tag = "2")]
        pub localhost_ref: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct SandboxSecurity {
        #[prost(message, optional, tag = "1")]
        pub namespace_options: Option<NamespaceOption>,
        #[prost(message, optional, tag = "9")]
        pub seccomp: Option<SecurityProfile>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct LinuxPod {
        #[prost(string, tag = "1")]
        pub cgroup_parent: String,
        #[prost(message, optional, tag = "2")]
        pub security_context: Option<SandboxSecurity>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct PodConfig {
        #[prost(message, optional, tag = "1")]
        pub metadata: Option<PodMetadata>,
        #[prost(string, tag = "2")]
        pub hostname: String,
        #[prost(string, tag = "3")]
        pub log_directory: String,
        #[prost(map = "string, string", tag = "6")]
        pub labels: HashMap<String, String>,
        #[prost(map = "string, string", tag = "7")]
        pub annotations: HashMap<String, String>,
        #[prost(message, optional, tag = "8")]
        pub linux: Option<LinuxPod>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct RunPod {
        #[prost(message, optional, tag = "1")]
        pub config: Option<PodConfig>,
        #[prost(string, tag = "2")]
        pub runtime_handler: String,
    }

    /// Requests and answers that are one identifier.
    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Id {
        #[prost(string, tag = "1")]
        pub id: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct Capability {
        #[prost(string, repeated, tag = "1")]
        pub add_capabilities: Vec<String>,
        #[prost(string, repeated, tag = "2")]
        pub drop_capabilities: Vec<String>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ContainerSecurity {
        #[prost(message, optional, tag = "1")]
        pub capabilities: Option<Capability>,
        #[prost(bool, tag = "2")]
        pub privileged: bool,
        #[prost(message, optional, tag = "3")]
        pub namespace_options: Option<NamespaceOption>,
        #[prost(message, optional, tag = "5")]
        pub run_as_user: Option<Int64>,
        #[prost(bool, tag = "7")]
        pub readonly_rootfs: bool,
        #[prost(bool, tag = "11")]
        pub no_new_privs: bool,
        #[prost(message, optional, tag = "15")]
        pub seccomp: Option<SecurityProfile>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct LinuxContainer {
        #[prost(message, optional, tag = "2")]
        pub security_context: Option<ContainerSecurity>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ContainerConfig {
        #[prost(message, optional, tag = "1")]
        pub metadata: Option<ContainerMetadata>,
        #[prost(message, optional, tag = "2")]
        pub image: Option<ImageSpec>,
        #[prost(string, repeated, tag = "3")]
        pub command: Vec<String>,
        #[prost(string, repeated, tag = "4")]
        pub args: Vec<String>,
        #[prost(map = "string, string", tag = "9")]
        pub labels: HashMap<String, String>,
        #[prost(map = "string, string", tag = "10")]
        pub annotations: HashMap<String, String>,
        #[prost(string, tag = "11")]
        pub log_path: String,
        #[prost(message, optional, tag = "15")]
        pub linux: Option<LinuxContainer>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct CreateContainer {
        #[prost(string, tag = "1")]
        pub pod_sandbox_id: String,
        #[prost(message, optional, tag = "2")]
        pub config: Option<ContainerConfig>,
        #[prost(message, optional, tag = "3")]
        pub sandbox_config: Option<PodConfig>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct StopContainer {
        #[prost(string, tag = "1")]
        pub container_id: String,
        #[prost(int64, tag = "2")]
        pub timeout: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ExecSync {
        #[prost(string, tag = "1")]
        pub container_id: String,
        #[prost(string, repeated, tag = "2")]
        pub cmd: Vec<String>,
        #[prost(int64, tag = "3")]
        pub timeout: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(crate) struct ExecSyncAnswer {
        #[prost(bytes = "vec", tag = "1")]
        pub stdout: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub stderr: Vec<u8>,
        #[prost(int32, tag = "3")]
        pub exit_code: i32,
    }
}
