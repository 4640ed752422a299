//! `cargo xtask demo`: the main job on a machine that has nothing but Rust, in one command.
//!
//! It gets what is missing, makes the inference service of `profiles/workloads/inference/`, has `seccomp-learn
//! learn` watch it, prove it, and write its folder, and shows what a person wants to know first.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::system::{self, BUILD, Need};
use crate::workloads::{self, INFERENCE, PYTHON};

/// Options of `demo`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only makes the service (virtual environment and model), and learns nothing
    #[arg(long)]
    prepare: bool,
    /// How to record: auto, ebpf or notify
    #[arg(long, default_value = "auto")]
    backend: String,
    /// Where the learned folder goes, instead of `target/demo/inference`
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// Further options for `seccomp-learn learn`
    #[arg(last = true)]
    learn: Vec<OsString>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let needs: Vec<Need> = BUILD.into_iter().chain([PYTHON]).collect();
    system::ensure(&needs, "the demo")?;
    let store = system::target()?.join("demo");
    INFERENCE.prepare(&store)?;
    if options.prepare {
        return Ok(());
    }
    let binary = workloads::build()?;
    let output = match &options.output {
        Some(folder) => std::path::absolute(folder).context("the output folder has no absolute path")?,
        None => store.join("inference"),
    };
    learn(options, &store, &binary, &output)
}

fn learn(options: &Options, store: &Path, binary: &Path, output: &Path) -> anyhow::Result<()> {
    // What an earlier demo left; anything else that lies there is not ours to remove.
    if output.join("workload.toml").is_file() {
        std::fs::remove_dir_all(output)
            .with_context(|| format!("could not remove `{}`", output.display()))?;
    }
    let (source, port) = (system::root()?.join(INFERENCE.source()), free_port()?);
    let mut command = Command::new(binary);
    command.args(["learn", "--backend", &options.backend, "-o"]).arg(output);
    for (option, call) in INFERENCE.life(&source, store, port) {
        command.args([option, &call]);
    }
    command.args(&options.learn).arg("--").args(INFERENCE.command(&source, store, port));
    system::note(&system::show(&command));
    let status = command.status().with_context(|| format!("could not start `{}`", binary.display()))?;
    if !status.success() {
        bail!("`seccomp-learn learn` ended with {status}; what it found so far is in `{}`", output.display());
    }
    conclude(output)
}

/// Where the result is, and what one would do with it next.
fn conclude(output: &Path) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let folder = output.display();
    writeln!(out, "\nThe profile:  {folder}/profile.json")?;
    writeln!(out, "Why it is so: {folder}/report.md, and for each rule {folder}/profile.evidence.json")?;
    writeln!(out, "Use it:       docker run --security-opt seccomp={folder}/profile.json …")?;
    Ok(())
}

/// Port 8000, where inference services usually listen, or one that is free.
fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 8000))
        .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))
        .context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr().context("the listener has no address")?.port())
}
