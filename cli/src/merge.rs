//! `merge`: the union of several traces, in a file.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use crate::{
    exit, input,
    output::Output,
    terminal::{count, say},
};

/// Make one trace of several
///
/// The order does not matter. Equal traces, and those whose runs are all in another one, count once; traces of which
/// only some runs are the same are refused, since calls would be counted twice.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Traces, or folders with traces in them
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,

    /// Where the trace goes; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "trace.json")]
    output: PathBuf,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let output = Output::prepare(&options.output)?;
    let mut merged = input::merged(&options.traces)?;
    let mut bytes = Vec::new();
    merged.seal_and_write(&mut bytes)?;
    let name = output.name().to_string();
    output.write(&bytes)?;
    say(format!("{}, {}", count(merged.runs, "run"), count(merged.syscalls.len() as u64, "syscall")));
    if name != "-" {
        say(format!("wrote {name}"));
    }
    Ok(exit::code(exit::YES))
}
