//! The `notify` backend over real processes: what is called is counted, whoever calls it and how.

#![allow(
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "clippy.toml's exceptions reach test functions, not their helpers"
)]

use std::{
    env, thread,
    time::{Duration, Instant},
};

use confine::{Child, Exit, Filter, Launch, spawn};
use seccomp_learn_profiler::{
    CapturePlan, Observations, Recorder,
    notify::{self, NotifyRecorder},
};
use trace::{Abi, Outcome, PhaseName, Row};

fn notify_works() -> bool {
    match notify::probe() {
        Ok(()) => true,
        Err(error) => {
            assert!(env::var_os("SECCOMP_LEARN_REQUIRE_KERNEL").is_none(), "{error}");
            eprintln!("skipped: {error}");
            false
        }
    }
}

fn start(command: &[&str]) -> (Child, Box<NotifyRecorder>) {
    let command: Vec<_> = command.iter().map(Into::into).collect();
    let filter = Filter::Listen(notify::filter().unwrap());
    let launch = Launch { filter, ..Launch::new(&command).unwrap() };
    let (mut child, listener) = spawn(launch).unwrap().release().unwrap();
    let recorder = NotifyRecorder::start(listener.unwrap(), CapturePlan::default()).unwrap();
    child.wait_exec().unwrap();
    (child, Box::new(recorder))
}

fn role(name: &str) -> (Child, Box<NotifyRecorder>) {
    let program = env::current_exe().unwrap();
    start(&[program.to_str().unwrap(), "--ignored", "--exact", name, "--nocapture", "--test-threads=1"])
}

fn finish(mut child: Child, recorder: Box<NotifyRecorder>) -> Observations {
    assert_eq!(child.wait().unwrap(), Exit::Code(0));
    let since = Instant::now();
    while !recorder.ended() {
        assert!(since.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(2));
    }
    let seen = recorder.finish().unwrap();
    for row in &seen.rows {
        let outcomes: u64 = row.outcomes.values().sum();
        assert_eq!(row.calls, outcomes + row.in_flight + row.never_returned, "{row:?}");
        assert!(row.outcomes.keys().all(|outcome| *outcome == Outcome::Unknown), "{row:?}");
        assert_eq!((row.runs, row.denied), (1, 0));
    }
    assert!(!seen.losses.lost_calls());
    seen
}

fn row<'a>(seen: &'a Observations, abi: Abi, name: &str) -> Option<&'a Row> {
    seen.rows.iter().find(|row| row.abi == abi && row.name == name)
}

fn calls(seen: &Observations, name: &str) -> u64 {
    row(seen, Abi::X86_64, name).map_or(0, |row| row.calls)
}

fn exit(code: i32) -> ! {
    // SAFETY: ends this process.
    unsafe { libc::_exit(code) }
}

fn getppid(times: u32) {
    for _ in 0..times {
        // SAFETY: takes nothing.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
}

#[test]
#[ignore = "a workload"]
fn role_threads_and_children() {
    for _ in 0..4 {
        // SAFETY: the child makes raw calls and ends.
        if unsafe { libc::fork() } == 0 {
            getppid(1000);
            exit(0);
        }
    }
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| getppid(1000));
        }
    });
    for _ in 0..4 {
        // SAFETY: waits for a child.
        unsafe { libc::wait(std::ptr::null_mut()) };
    }
    exit(0);
}

#[test]
fn every_call_of_every_thread_and_child_is_counted() {
    if !notify_works() {
        return;
    }
    let (child, mut recorder) = role("role_threads_and_children");
    let pid = child.pid();
    recorder.set_phase(PhaseName::Serving);
    let seen = finish(child, recorder);
    assert_eq!(calls(&seen, "getppid"), 8000);
    let exec = row(&seen, Abi::X86_64, "execve").unwrap();
    assert_eq!((exec.calls, exec.first.pid, exec.first.after_ms < 1000), (1, pid, true));
    assert_eq!(exec.phases.first(), Some(&PhaseName::Startup));
    let getppid = row(&seen, Abi::X86_64, "getppid").unwrap();
    assert!(getppid.phases.contains(&PhaseName::Serving));
    let end = row(&seen, Abi::X86_64, "exit_group").unwrap();
    assert_eq!((end.calls, end.never_returned), (5, 5));
    assert!(seen.perturbations.iter().any(|words| words.contains("EINTR")));
}

#[test]
#[ignore = "a workload"]
#[cfg(target_arch = "x86_64")]
fn role_compat() {
    for _ in 0..7 {
        let mut number: i64 = 20;
        // SAFETY: i386's getpid; the kernel clobbers r8 to r11 on this way in.
        unsafe {
            std::arch::asm!("int 0x80", inout("rax") number,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _);
        }
        assert_eq!(number, i64::from(std::process::id()));
    }
    exit(0);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_32_bit_abi_is_its_own() {
    if !notify_works() {
        return;
    }
    let (child, recorder) = role("role_compat");
    let seen = finish(child, recorder);
    assert_eq!(row(&seen, Abi::I386, "getpid").map(|row| row.calls), Some(7));
}

#[test]
#[ignore = "a workload"]
fn role_signals() {
    // SAFETY: a handler that does nothing, with restart; a timer at 5 kHz.
    unsafe {
        extern "C" fn nothing(_: libc::c_int) {}
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
        let interval = libc::timeval { tv_sec: 0, tv_usec: 200 };
        let timer = libc::itimerval { it_interval: interval, it_value: interval };
        libc::syscall(libc::SYS_setitimer, libc::ITIMER_REAL, &raw const timer, 0);
    }
    getppid(20_000);
    exit(0);
}

#[test]
fn under_signals_nothing_hangs_and_nothing_is_missed() {
    if !notify_works() {
        return;
    }
    let (child, recorder) = role("role_signals");
    let seen = finish(child, recorder);
    // A call that a signal interrupted is made, and counted, again.
    assert!(calls(&seen, "getppid") >= 20_000, "{}", calls(&seen, "getppid"));
    assert!(calls(&seen, "rt_sigreturn") > 0);
}

#[test]
fn what_is_left_at_the_end_ends_with_the_recording() {
    if !notify_works() {
        return;
    }
    let (mut child, recorder) = start(&["sh", "-c", "while :; do :; done"]);
    assert!(!recorder.ended());
    let seen = recorder.finish().unwrap();
    assert!(calls(&seen, "execve") >= 1);
    assert_eq!(child.wait().unwrap(), Exit::Signal(9));
}

#[test]
fn a_daemon_that_outlives_the_command_is_still_recorded() {
    if !notify_works() {
        return;
    }
    let (mut child, recorder) = start(&["sh", "-c", "(sleep 0.3; exec touch /) >&- 2>&- &"]);
    assert_eq!(child.wait().unwrap(), Exit::Code(0));
    assert!(!recorder.ended());
    while !recorder.ended() {
        thread::sleep(Duration::from_millis(5));
    }
    let seen = recorder.finish().unwrap();
    assert!(calls(&seen, "utimensat") >= 1, "{:?}", seen.rows);
}
