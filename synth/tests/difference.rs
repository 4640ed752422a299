//! The difference of two profiles: exact, by random calls through both filters; and said so that people see it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use seccomp_learn_synth::{
    Action, Architecture, CallDifference, Capabilities, Change, CompileOptions, Condition, Container,
    Difference, Entry, Operator, Part, Place, Profile, SeccompData, Verdict, compile, difference, execute,
    parse_conditions, reference,
};
use trace::Abi;

#[path = "common/laws.rs"]
mod kept;
#[path = "common/profiles.rs"]
mod profiles;
#[path = "common/tangled.rs"]
mod tangled;

use kept::laws;

const NATIVE: Abi = Abi::X86_64;

/// A profile with these entries, which refuses everything else with EPERM.
fn profile_of(syscalls: &str) -> Profile {
    let json = format!(
        r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [{syscalls}]}}"#
    );
    Profile::read(json.as_bytes()).unwrap()
}

fn compared(old: &Profile, new: &Profile) -> Difference {
    difference(old, new, NATIVE, CompileOptions::default()).unwrap()
}

fn docker() -> Profile {
    let container = Container { native: NATIVE, capabilities: Capabilities::DockerDefault, kernel: (6, 18) };
    reference("docker").unwrap().resolve(&container)
}

/// What the two filters answer to a call.
fn both(
    old: &Profile,
    new: &Profile,
    options: CompileOptions,
) -> impl Fn(Abi, u32, [u64; 6]) -> [Verdict; 2] {
    let programs = [old, new].map(|profile| compile(profile, NATIVE, options).unwrap());
    move |abi, number, args| {
        [0, 1].map(|side| execute(&programs[side], &SeccompData::call(abi, number, args)).unwrap().verdict)
    }
}

/// The entry of the difference that is about a call; never two.
fn about(difference: &Difference, abi: Abi, number: u32) -> Option<&CallDifference> {
    let is_about = |call: &&CallDifference| {
        call.places.iter().any(|place| place.abi == abi && (place.first..=place.last).contains(&number))
    };
    let found: Vec<&CallDifference> = difference.calls.iter().filter(is_about).collect();
    assert!(found.len() <= 1, "{found:?}");
    found.first().copied()
}

/// Whether every example is answered as the difference says, and every part is what it claims to be.
fn check(old: &Profile, new: &Profile, options: CompileOptions, difference: &Difference) {
    let ask = both(old, new, options);
    for call in &difference.calls {
        let parts =
            [(&call.gained, Some((false, true))), (&call.lost, Some((true, false))), (&call.answered, None)];
        assert!(parts.iter().any(|(part, _)| part.is_some()), "{call:?}");
        for (part, executes) in parts {
            let Some(part) = part else { continue };
            for place in &call.places {
                for number in [place.first, place.last] {
                    assert_eq!(ask(place.abi, number, part.example), [part.old, part.new], "{call:?}");
                }
            }
            assert_ne!(part.old, part.new);
            assert!(!part.when.is_empty());
            let seen = (part.old.executes(), part.new.executes());
            assert!(executes.map_or(seen.0 == seen.1, |expected| expected == seen), "{call:?}");
            assert!(call.old.verdicts.contains(&part.old) && call.new.verdicts.contains(&part.new));
        }
        let expected = match (&call.gained, &call.lost) {
            (Some(_), Some(_)) => Change::Moved,
            (Some(_), None) if call.old.executes() => Change::Wider,
            (Some(_), None) => Change::NewlyAllowed,
            (None, Some(_)) if call.new.executes() => Change::Narrower,
            (None, Some(_)) => Change::NoLongerAllowed,
            (None, None) => Change::Answer,
        };
        assert_eq!(call.change, expected, "{call:?}");
        for side in [&call.old, &call.new] {
            assert_eq!(side.executes(), !side.when.is_empty(), "{call:?}");
        }
    }
}

fn condition() -> impl Strategy<Value = Condition> {
    // Few values, so that conditions meet; upper halves and all bits among them.
    let value =
        prop::sample::select(vec![0u64, 1, 2, 3, 5, 8, 0xff, 1 << 32, 1 << 32 | 2, u64::MAX, 0x8000_0000]);
    let op = prop::sample::select(vec![
        Operator::Eq,
        Operator::Ne,
        Operator::Lt,
        Operator::Le,
        Operator::Gt,
        Operator::Ge,
        Operator::MaskedEq,
    ]);
    (0u32..3, value.clone(), value, op).prop_map(|(index, value, value_two, op)| {
        let value_two = if op == Operator::MaskedEq { value_two } else { 0 };
        Condition { index, value, value_two, op }
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    let names = prop::sample::subsequence(vec!["read", "socket", "mmap", "ioctl", "clone3", "prctl"], 1..3);
    let action = prop::sample::select(vec![
        (Action::Allow, None),
        (Action::Allow, None),
        (Action::Errno, Some(38)),
        (Action::Log, None),
        (Action::KillProcess, None),
    ]);
    let args = prop::collection::vec(condition(), 0..3);
    (names, action, args).prop_map(|(names, (action, errno_ret), args)| Entry {
        names: names.into_iter().map(str::to_owned).collect(),
        action,
        errno_ret,
        args,
    })
}

fn profile() -> impl Strategy<Value = Profile> {
    let default = prop::sample::select(vec![
        (Action::Errno, None),
        (Action::Errno, Some(38)),
        (Action::Allow, None),
        (Action::KillThread, None),
    ]);
    let extra = prop::sample::subsequence(vec![Abi::I386, Abi::X32], 0..3);
    (default, extra, prop::collection::vec(entry(), 0..6)).prop_map(|((action, errno), extra, syscalls)| {
        Profile {
            default_action: action,
            default_errno_ret: errno,
            architectures: [NATIVE].into_iter().chain(extra).map(Architecture::from).collect(),
            flags: None,
            listener_path: None,
            listener_metadata: None,
            syscalls,
        }
    })
}

/// libseccomp takes no conditional rule that contradicts another one; such a profile is no profile.
fn compiles(profile: &Profile) -> bool {
    compile(profile, NATIVE, CompileOptions::default()).is_ok()
}

fn call() -> impl Strategy<Value = (Abi, u32, [u64; 6])> {
    let value = prop::sample::select(vec![
        0u64,
        1,
        2,
        3,
        4,
        5,
        6,
        8,
        9,
        0xff,
        0x100,
        1 << 32,
        1 << 32 | 2,
        1 << 32 | 3,
        u64::MAX,
        u64::MAX - 1,
        0x8000_0000,
        0x8000_0001,
    ]);
    let number = prop_oneof![
        prop::sample::select(vec![
            "read",
            "socket",
            "mmap",
            "ioctl",
            "clone3",
            "prctl",
            "getpid",
            "socketcall"
        ])
        .prop_map(|name| Abi::ALL.map(|abi| abi.number(name).unwrap_or(9999))),
        (0u32..1200).prop_map(|number| [number; 5]),
        any::<u32>().prop_map(|number| [number; 5]),
    ];
    let abi = prop::sample::select(vec![(0usize, Abi::X86_64), (1, Abi::I386), (2, Abi::X32)]);
    (abi, number, prop::array::uniform6(prop_oneof![value, any::<u64>()])).prop_map(
        |((at, abi), numbers, args)| {
            // As the kernel would have it: the marker bit says which of the two ABIs it is.
            let data = SeccompData::call(abi, numbers[at], args);
            let (abi, number) = Abi::from_audit_arch(data.arch, data.nr.cast_unsigned()).unwrap();
            (abi, number, args)
        },
    )
}

proptest! {
    #![proptest_config(laws(96))]

    #[test]
    fn whatever_is_answered_differently_is_named_and_nothing_else(
        old in profile().prop_filter("compiles", compiles),
        new in profile().prop_filter("compiles", compiles),
        enosys_stub in any::<bool>(),
        calls in prop::collection::vec(call(), 64),
    ) {
        let options = CompileOptions::default().with_enosys_stub(enosys_stub);
        let difference = difference(&old, &new, NATIVE, options).unwrap();
        prop_assert!(difference.undecided.is_empty());
        check(&old, &new, options, &difference);
        let ask = both(&old, &new, options);
        for (abi, number, args) in calls {
            let [one, other] = ask(abi, number, args);
            if one != other {
                let call = about(&difference, abi, number);
                prop_assert!(call.is_some(), "{abi} {number} {args:x?}: {one}, then {other}");
                let call = call.unwrap();
                let part = match (one.executes(), other.executes()) {
                    (false, true) => &call.gained,
                    (true, false) => &call.lost,
                    _ => &call.answered,
                };
                prop_assert!(part.is_some(), "{abi} {number} {args:x?}: {one}, then {other}: {call:?}");
            }
        }
    }

    #[test]
    fn a_profile_does_not_differ_from_itself_however_it_is_written(
        profile in profile().prop_filter("compiles", compiles),
        turn in 0usize..6,
    ) {
        prop_assert!(compared(&profile, &profile).is_empty());
        // One name an entry, in another order, each twice.
        let mut other = profile.clone();
        other.syscalls = profile
            .syscalls
            .iter()
            .flat_map(|entry| entry.names.iter().map(|name| Entry { names: vec![name.clone()], ..entry.clone() }))
            .collect();
        let names: BTreeSet<&String> = other.syscalls.iter().map(|entry| &entry.names[0]).collect();
        // The order between different calls means nothing.
        let mut sorted = Vec::new();
        let mut names: Vec<&String> = names.into_iter().collect();
        let turn = if names.is_empty() { 0 } else { turn % names.len() };
        names.rotate_left(turn);
        for name in names {
            sorted.extend(other.syscalls.iter().filter(|entry| entry.names[0] == *name).cloned());
        }
        let other = Profile { syscalls: sorted, ..other.clone() };
        prop_assert!(compared(&profile, &other).is_empty());
    }
}

#[test]
fn the_profiles_of_the_repository_do_not_differ_from_themselves() {
    for (name, profile) in profiles::repository() {
        let found = compared(&profile, &profile);
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}

#[test]
fn docker_against_every_profile_of_the_repository_is_decided() {
    let docker = docker();
    for (name, profile) in profiles::repository() {
        let found = compared(&docker, &profile);
        assert!(found.undecided.is_empty(), "{name}: {:?}", found.undecided);
        check(&docker, &profile, CompileOptions::default(), &found);
        let back = compared(&profile, &docker);
        let names = |difference: &Difference| -> BTreeSet<String> {
            difference.calls.iter().map(|call| call.name.clone()).collect()
        };
        assert_eq!(names(&found), names(&back), "{name}");
    }
}

/// A part in one line.
fn part(part: &Part) -> String {
    format!("{} ({} {}, now {})", part.when.join("; "), part.call, part.old, part.new)
}

/// A difference, a line for each call.
fn lines(difference: &Difference) -> Vec<String> {
    let line = |call: &CallDifference| {
        let places = call.places.iter().map(|place| place.abi.as_str()).collect::<Vec<_>>().join("+");
        let mut line = format!("{} {} [{places}]", call.name, call.change.as_str());
        for (sign, own) in [("+", &call.gained), ("-", &call.lost), ("~", &call.answered)] {
            line.extend(own.iter().map(|own| format!(" {sign} {}", part(own))));
        }
        line
    };
    difference.calls.iter().map(line).collect()
}

#[test]
fn what_changed_is_said_in_words() {
    let allow = |names: &str, args: &str| {
        format!(r#"{{"names": [{names}], "action": "SCMP_ACT_ALLOW", "args": [{args}]}}"#)
    };
    let equal =
        |index: u32, value: u64| format!(r#"{{"index": {index}, "value": {value}, "op": "SCMP_CMP_EQ"}}"#);
    let masked = |index: u32, mask: u64, value: u64| {
        format!(r#"{{"index": {index}, "value": {mask}, "valueTwo": {value}, "op": "SCMP_CMP_MASKED_EQ"}}"#)
    };
    let check = |old: &[String], new: &[String], expected: &[&str]| {
        let (old, new) = (profile_of(&old.join(",")), profile_of(&new.join(",")));
        let found = compared(&old, &new);
        check(&old, &new, CompileOptions::default(), &found);
        assert_eq!(lines(&found), expected);
    };
    let read = allow(r#""read""#, "");
    // Another spelling of the same.
    check(
        &[
            allow(r#""read", "write""#, ""),
            allow(r#""socket""#, &equal(0, 1)),
            allow(r#""socket""#, &equal(0, 2)),
        ],
        &[
            allow(r#""socket""#, &format!("{}, {}", equal(0, 2), equal(0, 1))),
            allow(r#""write""#, ""),
            allow(r#""read""#, &equal(0, 7)),
            read.clone(),
        ],
        &[],
    );
    check(
        &[],
        std::slice::from_ref(&read),
        &["read newly allowed [x86_64] + always (read() EPERM, now allowed)"],
    );
    check(
        std::slice::from_ref(&read),
        &[],
        &["read no longer allowed [x86_64] - always (read() allowed, now EPERM)"],
    );
    check(
        &[allow(r#""socket""#, &equal(0, 1)), allow(r#""socket""#, &equal(0, 2))],
        &[allow(r#""socket""#, &equal(0, 1)), allow(r#""socket""#, &equal(0, 16))],
        &[
            "socket other conditions [x86_64] + domain == AF_NETLINK (socket(AF_NETLINK, 0, NETLINK_ROUTE) EPERM, now allowed) \
           - domain == AF_INET (socket(AF_INET, 0, IPPROTO_IP) allowed, now EPERM)",
        ],
    );
    check(
        &[allow(r#""clone""#, &masked(0, 0x7e02_0000, 0))],
        &[allow(r#""clone""#, "")],
        &["clone wider [x86_64] + in all other cases (clone(CLONE_NEWNS) EPERM, now allowed)"],
    );
    check(
        &[allow(r#""mprotect""#, "")],
        &[allow(r#""mprotect""#, &masked(2, 4, 0))],
        &["mprotect narrower [x86_64] - PROT_EXEC in prot (mprotect(PROT_EXEC) allowed, now EPERM)"],
    );
    // A rule that the filter does not follow, since another one undid it.
    let refuse = |errno: u16| {
        format!(
            r#"{{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": {errno}, "args": [{}]}}"#,
            equal(0, 7)
        )
    };
    check(std::slice::from_ref(&read), &[read.clone(), refuse(38)], &[]);
    check(
        &[refuse(38)],
        &[refuse(2)],
        &["read another answer [x86_64] ~ arg0 == 0x7 (read() ENOSYS, now ENOENT)"],
    );
    // The 64 bits of a register, where the kernel reads 32.
    check(
        &[allow(r#""ioctl""#, &equal(1, 0x5401))],
        &[allow(r#""ioctl""#, &masked(1, 0xffff_ffff, 0x5401))],
        &["ioctl wider [x86_64] + request == TCGETS, with bits in an upper half \
           (ioctl(0, TCGETS /* upper half 0x1 */, NULL) EPERM, now allowed)"],
    );
}

#[test]
fn a_list_of_what_is_refused_and_numbers_without_a_name() {
    let refuse = r#"{"names": ["ioctl"], "action": "SCMP_ACT_ERRNO",
        "args": [{"index": 1, "value": 4294967295, "valueTwo": 21522, "op": "SCMP_CMP_MASKED_EQ"}]}"#;
    let default_allow = |syscalls: &str| Profile { default_action: Action::Allow, ..profile_of(syscalls) };
    let (old, new) = (default_allow(refuse), default_allow(""));
    let found = compared(&old, &new);
    assert_eq!(
        lines(&found),
        ["ioctl wider [x86_64] + request == TIOCSTI (ioctl(TIOCSTI) EPERM, now allowed)"]
    );
    assert_eq!(found.calls[0].old.when, ["unless request == TIOCSTI"]);
    let found = compared(&profile_of(refuse), &default_allow(""));
    let unnamed: Vec<&CallDifference> =
        found.calls.iter().filter(|call| call.name.starts_with("syscall_")).collect();
    let all: u64 = found
        .calls
        .iter()
        .flat_map(|call| &call.places)
        .map(|place| u64::from(place.last - place.first) + 1)
        .sum();
    // The numbers below x32's marker bit, and the one that a tracer sets for a call that is to be skipped: the rest
    // is no call of x86-64's for libseccomp.
    assert_eq!(all, (1 << 30) + 1, "{unnamed:?}");
    assert!(unnamed.len() < 20, "{unnamed:?}");
}

#[test]
fn the_marker_bit_and_foreign_architectures() {
    let with = |more: &str| {
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"{more}],
                "syscalls": [{{"names": ["getpid", "socket"], "action": "SCMP_ACT_ALLOW"}}]}}"#
        );
        Profile::read(json.as_bytes()).unwrap()
    };
    let found = compared(&with(""), &with(r#", "SCMP_ARCH_X86""#));
    assert!(found.calls.iter().all(|call| call.places.iter().all(|place| place.abi == Abi::I386)));
    let allowed: BTreeSet<&str> = found.wider().map(|call| call.name.as_str()).collect();
    // The library also lets through what is behind socketcall.
    assert_eq!(allowed, BTreeSet::from(["getpid", "socket", "socketcall"]));
    let socketcall = found.wider().find(|call| call.name == "socketcall").unwrap();
    assert_eq!(socketcall.new.when, ["call == SYS_SOCKET"]);
    let found = compared(&with(""), &with(r#", "SCMP_ARCH_X32""#));
    let above = |place: &Place| place.abi == Abi::X32 || place.first >= 2 << 30;
    assert!(found.calls.iter().all(|call| call.places.iter().all(above)));
    assert_eq!(found.wider().count(), 2);
    assert_eq!(found.narrower().count(), 0);
}

/// Hundreds of conditions on both sides, most of them the same.
#[test]
fn long_lists_are_compared_to_the_last_value() {
    let list = |values: std::ops::Range<u64>| {
        let entry = |value: u64| {
            format!(
                r#"{{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [
                    {{"index": 1, "value": 4294967295, "valueTwo": {value}, "op": "SCMP_CMP_MASKED_EQ"}}]}}"#
            )
        };
        profile_of(&values.map(entry).collect::<Vec<_>>().join(","))
    };
    let (old, new) = (list(0x9000..0x9258), list(0x9001..0x9259));
    let found = compared(&old, &new);
    check(&old, &new, CompileOptions::default(), &found);
    let [call] = &found.calls[..] else { panic!("{found:?}") };
    let example = |part: &Option<Part>| part.as_ref().unwrap().example[1];
    assert_eq!((call.change, example(&call.lost), example(&call.gained)), (Change::Moved, 0x9000, 0x9258));
    assert_eq!(call.gained.as_ref().unwrap().when.len(), 1);
}

/// More ways than can be followed: what a call of the two shows is told, the rest is undecided, other calls are compared
/// as ever, and all of that comes to an end.
#[test]
fn what_cannot_be_followed_to_the_end_still_shows_differences() {
    let entries = |number: u32| -> Vec<Entry> {
        let entry = |text: String| Entry {
            names: vec!["mount".to_owned(), "ioctl".to_owned()],
            action: Action::Allow,
            errno_ret: None,
            args: parse_conditions(&text).unwrap(),
        };
        tangled::tangled(number).into_iter().map(entry).collect()
    };
    let of = |mut syscalls: Vec<Entry>, plain: &str| {
        syscalls.extend(profile_of(plain).syscalls);
        Profile { syscalls, ..profile_of("") }
    };
    let plain = r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW"}"#;
    let both = r#"{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}"#;
    for number in [20, 60] {
        let old = of(entries(number), plain);
        assert!(compared(&old, &old).is_empty());
        // What is written alike is the same, however many ways there are through it.
        let names =
            |found: &Difference| -> Vec<String> { found.calls.iter().map(|own| own.name.clone()).collect() };
        let found = compared(&old, &of(entries(number), both));
        assert_eq!((names(&found), found.undecided.len()), (vec!["write".to_owned()], 0));
        // One alternative more.
        let new = of(entries(number + 1), both);
        let found = compared(&old, &new);
        assert_eq!(names(&found), ["ioctl", "mount", "write"]);
        let undecided: Vec<&str> = found.undecided.iter().map(|own| own.name.as_str()).collect();
        assert_eq!(undecided, ["ioctl", "mount"]);
        let ask = self::both(&old, &new, CompileOptions::default());
        for call in &found.calls[..2] {
            assert_eq!(call.change, Change::Wider);
            let gained = call.gained.as_ref().unwrap();
            assert_eq!(gained.when, ["in some cases"]);
            let number = NATIVE.number(&call.name).unwrap();
            assert_eq!(ask(NATIVE, number, gained.example), [gained.old, gained.new]);
            assert!(!gained.old.executes() && gained.new.executes());
        }
        assert_eq!(found.calls[2].change, Change::NewlyAllowed);
    }
}

#[test]
fn what_the_kernel_would_not_take_is_an_error() {
    let entry = |value: u64| Entry {
        names: vec!["ioctl".to_owned()],
        action: Action::Allow,
        errno_ret: None,
        args: vec![Condition { index: 1, value: value << 32 | value, value_two: 0, op: Operator::Eq }],
    };
    let long = Profile { syscalls: (1..2_000).map(entry).collect(), ..profile_of("") };
    let error = difference(&profile_of(""), &long, NATIVE, CompileOptions::default()).unwrap_err();
    assert!(error.to_string().contains("the kernel would not take"), "{error}");
}
