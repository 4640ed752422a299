//! How an installed profile is named to an engine: a pod's security context, Docker's and Podman's option.

/// The folder of our profiles below kubelet's folder of seccomp profiles.
pub const LOCALHOST_FOLDER: &str = "seccomp-learn";

/// What `localhostProfile` says for the installed profile of this name: a descending path relative to kubelet's
/// folder of seccomp profiles.
/// <https://kubernetes.io/docs/reference/node/seccomp/>
#[must_use]
pub fn localhost_profile(name: &str) -> String {
    format!("{LOCALHOST_FOLDER}/{name}.json")
}

/// The `securityContext` of a pod or a container, as YAML. A container's own one counts where both have one.
#[must_use]
pub fn security_context(localhost_profile: &str) -> String {
    format!(
        "securityContext:\n  seccompProfile:\n    type: Localhost\n    localhostProfile: {localhost_profile}\n"
    )
}

/// The words for `docker run` and `docker create`; the client reads the file and sends what is in it.
#[must_use]
pub fn docker_option(file: &str) -> String {
    format!("--security-opt seccomp={}", quoted(file))
}

/// The words for `podman run` and `podman create`; the file is read again at every start, so it must stay.
#[must_use]
pub fn podman_option(file: &str) -> String {
    docker_option(file)
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,@%=:".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_can_be_pasted() {
        assert_eq!(docker_option("/etc/a-b.json"), "--security-opt seccomp=/etc/a-b.json");
        assert_eq!(podman_option("/my files/it's.json"), r"--security-opt seccomp='/my files/it'\''s.json'");
        assert_eq!(
            security_context(&localhost_profile("nim-0123456789ab")),
            "securityContext:\n  seccompProfile:\n    type: Localhost\n    localhostProfile: seccomp-learn/nim-0123456789ab.json\n"
        );
    }
}
