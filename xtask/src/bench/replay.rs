//! How fast recorded calls are judged: the simulator by itself, and many traces by the program.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::Context as _;

use crate::system;

/// Options of `replay`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Also judges and merges so many traces of 200 rows, at least 4, which takes 60 KiB of disk each
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(4..))]
    traces: Option<u32>,
}

#[expect(clippy::print_stdout, reason = "the table is the result")]
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let example = |name: &str| -> anyhow::Result<Command> {
        let mut command = system::cargo()?;
        command.args([
            "run",
            "--quiet",
            "--release",
            "--package",
            "seccomp-learn-synth",
            "--example",
            name,
            "--",
        ]);
        Ok(command)
    };
    system::run(&mut example("verdicts")?)?;
    let Some(most) = options.traces else { return Ok(()) };
    let mut build = system::cargo()?;
    system::run(build.args(["build", "--quiet", "--release", "--package", "seccomp-learn"]))?;
    let program = system::target()?.join("release/seccomp-learn");
    let folder = system::target()?.join("bench-replay");
    println!("\n| traces of 200 rows | verb | seconds | ms per trace | peak memory, MiB |");
    println!("|---|---|---|---|---|");
    for count in [most / 4, most / 2, most] {
        let traces = folder.join(count.to_string());
        std::fs::create_dir_all(&traces).with_context(|| format!("cannot make `{}`", traces.display()))?;
        system::run(example("many_traces")?.arg(&traces).arg(count.to_string()))?;
        for verb in ["replay", "merge"] {
            let (seconds, memory) = measured(&program, verb, &traces)?;
            println!(
                "| {count} | {verb} | {seconds:.1} | {:.2} | {memory:.0} |",
                seconds * 1e3 / f64::from(count)
            );
        }
    }
    std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove `{}`", folder.display()))
}

/// How long it took, and its peak of resident memory as GNU time says it.
fn measured(program: &Path, verb: &str, traces: &Path) -> anyhow::Result<(f64, f64)> {
    let mut command = Command::new("/usr/bin/time");
    command.args(["--quiet", "--format", "%M"]).arg(program).arg(verb);
    match verb {
        "replay" => command.arg("docker").arg(traces),
        _ => command.arg(traces).args([PathBuf::from("-o"), traces.with_extension("merged")]),
    };
    let begin = Instant::now();
    let output = command.output().context("could not start `time`; install it (apt-get install -y time)")?;
    let seconds = begin.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr);
    let kib: f64 = said
        .lines()
        .last()
        .unwrap_or_default()
        .trim()
        .parse()
        .with_context(|| format!("`{}` failed: {said}", system::show(&command)))?;
    Ok((seconds, kib / 1024.0))
}
