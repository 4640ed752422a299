//! The names that engines give the cgroup of a container, in both directions.

/// What stands before a container's id in the name of its cgroup under the systemd driver.
/// Docker, Podman, CRI-O, containerd's CRI and nerdctl, in this order.
const PREFIXES: [&str; 5] = ["docker-", "libpod-", "crio-", "cri-containerd-", "nerdctl-"];

/// The directory names under which the engines make the cgroup of the container with this id, under the cgroupfs
/// driver and under the systemd driver.
#[must_use]
pub fn cgroup_names(id: &str) -> Vec<String> {
    let mut names = vec![id.to_owned(), format!("{id}.scope")];
    for prefix in PREFIXES {
        names.extend([format!("{prefix}{id}"), format!("{prefix}{id}.scope")]);
    }
    names
}

/// The container whose cgroup this is, or which it is nested in: 64 hexadecimal digits, as every engine but a bare
/// containerd makes them. The last such part of the path counts: a container in a container is the inner one.
#[must_use]
pub fn container_id(cgroup_path: &str) -> Option<&str> {
    cgroup_path.rsplit('/').find_map(|part| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        let id = PREFIXES.iter().find_map(|prefix| part.strip_prefix(prefix)).unwrap_or(part);
        let hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (id.len() == 64 && id.bytes().all(hexadecimal)).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "94e82014758ddf0f5375f78918eac4ce929a15e2a8d0f6adc05d05140bbeac32";

    #[test]
    fn every_name_leads_back() {
        for name in cgroup_names(ID) {
            for path in [format!("/kubepods/besteffort/pod1/{name}"), name.clone(), format!("/x/{name}/init")]
            {
                assert_eq!(container_id(&path), Some(ID), "{path}");
            }
        }
    }

    #[test]
    fn other_cgroups_are_no_containers() {
        let shorter = ID.get(1..).unwrap_or_default();
        for path in [
            "",
            "/",
            "/system.slice/ssh.service",
            &format!("/docker/{shorter}"),
            &format!("/libpod-conmon-{ID}.scope"),
            &format!("/docker/{}", ID.to_uppercase()),
        ] {
            assert_eq!(container_id(path), None, "{path}");
        }
    }

    #[test]
    fn nested_containers_are_the_inner_one() {
        let inner = ID.replace('9', "a");
        assert_eq!(container_id(&format!("/docker/{ID}/docker/{inner}")), Some(inner.as_str()));
    }
}
