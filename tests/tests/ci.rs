//! The jobs of `docs/ci/`, step by step as the services run them: read with a reader of YAML, their commands run by a
//! shell in a repository with a worked workload.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use seccomp_learn_tests::{
    cli::{Finished, binary, read_trace, run},
    programs::which,
    skip,
};
use trace::Row;
use yaml_rust2::{Yaml, YamlLoader};

/// The digest as `sha256sum` writes it.
fn sha256(path: &Path) -> String {
    trace::Digest::of(&fs::read(path).unwrap()).to_string().trim_start_matches("sha256:").to_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn read(name: &str) -> Yaml {
    let text = fs::read_to_string(root().join("docs/ci").join(name)).unwrap();
    let documents = YamlLoader::load_from_str(&text).unwrap();
    assert_eq!(documents.len(), 1, "{name}");
    documents.into_iter().next().unwrap()
}

/// A repository with a worked workload, and what a service sets for a job in it.
struct Job {
    outer: tempfile::TempDir,
    environment: BTreeMap<String, String>,
    path: String,
}

impl Job {
    fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("repository/profiles/my-workload");
        fs::create_dir_all(folder.join("traces")).unwrap();
        let from = root().join("profiles/workloads/inference");
        fs::copy(from.join("workload.toml"), folder.join("workload.toml")).unwrap();
        for entry in fs::read_dir(from.join("traces")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.join("traces").join(path.file_name().unwrap())).unwrap();
        }
        run(["synth".as_ref(), folder.as_os_str(), "-o".as_ref(), folder.join("profile.json").as_os_str()])
            .expect_code(0);
        let url = format!("file://{}", binary().display());
        let environment =
            [("SECCOMP_LEARN_URL".to_owned(), url), ("SECCOMP_LEARN_SHA256".to_owned(), sha256(binary()))];
        let job = Self { outer, environment: environment.into(), path: std::env::var("PATH").unwrap() };
        let git = "git init -q -b main && git add -A && git -c user.name=t -c user.email=t@example.org commit -q -m base && git update-ref refs/remotes/origin/main HEAD";
        job.shell(git).expect_code(0);
        job
    }

    fn directory(&self) -> PathBuf {
        self.outer.path().join("repository")
    }

    fn shell(&self, script: &str) -> Finished {
        let mut command = Command::new("/bin/bash");
        command.args(["-e", "-c", script]).current_dir(self.directory()).envs(&self.environment);
        command.env("PATH", &self.path).env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap().into()
    }

    /// A trace of the workload as it is now, which makes one syscall more.
    fn record_anew(&self) {
        let mut trace = read_trace(&self.directory().join("profiles/my-workload/traces/run-001.json"));
        trace.recorder.started = "2026-11-23T09:00:00.000Z".to_owned();
        let mut row: Row = trace.syscalls.iter().find(|row| row.name == "access").unwrap().clone();
        (row.number, row.name) = (83, "mkdir".to_owned());
        let place = trace.syscalls.iter().position(|own| own.number > 83).unwrap();
        trace.syscalls.insert(place, row);
        trace.seal().unwrap();
        let mut bytes = Vec::new();
        trace.write(&mut bytes).unwrap();
        let fresh = self.directory().join("fresh");
        fs::create_dir(&fresh).unwrap();
        fs::write(fresh.join("run-1.json"), bytes).unwrap();
    }
}

/// The programs that the jobs name, all of which their images have.
fn missing() -> Option<&'static str> {
    ["bash", "curl", "git", "sha256sum"].into_iter().find(|name| which(name).is_none())
}

#[test]
fn the_job_for_github_actions() {
    if let Some(name) = missing() {
        return skip(&format!("needs `{name}`"));
    }
    let yaml = read("github-actions.yml");
    let steps = yaml["jobs"]["verify"]["steps"].as_vec().unwrap();
    let mut job = Job::new();
    let environment = yaml["jobs"]["verify"]["env"].as_hash().unwrap();
    for (name, value) in environment {
        let (name, value) = (name.as_str().unwrap(), value.as_str().unwrap());
        let given = format!("${{{{ vars.{name} }}}}");
        if value == given {
            assert!(job.environment.contains_key(name), "{name}");
        } else {
            job.environment.insert(name.to_owned(), value.to_owned());
        }
    }
    for (name, file) in [("GITHUB_PATH", "path"), ("GITHUB_STEP_SUMMARY", "summary")] {
        let path = job.outer.path().join(file);
        fs::write(&path, "").unwrap();
        job.environment.insert(name.to_owned(), path.to_str().unwrap().to_owned());
    }
    job.environment
        .insert("RUNNER_TEMP".to_owned(), job.outer.path().join("temp").to_str().unwrap().to_owned());
    job.environment.insert("GITHUB_BASE_REF".to_owned(), "main".to_owned());

    // Without a fresh trace all is well; with one that shows a new syscall the job fails, and says so everywhere.
    let mut go = |expected: i32| -> String {
        let (mut code, mut said) = (0, String::new());
        for step in steps {
            let Some(script) = step["run"].as_str() else {
                assert!(
                    step["uses"].as_str().is_some_and(|action| action.starts_with("actions/")),
                    "{step:?}"
                );
                continue;
            };
            let wanted = match step["if"].as_str() {
                None => code == 0,
                Some("failure()") => code != 0,
                Some(other) => other == "always()",
            };
            if !wanted {
                continue;
            }
            let ended = job.shell(script);
            said += &ended.stdout;
            let is_answer =
                script.contains("seccomp-learn verify") || script.contains("seccomp-learn replay");
            assert!(ended.code == 0 || is_answer, "{script}\n{ended:?}");
            if code == 0 {
                code = ended.code;
            }
            let added = fs::read_to_string(job.outer.path().join("path")).unwrap();
            for folder in added.lines().filter(|folder| !job.path.contains(*folder)).collect::<Vec<_>>() {
                job.path = format!("{folder}:{}", job.path);
            }
        }
        assert_eq!(code, expected, "{said}");
        said + &fs::read_to_string(job.outer.path().join("summary")).unwrap()
    };
    let said = go(0);
    assert!(said.contains("is verified") && said.contains("What this changes"), "{said}");
    assert!(job.directory().join("review.html").exists());
    job.record_anew();
    let verify =
        steps.iter().filter_map(|step| step["run"].as_str()).find(|run| run.contains("learn verify"));
    let said = job.shell(verify.unwrap()).expect_code(1).stdout;
    assert!(said.contains("new syscall `mkdir`"), "{said}");
}

#[test]
fn the_job_for_gitlab() {
    if let Some(name) = missing() {
        return skip(&format!("needs `{name}`"));
    }
    let yaml = read("gitlab-ci.yml");
    let own = &yaml["seccomp"];
    let mut job = Job::new();
    for (name, value) in own["variables"].as_hash().unwrap() {
        job.environment.insert(name.as_str().unwrap().to_owned(), value.as_str().unwrap().to_owned());
    }
    job.environment.insert("CI_MERGE_REQUEST_DIFF_BASE_SHA".to_owned(), "HEAD".to_owned());
    // One shell runs both lists, and ends at the first command that fails.
    let lines = ["before_script", "script"].into_iter().flat_map(|name| own[name].as_vec().unwrap());
    let script: Vec<&str> = lines.map(|line| line.as_str().unwrap()).collect();
    let script = script.join("\n");
    let said = job.shell(&script).expect_code(0).stdout;
    assert!(said.contains("is verified"), "{said}");
    for artifact in ["review.html", "replay.xml"] {
        assert!(job.directory().join(artifact).exists(), "{artifact}");
        let text = fs::read_to_string(root().join("docs/ci/gitlab-ci.yml")).unwrap();
        assert!(text.contains(&format!("- {artifact}")) || text.contains(&format!("junit: {artifact}")));
    }
    job.record_anew();
    let said = job.shell(&script).expect_code(1).stdout;
    assert!(said.contains("new syscall `mkdir`"), "{said}");
}
