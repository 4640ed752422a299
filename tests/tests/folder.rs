//! One folder for one workload: what `learn` writes, and what the later verbs make of it.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use harness::{HeldOut, HeldOutRun};
use seccomp_learn_tests::{
    cli::{read_trace, run, seccomp_learn},
    programs::which,
    skip,
};
use serde_json::Value;
use synth::{Evidence, Finding, Profile};

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_folder_holds_all_that_the_later_verbs_need() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("workload");
    let dir = folder.to_str().unwrap();
    let learn = |extra: &[&str], command: &[&str]| {
        let mut arguments = vec!["learn", "-q", "--backend", "notify", "-o", dir];
        arguments.extend(extra);
        if !command.is_empty() {
            arguments.push("--");
            arguments.extend(command);
        }
        run(&arguments)
    };
    let learned = learn(&["--margin", "none", "--runs", "2"], &["/bin/ls", "/proc/self"]).expect_code(0);
    // The operator's question comes first, and how little the proof proves is not left out.
    let lines: Vec<&str> = learned.stdout.lines().collect();
    assert!(
        lines[0].starts_with("RuntimeDefault (docker ") && lines[0].contains("would refuse 0 calls"),
        "{lines:?}"
    );
    assert!(learned.stdout.contains("refused 0 calls in 2 confined starts"), "{lines:?}");
    assert!(learned.stdout.contains("up to 78 % of such starts"), "1 - 0.05^(1/2): {lines:?}");
    let report = text(&folder.join("report.md"));
    assert!(report.contains(lines[0]) && report.contains("## Rules") && report.contains("does not promise"));
    assert!(
        report.contains("## Completeness") && report.contains("which says nothing about the next"),
        "{report}"
    );

    // The same evidence makes the same bytes, with the options that the folder keeps.
    let again = outer.path().join("again.json");
    run(["synth", dir, "-o", again.to_str().unwrap()]).expect_code(0);
    assert_eq!(text(&again), text(&folder.join("profile.json")));
    assert_eq!(text(&outer.path().join("again.evidence.json")), text(&folder.join("profile.evidence.json")));

    // Every rule says why it is there, and the evidence names the trace.
    let evidence: Value = serde_json::from_str(&text(&folder.join("profile.evidence.json"))).unwrap();
    assert!(
        evidence["rules"]
            .as_array()
            .unwrap()
            .iter()
            .all(|rule| !rule["reasons"].as_array().unwrap().is_empty())
    );
    let trace = read_trace(&folder.join("traces/run-001.json"));
    assert_eq!(
        evidence["workload"]["traces"][0].as_str(),
        trace.digest.map(|digest| digest.to_string()).as_deref()
    );

    // The stored command, then another run, then a command whose evidence this is not.
    run(["test", dir]).expect_code(0);
    learn(&[], &[]).expect_code(0);
    assert!(folder.join("traces/run-002.json").exists());
    let merged: Value = serde_json::from_str(&text(&folder.join("profile.evidence.json"))).unwrap();
    assert_eq!(merged["workload"]["runs"], 2);
    let report = text(&folder.join("report.md"));
    assert!(report.contains("new ones expected in the next run; estimated sample coverage"), "{report}");
    assert!(report.contains("The runs are repetitions of one scenario"), "{report}");
    let again = run(["synth", dir, "-o", again.to_str().unwrap()]).expect_code(0).stderr;
    assert!(
        again.contains("after 2 runs: ") && again.contains("new ones expected in the next run"),
        "{again}"
    );
    let refused = learn(&[], &["/bin/true"]).expect_code(2);
    assert!(refused.stderr.contains("evidence of another command"), "{}", refused.stderr);
}

#[test]
fn secrets_do_not_travel() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("workload");
    let dir = folder.to_str().unwrap();
    run([
        "learn",
        "-q",
        "--backend",
        "notify",
        "--runs",
        "1",
        "-o",
        dir,
        "--",
        "/bin/echo",
        "--api-key",
        "hunter2",
    ])
    .expect_code(0);
    for entry in
        ["workload.toml", "report.md", "profile.json", "profile.evidence.json", "traces/run-001.json"]
    {
        assert!(!text(&folder.join(entry)).contains("hunter2"), "{entry} has the secret");
    }
    let refused = run(["test", dir]).expect_code(2);
    assert!(refused.stderr.contains("masked secret"), "{}", refused.stderr);
}

#[test]
fn a_workload_that_is_not_well_teaches_nothing() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("workload");
    let dir = folder.to_str().unwrap();
    let refused =
        run(["learn", "--backend", "notify", "--health-cmd", "false", "-o", dir, "--", "/bin/true"]);
    assert!(refused.expect_code(1).stderr.contains("not well"));
    assert!(!folder.exists(), "an empty folder was left");
    run(["learn", "-o", dir, "--", "no-such-command"]).expect_code(2);
    assert!(!folder.exists());
}

/// A denial is found by complaining, added, and proved; what the ceiling refuses is not added.
#[test]
fn what_a_recording_missed_is_added_as_far_as_the_ceiling_allows() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("workload");
    let dir = folder.to_str().unwrap();
    // The first start makes a marker, every later one makes calls that the recording did not see.
    let marker = outer.path().join("marker");
    let line = format!(
        "if [ -e {marker} ]; then /bin/mkdir -p {folder}/d; /usr/bin/chrt -p 1 >/dev/null 2>&1 || :; fi; : > {marker}",
        marker = marker.display(),
        folder = outer.path().display()
    );
    run(["learn", "--backend", "notify", "--margin", "none", "-o", dir, "--", "/bin/sh", "-c", &line])
        .expect_code(0);
    let workload = text(&folder.join("workload.toml"));
    assert!(workload.contains("syscall = \"mkdir\""), "{workload}");
    assert!(text(&folder.join("profile.json")).contains("\"mkdir\""));
    assert!(text(&folder.join("report.md")).contains("Added after a denial"));
}

/// Another way of a call that was recorded is added by its arguments, and nothing else of that call.
#[test]
fn a_refused_way_of_a_call_is_added_by_its_arguments() {
    let Some(python) = which("python3") else { return skip("needs `python3`") };
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("workload");
    let dir = folder.to_str().unwrap();
    // The first start makes a marker, every later one asks for another socket, of which the recording has the first.
    let script = format!(
        "import os, socket\nagain = os.path.exists('{marker}')\nopen('{marker}', 'w').close()\n\
         socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).close()\n\
         if again: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9).close()\n",
        marker = outer.path().join("marker").display()
    );
    let python = python.to_str().unwrap();
    let learned =
        run(["learn", "--backend", "notify", "--runs", "1", "-o", dir, "--", python, "-c", &script]);
    let said = learned.expect_code(0).stderr;
    assert!(said.contains("socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_AUDIT) → EPERM"), "{said}");
    let workload = text(&folder.join("workload.toml"));
    let when = "domain == AF_NETLINK, type == SOCK_RAW|SOCK_CLOEXEC, protocol == NETLINK_AUDIT";
    assert!(workload.contains(&format!("when = \"{when}\"")), "{workload}");
    assert!(text(&folder.join("report.md")).contains(when));
    let profile = profile(&folder);
    let domains: Vec<_> = profile
        .syscalls
        .iter()
        .filter(|entry| entry.names.iter().any(|name| name == "socket"))
        .map(|entry| entry.args.iter().find(|condition| condition.index == 0).expect("a rule by the domain"))
        .collect();
    let allows = |domain: u64| domains.iter().any(|condition| condition.holds(&[domain; 6]));
    assert!(allows(1) && allows(16) && !allows(17), "{domains:?}");
}

/// A workload folder of one command, learned once.
fn learned(outer: &Path, command: &[&str]) -> PathBuf {
    let folder = outer.join("workload");
    let dir = folder.to_str().unwrap();
    let mut arguments = vec!["learn", "-q", "--backend", "notify", "--runs", "1", "-o", dir, "--"];
    arguments.extend(command);
    run(arguments).expect_code(0);
    folder
}

/// Adds to `workload.toml`.
fn decide(folder: &Path, decision: &str) {
    let path = folder.join("workload.toml");
    fs::write(&path, text(&path) + decision).unwrap();
}

fn profile(folder: &Path) -> Profile {
    Profile::read(&fs::read(folder.join("profile.json")).unwrap()).unwrap()
}

fn findings(folder: &Path) -> Vec<Finding> {
    Evidence::read(&fs::read(folder.join("profile.evidence.json")).unwrap()).unwrap().findings
}

/// What a reviewer decided is in every later profile, in the report, and in `workload.toml`, as it was written.
#[test]
fn a_decision_survives_every_synthesis() {
    let outer = tempfile::tempdir().unwrap();
    let folder = learned(outer.path(), &["/bin/cat", "/etc/hostname"]);
    let dir = folder.to_str().unwrap();
    assert!(
        profile(&folder).allowed().contains("fadvise64") && !profile(&folder).allowed().contains("keyctl")
    );
    decide(
        &folder,
        r#"
[[decision]]
verdict = "deny"
syscall = "fadvise64"
reason = "a hint, no need"
owner = "sec@example.org"

[[decision]]
verdict = "allow"
syscall = "keyctl"
when = "operation == KEYCTL_GET_KEYRING_ID"
reason = "the next release asks for its keyring"
owner = "ops@example.org"
expires = "2999-12-31"

[[decision]]
verdict = "allow"
syscall = "acct"
reason = "was needed once"
owner = "ops@example.org"
expires = "2001-01-31"
"#,
    );
    for round in 0..2 {
        if round == 0 {
            run(["synth", dir, "-o", folder.join("profile.json").to_str().unwrap()]).expect_code(0);
        } else {
            let again = run(["learn", "--backend", "notify", "--runs", "1", "-o", dir]).expect_code(0);
            assert!(again.stderr.contains("denied by a decision: fadvise64("), "{}", again.stderr);
        }
        let profile = profile(&folder);
        let allowed = profile.allowed();
        assert!(!allowed.contains("fadvise64") && allowed.contains("keyctl") && !allowed.contains("acct"));
        let keyctl: Vec<_> =
            profile.syscalls.iter().filter(|entry| entry.names.iter().any(|name| name == "keyctl")).collect();
        assert!(
            keyctl.iter().all(|entry| entry.args.len() == 1 && entry.args[0].value_two == 0),
            "{keyctl:?}"
        );
        let findings = findings(&folder);
        assert!(
            findings
                .iter()
                .any(|own| matches!(own, Finding::Denied { syscall, .. } if syscall == "fadvise64"))
        );
        assert!(
            findings
                .iter()
                .any(|own| matches!(own, Finding::DecisionExpired { syscall, .. } if syscall == "acct"))
        );
    }
    let report = text(&folder.join("report.md"));
    for part in [
        "## Decisions",
        "sec@example.org",
        "`operation == KEYCTL_GET_KEYRING_ID`",
        "2999-12-31",
        "expired after 2001-01-31",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    let workload = text(&folder.join("workload.toml"));
    assert_eq!(workload.matches("[[decision]]").count(), 3);
    assert!(workload.contains("when = \"operation == KEYCTL_GET_KEYRING_ID\""), "{workload}");
    // A refusal that was decided is none that the test is about.
    let tested = run(["test", dir]).expect_code(0);
    assert!(tested.stderr.contains("denied by a decision: fadvise64("), "{}", tested.stderr);
}

/// Of a call with more arguments than were kept nothing is guessed: the profile is written, the exit code says that it
/// waits for a decision, and after one it says so no longer.
#[test]
fn a_wide_call_asks_for_a_decision() {
    let outer = tempfile::tempdir().unwrap();
    let folder = learned(outer.path(), &["/bin/ls", "/"]);
    let dir = folder.to_str().unwrap();
    let path = folder.join("traces/run-001.json");
    let mut trace = read_trace(&path);
    let row = trace.syscalls.iter_mut().find(|row| row.name == "mmap").unwrap();
    row.calls += 1000;
    *row.outcomes.entry(trace::Outcome::Unknown).or_default() += 1000;
    let arguments = row.arguments.as_mut().expect("the recording kept arguments");
    (arguments.wide, arguments.beyond) = (true, 1000);
    trace.seal().unwrap();
    let mut bytes = Vec::new();
    trace.write(&mut bytes).unwrap();
    fs::write(&path, bytes).unwrap();
    let output = folder.join("profile.json");
    let synth = || run(["synth", dir, "-o", output.to_str().unwrap()]);
    let before = fs::metadata(&output).unwrap().modified().unwrap();
    let undecided = synth().expect_code(3);
    assert!(undecided.stderr.contains("undecided: `mmap`; put into"), "{}", undecided.stderr);
    assert!(undecided.stderr.contains("workload.toml"), "{}", undecided.stderr);
    assert_ne!(fs::metadata(&output).unwrap().modified().unwrap(), before, "the profile is written");
    let mmap = |profile: &Profile| {
        profile.syscalls.iter().any(|own| own.names.iter().any(|name| name == "mmap") && own.args.is_empty())
    };
    assert!(!mmap(&profile(&folder)), "it is not opened");
    decide(
        &folder,
        "\n[[decision]]\nverdict = \"accept\"\nsyscall = \"mmap\"\nreason = \"a fuzzer\"\nowner = \"qa\"\n",
    );
    synth().expect_code(0);
    assert!(!mmap(&profile(&folder)));
    assert!(
        findings(&folder).iter().any(|own| matches!(own, Finding::Accepted { owner, .. } if owner == "qa"))
    );
}

/// Starts that the folder's workload makes under its profile are held-out runs of it, and nothing else is.
#[test]
fn enforced_starts_are_written_down() {
    let outer = tempfile::tempdir().unwrap();
    let folder = learned(outer.path(), &["/bin/ls", "/"]);
    let dir = folder.to_str().unwrap();
    let held_out = || HeldOut::read(&fs::read(folder.join("heldout.json")).unwrap()).unwrap();
    let said = run(["test", dir, "--runs", "2"]).expect_code(0).stdout;
    assert!(said.contains("heldout.json holds 2 starts under this profile, 0 with a denial"), "{said}");
    assert!(said.contains("up to 78 % of such starts may still meet one"), "1 - 0.05^(1/2): {said}");
    let json = run(["test", dir, "--json"]).expect_code(0).stdout;
    let result: Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&result["held_out"]["runs"], &result["held_out"]["denied"]),
        (&3.into(), &0.into()),
        "{result}"
    );
    for run in held_out().runs {
        assert_eq!(
            (run.profile, run.container.as_str()),
            (Some(profile(&folder).digest()), HeldOutRun::COMMAND)
        );
        assert!(run.denials.is_empty() && run.calls.is_none() && run.started.ends_with('Z'), "{run:?}");
    }
    // Another command, a start that refuses nothing on purpose, and one that only names what it would refuse.
    run(["test", dir, "--", "/bin/ls", "/proc"]).expect_code(0);
    run(["test", dir, "--complain"]).expect_code(0);
    assert_eq!(held_out().runs.len(), 3);
    // A denial counts, whether the workload was well or not; and for another profile the count begins anew.
    let path = folder.join("profile.json");
    let without: Vec<String> =
        text(&path).lines().filter(|line| !line.contains("\"getdents64\"")).map(str::to_owned).collect();
    fs::write(&path, without.join("\n")).unwrap();
    let said = run(["test", dir, "--no-plain"]).expect_code(1).stdout;
    assert!(said.contains("holds 1 start under this profile, 1 with a denial"), "{said}");
    let last = held_out().runs.into_iter().find(|run| !run.denials.is_empty()).unwrap();
    assert_eq!((last.denials[0].syscall.as_str(), last.denials[0].answer.as_str()), ("getdents64", "EPERM"));
}

/// Someone who asks us to stop gets no further start, and what was under way proves nothing.
#[test]
fn an_interrupted_start_is_the_last_one_and_counts_for_nothing() {
    let outer = tempfile::tempdir().unwrap();
    let [starts, time] = ["starts", "time"].map(|name| outer.path().join(name));
    fs::write(&time, "0\n").unwrap();
    let line = format!("echo x >> {}; read time < {}; sleep $time", starts.display(), time.display());
    let folder = learned(outer.path(), &["/bin/sh", "-c", &line]);
    let made = || text(&starts).lines().count();
    let before = made();
    fs::write(&time, "60\n").unwrap();
    let mut test = seccomp_learn(["test", folder.to_str().unwrap(), "--runs", "3"]);
    let mut child = test.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while made() == before && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    // SAFETY: kill has no memory effects; the child has not been waited for, so the id is its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2), "{said}");
    assert!(said.contains("error: interrupted; the start that was under way proves nothing"), "{said}");
    assert_eq!(made(), before + 1);
    assert!(!folder.join("heldout.json").exists());
}

/// Folders of earlier versions are read, and their additions count.
#[test]
fn an_old_folder_is_read() {
    let outer = tempfile::tempdir().unwrap();
    let folder = learned(outer.path(), &["/bin/true"]);
    let dir = folder.to_str().unwrap();
    decide(
        &folder,
        "\n[[added]]\nsyscall = \"chdir\"\nabi = \"x86_64\"\nwhy = \"refused in a confined start\"\n",
    );
    let output = folder.join("profile.json");
    run(["synth", dir, "-o", output.to_str().unwrap()]).expect_code(0);
    assert!(profile(&folder).allowed().contains("chdir"));
}
