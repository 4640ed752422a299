//! `cargo xtask demo`: the main job on a machine that has nothing but Rust, in one command.
//!
//! It gets what is missing, makes the inference service of `profiles/workloads/inference/`, has `seccomp-learn
//! learn` watch it, prove it, and write its folder, and shows what a person wants to know first.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::system::{self, BUILD, Need, Sign};

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

/// Debian's Python with the module that makes virtual environments.
const PYTHON: Need = Need { package: "python3-venv", sign: Sign::PythonVenv };

/// The service, ready to be started.
struct Service {
    source: PathBuf,
    python: PathBuf,
    model: PathBuf,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let needs: Vec<Need> = BUILD.into_iter().chain([PYTHON]).collect();
    system::ensure(&needs, "the demo")?;
    let service = prepare(&system::target()?.join("demo"))?;
    if options.prepare {
        system::note(&format!("{} --model {}", service.python.display(), service.model.display()));
        return Ok(());
    }
    let binary = build()?;
    let output = match &options.output {
        Some(folder) => std::path::absolute(folder).context("the output folder has no absolute path")?,
        None => system::target()?.join("demo/inference"),
    };
    learn(options, &service, &binary, &output)
}

/// Makes what the service needs, each part only when its sources changed.
fn prepare(store: &Path) -> anyhow::Result<Service> {
    let source = system::root()?.join("profiles/workloads/inference");
    let python = store.join("venv/bin/python3");
    let packages =
        [read(&source.join("requirements.txt"))?, read(&source.join("requirements-model.txt"))?].concat();
    fresh(&store.join("venv"), &packages, |venv| {
        let system = system::python_with_venv().context("no Python that has the module `venv`")?;
        system::note("making a virtual environment with uvicorn and onnxruntime");
        let mut make = Command::new(system);
        system::run(make.args(["-m", "venv", "--clear"]).arg(venv))?;
        let mut install = Command::new(&python);
        install.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--require-virtualenv",
        ]);
        for list in ["requirements.txt", "requirements-model.txt"] {
            install.arg("--requirement").arg(source.join(list));
        }
        system::run(&mut install).context("PyPI's packages could not be installed; is PyPI within reach?")
    })?;
    let model = store.join("model/next-character.onnx");
    let inputs = [packages, read(&source.join("make_model.py"))?, read(&source.join("corpus.txt"))?].concat();
    fresh(&store.join("model"), &inputs, |_| {
        system::note("making the model");
        // A checkout may be read-only or someone else's: Python is not to write its cache beside the script.
        let mut make = Command::new(&python);
        make.arg("-B").arg(source.join("make_model.py")).arg(&model).stdout(Stdio::null());
        system::run(&mut make)
    })?;
    Ok(Service { source, python, model })
}

/// Makes a folder unless it was made from the same inputs before. The stamp is written last.
fn fresh(folder: &Path, inputs: &str, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let stamp = folder.join(".made-from");
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == inputs) {
        return Ok(());
    }
    std::fs::create_dir_all(folder).with_context(|| format!("could not make `{}`", folder.display()))?;
    make(folder)?;
    std::fs::write(&stamp, inputs).with_context(|| format!("could not write `{}`", stamp.display()))
}

fn build() -> anyhow::Result<PathBuf> {
    system::note("building seccomp-learn (release)");
    let mut build = system::cargo()?;
    system::run(build.args(["build", "--release", "--package", "seccomp-learn"]))?;
    Ok(system::target()?.join("release/seccomp-learn"))
}

fn learn(options: &Options, service: &Service, binary: &Path, output: &Path) -> anyhow::Result<()> {
    // What an earlier demo left; anything else that lies there is not ours to remove.
    if output.join("workload.toml").is_file() {
        std::fs::remove_dir_all(output)
            .with_context(|| format!("could not remove `{}`", output.display()))?;
    }
    let port = free_port()?;
    let client = service.source.join("client.py");
    let call =
        |action| format!("{} -B {} http://127.0.0.1:{port} {action}", quote(&service.python), quote(&client));
    let mut command = Command::new(binary);
    command.args(["learn", "--backend", &options.backend, "-o"]).arg(output);
    command.args([
        "--ready",
        &call("ready"),
        "--exercise",
        &call("exercise"),
        "--health-cmd",
        &call("health"),
    ]);
    command
        .args(&options.learn)
        .arg("--")
        .arg(&service.python)
        .arg("-B")
        .arg(service.source.join("service.py"));
    command.arg("--model").arg(&service.model).args(["--port", &port.to_string()]);
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

/// A path as one word for the shell.
fn quote(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c)) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("could not read `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_one_word() {
        assert_eq!(quote(Path::new("/a/b-c.py")), "/a/b-c.py");
        assert_eq!(quote(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }

    #[test]
    fn a_folder_is_made_once_for_the_same_inputs() {
        let folder = std::env::temp_dir().join(format!("xtask-fresh-{}", std::process::id()));
        let mut made = 0;
        for inputs in ["one", "one", "two"] {
            fresh(&folder, inputs, |_| {
                made += 1;
                Ok(())
            })
            .unwrap();
        }
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(made, 2);
    }
}
