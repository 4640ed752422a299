//! What other tools look for in a profile, each check with a profile that must give one of our findings, or with why it
//! has no counterpart here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;

use seccomp_learn_synth::{Profile, lint};
use trace::Abi;

/// The calls that a tool looks for, where it says so, and what is found here of each by name.
struct Peer {
    source: &'static str,
    /// Our finding, and the calls that give it, each alone in a profile that refuses the rest.
    calls: &'static [(&'static str, &'static str)],
}

const PEERS: [Peer; 3] = [
    Peer {
        source: "https://github.com/antitree/seccompute/blob/d2f4b0b0f859512780aa662e569ea396b6cbe484/seccompute/rules/syscall_rules.yaml",
        calls: &[
            ("bpf", "bpf"),
            ("ptrace", "ptrace"),
            ("kernel-code", "kexec_load kexec_file_load init_module finit_module delete_module"),
            ("other-processes", "process_vm_readv process_vm_writev pidfd_getfd"),
            ("io-uring", "io_uring_setup"),
            ("mounts", "mount umount2 move_mount open_tree fsopen fsmount fsconfig fspick pivot_root"),
            ("namespaces", "setns unshare clone"),
            ("user-namespaces", "unshare clone clone3"),
            ("file-handles", "open_by_handle_at"),
            ("keyrings", "keyctl add_key request_key"),
            ("perf-events", "perf_event_open"),
            ("change-root", "chroot"),
            (
                "host-settings",
                "iopl ioperm reboot swapon swapoff sethostname setdomainname settimeofday clock_settime vhangup \
                 syslog quotactl acct",
            ),
            ("memory-placement", "mbind migrate_pages move_pages"),
            ("old-x86", "modify_ldt"),
        ],
    },
    Peer {
        source: "https://github.com/google/minijail/blob/d8d89e3a31bbda842f03c24dcdcf2788fe989309/tools/seccomp_policy_lint.py",
        calls: &[
            ("user-namespaces", "clone"),
            ("mounts", "mount"),
            ("namespaces", "setns"),
            ("everyday", "kill execve execveat"),
            ("bpf", "bpf"),
            ("socket-families", "socket"),
            ("ptrace", "ptrace"),
            ("host-settings", "swapon swapoff"),
            ("any-option", "prctl"),
            ("everything-by-request", "ioctl"),
            ("wx-memory", "mmap mprotect"),
        ],
    },
    Peer {
        source: "https://github.com/david942j/seccomp-tools/blob/66a862023fedc78551073df038c9dc4fa40326b8/lib/seccomp-tools/audit/catalog.rb",
        calls: &[
            ("everyday", "execve execveat connect"),
            ("ptrace", "ptrace"),
            ("other-processes", "process_vm_readv process_vm_writev"),
            ("socket-families", "socket"),
        ],
    },
];

/// What they find in more than one call, or in the filter as such: our finding, and a profile that must give it.
const TOGETHER: [(&str, &str, &str, &str); 6] = [
    (
        "seccompute, COMBO-io-uring-network-bypass and those beside it",
        "https://github.com/antitree/seccompute/blob/d2f4b0b0f859512780aa662e569ea396b6cbe484/seccompute/rules/combo_rules.yaml",
        "io-uring",
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["io_uring_setup", "io_uring_enter"], "action": "SCMP_ACT_ALLOW"}]}"#,
    ),
    (
        "seccomp-tools, orw_chain",
        "https://github.com/david942j/seccomp-tools/blob/66a862023fedc78551073df038c9dc4fa40326b8/lib/seccomp-tools/audit/checks/orw_chain.rb",
        "everyday",
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["openat", "read", "write"], "action": "SCMP_ACT_ALLOW"}]}"#,
    ),
    (
        "seccomp-tools, permissive_default",
        "https://github.com/david942j/seccomp-tools/blob/66a862023fedc78551073df038c9dc4fa40326b8/lib/seccomp-tools/audit/checks/permissive_default.rb",
        "default-allows",
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["ptrace"], "action": "SCMP_ACT_ERRNO"}]}"#,
    ),
    (
        "seccomp-tools, syscall_alt_gap",
        "https://github.com/david942j/seccomp-tools/blob/66a862023fedc78551073df038c9dc4fa40326b8/lib/seccomp-tools/audit/checks/syscall_alt_gap.rb",
        "way-around",
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ERRNO"}]}"#,
    ),
    (
        "seccomp-tools, x32_guard",
        "https://github.com/david942j/seccomp-tools/blob/d63b50843915c52276852a8e0581e5cc0ae0f461/lib/seccomp-tools/audit/checks/x32_guard.rb",
        "x32-abi",
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"], "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#,
    ),
    (
        "seccomp-tools, socketcall on i386",
        "https://github.com/david942j/seccomp-tools/blob/66a862023fedc78551073df038c9dc4fa40326b8/lib/seccomp-tools/audit/catalog.rb",
        "unseen-arguments",
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": [{"names": ["socketcall"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]}"#,
    ),
];

/// What has no counterpart, and why.
const WITHOUT: [(&str, &str); 5] = [
    (
        "minijail: getrandom with GRND_RANDOM",
        "there is no blocking pool to drain since Linux 5.6, and 5.14 is the oldest kernel here: getrandom in https://github.com/torvalds/linux/blob/v5.14/drivers/char/random.c",
    ),
    (
        "minijail: mmap2",
        "the 32-bit ABIs' name of mmap, found as `foreign-abi` and by `wx-memory` where one is allowed",
    ),
    (
        "seccompute: umount",
        "the name that other architectures have; `umount2` is the call of x86-64, and in `mounts` with it",
    ),
    (
        "seccompute: io_uring_enter and io_uring_register",
        "neither does anything without a ring, which io_uring_setup alone makes",
    ),
    (
        "seccomp-tools: arch_unchecked",
        "libseccomp checks the architecture in every filter that it makes; profiles have no way to leave that out",
    ),
];

fn ids(text: &str) -> BTreeSet<&'static str> {
    let profile = Profile::read(text.as_bytes()).unwrap();
    lint(&profile, Abi::X86_64, None).unwrap().into_iter().map(|own| own.id).collect()
}

#[test]
fn whatever_others_look_for_is_found_here() {
    let mut missed = Vec::new();
    for peer in &PEERS {
        for (id, calls) in peer.calls {
            for call in calls.split_whitespace() {
                let text = format!(
                    r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{{"names": ["{call}"], "action": "SCMP_ACT_ALLOW"}}]}}"#
                );
                if !ids(&text).contains(id) {
                    missed.push(format!("{call}: no `{id}`, see {}", peer.source));
                }
            }
        }
    }
    for (check, source, id, text) in TOGETHER {
        if !ids(text).contains(id) {
            missed.push(format!("{check}: no `{id}`, see {source}"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// What is said to have no counterpart has none: a profile of that call alone gives nothing about it.
#[test]
fn what_has_no_counterpart_is_written_down() {
    let of = |call: &str| {
        ids(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{{"names": ["{call}"], "action": "SCMP_ACT_ALLOW"}}]}}"#
        ))
    };
    let nothing = of("getpid");
    for call in ["getrandom", "io_uring_enter", "io_uring_register"] {
        assert_eq!(of(call), nothing, "{call}");
        assert!(WITHOUT.iter().any(|(check, why)| check.contains(call) && !why.is_empty()), "{call}");
    }
}
