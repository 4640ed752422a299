//! The recorded set against strace, for ten programs: `ebpf` in the same run, `notify` in a run of its own.

use std::process::Stdio;

use seccomp_learn_tests::{
    cache,
    cgroup::Cgroup,
    cli::{Recorder, read_trace, seccomp_learn},
    programs::{Program, program},
    require, strace,
};
use trace::{Errno, Outcome, Trace};

fn entered(trace: &Trace) -> strace::Calls {
    trace.syscalls.iter().filter(|row| row.calls > 0).map(|row| (row.abi, row.name.clone())).collect()
}

fn by_ebpf(program: &Program) -> Trace {
    let folder = tempfile::tempdir().unwrap();
    let workload = (program.prepare)(folder.path());
    let cgroup = Cgroup::new(program.name);
    let output = folder.path().join("trace.json");
    let recorder = Recorder::start([
        "--backend".as_ref(),
        "ebpf".as_ref(),
        "--output".as_ref(),
        output.as_os_str(),
        "--cgroup".as_ref(),
        cgroup.path().as_os_str(),
    ]);
    let driver = workload.drive(cgroup.path());
    let (seen, well) = strace::follow(&workload.command, Some(cgroup.path()), folder.path());
    assert!(well, "{}: the program failed below strace", program.name);
    if let Some(mut driver) = driver {
        assert!(driver.wait().unwrap().success(), "{}: the driver failed", program.name);
    }
    recorder.wait().expect_code(0);
    let trace = read_trace(&output);
    let recorded = entered(&trace);
    let invented: Vec<_> = recorded.difference(&seen.calls).collect();
    let missed: Vec<_> =
        seen.calls.difference(&recorded).filter(|call| !seen.only_unfinished.contains(call)).collect();
    assert!(
        invented.is_empty() && missed.is_empty(),
        "{}: recorded only {invented:?}, strace only {missed:?}",
        program.name
    );
    assert!(recorded.len() > 10, "{}: only {} calls", program.name, recorded.len());
    println!("{}: {} syscalls, ebpf and strace agree", program.name, recorded.len());
    trace
}

fn by_notify(program: &Program, ebpf: &Trace) {
    let folder = tempfile::tempdir().unwrap();
    let workload = (program.prepare)(folder.path());
    let output = folder.path().join("trace.json");
    let mut arguments: Vec<String> =
        ["record", "--backend", "notify", "--output", output.to_str().unwrap()].map(str::to_owned).into();
    arguments.extend(workload.arguments());
    // The same standard streams as below strace: what a program asks of them depends on what they are.
    let status = seccomp_learn(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{}: record --backend notify: {status}", program.name);
    let trace = read_trace(&output);
    // Refused or restarted calls are excepted, and what differs between runs of the program itself.
    let is_excepted = |trace: &Trace, call: &(trace::Abi, String)| {
        trace.syscalls.iter().any(|row| {
            (row.abi, &row.name) == (call.0, &call.1)
                && (row.denied > 0
                    || row.outcomes.keys().any(|outcome| {
                        matches!(outcome, Outcome::Error(errno) if (512..=516).contains(&errno.number()) || *errno == Errno::new(4).unwrap())
                    }))
        })
    };
    let (a, b) = (entered(ebpf), entered(&trace));
    let mut different: Vec<_> = a
        .symmetric_difference(&b)
        .filter(|call| !is_excepted(ebpf, call) && call.1 != "restart_syscall")
        .collect();
    if !different.is_empty() && workload.ready.is_none() {
        let varying = strace::varying(&workload.command, folder.path(), 10);
        different.retain(|call| !varying.contains(*call));
    } else if !different.is_empty() {
        let again: Vec<Trace> = (0..4).map(|_| by_ebpf(program)).collect();
        different.retain(|call| {
            again.iter().all(|trace| entered(trace).contains(*call)) == a.contains(*call)
                && again.iter().any(|trace| entered(trace).contains(*call)) == a.contains(*call)
        });
    }
    assert!(different.is_empty(), "{}: only one of ebpf and notify saw {different:?}", program.name);
    println!("{}: {} syscalls by notify", program.name, b.len());
}

fn check(name: &str) {
    require!("strace");
    let Some(program) = program(name) else { return };
    cache();
    let ebpf = by_ebpf(program);
    by_notify(program, &ebpf);
}

macro_rules! programs {
    ($($test:ident $name:literal),* $(,)?) => { $(#[test] fn $test() { check($name); })* };
}

programs! {
    coreutils "coreutils", python3 "python3", redis "redis", nginx "nginx", git "git", sqlite3 "sqlite3",
    openssl "openssl", tar_zstd "tar-zstd", ripgrep "ripgrep", busybox_i386 "busybox-i386",
}
