//! Where an installed profile stands, and how it is named to the one that loads it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::ValueEnum;
use synth::format;

use crate::output::{Output, Written};

/// Who loads the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Consumer {
    /// Kubernetes: a Localhost profile below kubelet's root, /var/lib/kubelet
    Kubelet,
    /// Docker: a file for `--security-opt`, in /etc/seccomp-learn/profiles
    Docker,
    /// Podman: a file for `--security-opt`, in /etc/seccomp-learn/profiles
    Podman,
}

/// Kubelet's `--root-dir`.
const KUBELET: &str = "/var/lib/kubelet";

/// Docker and Podman take any path; this one is ours, and outlives the folder in which a profile was made.
const ENGINES: &str = "/etc/seccomp-learn/profiles";

/// What kubelet makes in its root when it first starts, and what kubeadm puts there before.
const SIGNS: [&str; 7] =
    ["config.yaml", "cpu_manager_state", "device-plugins", "pki", "plugins", "pods", "seccomp"];

/// The folder of installed profiles of one consumer.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) consumer: Consumer,
    /// What must be there already.
    root: PathBuf,
    /// Where the files are; made when the first one is installed.
    pub(crate) folder: PathBuf,
}

impl Place {
    /// The place, which need not have a profile yet.
    pub(crate) fn find(consumer: Consumer, root: Option<&Path>) -> anyhow::Result<Self> {
        let given = root.is_some();
        let usual = if consumer == Consumer::Kubelet { KUBELET } else { ENGINES };
        let root = std::path::absolute(root.unwrap_or(Path::new(usual)))?;
        if given && !root.is_dir() {
            bail!("`{}` is no directory; make it, or give another with `--root`", root.display());
        }
        if consumer != Consumer::Kubelet {
            return Ok(Self { consumer, folder: root.clone(), root });
        }
        if !root.is_dir() {
            bail!(
                "there is no kubelet here: `{}` does not exist; give kubelet's `--root-dir` with `--root`, or say `--for docker` or `--for podman`",
                root.display()
            );
        }
        if !SIGNS.iter().any(|sign| root.join(sign).exists()) {
            bail!(
                "`{}` is no root of a kubelet: it has none of {}; give kubelet's `--root-dir` with `--root`, or make `{}/seccomp` if kubelet has not started yet",
                root.display(),
                SIGNS.join(", "),
                root.display()
            );
        }
        Ok(Self { consumer, folder: root.join("seccomp").join(format::LOCALHOST_FOLDER), root })
    }

    /// The file of the profile of this name.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// Puts it there, whole or not at all; says whether it is new. What is there already is never overwritten.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> anyhow::Result<bool> {
        let file = self.file(name);
        if self.holds(&file, bytes)? {
            return Ok(false);
        }
        let usual = self.root == Path::new(ENGINES);
        let written = self
            .make_folder(usual)
            .map_err(anyhow::Error::from)
            .and_then(|()| Output::prepare(&file))
            .and_then(|output| output.write_new(bytes))
            .map_err(|error| {
                anyhow::anyhow!(
                    "cannot write `{}`: {}; run as root, or give a directory that you may write to with `--root`",
                    file.display(),
                    error.root_cause()
                )
            })?;
        match written {
            Written::New => Ok(true),
            // Somebody else put one there meanwhile.
            Written::Exists if self.holds(&file, bytes)? => Ok(false),
            Written::Exists => bail!("`{}` appeared meanwhile; try again", file.display()),
        }
    }

    /// Whether the file is there with these bytes; with others it is an error.
    fn holds(&self, file: &Path, bytes: &[u8]) -> anyhow::Result<bool> {
        match fs::read(file) {
            Ok(found) if found == bytes => Ok(true),
            Ok(found) => bail!(
                "`{}` is there with other content ({}); it is never overwritten: give another `--name`, or remove it yourself if nothing uses it",
                file.display(),
                trace::Digest::of(&found)
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot read `{}`", file.display())),
        }
    }

    /// Makes what is missing below the root; the usual folder of Docker and Podman with its parents.
    fn make_folder(&self, with_root: bool) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        if !with_root && !self.root.is_dir() {
            return Err(io::ErrorKind::NotFound.into());
        }
        // The client of Docker reads the file as whoever starts the container.
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.folder)
    }

    /// The installed profiles, by their names, in order.
    pub(crate) fn installed(&self) -> anyhow::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read `{}`", self.folder.display()));
            }
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.with_context(|| format!("cannot read `{}`", self.folder.display()))?.file_name();
            if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".json")) {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// What `localhostProfile` says for it, if kubelet loads it.
    pub(crate) fn localhost_profile(&self, name: &str) -> Option<String> {
        (self.consumer == Consumer::Kubelet).then(|| format::localhost_profile(name))
    }

    /// What is pasted into a manifest or a command line.
    pub(crate) fn line(&self, name: &str) -> String {
        let file = self.file(name);
        match self.consumer {
            Consumer::Kubelet => format::security_context(&format::localhost_profile(name)),
            Consumer::Docker => format::docker_option(&file.to_string_lossy()) + "\n",
            Consumer::Podman => format::podman_option(&file.to_string_lossy()) + "\n",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_for_one_profile_and_never_another_in_its_place() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::find(Consumer::Podman, Some(root.path())).unwrap();
        assert!(place.installed().unwrap().is_empty());
        assert!(place.put("a-1", b"one").unwrap());
        assert!(!place.put("a-1", b"one").unwrap());
        let error = place.put("a-1", b"two").unwrap_err().to_string();
        assert!(error.contains("with other content") && error.contains("never overwritten"), "{error}");
        assert_eq!(fs::read(place.file("a-1")).unwrap(), b"one");
        assert_eq!(place.installed().unwrap(), ["a-1"]);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_is_no_kubelet_root_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let error = Place::find(Consumer::Kubelet, Some(root.path())).unwrap_err().to_string();
        assert!(error.contains("is no root of a kubelet"), "{error}");
        fs::create_dir(root.path().join("pods")).unwrap();
        let place = Place::find(Consumer::Kubelet, Some(root.path())).unwrap();
        assert!(place.put("a-1", b"one").unwrap());
        assert!(root.path().join("seccomp/seccomp-learn/a-1.json").is_file());
        assert_eq!(place.localhost_profile("a-1").unwrap(), "seccomp-learn/a-1.json");
        assert!(Place::find(Consumer::Docker, Some(&root.path().join("missing"))).is_err());
    }
}
