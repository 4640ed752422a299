//! What a merged trace says about runs that were not recorded: which things are counted, and in how many runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::{called, refused, row, trace};
use seccomp_learn_synth::{Estimate, completeness};
use trace::{Abi, Digest, File, FileKind, Row, Trace, merge};

/// A run of these rows that began so many milliseconds after another one.
fn run(number: u64, rows: impl IntoIterator<Item = Row>) -> Trace {
    let mut run = trace(rows);
    run.recorder.duration_ms = 1000 + number;
    run.seal().unwrap();
    run
}

fn call(name: &str) -> Row {
    row(Abi::X86_64, name, 3)
}

#[test]
fn syscalls_and_ways_of_calling_are_counted_by_run() {
    let ioctl = |requests: &[u64]| called(Abi::X86_64, "ioctl", requests.iter().map(|request| [*request]));
    let runs = [
        run(1, [call("read"), ioctl(&[0x5413, 0x5401]), call("mkdir")]),
        run(2, [call("read"), ioctl(&[0x5413])]),
        run(3, [call("read"), ioctl(&[0x5413, 0x541b]), refused(Abi::X86_64, "ptrace", 2)]),
    ];
    let merged = merge(runs.clone()).unwrap();
    let mut made = completeness(&merged);
    assert_eq!(made.runs, 3);
    // What a filter refused was not carried out: nothing is known of what it would have led to.
    let syscalls = &made.syscalls;
    assert_eq!((syscalls.observed, syscalls.once, syscalls.twice, syscalls.incidences), (3, 1, 0, 7));
    // `ioctl` by its three requests.
    let arguments = &made.arguments;
    assert_eq!((arguments.observed, arguments.once, arguments.twice, arguments.incidences), (5, 3, 0, 9));
    runs.iter().for_each(|run| made.found_in(run));
    let once: Vec<(&str, Option<&str>, Option<Digest>)> =
        made.arguments_once.iter().map(|one| (one.syscall.as_str(), one.call.as_deref(), one.run)).collect();
    assert_eq!(
        once,
        [
            ("ioctl", Some("ioctl(FIONREAD)"), runs[2].digest),
            ("ioctl", Some("ioctl(TCGETS)"), runs[0].digest),
            ("mkdir", None, runs[0].digest),
        ]
    );
    assert_eq!(made.syscalls_once.len(), 1);
    assert_eq!(made.syscalls_once[0].first.comm, "server");
    assert!(made.coarse.is_empty());
    assert!(made.assumptions.iter().all(|sentence| !sentence.contains("differ")), "{:?}", made.assumptions);
    let text = serde_json::to_string(&made).unwrap();
    assert!(text.contains("\"next_run\":0.333333") && !text.contains("\"values\""), "{text}");
}

#[test]
fn a_value_on_several_descriptors_counts_once() {
    let on = |path: &str| {
        let mut row = called(Abi::X86_64, "ioctl", [[0x5413]]);
        let kind = FileKind::CharacterDevice;
        row.arguments.as_mut().unwrap().values[0].file =
            Some(File { kind, device: None, path: Some(path.to_owned()) });
        row
    };
    let told = |runs: &[Trace]| {
        let made = completeness(&merge(runs.iter().cloned()).unwrap());
        let Estimate { observed, once, twice, incidences, .. } = made.arguments;
        (observed, once, twice, incidences, made.arguments_once.len(), made.coarse.len())
    };
    let both = |number| {
        let (mut row, tty) = (on("/dev/pts/1"), on("/dev/tty"));
        row.calls += tty.calls;
        *row.outcomes.get_mut(&trace::Outcome::Ok).unwrap() += tty.calls;
        let arguments = row.arguments.as_mut().unwrap();
        arguments.values.extend(tty.arguments.unwrap().values);
        run(number, [row])
    };
    // In every run on one of them, so in every run; and in one only.
    assert_eq!(told(&[both(1), run(2, [on("/dev/pts/1")])]), (1, 0, 1, 2, 0, 0));
    assert_eq!(told(&[both(1), run(2, [call("read")])]), (2, 2, 0, 2, 2, 0));
    // Each run has a terminal of its own: how many runs that is cannot be told from the sum of them.
    let own: Vec<Trace> = (1..=5).map(|number| run(number, [on(&format!("/dev/pts/{number}"))])).collect();
    assert_eq!(told(&own), (1, 0, 0, 5, 0, 1));
    // What can be told of the same call is.
    let with = |number: u64, request: u64| {
        let mut row = called(Abi::X86_64, "ioctl", [[0x5413], [request]]);
        let kind = FileKind::CharacterDevice;
        row.arguments
            .as_mut()
            .unwrap()
            .values
            .iter_mut()
            .find(|own| own.arguments == [0x5413])
            .unwrap()
            .file = Some(File { kind, device: None, path: Some(format!("/dev/pts/{number}")) });
        run(number, [row])
    };
    assert_eq!(told(&[with(1, 0x5401), with(2, 0x5401), with(3, 0x541b)]), (2, 1, 1, 3, 1, 1));
}

#[test]
fn what_cannot_be_told_apart_is_one_thing_and_is_said() {
    let mut wide = called(Abi::X86_64, "ioctl", [[0x5413], [0x5401]]);
    wide.arguments.as_mut().unwrap().wide = true;
    let mut other = run(2, [wide.clone(), call("read")]);
    other.recorder.kernel = "5.15.0".to_owned();
    other.seal().unwrap();
    let merged = merge([run(1, [wide]), other]).unwrap();
    let made = completeness(&merged);
    assert_eq!(made.arguments.observed, 2);
    assert_eq!(made.coarse, ["ioctl".to_owned()].into());
    let said = made.assumptions.join("\n");
    assert!(said.contains("differ in kernel") && said.contains("Of ioctl the arguments"), "{said}");
}

#[test]
fn one_run_lists_nothing() {
    let made = completeness(&run(1, [call("read"), call("write")]));
    assert_eq!((made.syscalls.once, made.syscalls_once.len(), made.syscalls.next_run), (2, 0, None));
    assert!(made.assumptions.iter().any(|sentence| sentence.contains("at least five")));
}
