//! What `review` says in its other forms, what its digest covers, and how it answers.

use std::{fs, path::Path};

use harness::{HeldOut, HeldOutRun, Judged};
use seccomp_learn_tests::{
    cli::run,
    full::with_narrow,
    made,
    page::{hostile, json, workload},
};
use serde_json::Value;
use synth::Profile;
use trace::Digest;

const WORKLOADS: [&str; 3] = ["inference", "nim-llm", "webrtc-media"];

#[test]
fn markdown_shows_hostile_text_as_code() {
    let folder = tempfile::tempdir().unwrap();
    let hostile = hostile(folder.path());
    let finished = run(["review", hostile.to_str().unwrap(), "--format", "md"]);
    let text = finished.stdout;
    assert!(text.contains("`<img src=x onerror=hi()>`"), "{text}");
    let outside: String = text.split('`').step_by(2).collect();
    assert!(!outside.contains('<'), "{outside}");
    assert!(text.len() < 65_536, "a comment on GitHub is no longer");
}

#[test]
fn the_same_evidence_gives_the_same_bytes_and_json_fits_its_schema() {
    let schema = synth::review::review_schema();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for name in WORKLOADS {
        for format in ["html", "md", "json"] {
            let once = || run(["review", workload(name).to_str().unwrap(), "--format", format, "-o", "-"]);
            let first = once();
            assert_eq!(first.stdout, once().stdout, "{name}, {format}");
            if format == "json" {
                let document: Value = serde_json::from_str(&first.stdout).unwrap();
                schema.validate(&document).unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(document["version"], synth::review::REVIEW_VERSION);
                assert!(document["cost"]["filters"].as_array().is_some_and(|list| list.len() > 1), "{name}");
            }
        }
    }
}

#[test]
fn the_statement_is_about_the_profile_and_all_that_it_rests_on() {
    let folder = tempfile::tempdir().unwrap();
    let (serve, narrow) = with_narrow(folder.path());
    let attest = |path: &Path, more: &[&str]| -> Value {
        let arguments = ["review", path.to_str().unwrap(), "--attest"];
        serde_json::from_str(&run(arguments.iter().chain(more)).stdout).unwrap()
    };
    let statement = attest(&serve, &["--against", narrow.to_str().unwrap()]);
    is_in_toto(&statement);
    assert_eq!(statement["predicateType"], synth::review::PREDICATE_TYPE);
    let of = |name: &str| Digest::of(&fs::read(serve.join(name)).unwrap()).to_string();
    let profile = of("profile.json");
    assert_eq!(statement["subject"][0]["digest"]["sha256"], profile.trim_start_matches("sha256:"));
    let own = |path: &Path| {
        let trace: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        trace["digest"].as_str().unwrap().to_owned()
    };
    let mut traces: Vec<String> =
        (1..=5).map(|run| own(&serve.join(format!("traces/run-{run:03}.json")))).collect();
    traces.sort();
    let merged = folder.path().join("merged.json");
    run(["merge", serve.join("traces").to_str().unwrap(), "-o", merged.to_str().unwrap()]).expect_code(0);
    let decision = |verdict: &str, syscall: &str, when: &str, reason: &str, owner: &str, more: &str| {
        format!(
            r#"decision {{"verdict":"{verdict}","syscall":"{syscall}","when":"{when}","reason":"{reason}","owner":"{owner}"{more}}}"#
        )
    };
    let manifest = [
        "seccomp-learn review 1".to_owned(),
        format!("profile {profile}"),
        format!("evidence {}", of("profile.evidence.json")),
        format!("trace {}", traces.join("\ntrace ")),
        format!("merged {}", own(&merged)),
        decision("accept", "mbind", "always", "falls back to the default policy", "security", ""),
        decision(
            "allow",
            "personality",
            "arg0 & 0xffffffff == 0x40000",
            "the sanitizer needs fixed addresses",
            "platform",
            r#","expires":"2999-12-31""#,
        ),
        decision("deny", "symlink", "always", "nothing here makes links", "security", ""),
        format!("heldout {}", of("heldout.json")),
        format!("against {}\n", Digest::of(&fs::read(&narrow).unwrap())),
    ]
    .join("\n");
    let digests = &statement["predicate"]["digests"];
    assert_eq!(digests["manifest"], manifest);
    assert_eq!(digests["review"], Digest::of(manifest.as_bytes()).to_string());
    assert_eq!(json(&serve, &["--against", narrow.to_str().unwrap()])["digests"], *digests);
    is_in_toto(&attest(Path::new("docker"), &[]));

    // Whatever the first screen says something about changes it.
    let digest = |more: &[&str]| attest(&serve, more)["predicate"]["digests"]["review"].clone();
    let before = digest(&[]);
    assert_eq!(before, digest(&["--against", "runtime-default"]));
    assert_ne!(before, digest(&["--against", narrow.to_str().unwrap()]));
    let starts = fs::read_to_string(serve.join("heldout.json")).unwrap();
    fs::write(serve.join("heldout.json"), starts.replacen("mkdirat", "mkdir", 1)).unwrap();
    assert_ne!(before, digest(&[]));
    fs::remove_file(serve.join("heldout.json")).unwrap();
    assert_ne!(before, digest(&[]));
}

/// Field for field what a Statement has:
/// <https://github.com/in-toto/attestation/blob/v1.1.0/spec/v1/statement.md>,
/// <https://github.com/in-toto/attestation/blob/v1.1.0/spec/v1/resource_descriptor.md> and `digest_set.md` beside it.
#[track_caller]
fn is_in_toto(statement: &Value) {
    const FIELDS: [&str; 4] = ["_type", "subject", "predicateType", "predicate"];
    let fields: Vec<&str> = statement.as_object().unwrap().keys().map(String::as_str).collect();
    assert!(fields.len() == 4 && fields.iter().all(|own| FIELDS.contains(own)), "{fields:?}");
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    let (scheme, rest) = statement["predicateType"].as_str().unwrap().split_once(':').unwrap();
    assert!(["urn", "https"].contains(&scheme) && !rest.is_empty() && !rest.contains(char::is_whitespace));
    assert!(statement["predicate"].is_object());
    let subjects = statement["subject"].as_array().unwrap();
    assert!(!subjects.is_empty());
    for subject in subjects {
        let subject = subject.as_object().unwrap();
        assert!(subject.keys().all(|key| ["name", "digest"].contains(&key.as_str())), "{subject:?}");
        assert!(subject["name"].as_str().is_some_and(|name| !name.is_empty()));
        let digests = subject["digest"].as_object().unwrap();
        assert!(!digests.is_empty());
        for (algorithm, digest) in digests {
            let digest = digest.as_str().unwrap();
            assert!(algorithm == "sha256" && digest.len() == 64, "{algorithm} {digest}");
            assert!(digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{digest}");
        }
    }
}

/// What comes through a pipe is there once: what is signed is what was judged.
#[test]
fn a_profile_is_read_once() {
    let profile = workload("inference").join("profile.json");
    let finished = std::process::Command::new("/bin/sh")
        .args(["-c", r#"cat "$1" | "$0" review /dev/stdin --attest"#])
        .args([seccomp_learn_tests::cli::binary(), profile.as_path()])
        .output()
        .unwrap();
    let statement: Value = serde_json::from_slice(&finished.stdout).unwrap();
    let digest = Digest::of(&fs::read(profile).unwrap()).to_string();
    assert_eq!(statement["subject"][0]["digest"]["sha256"], digest.trim_start_matches("sha256:"));
}

/// The rows are the same in number and in name, and the runs, too: only what one of them says is another.
#[test]
fn a_merged_trace_that_was_changed_has_another_digest() {
    let folder = tempfile::tempdir().unwrap();
    let traces = folder.path().join("traces");
    fs::create_dir_all(&traces).unwrap();
    fs::copy(workload("inference").join("profile.json"), folder.path().join("profile.json")).unwrap();
    let runs = [1, 2]
        .map(|run| made::trace(run, vec![made::row("read", 2, "serve"), made::row("write", 1, "serve")]));
    let mut merged = trace::merge(runs).unwrap();
    made::write(&merged, &traces, "run-001.json");
    let before = json(folder.path(), &[])["digests"].clone();
    merged.syscalls.pop();
    merged.seal().unwrap();
    made::write(&merged, &traces, "run-001.json");
    let after = json(folder.path(), &[])["digests"].clone();
    assert_eq!(before["traces"], after["traces"]);
    assert_ne!(before["review"], after["review"]);
}

#[test]
fn starts_that_were_held_out_are_counted_for_this_profile() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["profile.json", "profile.evidence.json"] {
        fs::copy(workload("inference").join(name), folder.path().join(name)).unwrap();
    }
    let own = Profile::read(&fs::read(folder.path().join("profile.json")).unwrap()).unwrap().digest();
    let start = |number: u8, profile: Digest| HeldOutRun {
        started: format!("2026-01-01T00:00:{number:02}Z"),
        duration_ms: 1,
        container: "c".to_owned(),
        name: None,
        pod: None,
        image: None,
        judged: Judged::Enforced,
        profile: Some(profile),
        tool: "seccomp-learn 0.1.0".to_owned(),
        kernel: "6.8.0".to_owned(),
        arch: "x86_64".to_owned(),
        gpu_driver: None,
        calls: None,
        denials: Vec::new(),
        not_known: Vec::new(),
    };
    let mut starts = HeldOut::default();
    for number in 0..3 {
        starts.add(start(number, own));
    }
    starts.add(start(9, Digest::of(b"another")));
    fs::write(folder.path().join("heldout.json"), starts.to_json()).unwrap();
    let finished = run(["review", folder.path().to_str().unwrap(), "--format", "md"]).expect_code(0);
    let line = "0 refused in 3 starts; up to 64 % of such starts may still meet a refusal";
    assert!(finished.stdout.contains(line), "{}", finished.stdout);
}

/// Runs of 1.5 beside those of 1.4: the folder is of 1.5 now, and so are the starts that count.
#[test]
fn a_new_image_is_the_one_that_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (serve, _) = with_narrow(folder.path());
    let made = json(&serve, &[]);
    let newest = Digest::of(b"1.5").to_string();
    assert_eq!(made["subject"]["made"]["image"], newest);
    let images = made["subject"]["recorded"]["images"].as_array().unwrap();
    let images: Vec<(&str, u64)> =
        images.iter().map(|own| (own["name"].as_str().unwrap(), own["runs"].as_u64().unwrap())).collect();
    assert_eq!(images, [("registry.example/app:1.5", 2), ("registry.example/app:1.4", 3)]);
    let starts = &made["summary"]["starts"];
    assert_eq!(
        (&starts["starts"], &starts["denied"], &starts["not_known"]),
        (&4.into(), &1.into(), &1.into())
    );
}

#[test]
fn the_answer_says_whether_anything_stands_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let review = |path: &Path, more: &[&str]| {
        let mut arguments = vec!["review", path.to_str().unwrap(), "--format", "md"];
        arguments.extend(more);
        run(arguments)
    };
    // A profile that allows everything has much against it, and no evidence.
    let open = folder.path().join("open.json");
    fs::write(&open, r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}"#).unwrap();
    let finished = review(&open, &[]).expect_code(1);
    assert!(finished.stderr.contains("danger: "), "{finished:?}");
    // Wider than another profile, and nobody answers for it.
    let inference = workload("inference");
    let narrow = folder.path().join("narrow.json");
    fs::write(&narrow, r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#).unwrap();
    let finished = review(&inference, &["--against", narrow.to_str().unwrap()]).expect_code(1);
    assert!(finished.stderr.contains("danger: Wider than"), "{finished:?}");
    // Evidence of another profile says nothing about this one.
    let copy = folder.path().join("copy");
    fs::create_dir_all(&copy).unwrap();
    for name in ["profile.json", "profile.evidence.json"] {
        fs::copy(inference.join(name), copy.join(name)).unwrap();
    }
    review(&copy, &[]).expect_code(0);
    let text = fs::read_to_string(copy.join("profile.json")).unwrap();
    fs::write(copy.join("profile.json"), text.replacen("\"accept4\",", "", 1)).unwrap();
    let finished = review(&copy, &[]).expect_code(3);
    assert!(finished.stderr.contains("danger: The evidence is about another profile"), "{finished:?}");
    // A shipped default has a review, too.
    let finished = review(Path::new("docker"), &["--against", "podman"]);
    assert!(finished.stdout.contains("Seccomp profile `docker`"), "{finished:?}");
}
