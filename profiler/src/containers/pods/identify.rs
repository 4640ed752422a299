//! Whose a cgroup is that was made while pods are recorded, and which containers ran before.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use engine::State;
use trace::PhaseName;

use super::{ASK, Candidate, Live, Pods, UNKNOWN};
use crate::{
    RecordError,
    containers::{
        PodName,
        follow::{Following, cgroup_of, directory},
        registry::Known,
    },
    ebpf::EbpfError,
};

/// What a candidate turns out to be.
enum Whose {
    /// Not known yet.
    Unknown,
    /// None of ours.
    Others,
    /// The container that holds a pod of ours together.
    Pause,
    /// A cgroup inside a run of ours, by its place.
    Run(usize),
    /// A run of ours that begins.
    New,
}

impl Pods<'_> {
    /// Asks about a container, now and then.
    pub(super) fn ask_about(&mut self, id: &str) {
        let now = Instant::now();
        if self.asked_about.get(id).is_none_or(|asked| now - *asked >= ASK) {
            self.registry.describe(id);
            self.asked_about.insert(id.to_owned(), now);
        }
    }

    /// Finds out whose the new cgroups are.
    pub(super) fn identify(&mut self) -> Result<(), EbpfError> {
        let mut waiting = Vec::new();
        for candidate in std::mem::take(&mut self.candidates) {
            match self.whose(&candidate) {
                Whose::Unknown => {
                    self.ask_about(&candidate.id);
                    waiting.push(candidate);
                }
                Whose::Others => self.fleet.discard(candidate.born.target),
                Whose::Pause => {
                    // Where it is, the pod's others will be.
                    self.parent = parent(&self.mount, &candidate.born.path);
                    self.fleet.discard(candidate.born.target);
                }
                Whose::Run(place) => {
                    if let Some(live) = self.live.get_mut(place) {
                        live.following.inner.push(candidate.born.target);
                    }
                }
                Whose::New => {
                    self.parent = parent(&self.mount, &candidate.born.path);
                    let following = Following::born(&candidate.born, self.phase);
                    self.live.push(Live { id: candidate.id, following, told: false });
                }
            }
        }
        self.candidates = waiting;
        self.narrow()
    }

    /// Whose a cgroup is, by what the engine said until now.
    fn whose(&self, candidate: &Candidate) -> Whose {
        let Some(snapshot) = &self.snapshot else { return Whose::Unknown };
        let own = container_directory(&candidate.born.path).is_some();
        let ours = |uid: &str| self.pods.contains_key(uid);
        if let Some(sandbox) = snapshot.sandboxes.iter().find(|sandbox| sandbox.id == candidate.id) {
            return if own && ours(&sandbox.pod.uid) { Whose::Pause } else { Whose::Others };
        }
        let listed = snapshot.containers.iter().any(|container| container.id == candidate.id);
        let Some(described) = self.described.get(&candidate.id) else {
            // A pause container is shown late; another engine's container never.
            let waited =
                candidate.since.elapsed() > UNKNOWN && snapshot.asked > candidate.since + UNKNOWN / 2;
            return if waited && !listed { Whose::Others } else { Whose::Unknown };
        };
        let named = self.wanted.container.is_none_or(|wanted| wanted == described.name);
        let Some(pod) = described.pod.as_ref().filter(|pod| named && self.wanted.may_be(pod)) else {
            return Whose::Others;
        };
        if !ours(&pod.uid) {
            // Its sandbox is up, so an answer to a later question shows whether it is meant.
            return if snapshot.asked > candidate.since { Whose::Others } else { Whose::Unknown };
        }
        match self.live.iter().position(|live| live.id == candidate.id) {
            Some(place) => Whose::Run(place),
            None if own => Whose::New,
            // Of a run that is over.
            None if candidate.since.elapsed() > UNKNOWN => Whose::Others,
            None => Whose::Unknown,
        }
    }

    /// Once it is known where the containers of the pod are made, no other cgroup of the host need be looked at.
    /// Pods by label may come at any time, anywhere.
    fn narrow(&mut self) -> Result<(), EbpfError> {
        let Some(parent) = self.parent.as_ref().filter(|parent| **parent != self.mount) else {
            return Ok(());
        };
        if !self.narrowed && matches!(self.wanted.name, PodName::Name(_)) {
            // The new nursery before the old one goes.
            self.fleet.nurse(parent, 1)?;
            self.fleet.unnurse(&self.mount);
            self.narrowed = true;
        }
        Ok(())
    }

    /// Attaches to what runs already.
    pub(super) fn attach_late(&mut self) -> Result<(), RecordError> {
        let wanted = |known: &&Known| {
            let named = self.wanted.container.is_none_or(|wanted| wanted == known.name);
            named && known.running && self.pods.contains_key(&known.uid) && !self.met.contains(&known.id)
        };
        let containers = self.snapshot.iter().flat_map(|snapshot| &snapshot.containers);
        let running: Vec<String> = containers.filter(wanted).map(|known| known.id.clone()).collect();
        for id in running {
            let Some(State::Running { pid }) = self.described.get(&id).map(|one| one.state) else {
                self.ask_about(&id);
                continue;
            };
            self.met.insert(id.clone());
            let Some(path) = cgroup_of(pid, &id) else {
                if Path::new("/proc").join(pid.to_string()).exists() {
                    return Err(RecordError::NoOwnCgroup(id));
                }
                // It ended just now.
                continue;
            };
            let directory = directory(&self.mount, &path);
            let target = match self.fleet.add(&directory) {
                Ok(target) => target,
                Err(_) if !directory.exists() => continue,
                Err(error) => return Err(error.into()),
            };
            self.fleet.set_phase(target, PhaseName::Serving);
            self.parent = parent(&self.mount, &path);
            self.live.push(Live { id, following: Following::late(target, path), told: false });
        }
        self.narrow().map_err(Into::into)
    }
}

/// The container whose own cgroup this is, not one inside it.
pub(super) fn container_directory(path: &str) -> Option<&str> {
    let id = engine::container_id(path)?;
    let last = path.rsplit('/').next()?;
    engine::cgroup_names(id).iter().any(|name| name == last).then_some(id)
}

/// The directory in which a cgroup lies.
fn parent(mount: &Path, path: &str) -> Option<PathBuf> {
    directory(mount, path).parent().map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_told_from_what_is_inside_it() {
        let id = "ab".repeat(32);
        for name in engine::cgroup_names(&id) {
            let path = format!("/kubepods/pod1/{name}");
            assert_eq!(container_directory(&path), Some(id.as_str()), "{path}");
            assert_eq!(container_directory(&format!("{path}/init.scope")), None);
        }
        assert_eq!(container_directory("/kubepods/pod1"), None);
        assert_eq!(parent(Path::new("/sys/fs/cgroup"), "/a/b"), Some("/sys/fs/cgroup/a".into()));
    }
}
