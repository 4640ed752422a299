//! `explain`: what a call does, and why it is in a profile, on the profiles of the repository.

use std::{fs, path::Path};

use seccomp_learn_tests::cli::{Finished, run};
use serde_json::Value;

const WORKLOAD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles/workloads/webrtc-media");

fn explain(arguments: &[&str]) -> Finished {
    run(["explain"].iter().chain(arguments))
}

fn json(arguments: &[&str], code: i32) -> Value {
    let finished = explain(&[arguments, &["--json"]].concat()).expect_code(code);
    assert_eq!(finished.stdout.lines().count(), 1, "{finished:?}");
    serde_json::from_str(&finished.stdout).unwrap()
}

#[test]
fn a_call_is_explained_without_a_profile() {
    let text = explain(&["ptrace"]).expect_code(0).stdout;
    for part in [
        "watches and steers another process",
        "risk          inspect:",
        "opens up",
        "x86_64 101",
        "TECHNIQUE-ptrace",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(
        !text.contains("In the profile") && text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
    let object = json(&["ptrace"], 0);
    assert_eq!((&object["version"], &object["risk"]), (&"1.0".into(), &"inspect".into()));
    assert!(object.get("profile").is_none());
    // A call of another machine.
    assert!(explain(&["rtas"]).expect_code(0).stdout.contains("on other machines only"));
}

#[test]
fn a_profile_says_whether_and_its_evidence_why() {
    let openat = json(&["openat", WORKLOAD], 0);
    let profile = &openat["profile"];
    assert_eq!(profile["answers"][0]["answer"], "allowed");
    assert_eq!(profile["brought"], serde_json::json!(["open", "openat2"]));
    let reasons = profile["why"][0]["reasons"].as_array().unwrap();
    assert!(reasons[0].as_str().unwrap().contains("first by python3"), "{reasons:?}");
    assert!(openat["attacks"].as_array().unwrap().iter().any(|attack| attack["open"] == true));

    // What came with it, and what it came with.
    let openat2 = json(&["openat2", WORKLOAD], 0);
    assert_eq!(openat2["profile"]["why"][0]["came_with"], serde_json::json!(["openat"]));
    let text = explain(&["openat2", WORKLOAD]).expect_code(0).stdout;
    assert!(
        text.contains("came with     openat") && text.contains("not observed: stands for openat"),
        "{text}"
    );

    // What is refused, and what it is replaced by.
    let clone3 = explain(&["clone3", WORKLOAD]).expect_code(1).stdout;
    assert!(
        clone3.contains("x86_64        refused: ENOSYS") && clone3.contains("brought       clone"),
        "{clone3}"
    );
    assert!(explain(&["ptrace", WORKLOAD]).expect_code(1).stdout.contains("the default action"));
    let inference = concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles/workloads/inference");
    let mbind = explain(&["mbind", inference]).expect_code(1).stdout;
    let mbind = mbind.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(mbind.contains("found `mbind` was called 6 times and succeeded"), "{mbind}");
}

#[test]
fn a_rule_is_judged_by_the_filter() {
    let answer = |rule: &str, code: i32| {
        let object = json(&[rule, WORKLOAD], code);
        (object["profile"]["answers"][0]["answer"].as_str().unwrap().to_owned(), object)
    };
    let (allowed, object) = answer("ioctl TIOCGWINSZ", 0);
    assert_eq!((allowed.as_str(), &object["conditions"]), ("allowed", &"arg1 & 0xffffffff == 0x5413".into()));
    // The one entry that decides.
    assert_eq!(object["profile"]["entries"].as_array().unwrap().len(), 1);
    assert_eq!(answer("ioctl(request == TIOCSTI)", 1).0, "refused");
    assert_eq!(answer("ioctl", 0).0, "partly");
    let (partly, object) = answer("socket(AF_INET)", 0);
    assert_eq!(partly, "partly");
    let own = &object["profile"]["answers"][0];
    assert!(own["passes"].as_str().unwrap().starts_with("socket(AF_INET, "), "{own}");
    assert_eq!(answer("socket(domain == AF_ALG)", 1).0, "refused");
    let entry = r#"{"names": ["mprotect"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 2, "value": 6, "valueTwo": 6, "op": "SCMP_CMP_MASKED_EQ"}]}"#;
    assert_eq!(answer(entry, 1).0, "refused");
    // Engines' own defaults go by name.
    assert_eq!(json(&["mprotect", "docker"], 0)["profile"]["answers"][0]["answer"], "allowed");
    assert_eq!(explain(&["unshare(CLONE_NEWUSER)", "docker"]).expect_code(1).code, 1);
}

/// What the kernel asks no filter about is carried out, whatever the profile says.
#[test]
fn a_call_that_passes_every_filter_is_said_to() {
    let text = explain(&["uretprobe", "docker"]).expect_code(0).stdout;
    assert!(text.contains("the kernel asks no filter about it") && !text.contains("refused"), "{text}");
    assert_eq!(json(&["uretprobe", "docker"], 0)["profile"]["answers"][0]["answer"], "allowed");
}

#[test]
fn values_are_read_in_their_places() {
    for (asked, conditions) in [
        ("openat(AT_FDCWD)", "arg0 & 0xffffffff == 0xffffff9c"),
        ("kill(-1)", "arg0 & 0xffffffff == 0xffffffff"),
        ("ioctl(1, TIOCGWINSZ)", "arg0 & 0xffffffff == 0x1, arg1 & 0xffffffff == 0x5413"),
    ] {
        assert_eq!(json(&[asked], 0)["conditions"], conditions);
    }
}

#[test]
fn what_cannot_be_explained_names_its_culprit() {
    for (arguments, culprit) in [
        (&["sokcet"][..], "unknown syscall `sokcet`"),
        (&["socket(domian == 2)"], "`domian`"),
        (&["socket", "/no/such/profile.json"], "/no/such/profile.json"),
        (&["socket", "dokcer"], "`dokcer`"),
    ] {
        let finished = explain(arguments).expect_code(2);
        assert!(finished.stdout.is_empty() && finished.stderr.contains(culprit), "{finished:?}");
    }
}

/// What stands in evidence was chosen by the workload: a terminal must not obey it.
#[test]
fn evidence_cannot_steer_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["profile.json", "profile.evidence.json"] {
        let text = fs::read_to_string(Path::new(WORKLOAD).join(file)).unwrap();
        fs::write(folder.path().join(file), text.replace("\"python3\"", r#""\u001b[2J\u0007<b>""#)).unwrap();
    }
    let folder = folder.path().display().to_string();
    let text = explain(&["openat", &folder]).expect_code(0).stdout;
    assert!(text.contains("\\u{1b}[2J\\u{7}<b>") && !text.contains(['\u{1b}', '\u{7}']), "{text}");
}

#[test]
fn evidence_of_another_profile_gives_no_reasons() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["profile.json", "profile.evidence.json"] {
        let text = fs::read_to_string(Path::new(WORKLOAD).join(file)).unwrap();
        fs::write(
            folder.path().join(file),
            text.replace("\"defaultErrnoRet\": 1", "\"defaultErrnoRet\": 13"),
        )
        .unwrap();
    }
    let finished = explain(&["openat", &folder.path().display().to_string()]).expect_code(0);
    assert!(finished.stderr.contains("is about another profile"), "{finished:?}");
    assert!(
        !finished.stdout.contains("first by") && finished.stdout.contains("no evidence says why"),
        "{finished:?}"
    );
}
