//! `diff`: by meaning, with the evidence, for profiles, recordings and folders.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use seccomp_learn_tests::{
    cli::{Finished, run, seccomp_learn},
    made::{row, row_with, trace, write},
};
use serde_json::Value;
use trace::{Errno, Outcome, Row};

fn diff<S: AsRef<std::ffi::OsStr>>(arguments: &[S], code: i32) -> Finished {
    let arguments = arguments.iter().map(|argument| argument.as_ref().to_owned());
    run(["diff".into()].into_iter().chain(arguments)).expect_code(code)
}

fn json(arguments: &[&Path], code: i32) -> Value {
    let mut all: Vec<&Path> = vec!["--format".as_ref(), "json".as_ref()];
    all.extend(arguments);
    let finished = diff(&all, code);
    assert_eq!(finished.stdout.lines().count(), 1);
    serde_json::from_str(&finished.stdout).unwrap()
}

fn profile(folder: &Path, name: &str, syscalls: &str) -> PathBuf {
    let path = folder.join(name);
    let text = format!(
        r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [{syscalls}]}}"#
    );
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn another_spelling_of_the_same_is_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    let old = profile(
        folder.path(),
        "old.json",
        r#"{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
           {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}"#,
    );
    let new = profile(
        folder.path(),
        "new.json",
        r#"{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
               {"index": 0, "value": 18446744073709551615, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]},
           {"names": ["write"], "action": "SCMP_ACT_ALLOW"},
           {"names": ["read"], "action": "SCMP_ACT_ALLOW"}"#,
    );
    assert_eq!(diff(&[&old, &new], 0).stdout, "no difference: both answer every call alike\n");
    assert_eq!(json(&[&old, &new], 0)["calls"], Value::Array(Vec::new()));
    diff(&["docker", "docker"], 0);
    // What has no traces is not compared by its profile in their place.
    let said = diff(&["docker", "docker", "--traces"], 2).stderr;
    assert!(said.contains("`docker` is no folder, of which `--traces` would take the traces"), "{said}");
}

#[test]
fn what_changed_in_words_and_for_programs() {
    let folder = tempfile::tempdir().unwrap();
    let only = |value: u64| {
        format!(
            r#"{{"names": ["socket"], "action": "SCMP_ACT_ALLOW",
                "args": [{{"index": 0, "value": {value}, "op": "SCMP_CMP_EQ"}}]}}"#
        )
    };
    let allow = |name: &str| format!(r#"{{"names": ["{name}"], "action": "SCMP_ACT_ALLOW"}}"#);
    let enosys = r#"{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}"#;
    let old = profile(folder.path(), "old.json", &[only(1), only(2), allow("mount"), allow("bpf")].join(","));
    let new = profile(
        folder.path(),
        "new.json",
        &[only(1), only(16), allow("ptrace"), enosys.to_owned()].join(","),
    );
    let said = diff(&[&old, &new], 1).stdout;
    let expected = "\
5 calls differ: 1 newly allowed, 1 with other conditions, 2 no longer allowed, 1 with another answer

newly allowed
  ptrace

other conditions
  socket
      was: domain in {AF_UNIX, AF_INET}
      now: domain in {AF_UNIX, AF_NETLINK}
      also: domain == AF_NETLINK
      for example socket(AF_NETLINK, 0, NETLINK_ROUTE): EPERM, now allowed
      no longer: domain == AF_INET
      for example socket(AF_INET, 0, IPPROTO_IP): allowed, now EPERM

no longer allowed
  bpf, mount

another answer
  EPERM, now ENOSYS: 1 call
      clone3
";
    assert_eq!(said, expected);
    let found = json(&[&old, &new], 1);
    assert_eq!(
        (&found["type"], &found["version"], &found["of"]),
        (&"difference".into(), &1.into(), &"profiles".into())
    );
    let calls = found["calls"].as_array().unwrap();
    let socket = calls.iter().find(|call| call["name"] == "socket").unwrap();
    assert_eq!(socket["change"], "moved");
    assert_eq!(socket["gained"]["when"], serde_json::json!(["domain == AF_NETLINK"]));
    assert_eq!(socket["gained"]["example"][0], "0x10");
    assert_eq!(socket["places"], serde_json::json!([{ "abi": "x86_64", "first": 41, "last": 41 }]));
    assert_eq!(socket["evidence"], serde_json::json!({ "old": null, "new": null }));
    // A reader that has seen enough is no error.
    let mut command = seccomp_learn(["diff"]);
    let mut child = command.args([&old, &new]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn an_abi_that_is_listed_or_not_is_told_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let old =
        profile(folder.path(), "old.json", r#"{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}"#);
    let text = fs::read_to_string(&old).unwrap();
    let new = folder.path().join("new.json");
    fs::write(&new, text.replace("\"SCMP_ARCH_X86_64\"", "\"SCMP_ARCH_X86_64\", \"SCMP_ARCH_X86\"")).unwrap();
    let said = diff(&[&old, &new], 1).stdout;
    let line =
        "i386 is only in the new profile: 2 calls let through, where the old one answers thread killed\n";
    assert!(said.ends_with(line), "{said}");
    assert_eq!(said.lines().count(), 3, "{said}");
}

/// A folder as `learn` makes it, of one recorded run.
fn workload(folder: &Path, name: &str, rows: Vec<Row>) -> PathBuf {
    let folder = folder.join(name);
    fs::create_dir_all(folder.join("traces")).unwrap();
    fs::write(folder.join("workload.toml"), "[target]\ncommand = [\"worker\"]\n").unwrap();
    write(&trace(1, rows), &folder.join("traces"), "run-001.json");
    let profile = folder.join("profile.json");
    run([Path::new("synth"), &folder, Path::new("-o"), &profile]).expect_code(0);
    folder
}

#[test]
fn evidence_stands_beside_what_changed() {
    let place = tempfile::tempdir().unwrap();
    let old = workload(place.path(), "old", vec![row("read", 3, "sh"), row("mlockall", 1, "sh")]);
    let new =
        workload(place.path(), "new", vec![row("read", 3, "sh"), row("sysinfo", 2, "py\u{1b}[31m\nthon")]);
    let said = diff(&[&old, &new], 1).stdout;
    assert!(
        said.contains("  sysinfo\n      observed: 2 calls in 1 run, startup; first by py\\u{1b}[31m\\u{a}thon (pid 4711) after 12 ms\n"),
        "{said}"
    );
    assert!(
        said.contains("  mlockall\n      before: observed: 1 call in 1 run, startup; first by sh (pid 4711) after 12 ms\n"),
        "{said}"
    );
    assert!(!said.contains('\u{1b}'));
    let found = json(&[&old, &new], 1);
    let sysinfo = found["calls"].as_array().unwrap().iter().find(|call| call["name"] == "sysinfo").unwrap();
    assert_eq!(sysinfo["evidence"]["old"], serde_json::json!([]));
    assert_eq!(sysinfo["evidence"]["new"][0]["kind"], "observed");
    assert_eq!(sysinfo["evidence"]["new"][0]["first"]["pid"], 4711);
    // The evidence beside a file counts as well, unless it is about another profile.
    let files = [&old, &new].map(|folder| folder.join("profile.json"));
    assert_eq!(diff(&files, 1).stdout, said);
    fs::copy(&files[0], &files[1]).unwrap();
    let stale = diff(&files, 0);
    assert!(stale.stderr.contains("is about another profile"), "{}", stale.stderr);
}

/// Of more arguments than a recording keeps nobody knows whether they are the same.
#[test]
fn what_cannot_be_told_is_neither_a_difference_nor_none() {
    let folder = tempfile::tempdir().unwrap();
    let wide = |run: u64, name: &str, mut rows: Vec<Row>| {
        let mut socket = row_with("socket", &["domain"], &[&[1], &[2]]);
        socket.calls += run;
        socket.outcomes = [(Outcome::Ok, socket.calls)].into();
        let arguments = socket.arguments.as_mut().unwrap();
        (arguments.wide, arguments.beyond) = (true, run);
        rows.push(socket);
        write(&trace(run, rows), folder.path(), name)
    };
    let old = wide(1, "old.json", Vec::new());
    let new = wide(2, "new.json", Vec::new());
    let other = wide(3, "other.json", vec![row("read", 1, "sh")]);
    let said = diff(&[&old, &new], 3).stdout;
    assert!(said.starts_with("it cannot be told whether they differ: "), "{said}");
    json(&[&old, &new], 3);
    assert!(!diff(&[&old, &other], 1).stdout.contains("it cannot be told whether they differ"));
}

#[test]
fn recordings_differ_in_what_was_called_and_how_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let failed = |mut row: Row| {
        row.outcomes = [(Outcome::Error(Errno::ENOSYS), row.calls)].into();
        row
    };
    let families = ["domain", "type"];
    let old = vec![
        row("read", 3, "sh"),
        row_with("socket", &families, &[&[1, 1], &[2, 1]]),
        row("getrandom", 1, "sh"),
        row("clone3", 1, "sh"),
    ];
    let new = vec![
        row("read", 9, "other"),
        row_with("socket", &families, &[&[1, 1], &[16, 3]]),
        row("sysinfo", 1, "worker"),
        failed(row("clone3", 2, "sh")),
    ];
    let (old, new) =
        (write(&trace(1, old), folder.path(), "old.json"), write(&trace(2, new), folder.path(), "new.json"));
    let expected = "\
1 call new, 1 call gone, 2 calls changed

new
  sysinfo
      1 call, startup; first by worker (pid 4711) after 12 ms

gone
  getrandom
      1 call, startup; first by sh (pid 4711) after 12 ms

changed
  clone3
      no longer succeeds (ENOSYS 2; it was ok 1)
  socket
      now socket(AF_NETLINK, SOCK_RAW): 1 call, startup; first by worker (pid 4711) after 12 ms
      no longer socket(AF_INET, SOCK_STREAM): 1 call, startup; first by worker (pid 4711) after 12 ms
";
    assert_eq!(diff(&[&old, &new], 1).stdout, expected);
    let found = json(&[&old, &new], 1);
    assert_eq!(found["of"], "traces");
    let socket = found["calls"].as_array().unwrap().iter().find(|call| call["name"] == "socket").unwrap();
    assert_eq!(socket["arguments"][0]["call"], "socket(AF_NETLINK, SOCK_RAW)");
    assert_eq!(socket["change"], "changed");
    assert_eq!(diff(&[&old, &old], 0).stdout, "no difference: both show the same calls\n");
    // Two of a kind; a folder is of both kinds.
    let finished = diff(&[old.as_path(), Path::new("docker")], 2);
    assert!(finished.stderr.contains("`docker` is a profile and `"), "{}", finished.stderr);
    let place = tempfile::tempdir().unwrap();
    let one = workload(place.path(), "one", vec![row("read", 3, "sh")]);
    let two = workload(place.path(), "two", vec![row("read", 1, "sh"), row("sysinfo", 1, "sh")]);
    for arguments in [[one.as_path(), &new], [new.as_path(), &one]] {
        assert_eq!(json(&arguments, 1)["of"], "traces");
    }
    assert_eq!(json(&[&one, &two], 1)["of"], "profiles");
    assert_eq!(json(&[Path::new("--traces"), &one, &two], 1)["of"], "traces");
}

#[test]
fn bad_input_is_refused_with_the_culprit() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.json");
    fs::write(&bad, r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "agrs": []}]}"#).unwrap();
    let check = |arguments: &[&Path], culprit: &str| {
        let finished = diff(arguments, 2);
        assert!(finished.stderr.contains(culprit), "no {culprit:?} in {}", finished.stderr);
        assert_eq!(finished.stdout, "");
    };
    check(&[Path::new("docker"), &bad], "agrs");
    check(&[Path::new("docker"), Path::new("dokcer")], "cannot read `dokcer`");
    check(&[Path::new("/dev/null"), Path::new("docker")], "`/dev/null` is no file");
}
