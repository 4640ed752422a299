//! Traces that older tools wrote must still read. The files stay as they are, whatever the format becomes.
#![expect(clippy::disallowed_methods, reason = "the test reads files")]

use std::path::Path;

use seccomp_learn_trace as trace;
use trace::{Arguments, Backend, FileKind, FilterMoment, Outcome, Trace};

#[test]
fn traces_of_every_format_so_far_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let schema = jsonschema::validator_for(&trace::json_schema()).unwrap();
    for (name, backend) in [
        ("1.0-ebpf.json", Backend::Ebpf),
        ("1.0-notify.json", Backend::Notify),
        ("1.1-container.json", Backend::Ebpf),
        ("1.2-arguments.json", Backend::Ebpf),
    ] {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let trace = Trace::read(bytes.as_slice()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(trace.recorder.backend, backend);
        schema.validate(&serde_json::from_slice(&bytes).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
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

/// The same for 1.2: values with files and upper halves, fields of structs, calls with too many values, opens.
#[test]
fn arguments_are_what_they_were() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/1.2-arguments.json");
    let bytes = std::fs::read(path).unwrap();
    let trace = Trace::read(bytes.as_slice()).unwrap();
    let arguments = |name| -> &Arguments {
        trace.syscalls.iter().find(|row| row.name == name).unwrap().arguments.as_ref().unwrap()
    };
    let ioctl = &arguments("ioctl").values;
    let kinds: Vec<FileKind> = ioctl.iter().map(|values| values.file.as_ref().unwrap().kind).collect();
    use FileKind::{Anonymous, CharacterDevice, None, Regular};
    assert_eq!(kinds, [CharacterDevice, Regular, None, Anonymous, CharacterDevice]);
    assert_eq!(ioctl[4].arguments, [0x8004_5430]);
    assert!(ioctl[4].upper.contains("request"));
    assert_eq!(arguments("socket").kept.len(), 3);
    let clone3 = arguments("clone3");
    assert_eq!(
        (clone3.kept[0].offset, clone3.unread, &*clone3.values[0].arguments),
        (Some(0), 1, &[0x1000_0000][..])
    );
    let prctl = arguments("prctl");
    assert_eq!((prctl.wide, prctl.beyond, prctl.values.len()), (true, 44, 256));
    let opens: Vec<_> = trace
        .opens
        .iter()
        .map(|open| (open.path.as_str(), open.outcomes.contains_key(&Outcome::Ok)))
        .collect();
    assert_eq!(
        opens,
        [("/dev/nvidiactl", false), ("/dev/shm/golden", true), ("/nowhere/libcuda.so.1", false)]
    );
    assert_eq!(trace.target.gpu, Some(false));
    let mut written = Vec::new();
    trace.write(&mut written).unwrap();
    assert_eq!(String::from_utf8(written).unwrap(), String::from_utf8(bytes).unwrap());
}
