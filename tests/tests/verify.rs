//! `verify`: the gate of a CI job, in every case that it is for. The folders are copies of worked workloads and traces
//! of real programs; what a remedy says is run as it is written.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use seccomp_learn_tests::cli::{Finished, binary, read_trace, run};
use serde_json::Value;
use synth::Evidence;
use trace::{Attached, Container, ContainerKind, Digest, GpuDriver, Outcome, Row, Trace};

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

#[track_caller]
fn verify(folder: &Path, options: &[&str], code: i32) -> Vec<String> {
    let mut arguments = vec!["verify", folder.to_str().unwrap()];
    arguments.extend(options);
    run(arguments).expect_code(code).stdout.lines().map(str::to_owned).collect()
}

fn of<'l>(lines: &'l [String], word: &str) -> Vec<&'l str> {
    lines.iter().map(String::as_str).filter(|line| line.starts_with(word)).collect()
}

/// The commands that it says to run, each once.
fn remedies(lines: &[String]) -> Vec<&str> {
    let mut all: Vec<&str> =
        lines.iter().filter_map(|line| line.trim_start().strip_prefix("run: ")).collect();
    all.dedup();
    all
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

/// Two versions of a program, of which the second makes one syscall more.
#[test]
fn a_change_that_adds_one_syscall_fails_with_one_line() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("my workload");
    let dir = folder.to_str().unwrap();
    let script = outer.path().join("serve.sh");
    fs::write(&script, "umask >/dev/null\n").unwrap();
    let command = ["/bin/sh", script.to_str().unwrap()];
    let options = ["learn", "-q", "--backend", "notify", "--runs", "1", "--runtime", "none", "-o", dir, "--"];
    run(options.iter().chain(&command)).expect_code(0);
    verify(&folder, &[], 0);

    fs::write(&script, "umask >/dev/null\ntimes >/dev/null\n").unwrap();
    let fresh = outer.path().join("fresh.json");
    let record = ["record", "-q", "--backend", "notify", "-o", fresh.to_str().unwrap(), "--"];
    run(record.iter().chain(&command)).expect_code(0);
    let options = ["--fresh", fresh.to_str().unwrap()];
    let lines = verify(&folder, &options, 1);
    let failed = of(&lines, "FAILED");
    let [line] = failed.as_slice() else { panic!("{lines:#?}") };
    let first = read_trace(&fresh).syscalls.into_iter().find(|row| row.name == "times").unwrap().first;
    for part in [
        "fresh: new syscall `times`, made once in startup, first by sh".to_owned(),
        format!("({}) {} ms after the start", first.pid, first.after_ms),
        "fresh.json: EPERM".to_owned(),
    ] {
        assert!(line.contains(&part), "{part}: {line}");
    }
    let json = run(["verify", dir, "--json", "--fresh", fresh.to_str().unwrap()]).expect_code(1).stdout;
    let call = json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let call = call.filter(|line| line["status"] == "failed").collect::<Vec<_>>();
    assert_eq!(
        (call.len(), &call[0]["call"]["name"], &call[0]["call"]["comm"]),
        (1, &"times".into(), &"sh".into())
    );

    // As the remedy says: the trace becomes part of the folder, and the profile follows it.
    let commands = remedies(&lines);
    assert_eq!(commands.len(), 1, "{lines:#?}");
    shell(commands[0]).expect_code(0);
    assert!(fs::read_to_string(folder.join("profile.json")).unwrap().contains("\"times\""));
    verify(&folder, &options, 0);
    verify(&folder, &[], 0);
}

/// A trace that is put into the folder without making the profile anew fails, too, and so does one that is gone.
#[test]
fn the_profile_is_of_the_traces_that_are_there() {
    let outer = tempfile::tempdir().unwrap();
    let folder = workload(outer.path());
    let (fresh, _) = another(&folder, |trace| {
        let mut row: Row = trace.syscalls.iter().find(|row| row.name == "access").unwrap().clone();
        (row.number, row.name) = (83, "mkdir".to_owned());
        let place = trace.syscalls.iter().position(|own| own.number > 83).unwrap();
        trace.syscalls.insert(place, row);
    });
    let added = folder.join("traces/run-004.json");
    fs::rename(&fresh, &added).unwrap();
    let lines = verify(&folder, &[], 1);
    let failed = of(&lines, "FAILED");
    assert_eq!(failed.len(), 2, "{lines:#?}");
    assert!(failed[0].contains("replay: needed and refused: `mkdir`, made once in startup"), "{failed:#?}");
    assert!(
        failed[1].contains("synthesis: `profile.json` would be another one, because 1 run came since"),
        "{failed:#?}"
    );
    assert!(lines.iter().any(|line| line.trim() == "`mkdir`: newly allowed"), "{lines:#?}");
    made(&folder);
    verify(&folder, &[], 0);

    // The rule for it is then needed by no trace.
    let evidence = fs::read(folder.join("profile.evidence.json")).unwrap();
    fs::remove_file(&added).unwrap();
    let lines = verify(&folder, &[], 1);
    let failed = of(&lines, "FAILED");
    assert!(failed[0].contains("rules: the rule for `mkdir` (always) is needed by no trace"), "{failed:#?}");
    assert!(failed[1].contains("1 run that it was made from are gone"), "{failed:#?}");
    assert!(Evidence::read(&evidence).unwrap().is_as_written() == Some(true));
}

#[test]
fn what_is_not_made_any_more_warns() {
    let outer = tempfile::tempdir().unwrap();
    let folder = workload(outer.path());
    let (_, fresh) = another(&folder, |trace| trace.syscalls.retain(|row| row.name != "access"));
    let lines = verify(&folder, &["--fresh", &fresh], 0);
    let warned = of(&lines, "warning");
    assert!(warned.iter().any(|line| line.contains("fresh: not made any more: access")), "{lines:#?}");
    // A sibling that the profile allows all the same is new, too.
    let (_, fresh) = another(&folder, |trace| {
        let mut row: Row = trace.syscalls.iter().find(|row| row.name == "access").unwrap().clone();
        (row.number, row.name) = (439, "faccessat2".to_owned());
        trace.syscalls.push(row);
    });
    let lines = verify(&folder, &["--fresh", &fresh], 1);
    let failed = of(&lines, "FAILED");
    assert_eq!(failed.len(), 1, "{lines:#?}");
    assert!(failed[0].contains("new syscall `faccessat2`, made "), "{lines:#?}");
    assert!(failed[0].ends_with("allowed, but no trace of the folder shows it"), "{lines:#?}");
}

/// Makes the traces of a folder those of an image.
fn of_image(trace: &mut Trace, name: &str) {
    trace.target.image = Some(Digest::of(name.as_bytes()));
    trace.target.container = Some(Container {
        engine: "docker 20.10.24".to_owned(),
        id: "c0".repeat(32),
        name: None,
        image: Some(name.to_owned()),
        labels: [].into(),
        kind: ContainerKind::Container,
        pod: None,
        restart: 0,
        seccomp: Some("unconfined".to_owned()),
        no_new_privileges: Some(false),
        user: None,
        attached: Attached { before_first_exec_ms: Some(3) },
    });
}

fn with_image(outer: &Path) -> PathBuf {
    let folder = workload(outer);
    change(&folder, |trace| of_image(trace, "registry.example/app:1.4"));
    edit(
        &folder.join("workload.toml"),
        "[target]\n",
        "[target]\nimage = \"registry.example/app:1.4\"\nengine = \"docker\"\n",
    );
    made(&folder);
    folder
}

/// No GPU, no engine, nothing is run: only the tag of the image is another one.
#[test]
fn another_image_has_no_evidence_until_a_fresh_trace() {
    let outer = tempfile::tempdir().unwrap();
    let folder = with_image(outer.path());
    let digest = |name: &str| Digest::of(name.as_bytes()).to_string();
    verify(&folder, &[], 0);
    verify(&folder, &["--image", &digest("registry.example/app:1.4")], 0);
    let reference = format!("registry.example/app@{}", digest("registry.example/app:1.5"));
    let lines = verify(&folder, &["--image", &reference], 3);
    assert_eq!(of(&lines, "NO EVIDENCE").len(), 1, "{lines:#?}");

    edit(&folder.join("workload.toml"), "app:1.4", "app:1.5");
    let lines = verify(&folder, &[], 3);
    let without = of(&lines, "NO EVIDENCE");
    let [line] = without.as_slice() else { panic!("{lines:#?}") };
    assert!(
        line.contains("`registry.example/app:1.4`") && line.contains("`registry.example/app:1.5`"),
        "{line}"
    );
    assert_eq!(remedies(&lines), [format!("seccomp-learn learn -o {}", folder.display())]);

    let (_, fresh) = another(&folder, |trace| of_image(trace, "registry.example/app:1.5"));
    let lines = verify(&folder, &["--fresh", &fresh], 0);
    let warned = of(&lines, "warning");
    assert!(warned.iter().any(|line| line.contains("holds for the fresh traces alone")), "{lines:#?}");
    shell(remedies(&lines)[0]).expect_code(0);
    let lines = verify(&folder, &[], 0);
    assert!(
        of(&lines, "warning").iter().any(|line| line.contains("3 of 4 runs are of another image")),
        "{lines:#?}"
    );
    // The fresh trace of the old image says nothing about the new one.
    let (_, fresh) = another(&folder, |trace| of_image(trace, "registry.example/app:1.4"));
    verify(&folder, &["--fresh", &fresh], 3);
}

#[test]
fn another_driver_or_architecture_has_no_evidence() {
    let outer = tempfile::tempdir().unwrap();
    let folder = workload(outer.path());
    let driver = || GpuDriver { vendor: "nvidia".to_owned(), version: "570.86.15".to_owned() };
    change(&folder, |trace| trace.target.gpu_driver = Some(driver()));
    made(&folder);
    verify(&folder, &["--driver", "570.124.06", "--arch", "amd64"], 0);
    let lines = verify(&folder, &["--driver", "580"], 3);
    let without = of(&lines, "NO EVIDENCE");
    assert!(without[0].contains("branch 580") && without[0].contains("nvidia 570.86.15"), "{lines:#?}");
    assert_eq!(remedies(&lines), [format!("seccomp-learn learn -o {}", folder.display())]);
    let lines = verify(&folder, &["--arch", "aarch64"], 3);
    assert!(of(&lines, "NO EVIDENCE")[0].contains("about aarch64, and was recorded on x86_64"), "{lines:#?}");
    assert!(remedies(&lines)[0].contains("inference-aarch64 -- target/workloads"), "{lines:#?}");
    // What was recorded with a GPU is not replaced by what was recorded without one.
    let (_, fresh) = another(&folder, |trace| trace.target.gpu = Some(false));
    change(&folder, |trace| trace.target.gpu = Some(true));
    made(&folder);
    let lines = verify(&folder, &["--fresh", &fresh], 3);
    assert!(of(&lines, "NO EVIDENCE")[0].contains("used no GPU"), "{lines:#?}");
}

#[test]
fn fresh_traces_that_miss_something_are_no_evidence() {
    let outer = tempfile::tempdir().unwrap();
    let folder = workload(outer.path());
    let (_, fresh) = another(&folder, |trace| trace.complete = false);
    let lines = verify(&folder, &["--fresh", &fresh], 3);
    assert!(of(&lines, "NO EVIDENCE")[0].contains("was not closed in order"), "{lines:#?}");
    // More different arguments than are kept: nobody knows whether the profile holds.
    let (_, fresh) = another(&folder, |trace| {
        let row = trace.syscalls.iter_mut().find(|row| row.name == "mmap").unwrap();
        row.calls += 1000;
        *row.outcomes.entry(Outcome::Unknown).or_default() += 1000;
        let arguments = row.arguments.as_mut().unwrap();
        (arguments.wide, arguments.beyond) = (true, 1000);
    });
    let lines = verify(&folder, &["--fresh", &fresh], 3);
    assert!(
        of(&lines, "NO EVIDENCE")[0].contains("fresh: whether `mmap` is allowed cannot be told"),
        "{lines:#?}"
    );
}

#[test]
fn a_reviewers_no_survives_the_next_synthesis() {
    let outer = tempfile::tempdir().unwrap();
    let folder = workload(outer.path());
    decide(&folder, "deny", "setsockopt", "");
    let lines = verify(&folder, &[], 1);
    let failed = of(&lines, "FAILED");
    assert!(failed[0].contains("because the decisions in `workload.toml` are others"), "{failed:#?}");
    assert!(failed[1].contains("decisions: setsockopt(") && failed[1].contains("sec denies"), "{failed:#?}");
    for _ in 0..2 {
        shell(remedies(&lines)[0]).expect_code(0);
        assert!(!fs::read_to_string(folder.join("profile.json")).unwrap().contains("\"setsockopt\""));
        let lines = verify(&folder, &[], 0);
        assert!(
            lines.iter().any(|line| line.contains("1 decision, none expired, what is denied is refused"))
        );
    }
    // Opened again by hand, it is found as what it is.
    edit(&folder.join("profile.json"), "\"setuid\",", "\"setsockopt\",\n        \"setuid\",");
    let lines = verify(&folder, &[], 1);
    assert!(
        of(&lines, "FAILED").iter().any(|line| line.contains("though sec denies `setsockopt`")),
        "{lines:#?}"
    );
}

#[test]
fn a_decision_that_has_expired_fails() {
    let outer = tempfile::tempdir().unwrap();
    let folder = workload(outer.path());
    decide(&folder, "accept", "mbind", "2999-12-31");
    made(&folder);
    verify(&folder, &[], 0);
    edit(&folder.join("workload.toml"), "2999-12-31", "2020-01-31");
    made(&folder);
    let lines = verify(&folder, &[], 1);
    let failed = of(&lines, "FAILED");
    let [line] = failed.as_slice() else { panic!("{lines:#?}") };
    assert!(line.contains("decisions: `accept` of `mbind` by sec expired after 2020-01-31"), "{line}");
}

/// Changes a sidecar as a tool would have written it.
fn rewrite(folder: &Path, with: impl FnOnce(&mut Evidence)) {
    let path = folder.join("profile.evidence.json");
    let mut evidence = Evidence::read(&fs::read(&path).unwrap()).unwrap();
    with(&mut evidence);
    evidence.digest = None;
    evidence.digest = Some(Digest::of(evidence.to_json().as_bytes()));
    fs::write(path, evidence.to_json()).unwrap();
}

#[test]
fn a_hand_edit_is_told_from_a_newer_tool_or_table() {
    let outer = tempfile::tempdir().unwrap();
    let folder = workload(outer.path());
    let [profile, sidecar] = ["profile.json", "profile.evidence.json"].map(|name| folder.join(name));
    let written = [&profile, &sidecar].map(|path| fs::read(path).unwrap());
    let restore = || {
        fs::write(&profile, &written[0]).unwrap();
        fs::write(&sidecar, &written[1]).unwrap();
    };
    let why = |lines: &[String]| {
        of(lines, "FAILED").into_iter().find(|line| line.contains("synthesis:")).map(str::to_owned)
    };

    // A rule by hand: it has no reason, and this one is above the ceiling, too.
    edit(&profile, "\"setuid\",", "\"mount\",\n        \"setuid\",");
    let lines = verify(&folder, &[], 1);
    assert!(why(&lines).unwrap().contains("`profile.json` was edited by hand"), "{lines:#?}");
    let failed = of(&lines, "FAILED").join("\n");
    assert!(
        failed.contains("rules: the rule for `mount` (always) is in the profile without a reason"),
        "{failed}"
    );
    assert!(
        failed.contains("ceiling: `mount` is allowed, which the ceiling (runtime-default) refuses"),
        "{failed}"
    );
    assert!(lines.iter().any(|line| line.trim() == "`mount`: no longer allowed"), "{lines:#?}");
    restore();
    edit(&sidecar, "\"workload\": {", "\"workload\":  {");
    assert!(why(&verify(&folder, &[], 1)).unwrap().contains("`profile.evidence.json` was edited by hand"));
    restore();
    edit(&sidecar, "libraries use accept4 where they know it", "it was asked for");
    assert!(why(&verify(&folder, &[], 1)).unwrap().contains("`profile.evidence.json` was edited by hand"));
    restore();

    // An older tool that made the same profile, and one that made another.
    rewrite(&folder, |evidence| evidence.tool = "seccomp-learn 0.0.9".to_owned());
    let lines = verify(&folder, &[], 0);
    assert!(of(&lines, "warning")[0].contains("it was made by seccomp-learn 0.0.9"), "{lines:#?}");
    let older = |evidence: &mut Evidence| {
        edit(&profile, "\"setuid\",\n", "");
        evidence.profile = Digest::of(&fs::read(&profile).unwrap());
    };
    let lines = {
        rewrite(&folder, older);
        verify(&folder, &[], 1)
    };
    assert!(why(&lines).unwrap().contains("because it was made by seccomp-learn 0.0.9"), "{lines:#?}");
    // Accepted as it says.
    shell(remedies(&lines)[0]).expect_code(0);
    assert_eq!(fs::read(&profile).unwrap(), written[0]);
    verify(&folder, &[], 0);

    // Another table: of the ceiling, which names itself, and one that does not.
    rewrite(&folder, |evidence| {
        older(evidence);
        evidence.options.ceiling.source = Some("moby/profiles of last year".to_owned());
    });
    let line = why(&verify(&folder, &[], 1)).unwrap();
    assert!(line.contains("the ceiling was runtime-default (moby/profiles of last year) and is"), "{line}");
    restore();
    rewrite(&folder, older);
    let line = why(&verify(&folder, &[], 1)).unwrap();
    assert!(line.contains("the tables of this seccomp-learn"), "{line}");
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
}
