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
    made::container,
    programs::which,
    skip,
};
use trace::{Row, Trace};
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
        let url = format!("file://{}", binary().display());
        let environment =
            [("SECCOMP_LEARN_URL".to_owned(), url), ("SECCOMP_LEARN_SHA256".to_owned(), sha256(binary()))];
        let job = Self { outer, environment: environment.into(), path: std::env::var("PATH").unwrap() };
        job.synth();
        job.shell(&format!("git init -q -b main && {COMMIT}")).expect_code(0);
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

    /// Of an image, whose tag then changes: nothing was recorded of the new one.
    fn with_a_new_tag() -> Self {
        let job = Self::new();
        let folder = job.directory().join("profiles/my-workload");
        for entry in fs::read_dir(folder.join("traces")).unwrap() {
            let path = entry.unwrap().path();
            let mut trace = read_trace(&path);
            trace.target.container = Some(container("registry.example/app:1.4"));
            write(&path, trace);
        }
        let file = folder.join("workload.toml");
        let text = fs::read_to_string(&file).unwrap();
        let image =
            |tag: &str| format!("[target]\nimage = \"registry.example/app:{tag}\"\nengine = \"docker\"\n");
        fs::write(&file, text.replacen("[target]\n", &image("1.4"), 1)).unwrap();
        job.synth();
        job.shell(COMMIT).expect_code(0);
        fs::write(&file, text.replacen("[target]\n", &image("1.5"), 1)).unwrap();
        job
    }

    fn synth(&self) {
        let folder = self.directory().join("profiles/my-workload");
        run(["synth".as_ref(), folder.as_os_str(), "-o".as_ref(), folder.join("profile.json").as_os_str()])
            .expect_code(0);
    }

    /// A trace of the workload as it is now, which makes one syscall more.
    fn record_anew(&self) {
        let mut trace = read_trace(&self.directory().join("profiles/my-workload/traces/run-001.json"));
        trace.recorder.started = "2026-11-23T09:00:00.000Z".to_owned();
        let mut row: Row = trace.syscalls.iter().find(|row| row.name == "access").unwrap().clone();
        (row.number, row.name) = (83, "mkdir".to_owned());
        let place = trace.syscalls.iter().position(|own| own.number > 83).unwrap();
        trace.syscalls.insert(place, row);
        let fresh = self.directory().join("fresh");
        fs::create_dir(&fresh).unwrap();
        write(&fresh.join("run-1.json"), trace);
    }
}

const COMMIT: &str = "git add -A && git -c user.name=t -c user.email=t@example.org commit -q -m base && git update-ref refs/remotes/origin/main HEAD";

fn write(path: &Path, mut trace: Trace) {
    trace.seal().unwrap();
    let mut bytes = Vec::new();
    trace.write(&mut bytes).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The programs that the jobs name, all of which their images have.
fn missing() -> Option<&'static str> {
    ["bash", "curl", "git", "sha256sum"].into_iter().find(|name| which(name).is_none())
}

/// A job of GitHub's in a repository.
struct Github {
    steps: Vec<Yaml>,
    job: Job,
}

/// How it went.
struct Went {
    code: i32,
    /// What the log says.
    log: String,
    /// What stands on the job's own page.
    summary: String,
    /// The commands that were run.
    steps: Vec<String>,
}

impl Github {
    fn new(mut job: Job) -> Self {
        let yaml = read("github-actions.yml");
        let own = &yaml["jobs"]["verify"];
        for (name, value) in own["env"].as_hash().unwrap() {
            let (name, value) = (name.as_str().unwrap(), value.as_str().unwrap());
            if value == format!("${{{{ vars.{name} }}}}") {
                assert!(job.environment.contains_key(name), "{name}");
            } else {
                job.environment.insert(name.to_owned(), value.to_owned());
            }
        }
        let outer = job.outer.path().to_owned();
        for (name, file) in
            [("GITHUB_PATH", "path"), ("GITHUB_STEP_SUMMARY", "summary"), ("RUNNER_TEMP", "temp")]
        {
            job.environment.insert(name.to_owned(), outer.join(file).to_str().unwrap().to_owned());
        }
        job.environment.insert("GITHUB_BASE_REF".to_owned(), "main".to_owned());
        Self { steps: own["steps"].as_vec().unwrap().clone(), job }
    }

    /// All steps, as the service decides which of them are run.
    fn go(&mut self) -> Went {
        let file = |name: &str| self.job.outer.path().join(name);
        for name in ["path", "summary"] {
            fs::write(file(name), "").unwrap();
        }
        let _ = fs::remove_file(self.job.directory().join("review.html"));
        let mut went = Went { code: 0, log: String::new(), summary: String::new(), steps: Vec::new() };
        for step in &self.steps {
            let Some(script) = step["run"].as_str() else {
                let action = step["uses"].as_str().unwrap();
                assert!(action.starts_with("actions/"), "{action}");
                continue;
            };
            let wanted = match step["if"].as_str() {
                None => went.code == 0,
                Some("failure()") => went.code != 0,
                Some(other) => other == "always()",
            };
            if !wanted {
                continue;
            }
            went.steps.push(script.to_owned());
            let ended = self.job.shell(script);
            went.log += &ended.stdout;
            let is_answer =
                script.contains("seccomp-learn verify") || script.contains("seccomp-learn replay");
            assert!(ended.code == 0 || is_answer, "{script}\n{ended:?}");
            if went.code == 0 {
                went.code = ended.code;
            }
            let added = fs::read_to_string(file("path")).unwrap();
            for folder in added.lines() {
                if !self.job.path.contains(folder) {
                    self.job.path = format!("{folder}:{}", self.job.path);
                }
            }
        }
        went.summary = fs::read_to_string(file("summary")).unwrap();
        // However it went, the reviewer gets the page and what changes.
        assert!(self.job.directory().join("review.html").exists());
        assert!(went.summary.contains("What this changes in the seccomp profile"), "{}", went.summary);
        went
    }
}

#[test]
fn the_job_for_github_actions() {
    if let Some(name) = missing() {
        return skip(&format!("needs `{name}`"));
    }
    let mut github = Github::new(Job::new());
    let all = github.steps.iter().filter(|step| step["run"].as_str().is_some()).count();
    let went = github.go();
    assert!(went.code == 0 && went.log.contains("is verified"), "{}", went.log);
    assert!(went.summary.contains("no difference"), "{}", went.summary);
    assert_eq!(went.steps.len(), all - 1, "all but what points at a failure: {:?}", went.steps);

    // Where the job finds fresh traces is where it fetches them to.
    let fetch = github.steps.iter().find(|step| {
        step["uses"].as_str().is_some_and(|action| action.starts_with("actions/download-artifact@"))
    });
    assert_eq!(fetch.unwrap()["with"]["path"].as_str(), Some("${{ env.FRESH }}"));
    github.job.record_anew();
    let went = github.go();
    assert_eq!((went.code, went.steps.len()), (1, all), "{:?}", went.steps);
    assert!(went.log.contains("new syscall `mkdir`"), "{}", went.log);
    let annotation = went.log.lines().find(|line| line.starts_with("::error ") && line.contains("mkdir"));
    assert!(annotation.is_some_and(|line| line.contains("fresh/run-1.json")), "{}", went.log);
}

#[test]
fn a_new_tag_alone_ends_both_jobs_with_3() {
    if let Some(name) = missing() {
        return skip(&format!("needs `{name}`"));
    }
    let says = |log: &str| {
        assert!(log.contains("prove nothing about `registry.example/app:1.5`"), "{log}");
        assert!(log.contains("run: seccomp-learn learn -o profiles/my-workload\n"), "{log}");
    };
    let went = Github::new(Job::with_a_new_tag()).go();
    assert_eq!(went.code, 3, "{}", went.log);
    says(&went.log);
    let (job, script) = gitlab(Job::with_a_new_tag());
    says(&job.shell(&script).expect_code(3).stdout);
    assert!(job.directory().join("review.html").exists());
}

/// The job of GitLab in a repository: one shell runs both lists, and ends at the first command that fails.
fn gitlab(mut job: Job) -> (Job, String) {
    let yaml = read("gitlab-ci.yml");
    let own = &yaml["seccomp"];
    for (name, value) in own["variables"].as_hash().unwrap() {
        job.environment.insert(name.as_str().unwrap().to_owned(), value.as_str().unwrap().to_owned());
    }
    job.environment.insert("CI_MERGE_REQUEST_DIFF_BASE_SHA".to_owned(), "HEAD".to_owned());
    let lines = ["before_script", "script"].into_iter().flat_map(|name| own[name].as_vec().unwrap());
    let script: Vec<&str> = lines.map(|line| line.as_str().unwrap()).collect();
    (job, script.join("\n"))
}

#[test]
fn the_job_for_gitlab() {
    if let Some(name) = missing() {
        return skip(&format!("needs `{name}`"));
    }
    let (job, script) = gitlab(Job::new());
    let said = job.shell(&script).expect_code(0).stdout;
    assert!(said.contains("is verified"), "{said}");
    let artifacts = ["review.html", "replay.xml"].map(|name| job.directory().join(name));
    let text = fs::read_to_string(root().join("docs/ci/gitlab-ci.yml")).unwrap();
    assert!(text.contains("- review.html") && text.contains("junit: replay.xml"));
    for artifact in &artifacts {
        assert!(artifact.exists(), "{}", artifact.display());
        fs::remove_file(artifact).unwrap();
    }
    job.record_anew();
    let said = job.shell(&script).expect_code(1).stdout;
    assert!(said.contains("new syscall `mkdir`"), "{said}");
    let [page, report] = artifacts.map(|path| fs::read_to_string(path).unwrap());
    assert!(
        page.contains("<html") && report.contains("mkdir") && report.contains("fresh/run-1.json"),
        "{report}"
    );
}

/// What `review` says of a profile is not the job's answer: its findings end nothing.
#[test]
fn a_finding_of_the_review_does_not_end_a_job() {
    if let Some(name) = missing() {
        return skip(&format!("needs `{name}`"));
    }
    let (job, script) = gitlab(Job::new());
    let folder = job.directory().join("profiles/my-workload");
    let file = folder.join("workload.toml");
    let decision =
        "\n[[decision]]\nverdict = \"allow\"\nsyscall = \"bpf\"\nreason = \"a test\"\nowner = \"sec\"\n";
    fs::write(&file, fs::read_to_string(&file).unwrap() + decision).unwrap();
    job.synth();
    let page = job.outer.path().join("page.html");
    run(["review".as_ref(), folder.as_os_str(), "-o".as_ref(), page.as_os_str()]).expect_code(1);
    let said = job.shell(&script).expect_code(0).stdout;
    assert!(said.contains("is verified"), "{said}");
    assert_eq!(Github::new(job).go().code, 0);
}
