//! The OCI runtimes: runc as it is installed, crun also where it could not run by itself.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A crun that runs here: the installed one where cgroups are version 2 alone.
///
/// On a hybrid host crun refuses to work, and where CAP_SYS_RESOURCE is missing it cannot load the program that
/// guards devices. So it gets a mount namespace with a cgroup2 in place of everything, and a bundle without
/// resources; the container has its own cgroup at the usual place.
pub fn crun(folder: &Path) -> PathBuf {
    let installed = crate::programs::which("crun").expect("needs `crun`");
    if crate::cgroup::mount_point().is_some_and(|mount| mount == Path::new("/sys/fs/cgroup")) {
        return installed;
    }
    // Engines know a runtime by the last part of its path.
    let wrapper = folder.join("crun");
    let text = TEXT.replace("CRUN", installed.to_str().unwrap());
    fs::write(&wrapper, text).unwrap();
    fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    wrapper
}

const TEXT: &str = r#"#!/usr/bin/python3 -IS
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
words = sys.argv[1:]
if any(word in words for word in ("create", "run", "exec", "start", "kill", "delete", "state", "ps", "update")):
    for answer in (
        libc.unshare(CLONE_NEWNS),
        libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None),
        libc.mount(b"none", b"/sys/fs/cgroup", b"cgroup2", 0, None),
    ):
        if answer:
            sys.exit(os.strerror(ctypes.get_errno()))
if "create" in words or "run" in words:
    bundle = "."
    for index, word in enumerate(words):
        if word in ("--bundle", "-b"):
            bundle = words[index + 1]
        elif word.startswith("--bundle="):
            bundle = word.split("=", 1)[1]
    path = os.path.join(bundle, "config.json")
    with open(path) as file:
        config = json.load(file)
    config["linux"].pop("resources", None)
    with open(path, "w") as file:
        json.dump(config, file)
os.execv("CRUN", ["crun", *words])
"#;
