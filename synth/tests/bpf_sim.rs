//! libseccomp's own tables of verdicts, from its source package: the filters that its test programs make, asked by
//! this simulator, answer as its `bpf-sim` tables say.
//!
//! The package is fetched with package lists of its own, unpacked beside the build, and kept there; nothing of it is
//! checked in. On x86-64 the rows of that machine and, through a filter whose architecture is exchanged when it is
//! made, those of 64-bit Arm are read; rows for several architectures in one filter as they are.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the oracle is a source package")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use seccomp_learn_synth::{Instruction, Program, SeccompData, Verdict, simulate};
use trace::Abi;

#[path = "common/oracle.rs"]
mod oracle;

/// One line of a table.
struct Row {
    program: String,
    /// `all`, `x86_64`, `+aarch64`, `-x32`, …
    machines: Vec<String>,
    syscall: String,
    args: Vec<String>,
    verdict: Verdict,
}

#[test]
fn the_simulator_agrees_with_libseccomps_own_tables() {
    let source = match source() {
        Ok(source) => source,
        Err(reason) => return oracle::skip(&reason),
    };
    if !Path::new("/usr/include/seccomp.h").exists() || run(Command::new("cc").arg("--version")).is_err() {
        return oracle::skip("needs `cc` and the headers of libseccomp (libseccomp-dev)");
    }
    let mut filters = Filters::new(&source);
    let mut rows: BTreeMap<Abi, usize> = BTreeMap::new();
    let mut asked: BTreeMap<Abi, usize> = BTreeMap::new();
    let mut not_there = 0;
    let table = table(&source);
    for row in &table {
        for (abi, machine) in row.asked() {
            let Some(numbers) = numbers(abi, &row.syscall) else {
                not_there += 1;
                continue;
            };
            let program = filters.of(&row.program, machine);
            *rows.entry(abi).or_default() += 1;
            for number in numbers {
                for args in product(&row.args) {
                    let (nr, arch) = (number.cast_signed(), abi.audit_arch());
                    let data = SeccompData { nr, arch, instruction_pointer: 0, args };
                    let verdict = simulate(program, &data).unwrap();
                    assert_eq!(verdict, row.verdict, "{} {abi} {nr} {args:x?}", row.program);
                    *asked.entry(abi).or_default() += 1;
                }
            }
        }
    }
    println!("{} rows of {}: {rows:?} rows, {asked:?} calls agree", table.len(), source.display());
    println!("{not_there} rows name a call that is not there");
    for abi in [Abi::X86_64, Abi::Aarch64] {
        assert!(rows[&abi] > 150, "{abi}: {rows:?}");
    }
}

fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.output().map_err(|error| format!("needs `{:?}`: {error}", command.get_program()))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// The unpacked source package.
fn source() -> Result<PathBuf, String> {
    let store = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libseccomp-source");
    let unpacked = || {
        let entries = fs::read_dir(&store).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).find(|path| path.join("tests/regression").exists())
    };
    if let Some(source) = unpacked() {
        return Ok(source);
    }
    fs::create_dir_all(store.join("parts")).unwrap();
    fs::create_dir_all(store.join("lists/partial")).unwrap();
    for (number, list) in source_lists().into_iter().enumerate() {
        let (name, text) = list;
        fs::write(store.join("parts").join(format!("{number}.{name}")), text).unwrap();
    }
    let at = |folder: &str| store.join(folder).display().to_string();
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(["-qq", "-oAPT::Sandbox::User=root", "-oDir::Etc::SourceList=/dev/null"]);
        apt.arg(format!("-oDir::Etc::SourceParts={}", at("parts")));
        apt.arg(format!("-oDir::State::Lists={}", at("lists")));
        run(apt.args(arguments).current_dir(&store))
    };
    // One list of several may be in the middle of an update; the package tells whether it mattered.
    let update = apt(&["update"]);
    apt(&["--download-only", "source", "libseccomp"])
        .map_err(|error| format!("cannot fetch the source of libseccomp: {error} {update:?}"))?;
    let archives = fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path());
    let archive = archives.filter(|path| path.to_string_lossy().contains(".orig.tar.")).min_by_key(|path| {
        // The signature has a longer name.
        path.as_os_str().len()
    });
    let archive = archive.ok_or("the source package has no archive")?;
    run(Command::new("tar").arg("-xf").arg(archive).current_dir(&store))?;
    unpacked().ok_or_else(|| "the source package has no tests".to_owned())
}

/// This host's package lists, for sources instead of packages.
fn source_lists() -> Vec<(&'static str, String)> {
    let single = [PathBuf::from("/etc/apt/sources.list")];
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let files = single.into_iter().chain(parts.map(|entry| entry.path()));
    let list = |path: PathBuf| {
        let text = fs::read_to_string(&path).ok()?;
        let line = |line: &str| match line.split_once(char::is_whitespace) {
            Some(("deb", rest)) => format!("deb-src {rest}\n"),
            Some(("Types:", _)) => "Types: deb-src\n".to_owned(),
            _ => format!("{line}\n"),
        };
        let name = match path.extension()?.to_str()? {
            "list" => "list",
            "sources" => "sources",
            _ => return None,
        };
        Some((name, text.lines().map(line).collect()))
    };
    files.filter_map(list).collect()
}

/// Put before a test program: its filters are for 64-bit Arm instead of this machine. What it names with `SCMP_SYS`
/// gets a mark, since the library takes numbers for this machine's; a bare number is one of the other machine.
const EXCHANGE: &str = r#"
#include <stdlib.h>
#include <seccomp.h>
static inline void exchange(scmp_filter_ctx context)
{
    if (context)
        if (seccomp_arch_add(context, SCMP_ARCH_AARCH64) || seccomp_arch_remove(context, SCMP_ARCH_NATIVE))
            exit(77);
}
static inline scmp_filter_ctx init_and_exchange(uint32_t action)
{
    scmp_filter_ctx context = seccomp_init(action);
    exchange(context);
    return context;
}
static inline int reset_and_exchange(scmp_filter_ctx context, uint32_t action)
{
    int result = seccomp_reset(context, action);
    exchange(context);
    return result;
}
enum { MARK = 1 << 24 };
static inline int number(int number)
{
    if (number > MARK / 2)
        return number - MARK;
    return seccomp_syscall_resolve_name(seccomp_syscall_resolve_num_arch(SCMP_ARCH_AARCH64, number));
}
#undef SCMP_SYS
#define SCMP_SYS(x) (__SNR_##x + MARK)
#define seccomp_init init_and_exchange
#define seccomp_reset reset_and_exchange
#define seccomp_rule_add(context, action, call, ...) \
    seccomp_rule_add(context, action, number(call), __VA_ARGS__)
#define seccomp_rule_add_exact(context, action, call, ...) \
    seccomp_rule_add_exact(context, action, number(call), __VA_ARGS__)
#define seccomp_rule_add_array(context, action, call, ...) \
    seccomp_rule_add_array(context, action, number(call), __VA_ARGS__)
#define seccomp_rule_add_exact_array(context, action, call, ...) \
    seccomp_rule_add_exact_array(context, action, number(call), __VA_ARGS__)
#define seccomp_syscall_priority(context, call, priority) \
    seccomp_syscall_priority(context, number(call), priority)
"#;

/// The filters that the package's test programs make.
struct Filters {
    tests: PathBuf,
    folder: tempfile::TempDir,
    made: BTreeMap<(String, Abi), Program>,
}

impl Filters {
    fn new(source: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("exchange.h"), EXCHANGE).unwrap();
        Self { tests: source.join("tests"), folder, made: BTreeMap::new() }
    }

    /// The filter that a program makes on this machine. Where the library takes no bare number that neither machine
    /// has, it is this machine's with the other's architecture in it.
    fn of(&mut self, program: &str, machine: Abi) -> &Program {
        let key = (program.to_owned(), machine);
        if !self.made.contains_key(&key) {
            let made = self.make(program, machine).unwrap_or_else(|| {
                let mut native = self.make(program, Abi::X86_64).unwrap();
                let compares = |own: &&mut Instruction| own.k == Abi::X86_64.audit_arch();
                native.instructions.iter_mut().filter(compares).for_each(|own| own.k = machine.audit_arch());
                native
            });
            self.made.insert(key.clone(), made);
        }
        &self.made[&key]
    }

    fn make(&self, program: &str, machine: Abi) -> Option<Program> {
        let built = self.folder.path().join(format!("{program}-{machine}"));
        let mut cc = Command::new("cc");
        if machine != Abi::X86_64 {
            cc.arg("-include").arg(self.folder.path().join("exchange.h"));
        }
        cc.arg("-w").arg(self.tests.join(format!("{program}.c"))).arg(self.tests.join("util.c"));
        run(cc.args(["-lseccomp", "-o"]).arg(&built)).unwrap();
        let output = run(Command::new(built).arg("-b")).ok()?;
        let (instructions, rest) = output.stdout.as_chunks::<8>();
        assert!(rest.is_empty() && !instructions.is_empty(), "{program} gives no filter");
        let instruction = |&[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| Instruction {
            code: u16::from_ne_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        };
        Some(Program { instructions: instructions.iter().map(instruction).collect(), unknown: Vec::new() })
    }
}

/// Every row of the tables.
fn table(source: &Path) -> Vec<Row> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(source.join("tests")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "tests"));
    files.sort();
    let mut rows = Vec::new();
    for file in files {
        let mut is_table = false;
        for line in fs::read_to_string(&file).unwrap().lines() {
            if let Some(kind) = line.strip_prefix("test type:") {
                is_table = kind.trim() == "bpf-sim";
            } else if is_table && !line.starts_with('#') && !line.trim().is_empty() {
                let words: Vec<&str> = line.split_whitespace().collect();
                let [program, machines, syscall, args @ .., verdict] = words.as_slice() else {
                    panic!("{}: {line}", file.display())
                };
                rows.push(Row {
                    program: (*program).to_owned(),
                    machines: machines.split(',').map(str::to_owned).collect(),
                    syscall: (*syscall).to_owned(),
                    args: args.iter().map(|arg| (*arg).to_owned()).collect(),
                    verdict: read_verdict(verdict),
                });
            }
        }
    }
    rows
}

fn read_verdict(text: &str) -> Verdict {
    let (name, number) = match text.trim_end_matches(')').split_once('(') {
        Some((name, number)) => (name, number.parse().unwrap()),
        None => (text, 0),
    };
    match name {
        "ALLOW" => Verdict::Allow,
        "LOG" => Verdict::Log,
        "KILL" => Verdict::KillThread,
        "KILL_PROCESS" => Verdict::KillProcess,
        "TRAP" => Verdict::Trap,
        "ERRNO" => Verdict::Errno(number),
        "TRACE" => Verdict::Trace(number),
        "NOTIFY" => Verdict::Notify,
        other => panic!("{other}"),
    }
}

impl Row {
    /// The ABIs that the row is about, each with the machine on which its filter is made: the table is read as on
    /// either machine, and what is marked with + is in the filter on any.
    fn asked(&self) -> BTreeSet<(Abi, Abi)> {
        const LITTLE: [(Abi, &str); 5] = [
            (Abi::X86_64, "x86_64"),
            (Abi::Aarch64, "aarch64"),
            (Abi::I386, "x86"),
            (Abi::X32, "x32"),
            (Abi::Arm, "arm"),
        ];
        let mut asked = BTreeSet::new();
        for word in &self.machines {
            for (abi, name) in LITTLE {
                let native = matches!(abi, Abi::X86_64 | Abi::Aarch64);
                match word.as_str() {
                    "all" | "all_le" | "all_64" if native => _ = asked.insert((abi, abi)),
                    "+all_le" => _ = asked.insert((abi, Abi::X86_64)),
                    "+all_64" if native => _ = asked.insert((abi, Abi::X86_64)),
                    word if word.strip_prefix('+') == Some(name) => _ = asked.insert((abi, Abi::X86_64)),
                    word if word == name && native => _ = asked.insert((abi, abi)),
                    _ => {}
                }
            }
        }
        asked.retain(|(abi, _)| {
            let name = LITTLE.iter().find(|(own, _)| own == abi).unwrap().1;
            !self.machines.iter().any(|word| word.strip_prefix('-') == Some(name))
        });
        asked
    }
}

/// The numbers as seccomp sees them; none if the architecture does not have the call, or 32-bit x86 may mean
/// `socketcall` by its name.
fn numbers(abi: Abi, syscall: &str) -> Option<std::ops::RangeInclusive<u32>> {
    if let Ok(number) = syscall.parse::<i64>() {
        let number = number as u32;
        return Some(number..=number);
    }
    if let Some((first, last)) = syscall.split_once('-')
        && let (Ok(first), Ok(last)) = (first.parse(), last.parse())
    {
        return Some(first..=last);
    }
    let number = abi.number(syscall).filter(|_| abi != Abi::I386)?;
    let number = abi.seccomp_number(number);
    Some(number..=number)
}

/// All combinations of arguments: each is a number, a range, or `N`.
fn product(args: &[String]) -> Vec<[u64; 6]> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None => text.parse::<u64>().or_else(|_| text.parse::<i64>().map(|number| number as u64)).unwrap(),
    };
    let mut all = vec![[0; 6]];
    for (index, text) in args.iter().enumerate().filter(|(_, text)| *text != "N") {
        let (first, last) = match text.split_once('-').filter(|(first, _)| !first.is_empty()) {
            Some((first, last)) => (number(first), number(last)),
            None => (number(text), number(text)),
        };
        let with = |args: [u64; 6]| {
            (first..=last).map(move |value| {
                let mut args = args;
                args[index] = value;
                args
            })
        };
        all = all.into_iter().flat_map(with).collect();
    }
    all
}
