//! The containers of a pod, as they come. While the pod does not exist yet, every cgroup that is made on the host
//! becomes a target in the moment it is made, and is given up as soon as it is known to be another's; so nothing
//! of ours is missed, whoever starts it. Once the pod's own cgroup is known, only what is made in it is.

use std::time::{Duration, Instant};

use engine::Kind;
use trace::Pod;

use super::{ContainerRecording, Event, PodName, Session, pods::Pods, registry::Registry};
use crate::{RecordError, cgroup, drive::drive, place::Place};

/// How often something is looked for.
pub(super) const LOOK: Duration = Duration::from_millis(20);
/// How deep below the cgroup mount a container's cgroup may be made: the kubelet's own cgroup, its `kubepods`,
/// the quality of service, the pod, and two more where the node is itself a container.
const DEPTH: u32 = 8;

/// Which pods, and which of their containers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a PodName,
    pub(super) container: Option<&'a str>,
    pub(super) wait: Duration,
}

impl Wanted<'_> {
    /// Whether a container's pod may be one that is meant. The labels are the container's own, which a kubelet does
    /// not take from the pod's: a pod by its labels is judged by the engine.
    pub(super) fn may_be(&self, pod: &Pod) -> bool {
        let named = match self.name {
            PodName::Name(name) => *name == pod.name,
            PodName::Selector(_) => true,
        };
        named && pod.namespace == self.namespace
    }

    fn none(&self) -> RecordError {
        RecordError::NoPod {
            namespace: self.namespace.to_owned(),
            name: self.name.to_string(),
            wait: self.wait,
        }
    }
}

pub(super) fn record(
    session: &mut Session<'_>,
    wanted: &Wanted<'_>,
    choice: Option<Kind>,
) -> Result<Vec<ContainerRecording>, RecordError> {
    let registry = Registry::start(choice, &session.request.sockets, wanted)?;
    let mut fleet = session.fleet()?;
    let mount = cgroup::mount_point()?;
    session.chosen();
    session.observer.armed(&mut fleet);
    fleet.nurse(&mount, DEPTH)?;
    let mut pods = Pods::new(*wanted, session.context(), &mut fleet, &mut *session.observer, registry, mount);
    let asked = Instant::now();
    let (plan, signals) = (&session.request.plan, &mut session.signals);
    let driven = session.runtime.block_on(async {
        let mut told = false;
        while !pods.found() {
            pods.look()?;
            if let Some(error) = pods.broken.take() {
                return Err(error);
            }
            // The first answer says what is there already; only then can the target be started safely.
            if !told && pods.informed() {
                told = true;
                pods.observer.started(None);
                if !pods.found() && !wanted.wait.is_zero() {
                    let (namespace, name) = (wanted.namespace, wanted.name);
                    pods.observer.event(&Event::WaitingForPod { namespace, name, limit: wanted.wait });
                }
            }
            if told && !pods.found() && asked.elapsed() >= wanted.wait {
                return Err(wanted.none());
            }
            if tokio::time::timeout(LOOK, signals.any()).await.is_ok() {
                return Err(RecordError::Interrupted("before the pod came"));
            }
        }
        if !told {
            pods.observer.started(None);
        }
        let driven = drive(plan, None, &Place::Elsewhere, Instant::now(), signals, &mut pods).await;
        driven.map_err(|source| RecordError::Io { what: "cannot follow the pod", source })
    })?;
    pods.finish(&driven)
}
