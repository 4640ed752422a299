//! `synth --format`: one profile in every form, each naming it as `install` does.

use std::{fs, path::Path};

use seccomp_learn_tests::cli::{Finished, run};
use serde_json::Value;
use synth::{Profile, format};

const TRACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../trace/tests/golden/1.0-ebpf.json");

fn synth_to(folder: &Path, arguments: &[&str]) -> Finished {
    let output = folder.join("profile.json").display().to_string();
    run(["synth", TRACE, "-o", &output, "--name", "nim"].iter().chain(arguments)).expect_code(0)
}

#[test]
fn every_form_is_of_the_same_profile() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    synth_to(folder.path(), &[]);
    let plain = Profile::read(&read("profile.json")).unwrap();
    let name = "nim".parse::<format::ProfileName>().unwrap().of(&plain);
    let evidence = read("profile.evidence.json");

    let spo = synth_to(folder.path(), &["--format", "spo"]);
    let object = String::from_utf8(read("profile.json")).unwrap();
    assert_eq!(object, format::seccomp_profile(&plain, &name).unwrap());
    let object: Value = serde_json::from_str(&object).unwrap();
    assert_eq!(object["apiVersion"], "security-profiles-operator.x-k8s.io/v1");
    assert_eq!(object["metadata"]["name"], name.as_str());
    assert!(spo.stdout.is_empty() && spo.stderr.contains(&format!("operator/{name}.json")), "{spo:?}");
    assert_eq!(read("profile.evidence.json"), evidence, "the evidence is of the profile, whatever its form");

    let pod = synth_to(folder.path(), &["--format", "pod"]);
    assert_eq!(pod.stdout, format::security_context(&format!("seccomp-learn/{name}.json")));
    assert!(pod.stderr.contains("seccomp-learn install"), "{pod:?}");
    for engine in ["docker", "podman"] {
        let words = synth_to(folder.path(), &["--format", engine]);
        let file = folder.path().join("profile.json");
        assert_eq!(words.stdout, format!("--security-opt seccomp={}\n", file.display()));
        assert_eq!(read("profile.json"), plain.to_json().as_bytes());
    }
}

#[test]
fn standard_output_has_one_result() {
    let both = run(["synth", TRACE, "-o", "-", "--format", "pod"]).expect_code(2);
    assert!(both.stdout.is_empty() && both.stderr.contains("give the profile a file with `-o`"), "{both:?}");
    let object = run(["synth", TRACE, "-o", "-", "--format", "spo", "--name", "nim"]).expect_code(0);
    assert!(serde_json::from_str::<Value>(&object.stdout).is_ok(), "{object:?}");
    let bad = run(["synth", TRACE, "-o", "-", "--format", "spo", "--name", "No"]).expect_code(2);
    assert!(bad.stderr.contains("`No` is no name for a profile; use"), "{bad:?}");
}
