//! `cargo xtask bench`: measures, and prints tables.

use std::{
    io::{BufRead as _, Write as _},
    time::{Duration, Instant},
};

mod overhead;

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
    /// Measures a cheap syscall each time a line comes in
    #[command(hide = true)]
    Worker,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    match &options.what {
        What::Overhead(options) => overhead::run(options),
        What::Worker => worker(),
    }
}

/// For each line on standard input: how long one getppid takes, in nanoseconds.
fn worker() -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        line?;
        writeln!(output, "{}", measure())?;
        output.flush()?;
    }
    Ok(())
}

/// The median over short rows of calls: what else the machine does meanwhile hits only some of them.
fn measure() -> f64 {
    const CALLS: u32 = 200;
    let begin = Instant::now();
    let mut rows = Vec::new();
    while begin.elapsed() < Duration::from_millis(60) {
        let row = Instant::now();
        for _ in 0..CALLS {
            // Always a system call: the C library does not keep the answer.
            std::hint::black_box(std::os::unix::process::parent_id());
        }
        rows.push(row.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS));
    }
    overhead::median(&mut rows)
}
