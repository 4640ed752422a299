//! `cargo xtask workloads`: the worked workloads of `profiles/workloads/`, made and learned again.
//!
//! What is installed or made for them lies in `target/workloads/`, below the checkout also where cargo builds
//! somewhere else: the commands that `seccomp-learn` writes down are relative to the checkout.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::system::{self, BUILD, Need, Sign};

/// Options of `workloads`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The workloads, instead of all of them
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Only installs what they need and makes their models, and learns nothing
    #[arg(long)]
    prepare: bool,
    /// How many runs are recorded
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// The `seccomp-learn` to use, instead of building it
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Debian's Python with the module that makes virtual environments.
pub(crate) const PYTHON: Need = Need { package: "python3-venv", sign: Sign::PythonVenv };

/// A folder of `profiles/workloads/`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    /// The folder's name.
    name: &'static str,
    /// The lists of the Python packages it needs.
    requirements: &'static [&'static str],
    /// The model that its `make_model.py` makes, if it has one.
    model: Option<Model>,
    /// The service's script.
    server: &'static str,
    /// Where the service listens.
    port: u16,
    /// What the client is told beside the action, for the exercise and for the health check.
    client: &'static str,
}

/// A workload's model.
#[derive(Clone, Copy, Debug)]
struct Model {
    /// What the script writes, and the service reads: a file or a folder in the workload's store.
    place: &'static str,
    /// The service's option for it.
    option: &'static str,
    /// The files that it is made from.
    inputs: &'static [&'static str],
}

/// The inference service of the demo.
pub(crate) const INFERENCE: Workload = Workload {
    name: "inference",
    requirements: &["requirements.txt", "requirements-model.txt"],
    model: Some(Model {
        place: "model/next-character.onnx",
        option: "--model",
        inputs: &["make_model.py", "corpus.txt"],
    }),
    server: "service.py",
    port: 8000,
    client: "",
};

/// All of them. Profiles learned without a GPU are what lies in the checkout: the health checks insist on that.
const ALL: [Workload; 3] = [
    INFERENCE,
    Workload {
        name: "nim-llm",
        requirements: &["requirements.txt"],
        model: Some(Model {
            place: "model",
            option: "--cache",
            inputs: &[
                "make_model.py",
                "engine.py",
                "model_file.py",
                "onnx_file.py",
                "onnx_model.py",
                "questions.txt",
            ],
        }),
        server: "server.py",
        port: 8000,
        client: " --device cpu",
    },
    Workload {
        name: "webrtc-media",
        requirements: &["requirements.txt"],
        model: None,
        server: "server.py",
        port: 8080,
        client: " --encoder libx264",
    },
];

/// What `learn` writes and `learn` makes again. The decisions in `workload.toml` are a person's.
const GENERATED: [&str; 3] = ["profile.json", "profile.evidence.json", "report.md"];

/// What a library looks for beside itself is seen by its full path: so that this names no folder of the machine,
/// everything runs in the checkout's root as it is seen at `/mnt`, by these commands alone.
const IN_NEUTRAL_PLACE: &str = r#"mount --bind . /mnt && cd /mnt && exec "$@""#;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let chosen = chosen(&options.names)?;
    let needs: Vec<Need> = BUILD.into_iter().chain([PYTHON]).collect();
    system::ensure(&needs, "the workloads")?;
    let root = system::root()?;
    for workload in &chosen {
        workload.prepare(&root.join(workload.store()))?;
    }
    if options.prepare {
        return Ok(());
    }
    if !system::is_root() {
        bail!("recording with BPF needs root; run it as root, or with `--prepare` alone");
    }
    let program = match &options.program {
        Some(file) => std::path::absolute(file).context("`--program` has no absolute path")?,
        None => build()?,
    };
    chosen.iter().try_for_each(|workload| workload.learn(&program, &root, options.runs))
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<Workload>> {
    if names.is_empty() {
        return Ok(ALL.to_vec());
    }
    let find = |name: &String| {
        ALL.into_iter().find(|workload| workload.name == name).with_context(|| {
            format!("no workload `{name}`; there are: {}", ALL.map(|workload| workload.name).join(", "))
        })
    };
    names.iter().map(find).collect()
}

/// Builds `seccomp-learn` and returns where it is.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    system::note("building seccomp-learn (release)");
    let mut build = system::cargo()?;
    system::run(build.args(["build", "--release", "--package", "seccomp-learn"]))?;
    Ok(system::target()?.join("release/seccomp-learn"))
}

impl Workload {
    /// The sources, relative to the checkout.
    pub(crate) fn source(&self) -> PathBuf {
        Path::new("profiles/workloads").join(self.name)
    }

    /// What is made for it, relative to the checkout.
    fn store(&self) -> PathBuf {
        Path::new("target/workloads").join(self.name)
    }

    /// Makes what the service needs in this folder, each part only when its sources changed.
    pub(crate) fn prepare(&self, store: &Path) -> anyhow::Result<()> {
        let source = system::root()?.join(self.source());
        let python = python(store);
        let packages = read_all(&source, self.requirements)?;
        fresh(&store.join("venv"), &packages, |venv| {
            let system = system::python_with_venv().context("no Python that has the module `venv`")?;
            system::note(&format!("making a virtual environment for {}", self.name));
            system::run(Command::new(system).args(["-m", "venv", "--clear"]).arg(venv))?;
            let mut install = Command::new(&python);
            install.args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--require-virtualenv",
            ]);
            for list in self.requirements {
                install.arg("--requirement").arg(source.join(list));
            }
            system::run(&mut install).context("PyPI's packages could not be installed; is PyPI within reach?")
        })?;
        let Some(model) = self.model else { return Ok(()) };
        let inputs = packages + &read_all(&source, model.inputs)?;
        fresh(&store.join("model"), &inputs, |_| {
            system::note(&format!("making the model of {}", self.name));
            // A checkout may be read-only or someone else's: Python is not to write its cache beside the script.
            let mut make = Command::new(&python);
            make.arg("-B")
                .arg(source.join("make_model.py"))
                .arg(store.join(model.place))
                .stdout(Stdio::null());
            system::run(&mut make)
        })
    }

    /// The command that starts the service from the folder that the paths are relative to.
    pub(crate) fn command(&self, source: &Path, store: &Path, port: u16) -> Vec<String> {
        let mut command = vec![text(&python(store)), "-B".to_owned(), text(&source.join(self.server))];
        if let Some(model) = self.model {
            command.extend([model.option.to_owned(), text(&store.join(model.place))]);
        }
        command.extend(["--port".to_owned(), port.to_string()]);
        command
    }

    /// The client's three calls as options of `record` and `learn`.
    pub(crate) fn life(&self, source: &Path, store: &Path, port: u16) -> [(&'static str, String); 3] {
        let (python, client) = (quote(&python(store)), quote(&source.join("client.py")));
        let call = |action: &str| format!("{python} -B {client} http://127.0.0.1:{port} {action}");
        [
            ("--ready", call("ready")),
            ("--exercise", call("exercise") + self.client),
            ("--health-cmd", call("health") + self.client),
        ]
    }

    /// Records it several times, and has `learn` make and prove its profile.
    fn learn(&self, program: &Path, root: &Path, runs: u32) -> anyhow::Result<()> {
        if let Err(error) = TcpListener::bind(("127.0.0.1", self.port)) {
            bail!("{} listens on port {}: {error}; end what listens there now", self.name, self.port);
        }
        let folder = self.source();
        let _ = std::fs::remove_dir_all(root.join(&folder).join("traces"));
        for file in GENERATED {
            let _ = std::fs::remove_file(root.join(&folder).join(file));
        }
        let life = self.life(&folder, &self.store(), self.port);
        let command = self.command(&folder, &self.store(), self.port);
        let start = |verb: &str, output: &Path| {
            let mut start = Command::new("unshare");
            start.args(["--mount", "--", "/bin/sh", "-c", IN_NEUTRAL_PLACE, "sh"]).arg(program);
            // cargo points the loader at its own libraries, which would then be part of every recording.
            start.current_dir(root).env_remove("LD_LIBRARY_PATH");
            start.args([verb, "--quiet", "--backend", "ebpf", "-o"]).arg(output);
            for (option, call) in &life {
                // A recording is not judged: `learn` is.
                if verb == "learn" || *option != "--health-cmd" {
                    start.arg(option).arg(call);
                }
            }
            system::note(&format!("{verb} {}", self.name));
            start.arg("--").args(&command).stdout(Stdio::null()).status()
        };
        std::fs::create_dir_all(root.join(&folder).join("traces"))?;
        for run in 1..runs {
            let trace = folder.join(format!("traces/run-{run:03}.json"));
            let status = start("record", &trace).context("could not start `seccomp-learn`")?;
            if !status.success() {
                bail!("recording {} ended with {status}", self.name);
            }
        }
        let status = start("learn", &folder).context("could not start `seccomp-learn`")?;
        if !status.success() {
            bail!("learning {} ended with {status}; see `{}`", self.name, folder.join("report.md").display());
        }
        Ok(())
    }
}

/// The Python of a workload's store.
fn python(store: &Path) -> PathBuf {
    store.join("venv/bin/python3")
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

/// A path as one word for the shell.
fn quote(path: &Path) -> String {
    let text = text(path);
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c)) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn read_all(folder: &Path, names: &[&str]) -> anyhow::Result<String> {
    let mut all = String::new();
    for name in names {
        let path = folder.join(name);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("could not read `{}`", path.display()))?;
        write!(all, "{text}")?;
    }
    Ok(all)
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

    #[test]
    fn every_workload_has_what_it_names() {
        for workload in ALL {
            let source = system::root().unwrap().join(workload.source());
            let inputs = workload.model.map_or(&[][..], |model| model.inputs);
            let named = [workload.server, "client.py", "README.md"];
            for file in named.iter().chain(workload.requirements).chain(inputs) {
                assert!(source.join(file).is_file(), "`{}` has no `{file}`", workload.name);
            }
        }
    }

    #[test]
    fn what_is_written_down_names_no_folder_of_this_machine() {
        for workload in ALL {
            let (source, store) = (workload.source(), workload.store());
            let life = workload.life(&source, &store, workload.port).map(|(_, call)| call);
            for text in workload.command(&source, &store, workload.port).iter().chain(&life) {
                assert!(!text.starts_with('/') && !text.contains(" /"), "{text}");
            }
        }
    }

    #[test]
    fn an_unknown_workload_is_refused_with_the_known_ones() {
        let error = chosen(&["nim".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("`nim`") && error.contains("nim-llm"), "{error}");
    }
}
