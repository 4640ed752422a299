//! How many syscalls the profiles of two servers allow: below what static analysis of them allows, and close to what
//! strace sees (nginx 61, redis 51, under these drivers; SysPart and C2C allow nginx 104 and redis 85).

use std::fs;

use seccomp_learn_tests::{
    cli::{read_trace, run},
    programs::program,
    require,
};
use serde_json::Value;
use trace::PhaseName;

fn check(name: &str, most_without_margin: u64, static_analysis: u64) {
    require!();
    let Some(program) = program(name) else { return };
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    fs::create_dir(&files).unwrap();
    let workload = (program.prepare)(&files);
    let trace = folder.path().join("trace.json");
    let trace = trace.to_str().unwrap();
    let mut arguments: Vec<String> = ["record", "--backend", "ebpf", "-o", trace].map(str::to_owned).into();
    arguments.extend(workload.arguments());
    run(&arguments).expect_code(0);
    let recorded = read_trace(trace.as_ref());
    assert_eq!(recorded.phases.iter().map(|phase| phase.name).collect::<Vec<_>>(), PhaseName::ALL);
    let seen_only_in =
        |phase: PhaseName| recorded.syscalls.iter().filter(move |row| row.phases.iter().eq([&phase])).count();
    assert!(seen_only_in(PhaseName::Startup) > 0 && seen_only_in(PhaseName::Serving) > 0);
    let counts = |margin: &str| {
        let profile = folder.path().join(format!("{margin}.json"));
        run(["synth", trace, "--margin", margin, "-o", profile.to_str().unwrap()]).expect_code(0);
        let evidence = fs::read(folder.path().join(format!("{margin}.evidence.json"))).unwrap();
        let evidence: Value = serde_json::from_slice(&evidence).unwrap();
        let count = |key: &str| evidence["counts"][key].as_u64().unwrap();
        (count("observed"), count("allowed_without_runtime"), count("allowed"))
    };
    let (observed, none, none_with_runtime) = counts("none");
    let (_, portable, portable_with_runtime) = counts("portable");
    println!(
        "{name}: {observed} observed; margin none {none}, with the runtime's own {none_with_runtime}; \
         portable {portable}, with the runtime's own {portable_with_runtime}"
    );
    assert!(none <= most_without_margin, "{none} without margin, at most {most_without_margin}");
    assert!(portable < static_analysis, "{portable} portable, static analysis allows {static_analysis}");
}

#[test]
fn nginx() {
    check("nginx", 71, 104);
}

#[test]
fn redis() {
    check("redis", 60, 85);
}
