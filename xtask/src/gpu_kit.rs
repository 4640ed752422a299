//! `cargo xtask gpu-kit`: one folder that records, confines and measures the LLM service on any GPU host.
//!
//! It holds the static binary, the worked workloads' sources and `run.sh`; what it needs on the host is Python with
//! PyTorch. Weights are made there, from a seed, so the folder stays small and nothing has to be fetched.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::{dist, system};

/// Options of `gpu-kit`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder, instead of `dist/gpu-kit/`; an earlier kit in it is replaced
    #[arg(long, short)]
    output: Option<PathBuf>,
    /// The static `seccomp-learn` to take, instead of building it
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// What a kit may weigh.
const LIMIT: usize = 30 << 20;
/// The sums of all its files, and what tells a kit from any other folder.
const SUMS: &str = "SHA256SUMS";
/// What a workload's folder is made of; evidence and profiles of other hosts stay at home.
const SOURCES: [&str; 3] = ["py", "txt", "sh"];
const README: &str = "README.md";

/// A file of the kit.
struct File {
    place: PathBuf,
    bytes: Vec<u8>,
    mode: u32,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let output = match &options.output {
        Some(folder) => folder.clone(),
        None => system::root()?.join("dist/gpu-kit"),
    };
    if output.exists() && !output.join(SUMS).is_file() && output.read_dir()?.next().is_some() {
        bail!("`{}` holds something else than a kit; choose another folder with `-o`", output.display());
    }
    let program = match &options.program {
        Some(file) => read(file)?,
        None => dist::binary()?,
    };
    let files = files(program)?;
    let size: usize = files.iter().map(|file| file.bytes.len()).sum();
    if size > LIMIT {
        bail!("the kit would weigh {:.1} MiB, more than {} MiB", mebibytes(size), LIMIT >> 20);
    }
    if output.exists() {
        std::fs::remove_dir_all(&output)
            .with_context(|| format!("could not remove `{}`", output.display()))?;
    }
    let mut sums = String::new();
    for file in &files {
        let path = output.join(&file.place);
        let folder = path.parent().unwrap_or(&output);
        std::fs::create_dir_all(folder).with_context(|| format!("could not make `{}`", folder.display()))?;
        dist::write(&path, &file.bytes, file.mode)?;
        sums.push_str(&format!("{}  {}\n", dist::digest(&file.bytes), file.place.display()));
    }
    dist::write(&output.join(SUMS), sums.as_bytes(), 0o644)?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{} ({:.1} MiB); on a GPU host: {}/run.sh",
        output.display(),
        mebibytes(size),
        output.display()
    )?;
    Ok(())
}

/// Everything in the kit but the sums, in the order of the places.
fn files(program: Vec<u8>) -> anyhow::Result<Vec<File>> {
    let root = system::root()?;
    let own = |name: &str, mode| -> anyhow::Result<File> {
        let bytes = read(&root.join("xtask/src/gpu_kit").join(name))?;
        Ok(File { place: name.into(), bytes, mode })
    };
    let mut files = vec![own("run.sh", 0o755)?, own("kit.py", 0o644)?, own(README, 0o644)?];
    files.push(File { place: "bin/seccomp-learn".into(), bytes: program, mode: 0o755 });
    for license in ["LICENSE-APACHE", "LICENSE-MIT"] {
        files.push(File { place: license.into(), bytes: read(&root.join(license))?, mode: 0o644 });
    }
    for folder in entries(&root.join("profiles/workloads"))?.iter().filter(|path| path.is_dir()) {
        for path in entries(folder)? {
            let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_file() && (SOURCES.contains(&ending.as_str()) || path.ends_with(README)) {
                let place =
                    path.strip_prefix(root.join("profiles")).context("not below `profiles`")?.to_owned();
                let mode = if ending == "sh" { 0o755 } else { 0o644 };
                files.push(File { place, bytes: read(&path)?, mode });
            }
        }
    }
    files.sort_by(|left, right| left.place.cmp(&right.place));
    Ok(files)
}

fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = std::fs::read_dir(folder).with_context(|| format!("could not read `{}`", folder.display()))?;
    let mut paths: Vec<PathBuf> = read.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("could not read `{}`", path.display()))
}

fn mebibytes(size: usize) -> f64 {
    size as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kit_holds_sources_and_no_evidence_of_another_host() {
        let files = files(b"program".to_vec()).unwrap();
        let has = |place: &str| files.iter().any(|file| file.place == Path::new(place));
        assert!(has("run.sh") && has("kit.py") && has("bin/seccomp-learn"));
        assert!(has("workloads/nim-llm/server.py") && has("workloads/nim-llm/questions.txt"));
        assert!(has("workloads/webrtc-media/README.md") && has("workloads/inference/service.py"));
        for file in &files {
            let name = file.place.to_string_lossy();
            assert!(!name.ends_with(".json") && !name.contains("traces"), "{name}");
        }
    }
}
