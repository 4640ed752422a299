//! A recording made under a filter says so, and lists what the filter refused; a workload's own filter is none of
//! that.

use std::{fs, path::Path};

use seccomp_learn_tests::{
    cli::{Finished, own_program, read_trace, run, seccomp_learn},
    require,
};
use trace::{Errno, Outcome, Trace};

/// Allows everything but two calls, each refused in its own way.
const FILTER: &str = r#"{
    "defaultAction": "SCMP_ACT_ALLOW",
    "architectures": ["SCMP_ARCH_X86_64"],
    "syscalls": [
        { "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 },
        { "names": ["getsid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }
    ]
}"#;

fn denied(trace: &Trace) -> Vec<(String, u64)> {
    let rows = trace.syscalls.iter().filter(|row| row.denied > 0);
    rows.map(|row| (row.name.clone(), row.denied)).collect()
}

/// The recorder itself runs under the filter, and so does what it starts.
fn record_under(filter: &Path, folder: &Path) -> (Finished, Trace) {
    let output = folder.join("trace.json");
    let rare = own_program("rare-calls");
    let mut command = seccomp_learn(["test", "--no-plain"]);
    command.arg(filter).arg("--").arg(seccomp_learn_tests::cli::binary());
    command
        .args(["record", "--backend", "ebpf", "-o"])
        .arg(&output)
        .arg("--")
        .arg(rare)
        .args(["0", "0", "0", "0"]);
    let finished: Finished = command.output().unwrap().into();
    (finished, read_trace(&output))
}

#[test]
fn an_earlier_filter_is_seen_with_what_it_refused() {
    require!();
    let folder = tempfile::tempdir().unwrap();
    let filter = folder.path().join("filter.json");
    fs::write(&filter, FILTER).unwrap();
    let (finished, trace) = record_under(&filter, folder.path());
    assert!(trace.confined, "{}", finished.stderr);
    assert_eq!(denied(&trace), [("getsid".to_owned(), 1), ("getpriority".to_owned(), 1)]);
    let answer = |name: &str| {
        let row = trace.syscalls.iter().find(|row| row.name == name).unwrap();
        assert_eq!(row.calls, 0, "{name} was refused before it was entered");
        row.refusals.keys().copied().collect::<Vec<_>>()
    };
    assert_eq!(answer("getpriority"), [Outcome::Error(Errno::new(13).unwrap())]);
    assert_eq!(answer("getsid"), [Outcome::Error(Errno::ENOSYS)]);
    assert!(finished.stderr.contains("it refused getpriority (1), getsid (1)"), "{}", finished.stderr);
    // What was only ever refused is not needed, and is said.
    let profile = folder.path().join("p.json");
    let trace_file = folder.path().join("trace.json");
    let synth = run(["synth", trace_file.to_str().unwrap(), "-o", profile.to_str().unwrap()]).expect_code(0);
    assert!(synth.stderr.contains("a filter was already on the workload"), "{}", synth.stderr);
    assert!(!fs::read_to_string(&profile).unwrap().contains("getpriority"));
}

#[test]
fn a_workloads_own_filter_is_not_one() {
    require!();
    let folder = tempfile::tempdir().unwrap();
    let filter = folder.path().join("filter.json");
    fs::write(&filter, FILTER).unwrap();
    let output = folder.path().join("trace.json");
    // Here the workload is a program that confines its own child.
    let mut command = seccomp_learn(["record", "--backend", "ebpf", "-o"]);
    command.arg(&output).arg("--").arg(seccomp_learn_tests::cli::binary()).args(["test"]).arg(&filter);
    command.arg("--").arg(own_program("rare-calls")).args(["0", "0", "0", "0"]);
    command.output().unwrap();
    let trace = read_trace(&output);
    assert!(!trace.confined);
    // Once under the listener, once plainly: the kernel answered both times, and the calls were never entered.
    assert_eq!(denied(&trace), [("getsid".to_owned(), 2), ("getpriority".to_owned(), 2)]);
}
