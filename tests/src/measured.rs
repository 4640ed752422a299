//! The binary under test with what it took: the most memory that it held, and how long it ran.

use std::{
    io::Read as _,
    os::unix::process::ExitStatusExt as _,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::cli::Finished;

/// How a run ended, and what it took.
#[derive(Debug)]
pub struct Measured {
    pub finished: Finished,
    /// The most memory that it held at once, in bytes.
    pub peak: u64,
    pub took: Duration,
    /// How long it had a processor, which other programs on the machine do not change much.
    pub cpu: Duration,
}

/// Runs a command to its end; its output is captured.
#[allow(clippy::zombie_processes, reason = "it is waited for by wait4, which says what it took")]
pub fn measured(mut command: Command) -> Measured {
    let begin = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = child.stderr.take().unwrap();
    let errors = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        errors.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let mut stdout = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
    let stderr = errors.join().unwrap();
    let mut status = 0;
    // SAFETY: zeroes are a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let pid = child.id() as i32;
    // SAFETY: the child has not been waited for, so the id is its own; both pointers are to locals of their types.
    assert_eq!(unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) }, pid);
    let status = std::process::ExitStatus::from_raw(status);
    let of = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    Measured {
        finished: Output { status, stdout, stderr }.into(),
        // In KiB on Linux (getrusage(2)).
        peak: usage.ru_maxrss as u64 * 1024,
        took: begin.elapsed(),
        cpu: of(usage.ru_utime) + of(usage.ru_stime),
    }
}
