//! What recording costs a process that makes nothing but cheap syscalls: the worst case, as a ratio to programs
//! that do nothing on the same hooks.

use std::{
    fs,
    io::{BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};

use crate::system;

/// Options of `overhead`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often each arrangement is measured, in turn with the others
    #[arg(long, default_value_t = 15)]
    rounds: u32,
    /// Fails if a recorded or a foreign process pays more than the design allows
    #[arg(long)]
    check: bool,
}

/// A recorded process pays at most this, as a ratio to empty programs on both hooks.
const RECORDED: f64 = 2.0;
/// The same for a call whose arguments are kept and were seen before.
const RECORDED_ARGUMENTS: f64 = 2.6;
/// A process that is not recorded pays at most this.
const FOREIGN: f64 = 1.3;
/// What `hold arguments` keeps the arguments of: the level and the option of one, and of the other the request and
/// what the descriptor is.
const ARGUMENTS: &str = "getsockopt";
const IOCTL: &str = "ioctl";
/// How many targets the recording of many has.
const TARGETS: usize = 200;
/// How many targets memory is measured for, and how much it may be with 256 possible CPUs, in KiB.
const MEMORY: (u64, u64) = (1000, 64 * 1024);
/// A recorded process pays less than this, as a ratio to an empty program on `sys_enter` alone.
const RECORDED_TO_ENTER: f64 = 3.5;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if !system::is_root() {
        bail!("the overhead can be measured by root only; run: sudo -E cargo xtask bench overhead");
    }
    let mut bench = Bench::prepare()?;
    let mut table = Table::default();
    for round in 0..options.rounds.max(1) {
        system::note(&format!("round {} of {}", round + 1, options.rounds.max(1)));
        bench.round(&mut table)?;
    }
    table.print(options.rounds.max(1))?;
    let memory = bench.memory()?;
    if options.check {
        if memory > MEMORY.1 {
            bail!(
                "recording {} targets takes {memory} KiB with 256 possible CPUs, more than {}",
                MEMORY.0,
                MEMORY.1
            );
        }
        table.check()?;
    }
    Ok(())
}

/// The middle one of the values.
pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The measured times of each arrangement, in nanoseconds for one call.
#[derive(Default)]
struct Table {
    nothing: Vec<f64>,
    both: Vec<f64>,
    enter: Vec<f64>,
    recorded: Vec<f64>,
    foreign: Vec<f64>,
    fleet_recorded: Vec<f64>,
    fleet_foreign: Vec<f64>,
    strace: Vec<f64>,
    notify: Vec<f64>,
    foreign_of_arguments: Vec<f64>,
    arguments: Kept,
    ioctl: Kept,
}

/// The measured times of a call whose arguments are kept.
#[derive(Default)]
struct Kept {
    nothing: Vec<f64>,
    both: Vec<f64>,
    recorded: Vec<f64>,
    fleet: Vec<f64>,
}

impl Kept {
    /// What is added to the call.
    fn added(&self, values: &[f64]) -> f64 {
        median(&mut values.to_vec()) - median(&mut self.nothing.clone())
    }

    /// The same, as a ratio to empty programs on both hooks.
    fn ratio(&self, values: &[f64]) -> f64 {
        self.added(values) / self.added(&self.both)
    }
}

/// Everything that is measured.
struct Bench {
    hold: PathBuf,
    strace: bool,
    inside: Worker,
    outside: Worker,
    notify: Option<Worker>,
    // Last: a cgroup can be removed when its worker is gone.
    recorded: Cgroup,
    _foreign: Cgroup,
    fleet: Vec<Cgroup>,
}

impl Bench {
    fn prepare() -> anyhow::Result<Self> {
        system::note("building (release)");
        for arguments in
            [["seccomp-learn-profiler", "--example=hold"].as_slice(), ["seccomp-learn"].as_slice()]
        {
            let mut build = system::cargo()?;
            system::run(build.args(["build", "--quiet", "--release", "--package"]).args(arguments))?;
        }
        let release = system::target()?.join("release");
        let (recorded, foreign) = (Cgroup::make("recorded")?, Cgroup::make("foreign")?);
        let fleet: Vec<Cgroup> =
            (1..TARGETS).map(|index| Cgroup::make(&format!("fleet-{index}"))).collect::<Result<_, _>>()?;
        let own = std::env::current_exe().context("this program's own path cannot be had")?;
        let mut plain = Command::new(&own);
        plain.args(["bench", "worker"]);
        let inside = Worker::start(&mut plain, Some(&recorded))?;
        let outside = Worker::start(&mut plain, Some(&foreign))?;
        let mut notified = Command::new(release.join("seccomp-learn"));
        notified.args(["record", "--backend", "notify", "-o"]);
        notified.arg(recorded.scratch.join("trace.json")).arg("--").arg(&own).args(["bench", "worker"]);
        notified.stderr(Stdio::null());
        let notify = match Worker::start(&mut notified, None).and_then(|mut worker| {
            worker.measure()?;
            Ok(worker)
        }) {
            Ok(worker) => Some(worker),
            Err(error) => {
                system::note(&format!("notify is not measured: {error:#}"));
                None
            }
        };
        let strace = system::find_program("strace").is_some();
        if !strace {
            system::note("strace is not measured: it is not installed; run: apt-get install strace");
        }
        Ok(Self {
            hold: release.join("examples/hold"),
            strace,
            inside,
            outside,
            notify,
            recorded,
            _foreign: foreign,
            fleet,
        })
    }

    /// Measures every arrangement once.
    fn round(&mut self, table: &mut Table) -> anyhow::Result<()> {
        table.nothing.push(self.inside.measure()?);
        table.arguments.nothing.push(self.inside.measure_call(ARGUMENTS)?);
        table.ioctl.nothing.push(self.inside.measure_call(IOCTL)?);
        let held = self.hold(&["empty", "sys_enter", "sys_exit"])?;
        table.both.push(self.inside.measure()?);
        table.arguments.both.push(self.inside.measure_call(ARGUMENTS)?);
        table.ioctl.both.push(self.inside.measure_call(IOCTL)?);
        drop(held);
        let held = self.hold(&["empty", "sys_enter"])?;
        table.enter.push(self.inside.measure()?);
        drop(held);
        let directory = self.recorded.path.display().to_string();
        let held = self.hold(&["record", &directory])?;
        table.recorded.push(self.inside.measure()?);
        table.foreign.push(self.outside.measure()?);
        drop(held);
        let held = self.hold(&["arguments", &directory])?;
        table.arguments.recorded.push(self.inside.measure_call(ARGUMENTS)?);
        table.ioctl.recorded.push(self.inside.measure_call(IOCTL)?);
        table.foreign_of_arguments.push(self.outside.measure()?);
        drop(held);
        let mut directories = vec!["fleet".to_owned(), directory];
        directories.extend(self.fleet.iter().map(|cgroup| cgroup.path.display().to_string()));
        let held = self.hold(&directories.iter().map(String::as_str).collect::<Vec<_>>())?;
        table.fleet_recorded.push(self.inside.measure()?);
        table.fleet_foreign.push(self.outside.measure()?);
        table.arguments.fleet.push(self.inside.measure_call(ARGUMENTS)?);
        table.ioctl.fleet.push(self.inside.measure_call(IOCTL)?);
        drop(held);
        if self.strace {
            let held = Held::strace(self.inside.child.id())?;
            table.strace.push(self.inside.measure()?);
            drop(held);
        }
        if let Some(worker) = &mut self.notify {
            table.notify.push(worker.measure()?);
        }
        Ok(())
    }

    /// The memory that recording many targets takes, in KiB with 256 possible CPUs; prints it.
    #[expect(clippy::print_stdout, reason = "a part of the result")]
    fn memory(&self) -> anyhow::Result<u64> {
        let (targets, limit) = MEMORY;
        let directory = Cgroup::make("memory")?;
        let mut command = Command::new(&self.hold);
        command.arg("memory").arg(&directory.path).arg(targets.to_string());
        let output = command.stderr(Stdio::inherit()).output().context("could not start `hold`")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<u64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [resident, here, many, lost] = numbers.as_slice() else {
            bail!("`{}` failed with {}", system::show(&command), output.status);
        };
        let all = resident + many;
        println!(
            "\nmemory for {targets} targets: {resident} KiB of the process, {here} KiB of maps here, {many} KiB with \
             256 possible CPUs; together {all} KiB, at most {limit}: {}; targets with losses: {lost}",
            if all <= limit { "yes" } else { "no" }
        );
        if *lost > 0 {
            bail!("{lost} of {targets} recordings lost something");
        }
        Ok(all)
    }

    fn hold(&self, arguments: &[&str]) -> anyhow::Result<Held> {
        let mut command = Command::new(&self.hold);
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not start `{}`", self.hold.display()))?;
        let said = child.stdout.take().map(|output| read_line(&mut BufReader::new(output)));
        if said.transpose()?.as_deref() != Some("attached") {
            let _ = child.wait();
            bail!("`{}` could not attach its programs", system::show(&command));
        }
        Ok(Held { child, signal: false })
    }
}

/// A process that has something attached for as long as it lives.
struct Held {
    child: Child,
    /// Whether it is ended by a signal; otherwise by the end of its input.
    signal: bool,
}

impl Held {
    fn strace(pid: u32) -> anyhow::Result<Self> {
        let mut child = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("could not start `strace`")?;
        let said = child.stderr.take().map(|errors| read_line(&mut BufReader::new(errors))).transpose()?;
        if !said.as_ref().is_some_and(|line| line.contains("attached")) {
            let _ = child.wait();
            bail!("strace could not attach: {}", said.unwrap_or_default());
        }
        Ok(Self { child, signal: true })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.signal {
            // strace lets go of what it traces when it is killed.
            let _ = self.child.kill();
        }
        drop(self.child.stdin.take());
        let _ = self.child.wait();
        // Programs are detached when the kernel has closed their descriptors, which may be a moment later.
        thread::sleep(Duration::from_millis(30));
    }
}

/// A process that measures when it is told to.
struct Worker {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Worker {
    fn start(command: &mut Command, cgroup: Option<&Cgroup>) -> anyhow::Result<Self> {
        let shown = system::show(command);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not start `{shown}`"))?;
        let output = child.stdout.take().context("a child without output")?;
        let mut worker = Self { child, output: BufReader::new(output) };
        if let Some(cgroup) = cgroup {
            let processes = cgroup.path.join("cgroup.procs");
            fs::write(&processes, worker.child.id().to_string())
                .with_context(|| format!("could not write `{}`", processes.display()))?;
            worker.measure()?;
        }
        Ok(worker)
    }

    fn measure(&mut self) -> anyhow::Result<f64> {
        self.measure_call("getppid")
    }

    fn measure_call(&mut self, call: &str) -> anyhow::Result<f64> {
        let input = self.child.stdin.as_mut().context("a child without input")?;
        writeln!(input, "{call}").context("the measuring process has ended")?;
        let line = read_line(&mut self.output)?;
        line.parse().with_context(|| format!("the measuring process said `{line}`"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn read_line(reader: &mut impl std::io::BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

/// A cgroup for one worker.
struct Cgroup {
    path: PathBuf,
    scratch: PathBuf,
}

impl Cgroup {
    fn make(name: &str) -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts").context("could not read `/proc/mounts`")?;
        let mount = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find_map(|fields| (fields.get(2) == Some(&"cgroup2")).then(|| fields.get(1).copied()).flatten())
            .context("no cgroup v2 is mounted; mount one: mount -t cgroup2 none /sys/fs/cgroup")?;
        let path = Path::new(mount).join(format!("seccomp-learn-bench-{}-{name}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("could not make the cgroup `{}`", path.display()))?;
        Ok(Self { path, scratch: system::target()? })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

impl Table {
    /// The median over what is added to the call when nothing is attached.
    fn added(&self, values: &[f64]) -> f64 {
        median(&mut values.to_vec()) - median(&mut self.nothing.clone())
    }

    #[expect(clippy::print_stdout, reason = "the table is the result")]
    fn print(&self, rounds: u32) -> anyhow::Result<()> {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpus = thread::available_parallelism()?;
        println!(
            "getppid takes {:.0} ns with nothing attached ({}, Linux {}, {cpus} CPUs, medians of {rounds} rounds)\n",
            median(&mut self.nothing.clone()),
            std::env::consts::ARCH,
            release.trim(),
        );
        println!(
            "{:<42} {:<10} {:>10} {:>14} {:>18}",
            "attached", "who pays", "added, ns", "to empty both", "to empty sys_enter"
        );
        let rows = [
            ("empty programs on sys_enter and sys_exit", "everybody", &self.both),
            ("an empty program on sys_enter", "everybody", &self.enter),
            ("seccomp-learn, ebpf", "recorded", &self.recorded),
            ("seccomp-learn, ebpf", "foreign", &self.foreign),
            ("seccomp-learn, ebpf, 200 targets", "recorded", &self.fleet_recorded),
            ("seccomp-learn, ebpf, 200 targets", "foreign", &self.fleet_foreign),
            ("seccomp-learn, notify", "recorded", &self.notify),
            ("strace -f", "traced", &self.strace),
            ("seccomp-learn, ebpf, with arguments", "foreign", &self.foreign_of_arguments),
        ];
        let (both, enter) = (self.added(&self.both), self.added(&self.enter));
        for (what, who, values) in rows {
            if values.is_empty() {
                println!("{what:<42} {who:<10} {:>10}", "-");
                continue;
            }
            let added = self.added(values);
            println!("{what:<42} {who:<10} {added:>10.0} {:>14.2} {:>18.2}", added / both, added / enter);
        }
        for (call, kept) in [(ARGUMENTS, &self.arguments), (IOCTL, &self.ioctl)] {
            let alone = median(&mut kept.nothing.clone());
            println!("\na recorded {call} whose arguments were seen before; alone it takes {alone:.0} ns");
            for (what, values) in [
                ("empty programs on sys_enter and sys_exit", &kept.both),
                ("seccomp-learn, ebpf", &kept.recorded),
                ("seccomp-learn, ebpf, 200 targets", &kept.fleet),
            ] {
                println!("{what:<53} {:>10.0} {:>14.2}", kept.added(values), kept.ratio(values));
            }
        }
        println!();
        for (what, ratio, limit) in self.targets() {
            println!("{what}: {ratio:.2}, at most {limit}: {}", if ratio <= limit { "yes" } else { "no" });
        }
        Ok(())
    }

    /// What the design promises: the name, the measured ratio, the limit.
    fn targets(&self) -> [(&'static str, f64, f64); 8] {
        let (both, enter) = (self.added(&self.both), self.added(&self.enter));
        let (recorded, foreign) = (self.added(&self.recorded), self.added(&self.foreign));
        [
            ("a recorded process, to empty programs on both hooks", recorded / both, RECORDED),
            ("a foreign process, to empty programs on both hooks", foreign / both, FOREIGN),
            ("a recorded process, to an empty sys_enter alone", recorded / enter, RECORDED_TO_ENTER),
            (
                "a recorded process of many targets, to empty programs",
                self.added(&self.fleet_recorded) / both,
                RECORDED,
            ),
            (
                "a foreign process beside many targets, to empty programs",
                self.added(&self.fleet_foreign) / both,
                FOREIGN,
            ),
            (
                "a recorded call whose arguments were seen before, to empty programs",
                self.arguments.ratio(&self.arguments.recorded),
                RECORDED_ARGUMENTS,
            ),
            ("the same, of many targets", self.arguments.ratio(&self.arguments.fleet), RECORDED_ARGUMENTS),
            (
                "a foreign process while arguments are kept, to empty programs",
                self.added(&self.foreign_of_arguments) / both,
                FOREIGN,
            ),
        ]
    }

    fn check(&self) -> anyhow::Result<()> {
        for (what, ratio, limit) in self.targets() {
            if ratio > limit {
                bail!("{what} pays {ratio:.2}, more than {limit}; measure again on a quiet machine");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_what_is_added() {
        let table = Table {
            nothing: vec![100.0, 90.0, 110.0],
            both: vec![200.0],
            enter: vec![150.0],
            recorded: vec![250.0],
            foreign: vec![240.0],
            fleet_recorded: vec![290.0],
            fleet_foreign: vec![120.0],
            foreign_of_arguments: vec![210.0],
            arguments: Kept {
                nothing: vec![200.0],
                both: vec![300.0],
                recorded: vec![450.0],
                fleet: vec![460.0],
            },
            ..Table::default()
        };
        let ratios = table.targets().map(|(_, ratio, _)| ratio);
        assert_eq!(ratios, [1.5, 1.4, 3.0, 1.9, 0.2, 2.5, 2.6, 1.1]);
        assert!(table.check().unwrap_err().to_string().starts_with("a foreign process"));
    }
}
