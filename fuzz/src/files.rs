//! The other files, and conditions in words: what is read is what is written.

use harness::HeldOut;
use synth::{
    CompileOptions, Evidence, Profile, RuntimeTable, SeccompData, attack_score, compile,
    decode::{self, read_conditions, registers_of},
    difference, display_conditions, execute, lint, parse_conditions,
};
use trace::Abi;

/// A profile that is read is written as one that is the same; if it compiles, its filter answers every call.
pub fn profile(data: &[u8]) -> bool {
    let Ok(profile) = Profile::read(data) else { return false };
    let text = profile.to_json();
    let again = Profile::read(text.as_bytes()).expect("what was written can be read");
    assert_eq!(again, profile, "what was written reads as something else");
    assert_eq!(again.to_json(), text);
    for entry in &profile.syscalls {
        for name in &entry.names {
            let _words = decode::conditions(Abi::X86_64, name, &entry.args);
        }
    }
    let options = CompileOptions::default().with_enosys_stub(data.len() % 2 == 1);
    let Ok(program) = compile(&profile, Abi::X86_64, options) else { return true };
    // libseccomp makes filters that are longer than a kernel takes.
    if program.instructions.len() > synth::MAX_INSTRUCTIONS {
        return true;
    }
    for abi in [Abi::X86_64, Abi::I386, Abi::X32] {
        for number in [0, 1, 16, 41, 56, 59, 435, 511, 547, 0x3fff_ffff] {
            for value in [0, 1, u64::from(u32::MAX), u64::MAX] {
                execute(&program, &SeccompData::call(abi, number, [value; 6])).expect("a filter that ends");
            }
        }
    }
    // The corpus asks much, and of a large profile nothing that a small one has not.
    if data.len() < 4096 {
        attack_score(&profile, Abi::X86_64).expect("what compiles can be scored");
        lint(&profile, Abi::X86_64, None).expect("what compiles can be looked through");
        let options = CompileOptions::default();
        let difference =
            difference(&profile, &again, Abi::X86_64, options).expect("what compiles can be compared");
        assert!(difference.is_empty(), "it differs from itself: {difference:?}");
    }
    true
}

/// A sidecar that is read is written as one that is the same.
pub fn evidence(data: &[u8]) -> bool {
    let Ok(evidence) = Evidence::read(data) else { return false };
    let text = evidence.to_json();
    let again = Evidence::read(text.as_bytes()).expect("what was written can be read");
    assert_eq!(again, evidence, "what was written reads as something else");
    assert_eq!(again.to_json(), text);
    true
}

/// A `workload.toml` that is read is written as one that reads and writes the same.
pub fn workload(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(written) = seccomp_learn_cli::workload_read_and_written(text) else { return false };
    let again = seccomp_learn_cli::workload_read_and_written(&written);
    assert_eq!(again.expect("what was written can be read"), written);
    true
}

/// A runtime's table that is read is written as one that is the same.
pub fn runtime_table(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(table) = RuntimeTable::read(text) else { return false };
    let written = table.to_toml("A table");
    let again = RuntimeTable::read(&written).expect("what was written can be read");
    assert_eq!(again, table, "what was written reads as something else");
    true
}

/// Held-out runs that are read are written as the same.
pub fn held_out(data: &[u8]) -> bool {
    let Ok(runs) = HeldOut::read(data) else { return false };
    let text = runs.to_json();
    let again = HeldOut::read(text.as_bytes()).expect("what was written can be read");
    assert_eq!(again, runs, "what was written reads as something else");
    for run in &runs.runs {
        if let Some(profile) = run.profile {
            let tally = runs.tally(profile, run.image);
            tally.upper_bound().inspect(|bound| assert!((0.0..=1.0).contains(bound), "{bound}"));
        }
    }
    true
}

/// Conditions: in numbers they read as what was written, in words they say the same; with a call's name before them.
pub fn conditions(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let (syscall, text) = text.split_once(' ').unwrap_or(("ioctl", text));
    if let Ok(conditions) = parse_conditions(text) {
        let written = display_conditions(&conditions);
        assert_eq!(parse_conditions(&written).expect("what was written can be read"), conditions);
    }
    let Ok(conditions) = read_conditions(syscall, text) else { return false };
    let numbers = display_conditions(&conditions);
    assert_eq!(read_conditions(syscall, &numbers).expect("numbers can be read"), conditions, "{numbers}");
    let _words = decode::conditions(Abi::X86_64, syscall, &conditions);
    if let Some(args) = registers_of(&conditions) {
        let _words = decode::call(Abi::X86_64, syscall, &args, &decode::Context::default());
        if let Some(words) = decode::written(Abi::X86_64, syscall, &args) {
            let back = read_conditions(syscall, &words).expect("what is written for people can be read");
            assert!(registers_of(&back).is_some(), "{words}");
        }
    }
    true
}
