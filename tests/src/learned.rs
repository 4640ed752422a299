//! From a workload to its profile and back: the preamble of the tests that learn.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use synth::Profile;

use crate::{cli::run, programs::Workload};

/// Records this many runs of a workload, and returns the traces.
pub fn record(workload: &Workload, folder: &Path, runs: usize) -> Vec<PathBuf> {
    let traces = (1..=runs).map(|run| folder.join(format!("run-{run}.json")));
    traces.inspect(|trace| record_with("auto", workload, trace)).collect()
}

/// Records one run by this backend.
pub fn record_with(backend: &str, workload: &Workload, trace: &Path) {
    let mut arguments: Vec<String> =
        ["record", "-q", "--backend", backend, "-o", trace.to_str().unwrap()].map(str::to_owned).into();
    arguments.extend(workload.arguments());
    run(&arguments).expect_code(0);
}

/// Makes a profile from traces, with these options.
pub fn synthesize(traces: &[PathBuf], output: &Path, options: &[&str]) {
    let mut arguments: Vec<&str> = vec!["synth", "-o", output.to_str().unwrap()];
    arguments.extend(options);
    arguments.extend(traces.iter().map(|trace| trace.to_str().unwrap()));
    run(arguments).expect_code(0);
}

/// A profile as it was written.
pub fn profile(path: &Path) -> Profile {
    Profile::read(&fs::read(path).unwrap()).unwrap()
}

/// What `test` said: its exit code, each denial, and the result.
pub struct Tested {
    pub code: i32,
    pub denials: Vec<Value>,
    pub result: Value,
}

/// Runs a workload under a profile this many times.
pub fn test(profile: &Path, workload: &Workload, runs: usize) -> Tested {
    let mut arguments: Vec<String> =
        ["test", "--json", "--runs", &runs.to_string(), profile.to_str().unwrap()].map(str::to_owned).into();
    arguments.extend(workload.arguments());
    let finished = run(&arguments);
    let parse =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    let mut lines: Vec<Value> = finished.stdout.lines().map(parse).collect();
    let result = lines.pop().unwrap_or_else(|| panic!("no result: {finished:?}"));
    lines.retain(|line| line["type"] == "denial");
    Tested { code: finished.code, denials: lines, result }
}

impl Tested {
    /// Not one denial, and every start was well.
    #[track_caller]
    pub fn holds(&self, what: &str, runs: usize) {
        assert!(
            self.denials.is_empty() && self.code == 0,
            "{what}: exit code {}, denied: {:#?}, {}",
            self.code,
            self.denials,
            self.result
        );
        let said = (&self.result["type"], &self.result["runs"], &self.result["denied"]);
        assert_eq!(said, (&"result".into(), &runs.into(), &0.into()), "{what}");
    }
}
