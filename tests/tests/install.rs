//! `install` and `uninstall`: a profile goes where its consumer finds it, once, after it was tried here; and what is
//! wrong is one line with what to do about it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use seccomp_learn_tests::cli::{Finished, seccomp_learn};
use serde_json::{Value, json};

/// A folder with a kubelet's root in it, and profiles beside it.
struct Node(tempfile::TempDir);

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("kubelet/pods")).unwrap();
        fs::create_dir(folder.path().join("engine")).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// With engines' sockets that are nowhere, so that only this folder is looked at.
    fn run(&self, verb: &str, arguments: &[&str]) -> Finished {
        let mut command = self.command(verb, arguments);
        command.output().unwrap().into()
    }

    fn command(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command = seccomp_learn([verb]);
        let root = if arguments.contains(&"--for") { "engine" } else { "kubelet" };
        command.args(arguments).arg("--root").arg(self.path(root)).current_dir(self.0.path());
        let nowhere = format!("unix://{}", self.path("nowhere").display());
        for name in ["DOCKER_HOST", "CONTAINER_HOST", "CONTAINERD_ADDRESS", "CONTAINER_RUNTIME_ENDPOINT"] {
            command.env(name, &nowhere);
        }
        command
    }

    /// Every file below, relative, in order.
    fn files(&self, below: &str) -> Vec<String> {
        fn walk(folder: &Path, base: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, base, found);
                } else {
                    found.push(path.strip_prefix(base).unwrap().display().to_string());
                }
            }
        }
        let (base, mut found) = (self.path(below), Vec::new());
        walk(&base, &base, &mut found);
        found.sort();
        found
    }

    fn write(&self, name: &str, content: &Value) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content.to_string()).unwrap();
        path.display().to_string()
    }

    /// A learned profile with its evidence in folder `nim`, changed by `change`.
    fn learned(&self, options: &[&str], change: impl Fn(&mut Value)) -> String {
        let folder = self.path("nim");
        fs::create_dir_all(&folder).unwrap();
        let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/../trace/tests/golden/1.0-ebpf.json");
        let profile = folder.join("profile.json");
        let mut synth = seccomp_learn(["synth", trace, "-o"]);
        let made: Finished = synth.arg(&profile).args(options).output().unwrap().into();
        made.expect_code(0);
        let evidence = folder.join("profile.evidence.json");
        let mut content: Value = serde_json::from_slice(&fs::read(&evidence).unwrap()).unwrap();
        change(&mut content);
        fs::write(&evidence, content.to_string()).unwrap();
        folder.display().to_string()
    }
}

/// Ends with this code, and with all of these words on standard error; nothing is where profiles go.
#[track_caller]
fn refused(node: &Node, finished: Finished, code: i32, words: &[&str]) {
    let finished = finished.expect_code(code);
    for word in words {
        assert!(finished.stderr.contains(word), "no {word:?} in {:?}", finished.stderr);
    }
    assert!(finished.stdout.is_empty(), "{:?}", finished.stdout);
    assert_eq!(node.files("kubelet"), [""; 0]);
    assert_eq!(node.files("engine"), [""; 0]);
}

fn profile(names: &[&str]) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }]
    })
}

#[test]
fn a_profile_is_where_kubelet_finds_it_under_a_name_with_its_digest() {
    let node = Node::new();
    let folder = node.learned(&[], |_| ());
    let first = node.run("install", &[&folder]).expect_code(0);
    let [file] = node.files("kubelet").try_into().unwrap();
    let bytes = fs::read(node.path("kubelet").join(&file)).unwrap();
    assert_eq!(bytes, fs::read(node.path("nim/profile.json")).unwrap());
    let digest = trace::Digest::of(&bytes).to_string();
    let name = format!("nim-{}", &digest[7..19]);
    assert_eq!(file, format!("seccomp/seccomp-learn/{name}.json"));
    let mode = fs::metadata(node.path("kubelet").join(&file)).unwrap().permissions().mode();
    assert_eq!(mode & 0o444, 0o444, "whoever loads it can read it");
    assert!(first.stderr.contains("installed ") && first.stderr.contains(&digest), "{}", first.stderr);
    assert_eq!(
        first.stdout,
        format!(
            "securityContext:\n  seccompProfile:\n    type: Localhost\n    localhostProfile: seccomp-learn/{name}.json\n"
        )
    );
    let again = node.run("install", &[&folder, "--json"]).expect_code(0);
    let said: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!((&said["new"], &said["name"], &said["digest"]), (&json!(false), &json!(name), &json!(digest)));
    assert_eq!(said["localhostProfile"], json!(format!("seccomp-learn/{name}.json")));
    assert_eq!(node.files("kubelet").len(), 1);
}

#[test]
fn docker_and_podman_get_the_words_for_their_command_line() {
    let node = Node::new();
    let lone = node.write("my profile.json", &profile(&["read", "execve"]));
    for engine in ["docker", "podman"] {
        let done = node.run("install", &[&lone, "--for", engine, "--name", "small"]).expect_code(0);
        assert!(done.stderr.contains("there is no evidence beside it"), "{}", done.stderr);
        let [file] = node.files("engine").try_into().unwrap();
        let path = node.path("engine").join(file);
        assert_eq!(done.stdout, format!("--security-opt seccomp={}\n", path.display()));
    }
    assert!(node.files("engine")[0].starts_with("small-"), "{:?}", node.files("engine"));
    let named = node.run("install", &[&lone, "--for", "docker"]).expect_code(0);
    assert!(named.stdout.contains("/my-profile-"), "{}", named.stdout);
}

#[test]
fn the_profile_to_record_under_allows_everything() {
    let node = Node::new();
    node.run("install", &["--observe"]).expect_code(0);
    let [file] = node.files("kubelet").try_into().unwrap();
    let installed: Value =
        serde_json::from_slice(&fs::read(node.path("kubelet").join(&file)).unwrap()).unwrap();
    assert_eq!(installed["defaultAction"], "SCMP_ACT_ALLOW");
    assert!(installed["syscalls"].as_array().is_some_and(|entries| !entries.is_empty()), "{installed}");
    assert!(node.run("install", &["--observe", "docker"]).code == 2, "a profile or --observe, not both");
}

#[test]
fn what_is_there_is_never_overwritten() {
    let node = Node::new();
    let lone = node.write("small.json", &profile(&["read", "execve"]));
    node.run("install", &[&lone]).expect_code(0);
    let [file] = node.files("kubelet").try_into().unwrap();
    let path = node.path("kubelet").join(file);
    fs::write(&path, "somebody else's").unwrap();
    let done = node.run("install", &[&lone]).expect_code(2);
    assert!(
        done.stderr.contains("is there with other content") && done.stderr.contains("`--name`"),
        "{done:?}"
    );
    assert_eq!(fs::read_to_string(path).unwrap(), "somebody else's");
}

#[test]
fn a_name_that_this_libseccomp_does_not_know_is_refused() {
    let node = Node::new();
    // New calls; which of them is unknown depends on the library here.
    let new = ["mseal", "statmount", "listmount", "setxattrat", "open_tree_attr", "file_getattr", "listns"];
    let known = |name: &str| synth::host_knows(name);
    let Some(unknown) = new.into_iter().find(|name| synth::is_syscall(name) && !known(name)) else {
        return seccomp_learn_tests::skip("this host's libseccomp knows every call");
    };
    let allowing = node.write("new.json", &profile(&["read", "execve", unknown]));
    let words = [
        &format!("`{unknown}` would be refused although"),
        "libseccomp",
        "does not know the name",
        "update libseccomp",
    ];
    refused(&node, node.run("install", &[&allowing]), 1, &words);
    // One that is answered with an errno only gets another errno: that is said.
    let mut answering = profile(&["read", "execve"]);
    let entry = json!({ "names": [unknown], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 });
    answering["syscalls"].as_array_mut().unwrap().push(entry);
    let answering = node.write("answering.json", &answering);
    let done = node.run("install", &[&answering]).expect_code(0);
    assert!(
        done.stderr.contains(&format!("note: `{unknown}` will be answered as the profile's default")),
        "{done:?}"
    );
}

#[test]
fn a_profile_that_the_kernel_does_not_take_is_refused() {
    let node = Node::new();
    let entries: Vec<Value> = (0..1100)
        .map(|value| {
            json!({
                "names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": 1, "value": value * 7, "op": "SCMP_CMP_EQ" },
                         { "index": 0, "value": value, "op": "SCMP_CMP_EQ" }]
            })
        })
        .collect();
    let long = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": entries });
    let long = node.write("long.json", &long);
    refused(&node, node.run("install", &[&long]), 2, &["at most 4096 instructions"]);
}

#[test]
fn a_host_that_the_evidence_is_not_about_is_named() {
    let check = |options: &[&str], change: &dyn Fn(&mut Value), words: &[&str]| {
        let node = Node::new();
        let folder = node.learned(options, change);
        refused(&node, node.run("install", &[&folder]), 3, words);
        let done = node.run("install", &[&folder, "--accept-other-host"]).expect_code(0);
        assert!(done.stderr.contains("warning: "), "{}", done.stderr);
        assert_eq!(node.files("kubelet").len(), 1);
    };
    let other = if cfg!(target_arch = "x86_64") { "aarch64" } else { "x86_64" };
    check(&[], &|e| e["workload"]["native"] = json!(other), &["learned on", other, "this machine is"]);
    check(
        &[],
        &|e| e["workload"]["gpu_driver"] = json!({ "vendor": "nvidia", "version": "1.2.3" }),
        &["nvidia driver 1.2.3", "learn"],
    );
    check(
        &["--margin", "none"],
        &|e| e["workload"]["kernel"] = json!("4.1.0"),
        &["learned on kernel 4.1.0", "`--margin portable`"],
    );
    check(&["--runtime", "none"], &|_| (), &["`--runtime none`", "cannot start a container"]);
    let node = Node::new();
    let folder = node.learned(&[], |e| e["workload"]["kernel"] = json!("4.1.0"));
    let done = node.run("install", &[&folder]).expect_code(0);
    assert!(done.stderr.contains("note: it was learned on kernel 4.1.0"), "{}", done.stderr);
}

#[test]
fn the_runtime_of_the_evidence_is_compared_with_the_one_here() {
    let node = Node::new();
    let program = |folder: &str, says: &str| {
        let path = node.path(folder).join("runc");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    let (new, strange, fits) = (
        program("new", "runc version 9.9.9"),
        program("strange", "runc version devel"),
        program("fits", "runc version 1.1.99+mine"),
    );
    let folder = node.learned(&["--runtime", "runc"], |e| {
        e["options"]["runtime"] = json!(["runc 1.1.5"]);
        e["workload"]["runtime"] = json!("runc 1.1.5");
    });
    let words = ["the profile is for runc 1.1.5", "is 9.9.9", "runtime-base"];
    refused(&node, node.run("install", &[&folder, "--runtime", &new]), 3, &words);
    let words = ["the version of", "is not known", "runc version devel", "runtime-base", "`--runtime`"];
    refused(&node, node.run("install", &[&folder, "--runtime", &strange]), 3, &words);
    let crun = program("other", "crun version 1.8.1").replace("/runc", "/crun");
    fs::copy(node.path("other/runc"), &crun).unwrap();
    let words = ["learned under runc 1.1.5", "here is only", "install runc"];
    refused(&node, node.run("install", &[&folder, "--runtime", &crun]), 3, &words);
    let words = ["cannot ask the runtime", "command not found: `/no/such/runc`"];
    refused(&node, node.run("install", &[&folder, "--runtime", "/no/such/runc"]), 2, &words);
    node.run("install", &[&folder, "--runtime", &fits]).expect_code(0);
}

#[test]
fn bad_input_is_one_line_with_what_to_do() {
    let node = Node::new();
    let lone = node.write("small.json", &profile(&["read", "execve"]));
    fs::create_dir(node.path("empty")).unwrap();
    let at = |root: &str, more: &[&str]| -> Finished {
        let mut command = seccomp_learn(["install", &lone, "--root", root]);
        command.args(more).output().unwrap().into()
    };
    let empty = node.path("empty").display().to_string();
    let missing = node.path("missing").display().to_string();
    refused(&node, at(&empty, &[]), 2, &["is no root of a kubelet", "`--root`", "has not started yet"]);
    refused(&node, at(&missing, &[]), 2, &["is no directory", "`--root`"]);
    refused(&node, at(&missing, &["--for", "docker"]), 2, &["is no directory", "`--root`"]);
    // Nobody can make a file there, not even root.
    refused(&node, at("/proc", &["--for", "podman"]), 2, &["cannot write", "run as root", "`--root`"]);
    refused(
        &node,
        node.run("install", &[&lone, "--name", "No/Name"]),
        2,
        &["`No/Name` is no name for a profile"],
    );
    refused(
        &node,
        node.run("install", &["no-such"]),
        2,
        &["cannot read `no-such`", "docker, podman, containerd"],
    );
    refused(&node, node.run("install", &[]), 2, &["PROFILE|DIR"]);
    let folder = node.learned(&[], |e| e["profile"] = json!(format!("sha256:{}", "0".repeat(64))));
    refused(&node, node.run("install", &[&folder]), 2, &["is the evidence of another profile", "anew"]);
}

#[test]
fn what_is_not_in_use_is_taken_away_by_any_of_its_names() {
    let node = Node::new();
    let lone = node.write("small.json", &profile(&["read", "execve"]));
    let install = || {
        let done = node.run("install", &[&lone, "--json"]).expect_code(0);
        let said: Value = serde_json::from_str(&done.stdout).unwrap();
        said
    };
    let text = |said: &Value, key: &str| said[key].as_str().unwrap().to_owned();
    for key in ["name", "localhostProfile", "path"] {
        let name = text(&install(), key);
        let done = node.run("uninstall", &[&name]).expect_code(0);
        assert!(done.stdout.starts_with("removed /"), "{done:?}");
        assert!(done.stderr.contains("no container engine answers here"), "{done:?}");
        assert_eq!(node.files("kubelet"), [""; 0], "{key}");
    }
    for name in ["small", &lone] {
        install();
        node.run("uninstall", &[name]).expect_code(0);
        assert_eq!(node.files("kubelet"), [""; 0], "{name}");
    }
    refused(&node, node.run("uninstall", &["small"]), 2, &["`small` is not installed in", "`--root`"]);
    let first = text(&install(), "name");
    let other = node.write("other/small.json", &profile(&["write", "execve"]));
    node.run("install", &[&other]).expect_code(0);
    let done = node.run("uninstall", &["small"]).expect_code(2);
    assert!(done.stderr.contains("is installed as") && done.stderr.contains(&first), "{done:?}");
    let done = node.run("uninstall", &["never"]).expect_code(2);
    assert!(done.stderr.contains("`never` is not installed in") && done.stderr.contains(&first), "{done:?}");
    assert_eq!(node.files("kubelet").len(), 2);
}

#[test]
fn an_engine_that_cannot_be_asked_stops_the_removal() {
    let node = Node::new();
    let lone = node.write("small.json", &profile(&["read", "execve"]));
    node.run("install", &[&lone]).expect_code(0);
    let socket = node.path("gone.sock").display().to_string();
    let asked = ["small", "--engine", "docker", "--engine-socket", &socket];
    let done = node.run("uninstall", &asked).expect_code(2);
    assert!(done.stderr.contains("gone.sock") && done.stderr.contains("`--without-asking`"), "{done:?}");
    assert_eq!(node.files("kubelet").len(), 1);
    // Somebody else behind the socket.
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    node.run("uninstall", &asked).expect_code(2);
    let forced: Vec<&str> = asked.iter().copied().chain(["--without-asking"]).collect();
    node.run("uninstall", &forced).expect_code(0);
    assert_eq!(node.files("kubelet"), [""; 0]);
}
