//! A workload that means harm to the recorder: a million distinct ioctl requests, and 100 000 distinct values of
//! everything else that is captured. Memory stays bounded, the trace small, and the profile closed until someone
//! decides.

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use seccomp_learn_tests::{
    cli::{Finished, Recorder, own_program, read_trace, run},
    hostile::{Hostile, IOCTL, OTHERS},
    learned::profile,
    require,
};
use synth::{CompileOptions, Profile, SeccompData, compile, simulate};
use trace::{Abi, Trace};

/// What a recorder may take: its own memory and its maps, as on a machine that can have 256 CPUs.
const MEMORY: u64 = 64 << 20;
/// What a trace file may have.
const TRACE: u64 = 1 << 20;
/// Numbers that the workload does not reach; many, since a few may be harmless.
const UNSEEN: std::ops::Range<u64> = 0x1_f000..0x1_f100;

/// What a process has resident of its own, and what its BPF maps take, with 256 CPUs. The pages of the binary, which
/// are large in a debug build, are the page cache's.
fn memory(pid: u32) -> Option<u64> {
    let field = |text: &str, name: &str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
    };
    let resident = field(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "RssAnon:")? << 10;
    let possible = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap();
    let cpus = possible.trim().rsplit(['-', ',']).next()?.parse::<u64>().ok()? + 1;
    let maps = fs::read_dir(format!("/proc/{pid}/fdinfo")).ok()?.flatten().filter_map(|entry| {
        let text = fs::read_to_string(entry.path()).ok()?;
        let (kind, locked) = (field(&text, "map_type:")?, field(&text, "memlock:")?);
        // BPF_MAP_TYPE_PERCPU_HASH, _PERCPU_ARRAY and _LRU_PERCPU_HASH have a value for each possible CPU.
        Some(if [5, 6, 10].contains(&kind) { locked / cpus * 256 } else { locked })
    });
    Some(resident + maps.sum::<u64>())
}

/// Records the workload and watches the recorder's memory.
fn record(backend: &str, ioctls: u64, others: u64, output: &Path) -> (Trace, u64) {
    let program = own_program("hostile-arguments");
    let mut recorder = Recorder::launch(
        [
            "--backend",
            backend,
            "-o",
            output.to_str().unwrap(),
            "--",
            program.to_str().unwrap(),
            &ioctls.to_string(),
            &others.to_string(),
        ],
        None,
    );
    let mut most = 0;
    while !recorder.has_ended() {
        most = most.max(memory(recorder.pid()).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(20));
    }
    recorder.wait().expect_code(0);
    (read_trace(output), most)
}

/// Whether a profile lets one of the calls pass that the workload did not make.
fn lets_pass(profile: &Profile, call: &Hostile) -> bool {
    let program = compile(profile, Abi::X86_64, CompileOptions::default()).unwrap();
    UNSEEN.into_iter().any(|number| {
        let data = SeccompData::call(Abi::X86_64, call.number as u32, (call.registers)(number));
        simulate(&program, &data).unwrap().executes()
    })
}

/// Those of the calls whose tested argument is in a register: a rule can be made for them.
fn testable() -> impl Iterator<Item = &'static Hostile> {
    std::iter::once(&IOCTL).chain(OTHERS).filter(|call| call.field.is_none())
}

fn bounded(trace: &Trace, file: &Path, ioctls: u64, others: u64) {
    let size = fs::metadata(file).unwrap().len();
    println!("{} KiB of trace", size >> 10);
    assert!(size < TRACE, "{size} bytes");
    for (call, made) in std::iter::once((&IOCTL, ioctls)).chain(OTHERS.iter().map(|call| (call, others))) {
        let row = trace.syscalls.iter().find(|row| row.abi == Abi::X86_64 && row.name == call.name);
        let row = row.unwrap_or_else(|| panic!("no {}", call.name));
        // Wide, and no call lost: some of these the program also makes by itself.
        assert!((made..made + 200).contains(&row.calls), "{}: {} calls", call.name, row.calls);
        let arguments = row.arguments.as_ref().unwrap_or_else(|| panic!("{} has no arguments", call.name));
        assert!(arguments.wide, "{} is not wide", call.name);
        let kept: u64 = arguments.values.iter().map(|values| values.calls).sum();
        assert_eq!(kept + arguments.beyond + arguments.unread, row.calls, "{}", call.name);
        assert!(arguments.beyond >= made - 1000, "{}: {} beyond", call.name, arguments.beyond);
    }
    assert!(!trace.losses.lost_calls(), "{:?}", trace.losses);
}

/// `synth` of a folder with these decisions.
fn synthesize(folder: &Path, decisions: &str) -> (Finished, Profile) {
    let workload = format!("[target]\ncommand = [\"hostile-arguments\"]\n{decisions}");
    fs::write(folder.join("workload.toml"), workload).unwrap();
    let output = folder.join("made.json");
    let finished = run(["synth", folder.to_str().unwrap(), "-o", output.to_str().unwrap()]);
    let profile = profile(&output);
    (finished, profile)
}

fn decision(verdict: &str, syscall: &str, when: &str) -> String {
    format!(
        "\n[[decision]]\nverdict = \"{verdict}\"\nsyscall = \"{syscall}\"\n{when}reason = \"a test\"\n\
         owner = \"security@localhost\"\n"
    )
}

/// Evidence about nobody knows what opens nothing, and is asked about.
fn asks(folder: &Path, wide: &[&str]) {
    let (finished, profile) = synthesize(folder, "");
    let finished = finished.expect_code(3);
    let asked = |call: &Hostile| finished.stderr.contains(&format!("undecided: `{}`", call.name));
    for call in testable().filter(|call| wide.contains(&call.name)) {
        // What the ceiling takes away as a whole is no question.
        let open = profile.allowed().contains(call.name);
        assert_eq!(asked(call), open, "{}: {}", call.name, finished.stderr);
        assert!(!lets_pass(&profile, call), "{} is open", call.name);
    }
    assert!(asked(&IOCTL), "{}", finished.stderr);

    // What is accepted stays as narrow as it was, and is asked about no more.
    let mut accepted = String::new();
    for call in wide {
        accepted.write_str(&decision("accept", call, "")).unwrap();
    }
    let (finished, profile) = synthesize(folder, &accepted);
    finished.expect_code(0);
    assert!(testable().filter(|call| wide.contains(&call.name)).all(|call| !lets_pass(&profile, call)));

    // All but one: it is still asked about that one. A condition allows what it says, and no more.
    let (first, rest) =
        (decision("accept", "ioctl", ""), accepted.replacen(&decision("accept", "ioctl", ""), "", 1));
    assert!(accepted.contains(&first));
    synthesize(folder, &rest).0.expect_code(3);
    let passes = |profile: &Profile, request: u64| {
        let program = compile(profile, Abi::X86_64, CompileOptions::default()).unwrap();
        let data = SeccompData::call(Abi::X86_64, IOCTL.number as u32, [3, request, 0, 0, 0, 0]);
        simulate(&program, &data).unwrap().executes()
    };
    let chosen = UNSEEN.start;
    let allowed = decision("allow", "ioctl", &format!("when = \"request == {chosen:#x}\"\n"));
    let (finished, profile) = synthesize(folder, &format!("{rest}{allowed}"));
    finished.expect_code(0);
    assert!(passes(&profile, chosen) && passes(&profile, 0xffff_ffff_0000_0000 | chosen));
    assert!(!UNSEEN.skip(1).any(|request| passes(&profile, request)));
}

fn wide(trace: &Trace) -> Vec<&str> {
    let wide = |row: &&trace::Row| row.arguments.as_ref().is_some_and(|arguments| arguments.wide);
    trace.syscalls.iter().filter(wide).map(|row| row.name.as_str()).collect()
}

fn hostile(backend: &str, ioctls: u64, others: u64) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("traces")).unwrap();
    let file = folder.path().join("traces/run-001.json");
    let (trace, most) = record(backend, ioctls, others, &file);
    println!("{backend}: {} KiB at most", most >> 10);
    assert!(most > 0 && most < MEMORY, "{most} bytes");
    bounded(&trace, &file, ioctls, others);
    asks(folder.path(), &wide(&trace));
}

#[test]
fn a_million_requests_by_ebpf() {
    require!();
    hostile("ebpf", 1_000_000, 100_000);
}

#[test]
fn many_requests_by_notify() {
    hostile("notify", 50_000, 2_000);
}
