//! Input that was made to hurt: files that never end, nesting without end, keys that stand twice, numbers at their
//! ends. Each gets one line, exit code 2, and costs little memory. Whoever opens a pull request chooses these files.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{BufWriter, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use seccomp_learn_tests::{
    cli::seccomp_learn,
    measured::{Measured, measured},
};
use trace::{Outcome, Trace};

/// What a file that is refused for its size may cost: some 20 MiB, but what the tests beside this one hold when a
/// program starts counts as that program's.
const NOTHING: u64 = 160 << 20;
/// What one that has to be parsed may cost, however it is made.
const BOUND: u64 = 512 << 20;

/// The kinds of files that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Trace,
    Profile,
    Workload,
    Evidence,
    HeldOut,
    Table,
}

const KINDS: [Kind; 6] =
    [Kind::Trace, Kind::Profile, Kind::Workload, Kind::Evidence, Kind::HeldOut, Kind::Table];

impl Kind {
    fn is_toml(self) -> bool {
        matches!(self, Self::Workload | Self::Table)
    }
}

/// A folder of a workload, copied from the repository's.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = source();
        fs::create_dir(folder.path().join("traces")).unwrap();
        for file in ["profile.json", "profile.evidence.json", "workload.toml", "traces/run-001.json"] {
            fs::copy(source.join(file), folder.path().join(file)).unwrap();
        }
        Self(folder)
    }

    /// Where a file of this kind stands.
    fn place(&self, kind: Kind) -> PathBuf {
        self.0.path().join(match kind {
            Kind::Trace => "traces/run-001.json",
            Kind::Profile => "ceiling.json",
            Kind::Workload => "workload.toml",
            Kind::Evidence => "profile.evidence.json",
            Kind::HeldOut => "heldout.json",
            Kind::Table => "table.toml",
        })
    }

    /// What reads a file of this kind, offline.
    fn command(&self, kind: Kind) -> Command {
        let place = self.place(kind).display().to_string();
        let folder = self.0.path().display().to_string();
        let whole = source().join("traces/run-001.json").display().to_string();
        let mut command = match kind {
            Kind::Trace => seccomp_learn(["synth", "-o", "-", &place]),
            Kind::Profile => seccomp_learn(["synth", "-o", "-", "--ceiling", &place, &whole]),
            Kind::Table => seccomp_learn(["synth", "-o", "-", "--runtime", &place, &whole]),
            Kind::Workload => seccomp_learn(["synth", "-o", "-", &folder]),
            Kind::Evidence | Kind::HeldOut => seccomp_learn(["review", "--format", "md", "-o", "-", &folder]),
        };
        command.stdin(Stdio::null());
        command
    }
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("profiles/workloads/inference")
}

/// One line that names the file and the culprit, exit code 2, and no more memory than this.
#[track_caller]
fn refused(kind: Kind, run: Measured, culprits: &[&str], bound: u64) {
    let Measured { finished, peak, cpu, .. } = run;
    println!("{kind:?}: {} MiB, {cpu:.1?}: {}", peak >> 20, finished.stderr.trim());
    let finished = finished.expect_code(2);
    assert_eq!(finished.stdout, "", "{kind:?}");
    let lines: Vec<&str> = finished.stderr.lines().filter(|line| line.contains("error")).collect();
    assert_eq!(lines.len(), 1, "{kind:?}: {}", finished.stderr);
    assert!(lines[0].len() < 1000, "{kind:?}: a line of {} bytes", lines[0].len());
    let named = culprits.iter().any(|culprit| lines[0].contains(culprit));
    assert!(named, "{kind:?}: none of {culprits:?} in {:?}", lines[0]);
    assert!(peak < bound, "{kind:?} took {} MiB", peak >> 20);
    assert!(cpu < Duration::from_secs(20), "{kind:?} took {cpu:?}");
}

/// Puts this text into the file and runs what reads it.
fn with(kind: Kind, text: impl AsRef<[u8]>) -> Measured {
    let folder = Folder::new();
    fs::write(folder.place(kind), text).unwrap();
    measured(folder.command(kind))
}

#[test]
fn a_gibibyte_is_refused_before_it_is_read() {
    for kind in KINDS {
        let folder = Folder::new();
        // Nothing is stored of it: a file of holes reads as zeros.
        File::create(folder.place(kind)).unwrap().set_len(1 << 30).unwrap();
        refused(kind, measured(folder.command(kind)), &["is larger than"], NOTHING);
    }
}

/// What has no size is read up to the limit.
#[test]
fn what_never_ends_is_left() {
    for kind in KINDS {
        let folder = Folder::new();
        let place = folder.place(kind);
        let _ = fs::remove_file(&place);
        std::os::unix::fs::symlink("/dev/zero", &place).unwrap();
        refused(kind, measured(folder.command(kind)), &["is larger than"], NOTHING);
        fs::remove_file(&place).unwrap();
        let name = CString::new(place.as_os_str().as_bytes()).unwrap();
        // SAFETY: the name is a C string that lives until the call returns.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let writer = std::thread::spawn(move || {
            let mut pipe = File::options().write(true).open(place).unwrap();
            let spaces = [b' '; 65536];
            // Until nobody reads any more.
            while pipe.write_all(&spaces).is_ok() {}
        });
        refused(kind, measured(folder.command(kind)), &["is larger than"], NOTHING);
        writer.join().unwrap();
    }
}

#[test]
fn nesting_without_end_is_refused() {
    const DEEP: usize = 500_000;
    for kind in KINDS {
        let texts = if kind.is_toml() {
            vec![
                format!("a = {}", "[".repeat(DEEP)),
                format!("a = {}", "{a=".repeat(DEEP)),
                format!("{}a = 1", "a.".repeat(DEEP)),
                format!("[{}a]", "a.".repeat(DEEP)),
            ]
        } else {
            vec![
                "[".repeat(DEEP),
                "{\"a\":".repeat(DEEP),
                format!("{{\"version\":\"1.0\",\"a\":{}", "[".repeat(DEEP)),
                format!("{{\"version\":\"1.0\",\"syscalls\":{}", "[".repeat(DEEP)),
            ]
        };
        for text in texts {
            refused(
                kind,
                with(kind, text),
                &["recursion", "recurse", "invalid type", "unknown field", "truncated", "EOF"],
                BOUND,
            );
        }
    }
}

#[test]
fn a_key_that_stands_twice_is_named() {
    let own = |kind: Kind| fs::read_to_string(Folder::new().place(kind)).unwrap();
    let twice = |kind: Kind, text: &str, from: &str, to: &str, culprits: &[&str]| {
        assert!(text.contains(from), "{kind:?} has no {from:?}");
        refused(kind, with(kind, text.replacen(from, to, 1)), culprits, NOTHING);
    };
    let trace = own(Kind::Trace);
    let values: serde_json::Value = serde_json::from_str(&trace).unwrap();
    for key in ["version", "recorder", "target", "complete", "losses", "phases", "runs", "syscalls"] {
        let field = format!("\"{key}\":");
        let doubled = format!("{field} {}, {field}", values[key]);
        // Only at the top: the keys of rows are indented.
        let field = format!("\n  {field}");
        twice(Kind::Trace, &trace, &field, &doubled, &[&format!("duplicate field `{key}`")]);
    }
    twice(Kind::Trace, &trace, "\"calls\":", "\"calls\": 1, \"calls\":", &["duplicate field `calls`"]);
    twice(Kind::Trace, &trace, "\"ok\":", "\"ok\": 1, \"ok\":", &["duplicate key `ok`"]);
    twice(Kind::Trace, &trace, "\"comm\":", "\"comm\": \"x\", \"comm\":", &["duplicate field `comm`"]);
    twice(Kind::Trace, &trace, "{ \"prot\":", "{ \"prot\": \"0x1\", \"prot\":", &["duplicate key `prot`"]);
    let evidence = own(Kind::Evidence);
    twice(Kind::Evidence, &evidence, "\"tool\":", "\"tool\": \"x\", \"tool\":", &["duplicate field `tool`"]);
    twice(Kind::Evidence, &evidence, "\"ok\":", "\"ok\": 1, \"ok\":", &["duplicate key `ok`"]);
    twice(
        Kind::Evidence,
        &evidence,
        "\"syscall\":",
        "\"syscall\": \"x\", \"syscall\":",
        &["duplicate field `syscall`"],
    );
    let profile = fs::read_to_string(source().join("profile.json")).unwrap();
    for (key, value) in [
        ("defaultAction", "\"SCMP_ACT_ALLOW\""),
        ("syscalls", "[]"),
        ("names", "[\"read\"]"),
        ("index", "0"),
        ("value", "0"),
    ] {
        let field = format!("\"{key}\":");
        let culprit = format!("duplicate field `{key}`");
        twice(Kind::Profile, &profile, &field, &format!("\"{key}\": {value}, {field}"), &[&culprit]);
    }
    let workload = own(Kind::Workload);
    twice(Kind::Workload, &workload, "[life]", "[target]\n[life]", &["duplicate key"]);
    twice(Kind::Workload, &workload, "command =", "command = []\ncommand =", &["duplicate key"]);
    let table = fs::read_to_string(source().join("../../runtime/crun-1.8.1.toml")).unwrap();
    twice(Kind::Table, &table, "version =", "version = \"1\"\nversion =", &["duplicate key"]);
    twice(Kind::Table, &table, "why =", "why = \"x\"\nwhy =", &["duplicate key"]);
    twice(Kind::Table, &table, "prctl = [", "prctl = []\nprctl = [", &["duplicate key"]);
    let held_out = fs::read_to_string(source().join("../../../fuzz/seeds/held_out/two.json")).unwrap();
    twice(Kind::HeldOut, &held_out, "\"runs\":", "\"runs\": [], \"runs\":", &["duplicate field `runs`"]);
    twice(Kind::HeldOut, &held_out, "\"calls\":", "\"calls\": 1, \"calls\":", &["duplicate field `calls`"]);
}

/// What a parser makes of a small text may be large: many small things within the limit.
#[test]
fn what_is_within_the_limit_costs_a_bounded_multiple() {
    // Written piece by piece: what this process holds counts as its child's until that is another program.
    let many = |kind: Kind, before: &str, one: &str, after: &str, mebibytes: usize| {
        let folder = Folder::new();
        let mut file = BufWriter::new(File::create(folder.place(kind)).unwrap());
        file.write_all(before.as_bytes()).unwrap();
        for _ in 0..((mebibytes << 20) - before.len() - after.len()) / one.len() - 1 {
            file.write_all(one.as_bytes()).unwrap();
        }
        write!(file, "{}{after}", one.trim_end_matches(',')).unwrap();
        file.into_inner().unwrap();
        measured(folder.command(kind))
    };
    let culprits = &["unknown", "invalid", "missing", "no object", "truncated", "not a trace"];
    for (kind, before, one, after, mebibytes) in [
        (Kind::Trace, "{\"version\":\"1.2\",\"syscalls\":[", "0,", "]}", 31),
        (
            Kind::Trace,
            "{\"version\":\"1.2\",\"target\":{\"kind\":\"command\",\"command\":[",
            "\"\",",
            "]}}",
            31,
        ),
        (Kind::Trace, "{\"version\":\"1.2\",\"a\":[", "{},", "]}", 31),
        (Kind::Profile, "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[", "0,", "]}", 3),
        (Kind::Profile, "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"a\":[", "{},", "]}", 3),
        (
            Kind::Profile,
            "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{\"names\":[",
            "\"\",",
            "],\"action\":\"SCMP_ACT_ALLOW\"}]}",
            3,
        ),
        (Kind::Evidence, "{\"version\":\"1.2\",\"tool\":\"x\",\"enosys\":[", "\"\",", "]}", 15),
        (Kind::HeldOut, "{\"version\":\"1.0\",\"runs\":[", "0,", "]}", 15),
        (Kind::Workload, "[target]\ncommand = [", "\"\",", "]\n[x]\n", 3),
        (Kind::Workload, "", "[[added]]\n", "", 3),
        (Kind::Table, "", "[[need]]\n", "", 3),
    ] {
        refused(kind, many(kind, before, one, after, mebibytes), culprits, BOUND);
    }
}

/// The largest numbers are numbers: nothing overflows, and what cannot be is named.
#[test]
fn numbers_at_their_ends() {
    for (from, to, culprits) in [
        ("\"calls\": 635", "\"calls\": 18446744073709551616", ["not a trace", "not a trace"]),
        ("\"calls\": 635", "\"calls\": -1", ["not a trace", "not a trace"]),
        ("\"calls\": 635", "\"calls\": 1e400", ["not a trace", "not a trace"]),
        ("\"calls\": 635", "\"calls\": 18446744073709551615", ["changed after", "changed after"]),
        ("\"prot\": \"0x1\"", "\"prot\": \"0x10000000000000000\"", ["not a trace", "not a trace"]),
        ("\"pid\": 2925", "\"pid\": 4294967296", ["not a trace", "not a trace"]),
    ] {
        let trace = fs::read_to_string(source().join("traces/run-001.json")).unwrap();
        let (from, pid) = if trace.contains(from) { (from.to_owned(), 0) } else { number(&trace, from) };
        assert!(trace.contains(&from), "{from} {pid}");
        refused(Kind::Trace, with(Kind::Trace, trace.replacen(&from, to, 1)), &culprits, NOTHING);
    }
    // As many calls as there can be, of every syscall, in a trace that is whole; and two of them.
    let mut trace = Trace::read(File::open(source().join("traces/run-001.json")).unwrap()).unwrap();
    for row in &mut trace.syscalls {
        row.arguments = None;
        row.calls = u64::MAX;
        row.outcomes = [(Outcome::Ok, u64::MAX)].into();
        (row.in_flight, row.never_returned) = (0, 0);
        row.first.after_ms = u64::MAX;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for started in ["2026-01-01T00:00:00.000Z", "2026-01-01T00:00:01.000Z"] {
        trace.recorder.started = started.to_owned();
        trace.recorder.duration_ms = u64::MAX;
        let path = folder.path().join(format!("{}.json", files.len()));
        trace.write(File::create(&path).unwrap()).unwrap();
        files.push(path.display().to_string());
    }
    let profile = folder.path().join("profile.json").display().to_string();
    let run = measured(seccomp_learn(["synth", "-o", &profile, &files[0], &files[1]]));
    run.finished.expect_code(0);
    assert!(run.peak < NOTHING, "{}", run.peak);
    let review = seccomp_learn(["review", "--format", "json", "-o", "-", &profile]);
    measured(review).finished.expect_code(0);
    // What the ceiling left out is denied, as often as there are calls; nothing else goes wrong.
    let replayed = measured(seccomp_learn(["replay", &profile, &files[0], &files[1]])).finished;
    assert!([0, 1].contains(&replayed.code), "{replayed:?}");
}

/// What is larger than the largest number, or none.
const NO_NUMBERS: [&str; 3] = ["18446744073709551616", "-1", "1e400"];
const LARGEST: &str = "18446744073709551615";

/// The ends of numbers in every other file: what no such number can be is refused by name, the largest is taken where it
/// means something, and each has its exit code.
#[test]
fn numbers_at_their_ends_in_every_file() {
    let profile = |field: &str, number: &str| {
        let of = |own: &str, usual: &str| if own == field { number.to_owned() } else { usual.to_owned() };
        format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": {}, "syscalls": [
                {{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [
                    {{"index": {}, "value": {}, "valueTwo": {}, "op": "SCMP_CMP_MASKED_EQ"}}]}},
                {{"names": ["uname"], "action": "SCMP_ACT_ERRNO", "errnoRet": {}}}]}}"#,
            of("defaultErrnoRet", "1"),
            of("index", "2"),
            of("value", "7"),
            of("valueTwo", "1"),
            of("errnoRet", "38"),
        )
    };
    let evidence = fs::read_to_string(source().join("profile.evidence.json")).unwrap();
    let held_out = fs::read_to_string(source().join("../../../fuzz/seeds/held_out/two.json")).unwrap();
    let workload = fs::read_to_string(source().join("workload.toml")).unwrap();
    let in_json = |text: &str, field: &str, number: &str| {
        let (from, _) = number_of(text, field);
        text.replacen(&from, &format!("\"{field}\": {number}"), 1)
    };
    // With the exit code for the largest number; the folder has one trace of those that its evidence is of.
    let fields = [
        (Kind::Profile, "value", 0),
        (Kind::Profile, "valueTwo", 0),
        (Kind::Profile, "index", 2),
        (Kind::Profile, "errnoRet", 2),
        (Kind::Profile, "defaultErrnoRet", 2),
        (Kind::Evidence, "calls", 3),
        (Kind::Evidence, "pid", 2),
        (Kind::HeldOut, "calls", 3),
        (Kind::HeldOut, "duration_ms", 3),
        (Kind::Workload, "gpu_drivers", 2),
    ];
    for (kind, field, code) in fields {
        let text = |number: &str| match kind {
            Kind::Profile => profile(field, number),
            Kind::Evidence => in_json(&evidence, field, number),
            Kind::HeldOut => in_json(&held_out, field, number),
            Kind::Workload => format!("{workload}\n{field} = [{number}]\n"),
            Kind::Trace | Kind::Table => unreachable!("another test's"),
        };
        for number in NO_NUMBERS {
            let culprits = ["invalid", "out of range", "expected", "is no", "must be", "overflowed"];
            refused(kind, with(kind, text(number)), &culprits, NOTHING);
        }
        let run = with(kind, text(LARGEST));
        println!("{kind:?} {field}: {:?}", run.finished);
        run.finished.expect_code(code);
        assert!(run.peak < NOTHING, "{kind:?} {field}: {} MiB", run.peak >> 20);
    }
}

/// A field with the number that it has here.
fn number_of(text: &str, field: &str) -> (String, u64) {
    number(text, &format!("\"{field}\": 0"))
}

/// The same field with the number that it has here.
fn number(text: &str, field: &str) -> (String, u64) {
    let key = field.rsplit_once(": ").unwrap().0;
    let rest = &text[text.find(&format!("{key}: ")).unwrap() + key.len() + 2..];
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    (format!("{key}: {digits}"), digits.parse().unwrap())
}
