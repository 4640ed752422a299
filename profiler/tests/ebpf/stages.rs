//! What container runtimes do before the workload begins is kept apart, with runc and crun themselves.

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use seccomp_learn_profiler::ebpf::{ContainerObservations, Fleet, TargetId};
use trace::{FilterMoment, Row};

use crate::{
    fleet::check,
    support::{cgroup2, kernel_ring},
};

/// A runtime that is installed; says why the test is skipped where it is not.
fn runtime(name: &'static str) -> Option<Runtime> {
    if !kernel_ring() {
        return None;
    }
    let version = Command::new(name).arg("--version").output();
    let Ok(version) = version else {
        assert!(env::var_os("SECCOMP_LEARN_REQUIRE_KERNEL").is_none(), "{name} is not installed");
        eprintln!("skipped: {name} is not installed");
        return None;
    };
    let version = String::from_utf8(version.stdout).unwrap();
    let version = version.split_whitespace().nth(2).unwrap();
    Some(Runtime { name, version: version.split('+').next().unwrap().to_owned() })
}

struct Runtime {
    name: &'static str,
    version: String,
}

impl Runtime {
    /// The runtime with these arguments.
    fn command(&self, arguments: &[&str]) -> Command {
        // crun knows only a cgroup v2 mount in the usual place.
        if self.name == "crun" && cgroup2().unwrap() != Path::new("/sys/fs/cgroup") {
            let mut command = Command::new("unshare");
            let script = "mount -t cgroup2 none /sys/fs/cgroup && exec crun \"$@\"";
            command.args(["--mount", "sh", "-c", script, "crun"]).args(arguments);
            return command;
        }
        let mut command = Command::new(self.name);
        command.args(arguments);
        command
    }

    /// The calls of the table that is shipped for this version, if there is one.
    fn table(&self) -> Option<BTreeSet<String>> {
        let file = format!("{}-{}.toml", self.name, self.version);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/runtime").join(file);
        let text = fs::read_to_string(path).ok()?;
        let names = text.lines().filter_map(|line| line.strip_prefix("names = \"")?.strip_suffix('"'));
        Some(names.flat_map(str::split_whitespace).map(str::to_owned).collect())
    }
}

/// A running container, whose program waits until its input ends.
struct Container<'a> {
    runtime: &'a Runtime,
    id: String,
    bundle: PathBuf,
    child: Child,
    input: Option<ChildStdin>,
}

impl<'a> Container<'a> {
    fn id() -> String {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("seccomp-learn-stages-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Starts it, and waits until its program says that it runs.
    fn start(runtime: &'a Runtime, id: &str, filter: bool, no_new_privileges: bool) -> Self {
        let bundle = env::temp_dir().join(id);
        fs::create_dir_all(bundle.join("rootfs")).unwrap();
        fs::write(bundle.join("config.json"), config(id, filter, no_new_privileges)).unwrap();
        let mut command = runtime.command(&["run", "--bundle", bundle.to_str().unwrap(), id]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        let mut said = [0; 5];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        assert_eq!(&said, b"runs\n");
        Self { runtime, id: id.to_owned(), bundle, child, input }
    }

    fn exec(&self, script: &str) {
        let status = self.runtime.command(&["exec", &self.id, "/bin/sh", "-c", script]).status().unwrap();
        assert!(status.success());
    }

    fn pid(&self) -> u32 {
        let state = self.runtime.command(&["state", &self.id]).output().unwrap();
        let state = String::from_utf8(state.stdout).unwrap();
        let (_, pid) = state.split_once("\"pid\":").unwrap();
        pid.trim_start().split(|digit: char| !digit.is_ascii_digit()).next().unwrap().parse().unwrap()
    }

    fn end(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if self.input.take().is_some() {
            let _ = self.runtime.command(&["kill", &self.id, "KILL"]).status();
            let _ = self.child.wait();
        }
        let _ = fs::remove_dir_all(&self.bundle);
    }
}

/// A bundle whose root has the host's programs.
fn config(id: &str, filter: bool, no_new_privileges: bool) -> String {
    let binds: String = ["/bin", "/lib", "/lib64", "/usr"]
        .into_iter()
        .filter(|path| Path::new(path).exists())
        .map(|path| {
            format!(r#",{{"destination":"{path}","type":"bind","source":"{path}","options":["rbind","ro"]}}"#)
        })
        .collect();
    let filter = if filter {
        r#","seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["nfsservctl"],"action":"SCMP_ACT_ERRNO"}]}"#
    } else {
        ""
    };
    let capabilities = r#"["CAP_CHOWN","CAP_KILL","CAP_SETGID","CAP_SETUID"]"#;
    format!(
        r#"{{"ociVersion":"1.0.2","process":{{"terminal":false,"user":{{"uid":1000,"gid":1000}},
        "args":["/bin/sh","-c","umask 022; echo runs; read line; true"],"env":["PATH=/bin:/usr/bin"],"cwd":"/",
        "capabilities":{{"bounding":{capabilities},"effective":{capabilities},"permitted":{capabilities}}},
        "noNewPrivileges":{no_new_privileges}}},"root":{{"path":"rootfs","readonly":false}},"hostname":"stages",
        "mounts":[{{"destination":"/proc","type":"proc","source":"proc"}},
        {{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","mode=755"]}}{binds}],
        "linux":{{"cgroupsPath":"/{id}","namespaces":[{{"type":"pid"}},{{"type":"ipc"}},{{"type":"uts"}},
        {{"type":"mount"}},{{"type":"network"}}]{filter}}}}}"#
    )
}

/// Waits until the target is as it should be.
fn wait(fleet: &Fleet, target: TargetId, is_so: impl Fn(&seccomp_learn_profiler::ebpf::Condition) -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let condition = fleet.condition(target).unwrap();
        if is_so(&condition) {
            return;
        }
        assert!(Instant::now() < until, "{condition:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn names(rows: &[Row]) -> BTreeSet<String> {
    rows.iter().map(|row| row.name.clone()).collect()
}

fn calls(rows: &[Row], name: &str) -> u64 {
    rows.iter().filter(|row| row.name == name).map(|row| row.calls).sum()
}

/// A container and a session of exec in it.
fn record(runtime: &Runtime, filter: bool, no_new_privileges: bool) -> ContainerObservations {
    let id = Container::id();
    let mut fleet = Fleet::start(true).unwrap();
    fleet.expect(std::slice::from_ref(&id)).unwrap();
    let container = Container::start(runtime, &id, filter, no_new_privileges);
    let [born] = fleet.news().unwrap().try_into().unwrap();
    assert_eq!(born.path, format!("/{id}"));
    wait(&fleet, born.target, |condition| condition.first_exec_ns.is_some());
    let condition = fleet.condition(born.target).unwrap();
    assert_eq!((condition.init_pid, condition.late), (Some(container.pid()), false));
    assert!(condition.populated && condition.first_exec_ns > Some(born.at_ns));
    container.exec("umask 022; umask 022; umask 022");
    wait(&fleet, born.target, |condition| condition.exec_sessions == 1);
    container.end();
    wait(&fleet, born.target, |condition| condition.removed);
    fleet.take(&[born.target]).unwrap()
}

fn stages(name: &'static str) {
    let Some(runtime) = runtime(name) else { return };
    let mut starts = Vec::new();
    for (filter, no_new_privileges) in [(true, false), (true, true), (false, false), (false, true)] {
        let taken = record(&runtime, filter, no_new_privileges);
        let workload = check(&taken);
        let (rows, parts) = (&taken.observations.rows, taken.runtime.as_ref().unwrap());
        let context = format!("filter {filter}, no_new_privs {no_new_privileges}");
        assert_eq!(
            parts.filter,
            if filter { FilterMoment::Loaded } else { FilterMoment::WouldBe },
            "{context}"
        );
        assert_eq!(taken.observations.confined, filter, "{context}");
        // The shell begins with its own first instruction; who started it, is the runtime.
        assert_eq!(calls(rows, "umask") * 3, calls(&taken.exec.as_ref().unwrap().syscalls, "umask"));
        assert!(calls(rows, "umask") > 0 && workload.find(libc::SYS_execve).is_none(), "{context}");
        assert_eq!(workload.row(libc::SYS_exit_group).calls, 1);
        for never in ["mount", "pivot_root", "setgroups", "capset", "seccomp", "execve"] {
            assert!(!names(rows).contains(never), "{never}, {context}");
        }
        assert!(names(&parts.setup).is_superset(&["mount".into(), "pivot_root".into()].into()), "{context}");
        assert!(!names(&parts.start).contains("mount"), "{context}: {:?}", names(&parts.start));
        // The workload's and the session's.
        let execve = parts.start.iter().find(|row| row.name == "execve").unwrap();
        assert_eq!(execve.outcomes.get(&trace::Outcome::Ok), Some(&2), "{context}");
        assert_eq!(taken.exec.as_ref().unwrap().sessions, 1);
        eprintln!("{name} {}: {context}: start {:?}", runtime.version, names(&parts.start));
        if let Some(table) = runtime.table().filter(|_| filter) {
            let beyond: Vec<_> = names(&parts.start).difference(&table).cloned().collect();
            assert!(
                beyond.is_empty(),
                "not in the table of {} {}: {beyond:?}, {context}",
                name,
                runtime.version
            );
        }
        starts.push(names(&parts.start));
    }
    // Without a filter the start begins a little earlier; what differs otherwise are the scheduler's own calls.
    let loaded: BTreeSet<_> = starts[0].union(&starts[1]).cloned().collect();
    let would_be: BTreeSet<_> = starts[2].union(&starts[3]).cloned().collect();
    let chance = [
        "futex",
        "rt_sigreturn",
        "sched_yield",
        "madvise",
        "mmap",
        "munmap",
        "nanosleep",
        "tgkill",
        "getpid",
        "gettid",
        "epoll_pwait",
        "rt_sigprocmask",
        "sigaltstack",
        "clone",
    ];
    let missing: Vec<_> =
        loaded.difference(&would_be).filter(|name| !chance.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_stages_of_runc_are_kept_apart() {
    stages("runc");
}

#[test]
fn the_stages_of_crun_are_kept_apart() {
    stages("crun");
}

#[test]
fn a_container_that_runs_already_is_all_workload_and_exec_is_still_told_apart() {
    let Some(runtime) = runtime("runc") else { return };
    let id = Container::id();
    let container = Container::start(&runtime, &id, true, false);
    let mut fleet = Fleet::start(true).unwrap();
    let target = fleet.add(&cgroup2().unwrap().join(&id)).unwrap();
    let condition = fleet.condition(target).unwrap();
    assert_eq!((condition.late, condition.first_exec_ns), (true, None));
    container.exec("umask 022");
    container.end();
    let taken = fleet.take(&[target]).unwrap();
    check(&taken);
    assert!(taken.late && taken.observations.confined);
    assert_eq!(calls(&taken.observations.rows, "umask"), 0);
    assert_eq!(calls(&taken.observations.rows, "exit_group"), 1);
    let exec = taken.exec.unwrap();
    assert_eq!((exec.sessions, calls(&exec.syscalls, "umask") > 0), (1, true));
    assert_eq!(taken.runtime.unwrap().filter, FilterMoment::Loaded);
}

#[test]
fn many_containers_are_told_apart_while_they_start_at_once() {
    let Some(runtime) = runtime("runc") else { return };
    let ids: Vec<String> = (0..8).map(|_| Container::id()).collect();
    let mut fleet = Fleet::start(true).unwrap();
    fleet.nurse(&cgroup2().unwrap(), 1).unwrap();
    let taken: Vec<ContainerObservations> = thread::scope(|scope| {
        let runtime = &runtime;
        let running: Vec<_> = ids
            .iter()
            .map(|id| scope.spawn(move || Container::start(runtime, id, true, true).end()))
            .collect();
        running.into_iter().for_each(|container| container.join().unwrap());
        let mut ours = Vec::new();
        for born in fleet.news().unwrap() {
            if ids.iter().any(|id| born.path == format!("/{id}")) {
                ours.push(born.target);
            } else {
                fleet.discard(born.target);
            }
        }
        assert_eq!(ours.len(), ids.len());
        ours.into_iter().map(|target| fleet.take(&[target]).unwrap()).collect()
    });
    let umasks: BTreeSet<u64> = taken.iter().map(|taken| calls(&taken.observations.rows, "umask")).collect();
    assert_eq!(umasks.len(), 1, "{umasks:?}");
    for taken in taken {
        check(&taken);
        assert!(taken.exec.is_none());
        assert_eq!(taken.runtime.unwrap().filter, FilterMoment::Loaded);
    }
    std::io::stderr().flush().unwrap();
}
