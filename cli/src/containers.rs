//! What the verbs share that look at containers: which engine, which container, which pod, which image.

use std::{env, ffi::OsString, io::Write as _, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Args;
use engine::{Kind, Run, Sockets};
use profiler::{
    Observer, Progress,
    containers::{ContainerRecording, ContainerRequest, ContainerSubject, PodName},
    drive::Plan,
};
use synth::Profile;
use tempfile::NamedTempFile;
use trace::{Abi, Backend, PhaseName};

use crate::{
    expected::Expected,
    record::TOOL,
    session::{capture, duration},
    trial::{Started, Trial},
};

/// Which container engine is asked, and where.
#[derive(Args, Clone, Debug, Default)]
#[group(skip)]
pub(crate) struct Engines {
    /// Ask only this engine: docker, podman, containerd or crio [default: every engine that answers]
    #[arg(long, value_name = "ENGINE", help_heading = "Containers")]
    pub(crate) engine: Option<Kind>,

    /// The socket the engine listens on [default: the usual places, DOCKER_HOST, CONTAINER_HOST,
    /// CONTAINERD_ADDRESS, CONTAINER_RUNTIME_ENDPOINT]
    #[arg(long, value_name = "PATH", help_heading = "Containers")]
    pub(crate) engine_socket: Option<PathBuf>,
}

impl Engines {
    /// Where the engines may listen: what the user says, else the environment, else the usual places.
    pub(crate) fn sockets(&self) -> Sockets {
        Sockets::new(self.engine_socket.clone(), |name| env::var_os(name))
    }
}

/// A container, or the containers of a pod.
#[derive(Args, Clone, Debug, Default)]
#[group(skip)]
pub(crate) struct PodTarget {
    /// This container, by its name or id; with `--pod` or `--selector`, only this container of the pod
    #[arg(short, long, value_name = "CONTAINER", help_heading = "Containers")]
    pub(crate) container: Option<String>,

    /// The containers of this pod, through the node's CRI socket
    #[arg(long, value_name = "POD", help_heading = "Containers")]
    pub(crate) pod: Option<String>,

    /// The containers of the pods with these labels
    #[arg(long, value_name = "KEY=VALUE[,…]", conflicts_with = "pod", help_heading = "Containers")]
    pub(crate) selector: Option<String>,

    /// The pod's namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default", help_heading = "Containers")]
    pub(crate) namespace: String,

    /// Wait for a pod that does not exist yet, at most this time [without a time: 5m]
    #[arg(
        long,
        value_name = "TIME",
        value_parser = duration,
        num_args = 0..=1,
        default_missing_value = "5m",
        help_heading = "Containers"
    )]
    pub(crate) wait: Option<Duration>,
}

impl PodTarget {
    /// Whether a pod is named, by its name or its labels.
    pub(crate) const fn is_pod(&self) -> bool {
        self.pod.is_some() || self.selector.is_some()
    }

    /// What is named, if anything is.
    pub(crate) fn subject(&self, engines: &Engines) -> anyhow::Result<Option<ContainerSubject>> {
        let name = match (&self.pod, &self.selector) {
            (Some(pod), _) => PodName::Name(pod.clone()),
            (None, Some(selector)) => PodName::Selector(labels(selector)?),
            (None, None) => {
                let choice = engines.engine;
                return Ok(self.container.clone().map(|name| ContainerSubject::Existing { name, choice }));
            }
        };
        Ok(Some(ContainerSubject::Pod {
            namespace: self.namespace.clone(),
            name,
            container: self.container.clone(),
            wait: self.wait.unwrap_or_default(),
            choice: engines.engine,
        }))
    }
}

/// `k=v,k=v`.
fn labels(selector: &str) -> anyhow::Result<Vec<(String, String)>> {
    let parts = selector.split(',').map(|part| match part.split_once('=') {
        Some((key, value)) if !key.is_empty() => {
            Ok((key.to_owned(), value.trim_start_matches('=').to_owned()))
        }
        _ => anyhow::bail!("no label selector `{selector}`; write `key=value`, several with a comma between"),
    });
    parts.collect()
}

/// An image that is started for us by its engine.
#[derive(Args, Clone, Debug, Default)]
#[group(skip)]
pub(crate) struct ImageTarget {
    /// Start a container of this image, with the arguments after `--`
    #[arg(long, value_name = "IMAGE", help_heading = "Containers")]
    pub(crate) image: Option<String>,

    /// An option for the engine's `create`, as it would be written there; may be given several times
    #[arg(
        long,
        value_name = "OPTION",
        allow_hyphen_values = true,
        requires = "image",
        help_heading = "Containers"
    )]
    pub(crate) run_option: Vec<OsString>,

    /// The engine's own command [default: the engine's name, found in PATH]
    #[arg(long, value_name = "PATH", requires = "image", help_heading = "Containers")]
    pub(crate) engine_program: Option<PathBuf>,
}

impl ImageTarget {
    /// The container to be made, if an image is named.
    pub(crate) fn run(&self, engines: &Engines, arguments: &[OsString]) -> anyhow::Result<Option<Run>> {
        let Some(image) = &self.image else { return Ok(None) };
        let kind = match engines.engine {
            Some(kind) => kind,
            None => installed()?,
        };
        Ok(Some(Run {
            kind,
            program: self.engine_program.clone(),
            image: image.clone(),
            options: self.run_option.clone(),
            arguments: arguments.to_vec(),
            seccomp: None,
            name: None,
        }))
    }
}

/// The profile to record under where the user names none: it refuses nothing, and makes the runtime load a filter,
/// so that its own calls are told apart exactly.
pub(crate) struct Observe {
    file: NamedTempFile,
    text: String,
}

impl Observe {
    /// Writes it where an engine's command can read it.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let (_, machine) = profiler::host::kernel();
        let native = Abi::native_of(&machine).with_context(|| format!("no ABI is known for `{machine}`"))?;
        let text = synth::observe_profile(native).to_json();
        Ok(Self { file: profile_file(&text)?, text })
    }

    /// A request to record, under this profile where an image is started without another.
    pub(crate) fn request(
        &self,
        mut subject: ContainerSubject,
        engines: &Engines,
        plan: Plan,
        stdout_is_ours: bool,
    ) -> ContainerRequest {
        if let ContainerSubject::Image(run) = &mut subject
            && run.seccomp.is_none()
            && !names_seccomp(&run.options)
        {
            run.seccomp = Some(self.file.path().to_owned());
        }
        let observe_profile = Some(self.text.clone());
        ContainerRequest {
            subject,
            sockets: engines.sockets(),
            plan,
            capture: capture(),
            stdout_is_ours,
            observe_profile,
        }
    }
}

/// A profile in a file of its own, for an engine's command.
pub(crate) fn profile_file(text: &str) -> anyhow::Result<NamedTempFile> {
    let file = tempfile::Builder::new().prefix("seccomp-learn.").suffix(".json").tempfile();
    let mut file = file.context("cannot make a temporary file")?;
    file.write_all(text.as_bytes()).and_then(|()| file.flush()).context("cannot write a temporary file")?;
    Ok(file)
}

/// Whether options for an engine's `create` choose a seccomp profile, or switch it off.
pub(crate) fn names_seccomp(options: &[OsString]) -> bool {
    options.iter().any(|option| {
        let option = option.to_string_lossy();
        option.contains("seccomp=") || option == "--privileged" || option == "--privileged=true"
    })
}

/// Starts a container with a profile in force, the way a user would, drives it, stops it and removes it. Its
/// denials, and those of its runtime, are seen by BPF: they happen under a filter that is not ours.
pub(crate) fn container_trial(
    profile: &Profile,
    run: Run,
    engines: &Engines,
    plan: &Plan,
    expected: &Expected,
) -> anyhow::Result<Trial> {
    let request = ContainerRequest {
        subject: ContainerSubject::Image(run),
        sockets: engines.sockets(),
        plan: plan.clone(),
        capture: capture(),
        stdout_is_ours: true,
        observe_profile: None,
    };
    let recorded = profiler::containers::record(&request, TOOL, &mut Silent)?;
    let Some(recording) = recorded.into_iter().next() else { anyhow::bail!("the container was not started") };
    let ContainerRecording { trace, driven, refusals, container } = recording;
    let denials = harness::attribute(profile, &refusals, &trace, &driven.phases)?;
    let started = Started {
        id: container.id.clone(),
        name: container.name.clone(),
        image: container.image_digest,
        calls: trace.syscalls.iter().map(|row| row.calls.saturating_add(row.denied)).sum(),
        lost: trace.losses.lost_calls(),
    };
    let mut remarks = Vec::new();
    if trace.losses.lost_calls() {
        remarks.push("some events were lost, so a denial may be missing".to_owned());
    }
    if container.seccomp == engine::Seccomp::Unconfined {
        remarks.push("the engine did not put the container under the profile".to_owned());
    }
    let run = harness::Run { driven, denials, remarks };
    Ok(Trial { run, expected: expected.clone(), container: Some(started) })
}

/// Nobody needs to hear of each start.
struct Silent;

impl Observer for Silent {
    fn chosen(&mut self, _: Backend, _: &str) {}
    fn started(&mut self, _: Option<u32>) {}
    fn progress(&mut self, _: Duration, _: PhaseName, _: &Progress) {}
}

/// The engine whose command is installed; podman before docker, as it needs no daemon.
fn installed() -> anyhow::Result<Kind> {
    let found = [("podman", Kind::Podman), ("docker", Kind::Docker)];
    let found = found.into_iter().find(|(name, _)| confine::resolve(name.as_ref()).is_ok());
    found.map(|(_, kind)| kind).ok_or_else(|| {
        anyhow::anyhow!("neither `podman` nor `docker` is installed here; name an engine with `--engine`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_labels() {
        let found = labels("app=nim,tier==gpu").unwrap();
        assert_eq!(found, [("app", "nim"), ("tier", "gpu")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        for wrong in ["", "app", "=x", "app=1,", "a in (b)"] {
            assert!(labels(wrong).is_err(), "{wrong:?}");
        }
    }
}
