//! Each lint with a profile that has it and one that has not; and what is found in the profiles of the repository.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "common/laws.rs"]
mod kept;
#[path = "common/profiles.rs"]
mod profiles;
#[path = "common/tangled.rs"]
mod tangled;

use std::{collections::BTreeSet, fmt::Write};

use kept::laws;
use proptest::prelude::*;
use seccomp_learn_synth::{
    Action, Architecture, CompileOptions, Entry, Evidence, EvidenceRule, Flag, Lint, Profile, Severity, ask,
    compile, difference, lint, parse_conditions,
};
use trace::Abi;

/// A profile from lines: `default ERRNO`, `arch X86`, `flags SPEC_ALLOW`, `ALLOW names`, `ALLOW(arg0 == 1) names`,
/// `ERRNO=38 names`.
fn profile(text: &str) -> Profile {
    let mut profile = Profile {
        default_action: Action::Errno,
        default_errno_ret: None,
        architectures: vec![Architecture::from(Abi::X86_64)],
        flags: Some(Vec::new()),
        listener_path: None,
        listener_metadata: None,
        syscalls: Vec::new(),
    };
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (head, args) = match line.split_once('(') {
            Some((head, rest)) => (head, rest.split_once(')').unwrap()),
            None => line.split_once(' ').map(|(head, names)| (head, ("", names))).unwrap(),
        };
        let (conditions, words) = args;
        let mut words = words.split_whitespace().map(str::to_owned);
        match head {
            "default" => {
                profile.default_action =
                    Action::from_name(&format!("SCMP_ACT_{}", words.next().unwrap())).unwrap();
            }
            "arch" => profile
                .architectures
                .extend(words.map(|name| Architecture::from_name(&format!("SCMP_ARCH_{name}")).unwrap())),
            "flags" => {
                profile.flags = Some(
                    words
                        .map(|name| Flag::from_name(&format!("SECCOMP_FILTER_FLAG_{name}")).unwrap())
                        .collect(),
                );
            }
            _ => {
                let (action, errno) = match head.split_once('=') {
                    Some((action, errno)) => (action, Some(errno.parse().unwrap())),
                    None => (head, None),
                };
                profile.syscalls.push(Entry {
                    names: words.collect(),
                    action: Action::from_name(&format!("SCMP_ACT_{action}")).unwrap(),
                    errno_ret: errno,
                    args: if conditions.is_empty() {
                        Vec::new()
                    } else {
                        parse_conditions(conditions).unwrap()
                    },
                });
            }
        }
    }
    profile
}

/// A profile of the table; words in capitals stand for many names.
fn of(text: &str) -> Profile {
    let probed: Vec<String> = Abi::X86_64
        .numbers()
        .filter(|number| (424..512).contains(number))
        .map(|number| Abi::X86_64.name(number).to_string())
        .collect();
    let runtimes: Vec<&str> =
        seccomp_learn_synth::shipped_runtimes().iter().flat_map(|table| table.names()).collect();
    let text = text.replace("PROBED", &probed.join(" ")).replace("RUNTIMES", &runtimes.join(" "));
    let tangled: Vec<String> =
        tangled::tangled(60).into_iter().map(|own| format!("ALLOW({own}) mount")).collect();
    profile(&text.replace("TANGLED", &tangled.join("\n")))
}

fn lints(profile: &Profile) -> Vec<Lint> {
    lint(profile, Abi::X86_64, None).unwrap()
}

fn ids(profile: &Profile) -> BTreeSet<&'static str> {
    lints(profile).iter().map(|lint| lint.id).collect()
}

/// The id, a profile that has it, and one that differs in what it is about alone.
const TABLE: [(&str, &str, &str); 63] = [
    ("default-allows", "default ALLOW\nERRNO=1 ptrace", "ALLOW read"),
    ("default-allows", "default LOG", "ALLOW read"),
    ("kills-thread", "KILL_THREAD ptrace", "KILL_PROCESS ptrace"),
    ("kills-process", "KILL_PROCESS ptrace", "ERRNO=1 ptrace"),
    ("kills-process", "TRAP ptrace", "KILL_THREAD ptrace"),
    ("pretends-success", "ERRNO=0 setuid", "ERRNO=1 setuid"),
    ("supervised", "NOTIFY mount", "ERRNO=2 mount"),
    ("supervised", "TRACE mount", "ERRNO=2 mount"),
    ("refused-without-enosys", "ALLOW read", "ALLOW read\nERRNO=38 PROBED"),
    ("enosys-vanishes", "ALLOW read\nERRNO=38 PROBED", "ALLOW read"),
    ("spec-allow", "flags SPEC_ALLOW", "flags LOG"),
    ("tsync", "flags TSYNC", "flags LOG"),
    ("user-namespaces", "ALLOW clone", "ALLOW(arg0 & 0x7e020000 == 0) clone"),
    ("user-namespaces", "ALLOW clone3", "ERRNO=38 clone3"),
    ("user-namespaces", "ALLOW unshare", "ALLOW(arg0 & 0x10000000 == 0) unshare"),
    ("namespaces", "ALLOW setns", "ALLOW read"),
    ("namespaces", "ALLOW(arg0 & 0x10000000 == 0) unshare", "ALLOW(arg0 == 0x400) unshare"),
    ("mounts", "ALLOW move_mount", "ALLOW read"),
    ("mounts", "ALLOW open_tree", "ALLOW(arg2 == 0) open_tree"),
    ("file-handles", "ALLOW open_by_handle_at", "ALLOW name_to_handle_at"),
    ("kernel-code", "ALLOW finit_module", "ALLOW read"),
    ("bpf", "ALLOW bpf", "ALLOW read"),
    ("perf-events", "ALLOW perf_event_open", "ALLOW read"),
    ("userfaultfd", "ALLOW userfaultfd", "ALLOW read"),
    ("keyrings", "ALLOW request_key", "ALLOW read"),
    ("ptrace", "ALLOW ptrace", "ALLOW process_vm_readv"),
    ("other-processes", "ALLOW pidfd_getfd", "ALLOW ptrace pidfd_open"),
    ("wx-memory", "ALLOW mprotect", "ALLOW(arg2 & 4 == 0) mprotect"),
    ("wx-memory", "ALLOW mmap", "ALLOW(arg2 & 2 == 0) mmap\nALLOW(arg2 & 4 == 0) mmap"),
    ("wx-memory", "ALLOW shmat", "ALLOW(arg2 & 0x8000 == 0) shmat"),
    ("late-exec", "ALLOW(arg2 & 2 == 0) mprotect", "ALLOW(arg2 & 4 == 0) mprotect"),
    ("personality", "ALLOW personality", "ALLOW(arg0 & 0xffffffff == 0xffffffff) personality"),
    ("terminal-injection", "ALLOW ioctl", "ALLOW(arg1 & 0xffffffff == 0x5401) ioctl"),
    // The kernel reads the lower half alone.
    ("terminal-injection", "ALLOW(arg1 != 0x5412) ioctl", "ALLOW(arg1 == 0x5413) ioctl"),
    ("line-disciplines", "ALLOW ioctl", "ALLOW(arg1 & 0xffffffff == 0x5401) ioctl"),
    ("everything-by-request", "ALLOW ioctl", "ALLOW(arg1 & 0xffffffff == 0x5401) ioctl"),
    ("any-option", "ALLOW prctl", "ALLOW(arg0 & 0xffffffff == 15) prctl"),
    ("device-nodes", "ALLOW mknodat", "ALLOW(arg2 & 0xf000 == 0x1000) mknodat"),
    ("set-user-id", "ALLOW fchmod", "ALLOW(arg1 & 0xe00 == 0) fchmod"),
    ("socket-families", "ALLOW(arg0 > 2) socket", "ALLOW(arg0 == 2) socket"),
    ("raw-sockets", "ALLOW(arg0 == 2) socket", "ALLOW(arg0 == 2, arg1 & 0xf == 1) socket"),
    ("netfilter-options", "ALLOW(arg1 == 0) setsockopt", "ALLOW(arg1 == 1) setsockopt"),
    ("futex-pi", "ALLOW futex", "ALLOW(arg1 & 0xfffffe7e == 0) futex"),
    ("nested-listener", "ALLOW seccomp", "ALLOW(arg0 == 2) seccomp"),
    ("host-settings", "ALLOW clock_settime", "ALLOW clock_gettime"),
    ("old-x86", "ALLOW modify_ldt", "ALLOW arch_prctl"),
    ("change-root", "ALLOW chroot", "ALLOW chdir"),
    ("memory-placement", "ALLOW move_pages", "ALLOW get_mempolicy"),
    ("asynchronous-io", "ALLOW io_submit", "ALLOW io_setup"),
    ("unnamed-programs", "ALLOW memfd_create execve", "ALLOW(arg1 & 8 == 8) memfd_create\nALLOW execve"),
    ("everyday", "ALLOW execve", "ALLOW getpid"),
    ("io-uring", "ALLOW io_uring_setup", "ERRNO=38 io_uring_setup"),
    ("foreign-abi", "arch X86\nALLOW read", "ALLOW read"),
    ("x32-abi", "arch X32\nALLOW read", "arch X86\nALLOW read"),
    ("unseen-arguments", "arch X86\nALLOW(arg0 == 1) socket\nALLOW socketcall", "arch X86\nALLOW socket"),
    ("upper-half-bypass", "ALLOW(arg0 != 38) socket", "ALLOW(arg0 & 0xffffffff == 2) socket"),
    ("upper-half-refused", "ALLOW(arg0 == 2) socket", "ALLOW(arg0 & 0xffffffff == 2) socket"),
    ("runtime-cannot-start", "ALLOW execve", "ALLOW RUNTIMES"),
    (
        "always-needed",
        "ALLOW read",
        "ALLOW exit exit_group rt_sigreturn restart_syscall rt_sigprocmask rt_sigaction",
    ),
    ("unknown-to-libseccomp", "ALLOW mseal", "ALLOW mlock"),
    ("undecided", "TANGLED", "ALLOW read"),
    ("way-around", "ALLOW openat2\nALLOW(arg2 & 3 == 0) openat", "ALLOW openat2 openat"),
    ("way-around", "default ALLOW\nERRNO=1 execve", "default ALLOW\nERRNO=1 execve execveat"),
];

/// Of a call with too many ways to follow nothing is claimed that is not so, and of the others all is said.
#[test]
fn what_cannot_be_told_is_said_to_be_so_and_nothing_else_of_it() {
    let plain = "ALLOW read\nALLOW(arg0 == 1) socket\nALLOW ptrace";
    let tangled = tangled::tangled(60).into_iter().map(|own| format!("ERRNO=2({own}) mount"));
    let found = lints(&of(&format!("{plain}\n{}", tangled.collect::<Vec<_>>().join("\n"))));
    let about_mount: Vec<&str> =
        found.iter().filter(|own| own.calls.iter().any(|call| call == "mount")).map(|own| own.id).collect();
    // What may pass counts as if it did; what entries say can be read.
    assert_eq!(about_mount, ["mounts", "undecided", "pointer-condition"], "{found:?}");
    let mounts = found.iter().find(|own| own.id == "mounts").unwrap();
    assert!(mounts.detail.contains("`mount` (which could not be decided)"), "{}", mounts.detail);
    let others: Vec<Lint> = lints(&of(plain));
    let rest: Vec<&Lint> = found.iter().filter(|own| !about_mount.contains(&own.id)).collect();
    assert_eq!(rest, others.iter().collect::<Vec<_>>());
}

#[test]
fn what_the_kernel_would_not_take_is_an_error() {
    let entry = |value: u32| format!("ALLOW(arg1 == {value:#x}0000{value:04x}) ioctl");
    let long: Vec<String> = (0..1_200).map(entry).collect();
    let long = profile(&format!("arch X32\n{}", long.join("\n")));
    let error = lint(&long, Abi::X86_64, None).unwrap_err().to_string();
    assert!(error.contains("the kernel would not take"), "{error}");
}

/// The same of entries.
const ENTRIES: [(&str, &str, &str); 12] = [
    (
        "void-refusal",
        "ALLOW socket\nERRNO=97(arg0 == 38) socket",
        "ALLOW(arg0 == 1) socket\nERRNO=97(arg0 == 38) socket",
    ),
    (
        "repeated-argument",
        "ALLOW(arg0 >= 5, arg0 <= 7) socket",
        "ALLOW(arg0 == 5) socket\nALLOW(arg0 == 7) socket",
    ),
    ("value-outside-mask", "ALLOW(arg0 & 0xf == 0x12) socket", "ALLOW(arg0 & 0xf == 0x2) socket"),
    ("never-true", "ALLOW(arg0 < 0) socket", "ALLOW(arg0 < 1) socket"),
    ("overruled", "ERRNO=13(arg0 == 1) socket\nERRNO=97 socket", "ERRNO=97 socket"),
    (
        "void-condition",
        "ALLOW socket\nALLOW(arg0 == 1) socket",
        "ALLOW(arg0 == 2) socket\nALLOW(arg0 == 1) socket",
    ),
    ("redundant-entry", "ALLOW read write\nALLOW read", "ALLOW read write"),
    (
        "redundant-entry",
        "ALLOW(arg0 & 0xffffffff == 1) socket\nALLOW(arg0 == 1) socket",
        "ALLOW(arg0 & 0xffffffff == 1) socket\nALLOW(arg0 == 2) socket",
    ),
    ("pointer-condition", "ALLOW(arg1 == 0x1000) write", "ALLOW(arg1 == 0) write"),
    (
        "not-for-spo",
        "ALLOW(arg1 == 0x8000000000000000) ioctl",
        "ALLOW(arg1 & 0xffffffff == 0x80000000) ioctl",
    ),
    ("redundant-entry", "ALLOW mprotect\nALLOW mprotect", "ALLOW mprotect\nALLOW pkey_mprotect"),
    ("never-true", "ALLOW(arg0 > 0xffffffffffffffff) socket", "ALLOW(arg0 >= 0xffffffffffffffff) socket"),
];

#[test]
fn each_is_found_where_it_is_and_not_where_it_is_not() {
    let mut wrong = Vec::new();
    for (id, with, without) in TABLE.iter().chain(&ENTRIES) {
        if !ids(&of(with)).contains(id) {
            wrong.push(format!("{id}: not found in {with:?}"));
        }
        if ids(&of(without)).contains(id) {
            wrong.push(format!("{id}: found in {without:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The ids in the sources, so that none is without a test.
#[test]
#[expect(clippy::disallowed_methods, reason = "the sources are files of the repository")]
fn every_lint_has_a_test() {
    let mut all = BTreeSet::new();
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lint")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let words: Vec<&str> = text.split('"').collect();
        for window in words.windows(3) {
            let before = window[0].trim_end();
            let is_id = window[2].trim_start().trim_start_matches(',').trim_start().starts_with("Severity::")
                || window[2].starts_with(", severity)")
                || before.ends_with("id:")
                || before.ends_with("add(");
            if is_id
                && !window[1].is_empty()
                && window[1].chars().all(|c| c.is_ascii_lowercase() || c == '-' || c.is_ascii_digit())
            {
                all.insert(window[1].to_owned());
            }
        }
    }
    let tested: BTreeSet<String> = TABLE
        .iter()
        .chain(&ENTRIES)
        .map(|(id, ..)| (*id).to_owned())
        .chain(BY_EVIDENCE.map(str::to_owned))
        .collect();
    assert!(all.len() > 40, "{all:?}");
    // Two of an id are told apart by their ABI.
    assert_eq!(all.difference(&tested).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// Those that only evidence shows.
const BY_EVIDENCE: [&str; 1] = ["power-without-evidence"];

#[expect(clippy::disallowed_methods, reason = "the workloads are files of the repository")]
fn workload(name: &str) -> (Profile, Evidence) {
    let folder = format!(concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles/workloads/{}"), name);
    let read = |file: &str| std::fs::read(format!("{folder}/{file}")).unwrap();
    let profile = Profile::read(&read("profile.json")).unwrap();
    (profile, Evidence::read(&read("profile.evidence.json")).unwrap())
}

#[test]
fn evidence_says_more() {
    let (mut profile, mut evidence) = workload("webrtc-media");
    let find = |profile: &Profile, evidence: &Evidence, id: &str| {
        lint(profile, Abi::X86_64, Some(evidence)).unwrap().into_iter().find(|own| own.id == id)
    };
    // Who needs what was found, of the very arguments.
    let wx = find(&profile, &evidence, "wx-memory").unwrap();
    assert_eq!(wx.calls, ["mmap"]);
    assert!(wx.detail.contains("the first by python3"), "{}", wx.detail);

    // A reviewer's no to one call, where another one does the same.
    assert_eq!(find(&profile, &evidence, "way-around"), None);
    let text = r#"{"verdict": "deny", "syscall": "creat", "when": "always", "reason": "r", "owner": "o"}"#;
    evidence.options.decisions.push(serde_json::from_str(text).unwrap());
    assert_eq!(find(&profile, &evidence, "way-around").unwrap().severity, Severity::Danger);

    // Power that nobody was seen to use, and the same where someone was.
    assert_eq!(find(&profile, &evidence, "power-without-evidence"), None);
    profile.syscalls.push(Entry { names: vec!["add_key".to_owned()], ..profile.syscalls[0].clone() });
    let rule = evidence.rules.iter().find(|rule| rule.syscall == "openat2").unwrap().clone();
    let mut reasons = rule.reasons.clone();
    reasons.retain(|reason| !reason.is_runtime());
    evidence.rules.push(EvidenceRule { syscall: "add_key".to_owned(), reasons, ..rule });
    assert_eq!(find(&profile, &evidence, "power-without-evidence").unwrap().calls, ["add_key"]);
    evidence.rules.last_mut().unwrap().observed = true;
    assert_eq!(find(&profile, &evidence, "power-without-evidence"), None);

    // A foreign ABI that the workload uses is no more than a note.
    profile.architectures.push(Architecture::from(Abi::I386));
    assert_eq!(find(&profile, &evidence, "foreign-abi").unwrap().severity, Severity::Review);
    evidence.rules[0].observed_in.insert(Abi::I386);
    assert_eq!(find(&profile, &evidence, "foreign-abi").unwrap().severity, Severity::Note);
}

/// A socket ban next to a ring is the worst of it.
#[test]
fn the_worst_comes_first() {
    let found = lints(&of("ALLOW io_uring_setup io_uring_enter\nALLOW(arg0 == 1) socket"));
    assert_eq!((found[0].id, found[0].severity), ("io-uring", Severity::Danger));
    assert!(found[0].title.contains("sockets"), "{:?}", found[0]);
    assert!(found.is_sorted_by(|a, b| a.severity >= b.severity));
    // With nothing to get past it is still to be looked at.
    let found = lints(&of("default ALLOW"));
    assert_eq!(found.iter().find(|own| own.id == "io-uring").unwrap().severity, Severity::Review);
}

/// What is found in the profiles of the repository, so that a change shows.
#[test]
fn what_is_found_in_the_repository() {
    let mut text = String::new();
    for (name, profile) in profiles::repository() {
        if name.ends_with(".snap") {
            continue;
        }
        let evidence =
            name.strip_prefix("profiles/workloads/").map(|own| workload(own.split('/').next().unwrap()).1);
        let found = lint(&profile, Abi::X86_64, evidence.as_ref()).unwrap();
        let _ = writeln!(text, "# {name}");
        for own in &found {
            assert!(!own.title.is_empty() && !own.detail.is_empty() && !own.what_to_do.is_empty());
            let _ = writeln!(text, "{} {}: {}", own.severity, own.id, own.calls.join(" "));
        }
        assert_eq!(lint(&profile, Abi::X86_64, evidence.as_ref()).unwrap(), found);
    }
    insta::assert_snapshot!(text);
}

/// The upper half gets past containerd's ban of AF_VSOCK, by the real filter's own answer.
#[test]
fn a_bypass_is_what_the_filter_answers() {
    let profile = of("ALLOW(arg0 != 40) socket");
    let program = compile(&profile, Abi::X86_64, CompileOptions::default()).unwrap();
    let socket = |domain| ask(&program, Abi::X86_64, 41, [domain, 1, 0, 0, 0, 0]).unwrap().verdict.executes();
    assert!(!socket(40) && socket(40 | 1 << 32));
    let found = lints(&profile).into_iter().find(|own| own.id == "upper-half-bypass").unwrap();
    assert!(found.detail.contains("AF_VSOCK /* upper half 0x1 */"), "{}", found.detail);
}

fn conditions() -> impl Strategy<Value = String> {
    let value =
        prop_oneof![0u64..6, Just(0x7e02_0000), Just(u64::from(u32::MAX)), Just(u64::MAX), any::<u64>()];
    let operator = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let plain = (0u32..3, operator, value.clone())
        .prop_map(|(index, op, value)| format!("arg{index} {op} {value:#x}"));
    let masked = (0u32..3, value.clone(), value)
        .prop_map(|(index, mask, value)| format!("arg{index} & {mask:#x} == {value:#x}"));
    prop::collection::vec(prop_oneof![plain, masked], 0..3).prop_map(|all| all.join(", "))
}

fn any_profile() -> impl Strategy<Value = Profile> {
    let names = prop::sample::select(vec!["clone", "socket", "mprotect", "ioctl"]);
    let entries = prop::collection::vec((names, any::<bool>(), conditions()), 0..6);
    (entries, any::<bool>()).prop_map(|(entries, allows)| {
        let mut profile = profile(if allows { "default ALLOW" } else { "" });
        for (name, allow, conditions) in entries {
            profile.syscalls.push(Entry {
                names: vec![name.to_owned()],
                action: if allow { Action::Allow } else { Action::Errno },
                errno_ret: (!allow).then_some(97),
                args: if conditions.is_empty() { Vec::new() } else { parse_conditions(&conditions).unwrap() },
            });
        }
        profile
    })
}

fn compiles(profile: &Profile) -> bool {
    compile(profile, Abi::X86_64, CompileOptions::default()).is_ok()
}

/// A profile that refuses mprotect with PROT_WRITE and PROT_EXEC, and nothing else.
fn refusing_wx() -> Profile {
    profile("default ALLOW\nERRNO=1(arg2 & 6 == 6) mprotect")
}

proptest! {
    #![proptest_config(laws(48))]

    /// Any profile that compiles has its lints; a power is found if and only if a call of it passes.
    #[test]
    fn any_profile_is_looked_at(profile in any_profile().prop_filter("compiles", compiles)) {
        let program = compile(&profile, Abi::X86_64, CompileOptions::default()).unwrap();
        let found = lint(&profile, Abi::X86_64, None).unwrap();
        let wx = found.iter().find(|own| own.id == "wx-memory");
        let is_found = wx.is_some_and(|own| own.calls.iter().any(|name| name == "mprotect"));
        // W+X by mprotect, tried over the protections and some upper halves and addresses.
        let passes = |args: [u64; 6]| ask(&program, Abi::X86_64, 10, args).unwrap().verdict.executes();
        let values = [0, 1, 2, 3, 4, 5, 6, 0x7e02_0000, u64::from(u32::MAX), u64::MAX];
        let tried = values.iter().flat_map(|a| values.iter().map(move |b| (*a, *b)));
        if tried.flat_map(|(a, b)| values.map(|c| [a, b, c | 6, 0, 0, 0])).any(passes) {
            prop_assert!(is_found);
        }
        // Where it is found there is a call that passes, and the filter itself says so.
        if is_found {
            let difference = difference(&refusing_wx(), &profile, Abi::X86_64, CompileOptions::default()).unwrap();
            let gained = difference.wider().find(|own| own.name == "mprotect").and_then(|own| own.gained.as_ref());
            let args = gained.map(|own| own.example);
            prop_assert!(args.is_some_and(|args| args[2] & 6 == 6 && passes(args)), "{args:x?}");
        }
    }
}
