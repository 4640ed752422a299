//! The inference service of `profiles/workloads/inference`, made ready once by `cargo xtask demo --prepare`.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use crate::{
    cli,
    engines::good,
    programs::{Workload, free_port},
};

/// The service and its client.
pub struct Inference {
    pub python: PathBuf,
    /// Where its files are.
    pub source: PathBuf,
    pub client: PathBuf,
    pub model: PathBuf,
}

/// Made by whoever comes first.
pub static INFERENCE: LazyLock<Inference> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut prepare = Command::new(env!("CARGO"));
    prepare.args(["xtask", "demo", "--prepare"]).current_dir(root);
    good(prepare.env("CARGO_TARGET_DIR", cli::target_directory()));
    let store = cli::target_directory().join("demo");
    let source = root.join("profiles/workloads/inference");
    Inference {
        python: store.join("venv/bin/python3"),
        client: source.join("client.py"),
        model: store.join("model/next-character.onnx"),
        source,
    }
});

impl Inference {
    /// A call of the client, for a shell.
    pub fn call(&self, port: u16, action: &str) -> String {
        format!("{} -B {} http://127.0.0.1:{port} {action}", self.python.display(), self.client.display())
    }

    /// The service on a free port, driven by its own client.
    pub fn workload(&self) -> Workload {
        let port = free_port();
        let (python, service) = (self.python.display().to_string(), self.source.join("service.py"));
        let mut workload = Workload::command(&[
            &python,
            "-B",
            service.to_str().unwrap(),
            "--model",
            self.model.to_str().unwrap(),
            "--port",
            &port.to_string(),
        ]);
        workload.ready = Some(self.call(port, "ready"));
        workload.exercise = Some(self.call(port, "exercise"));
        workload.port = Some(port);
        workload
    }
}
