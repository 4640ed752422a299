//! The command line of `seccomp-learn`. A library for two callers: the program, and the fuzz targets of what it reads.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod containers;
mod decisions;
mod diff;
mod doctor;
mod exit;
mod expected;
mod explain;
mod folder;
mod format;
mod held_out;
mod image_name;
mod input;
mod install;
mod learn;
mod merge;
mod output;
mod record;
mod recorded;
mod replay;
mod report;
mod review;
mod runtime_base;
mod session;
mod synth;
mod synthesis;
mod terminal;
mod test;
mod trial;
mod uninstall;
mod verify;
mod watch;

/// Learns the smallest seccomp profile that still runs a workload, and proves it
#[derive(Parser, Debug)]
#[command(name = "seccomp-learn", version, after_help = exit::HELP, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Learn(learn::Options),
    Record(record::Options),
    Synth(synth::Options),
    Test(test::Options),
    Watch(watch::Options),
    Replay(replay::Options),
    Verify(verify::Options),
    Diff(diff::Options),
    Merge(merge::Options),
    Explain(explain::Options),
    RuntimeBase(runtime_base::Options),
    Install(install::Options),
    Uninstall(uninstall::Options),
    Review(review::Options),
    Doctor(doctor::Options),
}

/// Runs the program: one subcommand, one file.
#[must_use]
pub fn main() -> ExitCode {
    let filter = tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().with_target(false);
    filter.with_max_level(tracing::Level::WARN).init();
    let result = match Cli::parse().verb {
        Verb::Learn(options) => learn::run(options),
        Verb::Record(options) => record::run(options),
        Verb::Synth(options) => synth::run(options),
        Verb::Test(options) => test::run(options),
        Verb::Watch(options) => watch::run(options),
        Verb::Replay(options) => replay::run(&options),
        Verb::Verify(options) => verify::run(options),
        Verb::Diff(options) => diff::run(&options),
        Verb::Merge(options) => merge::run(&options),
        Verb::Explain(options) => explain::run(&options),
        Verb::RuntimeBase(options) => runtime_base::run(&options),
        Verb::Install(options) => install::run(options),
        Verb::Uninstall(options) => uninstall::run(options),
        Verb::Review(options) => review::run(options),
        Verb::Doctor(options) => doctor::run(options),
    };
    let code = result.unwrap_or_else(|error| {
        terminal::say(format!("error: {error:#}"));
        exit::code(exit::FAILED)
    });
    match terminal::cut() {
        None => code,
        Some(error) => {
            terminal::say(format!(
                "error: cannot write to standard output: {error}; the result is not whole, so write it somewhere else"
            ));
            exit::code(exit::FAILED)
        }
    }
}

/// Reads what a `workload.toml` says and writes it anew; for the fuzz targets only.
///
/// # Errors
/// It says what nobody may mean.
#[doc(hidden)]
pub fn workload_read_and_written(text: &str) -> anyhow::Result<String> {
    folder::Workload::parse(text)?.to_toml()
}
