//! What can be read out of the CRI's answers: the engine's own details, and what happened in a pod.

use std::collections::HashMap;

use serde_json::Value;
use trace::ContainerKind;

use crate::Seccomp;

/// The engine's own details of a verbose answer: containerd and CRI-O write them as JSON under `info`.
pub(super) fn details(info: &HashMap<String, String>) -> Value {
    info.get("info").and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null)
}

/// The cgroup above the one that `linux.cgroupsPath` names: `/parent/id`, or `slice:prefix:id` with systemd.
pub(super) fn parent(path: &str) -> Option<&str> {
    match path.split_once(':') {
        Some((slice, _)) => Some(slice).filter(|slice| !slice.is_empty()),
        None => path.rsplit_once('/').map(|(parent, _)| parent).filter(|parent| !parent.is_empty()),
    }
}

/// The profile: what the pod asked for (containerd keeps it), and whether there is a filter at all.
pub(super) fn seccomp(info: &Value) -> Seccomp {
    if info.pointer("/runtimeSpec/linux/seccomp").is_none_or(Value::is_null) {
        return Seccomp::Unconfined;
    }
    let asked = info.pointer("/config/linux/security_context/seccomp");
    let file = asked.and_then(|asked| asked.get("localhost_ref")).and_then(Value::as_str);
    match file.filter(|file| !file.is_empty()) {
        Some(file) => Seccomp::Profile(file.strip_prefix("localhost/").unwrap_or(file).to_owned()),
        None => Seccomp::Default,
    }
}

/// The user that the runtime was told.
pub(super) fn user(info: &Value) -> Option<String> {
    let user = info.pointer("/runtimeSpec/process/user")?;
    let number = |key: &str| user.get(key).and_then(Value::as_u64).unwrap_or(0);
    Some(format!("{}:{}", number("uid"), number("gid")))
}

/// When a container was made and how it ended.
pub(super) struct Life<'a> {
    pub(super) name: &'a str,
    pub(super) made: i64,
    pub(super) ended: Option<i64>,
    /// Whether it ended with exit code 0.
    pub(super) well: bool,
}

/// What each container of a pod is, by what happened. `lives` are in the order in which they were made.
///
/// A kubelet makes the next container only when an init container before it has ended well; it makes the ordinary
/// ones without waiting for each other. Whether one is restarted says nothing, so lives of one name belong together.
pub(super) fn kinds(lives: &[Life<'_>]) -> Vec<ContainerKind> {
    let first = |name: &str| lives.iter().filter(|life| life.name == name).map(|life| life.made).min();
    let is_init = |name: &str| {
        let well =
            lives.iter().filter(|life| life.name == name && life.well).filter_map(|life| life.ended).max();
        let alone = lives.iter().all(|life| life.name != name || life.ended.is_some());
        let (Some(well), Some(made), true) = (well, first(name), alone) else { return false };
        // Nobody was made while it ran, and somebody after it.
        let others = || lives.iter().filter(|life| life.name != name);
        others().all(|life| life.made < made || life.made >= well) && others().any(|life| life.made >= well)
    };
    let last_init = lives.iter().filter(|life| is_init(life.name)).map(|life| life.made).max();
    let kind = |life: &Life<'_>| {
        if is_init(life.name) {
            ContainerKind::Init
        } else if first(life.name) < last_init {
            ContainerKind::Sidecar
        } else {
            ContainerKind::Container
        }
    };
    lives.iter().map(kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ContainerKind::{Container, Init, Sidecar};

    fn check(lives: &[(&str, i64, Option<i64>, bool)], expected: &[ContainerKind]) {
        let lives: Vec<Life<'_>> =
            lives.iter().map(|&(name, made, ended, well)| Life { name, made, ended, well }).collect();
        assert_eq!(kinds(&lives), expected);
    }

    #[test]
    fn what_happened_tells_the_kinds() {
        check(&[("a", 1, None, false), ("b", 2, None, false)], &[Container, Container]);
        check(
            &[("i", 1, Some(5), true), ("a", 6, None, false), ("b", 7, None, false)],
            &[Init, Container, Container],
        );
        // A failed attempt of an init container is one too.
        check(
            &[("i", 1, Some(2), false), ("i", 3, Some(4), true), ("a", 5, None, false)],
            &[Init, Init, Container],
        );
        // A sidecar starts before the last init container and stays.
        check(
            &[("s", 1, None, false), ("i", 2, Some(4), true), ("a", 5, None, false)],
            &[Sidecar, Init, Container],
        );
        // An ordinary container that ends beside others, and one that crashed and was made anew.
        check(&[("a", 1, Some(9), true), ("b", 2, None, false)], &[Container, Container]);
        check(&[("a", 1, None, false), ("b", 2, Some(3), false), ("b", 4, None, false)], &[Container; 3]);
        // Alone, it may still become either.
        check(&[("i", 1, Some(5), true)], &[Container]);
    }

    #[test]
    fn cgroups_have_parents() {
        assert_eq!(parent("/kubepods/besteffort/pod1/abc"), Some("/kubepods/besteffort/pod1"));
        assert_eq!(parent("kubepods-pod1.slice:cri-containerd:abc"), Some("kubepods-pod1.slice"));
        assert_eq!(parent("/abc"), None);
    }

    #[test]
    fn a_profile_is_what_was_asked_for_and_loaded() {
        let info = |asked: &str, loaded: &str| {
            let text = format!(
                r#"{{"config":{{"linux":{{"security_context":{{"seccomp":{asked}}}}}}},"runtimeSpec":{{"linux":{{"seccomp":{loaded}}}}}}}"#
            );
            seccomp(&serde_json::from_str(&text).unwrap())
        };
        assert_eq!(info("{\"profile_type\":1}", "null"), Seccomp::Unconfined);
        assert_eq!(info("{}", "{}"), Seccomp::Default);
        let file = info("{\"profile_type\":2,\"localhost_ref\":\"/p/x.json\"}", "{}");
        assert_eq!(file, Seccomp::Profile("/p/x.json".to_owned()));
        assert_eq!(seccomp(&Value::Null), Seccomp::Unconfined);
    }
}
