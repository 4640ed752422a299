//! Compiled filters mean what profiles say: libseccomp and the simulator against conditions evaluated directly.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;
#[path = "common/laws.rs"]
mod kept;

use common::named;
use kept::laws;
use proptest::prelude::*;
use seccomp_learn_synth::{
    Action, CompileError, CompileOptions, Condition, Container, Entry, Lookup, Margin, Operator, Options,
    Profile, Runtime, SeccompData, Verdict, attack_score, compile, execute, reference, references,
    repeats_an_argument, simulate, synthesize,
};
use trace::Abi;

/// What the entries of a profile say about a call, without any filter: allowed if one entry's conditions hold.
fn says(profile: &Profile, name: &str, args: &[u64; 6]) -> bool {
    let holds = |entry: &Entry| match repeats_an_argument(&entry.args) {
        false => entry.args.iter().all(|condition| condition.holds(args)),
        true => entry.args.iter().any(|condition| condition.holds(args)),
    };
    let allows = |entry: &&Entry| entry.action.executes() && entry.names.iter().any(|own| own == name);
    profile.syscalls.iter().filter(allows).any(holds)
}

fn profile(entries: Vec<Entry>) -> Profile {
    let text = br#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"]}"#;
    Profile { syscalls: entries, ..Profile::read(text).unwrap() }
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..6,
        Just(0xffff_ffff),
        Just(0x1_0000_0000),
        Just(0xffff_ffff_c020_462a),
        any::<u64>(),
        (0u32..64).prop_map(|bit| 1 << bit),
    ]
}

/// Masked tests on different arguments, the only form that this project emits.
fn entry() -> impl Strategy<Value = Entry> {
    prop::collection::btree_map(0u32..6, (number(), number(), any::<bool>()), 1..4).prop_map(|args| Entry {
        names: vec!["ioctl".to_owned()],
        action: Action::Allow,
        errno_ret: None,
        args: args
            .into_iter()
            .map(|(index, (mask, value, exact))| match exact {
                true => Condition { index, value, value_two: 0, op: Operator::Eq },
                false => Condition { index, value: mask, value_two: value & mask, op: Operator::MaskedEq },
            })
            .collect(),
    })
}

proptest! {
    #[test]
    fn emitted_conditions_mean_what_they_say(
        entries in prop::collection::vec(entry(), 1..12),
        args in prop::collection::vec(prop::array::uniform6(number()), 20),
    ) {
        let profile = profile(entries);
        let program = compile(&profile, Abi::X86_64, CompileOptions::default()).unwrap();
        let aimed = profile.syscalls.iter().map(|entry| {
            let mut args = [0; 6];
            for condition in &entry.args {
                args[condition.index as usize] =
                    if condition.op == Operator::Eq { condition.value } else { condition.value_two };
            }
            args
        });
        for args in args.iter().copied().chain(aimed) {
            let verdict = simulate(&program, &SeccompData::call(Abi::X86_64, 16, args)).unwrap();
            prop_assert_eq!(verdict.executes(), says(&profile, "ioctl", &args), "{:x?}", args);
        }
    }

}

proptest! {
    #![proptest_config(laws(16))]

    #[test]
    fn the_engines_own_profiles_mean_what_they_say(
        which in 0usize..3, native in prop::sample::select(vec![Abi::X86_64, Abi::Aarch64]),
        args in prop::collection::vec(prop::array::uniform6(number()), 8), family in 0u64..50,
    ) {
        let profile = references()[which].resolve(&Container::new(native, (6, 18)));
        let program = compile(&profile, native, CompileOptions::default()).unwrap();
        let plain = [family, 1, 9, 0, 0, 0];
        for args in args.into_iter().chain([plain]) {
            for number in native.numbers() {
                let name = native.name(number).to_string();
                // 64-bit Arm has no time64 calls, although tables made from the generic header list them.
                let absent = native == Abi::Aarch64 && (403..=423).contains(&number);
                if absent || !seccomp_learn_synth::host_knows(&name) {
                    continue;
                }
                let verdict = simulate(&program, &SeccompData::call(native, number, args)).unwrap();
                prop_assert_eq!(verdict.executes(), says(&profile, &name, &args), "{} {:x?}", name, args);
            }
        }
    }
}

#[test]
fn the_library_does_as_runc_has_it() {
    let entry = |name: &str, action, errno_ret, args: &str| Entry {
        names: vec![name.to_owned()],
        action,
        errno_ret,
        args: if args.is_empty() { Vec::new() } else { seccomp_learn_synth::parse_conditions(args).unwrap() },
    };
    let run = |profile: &Profile, name: &str, args: [u64; 6]| {
        let program = compile(profile, Abi::X86_64, CompileOptions::default()).unwrap();
        let number = Abi::X86_64.number(name).unwrap();
        simulate(&program, &SeccompData::call(Abi::X86_64, number, args)).unwrap()
    };
    // Two conditions on one argument are alternatives, as are conditions on others beside them.
    let repeated = profile(vec![entry("ioctl", Action::Allow, None, "arg1 == 1, arg1 == 2, arg0 == 7")]);
    for (args, allowed) in
        [([0, 1, 0, 0, 0, 0], true), ([0, 2, 0, 0, 0, 0], true), ([7, 9, 0, 0, 0, 0], true)]
    {
        assert_eq!(run(&repeated, "ioctl", args).executes(), allowed);
    }
    assert!(!run(&repeated, "ioctl", [6, 3, 0, 0, 0, 0]).executes());
    // A conditional refusal beside an unconditional permission is lost.
    let lost = profile(vec![
        entry("ioctl", Action::Errno, Some(22), "arg1 == 0x5412"),
        entry("ioctl", Action::Allow, None, ""),
    ]);
    assert_eq!(run(&lost, "ioctl", [0, 0x5412, 0, 0, 0, 0]), Verdict::Allow);
    // A rule that answers as the default does is left out, so that a permission after it stands.
    let same =
        profile(vec![entry("read", Action::Errno, Some(1), ""), entry("read", Action::Allow, None, "")]);
    assert_eq!(run(&same, "read", [0; 6]), Verdict::Allow);
    // Errnos: EPERM where none is named.
    let errnos =
        profile(vec![entry("read", Action::Errno, Some(38), ""), entry("write", Action::Errno, None, "")]);
    assert_eq!(run(&errnos, "read", [0; 6]), Verdict::Errno(38));
    assert_eq!(run(&errnos, "write", [0; 6]), Verdict::Errno(1));
    assert_eq!(run(&errnos, "close", [0; 6]), Verdict::Errno(1));
    // An architecture that the profile does not name: the library's answer is to kill.
    let data = SeccompData::call(Abi::I386, 3, [0; 6]);
    let program = compile(&errnos, Abi::X86_64, CompileOptions::default()).unwrap();
    assert_eq!(simulate(&program, &data).unwrap(), Verdict::KillThread);
    // Names that the library does not know are left out and reported.
    let unknown =
        profile(vec![entry("mseal", Action::Allow, None, ""), entry("read", Action::Allow, None, "")]);
    let program = compile(&unknown, Abi::X86_64, CompileOptions::default()).unwrap();
    assert_eq!(program.unknown.is_empty(), seccomp_learn_synth::host_knows("mseal"));
    // Actions.
    for (action, verdict) in [
        (Action::Log, Verdict::Log),
        (Action::Trap, Verdict::Trap),
        (Action::Kill, Verdict::KillThread),
        (Action::KillProcess, Verdict::KillProcess),
        (Action::Notify, Verdict::Notify),
        (Action::Trace, Verdict::Trace(1)),
    ] {
        assert_eq!(run(&profile(vec![entry("read", action, None, "")]), "read", [0; 6]), verdict);
    }
    let notify = Profile { default_action: Action::Notify, ..profile(Vec::new()) };
    let error = compile(&notify, Abi::X86_64, CompileOptions::default()).unwrap_err();
    assert!(matches!(error, CompileError::NotifyDefault));
    let error = compile(&profile(Vec::new()), Abi::I386, CompileOptions::default()).unwrap_err();
    assert!(matches!(error, CompileError::NotNative(Abi::I386)));
}

/// A node whose library is older than this host's leaves names out, which moves runc's stub, too.
#[test]
fn an_older_library_refuses_what_it_cannot_name() {
    let allow = |name: &str| Entry {
        names: vec![name.to_owned()],
        action: Action::Allow,
        errno_ret: None,
        args: Vec::new(),
    };
    let profile = profile(vec![allow("futex_waitv"), allow("read"), allow("close_range")]);
    let judged = |release: Option<&str>, number| {
        let mut options = CompileOptions::default().with_enosys_stub(true);
        if let Some(release) = release {
            options = options.with_libseccomp(release.parse().unwrap());
        }
        let program = compile(&profile, Abi::X86_64, options).unwrap();
        let verdict = simulate(&program, &SeccompData::call(Abi::X86_64, number, [0; 6])).unwrap();
        (verdict, program.unknown)
    };
    let lost = vec!["futex_waitv".to_owned()];
    // 449 is futex_waitv, of Linux 5.16; 436 is close_range.
    assert_eq!(judged(Some("2.5.4"), 449), (Verdict::Allow, Vec::new()));
    assert_eq!(judged(None, 449), (Verdict::Allow, Vec::new()));
    assert_eq!(judged(Some("2.5.3"), 449), (Verdict::Errno(38), lost.clone()));
    assert_eq!(judged(Some("2.5.3"), 440), (Verdict::Errno(38), lost.clone()));
    assert_eq!(judged(Some("2.5.4"), 440).0, Verdict::Errno(1));
    assert_eq!(judged(Some("2.5.3"), 436), (Verdict::Allow, lost));
}

#[test]
fn a_tree_is_looked_up_faster_than_a_list() {
    let docker = reference("docker").unwrap().resolve(&Container::new(Abi::X86_64, (6, 18)));
    let mean = |lookup| {
        let program = compile(&docker, Abi::X86_64, CompileOptions::default().with_lookup(lookup)).unwrap();
        let run =
            |number| execute(&program, &SeccompData::call(Abi::X86_64, number, [0; 6])).unwrap().instructions;
        (0..450).map(run).sum::<u32>() / 450
    };
    assert!(mean(Lookup::Tree) * 4 < mean(Lookup::Linear));
    assert_eq!(mean(Lookup::AsRunc), mean(Lookup::Tree));
}

/// What `python3 -m http.server` calls, one request and one CGI-like child process (Debian 12, Python 3.11).
const HTTP_SERVER: &str = "accept4 access arch_prctl bind brk clock_nanosleep clone clone3 close connect dup dup2 \
    epoll_create1 execve exit_group fcntl fstat futex getcwd getdents64 getegid geteuid getgid getpeername getpid \
    getrandom getsockname gettid getuid ioctl listen lseek madvise mmap mprotect munmap newfstatat openat pipe2 poll \
    pread64 prlimit64 read readlink recvfrom rseq rt_sigaction rt_sigprocmask sendfile sendto set_robust_list \
    set_tid_address setsockopt shutdown socket socketpair sysinfo uname vfork wait4 write";

#[test]
fn a_names_only_profile_blocks_as_many_attacks_as_dockers_default() {
    let docker = reference("docker").unwrap().resolve(&Container::new(Abi::X86_64, (6, 18)));
    let docker = attack_score(&docker, Abi::X86_64).unwrap();
    for margin in [Margin::None, Margin::Portable] {
        for runtime in [Runtime::None, Runtime::Auto] {
            let options = Options { margin, runtime: runtime.clone(), ..Options::default() };
            let profile = synthesize(&named(HTTP_SERVER), &options).unwrap().profile;
            let score = attack_score(&profile, Abi::X86_64).unwrap();
            println!("{margin:?} {runtime:?}: {} of {}", score.blocked(), score.decided());
            assert!(score.blocked() >= docker.blocked(), "{}", score.blocked());
            // Never wider than the ceiling: what Docker's default blocks stays blocked.
            for ((attack, ours), (_, theirs)) in score.rows.iter().zip(&docker.rows) {
                use seccomp_learn_synth::AttackVerdict::Blocked;
                assert!(!matches!(theirs, Blocked(_)) || matches!(ours, Blocked(_)), "{}", attack.name);
            }
        }
    }
}

/// The package's own file, resolved as Podman does, against this project's data.
#[test]
#[expect(clippy::disallowed_methods, reason = "the oracle is a file of a package")]
fn podmans_data_is_what_debians_package_holds() {
    let Ok(text) = std::fs::read("/usr/share/containers/seccomp.json") else {
        println!("skipped: no /usr/share/containers/seccomp.json here");
        return;
    };
    let engine: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let names = |value: &serde_json::Value| engine_names(value, "names").len();
    let allowed = engine["syscalls"].as_array().unwrap().iter().map(names).max().unwrap();
    if allowed != 374 {
        println!("skipped: the package is of another version ({allowed} names)");
        return;
    }
    for capabilities in
        [seccomp_learn_synth::Capabilities::None, seccomp_learn_synth::Capabilities::DockerDefault]
    {
        let container = Container { native: Abi::X86_64, capabilities, kernel: (6, 18) };
        let applies = |entry: &serde_json::Value| {
            let caps = |side: &str| engine_names(&entry[side], "caps");
            let arches = engine_names(&entry["includes"], "arches");
            (arches.is_empty() || arches.contains(&"amd64".to_owned()))
                && caps("includes").iter().all(|capability| container.capabilities.contains(capability))
                && !caps("excludes").iter().any(|capability| container.capabilities.contains(capability))
        };
        let mut plain = serde_json::json!({
            "defaultAction": engine["defaultAction"], "defaultErrnoRet": engine["defaultErrnoRet"],
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": [] });
        for entry in engine["syscalls"].as_array().unwrap().iter().filter(|entry| applies(entry)) {
            let mut entry = entry.clone();
            for field in ["includes", "excludes", "comment", "errno"] {
                entry.as_object_mut().unwrap().remove(field);
            }
            plain["syscalls"].as_array_mut().unwrap().push(entry);
        }
        let theirs = Profile::read(plain.to_string().as_bytes()).unwrap();
        let ours = reference("podman").unwrap().resolve(&container);
        let program = |profile: &Profile| compile(profile, Abi::X86_64, CompileOptions::default()).unwrap();
        assert_eq!(program(&ours), program(&theirs));
    }
}

fn engine_names(value: &serde_json::Value, field: &str) -> Vec<String> {
    let list = value[field].as_array().into_iter().flatten();
    list.map(|name| name.as_str().unwrap().to_owned()).collect()
}
