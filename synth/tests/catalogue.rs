//! The table of syscalls: every name there is has an entry, no other has, and each says enough to decide by.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use seccomp_learn_synth::{
    Capabilities, Container, Risk, attacks, catalogue, descriptions, is_syscall, reference, references,
};
use trace::Abi;

fn names() -> BTreeSet<String> {
    Abi::ALL
        .into_iter()
        .flat_map(|abi| abi.numbers().map(move |number| abi.name(number).to_string()))
        .collect()
}

#[test]
fn every_name_has_an_entry_and_none_is_unknown() {
    let missing: Vec<String> = names().into_iter().filter(|name| catalogue(name).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let strange: Vec<&str> =
        descriptions().map(|own| own.name.as_str()).filter(|name| !is_syscall(name)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    // Names of other machines are in engines' profiles.
    for reference in references() {
        let profile = reference.resolve(&Container::new(Abi::X86_64, (6, 18)));
        for name in profile.syscalls.iter().flat_map(|entry| &entry.names) {
            assert!(catalogue(name).is_some(), "{name}");
        }
    }
    assert_eq!(catalogue("sokcet"), None);
}

#[test]
fn each_entry_is_a_line_of_its_own_words() {
    let mut does: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for own in descriptions() {
        let name = &own.name;
        assert!(own.does.len() > 10 || own.does == "sleeps", "{name}: {}", own.does);
        for text in [&own.does, &own.source].into_iter().chain(&own.opens) {
            assert!(!text.contains('\n') && !text.ends_with('.') && text.trim() == text, "{name}: {text}");
        }
        assert!(own.does.chars().count() <= 110, "{name}: {}", own.does);
        assert_eq!(own.opens.is_none(), own.risk == Risk::Harmless, "{name}");
        assert!(own.opens.as_ref().is_none_or(|opens| opens.len() > 20), "{name}");
        does.entry(&own.does).or_default().push(name);
    }
    // The older and the newer form of a call do the same; a call and another one do not.
    let same = ["not implemented", "lists an open directory", "waits "];
    for (text, names) in does {
        assert!(names.len() == 1 || same.iter().any(|own| text.starts_with(own)), "{text}: {names:?}");
    }
}

/// What a reviewer knows by heart.
#[test]
fn the_well_known_are_where_they_belong() {
    for (names, risk) in [
        ("getpid read write exit_group rt_sigreturn clock_gettime epoll_wait munmap", Risk::Harmless),
        ("openat open unlink chmod mknod ioctl", Risk::Files),
        ("socket connect sendmsg shmat mq_open", Risk::Network),
        ("mmap mprotect memfd_create mbind", Risk::Memory),
        ("execve clone kill futex prctl", Risk::Process),
        ("ptrace process_vm_readv pidfd_getfd keyctl", Risk::Inspect),
        ("setuid unshare setns mount chroot open_by_handle_at personality", Risk::Privilege),
        ("reboot clock_settime swapon sethostname syslog", Risk::Host),
        ("bpf init_module kexec_load io_uring_setup perf_event_open userfaultfd", Risk::Kernel),
    ] {
        for name in names.split_whitespace() {
            assert_eq!(catalogue(name).unwrap().risk, risk, "{name}");
        }
    }
}

/// The engines refuse without capabilities what stands at the end of the scale, and few attacks are made of harmless
/// calls.
#[test]
fn the_scale_agrees_with_what_others_decided() {
    let container = Container { native: Abi::X86_64, capabilities: Capabilities::None, kernel: (6, 18) };
    let docker = reference("docker").unwrap().resolve(&container);
    let refused: BTreeSet<String> = names()
        .into_iter()
        .filter(|name| Abi::X86_64.number(name).is_some() && !docker.allowed().contains(name.as_str()))
        .collect();
    assert!(refused.len() > 40);
    let gone = |name: &str| catalogue(name).unwrap().does.starts_with("not implemented");
    // A name without a call behind it is refused everywhere; probes and copies pass by.
    let odd: Vec<&String> = refused
        .iter()
        .filter(|name| catalogue(name).unwrap().risk == Risk::Harmless && !gone(name))
        .collect();
    assert!(odd.len() <= 6, "harmless, says the table, and Docker refuses it: {odd:?}");
    let kernel =
        descriptions().filter(|own| own.risk == Risk::Kernel && Abi::X86_64.number(&own.name).is_some());
    let allowed: Vec<&str> =
        kernel.map(|own| own.name.as_str()).filter(|name| docker.allowed().contains(name)).collect();
    // The older queue and the segments of the old x86.
    assert!(allowed.iter().all(|name| name.starts_with("io_") || *name == "modify_ldt"), "{allowed:?}");
    assert!(!allowed.iter().any(|name| name.starts_with("io_uring")), "{allowed:?}");
    // Any call may have a bug; few known attacks get by with harmless ones.
    let harmless = |name: &str| catalogue(name).unwrap().risk == Risk::Harmless;
    let mild = attacks().iter().filter(|attack| {
        !attack.control
            && !attack.needs.is_empty()
            && attack.needs.iter().all(|need| need.names().all(harmless))
    });
    let mild: Vec<&str> = mild.map(|attack| attack.name.as_str()).collect();
    assert!(mild.len() * 20 < attacks().len(), "{mild:?}");
}
