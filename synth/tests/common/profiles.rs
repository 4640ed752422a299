//! Every profile that is in the repository: the engines' own, resolved; those of the workloads; the snapshots.

#![allow(dead_code, reason = "each test file uses a part")]
#![expect(clippy::disallowed_methods, reason = "the profiles are files of the repository")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use seccomp_learn_synth::{Capabilities, Container, Profile, references};
use trace::{Abi, Trace};

/// The profiles for x86-64 machines by name: for files, their path in the repository.
pub(crate) fn repository() -> BTreeMap<String, Profile> {
    let mut profiles = BTreeMap::new();
    for reference in references() {
        for capabilities in [Capabilities::None, Capabilities::DockerDefault] {
            let name = format!("{}, {capabilities:?}", reference.name);
            let container = Container { native: Abi::X86_64, capabilities, kernel: (6, 18) };
            profiles.insert(name, reference.resolve(&container));
        }
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let files = files(&repository.join("profiles/workloads")).into_iter();
    for file in files.chain(files_of_snapshots(repository)) {
        let name = file.strip_prefix(repository).unwrap().display().to_string();
        let text = fs::read_to_string(&file).unwrap();
        let json = if name.ends_with(".snap") {
            text.splitn(3, "---\n").nth(2).unwrap().as_bytes()
        } else {
            text.as_bytes()
        };
        let profile = Profile::read(json).unwrap_or_else(|error| panic!("{name}: {error}"));
        profiles.insert(name, profile);
    }
    profiles
}

/// What a workload's folder in the repository has besides its profile: the traces, and the findings of its evidence.
pub(crate) fn evidence(profile: &str) -> Option<(Vec<Trace>, serde_json::Value)> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = repository.join(profile.strip_suffix("/profile.json")?);
    let evidence: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("profile.evidence.json")).unwrap()).unwrap();
    let files = fs::read_dir(folder.join("traces")).unwrap().map(|entry| entry.unwrap().path());
    let traces = files.map(|file| Trace::read(fs::read(&file).unwrap().as_slice()).unwrap()).collect();
    Some((traces, evidence["findings"].clone()))
}

/// The files of a folder that are named as profiles.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&path));
        } else if path.file_name().is_some_and(|name| name == "profile.json") {
            found.push(path);
        }
    }
    found
}

/// The snapshots that hold a profile.
fn files_of_snapshots(repository: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository.join("synth/tests/snapshots")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_str().is_some_and(|path| path.ends_with("profile.snap"))).collect()
}
