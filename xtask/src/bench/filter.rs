//! What the filter of a profile costs its workload, next to Docker's default: measured with the filters loaded.

use std::path::PathBuf;

use crate::system;

/// Options of `filter`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Workload folders, instead of the worked ones of the repository
    #[arg(value_name = "DIR")]
    folders: Vec<PathBuf>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let worked = ["inference", "nim-llm", "webrtc-media"];
    let folders = match options.folders.as_slice() {
        [] => worked.map(|name| PathBuf::from("profiles/workloads").join(name)).to_vec(),
        own => own.to_vec(),
    };
    let mut command = system::cargo()?;
    command.args([
        "run",
        "--quiet",
        "--release",
        "--package",
        "seccomp-learn-synth",
        "--example",
        "filter_cost",
        "--",
    ]);
    system::run(command.args(folders))
}
