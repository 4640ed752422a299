//! Which engines there are, and where they listen.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// A container engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Docker.
    Docker,
    /// Podman, through its API service.
    Podman,
    /// containerd: what `ctr`, `nerdctl` and a kubelet start.
    Containerd,
    /// CRI-O.
    Crio,
}

impl Kind {
    /// All of them, in the order in which they are asked.
    pub const ALL: [Self; 4] = [Self::Docker, Self::Podman, Self::Containerd, Self::Crio];

    /// The name as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::Crio => "cri-o",
        }
    }

    /// What an operator does when the engine does not listen.
    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Self::Docker => "start it (`systemctl start docker`)",
            Self::Podman => "start its API service (`systemctl start podman.socket`)",
            Self::Containerd => "start it (`systemctl start containerd`)",
            Self::Crio => "start it (`systemctl start crio`)",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "docker" => Ok(Self::Docker),
            "podman" => Ok(Self::Podman),
            "containerd" => Ok(Self::Containerd),
            "crio" | "cri-o" => Ok(Self::Crio),
            _ => Err(format!("no engine `{text}`; use `docker`, `podman`, `containerd` or `crio`")),
        }
    }
}

/// Where the engines may listen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sockets {
    /// The one socket that was asked for, whoever listens there.
    only: Option<PathBuf>,
    /// What the environment names for an engine; nothing else is tried for it then.
    named: BTreeMap<Kind, PathBuf>,
    /// The socket of the CRI, where the environment names one.
    cri: Option<PathBuf>,
    /// Variables whose value is no Unix socket.
    strange: Vec<String>,
    /// The user's own folder for sockets, for engines without root.
    own: Option<PathBuf>,
}

impl Sockets {
    /// `only` overrides everything, for whichever engine is asked; `variable` reads the environment
    /// (`DOCKER_HOST`, `CONTAINER_HOST`, `CONTAINERD_ADDRESS`, `CONTAINER_RUNTIME_ENDPOINT`, `XDG_RUNTIME_DIR`).
    #[must_use]
    pub fn new(only: Option<PathBuf>, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let mut sockets = Self { only: only.map(|path| local(&path)), ..Self::default() };
        let mut read = |name: &str| {
            let value = variable(name).filter(|value| !value.is_empty())?;
            let path = local(Path::new(&value));
            if path.is_absolute() {
                return Some(path);
            }
            sockets.strange.push(format!("{name}={}", value.to_string_lossy()));
            None
        };
        let (docker, podman) = (read("DOCKER_HOST"), read("CONTAINER_HOST"));
        let (containerd, cri) = (read("CONTAINERD_ADDRESS"), read("CONTAINER_RUNTIME_ENDPOINT"));
        for (kind, path) in [(Kind::Docker, docker), (Kind::Podman, podman), (Kind::Containerd, containerd)] {
            sockets.named.extend(path.map(|path| (kind, path)));
        }
        sockets.cri = cri;
        sockets.own = variable("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
        sockets
    }

    /// One engine's socket, set beside what is known already.
    #[must_use]
    pub fn with(mut self, kind: Kind, path: impl Into<PathBuf>) -> Self {
        self.named.insert(kind, path.into());
        self
    }

    /// Whether everything goes to one socket.
    #[must_use]
    pub const fn is_one(&self) -> bool {
        self.only.is_some()
    }

    /// The socket that everything goes to, if there is one.
    pub(crate) fn only(&self) -> Option<&Path> {
        self.only.as_deref()
    }

    /// Where this engine may listen, in the order in which it is tried.
    #[must_use]
    pub fn of(&self, kind: Kind) -> Vec<PathBuf> {
        if let Some(path) = self.only.as_ref().or_else(|| self.named.get(&kind)) {
            return vec![path.clone()];
        }
        let usual: &[&str] = match kind {
            Kind::Docker => &["/run/docker.sock"],
            Kind::Podman => &["/run/podman/podman.sock"],
            Kind::Containerd => &["/run/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock"],
            Kind::Crio => &["/run/crio/crio.sock"],
        };
        let own = self.own.iter().filter_map(|folder| match kind {
            Kind::Docker => Some(folder.join("docker.sock")),
            Kind::Podman => Some(folder.join("podman/podman.sock")),
            Kind::Containerd | Kind::Crio => None,
        });
        usual.iter().map(PathBuf::from).chain(own).collect()
    }

    /// Where a CRI may be served, in the order in which it is tried.
    #[must_use]
    pub fn of_cri(&self, choice: Option<Kind>) -> Vec<PathBuf> {
        if let Some(path) = self.only.as_ref().or(self.cri.as_ref()) {
            return vec![path.clone()];
        }
        let kinds = [Kind::Containerd, Kind::Crio];
        let mut paths: Vec<PathBuf> = kinds
            .into_iter()
            .filter(|kind| choice.is_none_or(|choice| choice == *kind))
            .flat_map(|kind| self.of(kind))
            .collect();
        if choice.is_none_or(|choice| choice == Kind::Docker) {
            paths.push("/run/cri-dockerd.sock".into());
        }
        paths
    }

    /// Variables of the environment that name no Unix socket, and so were left out.
    #[must_use]
    pub fn strange(&self) -> &[String] {
        &self.strange
    }
}

/// `unix:///run/x.sock`, `unix:/run/x.sock` and `/run/x.sock` are the same.
fn local(path: &Path) -> PathBuf {
    let Some(text) = path.to_str() else { return path.to_owned() };
    let bare = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")).unwrap_or(text);
    PathBuf::from(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(only: Option<&str>, environment: &[(&str, &str)]) -> Sockets {
        Sockets::new(only.map(PathBuf::from), |name| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_more_explicit_wins() {
        let plain = sockets(None, &[]);
        assert!(plain.of(Kind::Podman).contains(&"/run/podman/podman.sock".into()));
        assert_eq!(plain.of_cri(None).len(), 4);
        assert!(!plain.of_cri(Some(Kind::Crio)).contains(&"/run/containerd/containerd.sock".into()));
        let named = [("DOCKER_HOST", "unix:///a"), ("CONTAINER_RUNTIME_ENDPOINT", "unix:/b")];
        let environment = sockets(None, &named);
        assert_eq!(environment.of(Kind::Docker), [PathBuf::from("/a")]);
        assert_eq!(environment.of_cri(None), [PathBuf::from("/b")]);
        let only = sockets(Some("unix:///c"), &named);
        assert!(Kind::ALL.into_iter().all(|kind| only.of(kind) == [PathBuf::from("/c")]));
        assert_eq!(only.of_cri(None), [PathBuf::from("/c")]);
    }

    #[test]
    fn engines_elsewhere_are_not_asked() {
        let remote = sockets(None, &[("DOCKER_HOST", "tcp://elsewhere:2375")]);
        assert_eq!(remote.strange(), ["DOCKER_HOST=tcp://elsewhere:2375"]);
        assert!(remote.of(Kind::Docker).iter().all(|path| path.is_absolute()));
    }

    #[test]
    fn kinds_are_written_as_they_are_read() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("rkt".parse::<Kind>().unwrap_err().contains("`rkt`"));
    }
}
