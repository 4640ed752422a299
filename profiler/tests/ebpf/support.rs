//! Starting a workload in a cgroup of its own, recording it, and looking at what was recorded.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use seccomp_learn_profiler::{
    CapturePlan, Observations, Recorder as _,
    ebpf::{EbpfRecorder, Watch, probe},
};
use trace::{Abi, Outcome, Row};

/// Names the part that a child of the test plays.
pub(crate) const PART: &str = "SECCOMP_LEARN_TEST_PART";
/// The directory of the workload's cgroup.
pub(crate) const CGROUP: &str = "SECCOMP_LEARN_TEST_CGROUP";

/// False, and says why, where BPF cannot record; fails where the kernel ring was asked for.
pub(crate) fn kernel_ring() -> bool {
    let why = match (probe(), cgroup2()) {
        (Err(error), _) => error.to_string(),
        (_, None) => "no cgroup v2 mount".to_owned(),
        (Ok(()), Some(mount)) => {
            let trial = mount.join(format!("seccomp-learn-trial-{}", next()));
            match fs::create_dir(&trial).and_then(|()| fs::remove_dir(&trial)) {
                Ok(()) => return true,
                Err(error) => format!("no cgroup can be made in {}: {error}", mount.display()),
            }
        }
    };
    assert!(env::var_os("SECCOMP_LEARN_REQUIRE_KERNEL").is_none(), "no kernel ring: {why}");
    eprintln!("skipped: {why}");
    false
}

/// Where cgroup v2 is mounted.
pub(crate) fn cgroup2() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}

fn next() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A cgroup that is removed, with what runs in it and below it.
pub(crate) struct Cgroup(pub(crate) PathBuf);

impl Cgroup {
    pub(crate) fn make() -> Self {
        let path = cgroup2().unwrap().join(format!("seccomp-learn-test-{}", next()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // cgroup.kill came with 5.14.
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            remove_below(&self.0);
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn remove_below(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_below(&entry.path());
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// A child of the test that plays a part of [`crate::workload`]. It waits on standard input before it begins.
pub(crate) struct Workload {
    child: Child,
}

impl Workload {
    /// Starts a part in a cgroup, or wherever the test is, and waits until it is at its gate.
    pub(crate) fn start(part: &str, cgroup: Option<&Cgroup>) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "workload::part", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(PART, part).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some(cgroup) = cgroup {
            command.env(CGROUP, cgroup.path());
            let processes = cgroup.path().join("cgroup.procs");
            let processes = std::ffi::CString::new(processes.into_os_string().into_encoded_bytes()).unwrap();
            // SAFETY: only system calls between fork and exec.
            unsafe {
                command.pre_exec(move || {
                    let fd = libc::open(processes.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                    if fd < 0 || libc::write(fd, c"0".as_ptr().cast(), 1) != 1 {
                        return Err(std::io::Error::last_os_error());
                    }
                    libc::close(fd);
                    Ok(())
                });
            }
        }
        let mut workload = Self { child: command.spawn().unwrap() };
        workload.await_report("ready");
        workload
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many threads it has; libtest may have made one. Each is in a call while the part is at its gate.
    pub(crate) fn threads(&self) -> u64 {
        fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().count() as u64
    }

    /// Waits until the part says this word on a line of its own.
    pub(crate) fn await_report(&mut self, word: &str) {
        let stderr = self.child.stderr.as_mut().unwrap();
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            assert_eq!(stderr.read(&mut byte).unwrap(), 1, "the workload ended before it said `{word}`");
            if byte[0] != b'\n' {
                line.push(byte[0]);
                continue;
            }
            if line == word.as_bytes() {
                return;
            }
            line.clear();
        }
    }

    /// Opens the gate.
    pub(crate) fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"g").unwrap();
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        let _ = self.child.stderr.take().unwrap().read_to_string(&mut rest);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the workload ended with {status}: {rest}");
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Whether fork's return in a child is an exit; arm64's kernel goes to user space past the hook.
pub(crate) const CHILDREN_EXIT: u64 = if cfg!(target_arch = "aarch64") { 0 } else { 1 };

/// Starts recording a cgroup.
pub(crate) fn record(cgroup: &Cgroup) -> Box<EbpfRecorder> {
    Box::new(EbpfRecorder::start(&Watch::Cgroup(cgroup.path().to_owned()), &CapturePlan::default()).unwrap())
}

/// Ends a recording, and checks what holds for every one: the law of counts, and that nothing was lost.
pub(crate) fn finish(recorder: Box<EbpfRecorder>) -> Recorded {
    let recorded = Recorded::new(recorder.finish().unwrap());
    assert!(!recorded.observations.losses.lost_calls(), "{:?}", recorded.observations.losses);
    recorded
}

/// Starts a part in a cgroup of its own and records it to its end.
pub(crate) fn record_part(part: &str) -> Recorded {
    let cgroup = Cgroup::make();
    let mut workload = Workload::start(part, Some(&cgroup));
    let recorder = record(&cgroup);
    workload.go();
    workload.end();
    finish(recorder)
}

/// What was recorded, by ABI and number.
pub(crate) struct Recorded {
    pub(crate) rows: BTreeMap<(Abi, u32), Row>,
    pub(crate) observations: Observations,
}

impl Recorded {
    pub(crate) fn new(observations: Observations) -> Self {
        let mut rows = BTreeMap::new();
        for row in &observations.rows {
            let ended: u64 = row.outcomes.values().sum();
            assert_eq!(row.calls, ended + row.in_flight + row.never_returned, "{row:?}");
            assert_eq!(row.denied, row.refusals.values().sum::<u64>(), "{row:?}");
            assert!(row.calls + row.denied > 0, "{row:?}");
            assert!(!row.phases.is_empty(), "{row:?}");
            assert!(row.first.pid != 0 && !row.first.comm.is_empty(), "{row:?}");
            if let Some(arguments) = &row.arguments {
                let known: u64 = arguments.values.iter().map(|values| values.calls).sum();
                assert_eq!(row.calls, known + arguments.beyond + arguments.unread, "{row:?}");
                let denied: u64 = arguments.values.iter().map(|values| values.denied).sum();
                assert!(denied <= row.denied && (denied == row.denied || arguments.wide), "{row:?}");
                assert!(arguments.values.iter().all(|values| !values.phases.is_empty()), "{row:?}");
            }
            assert!(rows.insert((row.abi, row.number), row.clone()).is_none(), "{row:?}");
        }
        Self { rows, observations }
    }

    /// The row of a native call; an error names what there is.
    pub(crate) fn row(&self, number: libc::c_long) -> &Row {
        self.find(number).unwrap_or_else(|| panic!("no row {number} in {:?}", self.rows.keys()))
    }

    pub(crate) fn find(&self, number: libc::c_long) -> Option<&Row> {
        let native = Abi::native_of(env::consts::ARCH).unwrap();
        self.rows.get(&(native, u32::try_from(number).unwrap()))
    }

    /// All that was refused, as `name: outcome count, …`.
    pub(crate) fn refusals(&self) -> Vec<String> {
        let refused = self.rows.values().filter(|row| row.denied > 0);
        refused.map(|row| format!("{}: {}", row.name, outcomes(&row.refusals))).collect()
    }
}

/// Outcomes as `ok 3, EPERM 1`.
pub(crate) fn outcomes(outcomes: &BTreeMap<Outcome, u64>) -> String {
    let texts = outcomes.iter().map(|(outcome, count)| format!("{outcome} {count}"));
    texts.collect::<Vec<_>>().join(", ")
}
