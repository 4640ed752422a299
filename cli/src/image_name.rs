//! Names of container images: which two are of one image, and what a digest in one says.

use anyhow::bail;
use trace::Digest;

/// The digest that a reference ends with; none where it names a tag.
///
/// # Errors
/// What stands after the `@` is no digest.
pub(crate) fn pinned(reference: &str) -> anyhow::Result<Option<Digest>> {
    let Some((_, digest)) = reference.rsplit_once('@') else { return Ok(None) };
    match digest.parse() {
        Ok(digest) => Ok(Some(digest)),
        Err(_) => bail!(
            "image `{reference}` has no digest after its `@`: `{digest}`; write it as `sha256:…`, or leave it out"
        ),
    }
}

/// The name without its tag and digest.
pub(crate) fn plain(reference: &str) -> &str {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((plain, tag)) if !tag.contains('/') => plain,
        _ => name,
    }
}

/// Whether two references are of the same program in another version, or at another registry: the last part of their
/// names is the same.
pub(crate) fn is_version_of(one: &str, other: &str) -> bool {
    let last = |reference| plain(reference).rsplit('/').next();
    last(one) == last(other)
}

/// Whether two names are of one image: engines write out what a short one leaves out.
pub(crate) fn is_same(asked: &str, recorded: &str) -> bool {
    let (asked, recorded) = (with_tag(asked), with_tag(recorded));
    let short = |name: &str| name.split_once('/').is_none_or(|(host, _)| !is_host(host));
    let ends = |long: &str, name: &str| {
        long.strip_suffix(name).is_some_and(|start| {
            start.ends_with('/')
                && start
                    .split_once('/')
                    .is_some_and(|(host, rest)| is_host(host) && (rest.is_empty() || rest == "library/"))
        })
    };
    asked == recorded
        || (short(&asked) && ends(&recorded, &asked))
        || (short(&recorded) && ends(&asked, &recorded))
}

/// A name with its tag, `latest` where it has none.
fn with_tag(name: &str) -> String {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let last = name.rsplit_once('/').map_or(name, |(_, last)| last);
    if last.contains(':') { name.to_owned() } else { format!("{name}:latest") }
}

/// Whether the first part of a name is a registry's: <https://github.com/distribution/reference> at v0.6.0, `normalize.go`.
fn is_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_image_are_told_from_those_of_another() {
        for (one, other) in [
            ("nginx", "nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("org/app:2", "docker.io/org/app:2"),
            ("app", "localhost/app:latest"),
            ("host.example:5000/app:2", "host.example:5000/app:2"),
        ] {
            assert!(is_same(one, other) && is_same(other, one), "{one} {other}");
        }
        for (one, other) in [
            ("nginx:1.27", "nginx:1.28"),
            ("nginx", "docker.io/other/nginx"),
            ("nginx:1.27", "host.example:5000/mynginx:1.27"),
            ("host.example/app:2", "other.example/app:2"),
            ("app", "app:2"),
        ] {
            assert!(!is_same(one, other) && !is_same(other, one), "{one} {other}");
        }
    }

    #[test]
    fn a_reference_is_taken_apart() {
        let digest = Digest::of(b"image").to_string();
        for (reference, name) in [
            ("app", "app"),
            ("host.example:5000/org/app", "host.example:5000/org/app"),
            ("host.example:5000/org/app:1.4", "host.example:5000/org/app"),
            ("host.example/app:1.4@sha256:00", "host.example/app"),
        ] {
            assert_eq!(plain(reference), name);
        }
        assert_eq!(pinned(&format!("app:1@{digest}")).unwrap().unwrap().to_string(), digest);
        assert!(pinned("app:1").unwrap().is_none());
        let error = pinned("host.example/app:1.4@sha256:xyz").unwrap_err().to_string();
        assert!(error.contains("no digest after its `@`: `sha256:xyz`; write"), "{error}");
        assert!(is_version_of("host.example:5000/org/app:1.4", "mirror.example/app@sha256:00"));
        assert!(!is_version_of("host.example/org/app:1.4", "host.example/org/tool:1.4"));
    }
}
