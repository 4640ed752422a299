//! Asks the node's CRI on a thread of its own, so that a slow engine holds nothing up.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Instant,
};

use engine::{Container, Cri, EngineError, Kind, PodState, Sockets};
use trace::{ContainerKind, Pod};

use super::{PodName, pod::Wanted};

/// What there is of the pods that are meant, at one moment.
pub(super) struct Snapshot {
    /// When it was asked for.
    pub(super) asked: Instant,
    pub(super) sandboxes: Vec<Sandbox>,
    pub(super) containers: Vec<Known>,
}

/// A sandbox of a pod that is meant.
pub(super) struct Sandbox {
    pub(super) id: String,
    pub(super) pod: Pod,
    pub(super) ready: bool,
}

/// A container of a pod that is meant.
pub(super) struct Known {
    pub(super) id: String,
    pub(super) name: String,
    /// Of its pod.
    pub(super) uid: String,
    pub(super) running: bool,
    /// What it is in its pod, as far as what happened until now tells.
    pub(super) kind: ContainerKind,
    /// When it was made, by the engine's clock.
    pub(super) made: i64,
}

/// What is asked.
enum Ask {
    All,
    One(String),
}

/// What is answered.
pub(super) enum Answer {
    Snapshot(Snapshot),
    Described(Box<Container>),
    /// There is no such container.
    Missing,
    Failed(EngineError),
}

/// The thread that asks.
pub(super) struct Registry {
    label: String,
    asks: Sender<Ask>,
    answers: Receiver<Answer>,
    /// How many snapshots were asked for and not answered.
    open: std::cell::Cell<u32>,
}

impl Registry {
    /// Connects.
    pub(super) fn start(
        choice: Option<Kind>,
        sockets: &Sockets,
        wanted: &Wanted<'_>,
    ) -> Result<Self, EngineError> {
        let cri = Cri::connect(sockets, choice)?;
        let label = format!("{} {}", cri.kind(), cri.version());
        let (asks, asked) = channel();
        let (answer, answers) = channel();
        let (namespace, name) = (wanted.namespace.to_owned(), wanted.name.clone());
        thread::spawn(move || {
            // Ends when the other side does.
            for ask in asked {
                let answered = match ask {
                    Ask::All => snapshot(&cri, &namespace, &name).map(Answer::Snapshot),
                    Ask::One(id) => match cri.inspect(&id) {
                        Err(error) if error.is_missing() => Ok(Answer::Missing),
                        container => container.map(|container| Answer::Described(Box::new(container))),
                    },
                };
                if answer.send(answered.unwrap_or_else(Answer::Failed)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { label, asks, answers, open: std::cell::Cell::new(0) })
    }

    /// The engine with its version.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Asks for what there is, unless that is being asked already; says whether it was asked.
    pub(super) fn ask(&self) -> bool {
        let free = self.open.get() == 0;
        if free && self.asks.send(Ask::All).is_ok() {
            self.open.set(1);
        }
        free
    }

    /// Asks about one container.
    pub(super) fn describe(&self, id: &str) {
        // A thread that is gone has said why.
        let _ = self.asks.send(Ask::One(id.to_owned()));
    }

    /// The next answer, if there is one.
    pub(super) fn answer(&self) -> Option<Answer> {
        let answer = self.answers.try_recv().ok()?;
        if matches!(answer, Answer::Snapshot(_) | Answer::Failed(_)) {
            self.open.set(0);
        }
        Some(answer)
    }
}

fn snapshot(cri: &Cri, namespace: &str, name: &PodName) -> Result<Snapshot, EngineError> {
    let asked = Instant::now();
    let pods = match name {
        PodName::Name(name) => cri.pods(namespace, Some(name), &[])?,
        PodName::Selector(labels) => cri.pods(namespace, None, labels)?,
    };
    let (mut sandboxes, mut containers) = (Vec::new(), Vec::new());
    for pod in pods {
        let found = match cri.containers(&pod.id) {
            Ok(found) => found,
            // It went while it was asked for.
            Err(error) if error.is_missing() => continue,
            Err(error) => return Err(error),
        };
        containers.extend(found.into_iter().map(|container| Known {
            id: container.id,
            name: container.name,
            uid: pod.pod.uid.clone(),
            running: container.state == PodState::Running,
            kind: container.kind,
            made: container.created_ns,
        }));
        sandboxes.push(Sandbox { id: pod.id, pod: pod.pod, ready: pod.ready });
    }
    Ok(Snapshot { asked, sandboxes, containers })
}
