//! Each of ten programs runs 20 times under the profile learned from it without a denial, and is denied something
//! under another's, which is named correctly.

use std::{fs, path::Path};

use seccomp_learn_tests::{
    cli::run,
    learned::{self, profile},
    programs::{Program, Workload, program},
    require,
};

fn learn(program: &Program, workload: &Workload, folder: &Path) {
    let mut arguments: Vec<String> = ["learn", "-o", folder.to_str().unwrap()].map(str::to_owned).into();
    arguments.extend(workload.arguments());
    let finished = run(&arguments);
    assert_eq!(finished.code, 0, "{}: {}", program.name, finished.stderr);
}

fn check(name: &str) {
    require!();
    let Some(program) = program(name) else { return };
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    fs::create_dir(&files).unwrap();
    let workload = (program.prepare)(&files);
    let learned = folder.path().join("learned");
    learn(program, &workload, &learned);
    println!("{name}: {} syscalls allowed", profile(&learned.join("profile.json")).allowed().len());
    learned::test(&learned, &workload, 20).holds(name, 20);

    // The profile of a program that does next to nothing, without any margin.
    let other = folder.path().join("other");
    let other = other.to_str().unwrap();
    run(["learn", "--margin", "none", "--runtime", "none", "-o", other, "--", "/bin/true"]).expect_code(0);
    let tested = learned::test(Path::new(other), &workload, 1);
    assert_eq!(tested.code, 1);
    let foreign = profile(&Path::new(other).join("profile.json"));
    let foreign = foreign.allowed();
    let denials = tested.denials;
    assert!(!denials.is_empty(), "{}", tested.result);
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
