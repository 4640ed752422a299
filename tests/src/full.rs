//! A workload folder with something in every part of a review: runs of two images that differ, a call that was refused,
//! one that the ceiling left out, one that was added, decisions, and starts of which one was denied.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use harness::{HeldOut, HeldOutDenial, HeldOutRun, Judged};
use synth::Profile;
use trace::{Abi, Digest, Errno, Outcome, Phase, PhaseName, Row, TargetKind, Trace};

use crate::{
    cli::run,
    made::{container, row, row_with, trace, write},
};

/// The calls that one run alone made, with the run.
pub const ONCE: [(&str, u64); 3] = [("mkdir", 2), ("socket", 3), ("symlink", 4)];

/// Makes it in a folder of this name.
pub fn full(folder: &Path) {
    fs::create_dir_all(folder.join("traces")).unwrap();
    for number in 1..=5 {
        write(&one(number), &folder.join("traces"), &format!("run-{number:03}.json"));
    }
    fs::write(folder.join("workload.toml"), WORKLOAD).unwrap();
    let output = folder.join("profile.json");
    run(["synth", folder.to_str().unwrap(), "-o", output.to_str().unwrap()]).expect_code(0);
    let own = Profile::read(&fs::read(output).unwrap()).unwrap().digest();
    let mut starts = HeldOut::default();
    for number in 0..5 {
        starts.add(start(number, own));
    }
    // Of another image.
    starts.add(HeldOutRun { image: Some(image("1.4")), ..start(9, own) });
    fs::write(folder.join("heldout.json"), starts.to_json()).unwrap();
}

/// A profile that allows next to nothing.
pub fn narrow(file: &Path) {
    let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}]}"#;
    fs::write(file, text).unwrap();
}

const WORKLOAD: &str = r#"
[target]
command = ["serve", "--port", "8000"]
image = "registry.example/app:1.5"
engine = "docker"

[[decision]]
verdict = "allow"
syscall = "personality"
when = "persona == PER_LINUX|ADDR_NO_RANDOMIZE"
reason = "the sanitizer needs fixed addresses"
owner = "platform"
expires = "2999-12-31"

[[decision]]
verdict = "deny"
syscall = "symlink"
reason = "nothing here makes links"
owner = "security"

[[decision]]
verdict = "accept"
syscall = "mbind"
reason = "falls back to the default policy"
owner = "security"

[[added]]
syscall = "getppid"
abi = "x86_64"
why = "refused once in a cold start by serve"
"#;

/// The image of a version.
fn image(version: &str) -> Digest {
    Digest::of(version.as_bytes())
}

/// One of the five runs.
fn one(number: u64) -> Trace {
    use PhaseName::{Serving, Shutdown, Startup};
    let at = |row: Row, phases: &[PhaseName]| Row { phases: phases.iter().copied().collect(), ..row };
    let plain = |name: &str, calls: u64, phases: &[PhaseName]| at(row(name, calls, "serve"), phases);
    let mut sockets: Vec<&[u64]> = vec![&[2, 1, 6]];
    if number == 3 {
        sockets.push(&[10, 2, 17]);
    }
    let mut rows = vec![
        plain("read", 400 + number, &[Startup, Serving]),
        plain("write", 300, &[Serving]),
        plain("openat", 90, &[Startup]),
        plain("execve", 1, &[Startup]),
        plain("epoll_wait", 1200, &[Serving]),
        plain("rt_sigaction", 4, &[Startup, Shutdown]),
        plain("kill", 1, &[Shutdown]),
        plain("mbind", 6, &[Startup]),
        plain("clone3", 3, &[Startup]),
        row_with("clone", &["flags"], &[&[0x3d_0f00]]),
        row_with("socket", &["domain", "type", "protocol"], &sockets),
        row_with("personality", &["persona"], &[&[0x4_0000]]),
    ];
    if number == 1 {
        rows.push(refused("ptrace", 3));
    }
    for (name, run) in ONCE {
        if run == number && name != "socket" {
            rows.push(plain(name, 1, &[Serving]));
        }
    }
    if number % 4 == 1 {
        rows.push(plain("rename", 2, &[Serving]));
    }
    let mut trace = trace(number, rows);
    trace.recorder.started = format!("2026-01-0{number}T10:00:00Z");
    trace.confined = number == 1;
    trace.phases = [(Startup, 0), (Serving, 900), (Shutdown, 5000)]
        .map(|(name, from_ms)| Phase { name, from_ms })
        .to_vec();
    let version = if number < 4 { "1.4" } else { "1.5" };
    trace.target.kind = TargetKind::Container;
    trace.target.command = ["serve", "--port", "8000"].map(str::to_owned).to_vec();
    trace.target.image = Some(image(version));
    trace.target.container = Some(container(&format!("registry.example/app:{version}")));
    trace
}

/// A call that a filter answered.
fn refused(name: &str, times: u64) -> Row {
    Row {
        calls: 0,
        denied: times,
        outcomes: BTreeMap::new(),
        refusals: BTreeMap::from([(Outcome::Error(Errno::EPERM), times)]),
        phases: BTreeSet::from([PhaseName::Startup]),
        ..row(name, 0, "crashpad")
    }
}

/// The second is denied something, and of the last it is not known.
fn start(number: u8, profile: Digest) -> HeldOutRun {
    let denial = HeldOutDenial {
        abi: Abi::X86_64,
        syscall: "mkdirat".to_owned(),
        answer: "EPERM".to_owned(),
        count: 1,
    };
    HeldOutRun {
        started: format!("2026-02-01T00:00:{number:02}Z"),
        duration_ms: 9000,
        container: "0123456789ab".to_owned(),
        name: None,
        pod: None,
        image: Some(image("1.5")),
        judged: Judged::Enforced,
        profile: Some(profile),
        tool: "seccomp-learn 0.1.0".to_owned(),
        kernel: "6.18.0".to_owned(),
        arch: "x86_64".to_owned(),
        gpu_driver: None,
        calls: None,
        denials: if number == 1 { vec![denial] } else { Vec::new() },
        not_known: if number == 4 { vec!["ioctl".to_owned()] } else { Vec::new() },
    }
}

/// The folder and the narrow profile beside it.
pub fn with_narrow(into: &Path) -> (PathBuf, PathBuf) {
    let (folder, file) = (into.join("serve"), into.join("narrow.json"));
    full(&folder);
    narrow(&file);
    (folder, file)
}
