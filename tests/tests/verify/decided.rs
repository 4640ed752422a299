//! Decisions, and edits by hand, which decisions can keep.

use std::{fs, path::Path};

use seccomp_learn_tests::cli::run;
use serde_json::Value;
use synth::Evidence;
use trace::Digest;

use crate::{decide, edit, made, of, otherwise, remedies, shell, verify, workload};

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
        shell(remedies(&lines, "FAILED")[0]).expect_code(0);
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
    shell(remedies(&lines, "FAILED")[0]).expect_code(0);
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

/// One that denies has no end that anybody would notice.
#[test]
fn a_decision_that_denies_does_not_expire() {
    let outer = tempfile::tempdir().unwrap();
    let folder = workload(outer.path());
    decide(&folder, "deny", "setsockopt", "2020-01-31");
    let said = run(["verify".as_ref(), folder.as_os_str()]).expect_code(2).stderr;
    assert!(
        said.contains(
            "decision `deny` of `setsockopt`: a `deny` holds until it is taken out; leave `expires` out"
        ),
        "{said}"
    );
}

/// The profile, as it would be written without a line for an edit to find.
fn change_profile(path: &Path, with: impl FnOnce(&mut Vec<Value>)) {
    let mut profile: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    with(profile["syscalls"].as_array_mut().unwrap());
    fs::write(path, serde_json::to_string_pretty(&profile).unwrap()).unwrap();
}

#[test]
fn an_edit_by_hand_is_kept_by_decisions_or_undone() {
    let outer = tempfile::tempdir().unwrap();
    let folder = workload(outer.path());
    let path = folder.join("profile.json");
    let before = fs::read(&path).unwrap();
    let vsock = serde_json::json!({ "names": ["socket"], "action": "SCMP_ACT_ALLOW",
        "args": [{ "index": 0, "value": 0xffff_ffff_u32, "valueTwo": 40, "op": "SCMP_CMP_MASKED_EQ" }] });
    let by_hand = || {
        edit(&path, "\"setuid\",", "\"mount\",");
        change_profile(&path, |entries| entries.push(vsock.clone()));
    };
    by_hand();
    let edited = outer.path().join("edited.json");
    fs::copy(&path, &edited).unwrap();
    let lines = verify(&folder, &[], 1);
    shell(otherwise(&lines, "to undo it")).expect_code(0);
    assert_eq!(fs::read(&path).unwrap(), before);
    verify(&folder, &[], 0);

    by_hand();
    let lines = verify(&folder, &[], 1);
    let keep = remedies(&lines, "FAILED").into_iter().find(|command| command.contains("setuid")).unwrap();
    for part in ["'syscall = \"mount\"'", "'verdict = \"deny\"' 'syscall = \"setuid\"'", "domain == AF_VSOCK"]
    {
        assert!(keep.contains(part), "{part}: {keep}");
    }
    shell(keep).expect_code(0);
    let lines = verify(&folder, &[], 0);
    assert!(lines.iter().any(|line| line.contains("but for 2 decisions")), "{lines:#?}");
    // What it means is what the edit meant.
    run(["diff".as_ref(), edited.as_os_str(), path.as_os_str()]).expect_code(0);
}

/// Each of the checks that find a rule by hand says how to keep that one.
#[test]
fn a_rule_by_hand_is_kept_by_what_any_check_says() {
    let outer = tempfile::tempdir().unwrap();
    for check in ["rules:", "ceiling:", "synthesis:"] {
        let folder = workload(outer.path());
        edit(&folder.join("profile.json"), "\"setuid\",", "\"mount\",\n        \"setuid\",");
        let lines = verify(&folder, &[], 1);
        let at = lines.iter().position(|line| line.starts_with("FAILED") && line.contains(check)).unwrap();
        let command = remedies(&lines[at..], "FAILED")[0];
        shell(command).expect_code(0);
        verify(&folder, &[], 0);
        assert!(fs::read_to_string(folder.join("profile.json")).unwrap().contains("\"mount\""), "{command}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
