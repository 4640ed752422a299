//! `many_traces FOLDER N`: writes N traces of 200 rows, all different, as recordings of one service would be, each with
//! a few requests that no other one has. Run by `cargo xtask bench replay`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "an example that writes files"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::BufWriter,
    path::PathBuf,
};

use trace::{
    Abi, Arguments, Backend, FirstSight, Kept, Outcome, PhaseName, Recorder, Row, Target, TargetKind, Trace,
    Values,
};

const ROWS: usize = 200;
/// How many different requests each trace has.
const REQUESTS: u64 = 9;

fn main() {
    let mut words = std::env::args().skip(1);
    let folder = PathBuf::from(words.next().unwrap());
    let count: u64 = words.next().unwrap().parse().unwrap();
    for number in 0..count {
        let file = File::create(folder.join(format!("run-{number:06}.json"))).unwrap();
        trace(number).write(BufWriter::new(file)).unwrap();
    }
}

fn trace(number: u64) -> Trace {
    let recorder = Recorder {
        tool: "seccomp-learn example".to_owned(),
        backend: Backend::Ebpf,
        kernel: "6.18.0".to_owned(),
        arch: "x86_64".to_owned(),
        started: "2026-01-01T00:00:00Z".to_owned(),
        duration_ms: 1000 + number,
        perturbations: Vec::new(),
    };
    let mut trace = Trace::new(recorder, Target::new(TargetKind::Command));
    trace.complete = true;
    trace.syscalls = Abi::X86_64.numbers().take(ROWS).map(|own| row(own, number)).collect();
    trace
}

fn row(number: u32, salt: u64) -> Row {
    let abi = Abi::X86_64;
    let calls = REQUESTS + (u64::from(number) * 31 + salt) % 1000;
    let first = FirstSight {
        after_ms: (u64::from(number) + salt) % 5000,
        pid: 100 + number,
        comm: "server".to_owned(),
    };
    let name = abi.name(number).to_string();
    let kept = |index, name: &str| Kept { index, offset: None, name: name.to_owned(), mask: 0xffff_ffff };
    let values = |arguments: Vec<u64>, calls| Values {
        arguments,
        calls,
        denied: 0,
        runs: 1,
        upper: BTreeSet::new(),
        file: None,
        phases: BTreeSet::from([PhaseName::Startup]),
        first: first.clone(),
    };
    let arguments = match name.as_str() {
        "socket" => {
            let kept = vec![kept(0, "domain"), kept(1, "type"), kept(2, "protocol")];
            Some(Arguments::of(kept, [values(vec![1 + salt % 2, 1, 0], calls)]))
        }
        "ioctl" => {
            let own = (1..REQUESTS).map(|place| values(vec![0x5400 + salt * REQUESTS + place], 1));
            let common = values(vec![0x5401], calls - (REQUESTS - 1));
            Some(Arguments::of(vec![kept(1, "request")], own.chain([common])))
        }
        _ => None,
    };
    Row {
        abi,
        number,
        name,
        calls,
        runs: 1,
        denied: 0,
        outcomes: BTreeMap::from([(Outcome::Ok, calls)]),
        refusals: BTreeMap::new(),
        in_flight: 0,
        never_returned: 0,
        phases: BTreeSet::from([PhaseName::Startup]),
        first,
        arguments,
    }
}
