//! Arguments are what strace says: the recorded tuples equal what was in the registers of the same calls of the same
//! processes in the same run, for calls that are known to the last bit and for real programs, with both backends.

use std::path::Path;

use seccomp_learn_tests::{
    cgroup::Cgroup,
    cli::{Finished, Recorder, binary, own_program, read_trace},
    known::{CALLS, I386},
    programs::{Workload, program},
    require,
    strace::{self, Call},
    tuples,
};
use trace::{Abi, Row, Trace};

/// Records by `ebpf` what strace follows: the tracee alone is in the recorded cgroup.
fn by_ebpf(workload: &Workload, folder: &Path) -> (Trace, Vec<Call>) {
    let cgroup = Cgroup::new("arguments");
    let output = folder.join("trace.json");
    let (file, group) = (output.to_str().unwrap(), cgroup.path().to_str().unwrap());
    let recorder = Recorder::start(["--backend", "ebpf", "--output", file, "--cgroup", group]);
    let driver = workload.drive(cgroup.path());
    let (calls, well) = strace::follow_calls(&workload.command, Some(cgroup.path()), folder, true);
    assert!(well, "{:?} failed below strace", workload.command);
    if let Some(mut driver) = driver {
        assert!(driver.wait().unwrap().success(), "the driver failed");
    }
    recorder.wait().expect_code(0);
    (read_trace(&output), calls)
}

/// Records by `notify`, with strace following the recorder and what it starts.
fn by_notify(workload: &Workload, folder: &Path) -> (Trace, Vec<Call>) {
    let (output, log) = (folder.join("trace.json"), folder.join("strace.log"));
    let mut record = strace::command(&log, true);
    record
        .arg(binary())
        .args(["record", "--backend", "notify", "--output"])
        .arg(&output)
        .args(workload.arguments());
    Finished::from(record.output().unwrap()).expect_code(0);
    let log = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
    (read_trace(&output), strace::calls(&log, Some(&workload.command[0])))
}

#[track_caller]
fn agree(what: &str, trace: &Trace, calls: &[Call]) {
    let differences = tuples::differences(trace, calls);
    let rows = trace.syscalls.iter().filter_map(|row| row.arguments.as_ref());
    let (calls, tuples) = rows.fold((0, 0), |(calls, tuples), row| (calls + 1, tuples + row.values.len()));
    println!("{what}: {tuples} tuples of {calls} calls");
    assert!(differences.is_empty(), "{what}:\n{}", differences.join("\n"));
    assert!(calls > 5, "{what}: arguments of {calls} calls only");
}

fn row<'t>(trace: &'t Trace, abi: Abi, name: &str) -> &'t Row {
    let row = trace.syscalls.iter().find(|row| (row.abi, row.name.as_str()) == (abi, name));
    row.unwrap_or_else(|| panic!("no {abi} {name}"))
}

/// Each known call is in the trace with its tuple, its upper halves, and what its descriptor was.
fn all_known(trace: &Trace) {
    for known in CALLS {
        let row = row(trace, Abi::X86_64, known.name);
        let arguments = row.arguments.as_ref().unwrap_or_else(|| panic!("{} has no arguments", known.name));
        let Some(tuple) = known.tuple(&arguments.kept) else {
            assert!(arguments.unread > 0, "{} {:x?}: not unread", known.name, known.registers);
            continue;
        };
        let upper = known.upper(&arguments.kept);
        let found = arguments.values.iter().any(|values| {
            values.arguments == tuple
                && values.file.as_ref().map(|file| file.kind) == known.file
                && upper.iter().all(|name| values.upper.contains(*name))
        });
        assert!(
            found,
            "{} {tuple:x?} on {:?} with upper halves in {upper:?} is not among {:#x?}",
            known.name, known.file, arguments.values
        );
    }
    for (name, _, registers) in I386 {
        let arguments = row(trace, Abi::I386, name).arguments.as_ref().unwrap();
        let expected: Vec<u64> =
            arguments.kept.iter().map(|kept| u64::from(registers[kept.index as usize]) & kept.mask).collect();
        assert!(
            arguments.values.iter().any(|values| values.arguments == expected),
            "i386 {name} {expected:x?}"
        );
    }
}

/// Device numbers and names, where the kernel has them.
fn devices(trace: &Trace) {
    let ioctl = row(trace, Abi::X86_64, "ioctl").arguments.as_ref().unwrap();
    let files: Vec<_> = ioctl.values.iter().filter_map(|values| values.file.as_ref()).collect();
    for (device, path) in [("1:3", "/dev/null"), ("5:2", "/dev/ptmx")] {
        let file = files.iter().find(|file| file.device.as_deref() == Some(device));
        let file = file.unwrap_or_else(|| panic!("no {device} in {files:?}"));
        assert!(file.path.as_deref() == Some(path), "{file:?}");
    }
    assert!(files.iter().any(|file| file.path.as_deref() == Some("[eventpoll]")), "{files:?}");
}

fn known_calls(backend: fn(&Workload, &Path) -> (Trace, Vec<Call>), what: &str) {
    let folder = tempfile::tempdir().unwrap();
    let workload = Workload::command(&[own_program("known-arguments").to_str().unwrap()]);
    let (trace, calls) = backend(&workload, folder.path());
    assert!(CALLS.len() >= 60);
    agree(&format!("{} known calls by {what}", CALLS.len() + I386.len()), &trace, &calls);
    all_known(&trace);
    devices(&trace);
}

#[test]
fn known_arguments_by_ebpf() {
    require!("strace");
    known_calls(by_ebpf, "ebpf");
}

#[test]
fn known_arguments_by_notify() {
    require!("strace");
    known_calls(by_notify, "notify");
}

fn real(name: &str, backend: fn(&Workload, &Path) -> (Trace, Vec<Call>)) {
    let Some(program) = program(name) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (trace, calls) = backend(&(program.prepare)(folder.path()), folder.path());
    agree(name, &trace, &calls);
}

macro_rules! programs {
    ($($test:ident $name:literal $backend:ident),* $(,)?) => { $(#[test] fn $test() {
        require!("strace");
        real($name, $backend);
    })* };
}

programs! {
    python3_by_ebpf "python3" by_ebpf, redis_by_ebpf "redis" by_ebpf, nginx_by_ebpf "nginx" by_ebpf,
    git_by_ebpf "git" by_ebpf, busybox_i386_by_ebpf "busybox-i386" by_ebpf,
    coreutils_by_notify "coreutils" by_notify, python3_by_notify "python3" by_notify,
    busybox_i386_by_notify "busybox-i386" by_notify,
}
