//! `verify`: the gate of a CI job, in every case that it is for. The folders are copies of worked workloads and traces
//! of real programs; what a remedy says is run as it is written.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
};

use seccomp_learn_tests::cli::{Finished, binary, read_trace, run};
use serde_json::Value;
use trace::Trace;

mod decided;
mod fresh;
mod subject;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A copy of a worked workload, its profile made by this tool.
fn copy(outer: &Path, name: &str) -> PathBuf {
    let (from, folder) = (root().join("profiles/workloads").join(name), outer.join(name));
    fs::create_dir_all(folder.join("traces")).unwrap();
    fs::copy(from.join("workload.toml"), folder.join("workload.toml")).unwrap();
    for entry in fs::read_dir(from.join("traces")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join("traces").join(path.file_name().unwrap())).unwrap();
    }
    made(&folder);
    folder
}

fn workload(outer: &Path) -> PathBuf {
    copy(outer, "inference")
}

/// Makes the profile of a folder.
fn made(folder: &Path) {
    run(["synth".as_ref(), folder.as_os_str(), "-o".as_ref(), folder.join("profile.json").as_os_str()])
        .expect_code(0);
}

/// The lines that it prints. Whatever the evidence says nothing about has the command that records it.
#[track_caller]
fn verify(folder: &Path, options: &[&str], code: i32) -> Vec<String> {
    let mut arguments = vec!["verify".as_ref(), folder.as_os_str()];
    arguments.extend(options.iter().map(AsRef::<OsStr>::as_ref));
    let lines: Vec<String> = run(arguments).expect_code(code).stdout.lines().map(str::to_owned).collect();
    assert_eq!(of(&lines, "NO EVIDENCE").len(), remedies(&lines, "NO EVIDENCE").len(), "{lines:#?}");
    lines
}

fn of<'l>(lines: &'l [String], word: &str) -> Vec<&'l str> {
    lines.iter().map(String::as_str).filter(|line| line.starts_with(word)).collect()
}

/// The commands that it says to run where a check ended so.
fn remedies<'l>(lines: &'l [String], word: &str) -> Vec<&'l str> {
    let of_it = |check: &'l [String]| {
        check
            .iter()
            .filter(|_| check[0].starts_with(word))
            .find_map(|line| line.trim_start().strip_prefix("run: "))
    };
    lines.chunk_by(|_, next| next.starts_with(' ')).filter_map(of_it).collect()
}

/// What it says to run in place of that.
fn otherwise<'l>(lines: &'l [String], what: &str) -> &'l str {
    let start = format!("or, {what}: ");
    lines
        .iter()
        .find_map(|line| line.trim_start().strip_prefix(&start))
        .unwrap_or_else(|| panic!("{lines:#?}"))
}

/// Runs a command as it is written.
fn shell(command: &str) -> Finished {
    let path = format!("{}:{}", binary().parent().unwrap().display(), std::env::var("PATH").unwrap());
    Command::new("/bin/sh").args(["-c", command]).env("PATH", path).output().unwrap().into()
}

/// Changes the traces of a folder, and seals them again.
fn change(folder: &Path, with: impl Fn(&mut Trace)) {
    for entry in fs::read_dir(folder.join("traces")).unwrap() {
        let path = entry.unwrap().path();
        let mut trace = read_trace(&path);
        with(&mut trace);
        write(&path, trace);
    }
}

fn write(path: &Path, mut trace: Trace) {
    trace.seal().unwrap();
    let mut bytes = Vec::new();
    trace.write(&mut bytes).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Another run of the workload, with something changed.
fn another(folder: &Path, with: impl FnOnce(&mut Trace)) -> (PathBuf, String) {
    let mut trace = read_trace(&folder.join("traces/run-001.json"));
    trace.recorder.started = "2026-11-23T09:00:00.000Z".to_owned();
    with(&mut trace);
    let path = folder.with_file_name("fresh.json");
    write(&path, trace);
    let name = path.to_str().unwrap().to_owned();
    (path, name)
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} is not in {}", path.display());
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn decide(folder: &Path, verdict: &str, syscall: &str, expires: &str) {
    let expires = if expires.is_empty() { String::new() } else { format!("expires = \"{expires}\"\n") };
    let path = folder.join("workload.toml");
    let text = fs::read_to_string(&path).unwrap();
    let decision = format!(
        "\n[[decision]]\nverdict = \"{verdict}\"\nsyscall = \"{syscall}\"\nreason = \"looked at\"\nowner = \"sec\"\n{expires}"
    );
    fs::write(path, text + &decision).unwrap();
}

#[test]
fn what_is_as_it_was_made_is_verified() {
    for name in ["inference", "nim-llm", "webrtc-media"] {
        let outer = tempfile::tempdir().unwrap();
        let folder = copy(outer.path(), name);
        let lines = verify(&folder, &[], 0);
        for check in ["evidence", "replay", "rules", "synthesis", "ceiling", "decisions"] {
            assert_eq!(of(&lines, &format!("ok           {check}: ")).len(), 1, "{check}: {lines:#?}");
        }
        assert!(lines.last().unwrap().ends_with("is verified"), "{lines:#?}");
        let json = verify(&folder, &["--json"], 0);
        let values: Vec<Value> = json.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(values.iter().all(|value| value["version"] == 1));
        let result = values.last().unwrap();
        assert_eq!((&result["type"], &result["verified"]), (&"result".into(), &true.into()), "{result}");
    }
}

#[test]
fn what_cannot_be_verified_says_what_to_do() {
    let outer = tempfile::tempdir().unwrap();
    let empty = outer.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let said = run(["verify".as_ref(), empty.as_os_str()]).expect_code(2).stderr;
    assert!(said.contains("is no workload folder; make one with `seccomp-learn learn -o"), "{said}");
    let folder = workload(outer.path());
    let dir = folder.to_str().unwrap();
    for (option, value) in [("--image", "app:1.4"), ("--driver", "new"), ("--arch", "mips")] {
        let said = run(["verify", dir, option, value]).expect_code(2).stderr;
        assert!(said.contains("; write"), "{said}");
    }
    fs::remove_file(folder.join("profile.evidence.json")).unwrap();
    let said = run(["verify", dir]).expect_code(2).stderr;
    assert!(said.contains("has no `profile.evidence.json`; make it with `seccomp-learn synth"), "{said}");

    // A file of the folder in its place, and what can be read only once.
    let folder = copy(outer.path(), "nim-llm");
    let said = run(["verify".as_ref(), folder.join("profile.json").as_os_str()]).expect_code(2).stderr;
    assert!(
        said.contains(&format!("give its folder: `seccomp-learn verify {}`", folder.display())),
        "{said}"
    );
    let said = run(["verify", folder.to_str().unwrap(), "--fresh", "/dev/stdin"]).expect_code(2).stderr;
    assert!(said.contains("`/dev/stdin` is no file; a pipe can be read only once"), "{said}");
}

/// The command that it prints is about this very folder, whatever bytes its name has.
#[test]
fn a_remedy_finds_a_folder_of_any_name() {
    let outer = tempfile::tempdir().unwrap();
    for name in [b"it's two".as_slice(), b"caf\xff\n::error::x", "na\u{202e}me".as_bytes()] {
        let folder = outer.path().join(OsStr::from_bytes(name));
        fs::rename(workload(outer.path()), &folder).unwrap();
        decide(&folder, "deny", "setsockopt", "");
        let lines = verify(&folder, &[], 1);
        shell(remedies(&lines, "FAILED")[0]).expect_code(0);
        verify(&folder, &[], 0);
    }
}
