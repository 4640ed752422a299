//! The GPU kit on a machine without a GPU: the same steps on the CPU path, within a shorter time.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failure here is a test's failure")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
    time::Instant,
};

use seccomp_learn_tests::{cache, cli, engines::good, programs::which, skip};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn xtask(arguments: &[&str]) -> Command {
    let mut task = Command::new(env!("CARGO"));
    task.arg("xtask").args(arguments).current_dir(root());
    task.env("CARGO_TARGET_DIR", cli::target_directory());
    task
}

/// The folder that `cargo xtask gpu-kit` makes.
static KIT: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = cache().join("gpu-kit");
    good(xtask(&["gpu-kit", "--output"]).arg(&folder));
    folder
});

/// A Python that can run the model; the kit needs no other package.
static PYTHON: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let output = xtask(&["workloads", "--prepare", "nim-llm"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        assert!(text.contains("is PyPI within reach?") || text.contains("is missing for"), "{text}");
        return None;
    }
    Some(root().join("target/workloads/nim-llm/venv/bin/python3"))
});

const SHELL: [&str; 1] = ["/bin/sh"];

/// The kit's output folder after a run, how it ended and how many seconds it took.
fn run(shell: &[&str], options: &[&str]) -> Option<(tempfile::TempDir, Output, f64)> {
    let Some(python) = &*PYTHON else {
        skip("needs onnxruntime from PyPI");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut kit = Command::new(shell[0]);
    kit.args(&shell[1..]).arg(KIT.join("run.sh")).args(options).arg("-o").arg(folder.path().join("results"));
    let begun = Instant::now();
    // From a folder of no account, and with no network tool or package of this checkout in sight.
    let output = kit.current_dir(folder.path()).env("PYTHON", python).output().unwrap();
    Some((folder, output, begun.elapsed().as_secs_f64()))
}

fn summary(folder: &tempfile::TempDir) -> Value {
    serde_json::from_slice(&fs::read(folder.path().join("results/summary.json")).unwrap()).unwrap()
}

fn state<'a>(summary: &'a Value, step: &str) -> &'a str {
    let steps = summary["steps"].as_array().unwrap();
    steps.iter().find(|one| one["name"] == step).map_or("", |one| one["state"].as_str().unwrap())
}

#[test]
fn the_kit_is_small_and_whole() {
    let mut size = 0;
    let sums = fs::read_to_string(KIT.join("SHA256SUMS")).unwrap();
    for line in sums.lines() {
        size += fs::metadata(KIT.join(line.split_once("  ").unwrap().1)).unwrap().len();
    }
    assert!(size < 30 << 20, "{size} bytes");
    good(Command::new("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(&*KIT));
    for program in ["run.sh", "bin/seccomp-learn"] {
        assert_ne!(fs::metadata(KIT.join(program)).unwrap().permissions().mode() & 0o100, 0, "{program}");
    }
}

#[test]
fn it_records_confines_and_measures_within_its_budget() {
    let options =
        ["--budget", "400", "--recordings", "1", "--rounds", "1", "--load-seconds", "1", "--no-learn"];
    let Some((folder, output, seconds)) = run(&SHELL, &options) else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let summary = summary(&folder);
    assert!(seconds < 400.0 && summary["good"] == true && summary["healthy"] == true, "{summary:#}");
    for step in ["doctor", "model", "record 1", "synthesize", "health under the profile", "throughput"] {
        assert_eq!(state(&summary, step), "ok", "{summary:#}");
    }
    assert_eq!(summary["denials"], Value::from(Vec::<Value>::new()));
    for variant in ["plain", "recorded", "confined"] {
        let rate = &summary["throughput"]["tokens_per_second"][variant];
        assert!(rate[0].as_f64().unwrap() > 0.0, "{variant}: {summary:#}");
    }
    let results = folder.path().join("results");
    assert!(
        fs::read_to_string(results.join("report.md")).unwrap().contains("was refused 0 calls, health green")
    );
    let trace = cli::read_trace(&results.join("nim-llm/traces/run-001.json"));
    assert_eq!(trace.target.gpu == Some(true), summary["device"] == "cuda");
    // What was recorded on the way is evidence like any other.
    let again = folder.path().join("again.json");
    cli::run(["synth".as_ref(), results.join("nim-llm").as_os_str(), "-o".as_ref(), again.as_os_str()])
        .expect_code(0);
}

#[test]
fn without_bpf_it_records_by_notification() {
    if which("setpriv").is_none() {
        return skip("needs `setpriv`");
    }
    // Root without capabilities, as in a container.
    let shell = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--", "/bin/sh"];
    let options = ["--budget", "300", "--recordings", "1", "--rounds", "0", "--no-learn"];
    let Some((folder, _, _)) = run(&shell, &options) else { return };
    let summary = summary(&folder);
    assert_eq!((&summary["backend"], &summary["good"]), (&"notify".into(), &true.into()), "{summary:#}");
    assert!(summary.to_string().contains("; ebpf refused: "), "{summary:#}");
}

#[test]
fn a_gpu_that_is_asked_for_and_not_there_is_said_so() {
    let Some((folder, output, _)) = run(&SHELL, &["--device", "cuda"]) else { return };
    let summary = summary(&folder);
    assert_eq!(output.status.code(), Some(2), "{summary:#}");
    assert_eq!((state(&summary, "host"), &summary["healthy"]), ("failed", &Value::Null));
    assert!(
        fs::read_to_string(folder.path().join("results/report.md")).unwrap().contains("PyTorch sees no GPU")
    );
}

#[test]
fn when_the_time_is_up_it_says_what_it_left_out() {
    let Some((folder, output, seconds)) = run(&SHELL, &["--budget", "20"]) else { return };
    let summary = summary(&folder);
    assert_eq!(output.status.code(), Some(2), "{summary:#}");
    assert!(seconds < 30.0, "{seconds}: {summary:#}");
    let steps = summary["steps"].as_array().unwrap();
    let skipped =
        steps.iter().find(|step| step["state"] == "skipped").unwrap_or_else(|| panic!("{summary:#}"));
    assert!(skipped["note"].as_str().unwrap().contains(" s"), "{skipped}");
}
