//! Bad input gets one clear line with the culprit, exit code 2 (3 where it is the evidence), and overwrites nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use seccomp_learn_tests::{
    cli::{Finished, binary, run},
    made::{row, trace, write},
    programs::which,
    require, skip,
};

const KEPT: &str = "what was there before";

/// Runs with `-o FILE` on a file that must stay as it is, and returns what was said.
fn refused(arguments: &[&str], code: i32, culprit: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("kept");
    fs::write(&output, KEPT).unwrap();
    let mut all = vec![arguments[0], "-o", output.to_str().unwrap()];
    all.extend(&arguments[1..]);
    check(run(&all), code, culprit);
    assert_eq!(fs::read_to_string(&output).unwrap(), KEPT, "{arguments:?} overwrote the output");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{arguments:?} left something");
}

#[track_caller]
fn check(finished: Finished, code: i32, culprit: &str) {
    let finished = finished.expect_code(code);
    let line = finished.stderr.lines().find(|line| line.contains("error")).unwrap_or_default();
    assert!(line.contains(culprit), "no {culprit:?} in {:?}", finished.stderr);
    assert_eq!(finished.stdout, "");
}

#[test]
fn targets_that_are_not_there() {
    require!();
    refused(&["record", "--cgroup", "/no/such/group"], 2, "no such cgroup `/no/such/group`");
    refused(&["record", "--cgroup", "/tmp"], 2, "no such cgroup `/tmp`");
    refused(&["record", "--pid", "4194303"], 2, "no such process `4194303`");
    refused(&["record", "--pid", &std::process::id().to_string()], 2, "cannot record itself");
}

#[test]
fn commands_that_cannot_run() {
    for backend in ["auto", "notify"] {
        refused(&["record", "--backend", backend, "--", "no-such-command"], 2, "`no-such-command`");
        refused(&["record", "--backend", backend, "--", "/etc/passwd"], 2, "`/etc/passwd`");
        refused(&["record", "--backend", backend, "--", "/"], 2, "`/`");
    }
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("bad-interpreter");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    Command::new("chmod").arg("755").arg(&script).status().unwrap();
    refused(&["record", "--", script.to_str().unwrap()], 2, "bad-interpreter");
}

#[test]
fn outputs_that_cannot_be_written() {
    for output in ["/proc/trace.json", "/no/such/folder/trace.json", "/"] {
        check(run(["record", "-o", output, "--", "/bin/true"]), 2, &format!("cannot write `{output}`"));
    }
}

/// A file that not even root can replace.
struct Immutable(PathBuf);

impl Immutable {
    fn new(path: PathBuf) -> Option<Self> {
        let is_set = Command::new("chattr").arg("+i").arg(&path).output().unwrap().status.success();
        is_set.then_some(Self(path))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

/// A profile and its reasons belong together: where one of them cannot be replaced the other one is not.
#[test]
fn a_profile_and_its_evidence_are_replaced_together() {
    if which("chattr").is_none() {
        return skip("needs `chattr`");
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let [first, second] = [("one.json", "mount"), ("two.json", "ptrace")]
        .map(|(name, call)| write(&trace(1, vec![row(call, 1, "cat")]), folder.path(), name));
    let profile = at("profile.json");
    let synth = |trace: &Path| {
        run(["synth", "--ceiling", "none", "-o"]
            .map(AsRef::as_ref)
            .into_iter()
            .chain([profile.as_os_str(), trace.as_os_str()]))
    };
    synth(&first).expect_code(0);
    let files = ["profile.json", "profile.evidence.json"].map(at);
    let texts = || files.each_ref().map(|file| fs::read_to_string(file).unwrap());
    let before = texts();
    for file in &files {
        let Some(immutable) = Immutable::new(file.clone()) else {
            return skip("the file system has no immutable files");
        };
        check(synth(&second), 2, &format!("cannot write `{}`", file.display()));
        drop(immutable);
        assert_eq!(texts(), before);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4, "something is left");
    }
    synth(&second).expect_code(0);
    assert!(texts().iter().zip(&before).all(|(now, before)| now != before));
}

/// Among thousands of files the ones that it is about can be found.
#[test]
fn what_it_is_about_is_named_by_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    for (number, call) in [(1, "read"), (2, "write"), (3, "close")] {
        write(&trace(number, vec![row(call, 1, "cat")]), folder.path(), &format!("{number}.json"));
    }
    let merge = |output: &str, inputs: &[&str]| {
        let inputs: Vec<String> = inputs.iter().map(|name| at(name)).collect();
        run(["merge".to_owned(), "-o".to_owned(), at(output)].into_iter().chain(inputs))
    };
    merge("12.json", &["1.json", "2.json"]).expect_code(0);
    merge("23.json", &["2.json", "3.json"]).expect_code(0);
    let both = format!("`{}` and `{}` share run `sha256:", at("12.json"), at("23.json"));
    check(merge("all.json", &["1.json", "12.json", "3.json", "23.json"]), 2, &both);
    let empty = at("empty");
    fs::create_dir(&empty).unwrap();
    for verb in ["replay", "review"] {
        let remedy = format!("`seccomp-learn synth {empty} -o {empty}/profile.json`");
        check(run([verb, &empty]), 2, &format!("`{empty}` has no `profile.json`; make one with {remedy}"));
    }
    run(["synth", "-o", &at("profile.json"), &at("1.json")]).expect_code(0);
    check(
        run(["merge", "-o", &at("all.json"), &at("profile.json")]),
        2,
        "this is a seccomp profile, not a trace",
    );
}

/// A named pipe gets the result and stays; what a link names is replaced, and not the link.
#[test]
fn a_pipe_and_a_link_stay_what_they_are() {
    use std::os::unix::fs::FileTypeExt;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let trace = write(&trace(1, vec![row("read", 1, "cat")]), folder.path(), "trace.json");
    let merge = |output: &Path| {
        run(["merge".as_ref(), "-o".as_ref(), output.as_os_str(), trace.as_os_str()]).expect_code(0)
    };
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = at("pipe");
        move || fs::read(pipe).unwrap()
    });
    merge(&at("pipe"));
    assert!(fs::metadata(at("pipe")).unwrap().file_type().is_fifo());
    assert_eq!(reader.join().unwrap(), fs::read(&trace).unwrap());
    std::os::unix::fs::symlink("named", at("link")).unwrap();
    merge(&at("link"));
    assert!(at("link").is_symlink());
    assert_eq!(fs::read(at("named")).unwrap(), fs::read(&trace).unwrap());
}

#[test]
fn usage_is_checked() {
    run(["record"]).expect_code(2);
    run(["record", "--pid", "1", "--", "/bin/true"]).expect_code(2);
    run(["record", "--pid", "x"]).expect_code(2);
    run(["no-such-verb"]).expect_code(2);
    assert!(run(["--help"]).expect_code(0).stdout.contains("Exit codes"));
}

/// A real trace to be broken.
fn a_trace(folder: &Path) -> String {
    let path = folder.join("good.json");
    run(["record", "--backend", "notify", "-o", path.to_str().unwrap(), "--", "/bin/true"]).expect_code(0);
    fs::read_to_string(path).unwrap()
}

#[test]
fn traces_that_cannot_be_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let good = a_trace(folder.path());
    let bad = folder.path().join("bad.json");
    let try_one = |text: &str, culprit: &str| {
        fs::write(&bad, text).unwrap();
        refused(&["synth", bad.to_str().unwrap()], 2, culprit);
    };
    try_one("", "the file is empty");
    try_one(&good[..good.len() / 2], "truncated");
    try_one(&good.replacen("\"calls\": 1", "\"calls\": 2", 1), "changed after it was recorded");
    try_one(&good.replacen("\"version\": \"1.2\"", "\"version\": \"2.0\"", 1), "newer");
    try_one(&good.replacen("\"runs\": 1,", "\"runs\": 1, \"hue\": 2,", 1), "unknown field `hue`");
    try_one("{\"defaultAction\": \"SCMP_ACT_ERRNO\"}", "not a trace");
    refused(&["synth", "/no/such/trace.json"], 2, "`/no/such/trace.json`");
}

/// A slip in a decision opens or closes a call, so it is named, in one line.
#[test]
fn workloads_that_say_something_else_than_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let traces = folder.path().join("traces");
    fs::create_dir(&traces).unwrap();
    fs::rename(
        {
            a_trace(folder.path());
            folder.path().join("good.json")
        },
        traces.join("run-001.json"),
    )
    .unwrap();
    let target = "[target]\ncommand = [\"/bin/true\"]\n";
    let decision = |changed: &str| {
        let mut lines =
            vec!["verdict = \"deny\"", "syscall = \"ptrace\"", "reason = \"no debugger\"", "owner = \"sec\""];
        let key = changed.split(' ').next().unwrap();
        lines.retain(|line| !line.starts_with(&format!("{key} ")));
        format!("{target}[[decision]]\n{}\n{changed}\n", lines.join("\n"))
    };
    let try_one = |text: &str, culprit: &str| {
        fs::write(folder.path().join("workload.toml"), text).unwrap();
        refused(&["synth", folder.path().to_str().unwrap()], 2, culprit);
        let said = run(["synth", folder.path().to_str().unwrap(), "-o", "/dev/null/x"]).expect_code(2).stderr;
        assert_eq!(said.lines().count(), 1, "{said}");
    };
    try_one(&decision("verdikt = \"deny\""), "unknown field `verdikt`");
    try_one(&decision("verdict = \"maybe\""), "unknown variant `maybe`");
    try_one(&decision("syscall = \"ptrce\""), "unknown syscall `ptrce`");
    try_one(&decision("when = \"request = PTRACE_ATTACH\""), "`request = PTRACE_ATTACH` is no condition");
    try_one(&decision("when = \"requst == PTRACE_ATTACH\""), "has no argument `requst`");
    try_one(&decision("when = \"request == PTRACE_ATTAC\""), "`PTRACE_ATTAC` is no value of `request`");
    try_one(&decision("when = \"arg6 == 1\""), "`arg6`");
    try_one(&decision("when = \"\""), "is no condition");
    let accepted = |changed: &str| decision(changed).replace("\"deny\"", "\"accept\"");
    try_one(&accepted("expires = \"tomorrow\""), "`tomorrow` is no day; write it as 2026-12-31");
    try_one(&accepted("expires = \"2026-02-30\""), "`2026-02-30` is no day");
    try_one(&decision("expires = \"2026-02-28\""), "a `deny` holds until it is taken out");
    try_one(&decision("reason = \" \""), "`reason` is empty");
    try_one(&decision("owner = \"\""), "`owner` is empty");
    let without = |key: &str| {
        let all = decision("owner = \"sec\"");
        all.lines().filter(|line| !line.starts_with(key)).collect::<Vec<_>>().join("\n")
    };
    for key in ["verdict", "syscall", "reason", "owner"] {
        try_one(&without(key), &format!("missing field `{key}`"));
    }
    try_one(
        &format!("{target}[synthesis]\narguments = \"sometimes\"\n"),
        "line 4: unknown variant `sometimes`",
    );
    try_one(&format!("{target}[synthesis]\nlibseccomp = \"9.9\"\n"), "libseccomp `9.9` is not in the table");
    try_one(&format!("{target}[synthesis]\ngpu_drivers = [\"new\"]\n"), "line 4");
    try_one(
        &format!(
            "{target}[[added]]\nsyscall = \"ioctl\"\nabi = \"x86_64\"\nwhen = \"request != TCGETS\"\nwhy = \"\"\n"
        ),
        "more than one call",
    );
    try_one("[target\n", "line 1");
}

#[test]
fn options_of_synthesis_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    a_trace(folder.path());
    let trace = folder.path().join("good.json");
    let trace = trace.to_str().unwrap();
    refused(&["synth", "--arguments", "sometimes", trace], 2, "sometimes");
    refused(&["synth", "--gpu-driver", "new", trace], 2, "no branch of a driver");
    refused(&["synth", "--libseccomp", "9.9", trace], 2, "known are 2.5.3");
    // A branch that no table is of is evidence about something else.
    refused(&["synth", "--gpu-driver", "999", trace], 3, "999");
}

#[test]
fn profiles_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.json");
    let rule = |names: &str, rest: &str| {
        format!(
            "{{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{{\"names\":[{names}],\"action\":\"SCMP_ACT_ALLOW\"{rest}}}]}}"
        )
    };
    for (text, culprit) in [
        ("".to_owned(), "bad.json"),
        ("{}".to_owned(), "defaultAction"),
        ("[]".to_owned(), "bad.json"),
        (rule("\"sokcet\"", ""), "`sokcet`"),
        (rule("\"read\"", ",\"agrs\":[]"), "agrs"),
        ("{\"defaultAction\":\"SCMP_ACT_NOPE\"}".to_owned(), "SCMP_ACT_NOPE"),
    ] {
        fs::write(&bad, &text).unwrap();
        check(run(["test", bad.to_str().unwrap(), "--", "/bin/true"]), 2, culprit);
    }
    check(run(["test", "/no/such/profile.json", "--", "/bin/true"]), 2, "`/no/such/profile.json`");
}

/// Without privilege `ebpf` names what is missing, and `auto` goes on with `notify` and says so.
#[test]
fn a_missing_permission_is_named() {
    require!("setpriv");
    let folder = tempfile::tempdir().unwrap();
    Command::new("chmod").arg("777").arg(folder.path()).status().unwrap();
    // The checkout may lie where only root looks.
    let own = folder.path().join("seccomp-learn");
    fs::copy(binary(), &own).unwrap();
    let unprivileged = |backend: &str| -> Finished {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&own);
        command
            .args(["record", "--backend", backend, "-o"])
            .arg(folder.path().join(backend))
            .args(["--", "/bin/true"]);
        command.output().unwrap().into()
    };
    check(unprivileged("ebpf"), 2, "CAP_BPF");
    let auto = unprivileged("auto").expect_code(0);
    assert!(auto.stderr.contains("notify"), "{}", auto.stderr);
    assert!(folder.path().join("auto").exists());
}

/// Without a cgroup v2 mount `ebpf` says what to mount, and `auto` goes on with `notify`.
#[test]
fn a_missing_cgroup_mount_is_named() {
    require!("unshare", "umount");
    let folder = tempfile::tempdir().unwrap();
    let mount = seccomp_learn_tests::cgroup::mount_point().unwrap();
    let without = |backend: &str| -> Finished {
        let line = format!(
            "mount --make-rprivate /sys && umount -l {} && exec {} record --backend {backend} -o {}/{backend}.json -- /bin/true",
            mount.display(),
            binary().display(),
            folder.path().display(),
        );
        // A mount namespace of its own, cut off below /sys: the host's mounts stay. In a chroot `/` is no mount
        // point whose propagation could be set.
        Command::new("unshare")
            .args(["-m", "--propagation", "unchanged", "/bin/sh", "-c", &line])
            .output()
            .unwrap()
            .into()
    };
    check(without("ebpf"), 2, "no cgroup v2 file system is mounted");
    assert!(!folder.path().join("ebpf.json").exists());
    let auto = without("auto").expect_code(0);
    assert!(auto.stderr.contains("recording with notify"), "{}", auto.stderr);
}
