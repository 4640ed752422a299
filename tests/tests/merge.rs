//! `merge`: in any order the same bytes, one trace at a time in memory, and nothing written where it is refused.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use seccomp_learn_tests::{
    cli::{read_trace, run, seccomp_learn},
    made::{large_trace, row, trace, write},
    measured::{Measured, measured},
};

/// Merges with the binary and returns the bytes.
fn merged(inputs: &[&Path]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("merged.json");
    let mut command = seccomp_learn(["merge", "-o"]);
    let finished = command.arg(&output).args(inputs).output().unwrap();
    assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stderr));
    assert!(finished.stdout.is_empty());
    fs::read(output).unwrap()
}

fn three(folder: &Path) -> [PathBuf; 3] {
    [("getpid", 1), ("socket", 2), ("read", 3)]
        .map(|(name, run)| write(&trace(run, vec![row(name, run, "sh")]), folder, &format!("{name}.json")))
}

#[test]
fn any_order_and_grouping_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b, c] = three(folder.path());
    let all = merged(&[&a, &b, &c]);
    assert_eq!(all, merged(&[&c, &a, &b]));
    // A folder stands for the traces in it, also one that is no workload's; equal ones count once.
    assert_eq!(all, merged(&[folder.path(), &b]));
    let pair = folder.path().join("pair.json");
    fs::write(&pair, merged(&[&b, &a])).unwrap();
    assert_eq!(all, merged(&[&c, &pair, &a]));
    let result = read_trace(&pair);
    assert_eq!((result.runs, result.syscalls.len()), (2, 2));
    assert_eq!(merged(&[&a]), fs::read(&a).unwrap(), "one trace alone stays as it is");
}

#[test]
fn a_pipe_is_read_once_and_the_result_goes_where_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b, _] = three(folder.path());
    let mut command = seccomp_learn(["merge", "-o", "-"]);
    command.arg(&a).arg("/dev/stdin").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &fs::read(&b).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, merged(&[&a, &b]));
}

#[test]
fn what_cannot_be_merged_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b, c] = three(folder.path());
    let groups = [[&a, &b], [&b, &c]].map(|[one, other]| merged(&[one, other]));
    let paths = ["ab.json", "bc.json"].map(|name| folder.path().join(name));
    for (path, bytes) in paths.iter().zip(&groups) {
        fs::write(path, bytes).unwrap();
    }
    let output = folder.path().join("kept");
    fs::write(&output, "kept").unwrap();
    let edited = folder.path().join("edited.json");
    fs::write(&edited, fs::read_to_string(&a).unwrap().replace("\"calls\": 1", "\"calls\": 7")).unwrap();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let check = |inputs: &[&Path], culprit: &str| {
        let mut arguments: Vec<&Path> = ["merge".as_ref(), "-o".as_ref(), output.as_path()].to_vec();
        arguments.extend(inputs);
        let finished = run(arguments).expect_code(2);
        assert!(finished.stderr.contains(culprit), "no {culprit:?} in {}", finished.stderr);
        assert_eq!(fs::read_to_string(&output).unwrap(), "kept");
    };
    check(&[&paths[0], &paths[1]], "share run `sha256:");
    // An edited trace is refused also where it would add nothing.
    check(&[&paths[0], &edited], "edited.json`: the trace was changed");
    check(&[&a, Path::new("/no/such.json")], "cannot read `/no/such.json`");
    check(&[&empty], "no trace in");
}

/// Only what the result itself says of each run may grow with the number of traces.
#[test]
fn memory_does_not_grow_with_the_traces_and_time_grows_with_their_number() {
    const FEW: u64 = 40;
    const MANY: u64 = 320;
    let merge = |number: u64| {
        let folder = tempfile::tempdir().unwrap();
        for run in 0..number {
            write(&large_trace(run, 200), folder.path(), &format!("{run}.json"));
        }
        let mut command = seccomp_learn(["merge", "-o"]);
        command.arg(folder.path().join("merged")).arg(folder.path());
        let Measured { finished, peak, cpu, .. } = measured(command);
        finished.expect_code(0);
        let result = read_trace(&folder.path().join("merged"));
        assert_eq!((result.runs, result.syscalls.len()), (number, 200));
        eprintln!("{number} traces of 200 rows: {} KiB, {cpu:?}", peak >> 10);
        (peak, cpu)
    };
    let ((few, short), (many, long)) = (merge(FEW), merge(MANY));
    let each = many.saturating_sub(few) / (MANY - FEW);
    // Ten thousand would have 256 MiB.
    assert!(each < (256 << 20) / 10_000, "{each} bytes for each trace");
    let factor = (MANY / FEW) as u32;
    assert!(long < short * factor * 2, "{long:?} is much more than {factor} times {short:?}");
}
