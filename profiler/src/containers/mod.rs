//! Recording what container engines run: a container that is found by asking for it, an image that is started
//! for the recording, the containers of a pod as they come. One trace for each run of a container.
//!
//! Containers are known by the directory name of their cgroup, which every engine derives from the container's
//! id: the kernel turns such a cgroup into a target in the moment it is made, before any process is in it.

mod describe;
mod existing;
mod follow;
mod image;
mod pod;
mod pods;
mod registry;

use std::time::Duration;

pub use self::follow::{cgroup_of, directory};
use engine::{Kind, Run, Sockets};
use trace::{Backend, Trace};

use crate::{
    CapturePlan, Observer, RecordError,
    drive::{Driven, Plan, Signals},
    ebpf::{self, Fleet, Refusal},
};

/// What to record.
#[derive(Clone, Debug)]
pub enum ContainerSubject {
    /// A container that an engine has, by its name or id: one that runs, or one that will be started.
    Existing {
        /// Its name or id.
        name: String,
        /// Ask only this engine.
        choice: Option<Kind>,
    },
    /// A container that is made and started for the recording, and removed after it.
    Image(Run),
    /// The containers of a pod, or of several.
    Pod {
        /// The namespace.
        namespace: String,
        /// Which pods.
        name: PodName,
        /// Only this container of them.
        container: Option<String>,
        /// How long a pod that does not exist yet is waited for.
        wait: Duration,
        /// Ask only this engine.
        choice: Option<Kind>,
    },
}

/// How a pod is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodName {
    /// By its name.
    Name(String),
    /// By labels that it must have.
    Selector(Vec<(String, String)>),
}

impl std::fmt::Display for PodName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(name),
            Self::Selector(labels) => {
                let labels: Vec<String> =
                    labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                formatter.write_str(&labels.join(","))
            }
        }
    }
}

/// What to record, and how.
#[derive(Clone, Debug)]
pub struct ContainerRequest {
    /// What to record.
    pub subject: ContainerSubject,
    /// Where the engines listen.
    pub sockets: Sockets,
    /// What to do with the workload between start and stop. Only what we start is stopped.
    pub plan: Plan,
    /// What to keep of the arguments of calls.
    pub capture: CapturePlan,
    /// Our standard output is for the result: the container's goes to standard error.
    pub stdout_is_ours: bool,
    /// The profile that only makes a runtime load a filter, and refuses nothing (its text): what runs under it is
    /// not confined.
    pub observe_profile: Option<String>,
}

/// The trace of one run of a container, and how it fared.
#[derive(Clone, Debug)]
pub struct ContainerRecording {
    /// The trace.
    pub trace: Trace,
    /// How the drive went.
    pub driven: Driven,
    /// What was refused to it, to its runtime and to exec sessions, by any filter.
    pub refusals: Vec<Refusal>,
    /// The container, as its engine described it last.
    pub container: engine::Container,
}

/// What happens while containers are recorded; for a person to read.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The container was found, or made for us.
    Found {
        /// The engine with its version.
        engine: &'a str,
        /// The container.
        container: &'a engine::Container,
        /// Whether its profile is the one that refuses nothing.
        observed: bool,
    },
    /// It does not run; its start is waited for.
    WaitingForStart(&'a engine::Container),
    /// No such pod yet; it is waited for.
    WaitingForPod {
        /// The namespace.
        namespace: &'a str,
        /// Which pod.
        name: &'a PodName,
        /// For how long.
        limit: Duration,
    },
    /// The pod is there.
    PodFound(&'a trace::Pod),
    /// A run of a container is recorded from here on; late if it ran already.
    Began {
        /// The container.
        container: &'a engine::Container,
        /// Whether it ran already.
        late: bool,
    },
    /// The run is over; its trace is ready.
    Finished(&'a ContainerRecording),
}

/// Records. A run that was cut short by the end of the recording has its trace too.
///
/// # Errors
/// See [`RecordError`]; nothing is left behind then: no container of ours, no attached program.
pub fn record(
    request: &ContainerRequest,
    tool: &str,
    observer: &mut dyn Observer,
) -> Result<Vec<ContainerRecording>, RecordError> {
    ebpf::probe()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| RecordError::Io { what: "cannot start the runtime", source })?;
    let signals = {
        let _inside = runtime.enter();
        Signals::listen()
    };
    let signals = signals.map_err(|source| RecordError::Io { what: "cannot listen for signals", source })?;
    let mut session = Session { request, tool, observer, runtime, signals };
    match &request.subject {
        ContainerSubject::Existing { name, choice } => {
            existing::record(&mut session, name, *choice).map(|recording| vec![recording])
        }
        ContainerSubject::Image(run) => image::record(&mut session, run).map(|recording| vec![recording]),
        ContainerSubject::Pod { namespace, name, container, wait, choice } => {
            let wanted = pod::Wanted { namespace, name, container: container.as_deref(), wait: *wait };
            pod::record(&mut session, &wanted, *choice)
        }
    }
}

/// What every recording of containers has.
struct Session<'a> {
    request: &'a ContainerRequest,
    tool: &'a str,
    observer: &'a mut dyn Observer,
    runtime: tokio::runtime::Runtime,
    signals: Signals,
}

/// What every trace is made with.
#[derive(Clone, Copy)]
struct Context<'a> {
    tool: &'a str,
    observe_profile: Option<&'a str>,
}

impl<'a> Session<'a> {
    /// Says by what it is recorded, once it is known that there is something.
    fn chosen(&mut self) {
        self.observer.chosen(Backend::Ebpf, "only BPF sees into a container");
    }

    /// Starts to watch for targets.
    fn fleet(&self) -> Result<Fleet, RecordError> {
        let mut fleet = Fleet::start(true)?;
        fleet.keep(&self.request.capture)?;
        Ok(fleet)
    }

    fn context(&self) -> Context<'a> {
        Context { tool: self.tool, observe_profile: self.request.observe_profile.as_deref() }
    }
}

impl Context<'_> {
    /// Whether the container runs under the profile that refuses nothing.
    fn observes(&self, container: &engine::Container) -> bool {
        self.observe_profile.is_some_and(|profile| describe::runs_under(container, profile))
    }
}
