//! Held-out behaviour: a profile learned from five runs with one client holds, with the default options, for twenty
//! runs with another client and other inputs, without a denial. What the ceiling refuses though it was recorded is
//! said apart, as `learn` does: `--ceiling none` or a decision would allow it.

use std::{collections::BTreeSet, fs, path::Path};

use seccomp_learn_tests::{
    inference::INFERENCE,
    learned,
    programs::{Workload, has_ipv6, program},
    require,
};

/// Learns with the workload's own client, and proves with the other.
fn holds(name: &str, mut workload: Workload, other: String) {
    let folder = tempfile::tempdir().unwrap();
    let traces = learned::record(&workload, folder.path(), 5);
    let profile = folder.path().join("profile.json");
    learned::synthesize(&traces, &profile, &[]);
    workload.exercise = Some(other);
    let above = above_the_ceiling(&profile);
    let mut tested = learned::test(&profile, &workload, 20);
    let before = tested.denials.len();
    tested.denials.retain(|denial| !above.contains(denial["name"].as_str().unwrap()));
    println!("{name}: {} denials by the ceiling: {above:?}", before - tested.denials.len());
    assert!(tested.denials.is_empty(), "{name}: {:#?}", tested.denials);
    assert_eq!(
        (&tested.result["runs"], &tested.result["unwell"]),
        (&20.into(), &0.into()),
        "{}",
        tested.result
    );
    assert!(before > 0 || tested.code == 0, "{}", tested.result);
}

/// The calls that were recorded and that the ceiling refuses: the profile's evidence says so before anything is run.
fn above_the_ceiling(profile: &Path) -> BTreeSet<String> {
    let evidence = fs::read(profile.with_extension("evidence.json")).unwrap();
    let evidence: serde_json::Value = serde_json::from_slice(&evidence).unwrap();
    let findings = evidence["findings"].as_array().unwrap().iter();
    findings
        .filter(|finding| finding["kind"] == "above_ceiling")
        .map(|finding| finding["syscall"].as_str().unwrap().to_owned())
        .collect()
}

fn client(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name).display().to_string()
}

fn service(name: &str) -> Option<(tempfile::TempDir, Workload)> {
    let program = program(name)?;
    let folder = tempfile::tempdir().unwrap();
    let workload = (program.prepare)(folder.path());
    Some((folder, workload))
}

#[test]
fn nginx() {
    require!("/usr/bin/python3");
    let Some((_files, workload)) = service("nginx") else { return };
    let (port, ipv6) = (workload.port.unwrap(), if has_ipv6() { "ipv6" } else { "" });
    holds("nginx", workload, format!("/usr/bin/python3 {} {port} {ipv6}", client("web.py")));
}

#[test]
fn redis() {
    require!("/usr/bin/python3");
    let Some((_files, workload)) = service("redis") else { return };
    let port = workload.port.unwrap();
    holds("redis", workload, format!("/usr/bin/python3 {} {port}", client("data.py")));
}

#[test]
fn inference() {
    require!("curl");
    let workload = INFERENCE.workload();
    let port = workload.port.unwrap();
    holds("inference", workload, format!("{} {port}", client("completions.sh")));
}
