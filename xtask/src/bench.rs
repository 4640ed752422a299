//! `cargo xtask bench`: measures, and prints tables.

use std::{
    io::{BufRead as _, Write as _},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

mod filter;
mod overhead;
mod replay;

/// Options of `bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Nanoseconds added to a cheap syscall by recording, for recorded and for other processes
    Overhead(overhead::Options),
    /// Nanoseconds for each call of a workload's own mix, under its profile and under Docker's default
    Filter(filter::Options),
    /// Verdicts a second of the simulator, and what judging and merging many traces takes
    Replay(replay::Options),
    /// Measures the syscall that each line on standard input names
    #[command(hide = true)]
    Worker,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    match &options.what {
        What::Overhead(options) => overhead::run(options),
        What::Filter(options) => filter::run(options),
        What::Replay(options) => replay::run(options),
        What::Worker => worker(),
    }
}

/// For each line on standard input: how long one call of what it names takes, in nanoseconds. What the standard
/// library makes is just that one system call.
fn worker() -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    let (socket, _other) = UnixStream::pair()?;
    for line in std::io::stdin().lock().lines() {
        let nanoseconds = match line?.as_str() {
            // Always a system call: the C library does not keep the answer.
            "getppid" => measure(std::os::unix::process::parent_id),
            "getsockopt" => measure(|| socket.take_error()),
            "ioctl" => measure(|| socket.set_nonblocking(false)),
            other => anyhow::bail!("`{other}` is nothing that is measured"),
        };
        writeln!(output, "{nanoseconds}")?;
        output.flush()?;
    }
    Ok(())
}

/// The median over short rows of calls: what else the machine does meanwhile hits only some of them.
fn measure<T>(call: impl Fn() -> T) -> f64 {
    const CALLS: u32 = 200;
    let begin = Instant::now();
    let mut rows = Vec::new();
    while begin.elapsed() < Duration::from_millis(60) {
        let row = Instant::now();
        for _ in 0..CALLS {
            std::hint::black_box(call());
        }
        rows.push(row.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS));
    }
    overhead::median(&mut rows)
}
