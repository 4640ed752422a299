//! Traces that nobody recorded: as many and as large as a test wants them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use trace::{
    Abi, Arguments, Attached, Backend, Container, ContainerKind, FirstSight, Kept, Outcome, PhaseName,
    Recorder, Row, Target, TargetKind, Trace, Values,
};

/// A row of a call that succeeded so often.
pub fn row(name: &str, calls: u64, comm: &str) -> Row {
    Row {
        abi: Abi::X86_64,
        number: Abi::X86_64.number(name).unwrap(),
        name: name.to_owned(),
        calls,
        runs: 1,
        denied: 0,
        outcomes: BTreeMap::from([(Outcome::Ok, calls)]),
        refusals: BTreeMap::new(),
        in_flight: 0,
        never_returned: 0,
        phases: BTreeSet::from([PhaseName::Startup]),
        first: FirstSight { after_ms: 12, pid: 4711, comm: comm.to_owned() },
        arguments: None,
    }
}

/// The same with these values of its first arguments; so many calls as values.
pub fn row_with(name: &str, kept: &[&str], values: &[&[u64]]) -> Row {
    let mut row = row(name, values.len() as u64, "worker");
    let kept = kept.iter().zip(0..).map(|(name, index)| Kept {
        index,
        offset: None,
        name: (*name).to_owned(),
        mask: u64::from(u32::MAX),
    });
    let one = |values: &&[u64]| Values {
        arguments: values.to_vec(),
        calls: 1,
        denied: 0,
        runs: 1,
        upper: BTreeSet::new(),
        file: None,
        phases: row.phases.clone(),
        first: row.first.clone(),
    };
    row.arguments = Some(Arguments::of(kept.collect(), values.iter().map(one)));
    row
}

/// A trace of one run, closed in order; each number is another run.
pub fn trace(run: u64, rows: Vec<Row>) -> Trace {
    let recorder = Recorder {
        tool: "seccomp-learn 0.1.0".to_owned(),
        backend: Backend::Ebpf,
        kernel: "6.18.0".to_owned(),
        arch: "x86_64".to_owned(),
        started: "2026-01-01T00:00:00Z".to_owned(),
        duration_ms: run,
        perturbations: Vec::new(),
    };
    let target =
        Target { command: vec!["worker".to_owned()], exit_code: Some(0), ..Target::new(TargetKind::Command) };
    let mut trace = Trace::new(recorder, target);
    trace.complete = true;
    trace.syscalls = rows;
    trace
}

/// A container of this image.
pub fn container(image: &str) -> Container {
    Container {
        engine: "docker 27.5.1".to_owned(),
        id: "0123456789ab".to_owned(),
        name: Some("serve".to_owned()),
        image: Some(image.to_owned()),
        labels: BTreeMap::new(),
        kind: ContainerKind::Container,
        pod: None,
        restart: 0,
        seccomp: None,
        no_new_privileges: Some(true),
        user: None,
        attached: Attached { before_first_exec_ms: Some(20) },
    }
}

/// A trace with so many rows, a third of them with arguments.
pub fn large_trace(run: u64, rows: usize) -> Trace {
    let names = Abi::X86_64.numbers().map(|number| Abi::X86_64.name(number).to_string());
    let one = |(place, name): (usize, String)| {
        if place % 3 == 0 {
            row_with(&name, &["one", "two"], &[&[0, 1], &[run % 4, 2], &[7, place as u64]])
        } else {
            row(&name, 1 + run % 5, "worker")
        }
    };
    trace(run, names.take(rows).enumerate().map(one).collect())
}

/// Writes a trace into a folder.
pub fn write(trace: &Trace, folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    trace.write(std::io::BufWriter::new(fs::File::create(&path).unwrap())).unwrap();
    path
}
