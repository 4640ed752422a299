//! `runtime-base`: what it measures starts containers, under the profile of a program that was recorded alone, and
//! nothing in it is superfluous that strace does not see as well.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failure here is a test's failure")]

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use seccomp_learn_tests::{
    cli::{Finished, read_trace, run, seccomp_learn},
    programs::which,
    require,
};
use synth::{
    CompileOptions, Evidence, Profile, RuntimeCase, RuntimeTable, SeccompData, Verdict, compile, simulate,
};
use trace::Abi;

fn table(path: &Path) -> RuntimeTable {
    RuntimeTable::read(&fs::read_to_string(path).unwrap()).unwrap()
}

/// A program that passes for a runtime.
fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Measures the runtime that is installed, or the program that stands for it.
fn measure(runtime: &str, output: &Path, more: &[&str]) -> Finished {
    let output = output.to_str().unwrap();
    let arguments = ["runtime-base", "--runtime", runtime, "--rounds", "2", "--output", output];
    run(arguments.iter().chain(more)).expect_code(0)
}

/// A bundle whose root file system is this host's programs, and the runtime for it.
struct Containers {
    folder: tempfile::TempDir,
    runtime: &'static str,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Containers {
    fn new(runtime: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("rootfs");
        for name in ["usr", "proc", "dev", "etc"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for name in ["bin", "lib", "lib64"] {
            if Path::new("/").join(name).is_symlink() {
                symlink(format!("usr/{name}"), root.join(name)).unwrap();
            } else if Path::new("/").join(name).is_dir() {
                fs::create_dir_all(root.join(name)).unwrap();
            }
        }
        Self { folder, runtime }
    }

    /// The runtime, on a host with cgroups of both versions in a mount namespace where crun finds version 2.
    fn command(&self, arguments: &[&str]) -> Command {
        let state = self.folder.path().join("state");
        let mut command = if self.runtime == "crun" && !Path::new("/sys/fs/cgroup/cgroup.procs").exists() {
            let mut command = Command::new("unshare");
            command.args([
                "-m",
                "sh",
                "-c",
                "mount -t cgroup2 none /sys/fs/cgroup && exec crun \"$@\"",
                "crun",
            ]);
            command
        } else {
            Command::new(self.runtime)
        };
        command.arg("--root").arg(state).args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        // Files: a container that stays would hold a pipe open.
        let [out, err] = ["out", "err"].map(|name| self.folder.path().join(name));
        let mut command = self.command(arguments);
        command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
        let mut child = command.spawn().unwrap();
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status.code().unwrap_or(-1);
            }
            if start.elapsed() > Duration::from_secs(20) {
                // A runtime whose child was refused may wait for ever.
                child.kill().unwrap();
                child.wait().unwrap();
                break -1;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let text = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        Finished { code: status, stdout: text(&out), stderr: text(&err) }
    }

    fn configure(&self, arguments: &[&str], no_new_privileges: bool, seccomp: &Path) -> String {
        let name =
            format!("seccomp-learn-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let bind = |path: &str| serde_json::json!({ "destination": path, "type": "bind", "source": path, "options": ["rbind", "ro"] });
        let root = self.folder.path().join("rootfs");
        let real = |name: &&&str| {
            root.join(name.trim_start_matches('/')).is_dir()
                && !root.join(name.trim_start_matches('/')).is_symlink()
        };
        let mounts = ["/usr", "/bin", "/lib", "/lib64"];
        let mut mounts: Vec<_> = mounts.iter().filter(real).map(|path| bind(path)).collect();
        mounts.push(serde_json::json!({ "destination": "/proc", "type": "proc", "source": "proc" }));
        mounts.push(serde_json::json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs" }));
        let namespaces =
            ["pid", "ipc", "uts", "mount", "network"].map(|kind| serde_json::json!({ "type": kind }));
        let seccomp: serde_json::Value = serde_json::from_slice(&fs::read(seccomp).unwrap()).unwrap();
        let config = serde_json::json!({
            "ociVersion": "1.0.2",
            "process": Self::process(arguments, no_new_privileges),
            "root": { "path": "rootfs", "readonly": false },
            "mounts": mounts,
            "linux": {
                "cgroupsPath": format!("/{name}"),
                "namespaces": namespaces,
                "seccomp": seccomp,
            },
        });
        fs::write(self.folder.path().join("config.json"), config.to_string()).unwrap();
        name
    }

    fn process(arguments: &[&str], no_new_privileges: bool) -> serde_json::Value {
        let capabilities = ["CAP_CHOWN", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP"];
        serde_json::json!({
            "user": { "uid": 1000, "gid": 1000, "additionalGids": [1001] },
            "args": arguments,
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "noNewPrivileges": no_new_privileges,
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        })
    }

    /// Whether `echo hello` starts and says it, as a container's own program.
    fn greets(&self, no_new_privileges: bool, profile: &Path) -> Result<(), String> {
        let name = self.configure(&["echo", "hello"], no_new_privileges, profile);
        let ran = self.run(&["run", "--bundle", ".", &name]);
        self.run(&["delete", "--force", &name]);
        said_hello(&ran)
    }

    /// Whether it does when it is executed in a container that runs.
    fn greets_in_running(&self, no_new_privileges: bool, profile: &Path) -> Result<(), String> {
        let name = self.configure(&["sleep", "60"], no_new_privileges, profile);
        self.run(&["run", "--detach", "--bundle", ".", &name]).expect_code(0);
        let process = Self::process(&["echo", "hello"], no_new_privileges).to_string();
        fs::write(self.folder.path().join("process.json"), process).unwrap();
        let ran = self.run(&["exec", "--process", "process.json", &name]);
        self.run(&["delete", "--force", &name]);
        said_hello(&ran)
    }
}

fn said_hello(ran: &Finished) -> Result<(), String> {
    if ran.code == 0 && ran.stdout == "hello\n" { Ok(()) } else { Err(format!("{ran:?}")) }
}

/// Records `echo hello` and `sleep` alone, outside any container.
fn recorded(folder: &Path) -> [String; 2] {
    [("echo", "hello"), ("sleep", "0.2")].map(|(program, argument)| {
        let path = folder.join(format!("{program}.json")).display().to_string();
        run(["record", "-o", &path, "--", program, argument]).expect_code(0);
        path
    })
}

/// Makes the profile of the recorded programs for a runtime with this table.
fn profile(traces: &[String], table: &Path, output: &Path) {
    let mut synth = seccomp_learn(["synth", "--margin", "none", "--runtime"]);
    synth.arg(table).arg("--output").arg(output).args(traces);
    Finished::from(synth.output().unwrap()).expect_code(0);
}

/// The measured base is enough, with and without no_new_privs, and for exec; a name less and nothing starts.
fn measured_base_holds(runtime: &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let base = at("base.toml");
    measure(runtime, &base, &[]);
    let traces = recorded(folder.path());
    profile(&traces, &base, &at("profile.json"));
    let containers = Containers::new(runtime);
    for no_new_privileges in [false, true] {
        for _ in 0..3 {
            containers.greets(no_new_privileges, &at("profile.json")).unwrap();
            containers.greets_in_running(no_new_privileges, &at("profile.json")).unwrap();
        }
    }

    // Which names it cannot do without is found out, one by one, among those that only the runtime brought in.
    let whole = table(&base);
    let own: BTreeSet<String> =
        traces.iter().flat_map(|path| read_trace(Path::new(path)).syscalls).map(|row| row.name).collect();
    let candidates: Vec<&str> = whole
        .need
        .iter()
        .filter(|need| need.seen.contains(&RuntimeCase::Start) && !need.by_chance)
        .flat_map(|need| need.names.iter().map(String::as_str))
        .filter(|name| !own.contains(*name))
        .collect();
    let mut needed = Vec::new();
    for name in &candidates {
        let mut less = whole.clone();
        for need in &mut less.need {
            need.names.remove(*name);
            need.arguments.remove(*name);
        }
        less.need.retain(|need| !need.names.is_empty());
        fs::write(at("less.toml"), less.to_toml("")).unwrap();
        profile(&traces, &at("less.toml"), &at("less.json"));
        if containers.greets(false, &at("less.json")).is_err() {
            needed.push(*name);
        }
    }
    println!("{runtime}: of {candidates:?} no container starts without one of {needed:?}");
    assert!(needed.contains(&"capset") && needed.len() >= 3, "{needed:?} of {candidates:?}");

    // The runtime calls prctl to give up privileges; the workload gets no more of it than that.
    let native = Abi::native_of(std::env::consts::ARCH).unwrap();
    let judged = Profile::read(&fs::read(at("profile.json")).unwrap()).unwrap();
    let program = compile(&judged, native, CompileOptions::default()).unwrap();
    let number = native.number("prctl").unwrap();
    let prctl =
        |option| simulate(&program, &SeccompData::call(native, number, [option, 1, 0, 0, 0, 0])).unwrap();
    assert_eq!(prctl(8), Verdict::Allow, "PR_SET_KEEPCAPS");
    assert_ne!(prctl(4), Verdict::Allow, "PR_SET_DUMPABLE");
    let mut less = whole;
    for ways in less.need.iter_mut().filter_map(|need| need.arguments.get_mut("prctl")) {
        ways.retain(|way| !way.iter().any(|condition| condition.holds(&[24, 0, 0, 0, 0, 0])));
    }
    fs::write(at("less.toml"), less.to_toml("")).unwrap();
    profile(&traces, &at("less.toml"), &at("less.json"));
    containers.greets(false, &at("less.json")).expect_err("it starts without PR_CAPBSET_DROP");
}

#[test]
fn a_container_starts_under_the_measured_base_of_runc() {
    require!("runc");
    measured_base_holds("runc");
}

#[test]
fn a_container_starts_under_the_measured_base_of_crun() {
    require!("crun", "unshare");
    measured_base_holds("crun");
}

/// What strace sees between the filter and the exec, in the same processes.
fn as_strace_sees_it(runtime: &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    fs::create_dir(&logs).unwrap();
    let program = which(runtime).unwrap();
    // With -D the runtime stays our child, and strace need not end before the container does.
    let text = format!(
        "[ \"$1\" = --version ] && exec {0} \"$@\"\nexec strace -D -ff -o {1}/log.$$ {0} \"$@\"",
        program.display(),
        logs.display()
    );
    let wrapper = script(folder.path(), runtime, &text);
    let base = folder.path().join("base.toml");
    measure(runtime, &base, &["--program", wrapper.to_str().unwrap()]);

    let mut expected = BTreeSet::new();
    let mut filtered = 0;
    for log in fs::read_dir(&logs).unwrap() {
        let log = String::from_utf8_lossy(&fs::read(log.unwrap().path()).unwrap()).into_owned();
        let is_filter = |line: &str| {
            (line.starts_with("seccomp(SECCOMP_SET_MODE_FILTER") || line.starts_with("prctl(PR_SET_SECCOMP"))
                && line.ends_with("= 0")
        };
        let mut lines = log.lines().skip_while(|line| !is_filter(line)).skip(1).peekable();
        filtered += usize::from(lines.peek().is_some());
        for line in lines {
            let Some((name, _)) = line.split_once('(') else { continue };
            if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                expected.insert(name.to_owned());
            }
            if name == "execve" && line.ends_with("= 0") {
                break;
            }
        }
    }
    assert!(filtered > 60, "strace saw {filtered} filters");
    let table = table(&base);
    let seen: BTreeSet<String> = table
        .need
        .iter()
        .filter(|need| !need.seen.is_empty())
        .flat_map(|need| need.names.iter().cloned())
        .collect();
    assert_eq!(seen, expected, "left: measured, right: strace");
}

#[test]
fn strace_sees_the_same_of_runc() {
    require!("runc", "strace");
    as_strace_sees_it("runc");
}

#[test]
fn strace_sees_the_same_of_crun() {
    require!("crun", "strace");
    as_strace_sees_it("crun");
}

#[test]
fn nothing_of_a_measurement_stays() {
    require!("runc");
    let folder = tempfile::tempdir().unwrap();
    let mut measure = seccomp_learn(["runtime-base", "--runtime", "runc", "--rounds", "1"]);
    let measured: Finished = measure.current_dir(folder.path()).output().unwrap().into();
    let measured = measured.expect_code(0);
    let tables: Vec<PathBuf> = fs::read_dir(folder.path().join("profiles/runtime"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    let [path] = tables.as_slice() else { panic!("{tables:?}") };
    let name = path.strip_prefix(folder.path()).unwrap().display().to_string();
    assert!(measured.stderr.contains(&format!("wrote {name}")), "{}", measured.stderr);
    let text = fs::read_to_string(path).unwrap();
    assert!(text.starts_with("# Generated by `seccomp-learn runtime-base --runtime runc`"), "{text}");
    let table = table(path);
    assert_eq!(name, format!("profiles/runtime/runc-{}.toml", table.version));
    assert!(table.source.contains("Linux ") && table.source.contains("libseccomp"), "{}", table.source);
    for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        for entry in fs::read_dir(hierarchy.path()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // Those of other tests that measure just now have another owner, who lives.
            let owner = name.strip_prefix("seccomp-learn.").and_then(|rest| rest.split('.').next());
            let dead = owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists());
            assert!(!dead, "{} is left", entry.path().display());
        }
    }
}

#[test]
fn an_interrupted_measurement_leaves_nothing_either() {
    require!("runc");
    let folder = tempfile::tempdir().unwrap();
    let mut measure =
        seccomp_learn(["runtime-base", "--runtime", "runc", "--rounds", "1000", "-o", "base.toml"]);
    measure.current_dir(folder.path()).env("TMPDIR", folder.path()).stderr(Stdio::piped());
    let child = measure.spawn().unwrap();
    let pid = child.id();
    let cgroup = format!("seccomp-learn.{pid}.");
    let cgroups = || -> Vec<PathBuf> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        let all =
            hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).filter_map(|path| fs::read_dir(path).ok());
        let all = all.flatten().flatten().map(|entry| entry.path());
        all.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&cgroup)).collect()
    };
    let start = Instant::now();
    while cgroups().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(1));
    // SAFETY: kill has no memory effects; the child has not been waited for, so the id is its own.
    assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGINT) }, 0);
    let finished: Finished = child.wait_with_output().unwrap().into();
    let finished = finished.expect_code(2);
    assert!(finished.stderr.contains("error: interrupted; nothing was written"), "{}", finished.stderr);
    assert_eq!(cgroups(), Vec::<PathBuf>::new());
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_cannot_be_measured_is_said_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let check = |runtime: &str, program: &Path, expected: &str| {
        let output = folder.path().join("base.toml");
        let mut command = seccomp_learn(["runtime-base", "--runtime", runtime, "--program"]);
        let finished: Finished = command.arg(program).arg("-o").arg(&output).output().unwrap().into();
        let finished = finished.expect_code(2);
        assert!(finished.stderr.contains(expected), "{}", finished.stderr);
        let errors: Vec<&str> =
            finished.stderr.lines().skip_while(|line| !line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{}", finished.stderr);
        assert!(!output.exists());
    };
    check("runc", Path::new("/nonexistent/runc"), "cannot run `/nonexistent/runc`; install the runtime");
    let versionless = script(folder.path(), "a", "echo runc version next");
    check("runc", &versionless, "has no version that can be read: `runc version next`");
    let other = script(folder.path(), "b", "echo crun version 1.8.1");
    check("runc", &other, "is not runc: it calls itself `crun version 1.8.1`");
    check("crun", &script(folder.path(), "c", "exit 1"), "is not crun");
    if seccomp_learn_tests::has_kernel_ring().is_ok() {
        let failing =
            "[ \"$1\" = --version ] && echo runc version 9.8.7 && exit\necho it is broken >&2; exit 5";
        check("runc", &script(folder.path(), "d", failing), "it is broken");
    }
}

/// A trace of a container that this runtime started.
fn container_trace(folder: &Path, runtime: &str) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../trace/tests/golden/1.0-ebpf.json");
    let mut trace = read_trace(&golden);
    trace.target.runtime = Some(runtime.to_owned());
    let path = folder.join("container.json");
    trace.write(fs::File::create(&path).unwrap()).unwrap();
    path
}

#[test]
fn synth_takes_the_measured_table_else_the_nearest_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let trace = container_trace(folder.path(), "runc 1.2.3");
    let synth = |more: &[&str]| -> (Finished, Option<Evidence>) {
        let mut command = seccomp_learn(["synth"]);
        command.arg(&trace).args(more).current_dir(folder.path());
        let finished: Finished = command.output().unwrap().into();
        let evidence = fs::read(folder.path().join("profile.evidence.json")).ok();
        (finished, evidence.map(|bytes| Evidence::read(&bytes).unwrap()))
    };
    let (said, evidence) = synth(&[]);
    assert!(
        said.stderr.contains("no table is of runc 1.2.3, so the nearest shipped one, 1.1.5,"),
        "{said:?}"
    );
    assert_eq!(evidence.unwrap().options.runtime, ["runc 1.2.3: nearest shipped table 1.1.5"]);

    let measured = "runtime = \"runc\"\nversion = \"1.2.3\"\nsource = \"x\"\n[[need]]\nnames = \"execve capset\"\nwhy = \"y\"\n";
    fs::create_dir_all(folder.path().join("profiles/runtime")).unwrap();
    let path = folder.path().join("profiles/runtime/runc-1.2.3.toml");
    fs::write(&path, measured).unwrap();
    let (said, evidence) = synth(&[]);
    assert!(said.code == 0 && !said.stderr.contains("nearest"), "{said:?}");
    assert_eq!(evidence.unwrap().options.runtime, ["runc 1.2.3, measured"]);
    let (_, evidence) = synth(&["--runtime", "crun"]);
    assert_eq!(evidence.unwrap().options.runtime, ["crun 1.8.1", "crun 1.26"]);
    let (_, evidence) = synth(&["--runtime", "profiles/runtime/runc-1.2.3.toml"]);
    assert_eq!(evidence.unwrap().options.runtime, ["runc 1.2.3, given"]);

    // A table that cannot be read is an error that names it, never a table that is passed over.
    fs::write(&path, measured.replace("capset", "capste")).unwrap();
    let (said, _) = synth(&[]);
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("runc-1.2.3.toml`: unknown syscall `capste`"), "{said:?}");
    let (said, _) = synth(&["--runtime", "runcc"]);
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("unknown runtime `runcc`; give auto, runc, crun, none"), "{said:?}");
}
