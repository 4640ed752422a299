//! Each of ten programs runs 20 times under the profile learned from it without a denial, and is denied something
//! under another's, which is named correctly.

use std::{collections::BTreeSet, fs, path::Path};

use seccomp_learn_tests::{
    cli::run,
    programs::{PROGRAMS, Program, Workload, which},
    require, skip,
};
use serde_json::Value;

fn learn(program: &Program, workload: &Workload, folder: &Path) {
    let mut arguments: Vec<String> = ["learn", "-o", folder.to_str().unwrap()].map(str::to_owned).into();
    arguments.extend(workload.arguments());
    let finished = run(&arguments);
    assert_eq!(finished.code, 0, "{}: {}", program.name, finished.stderr);
}

/// Syscalls that a profile of ours allows, conditions aside.
fn allowed(folder: &Path) -> BTreeSet<String> {
    let profile: Value = serde_json::from_slice(&fs::read(folder.join("profile.json")).unwrap()).unwrap();
    let entries = profile["syscalls"].as_array().unwrap();
    entries
        .iter()
        .filter(|entry| entry["action"] == "SCMP_ACT_ALLOW")
        .flat_map(|entry| entry["names"].as_array().unwrap())
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn check(name: &str) {
    require!();
    let program = PROGRAMS.iter().find(|program| program.name == name).unwrap();
    if let Some(missing) = program.needs.iter().find(|needed| which(needed).is_none()) {
        return skip(&format!("{name} needs `{missing}`"));
    }
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    fs::create_dir(&files).unwrap();
    let workload = (program.prepare)(&files);
    let learned = folder.path().join("learned");
    learn(program, &workload, &learned);
    let allowed = allowed(&learned);
    println!("{name}: {} syscalls allowed", allowed.len());

    let mut arguments: Vec<String> =
        ["test", "--json", "--runs", "20", learned.to_str().unwrap()].map(str::to_owned).into();
    arguments.extend(workload.arguments());
    let finished = run(&arguments).expect_code(0);
    let result = lines(&finished.stdout);
    let last = result.last().unwrap();
    assert_eq!(
        (&last["type"], &last["runs"], &last["denied"]),
        (&"result".into(), &20.into(), &0.into()),
        "{last}"
    );

    // The profile of a program that does next to nothing, without any margin.
    let other = folder.path().join("other");
    let other = other.to_str().unwrap();
    run(["learn", "--margin", "none", "--runtime", "none", "-o", other, "--", "/bin/true"]).expect_code(0);
    let foreign = self::allowed(Path::new(other));
    let mut arguments: Vec<String> = ["test", "--json", other].map(str::to_owned).into();
    arguments.extend(workload.arguments());
    let finished = run(&arguments).expect_code(1);
    let denials: Vec<Value> =
        lines(&finished.stdout).into_iter().filter(|line| line["type"] == "denial").collect();
    assert!(!denials.is_empty(), "{}", finished.stdout);
    for denial in &denials {
        let call = denial["name"].as_str().unwrap();
        // A call that the program's own profile has and the foreign one has not, or has with a condition.
        assert!(
            !foreign.contains(call) || denial["abi"] != "x86_64",
            "{name}: {call} is allowed, but was reported: {denial}"
        );
        assert!(denial["comm"].as_str().is_some_and(|comm| !comm.is_empty()));
        assert!(denial["pid"].as_u64().is_some_and(|pid| pid > 0));
    }
}

macro_rules! programs {
    ($($test:ident $name:literal),* $(,)?) => { $(#[test] fn $test() { check($name); })* };
}

programs! {
    coreutils "coreutils", python3 "python3", redis "redis", nginx "nginx", git "git", sqlite3 "sqlite3",
    openssl "openssl", tar_zstd "tar-zstd", ripgrep "ripgrep", busybox_i386 "busybox-i386",
}
