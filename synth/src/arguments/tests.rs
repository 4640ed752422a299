//! The table against itself.

use std::collections::BTreeSet;

use super::*;

/// The calls whose arguments rules and findings need.
const NEEDED: &str = "ioctl socket socketpair setsockopt mmap mprotect pkey_mprotect clone clone3 unshare setns \
                      prctl arch_prctl personality fcntl futex madvise memfd_create mbind set_mempolicy keyctl bpf \
                      ptrace seccomp timerfd_settime splice pipe2 io_uring_setup perf_event_open sendto sendmsg \
                      recvmsg";

#[test]
fn every_call_that_rules_need_is_captured() {
    for name in NEEDED.split_whitespace() {
        assert!(arguments_of(name).any(|argument| argument.usage != ArgumentUse::Reading), "{name}");
    }
}

#[test]
fn what_is_captured_is_what_rules_and_findings_use() {
    let call = |abi, name: &str| captured(abi).find(|own| own.syscall == name);
    let ioctl = call(Abi::X86_64, "ioctl").unwrap();
    assert_eq!((ioctl.number, ioctl.arguments.len()), (16, 1));
    assert_eq!(ioctl.descriptor, Some(Descriptor { index: 0, unless: None }));
    for (abi, name) in [(Abi::X86_64, "mmap"), (Abi::I386, "mmap2"), (Abi::Arm, "mmap2")] {
        let mmap = call(abi, name).unwrap();
        assert_eq!(mmap.descriptor, Some(Descriptor { index: 4, unless: Some((3, 0x20)) }), "{abi}");
        let names: Vec<&str> = mmap.arguments.iter().map(|own| own.name.as_str()).collect();
        assert_eq!(names, ["prot", "flags"]);
    }
    let perf = call(Abi::X86_64, "perf_event_open").unwrap();
    let places: Vec<_> = perf.arguments.iter().map(|own| (own.index, own.offset)).collect();
    assert_eq!(places, [(0, Some(0)), (4, None)]);
    assert!(call(Abi::X86_64, "mmap2").is_none() && call(Abi::X86_64, "openat").is_none());
    for abi in Abi::ALL {
        for call in captured(abi) {
            // One value a register.
            let indices: BTreeSet<u32> = call.arguments.iter().map(|own| own.index).collect();
            assert_eq!(indices.len(), call.arguments.len(), "{}", call.syscall);
            assert!(call.arguments.iter().all(|own| own.usage != ArgumentUse::Reading));
        }
    }
}

#[test]
fn writable_and_executable_exclude_each_other() {
    for name in ["mmap", "mprotect", "pkey_mprotect"] {
        assert_eq!(exclusive(Abi::X86_64, name, argument(name, 2).unwrap()), 6);
    }
    assert_eq!(exclusive(Abi::X86_64, "mmap", argument("mmap", 3).unwrap()), 0);
}

#[test]
fn what_a_rule_tests_can_be_seen_by_seccomp_and_has_names() {
    for argument in arguments() {
        assert_eq!(argument.offset.is_some(), argument.kind == ArgumentKind::StructField, "{argument:?}");
        assert!(argument.offset.is_none() || argument.usage != ArgumentUse::Rule, "{argument:?}");
        let nameless = matches!(argument.kind, ArgumentKind::Request | ArgumentKind::Descriptor);
        let named = argument.sets(Abi::X86_64).next().is_some() || nameless;
        assert!(named && !argument.source.is_empty() && !argument.name.is_empty(), "{argument:?}");
        let captured = argument.usage != ArgumentUse::Reading && argument.kind == ArgumentKind::Flags;
        assert!(!captured || argument.sets(Abi::X86_64).all(Set::is_flags), "{argument:?}");
    }
}

#[test]
fn every_set_is_used() {
    let used: BTreeSet<&str> = arguments()
        .iter()
        .flat_map(|argument| argument.set.iter().chain(argument.cases.iter().map(|case| &case.set)))
        .map(String::as_str)
        .collect();
    for (_, title) in table().sets.keys() {
        assert!(used.contains(title.as_str()), "{title}");
    }
}

#[test]
fn the_meaning_goes_by_another_argument_where_it_does() {
    let name = |syscall: &str, index, args: [u64; 6]| {
        let value = args[usize::try_from(index).unwrap()];
        argument(syscall, index).unwrap().set(Abi::X86_64, &args).map(|set| set.show(value))
    };
    assert_eq!(name("setsockopt", 2, [3, 6, 31, 0, 0, 0]).as_deref(), Some("TCP_ULP"));
    assert_eq!(name("setsockopt", 2, [3, 1, 2, 0, 0, 0]).as_deref(), Some("SO_REUSEADDR"));
    assert_eq!(name("setsockopt", 2, [3, 9999, 2, 0, 0, 0]), None);
    assert_eq!(name("socket", 2, [16, 3, 12, 0, 0, 0]).as_deref(), Some("NETLINK_NETFILTER"));
    // The upper half of the family does not count.
    assert_eq!(name("socket", 2, [0x5_0000_0002, 3, 6, 0, 0, 0]).as_deref(), Some("IPPROTO_TCP"));
    assert_eq!(name("prctl", 1, [1, 9, 0, 0, 0, 0]).as_deref(), Some("SIGKILL"));
}

#[test]
fn harmless_values_are_what_they_say() {
    let allows = |syscall: &str, args: [u64; 6]| {
        harmless(Abi::X86_64, syscall).iter().any(|entry| {
            entry
                .arguments
                .iter()
                .all(|(index, allowed)| allowed.contains(args[usize::try_from(*index).unwrap()]))
        })
    };
    for (syscall, args) in [
        ("socket", [10, 0x80802, 17, 0, 0, 0]),
        ("socket", [1, 5, 0, 0, 0, 0]),
        ("mmap", [0, 4096, 3, 0x22, 0, 0]),
        ("clone", [0, 0, 0, 0, 0, 0]),
        ("clone", [0x3d_0f00, 0, 0, 0, 0, 0]),
        ("clone", [0x0120_0011, 0, 0, 0, 0, 0]),
        ("futex", [0, 0x189, 0, 0, 0, 0]),
        ("ioctl", [0, 0xffff_ffff_802c_542a, 0, 0, 0, 0]),
        ("fallocate", [0, 1, 0, 0, 0, 0]),
    ] {
        assert!(allows(syscall, args), "{syscall} {args:x?}");
    }
    for (syscall, args) in [
        ("socket", [17, 3, 0, 0, 0, 0]),
        ("socket", [2, 3, 0, 0, 0, 0]),
        ("socket", [2, 2, 1, 0, 0, 0]),
        ("setsockopt", [3, 6, 31, 0, 0, 0]),
        ("setsockopt", [3, 0, 64, 0, 0, 0]),
        ("clone", [0x1000_0011, 0, 0, 0, 0, 0]),
        ("clone", [0x1000_0000, 0, 0, 0, 0, 0]),
        ("mprotect", [0, 0, 7, 0, 0, 0]),
        ("mprotect", [0, 0, 4, 0, 0, 0]),
        ("futex", [0, 12, 0, 0, 0, 0]),
        ("futex", [0, 0x84, 0, 0, 0, 0]),
        ("sendto", [0, 0, 0, 0x8000, 0, 0]),
        ("pipe2", [0, 0x80, 0, 0, 0, 0]),
        ("timerfd_settime", [0, 3, 0, 0, 0, 0]),
        ("sendto", [0, 0, 0, 1, 0, 0]),
        ("prctl", [4, 0, 0, 0, 0, 0]),
        ("ioctl", [0, 0x5412, 0, 0, 0, 0]),
        ("keyctl", [0, 0, 0, 0, 0, 0]),
    ] {
        assert!(!allows(syscall, args), "{syscall} {args:x?}");
    }
}

#[test]
fn a_table_that_is_not_of_its_form_is_refused() {
    const SET: &str = "[set.a]\nsource = \"s\"\n[set.a.values]\nA = 1\n";
    const ARGUMENT: &str = "[[argument]]\nsyscalls = \"socket\"\nindex = 0\nname = \"a\"\nwidth = 32\n\
                            kind = \"value\"\nuse = \"rule\"\nset = \"a\"\nsource = \"s\"\n";
    let read = read::read;
    let good = format!("{SET}{ARGUMENT}");
    assert!(read(&good).is_ok());
    for (was, is) in [
        ("width = 32", "width = 16"),
        ("width = 32", "width = 32\nmask = 0x1_0000_0000"),
        ("index = 0", "index = 6"),
        ("\"socket\"", "\"sockett\""),
        ("\"socket\"", "\"socket socket\""),
        ("set = \"a\"", "set = \"b\""),
        ("kind = \"value\"", "kind = \"valeu\""),
        ("kind = \"value\"", "kind = \"struct-field\""),
        ("use = \"rule\"", "use = \"rule\"\nwidht = 32"),
        ("A = 1", "A = 1\nB = 1"),
        ("A = 1", "A = 1\nA = 2"),
        ("[set.a.values]\nA = 1", "[set.a.field.f]\nmask = 3\n[set.a.field.f.values]\nA = 4"),
        ("[set.a.values]\nA = 1", "[set.a.field.f]\nmask = 3\n[set.a.bits]\nA = 1"),
    ] {
        assert!(good.contains(was));
        assert!(read(&good.replace(was, is)).is_err(), "{was} -> {is}");
    }
    assert!(read(&format!("{good}{ARGUMENT}")).is_err());
    let harmless = |text: &str| {
        read(&format!("{good}[[harmless]]\nsyscalls = \"socket\"\narguments = {{ {text} }}\nwhy = \"w\"\n"))
    };
    assert!(harmless("a = \"A\"").is_ok());
    assert!(harmless("a = \"C\"").is_err() && harmless("b = \"A\"").is_err());
    let seen = |text: &str| {
        let entry = "[[harmless]]\nsyscalls = \"socket\"\narguments = { a = \"A\" }\nwhy = \"w\"\n";
        read(&format!("{good}{entry}seen = {{ {text} }}\n"))
    };
    assert!(seen("a = \"A\"").is_ok() && seen("a = \"C\"").is_err() && seen("b = \"A\"").is_err());
    let flags = good.replace("values]", "bits]").replace("\"value\"", "\"flags\"");
    let exclusive = |argument: &str, bits: &str| {
        read(&format!(
            "{flags}[[exclusive]]\nsyscalls = \"socket\"\nargument = \"{argument}\"\nbits = \"{bits}\"\nwhy = \"w\"\n"
        ))
    };
    assert!(exclusive("a", "A").is_ok() && exclusive("a", "B").is_err() && exclusive("b", "A").is_err());
    let descriptor = |what: &str| {
        read(&format!(
            "{good}[[argument]]\nsyscalls = \"ioctl\"\nindex = 0\nname = \"fd\"\nwidth = 32\n{what}source = \"s\"\n"
        ))
    };
    assert!(descriptor("kind = \"descriptor\"\nuse = \"finding\"\n").is_ok());
    for bad in [
        "kind = \"descriptor\"\nuse = \"rule\"\n",
        "kind = \"value\"\nuse = \"finding\"\nunless = { at = 3, has = \"A\" }\n",
    ] {
        assert!(descriptor(bad).is_err(), "{bad}");
    }
}
