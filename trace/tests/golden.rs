//! Traces that older tools wrote must still read. The files stay as they are, whatever the format becomes.
#![expect(clippy::disallowed_methods, reason = "the test reads files")]

use std::path::Path;

use seccomp_learn_trace as trace;
use trace::{Backend, FilterMoment, Trace};

#[test]
fn traces_of_every_format_so_far_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, backend) in [
        ("1.0-ebpf.json", Backend::Ebpf),
        ("1.0-notify.json", Backend::Notify),
        ("1.1-container.json", Backend::Ebpf),
    ] {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let trace = Trace::read(bytes.as_slice()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(trace.recorder.backend, backend);
        assert!(trace.syscalls.iter().any(|row| row.name == "execve"));
    }
}

/// What came with 1.1 is all in one file, and writes back to the same bytes.
#[test]
fn a_container_s_trace_has_its_sections() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/1.1-container.json");
    let bytes = std::fs::read(path).unwrap();
    let trace = Trace::read(bytes.as_slice()).unwrap();
    let runtime = trace.runtime.as_ref().unwrap();
    assert_eq!(runtime.filter, FilterMoment::Loaded);
    assert!(runtime.setup.iter().any(|row| row.name == "mount"));
    assert!(runtime.start.iter().any(|row| row.name == "execve"));
    assert_eq!(trace.exec.as_ref().unwrap().sessions, 1);
    let container = trace.target.container.as_ref().unwrap();
    assert!(container.is_observed() && container.pod.is_some() && container.labels.len() == 2);
    let mut written = Vec::new();
    trace.write(&mut written).unwrap();
    assert_eq!(String::from_utf8(written).unwrap(), String::from_utf8(bytes).unwrap());
}
