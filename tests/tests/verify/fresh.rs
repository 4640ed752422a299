//! Fresh traces: what is new in them fails with one line, what is missing warns.

use std::{fs, path::Path};

use seccomp_learn_tests::cli::{read_trace, run};
use serde_json::Value;
use synth::Evidence;
use trace::{Errno, Outcome, Row, Trace};

use crate::{another, decide, made, of, otherwise, remedies, shell, verify, workload};

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
    let commands = remedies(&lines, "FAILED");
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
    // Once it is decided, that is known.
    shell(remedies(&lines, "NO EVIDENCE")[0]).expect_code(0);
    verify(&folder, &["--fresh", &fresh], 0);
}

/// A row of a call that the folder does not have.
fn made_anew(trace: &mut Trace, name: &str, with: impl FnOnce(&mut Row)) {
    let mut row: Row = trace.syscalls.iter().find(|row| row.name == "access").unwrap().clone();
    (row.number, row.name) = (row.abi.number(name).unwrap(), name.to_owned());
    with(&mut row);
    let place = trace.syscalls.iter().position(|own| own.number > row.number);
    trace.syscalls.insert(place.unwrap_or(trace.syscalls.len()), row);
}

/// Whatever the profile says to it: a reviewer's no, or that it failed while it was recorded, hides no new call.
#[test]
fn a_new_call_that_stays_refused_is_told() {
    let outer = tempfile::tempdir().unwrap();
    let folder = workload(outer.path());
    for errno in [Errno::ENOSYS, Errno::EPERM] {
        let (_, fresh) = another(&folder, |trace| {
            made_anew(trace, "times", |row| row.outcomes = [(Outcome::Error(errno), row.calls)].into());
        });
        let lines = verify(&folder, &["--fresh", &fresh], 1);
        let failed = of(&lines, "FAILED");
        assert!(failed.len() == 1 && failed[0].contains("fresh: new syscall `times`, made "), "{lines:#?}");
    }
    // A filter kept it from being carried out.
    let (_, fresh) = another(&folder, |trace| {
        made_anew(trace, "times", |row| {
            let calls = std::mem::take(&mut row.calls);
            (row.denied, row.outcomes) = (calls, [].into());
            row.refusals = [(Outcome::Error(Errno::EPERM), calls)].into();
        });
    });
    let lines = verify(&folder, &["--fresh", &fresh], 1);
    assert!(of(&lines, "FAILED")[0].contains("fresh: new syscall `times`, made "), "{lines:#?}");

    decide(&folder, "deny", "times", "");
    made(&folder);
    let (_, fresh) = another(&folder, |trace| made_anew(trace, "times", |_| ()));
    let lines = verify(&folder, &["--fresh", &fresh], 0);
    let warned: Vec<&str> =
        of(&lines, "warning").into_iter().filter(|line| line.contains("fresh:")).collect();
    let [line] = warned.as_slice() else { panic!("{lines:#?}") };
    assert!(line.contains("fresh: new syscall `times`, made "), "{line}");
    assert!(line.ends_with(": EPERM, as decided: sec denies it (looked at)"), "{line}");
    // That decision is about no other call.
    let (_, fresh) = another(&folder, |trace| {
        made_anew(trace, "times", |_| ());
        made_anew(trace, "mkdir", |_| ());
    });
    let lines = verify(&folder, &["--fresh", &fresh], 1);
    let failed = of(&lines, "FAILED");
    assert!(failed.len() == 1 && failed[0].contains("new syscall `mkdir`"), "{lines:#?}");
}

/// To put the trace into the folder is not enough for a call above the ceiling: someone has to say that it passes.
#[test]
fn a_new_call_above_the_ceiling_takes_a_decision() {
    let succeeded = |row: &mut Row| row.outcomes = [(Outcome::Ok, row.calls)].into();
    let profile = |folder: &Path| fs::read_to_string(folder.join("profile.json")).unwrap();
    let undecided = |lines: &[String]| {
        of(lines, "warning").iter().any(|line| line.contains("ceiling: `mount` was called"))
    };
    for (choice, passes) in [("run", true), ("to leave it refused", false)] {
        let outer = tempfile::tempdir().unwrap();
        let folder = workload(outer.path());
        let (_, fresh) = another(&folder, |trace| made_anew(trace, "mount", succeeded));
        let lines = verify(&folder, &["--fresh", &fresh], 1);
        let failed = of(&lines, "FAILED");
        assert!(failed.len() == 1 && failed[0].contains("new syscall `mount`"), "{lines:#?}");
        assert!(failed[0].contains("it is above the ceiling (runtime-default), so that a `[[decision]]`"));
        let command = if passes { remedies(&lines, "FAILED")[0] } else { otherwise(&lines, choice) };
        shell(command).expect_code(0);
        let lines = verify(&folder, &["--fresh", &fresh], 0);
        assert!(!undecided(&lines), "{lines:#?}");
        assert_eq!(profile(&folder).contains("\"mount\""), passes);
    }
    // As long as nobody says so it is a warning.
    let outer = tempfile::tempdir().unwrap();
    let folder = workload(outer.path());
    let (fresh, _) = another(&folder, |trace| made_anew(trace, "mount", succeeded));
    fs::rename(&fresh, folder.join("traces/run-009.json")).unwrap();
    made(&folder);
    let lines = verify(&folder, &[], 0);
    assert!(undecided(&lines) && !profile(&folder).contains("\"mount\""), "{lines:#?}");
    decide(&folder, "deny", "mount", "");
    made(&folder);
    assert!(!undecided(&verify(&folder, &[], 0)));
}

/// Of a call that the ceiling bounds by its arguments the decision is about these alone.
#[test]
fn a_new_way_of_calling_above_the_ceiling_takes_a_decision_about_it() {
    let outer = tempfile::tempdir().unwrap();
    let folder = workload(outer.path());
    let (_, fresh) = another(&folder, |trace| {
        let row = trace.syscalls.iter_mut().find(|row| row.name == "socket").unwrap();
        row.calls += 1;
        *row.outcomes.entry(Outcome::Ok).or_default() += 1;
        let arguments = row.arguments.as_mut().unwrap();
        let domain = arguments.kept.iter().position(|kept| kept.name == "domain").unwrap();
        let mut values = arguments.values.last().unwrap().clone();
        (values.arguments[domain], values.calls, values.denied) = (40, 1, 0);
        arguments.values.push(values);
        arguments.values.sort_by(|one, other| one.arguments.cmp(&other.arguments));
    });
    let lines = verify(&folder, &["--fresh", &fresh], 1);
    let failed = of(&lines, "FAILED");
    let [line] = failed.as_slice() else { panic!("{lines:#?}") };
    assert!(line.contains("fresh: new way of calling `socket(AF_VSOCK, "), "{line}");
    let command = remedies(&lines, "FAILED")[0];
    assert!(command.contains("'verdict = \"allow\"' 'syscall = \"socket\"' 'when = "), "{command}");
    shell(command).expect_code(0);
    verify(&folder, &["--fresh", &fresh], 0);
    let dir = folder.to_str().unwrap();
    let explain = |rule: &str, code: i32| run(["explain", rule, dir]).expect_code(code);
    let when = command.split("'when = \"").nth(1).unwrap().split('"').next().unwrap();
    explain(&format!("socket({when})"), 0);
    explain("socket(domain == AF_VSOCK, type == SOCK_RAW)", 1);
}
