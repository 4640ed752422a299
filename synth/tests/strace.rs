//! strace as oracle: it calls every value of every argument in the tables by the same name.
//!
//! A child under a filter that refuses everything makes one call for each name, so that nothing is carried out, and
//! strace writes numbers and names side by side (`-X verbose`).

#![cfg(target_arch = "x86_64")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests; the oracle is a program"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use seccomp_learn_synth::{
    arguments::{self, Argument, ArgumentKind},
    decode::{self, Context, Detail},
};
use trace::Abi;

/// What strace calls by a name that the kernel's headers have beside the one in the tables.
const ALIASES: &[(&str, &str)] = &[
    ("FASYNC", "O_ASYNC"),
    ("IP_RETOPTS", "IP_RECVRETOPTS"),
    ("IP_ORIGDSTADDR", "IP_RECVORIGDSTADDR"),
    ("PTRACE_PEEKUSER", "PTRACE_PEEKUSR"),
    ("PTRACE_POKEUSER", "PTRACE_POKEUSR"),
    ("SIOCGSTAMP_OLD", "SIOCGSTAMP"),
    ("SIOCGSTAMPNS_OLD", "SIOCGSTAMPNS"),
    ("DMA_BUF_SET_NAME_B", "DMA_BUF_SET_NAME"),
    ("PPPIOCGIDLE64", "PPPIOCGIDLE"),
    ("SNDRV_TIMER_IOCTL_TREAD_OLD", "SNDRV_TIMER_IOCTL_TREAD"),
    ("SO_RCVTIMEO_OLD", "SO_RCVTIMEO"),
    ("SO_SNDTIMEO_OLD", "SO_SNDTIMEO"),
    ("SO_TIMESTAMPING_OLD", "SO_TIMESTAMPING"),
    ("SO_TIMESTAMPNS_OLD", "SO_TIMESTAMPNS"),
    ("SO_TIMESTAMP_OLD", "SO_TIMESTAMP"),
    ("WSTOPPED", "WUNTRACED"),
];

/// How long strace may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// A call that the child makes.
#[derive(Clone)]
struct Case {
    name: String,
    number: i64,
    args: [u64; 6],
    index: u32,
}

#[test]
fn strace_calls_every_value_by_the_same_name() {
    let cases = cases();
    let Some(lines) = traced(&cases) else {
        eprintln!("skipped: strace is not installed, or may not trace");
        return;
    };
    assert_eq!(lines.len(), cases.len(), "{:?}", lines.last());
    let mut compared = BTreeMap::new();
    let mut wrong = Vec::new();
    for (case, line) in cases.iter().zip(&lines) {
        let Some(theirs) = symbols(line, case) else { continue };
        *compared.entry(case.name.clone()).or_insert(0_usize) += 1;
        if !same(case, &theirs) {
            wrong.push(format!("{} {:x?} at {}: {theirs} there", case.name, case.args, case.index));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let all: usize = compared.values().sum();
    eprintln!("{all} names of {} calls are strace's too", compared.len());
    assert!(compared.len() >= 60 && all >= 1000, "{compared:?}");
}

/// Programs that most machines have, for what they call.
const PROGRAMS: [&[&str]; 9] = [
    &["true"],
    &["ls", "-l", "/"],
    &["sh", "-c", "ls / | sort | head -n 1; sleep 0.01 & wait"],
    &["getent", "hosts", "localhost"],
    &["id"],
    &["df", "/"],
    &["date"],
    &["timeout", "5", "dd", "if=/dev/zero", "of=/dev/null", "count=1"],
    &[
        "python3",
        "-c",
        "import socket, subprocess, threading; socket.socket().close(); subprocess.run(['true']); threading.Thread(target=print).start()",
    ],
];

/// What strace writes beside the arguments of the system call, or leaves out of them.
const OTHER_SHAPE: [&str; 9] =
    ["arch_prctl", "clone", "clone3", "execve", "ioctl", "prctl", "readlink", "rt_sigreturn", "wait4"];

#[test]
fn real_programs_calls_are_written_as_strace_writes_them() {
    let output = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("programs-{}", std::process::id()));
    let (mut names, mut compared, mut counted) = (BTreeSet::new(), 0_usize, 0_usize);
    let mut wrong = BTreeSet::new();
    for program in PROGRAMS {
        let ran = Command::new("strace")
            .args(["-f", "-qq", "-X", "verbose", "-s", "0", "-a", "0", "-o"])
            .arg(&output)
            .args(program)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if ran.is_err() {
            eprintln!("skipped: strace is not installed");
            return;
        }
        for line in fs::read_to_string(&output).unwrap_or_default().lines() {
            let line = line.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == ' ');
            let Some((name, inside)) = line.split_once('(') else { continue };
            let Some((inside, _)) = inside.rsplit_once(") = ") else { continue };
            if Abi::X86_64.number(name).is_none() || line.contains("unfinished") || line.contains("resumed") {
                continue;
            }
            let shown = parts(inside);
            let mut args = [0; 6];
            for (arg, part) in args.iter_mut().zip(&shown) {
                *arg = number_of(part).unwrap_or(1);
            }
            let ours = decode::call(
                Abi::X86_64,
                name,
                &args,
                &Context { detail: Detail::Full, ..Context::default() },
            );
            let count = parts(ours.split_once('(').unwrap().1.strip_suffix(')').unwrap())
                .iter()
                .filter(|part| !part.is_empty())
                .count();
            if !OTHER_SHAPE.contains(&name) && !line.contains("_BITSET") {
                counted += 1;
                if count != shown.iter().filter(|part| !part.is_empty()).count() {
                    wrong.insert(format!("{ours} here, {line} there"));
                }
            }
            for index in 0..6 {
                let case = Case { name: name.to_owned(), number: 0, args, index };
                let Some(theirs) = symbols(line, &case) else { continue };
                let known =
                    arguments::argument(name, index).is_some_and(|own| own.set(Abi::X86_64, &args).is_some());
                if !known {
                    continue;
                }
                names.insert(name.to_owned());
                compared += 1;
                if !same(&case, &theirs) {
                    wrong.insert(format!("{ours} here, {line} there"));
                }
            }
        }
    }
    let _ = fs::remove_file(&output);
    assert!(wrong.is_empty(), "{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
    eprintln!(
        "{counted} calls of real programs have strace's arguments; {compared} values of {} calls its names",
        names.len()
    );
    assert!(compared >= 100 && names.len() >= 8, "{names:?}");
}

/// Whether we call an argument as strace does.
fn same(case: &Case, theirs: &str) -> bool {
    let aliases: BTreeMap<&str, &str> = ALIASES.iter().copied().collect();
    let context = Context { detail: Detail::Full, ..Context::default() };
    let ours = decode::call(Abi::X86_64, &case.name, &case.args, &context);
    let ours = parts(ours.split_once('(').unwrap().1.strip_suffix(')').unwrap());
    let Some(ours) = ours.get(usize::try_from(case.index).unwrap()) else { return false };
    let alias = |name| aliases.get(name).copied().unwrap_or(name);
    if case.name == "ioctl" {
        return theirs.split(" or ").any(|name| ours.split(" or ").any(|own| own == alias(name)));
    }
    // A mapping without a type is no name of ours, and the pipe's flag has the value of another.
    let name = |name| match name {
        "O_EXCL" if case.name == "pipe2" => "O_NOTIFICATION_PIPE",
        name => alias(name),
    };
    let theirs: BTreeSet<&str> = theirs.split('|').filter(|name| *name != "MAP_FILE").map(name).collect();
    theirs == ours.split('|').map(name).collect()
}

/// One call for each name of each argument that seccomp can see, and one for each request.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |argument: &Argument, value: u64, others: &[(u32, u64)]| {
        for name in &argument.syscalls {
            let Some(number) = Abi::X86_64.number(name) else { continue };
            let mut args = [0; 6];
            for (index, value) in others.iter().copied().chain([(argument.index, value)]) {
                args[usize::try_from(index).unwrap()] = value;
            }
            cases.push(Case { name: name.clone(), number: number.into(), args, index: argument.index });
        }
    };
    for argument in arguments::arguments().iter().filter(|argument| argument.offset.is_none()) {
        if argument.kind == ArgumentKind::Request {
            decode::requests().for_each(|(_, value)| add(argument, value.into(), &[]));
            continue;
        }
        if let Some(set) = argument.set(Abi::X86_64, &[0; 6]) {
            set.names().for_each(|name| add(argument, name.value, &[]));
            add(argument, set.bit_mask() & argument.mask, &[]);
        }
        // Where the meaning goes by another argument: every value of that one that gives it another.
        let by = arguments::arguments().iter().filter(|by| {
            by.syscalls == argument.syscalls && by.offset.is_none() && by.index < argument.index
        });
        for by in by {
            for other in by.sets(Abi::X86_64).flat_map(arguments::Set::names) {
                let mut args = [0; 6];
                args[usize::try_from(by.index).unwrap()] = other.value;
                let set = argument.set(Abi::X86_64, &args);
                if argument.set(Abi::X86_64, &[u64::MAX; 6]).is_none() {
                    let names = set.into_iter().flat_map(arguments::Set::names);
                    names.for_each(|name| add(argument, name.value, &[(by.index, other.value)]));
                }
            }
        }
    }
    cases
}

/// What strace calls the argument: the text in `/* … */` after its number; none where strace has no name, or only
/// for a part of it.
fn symbols(line: &str, case: &Case) -> Option<String> {
    let inside = line.split_once('(')?.1;
    let inside = inside.rsplit_once(") = ").map_or(inside, |(inside, _)| inside);
    let index = usize::try_from(case.index).ok()?;
    let value = case.args[index];
    let parts = parts(inside);
    let is_it = |part: &&String| {
        number_of(part).is_some_and(|number| number == value || number & 0xffff_ffff == value)
    };
    let part = parts.get(index).filter(is_it).or_else(|| parts.iter().find(is_it))?;
    // Fields that strace writes each for itself: `0 /* … */|0x800 /* … */`.
    if part.matches("/*").count() > 1 {
        return None;
    }
    let symbols = part.split_once("/* ")?.1.split_once(" */")?.0;
    let vague = symbols.contains("??")
        || symbols.starts_with("_IOC(")
        || symbols.split('|').any(|name| name.starts_with(|c: char| c.is_ascii_digit()));
    (!vague).then(|| symbols.to_owned())
}

/// The number before the comment, of `flags=0x10 /* … */` too.
fn number_of(part: &str) -> Option<u64> {
    let part = part.split_once(" /*").map_or(part, |(number, _)| number);
    let number = part.rsplit_once('=').map_or(part, |(_, number)| number).trim();
    match number.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None if number.starts_with('0') && number.len() > 1 => u64::from_str_radix(number, 8).ok(),
        None => number.parse::<i64>().ok().map(i64::cast_unsigned),
    }
}

/// Arguments at the top level: strace puts commas into structs and comments too.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0_i32;
    let mut comment = false;
    let mut previous = ' ';
    for letter in text.chars() {
        match letter {
            '*' if previous == '/' => comment = true,
            '/' if previous == '*' => comment = false,
            '{' | '[' | '(' if !comment => depth += 1,
            '}' | ']' | ')' if !comment => depth -= 1,
            _ => {}
        }
        if letter == ',' && depth == 0 && !comment {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(letter);
        }
        previous = letter;
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

/// The child, killed and waited for whatever happens.
struct Traced {
    child: libc::pid_t,
    go: &'static AtomicU32,
}

impl Drop for Traced {
    fn drop(&mut self) {
        // SAFETY: our own child, that nobody else waits for.
        unsafe {
            libc::kill(self.child, libc::SIGKILL);
            libc::waitpid(self.child, std::ptr::null_mut(), 0);
        }
    }
}

/// strace's line for each case, in order.
fn traced(cases: &[Case]) -> Option<Vec<String>> {
    Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
    let output = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("strace-{}", std::process::id()));
    let traced = fork(cases);
    let mut strace = Command::new("strace")
        .args(["-qq", "-X", "verbose", "-s", "0", "-a", "0", "-o"])
        .arg(&output)
        .args(["-p", &traced.child.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let lines = collect(&traced, &mut strace, &output, cases.len());
    drop(traced);
    let _ = strace.kill();
    let _ = strace.wait();
    let _ = fs::remove_file(&output);
    lines
}

/// Lets the child go once strace shows its waiting, and reads until all calls are there.
fn collect(traced: &Traced, strace: &mut Child, output: &PathBuf, count: usize) -> Option<Vec<String>> {
    let end = Instant::now() + PATIENCE;
    let mut lines = Vec::new();
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(50));
        let text = fs::read_to_string(output).unwrap_or_default();
        if text.contains("getpgrp(") {
            let _ = traced.go.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire);
        } else if strace.try_wait().ok()?.is_some() {
            return None;
        }
        if traced.go.load(Ordering::Acquire) == 2 {
            // strace has written all but, perhaps, the line that it is at.
            lines = text.lines().filter(|line| !line.starts_with("getpgrp(")).map(str::to_owned).collect();
            if lines.len() >= count {
                break;
            }
        }
    }
    Some(lines)
}

/// A child under a filter that refuses every call. It asks for its process group until it may go, then makes the
/// calls, then waits to be killed.
fn fork(cases: &[Case]) -> Traced {
    let calls: Vec<(i64, [u64; 6])> = cases.iter().map(|case| (case.number, case.args)).collect();
    // SAFETY: a new anonymous mapping that overlaps nothing, zeroed and page-aligned; it lives as long as the test.
    let go: &'static AtomicU32 = unsafe {
        let memory = libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(memory, libc::MAP_FAILED);
        &*memory.cast()
    };
    // `BPF_RET | BPF_K`, `SECCOMP_RET_ERRNO` with ENOSYS.
    let mut refuse = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x0005_0000 | 38 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut refuse };
    // SAFETY: the child makes system calls and touches memory that exists already, nothing else.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // SAFETY: plain system calls on values that live until the child is killed. The filter refuses all later
        // ones, so that none of them has an effect.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            if libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0 {
                libc::_exit(1);
            }
            while go.load(Ordering::Acquire) == 0 {
                libc::syscall(libc::SYS_getpgrp);
                for _ in 0..1_000_000 {
                    std::hint::spin_loop();
                }
            }
            for (number, args) in &calls {
                libc::syscall(*number, args[0], args[1], args[2], args[3], args[4], args[5]);
            }
        }
        go.store(2, Ordering::Release);
        loop {
            std::hint::spin_loop();
        }
    }
    Traced { child, go }
}
