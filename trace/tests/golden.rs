//! Traces that older tools wrote must still read. The files stay as they are, whatever the format becomes.
#![expect(clippy::disallowed_methods, reason = "the test reads files")]

use std::path::Path;

use seccomp_learn_trace as trace;
use trace::{Backend, Trace};

#[test]
fn traces_of_every_format_so_far_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, backend) in [("1.0-ebpf.json", Backend::Ebpf), ("1.0-notify.json", Backend::Notify)] {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let trace = Trace::read(bytes.as_slice()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(trace.recorder.backend, backend);
        assert!(trace.syscalls.iter().any(|row| row.name == "execve"));
    }
}
