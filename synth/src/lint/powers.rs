//! What the calls that are let through can be used for, one row for each kind of power. A row is a lint if one of its
//! calls passes, in the machine's own ABI or in a foreign one.

use super::{
    Lint, Severity,
    subject::{Pattern, Subject, found, list, patterns, shown},
};

/// A kind of power.
struct Power {
    id: &'static str,
    severity: Severity,
    title: &'static str,
    /// The calls that give it, separated by `|`, each with the conditions under which it does.
    calls: &'static str,
    /// What it is good for.
    detail: &'static str,
    what_to_do: &'static str,
}

const POWERS: [Power; 30] = [
    Power {
        id: "user-namespaces",
        severity: Severity::Danger,
        title: "It can make user namespaces",
        // CLONE_NEWUSER
        calls: "unshare(arg0 & 0x10000000 == 0x10000000) | clone(arg0 & 0x10000000 == 0x10000000) | clone3",
        detail: "a new user namespace gives all capabilities inside it, and with them the kernel code that otherwise \
                 only root reaches: where most escapes of the last years began. clone3's flags are in memory, where \
                 no filter sees them",
        what_to_do: "refuse CLONE_NEWUSER, and answer clone3 with ENOSYS: C libraries then call clone, whose flags a \
                     rule can test",
    },
    Power {
        id: "namespaces",
        severity: Severity::Review,
        title: "It can make or enter namespaces",
        // CLONE_NEWTIME to CLONE_NEWNET
        calls: "unshare(arg0 & 0x80 == 0x80) | unshare(arg0 & 0x20000 == 0x20000) | \
                unshare(arg0 & 0x2000000 == 0x2000000) | unshare(arg0 & 0x4000000 == 0x4000000) | \
                unshare(arg0 & 0x8000000 == 0x8000000) | unshare(arg0 & 0x20000000 == 0x20000000) | \
                unshare(arg0 & 0x40000000 == 0x40000000) | clone(arg0 & 0x20000 == 0x20000) | \
                clone(arg0 & 0x2000000 == 0x2000000) | clone(arg0 & 0x4000000 == 0x4000000) | \
                clone(arg0 & 0x8000000 == 0x8000000) | clone(arg0 & 0x20000000 == 0x20000000) | \
                clone(arg0 & 0x40000000 == 0x40000000) | setns",
        detail: "with CAP_SYS_ADMIN the process leaves or rebuilds the walls around it; setns with a descriptor of the \
                 host's namespace is the way out of the container",
        what_to_do: "refuse setns and unshare, and test clone's flags, unless the workload makes containers",
    },
    Power {
        id: "mounts",
        severity: Severity::Danger,
        title: "It can mount",
        calls: "mount | umount | umount2 | pivot_root | move_mount | open_tree(arg2 & 0x1 == 0x1) | open_tree_attr | \
                fsopen | fsmount | fspick | fsconfig | mount_setattr",
        detail: "with CAP_SYS_ADMIN what is masked in /proc and /sys is uncovered and the host's devices are mounted; \
                 in a user namespace of its own it reaches the kernel code of file systems",
        what_to_do: "refuse the whole family; the older and the newer calls do the same",
    },
    Power {
        id: "file-handles",
        severity: Severity::Danger,
        title: "It can open files by inode, past all directories",
        calls: "open_by_handle_at",
        detail: "with CAP_DAC_READ_SEARCH every file of a mounted file system can be opened, the host's included",
        what_to_do: "refuse open_by_handle_at",
    },
    Power {
        id: "kernel-code",
        severity: Severity::Danger,
        title: "It can bring code into the kernel",
        calls: "init_module | finit_module | delete_module | kexec_load | kexec_file_load",
        detail: "with CAP_SYS_MODULE or CAP_SYS_BOOT that is the whole machine",
        what_to_do: "refuse them; drivers are loaded by the host",
    },
    Power {
        id: "bpf",
        severity: Severity::Danger,
        title: "It can load BPF programs",
        calls: "bpf",
        detail: "with CAP_BPF and CAP_PERFMON such programs read all memory and see all processes of the machine; \
                 without, where kernel.unprivileged_bpf_disabled is 0, the verifier's bugs are in reach",
        what_to_do: "refuse bpf",
    },
    Power {
        id: "perf-events",
        severity: Severity::Review,
        title: "It can open performance counters",
        calls: "perf_event_open",
        detail: "a large interface with many exploits in its past, and a clock for side channels",
        what_to_do: "refuse perf_event_open; profile outside of production",
    },
    Power {
        id: "userfaultfd",
        severity: Severity::Review,
        title: "It can stop the kernel at a page fault",
        calls: "userfaultfd",
        detail: "it makes races in the kernel easy to win, and is part of many exploits for that",
        what_to_do: "refuse userfaultfd, unless the workload moves live memory between machines",
    },
    Power {
        id: "keyrings",
        severity: Severity::Review,
        title: "It can use the kernel's key rings",
        calls: "keyctl | add_key | request_key",
        detail: "key rings are shared by containers that have no user namespace of their own, so keys of others can be \
                 found, and request_key starts a program outside of the container",
        what_to_do: "refuse the three",
    },
    Power {
        id: "ptrace",
        severity: Severity::Review,
        title: "It can trace processes",
        calls: "ptrace",
        detail: "a tracer reads and changes memory and registers of other processes of its user; before Linux 4.8 it \
                 also changed a call after the filter had let it pass, so that the whole filter was void",
        what_to_do: "refuse ptrace where nothing debugs; where something does, demand Linux 4.8",
    },
    Power {
        id: "other-processes",
        severity: Severity::Review,
        title: "It can reach into other processes",
        calls: "process_vm_readv | process_vm_writev | pidfd_getfd | process_madvise | kcmp",
        detail: "memory and descriptors of processes that it may trace: what a ban on ptrace is to keep from it, as far \
                 as the calls go",
        what_to_do: "refuse those that the workload was not seen to need",
    },
    Power {
        id: "wx-memory",
        severity: Severity::Review,
        title: "Memory can be writable and executable at once",
        // PROT_WRITE | PROT_EXEC; SHM_EXEC without SHM_RDONLY
        calls: "mmap(arg2 & 0x6 == 0x6) | mmap2(arg2 & 0x6 == 0x6) | mprotect(arg2 & 0x6 == 0x6) | \
                pkey_mprotect(arg2 & 0x6 == 0x6) | shmat(arg2 & 0x9000 == 0x8000)",
        detail: "an attacker who can write memory can run what was written",
        what_to_do: "refuse PROT_WRITE with PROT_EXEC; a just-in-time compiler can map the memory twice, or change its \
                     protection in turn",
    },
    Power {
        id: "late-exec",
        severity: Severity::Note,
        title: "Memory that was written can become executable",
        // PROT_EXEC without PROT_WRITE
        calls: "mprotect(arg2 & 0x6 == 0x4) | pkey_mprotect(arg2 & 0x6 == 0x4)",
        detail: "first written, then made executable: what just-in-time compilers do, and exploits after them",
        what_to_do: "refuse PROT_EXEC in mprotect where no code is made at run time; libraries are mapped executable by \
                     mmap",
    },
    Power {
        id: "personality",
        severity: Severity::Review,
        title: "It can switch off address randomization",
        // ADDR_NO_RANDOMIZE and READ_IMPLIES_EXEC; all ones only asks.
        calls: "personality(arg0 & 0x80040000 == 0x40000) | personality(arg0 & 0x80400000 == 0x400000)",
        detail: "what it runs then has known addresses (ADDR_NO_RANDOMIZE), or executable data (READ_IMPLIES_EXEC)",
        what_to_do: "allow only the values that were observed: 0 and 0xffffffff ask, 8 and 0x20000 are harmless",
    },
    Power {
        id: "terminal-injection",
        severity: Severity::Review,
        title: "It can type into its terminal",
        // TIOCSTI, TIOCLINUX
        calls: "ioctl(arg1 & 0xffffffff == 0x5412) | ioctl(arg1 & 0xffffffff == 0x541c)",
        detail: "where the terminal is shared with someone outside, what is typed into it runs there when the container \
                 has ended (CVE-2019-10063); kernels since 6.2 can switch TIOCSTI off (dev.tty.legacy_tiocsti)",
        what_to_do: "list the requests that the workload needs, compared over the lower 32 bits",
    },
    Power {
        id: "line-disciplines",
        severity: Severity::Review,
        title: "It can change a terminal's line discipline",
        // TIOCSETD
        calls: "ioctl(arg1 & 0xffffffff == 0x5423)",
        detail: "it loads drivers that little uses, several of which gave root (CVE-2017-2636, CVE-2020-14416)",
        what_to_do: "list the requests that the workload needs",
    },
    Power {
        id: "device-nodes",
        severity: Severity::Review,
        title: "It can make device nodes",
        // S_IFCHR, S_IFBLK
        calls: "mknod(arg1 & 0xf000 == 0x2000) | mknod(arg1 & 0xf000 == 0x6000) | mknodat(arg2 & 0xf000 == 0x2000) | \
                mknodat(arg2 & 0xf000 == 0x6000)",
        detail: "with CAP_MKNOD a node of any device; the device cgroup alone decides whether it can be opened",
        what_to_do: "allow named pipes and sockets only, or drop CAP_MKNOD",
    },
    Power {
        id: "set-user-id",
        severity: Severity::Note,
        title: "It can make set-user-id programs",
        // S_ISUID
        calls: "chmod(arg1 & 0x800 == 0x800) | fchmod(arg1 & 0x800 == 0x800) | fchmodat(arg2 & 0x800 == 0x800) | \
                fchmodat2(arg2 & 0x800 == 0x800)",
        detail: "on a volume that the host mounts too, such a program runs there with the rights of its owner",
        what_to_do: "mount volumes nosuid; or test the mode",
    },
    Power {
        id: "socket-families",
        severity: Severity::Review,
        title: "It can make sockets of little-used families",
        // AF_AX25, AF_IPX, AF_X25, AF_KEY, AF_PACKET, AF_RDS, AF_PPPOX, AF_LLC, AF_CAN, AF_TIPC, AF_BLUETOOTH,
        // AF_PHONET, AF_IEEE802154, AF_ALG, AF_NFC, AF_VSOCK, AF_KCM, AF_QIPCRTR, AF_SMC, AF_XDP
        calls: "socket(arg0 & 0xffffffff == 3) | socket(arg0 & 0xffffffff == 4) | socket(arg0 & 0xffffffff == 9) | \
                socket(arg0 & 0xffffffff == 15) | socket(arg0 & 0xffffffff == 17) | socket(arg0 & 0xffffffff == 21) | \
                socket(arg0 & 0xffffffff == 24) | socket(arg0 & 0xffffffff == 26) | socket(arg0 & 0xffffffff == 29) | \
                socket(arg0 & 0xffffffff == 30) | socket(arg0 & 0xffffffff == 31) | socket(arg0 & 0xffffffff == 35) | \
                socket(arg0 & 0xffffffff == 36) | socket(arg0 & 0xffffffff == 38) | socket(arg0 & 0xffffffff == 39) | \
                socket(arg0 & 0xffffffff == 40) | socket(arg0 & 0xffffffff == 41) | socket(arg0 & 0xffffffff == 42) | \
                socket(arg0 & 0xffffffff == 43) | socket(arg0 & 0xffffffff == 44)",
        detail: "the kernel loads a module for a family at the first socket; most bugs of this kind were in families \
                 that nobody here uses, and AF_VSOCK reaches the hypervisor past every network policy",
        what_to_do: "allow AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK, as far as the workload needs them",
    },
    Power {
        id: "raw-sockets",
        severity: Severity::Review,
        title: "It can make raw sockets",
        // SOCK_RAW of AF_INET and AF_INET6
        calls: "socket(arg0 & 0xffffffff == 2, arg1 & 0xf == 3) | socket(arg0 & 0xffffffff == 10, arg1 & 0xf == 3)",
        detail: "with CAP_NET_RAW, which engines give by default, it forges packets and answers for other addresses",
        what_to_do: "allow SOCK_STREAM and SOCK_DGRAM only, or drop CAP_NET_RAW",
    },
    Power {
        id: "netfilter-options",
        severity: Severity::Review,
        title: "It can set netfilter's tables",
        // IPT_SO_SET_REPLACE of SOL_IP and SOL_IPV6
        calls: "setsockopt(arg1 & 0xffffffff == 0, arg2 & 0xffffffff == 64) | \
                setsockopt(arg1 & 0xffffffff == 41, arg2 & 0xffffffff == 64)",
        detail: "needs CAP_NET_ADMIN, which a user namespace gives: how CVE-2021-22555 and its like were reached",
        what_to_do: "allow the levels and options of setsockopt that were observed",
    },
    Power {
        id: "futex-pi",
        severity: Severity::Note,
        title: "It can use the priority-inheriting futexes",
        // FUTEX_LOCK_PI, FUTEX_WAIT_REQUEUE_PI, FUTEX_CMP_REQUEUE_PI, FUTEX_LOCK_PI2, with FUTEX_PRIVATE_FLAG and
        // FUTEX_CLOCK_REALTIME or without
        calls: "futex(arg1 & 0xfffffe7f == 6) | futex(arg1 & 0xfffffe7f == 11) | futex(arg1 & 0xfffffe7f == 12) | \
                futex(arg1 & 0xfffffe7f == 13) | futex_time64(arg1 & 0xfffffe7f == 6) | \
                futex_time64(arg1 & 0xfffffe7f == 11) | futex_time64(arg1 & 0xfffffe7f == 12) | \
                futex_time64(arg1 & 0xfffffe7f == 13)",
        detail: "the operations behind CVE-2014-3153 and CVE-2021-3347; mutexes without PTHREAD_PRIO_INHERIT do not use \
                 them",
        what_to_do: "allow the operations that were observed",
    },
    Power {
        id: "nested-listener",
        severity: Severity::Note,
        title: "It can answer calls in the kernel's place",
        // SECCOMP_SET_MODE_FILTER with SECCOMP_FILTER_FLAG_NEW_LISTENER
        calls: "seccomp(arg0 & 0xffffffff == 1, arg1 & 0x8 == 0x8)",
        detail: "a filter of its own with a listener takes the calls of its children; what this profile refuses stays \
                 refused",
        what_to_do: "refuse SECCOMP_FILTER_FLAG_NEW_LISTENER, unless the workload runs sandboxes",
    },
    Power {
        id: "host-settings",
        severity: Severity::Review,
        title: "It can change the machine's settings",
        calls: "reboot | swapon | swapoff | acct | quotactl | quotactl_fd | sethostname | setdomainname | settimeofday | \
                stime | clock_settime | clock_settime64 | iopl | ioperm | syslog | vhangup",
        detail: "clock, name, swap, accounting, ports: each with its capability, and none a workload's business",
        what_to_do: "refuse them; the host sets these",
    },
    Power {
        id: "change-root",
        severity: Severity::Note,
        title: "It can change its root directory",
        calls: "chroot",
        detail: "with CAP_SYS_CHROOT, which engines give by default, what it starts sees other files under the paths that \
                 it trusts; a root that is changed is no wall for who is root inside",
        what_to_do: "refuse chroot, or drop CAP_SYS_CHROOT, unless the workload sets up roots of its own",
    },
    Power {
        id: "memory-placement",
        severity: Severity::Note,
        title: "It can say on which memory node pages lie",
        calls: "mbind | migrate_pages | move_pages | set_mempolicy",
        detail: "pages are pinned to a node that others need, and with CAP_SYS_NICE or over processes that it may trace \
                 those of others are moved; move_pages also tells where pages lie",
        what_to_do: "refuse those that were not observed; libraries for many memory nodes do without them",
    },
    Power {
        id: "old-x86",
        severity: Severity::Review,
        title: "It can use the old x86's segments and modes",
        calls: "modify_ldt | vm86 | vm86old | uselib",
        detail: "entry code of the kernel that little uses (CVE-2015-3290, CVE-2015-5157)",
        what_to_do: "refuse them, unless the workload runs Wine or DOS programs",
    },
    Power {
        id: "asynchronous-io",
        severity: Severity::Note,
        title: "It can do input and output past the filter, in the kernel's older way",
        calls: "io_submit",
        detail: "reads and writes of open files go through a queue that no filter sees; nothing can be opened by it",
        what_to_do: "refuse it where reads or writes are to be told apart by a filter",
    },
    Power {
        id: "everything-by-request",
        severity: Severity::Review,
        title: "Every ioctl request passes",
        // A request that no driver has.
        calls: "ioctl(arg1 & 0xffffffff == 0xdead5e1f)",
        detail: "all commands of every device that is open, the GPU's included, whatever they are",
        what_to_do: "list the requests that were observed; `seccomp-learn synth --arguments stable` does",
    },
    Power {
        id: "any-option",
        severity: Severity::Note,
        title: "Every prctl option passes",
        // An option that no kernel has.
        calls: "prctl(arg0 & 0xffffffff == 0xdead5e1f)",
        detail: "among them PR_SET_MM, PR_SET_DUMPABLE, PR_SET_SPECULATION_CTRL and the bounding set; they concern the \
                 process alone",
        what_to_do: "list the options that were observed; `seccomp-learn synth --arguments stable` does",
    },
];

pub(super) fn powers(subject: &Subject<'_>) -> Vec<Lint> {
    let mut lints: Vec<Lint> = POWERS.iter().filter_map(|power| one(subject, power)).collect();
    lints.extend(unnamed_files(subject));
    lints.extend(everyday(subject));
    lints
}

fn one(subject: &Subject<'_>, power: &Power) -> Option<Lint> {
    let patterns = patterns(power.calls);
    let passing: Vec<(&Pattern, String)> = patterns
        .iter()
        .filter_map(|pattern| {
            let (abi, is_told) = subject.passes_anywhere(pattern.name, &pattern.conditions)?;
            let untold = if is_told { "" } else { " (which could not be decided)" };
            Some((pattern, format!("{}{untold}", shown(abi, pattern))))
        })
        .collect();
    let calls = || passing.iter().map(|(pattern, _)| pattern.name);
    if passing.is_empty() {
        return None;
    }
    let evidence =
        subject.needed_by_all(passing.iter().map(|(own, _)| (own.name, own.conditions.as_slice())));
    let detail = format!("{}. What passes: {}{}", power.detail, some(&passing), evidence);
    Some(found((power.id, power.severity), power.title, detail, calls(), power.what_to_do))
}

/// The calls that pass, each once; beyond some the rest is counted.
fn some(passing: &[(&Pattern, String)]) -> String {
    const MOST: usize = 8;
    let mut texts: Vec<&str> = Vec::new();
    for (_, text) in passing {
        if !texts.contains(&text.as_str()) {
            texts.push(text);
        }
    }
    let more = texts.len().saturating_sub(MOST);
    let shown = texts.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// A program that is in no file system, and the call that runs it.
fn unnamed_files(subject: &Subject<'_>) -> Option<Lint> {
    // Without MFD_NOEXEC_SEAL.
    let files = patterns("memfd_create(arg1 & 0x8 == 0)");
    let makes = files.iter().any(|own| subject.passes(own.name, &own.conditions));
    // AT_EMPTY_PATH
    let by_descriptor = patterns("execveat(arg4 & 0x1000 == 0x1000)");
    let direct = by_descriptor.iter().any(|own| subject.passes(own.name, &own.conditions));
    let runs = subject.passes("execve", &[]);
    if !makes || !(direct || runs) {
        return None;
    }
    let (severity, how) = if direct {
        (Severity::Review, "`execveat` runs it by its descriptor")
    } else {
        (Severity::Note, "`execve` runs it by its name in /proc/self/fd")
    };
    let calls = if direct { ["memfd_create", "execveat"] } else { ["memfd_create", "execve"] };
    Some(found(
        ("unnamed-programs", severity),
        "It can run programs that are in no file system",
        format!(
            "`memfd_create` makes a file in memory, and {how}: past read-only images, noexec mounts and scanners of \
             files{}",
            subject.needed_by_all(calls.map(|name| (name, [].as_slice())))
        ),
        calls,
        "refuse memfd_create, or demand MFD_NOEXEC_SEAL (Linux 6.3; sysctl vm.memfd_noexec), where nothing needs it",
    ))
}

/// What nearly every program needs and every exploit ends with.
fn everyday(subject: &Subject<'_>) -> Option<Lint> {
    let passes = |name: &&str| subject.passes(name, &[]);
    let all = |names: &[&'static str]| names.iter().copied().filter(|name| passes(name)).collect::<Vec<_>>();
    let runs = all(&["execve", "execveat"]);
    let opens = all(&["open", "openat", "openat2"]);
    let reads = all(&["read", "readv", "pread64", "preadv", "preadv2", "mmap"]);
    let writes = all(&["write", "writev", "pwrite64", "pwritev", "pwritev2", "sendfile"]);
    let connects = all(&["connect", "sendto", "sendmsg", "sendmmsg"]);
    let signals = all(&["kill", "tkill", "tgkill"]);
    let mut can = Vec::new();
    let mut calls: Vec<&str> = Vec::new();
    let files = if opens.is_empty() || reads.is_empty() || writes.is_empty() {
        Vec::new()
    } else {
        [opens, reads, writes].concat()
    };
    for (names, what) in [
        (runs, "run any program that it finds"),
        (files, "read and write any file that it may open"),
        (connects, "send what it read to whom the network lets it reach"),
        (signals, "signal processes of its user"),
    ] {
        if !names.is_empty() {
            can.push(what);
            calls.extend(names);
        }
    }
    (!can.is_empty()).then(|| {
        found(
            ("everyday", Severity::Note),
            "What a filter leaves to mounts, users and networks",
            format!(
                "through {} it can {}. No filter can tell names and addresses apart",
                list(calls.iter().copied()),
                can.join(", ")
            ),
            calls,
            "make the image small and read-only, run as another user than root, and set a network policy",
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_reads_and_names_calls() {
        let mut ids = BTreeSet::new();
        for power in &POWERS {
            assert!(ids.insert(power.id), "{}", power.id);
            let read = patterns(power.calls);
            assert_eq!(read.len(), power.calls.split('|').count(), "{}", power.id);
            for pattern in read {
                assert!(crate::is_syscall(pattern.name), "{}", pattern.name);
            }
        }
    }
}
