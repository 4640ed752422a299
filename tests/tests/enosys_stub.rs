//! What container runtimes make of a profile: runc puts a stub in front of the filter that answers calls above the
//! highest number that the profile names, crun does not. The simulator answers as each of them does.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failure here is a test's failure")]

use std::fs;

use seccomp_learn_tests::{
    cli::own_program,
    engines::{Docker, RUNTIMES, text, tiny},
    require,
};
use synth::{Action, CompileOptions, Entry, Profile, SeccompData, Verdict, compile, simulate};
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

#[test]
fn runcs_stub_is_simulated_and_crun_has_none() {
    require!("docker", "dockerd", "runc", "crun", "busybox");
    let folder = tempfile::tempdir().unwrap();
    let docker = Docker::start(&[tiny()]);
    let mount = |from: &str, to: &str| format!("--volume={from}:{to}:ro");
    let program = own_program("answers");
    let mounts = [
        mount(program.to_str().unwrap(), "/bin/answers"),
        mount("/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu"),
        mount("/lib64", "/lib64"),
    ];
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
            let lines: Vec<String> =
                String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
            assert_eq!(lines.len(), numbers.len(), "{lines:?}");
            for (number, line) in numbers.iter().zip(&lines) {
                let data = SeccompData {
                    nr: number.cast_signed(),
                    arch: Abi::X86_64.audit_arch(),
                    ..SeccompData::default()
                };
                match simulate(&program, &data).unwrap() {
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
