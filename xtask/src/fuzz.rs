//! `cargo xtask fuzz`: gives everything that is read to a fuzzer, for a time, and counts what it finds.
//!
//! The targets are `fuzz/`, a workspace of its own; `fuzz/seeds.txt` names what they start from. The compiler is the
//! pinned nightly of the BPF objects; cargo-fuzz, which knows its flags, is installed beside them.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{
    ebpf::toolchain::{clean, nightly, printed},
    system,
};

/// Options of `fuzz`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long each target runs
    #[arg(long, default_value_t = 600, value_name = "N")]
    seconds: u32,
    /// The targets, instead of all
    targets: Vec<String>,
}

/// The release of cargo-fuzz.
const CARGO_FUZZ: &str = "0.13.2";

/// What fuzzing starts from, relative to the repository.
const SEEDS: &str = "fuzz/seeds.txt";

/// What every target has in common: a longer input says nothing new, and one that takes longer or more memory is a
/// finding.
const LIMITS: [&str; 4] = ["-max_len=131072", "-timeout=60", "-rss_limit_mb=2048", "-print_final_stats=1"];

/// What is not given back is no finding: libseccomp 2.5.4 keeps some bytes of some filters.
const SANITIZER: &str = "detect_odr_violation=0:detect_leaks=0";

/// What a target's run came to.
struct Outcome {
    target: String,
    executions: u64,
    /// Inputs that broke a law, took too long or took too much memory.
    findings: Vec<PathBuf>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    system::ensure(&[system::LIBSECCOMP, CXX], "the fuzzer")?;
    let seeds = seeds(&fs::read_to_string(system::root()?.join(SEEDS)).context("could not read the seeds")?)?;
    if let Some(unknown) = options.targets.iter().find(|target| !seeds.contains_key(*target)) {
        bail!("`{unknown}` is no target; there are {}", seeds.keys().cloned().collect::<Vec<_>>().join(", "));
    }
    let chosen: Vec<&String> = seeds
        .keys()
        .filter(|target| options.targets.is_empty() || options.targets.contains(target))
        .collect();
    let store = system::target()?.join("fuzz");
    let programs = build(&store)?;
    let mut outcomes = Vec::new();
    for target in chosen {
        let files = seeds.get(target).map(Vec::as_slice).unwrap_or_default();
        outcomes.push(fuzz(target, files, &programs.join(target), &store, options.seconds)?);
    }
    let mut out = std::io::stdout();
    writeln!(out, "{:<14} {:>12} {:>9}", "target", "executions", "findings")?;
    for Outcome { target, executions, findings } in &outcomes {
        writeln!(out, "{target:<14} {executions:>12} {:>9}", findings.len())?;
        for finding in findings {
            writeln!(out, "  {}", finding.display())?;
        }
    }
    let findings: usize = outcomes.iter().map(|outcome| outcome.findings.len()).sum();
    if findings > 0 {
        bail!("{findings} inputs break a law; what is mended becomes a seed in `fuzz/seeds`");
    }
    Ok(())
}

/// The fuzzer is written in C++.
const CXX: system::Need = system::Need { package: "g++", sign: system::Sign::Program("c++") };

/// Targets, each with its seeds.
fn seeds(list: &str) -> anyhow::Result<BTreeMap<String, Vec<PathBuf>>> {
    let mut seeds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for line in list.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let (target, place) =
            line.split_once(char::is_whitespace).with_context(|| format!("`{line}` names no seed"))?;
        let place = system::root()?.join(place.trim());
        let own = seeds.entry(target.to_owned()).or_default();
        if place.is_dir() {
            for entry in fs::read_dir(&place)? {
                own.push(entry?.path());
            }
        } else {
            own.push(place);
        }
    }
    Ok(seeds)
}

/// Builds the targets; returns the folder in which they are.
fn build(store: &Path) -> anyhow::Result<PathBuf> {
    let toolchain = nightly("fuzzing")?;
    let tool = cargo_fuzz(store)?;
    let folder = system::root()?.join("fuzz");
    let built = store.join("build");
    let mut command = Command::new("rustup");
    clean(&mut command);
    command.args(["run", &toolchain]).arg(tool).args(["build", "--target-dir"]).arg(&built);
    system::run(command.current_dir(folder)).context("the fuzz targets do not build")?;
    let host = printed(Command::new("rustup").args(["run", &toolchain, "rustc", "-vV"]))?;
    let host =
        host.lines().find_map(|line| line.strip_prefix("host: ")).context("the compiler has no host")?;
    Ok(built.join(host).join("release"))
}

/// The tool that knows the compiler's flags, installed if it is not there.
fn cargo_fuzz(store: &Path) -> anyhow::Result<PathBuf> {
    let program = store.join("bin/cargo-fuzz");
    let is_pinned = printed(Command::new(&program).arg("--version"))
        .is_ok_and(|version| version.split_whitespace().any(|word| word == CARGO_FUZZ));
    if !is_pinned {
        system::note(&format!("installing cargo-fuzz {CARGO_FUZZ} into {}", store.display()));
        let mut install = system::cargo()?;
        clean(&mut install);
        install.args(["install", "--quiet", "--locked", "--force", "--debug", "--root"]).arg(store);
        install.arg("--target-dir").arg(store.join("cargo-fuzz")).arg(format!("cargo-fuzz@{CARGO_FUZZ}"));
        system::run(&mut install).context("cargo-fuzz could not be had from the package registry")?;
        let _ = fs::remove_dir_all(store.join("cargo-fuzz"));
    }
    Ok(program)
}

/// Runs one target. What it learned stays for the next time; what it found is kept.
fn fuzz(
    target: &str,
    seeds: &[PathBuf],
    program: &Path,
    store: &Path,
    seconds: u32,
) -> anyhow::Result<Outcome> {
    let corpus = store.join("corpus").join(target);
    let artifacts = store.join("findings").join(target);
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).with_context(|| format!("could not make `{}`", folder.display()))?;
    }
    for seed in seeds {
        let name = seed.iter().skip(1).map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("-");
        fs::copy(seed, corpus.join(name)).with_context(|| format!("could not copy `{}`", seed.display()))?;
    }
    let log = store.join(format!("{target}.log"));
    let output = fs::File::create(&log).with_context(|| format!("could not write `{}`", log.display()))?;
    system::note(&format!("{target}: {seconds} s, what the fuzzer says is in {}", log.display()));
    let before = listed(&artifacts)?;
    let mut command = Command::new(program);
    command.arg(&corpus).args(LIMITS).arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-dict={}", system::root()?.join("fuzz/words.dict").display()));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.env("ASAN_OPTIONS", SANITIZER);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let status = command.status().with_context(|| format!("could not start `{}`", program.display()))?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let executions = text
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:")?.trim().parse().ok())
        .unwrap_or(0);
    let findings: Vec<PathBuf> =
        listed(&artifacts)?.into_iter().filter(|finding| !before.contains(finding)).collect();
    if findings.is_empty() && (!status.success() || executions == 0) {
        bail!("the fuzzer ended with {status} after {executions} executions; see `{}`", log.display());
    }
    Ok(Outcome { target: target.to_owned(), executions, findings })
}

fn listed(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_of_every_target_are_there() {
        let list = fs::read_to_string(system::root().unwrap().join(SEEDS)).unwrap();
        let by_target = seeds(&list).unwrap();
        assert!(by_target.len() >= 9, "{:?}", by_target.keys());
        for file in by_target.values().flatten() {
            assert!(file.is_file(), "{}", file.display());
        }
        let unnamed = seeds("trace");
        assert!(unnamed.unwrap_err().to_string().contains("`trace` names no seed"));
    }
}
