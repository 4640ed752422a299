//! One folder for one workload: what `learn` writes, and what the later verbs make of it.

use std::{fs, path::Path};

use seccomp_learn_tests::cli::{read_trace, run};
use serde_json::Value;

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
