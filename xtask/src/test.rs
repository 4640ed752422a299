//! `cargo xtask test`: the tests in their rings, with every skip counted and shown.
//!
//! Two rings run here. *Hermetic*: the crates' own tests, no privilege needed. *Local kernel*: the end-to-end
//! tests of `tests/`, with root, BPF, real programs and container engines. A test that finds something missing
//! prints `skipped: REASON`; with `--require-kernel` it fails instead.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read, Write};
use std::process::Stdio;

use anyhow::{Context as _, bail};

use crate::system::{self, BUILD, Need, Sign};

/// Options of `test`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Installs what the kernel ring needs, and fails for whatever of it cannot run
    #[arg(long)]
    require_kernel: bool,
    /// Arguments for `cargo test`, for example `--package trace` or a test's name
    #[arg(last = true)]
    arguments: Vec<String>,
}

const fn program(package: &'static str, program: &'static str) -> Need {
    Need { package, sign: Sign::Program(program) }
}

/// What the end-to-end tests run; none of it is needed to build.
const PROGRAMS: [Need; 22] = [
    program("bpftool", "bpftool"),
    program("busybox-static", "busybox"),
    program("chromium", "chromium"),
    program("containerd", "ctr"),
    program("crun", "crun"),
    program("curl", "curl"),
    program("debootstrap", "debootstrap"),
    program("docker.io", "dockerd"),
    program("git", "git"),
    program("musl-tools", "musl-gcc"),
    program("nginx-light", "nginx"),
    program("openssl", "openssl"),
    program("podman", "podman"),
    program("python3", "python3"),
    Need { package: "python3-venv", sign: Sign::PythonVenv },
    program("redis-server", "redis-server"),
    program("redis-tools", "redis-benchmark"),
    program("ripgrep", "rg"),
    program("runc", "runc"),
    program("sqlite3", "sqlite3"),
    program("strace", "strace"),
    program("wrk", "wrk"),
];
/// The same, for programs that usually are there.
const MORE_PROGRAMS: [Need; 3] = [program("procps", "ps"), program("tar", "tar"), program("zstd", "zstd")];

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    system::ensure(&BUILD, "the build")?;
    if options.require_kernel {
        let needs: Vec<Need> = PROGRAMS.into_iter().chain(MORE_PROGRAMS).collect();
        let missing = system::ensure_some(&needs, "the end-to-end tests");
        if !missing.is_empty() {
            system::note(&format!(
                "not to be had here: {}; tests that need them will fail",
                missing.join(", ")
            ));
        }
    }
    let (reader, writer) = std::io::pipe().context("could not make a pipe")?;
    let mut command = system::cargo()?;
    command.args(["test", "--no-fail-fast"]);
    if !options.arguments.iter().any(|word| word.starts_with("-p") || word.starts_with("--package")) {
        command.arg("--workspace");
    }
    command.args(&options.arguments);
    command.args(["--", "--show-output"]).stdin(Stdio::null());
    command.stdout(writer.try_clone().context("could not make a pipe")?).stderr(writer);
    if options.require_kernel {
        command.env("SECCOMP_LEARN_REQUIRE_KERNEL", "1");
    }
    let shown = system::show(&command);
    let mut child = command.spawn().with_context(|| format!("could not start `{shown}`"))?;
    // The command holds the pipe's other end; while it lives, the output never ends.
    drop(command);
    let tally = Tally::follow(reader, &kernel_ring()?, std::io::stdout())?;
    let status = child.wait().with_context(|| format!("could not wait for `{shown}`"))?;
    tally.print(options.require_kernel)?;
    if !status.success() {
        bail!("`{shown}` failed with {status}");
    }
    tally.judge(options)
}

/// The files of the kernel ring as cargo names them. It shows paths relative to a test's package, so the folder
/// alone does not tell whose they are.
fn kernel_ring() -> anyhow::Result<BTreeSet<String>> {
    let folder = system::root()?.join("tests/tests");
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("could not read `{}`", folder.display()))?;
    let names = entries.flatten().map(|entry| format!("tests/{}", entry.file_name().to_string_lossy()));
    Ok(names.filter(|name| name.ends_with(".rs")).collect())
}

/// Reasons of `#[ignore]` that say: this is no test, other tests start it as a process of its own.
const PARTS: [&str; 3] = ["a workload", "a process", "a part"];

/// What one ring came to.
#[derive(Default)]
struct Ring {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// What all tests came to.
#[derive(Default)]
struct Tally {
    hermetic: Ring,
    kernel: Ring,
    /// Reasons for skips, and how often each was given.
    reasons: BTreeMap<String, u64>,
    /// Names of failed tests, with the file they are in.
    failures: Vec<String>,
}

impl Tally {
    /// Reads what `cargo test` prints, shows it, and counts. What passing tests printed is read, not shown.
    fn follow(
        output: impl Read,
        kernel_ring: &BTreeSet<String>,
        mut shown: impl Write,
    ) -> anyhow::Result<Self> {
        let mut tally = Self::default();
        let mut source = String::new();
        let (mut kernel, mut quiet, mut skipped, mut ignored_here) = (false, false, 0, 0);
        for line in BufReader::new(output).split(b'\n') {
            let line = line.context("could not read the output of `cargo test`")?;
            let line = String::from_utf8_lossy(&line);
            if let Some(rest) = line.trim_start().strip_prefix("Running ") {
                source = rest.split(" (").next().unwrap_or(rest).to_owned();
                kernel = kernel_ring.contains(&source);
            } else if let Some(name) = line.trim_start().strip_prefix("Doc-tests ") {
                source = format!("documentation of {name}");
                kernel = false;
            }
            if line == "successes:" {
                quiet = true;
            } else if line == "failures:" || line.starts_with("test result:") {
                quiet = false;
            }
            if let (true, Some(reason)) = (quiet, line.strip_prefix("skipped: ")) {
                *tally.reasons.entry(reason.to_owned()).or_default() += 1;
                skipped += 1;
            }
            if let Some((_, ignored)) = line.split_once(" ... ignored").filter(|_| line.starts_with("test "))
            {
                let reason = ignored.strip_prefix(", ").unwrap_or("ignored without a reason");
                if !PARTS.iter().any(|part| reason.starts_with(part)) {
                    *tally.reasons.entry(reason.to_owned()).or_default() += 1;
                    ignored_here += 1;
                }
            }
            if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
                tally.failures.push(format!("{source}: {name}"));
            }
            if let Some(counts) = line.strip_prefix("test result:") {
                let ring = if kernel { &mut tally.kernel } else { &mut tally.hermetic };
                ring.passed += count(counts, "passed").saturating_sub(skipped);
                ring.failed += count(counts, "failed");
                ring.skipped += skipped + ignored_here;
                (skipped, ignored_here) = (0, 0);
            }
            if !quiet {
                writeln!(shown, "{line}").context("could not write to the terminal")?;
            }
        }
        Ok(tally)
    }

    /// The summary: rings, reasons for skips, and the line that tools look for.
    fn print(&self, required: bool) -> anyhow::Result<()> {
        let mut out = std::io::stdout();
        writeln!(out, "\n{:<22} {:>7} {:>7} {:>8}", "ring", "passed", "failed", "skipped")?;
        for (name, ring) in [("hermetic", &self.hermetic), ("local kernel", &self.kernel)] {
            writeln!(out, "{name:<22} {:>7} {:>7} {:>8}", ring.passed, ring.failed, ring.skipped)?;
        }
        for (reason, times) in &self.reasons {
            writeln!(out, "skipped {times} times: {reason}")?;
        }
        if !required && self.kernel.skipped > 0 {
            writeln!(
                out,
                "`cargo xtask test --require-kernel`, as root, installs what is missing and skips nothing"
            )?;
        }
        for failure in &self.failures {
            writeln!(out, "failed: {failure}")?;
        }
        writeln!(
            out,
            "{} passed, {} failed, {} skipped",
            self.hermetic.passed + self.kernel.passed,
            self.hermetic.failed + self.kernel.failed,
            self.hermetic.skipped + self.kernel.skipped
        )?;
        Ok(())
    }

    /// A ring that was asked for has to have run. Arguments of one's own choose among the tests, so they decide.
    fn judge(&self, options: &Options) -> anyhow::Result<()> {
        if !options.arguments.is_empty() {
            return Ok(());
        }
        if self.hermetic.passed == 0 {
            bail!("no hermetic test ran");
        }
        if options.require_kernel && self.kernel.passed == 0 {
            bail!("the kernel ring was asked for, and no test of it ran");
        }
        if let (true, Some(reason)) = (options.require_kernel, self.reasons.keys().next()) {
            bail!("the kernel ring was asked for, and tests of it were skipped: {reason}");
        }
        Ok(())
    }
}

/// The number before a word in cargo's closing line: `ok. 5 passed; 0 failed; 1 ignored; …`.
fn count(text: &str, word: &str) -> u64 {
    let mut before = "";
    for part in text.split([' ', ';']) {
        if part == word {
            return before.parse().unwrap_or(0);
        }
        before = part;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "     Running unittests src/lib.rs (target/debug/deps/trace-1f)\n\
        test a ... ok\ntest d ... ignored, needs a GPU\ntest r ... ignored, a workload\n\nsuccesses:\n\n---- a stdout ----\nnoise\n\nsuccesses:\n    a\n\n\
        test result: ok. 3 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
        \x20    Running tests/live.rs (target/debug/deps/live-2a)\n\
        test b ... ok\ntest c ... FAILED\n\nsuccesses:\n\n---- b stdout ----\nskipped: needs root\n\n\
        failures:\n\n---- c stdout ----\nassertion failed\n\n\
        test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";

    #[test]
    fn counts_rings_and_skips() {
        let tally =
            Tally::follow(OUTPUT.as_bytes(), &BTreeSet::from(["tests/live.rs".to_owned()]), std::io::sink())
                .unwrap();
        assert_eq!((tally.hermetic.passed, tally.hermetic.failed, tally.hermetic.skipped), (3, 0, 1));
        assert_eq!((tally.kernel.passed, tally.kernel.failed, tally.kernel.skipped), (1, 1, 1));
        assert_eq!(tally.reasons.get("needs root"), Some(&1));
        assert_eq!(tally.reasons.len(), 2, "{:?}", tally.reasons);
        assert_eq!(tally.failures, ["tests/live.rs: c"]);
    }

    #[test]
    fn a_ring_that_was_asked_for_and_skipped_fails() {
        let tally =
            Tally::follow(OUTPUT.as_bytes(), &BTreeSet::from(["tests/live.rs".to_owned()]), std::io::sink())
                .unwrap();
        let asked = |require_kernel| Options { require_kernel, arguments: Vec::new() };
        assert!(tally.judge(&asked(true)).is_err());
        assert!(tally.judge(&asked(false)).is_ok());
        assert!(Tally::default().judge(&asked(false)).is_err());
    }
}
