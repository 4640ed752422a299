//! `doctor`: what this host offers for recording and enforcing, and what to do about each lack.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Args;
use serde::Serialize;

use crate::{exit, terminal::print};

/// Say what this host offers, and what to do about each lack
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// One JSON object for each line, for programs
    #[arg(long)]
    json: bool,
}

/// How a finding bears on the work.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It is there.
    Good,
    /// Something works without it, less well.
    Limited,
    /// A part of the program cannot work without it.
    Missing,
}

#[derive(Serialize)]
struct Line {
    #[serde(rename = "type")]
    kind: &'static str,
    version: u32,
    what: &'static str,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Line {
    fn new(what: &'static str, state: State, found: impl Into<String>) -> Self {
        Self { kind: "check", version: 1, what, state, found: found.into(), remedy: None }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut lines =
        vec![kernel(), btf(), capabilities(), ebpf(), notify(), cgroup(), libseccomp(), actions()];
    lines.extend(engines());
    lines.push(gpu());
    for line in &lines {
        if options.json {
            print(serde_json::to_string(line)? + "\n");
        } else {
            let mark = match line.state {
                State::Good => "ok     ",
                State::Limited => "limited",
                State::Missing => "missing",
            };
            print(format!("{mark}  {:<13} {}\n", line.what, line.found));
            if let Some(remedy) = &line.remedy {
                print(format!("{:>23}→ {remedy}\n", ""));
            }
        }
    }
    // The answer is no only where neither backend can record: then this host is of no use to us.
    let can_record =
        lines.iter().any(|line| matches!(line.what, "ebpf" | "notify") && line.state == State::Good);
    Ok(exit::code(if can_record { exit::YES } else { exit::NO }))
}

/// The oldest kernel on which the `ebpf` backend is supported.
const OLDEST: (u32, u32) = (5, 14);

fn kernel() -> Line {
    let (release, machine) = profiler::host::kernel();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let found = format!("Linux {release} on {machine}");
    if version >= OLDEST {
        Line::new("kernel", State::Good, found)
    } else {
        Line::new("kernel", State::Limited, found)
            .remedy(format!("`ebpf` is supported from {}.{}; use `--backend notify`", OLDEST.0, OLDEST.1))
    }
}

fn btf() -> Line {
    let path = Path::new("/sys/kernel/btf/vmlinux");
    match fs::metadata(path) {
        Ok(metadata) => {
            Line::new("BTF", State::Good, format!("{}, {} KiB", path.display(), metadata.len() / 1024))
        }
        Err(_) => Line::new("BTF", State::Limited, "the kernel describes no types")
            .remedy("`ebpf` needs a kernel built with CONFIG_DEBUG_INFO_BTF; use `--backend notify`"),
    }
}

fn capabilities() -> Line {
    // Bit numbers: include/uapi/linux/capability.h.
    const NEEDED: [(u32, &str); 2] = [(39, "CAP_BPF"), (38, "CAP_PERFMON")];
    const SYS_ADMIN: u32 = 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective =
        status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    let Some(effective) = effective else {
        return Line::new("capabilities", State::Limited, "unknown: /proc is not mounted")
            .remedy("mount /proc");
    };
    let has = |bit: u32| effective & (1 << bit) != 0;
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(bit, _)| !has(*bit) && !has(SYS_ADMIN)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        Line::new("capabilities", State::Good, "CAP_BPF and CAP_PERFMON, or what includes them")
    } else {
        Line::new("capabilities", State::Limited, format!("no {}", missing.join(", no ")))
            .remedy("run as root for `ebpf`; `notify` needs no capability")
    }
}

fn ebpf() -> Line {
    match profiler::ebpf::probe() {
        Ok(()) => Line::new("ebpf", State::Good, "the programs load and attach"),
        Err(error) => Line::new("ebpf", State::Limited, format!("{:#}", anyhow::Error::from(error)))
            .remedy("`record` takes `notify` instead; cgroups, pids and containers need `ebpf`"),
    }
}

fn notify() -> Line {
    match profiler::notify::probe() {
        Ok(()) => Line::new("notify", State::Good, "a filter with a listener loads"),
        Err(error) => Line::new("notify", State::Missing, format!("{:#}", anyhow::Error::from(error)))
            .remedy("`test` names denials through it; run where seccomp(2) may be called"),
    }
}

fn cgroup() -> Line {
    match profiler::cgroup::OwnCgroup::create() {
        Ok(own) => {
            let mount = profiler::cgroup::mount_point().unwrap_or_else(|_| PathBuf::from("?"));
            drop(own);
            Line::new("cgroup v2", State::Good, format!("mounted on {}, writable", mount.display()))
        }
        Err(error) => Line::new("cgroup v2", State::Limited, format!("{:#}", anyhow::Error::from(error)))
            .remedy("`ebpf` puts commands into a cgroup of their own: mount cgroup2 and run as root"),
    }
}

fn libseccomp() -> Line {
    let version = synth::library_version()
        .map_or_else(|| "unknown version".to_owned(), |(a, b, c)| format!("{a}.{b}.{c}"));
    let native = trace::Abi::native_of(std::env::consts::ARCH).unwrap_or(trace::Abi::X86_64);
    // The youngest number that this library can put into a filter: what is above cannot be allowed here.
    let newest = native.numbers().filter(|number| synth::host_knows(&native.name(*number).to_string())).max();
    let newest =
        newest.map_or_else(|| "none".to_owned(), |number| format!("{} ({number})", native.name(number)));
    Line::new(
        "libseccomp",
        State::Good,
        format!("{version}, linked; the newest syscall it knows is {newest}"),
    )
}

fn actions() -> Line {
    let path = "/proc/sys/kernel/seccomp/actions_avail";
    match fs::read_to_string(path) {
        Ok(actions) => Line::new("seccomp", State::Good, actions.trim().to_owned()),
        Err(_) => Line::new("seccomp", State::Missing, format!("no {path}"))
            .remedy("enforcing needs a kernel built with CONFIG_SECCOMP_FILTER"),
    }
}

/// Engines and runtimes on `PATH`, by the first line of their `--version`.
fn engines() -> Vec<Line> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let lines: Vec<Line> = ["docker", "podman", "containerd", "crio", "runc", "crun"]
        .into_iter()
        .filter(|name| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
        .map(|name| {
            let output = Command::new(name).arg("--version").output();
            let text =
                output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            let version = text.lines().next().unwrap_or("installed, but says no version").to_owned();
            Line::new(name, State::Good, version)
        })
        .collect();
    if lines.is_empty() {
        vec![
            Line::new("engines", State::Limited, "no container engine on PATH")
                .remedy("commands can be recorded and tested without one"),
        ]
    } else {
        lines
    }
}

fn gpu() -> Line {
    match profiler::host::gpu_driver() {
        Some(driver) => Line::new("GPU driver", State::Good, format!("{} {}", driver.vendor, driver.version)),
        None => Line::new("GPU driver", State::Limited, "none loaded")
            .remedy("a GPU workload must be recorded on a GPU node"),
    }
}
