//! What container runtimes make of a profile: runc puts a stub in front of the filter that answers calls above the
//! highest number that the profile names, crun does not. The simulator answers as each of them does.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failure here is a test's failure")]

use std::{fs, path::Path, process::Output};

use seccomp_learn_tests::{
    cli::own_program,
    engines::{Docker, RUNTIMES, text, tiny},
    require,
};
use synth::{
    Action, CompileOptions, Container, Entry, Machine, Profile, SeccompData, Verdict, compile, reference,
};
use trace::Abi;

/// `faccessat2`: the highest call that the profiles name.
const HIGHEST: u32 = 439;
/// `getpriority` and `getsid`, which they do not name.
const REFUSED: [u32; 2] = [140, 124];
const X32: u32 = 0x4000_0000;

/// Everything up to the highest is allowed, but for the two.
fn profile(architectures: &str) -> Profile {
    let text = format!(
        r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": [{architectures}], "syscalls": []}}"#
    );
    let names = (0..=HIGHEST).filter(|number| !REFUSED.contains(number));
    let names = names.map(|number| Abi::X86_64.name(number).to_string());
    let names = names.filter(|name| synth::host_knows(name)).collect();
    let entry = Entry { names, action: Action::Allow, errno_ret: None, args: Vec::new() };
    Profile { syscalls: vec![entry], ..Profile::read(text.as_bytes()).unwrap() }
}

/// Below the highest: allowed, refused, and in a gap of the table; and above it: known and unknown numbers.
fn numbers(x32: bool) -> Vec<u32> {
    let mut numbers =
        vec![39, 110, REFUSED[0], REFUSED[1], 380, 423, HIGHEST + 1, 441, 451, 462, 600, 0x3fff_ffff];
    if x32 {
        let own = numbers.clone();
        numbers.extend(own[2..].iter().map(|number| number | X32));
    }
    numbers
}

/// The program that asks, and what it loads.
fn mounts() -> Vec<String> {
    let mount = |from: &str, to: &str| format!("--volume={from}:{to}:ro");
    vec![
        mount(own_program("answers").to_str().unwrap(), "/bin/answers"),
        mount("/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu"),
        mount("/lib64", "/lib64"),
    ]
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// What the simulator says about a number as seccomp sees it, without arguments.
fn verdict(machine: &Machine, number: u32) -> Verdict {
    let arch = Abi::X86_64.audit_arch();
    machine.run(&SeccompData { nr: number.cast_signed(), arch, ..SeccompData::default() }).verdict
}

#[test]
fn runcs_stub_is_simulated_and_crun_has_none() {
    require!("docker", "dockerd", "runc", "crun", "busybox");
    let folder = tempfile::tempdir().unwrap();
    let docker = Docker::start(&[tiny()]);
    let mounts = mounts();
    let mounts: Vec<&str> = mounts.iter().map(String::as_str).collect();
    for (architectures, x32) in [
        (r#""SCMP_ARCH_X86_64""#, false),
        (r#""SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32""#, true),
        // Without a list runc's stub covers nothing.
        ("", false),
    ] {
        let profile = profile(architectures);
        let file = folder.path().join("profile.json");
        fs::write(&file, profile.to_json()).unwrap();
        let numbers = numbers(x32);
        let words: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        let arguments: Vec<&str> =
            std::iter::once("answers").chain(words.iter().map(String::as_str)).collect();
        let mut answers = Vec::new();
        for runtime in RUNTIMES {
            let output = docker.engine(runtime).confined(&file, &mounts, &arguments);
            assert!(output.status.success(), "{runtime}: {}", text(&output));
            let options = CompileOptions::default().with_enosys_stub(runtime == "runc");
            let program = compile(&profile, Abi::X86_64, options).unwrap();
            let machine = Machine::new(&program).unwrap();
            let lines = lines(&output);
            assert_eq!(lines.len(), numbers.len(), "{lines:?}");
            for (number, line) in numbers.iter().zip(&lines) {
                match verdict(&machine, *number) {
                    Verdict::Errno(errno) => {
                        assert_eq!(*line, format!("{number} {errno}"), "{runtime}, {architectures}")
                    }
                    Verdict::Allow => assert_eq!(*line, format!("{number} 0"), "{runtime}, {architectures}"),
                    other => panic!("{number}: {other:?}"),
                }
            }
            println!("{runtime}, [{architectures}]: {lines:?}");
            answers.push(lines);
        }
        // The stub makes a difference, so the test can tell.
        assert_eq!(answers[0] != answers[1], !architectures.is_empty());
    }
}

/// The profiles that people use: of each, every number that it refuses, up to the newest that it names and beyond, is
/// answered by a real runc, and by a real crun, as `replay --runtime` judges it.
#[test]
fn real_runtimes_refuse_as_replay_says() {
    require!("docker", "dockerd", "runc", "crun", "busybox");
    let folder = tempfile::tempdir().unwrap();
    let docker = Docker::start(&[tiny()]);
    let mounts = mounts();
    let mounts: Vec<&str> = mounts.iter().map(String::as_str).collect();
    let workloads = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("profiles/workloads");
    let mut profiles = vec![(
        "docker".to_owned(),
        reference("docker").unwrap().resolve(&Container::new(Abi::X86_64, (6, 18))),
    )];
    for name in ["inference", "nim-llm", "webrtc-media"] {
        let bytes = fs::read(workloads.join(name).join("profile.json")).unwrap();
        profiles.push((name.to_owned(), Profile::read(&bytes).unwrap()));
    }
    let mut beyond = 0;
    for (name, profile) in &profiles {
        let file = folder.path().join("profile.json");
        fs::write(&file, profile.to_json()).unwrap();
        for runtime in RUNTIMES {
            let options = CompileOptions::default().with_enosys_stub(runtime == "runc");
            let machine = Machine::new(&compile(profile, Abi::X86_64, options).unwrap()).unwrap();
            let errno = |number: u32| match verdict(&machine, number) {
                Verdict::Errno(errno) => Some((number, errno)),
                _ => None,
            };
            // What is allowed would be carried out.
            let refused: Vec<(u32, u16)> = (0..520)
                .chain([600, 1023, 1024, 0x3fff_ffff, X32, X32 | 39, X32 | 520])
                .filter(|number| !synth::bypasses_filters(Abi::X86_64, *number))
                .filter_map(errno)
                .collect();
            let words: Vec<String> = refused.iter().map(|(number, _)| number.to_string()).collect();
            let arguments: Vec<&str> =
                std::iter::once("answers").chain(words.iter().map(String::as_str)).collect();
            let output = docker.engine(runtime).confined(&file, &mounts, &arguments);
            assert!(output.status.success(), "{name}, {runtime}: {}", text(&output));
            let expected: Vec<String> =
                refused.iter().map(|(number, errno)| format!("{number} {errno}")).collect();
            assert_eq!(lines(&output), expected, "{name}, {runtime}");
            let enosys = refused.iter().filter(|(_, errno)| *errno == 38).count();
            println!("{name}, {runtime}: {} refused as judged, {enosys} of them with ENOSYS", refused.len());
            if runtime == "runc" {
                beyond += enosys;
            }
        }
    }
    assert!(beyond > 0);
}
