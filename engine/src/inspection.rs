//! What `inspect` of Docker and of Podman says about a container: JSON, the same over the API and from the command.

use std::collections::BTreeMap;

use serde::Deserialize;
use trace::{ContainerKind, Digest};

use crate::{Container, Kind, Seccomp, State, pod, runtime};

/// The answer, with the fields that are used here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Inspection {
    id: String,
    name: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    args: Vec<String>,
    state: InspectedState,
    /// The image's identifier.
    #[serde(default)]
    pub(crate) image: String,
    /// Podman only: the name that the image was asked for by.
    #[serde(default)]
    image_name: String,
    /// Podman only: the manifest's digest.
    #[serde(default)]
    image_digest: String,
    /// Podman only: a name or a path.
    #[serde(default, rename = "OCIRuntime")]
    oci_runtime: String,
    #[serde(default)]
    restart_count: u32,
    host_config: HostConfig,
    config: Config,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    #[serde(default)]
    status: String,
    #[serde(default)]
    running: bool,
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    exit_code: i32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    privileged: bool,
    #[serde(default)]
    security_opt: Option<Vec<String>>,
    #[serde(default)]
    runtime: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    image: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

/// What the engine does where a container says nothing, and where its runtimes are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defaults {
    /// The seccomp profile of the engine itself.
    pub(crate) seccomp: Option<String>,
    pub(crate) no_new_privileges: bool,
    /// The files of runtimes by their names.
    pub(crate) runtimes: BTreeMap<String, String>,
}

impl Inspection {
    /// The container, `digest` being the one that a registry knows the image by.
    pub(crate) fn into_container(self, kind: Kind, digest: Option<Digest>, defaults: &Defaults) -> Container {
        let options = self.host_config.security_opt.unwrap_or_default();
        let privileged = self.host_config.privileged;
        let called = if self.oci_runtime.is_empty() { &self.host_config.runtime } else { &self.oci_runtime };
        let binary = match defaults.runtimes.get(called) {
            Some(path) if !path.is_empty() => path.clone(),
            _ => called.clone(),
        };
        let name = runtime::name(called);
        let runtime_version = match runtime::runtime_version(&binary) {
            Some(version) => Some(version),
            None => name.as_deref().and_then(runtime::runtime_version),
        };
        let labels = self.config.labels.unwrap_or_default();
        let asked = if self.image_name.is_empty() { self.config.image } else { self.image_name };
        Container {
            state: match (self.state.running, self.state.status.as_str()) {
                (true, _) if self.state.pid > 0 => State::Running { pid: self.state.pid },
                (_, "created" | "configured" | "initialized") => State::Created,
                _ => State::Exited { code: self.state.exit_code },
            },
            image_name: Some(asked).filter(|name| !name.is_empty()),
            image_digest: digest.or_else(|| self.image_digest.parse().ok()).or_else(|| id(&self.image)),
            runtime: name,
            runtime_version,
            seccomp: seccomp(kind, &options, privileged, defaults),
            no_new_privileges: Some(no_new_privileges(&options).unwrap_or(defaults.no_new_privileges)),
            user: Some(self.config.user).filter(|user| !user.is_empty()),
            command: Some(self.path).filter(|path| !path.is_empty()).into_iter().chain(self.args).collect(),
            pod: pod::of_labels(&labels),
            kind: ContainerKind::Container,
            restart: self.restart_count,
            privileged,
            name: self.name.trim_start_matches('/').to_owned(),
            id: self.id,
            labels,
        }
    }
}

/// An image's identifier as a digest; Podman leaves the algorithm out.
fn id(text: &str) -> Option<Digest> {
    text.parse().or_else(|_| format!("sha256:{text}").parse()).ok()
}

/// The profile that the security options come to.
fn seccomp(kind: Kind, options: &[String], privileged: bool, defaults: &Defaults) -> Seccomp {
    let asked = options
        .iter()
        .rev()
        .find_map(|option| option.strip_prefix("seccomp=").or_else(|| option.strip_prefix("seccomp:")));
    match asked {
        Some("unconfined") => Seccomp::Unconfined,
        Some("builtin") => Seccomp::Default,
        // Docker's command sends the text and Podman keeps the path.
        Some(text) if kind == Kind::Docker || text.starts_with('{') => Seccomp::Inline(text.to_owned()),
        Some(path) => Seccomp::Profile(path.to_owned()),
        None if privileged => Seccomp::Unconfined,
        None => match defaults.seccomp.as_deref() {
            Some("unconfined") => Seccomp::Unconfined,
            None | Some("default" | "builtin" | "") => Seccomp::Default,
            Some(path) => Seccomp::Profile(path.to_owned()),
        },
    }
}

fn no_new_privileges(options: &[String]) -> Option<bool> {
    options.iter().rev().find_map(|option| match option.as_str() {
        "no-new-privileges" | "no-new-privileges=true" | "no-new-privileges:true" => Some(true),
        "no-new-privileges=false" | "no-new-privileges:false" => Some(false),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "94e82014758ddf0f5375f78918eac4ce929a15e2a8d0f6adc05d05140bbeac32";

    fn read(kind: Kind, text: &str, defaults: &Defaults) -> Container {
        let text = text.replace("ID", ID);
        serde_json::from_str::<Inspection>(&text).unwrap().into_container(kind, None, defaults)
    }

    #[test]
    fn reads_dockers_answer() {
        let text = r#"{"Id":"ID","Name":"/web","Path":"sleep","Args":["1"],"Image":"sha256:ID","RestartCount":2,
            "State":{"Status":"running","Running":true,"Pid":7,"ExitCode":0},
            "HostConfig":{"Privileged":false,"SecurityOpt":["no-new-privileges","seccomp={\"x\":1}"],
            "Runtime":"none-such"},"Config":{"Image":"localhost/a:1","User":"1000","Labels":{"k":"v"}}}"#;
        let container = read(Kind::Docker, text, &Defaults::default());
        assert_eq!((container.name.as_str(), container.pid()), ("web", Some(7)));
        assert_eq!(container.command, ["sleep", "1"]);
        assert_eq!(container.image_digest.unwrap().to_string(), format!("sha256:{ID}"));
        assert_eq!(container.seccomp, Seccomp::Inline("{\"x\":1}".to_owned()));
        assert_eq!(container.no_new_privileges, Some(true));
        assert_eq!((container.user.as_deref(), container.restart), (Some("1000"), 2));
        assert_eq!(container.runtime_with_version().as_deref(), Some("none-such"));
    }

    #[test]
    fn reads_podmans_answer() {
        let text = r#"{"Id":"ID","Name":"web","Path":"ls","Args":[],"Image":"ID","ImageName":"localhost/a:1",
            "ImageDigest":"sha256:05e4a14ccdea34b137c8cf1b67c4aae618a7083b95db752c4980e93d33e22123",
            "OCIRuntime":"/none/such/crun","State":{"Status":"exited","Running":false,"Pid":0,"ExitCode":3},
            "HostConfig":{"SecurityOpt":["seccomp=/p.json"],"Runtime":"oci"},"Config":{"Image":"x","Labels":null}}"#;
        let container = read(Kind::Podman, text, &Defaults::default());
        assert_eq!(container.state, State::Exited { code: 3 });
        assert_eq!(container.seccomp, Seccomp::Profile("/p.json".to_owned()));
        assert!(container.image_digest.unwrap().to_string().starts_with("sha256:05e4"));
        assert_eq!(container.runtime.as_deref(), Some("crun"));
        assert_eq!(container.no_new_privileges, Some(false));
    }

    #[test]
    fn says_what_confines() {
        let check = |kind, options: &[&str], privileged, default: Option<&str>| {
            let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
            let defaults = Defaults { seccomp: default.map(str::to_owned), ..Defaults::default() };
            seccomp(kind, &options, privileged, &defaults)
        };
        assert_eq!(check(Kind::Docker, &[], false, Some("default")), Seccomp::Default);
        assert_eq!(check(Kind::Docker, &[], false, Some("unconfined")), Seccomp::Unconfined);
        assert_eq!(check(Kind::Docker, &[], false, Some("/p")), Seccomp::Profile("/p".to_owned()));
        assert_eq!(check(Kind::Docker, &["seccomp=builtin"], false, Some("/p")), Seccomp::Default);
        assert_eq!(check(Kind::Podman, &[], true, None), Seccomp::Unconfined);
        assert_eq!(check(Kind::Podman, &["seccomp=/q"], true, None), Seccomp::Profile("/q".to_owned()));
        assert_eq!(check(Kind::Podman, &["seccomp=unconfined"], false, None), Seccomp::Unconfined);
    }
}
