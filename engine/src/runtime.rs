//! The version of an OCI runtime, from its own binary.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// How long `--version` may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where engines look for a runtime that is given by its name, beside `PATH`.
const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What the runtime's own binary says is its version: `runc version 1.1.5+ds1` gives `1.1.5`. `program` is a path,
/// or a name that is looked for where engines do. None where there is no such binary, or it says nothing of the kind.
#[must_use]
pub fn runtime_version(program: &str) -> Option<String> {
    let program = find(program)?;
    let mut child = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let start = Instant::now();
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.success(),
            Ok(None) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) | Err(_) => {
                // It is our own child, and not waited for yet.
                let _ = child.kill();
                let _ = child.wait();
                break false;
            }
        }
    };
    let mut text = String::new();
    child.stdout.take()?.take(4096).read_to_string(&mut text).ok()?;
    ended.then(|| version(&text)).flatten()
}

/// The version in a runtime's answer.
fn version(text: &str) -> Option<String> {
    let word = text.lines().next()?.split_whitespace().find(|word| {
        word.strip_prefix('v').unwrap_or(word).starts_with(|first: char| first.is_ascii_digit())
    })?;
    let word = word.strip_prefix('v').unwrap_or(word);
    // What a distribution appends (`+ds1`) says nothing about the program; a pre-release (`-rc.1`) does.
    Some(word.split(['+', '~', ',']).next().unwrap_or(word).to_owned())
}

/// The file behind a runtime's name.
fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Path::new(program).is_file().then(|| program.into());
    }
    FOLDERS.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.is_file())
}

/// The name of a runtime, from whatever an engine calls it: a path, `io.containerd.runc.v2`, `oci`, `runc`.
pub(crate) fn name(called: &str) -> Option<String> {
    let base = called.rsplit('/').next().unwrap_or(called);
    let name = match base.strip_prefix("io.containerd.") {
        Some(shim) => shim.split('.').next().unwrap_or(shim),
        None => base,
    };
    (!name.is_empty() && name != "oci").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_runtimes_write_them() {
        for (text, expected) in [
            ("runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\n", Some("1.1.5")),
            ("crun version 1.8.1\ncommit: f8a096be060b22ccd3d5f3ebe44108517fbf6c30\n", Some("1.8.1")),
            ("runc version 1.4.0-rc.1\n", Some("1.4.0-rc.1")),
            ("youki version 0.5.7\n", Some("0.5.7")),
            ("runsc version release-20240101.0\n", None),
            ("", None),
        ] {
            assert_eq!(version(text).as_deref(), expected, "{text:?}");
        }
        assert_eq!(runtime_version("/nonexistent/runc"), None);
    }

    #[test]
    fn names_are_bare() {
        for (called, expected) in [
            ("io.containerd.runc.v2", Some("runc")),
            ("/usr/bin/crun", Some("crun")),
            ("runc", Some("runc")),
            ("oci", None),
            ("", None),
        ] {
            assert_eq!(name(called).as_deref(), expected, "{called:?}");
        }
    }
}
