//! What no filter can see, as far as it concerns a profile: seccomp has the number of a call and six registers, and
//! nothing of what they point to.

use std::collections::BTreeSet;

use super::{
    Input,
    model::{Blind, Rule},
};
use crate::nvidia;

/// Something that a filter cannot see.
struct Limit {
    id: &'static str,
    title: &'static str,
    detail: &'static str,
    /// The calls that it is about; of these at least one must be allowed for it to concern a profile.
    calls: &'static [&'static str],
    instead: &'static str,
}

/// Ordered by how often they are asked about. Source: seccomp_data in linux/seccomp.h, seccomp_unotify(2) on what is
/// behind a pointer, clone(2) on struct `clone_args`.
const LIMITS: &[Limit] = &[
    Limit {
        id: "paths",
        title: "Which file",
        detail: "A path is behind a pointer. The filter sees that a file is opened, renamed or executed, not which one; and another thread may change the path after the filter has looked.",
        calls: &[
            "open",
            "openat",
            "openat2",
            "creat",
            "execve",
            "execveat",
            "rename",
            "renameat",
            "renameat2",
            "unlink",
            "unlinkat",
            "link",
            "linkat",
            "symlink",
            "symlinkat",
            "mkdir",
            "mkdirat",
            "chmod",
            "fchmodat",
            "fchmodat2",
            "chown",
            "fchownat",
            "truncate",
            "mknod",
            "mknodat",
        ],
        instead: "a read-only root file system, the image's own content, AppArmor, SELinux or Landlock",
    },
    Limit {
        id: "addresses",
        title: "Which address",
        detail: "The address of a connection is behind a pointer. The filter sees a socket's family and type, and that it is connected or sent on, not to whom.",
        calls: &["connect", "bind", "sendto", "sendmsg", "sendmmsg"],
        instead: "a network policy, or a network namespace without a way out",
    },
    Limit {
        id: "descriptors",
        title: "Which device or file a descriptor is",
        detail: "A descriptor is a number. A rule about ioctl allows a request on every descriptor that understands it: the same number may mean something else to another device.",
        calls: &["ioctl"],
        instead: "the devices that the container is given (device cgroup, CDI)",
    },
    Limit {
        id: "clone3",
        title: "The flags of clone3",
        detail: "clone3 takes its flags in a struct. A profile can allow it with any flags, namespaces included, or not at all.",
        calls: &["clone3"],
        instead: "answering it with ENOSYS: C libraries fall back to clone, whose flags are in a register",
    },
    Limit {
        id: "io-uring",
        title: "What is asked through io_uring",
        detail: "Requests are put into shared memory and carried out by the kernel without a call of their own: a filter that refuses connect or openat does not refuse them there.",
        calls: &["io_uring_setup", "io_uring_enter", "io_uring_register"],
        instead: "refusing io_uring_setup, or the sysctl kernel.io_uring_disabled",
    },
    Limit {
        id: "bpf",
        title: "What a bpf command does",
        detail: "The program and its type are behind a pointer.",
        calls: &["bpf"],
        instead: "not granting CAP_BPF and CAP_SYS_ADMIN, kernel.unprivileged_bpf_disabled",
    },
    Limit {
        id: "content",
        title: "What is written, and to which file",
        detail: "Data is behind a pointer: writing to a file under /proc or /sys, to a socket of a daemon or to a pipe is the same call.",
        calls: &["write", "writev", "pwrite64", "pwritev", "pwritev2", "sendfile", "splice"],
        instead: "which files, sockets and mounts the container is given; masked and read-only paths of /proc",
    },
    Limit {
        id: "passed",
        title: "Descriptors that are passed",
        detail: "A descriptor that another process opened comes in a message, and works whatever the filter says about opening.",
        calls: &["recvmsg", "recvmmsg", "pidfd_getfd"],
        instead: "which sockets the container shares with others",
    },
    Limit {
        id: "programs",
        title: "Which program is executed",
        detail: "execve is allowed for any program in the container, and the filter stays on it: what the workload never runs, a shell among it, can be run with the same calls.",
        calls: &["execve", "execveat"],
        instead: "an image without shells and tools, a file system without write or with noexec mounts",
    },
];

/// About the requests of NVIDIA's driver. Source: NVIDIA's open GPU kernel modules, `ctrl` and `alloc` structs.
const DRIVER: Limit = Limit {
    id: "gpu-commands",
    title: "What the GPU's driver is asked",
    detail: "The requests RM_CONTROL and RM_ALLOC carry a command or a class in a struct, hundreds of each; the filter sees only that there is one.",
    calls: &["ioctl"],
    instead: "a driver of a branch that gets security fixes, and no more of the devices than the workload needs",
};

/// About every profile.
const ALWAYS: [Limit; 2] = [
    Limit {
        id: "before",
        title: "What happens before the filter, and outside of it",
        detail: "The runtime sets the container up before it loads the filter, and hooks run outside of it; attacks that happen there are no calls of the workload's.",
        calls: &[],
        instead: "an up-to-date runtime, and images from a source that is trusted",
    },
    Limit {
        id: "allowed",
        title: "Faults in what is allowed",
        detail: "A call that is allowed reaches the kernel's code for it with all its faults.",
        calls: &[],
        instead: "kernel updates; a sandbox with a kernel of its own where that is not enough",
    },
];

/// What concerns this profile, in order.
pub(super) fn blind(input: &Input<'_>, rules: &[Rule]) -> Vec<Blind> {
    let allowed: BTreeSet<&str> = rules.iter().map(|rule| rule.syscall.as_str()).collect();
    let clone3 = input.profile.answers_enosys("clone3");
    let mut list: Vec<Blind> = Vec::new();
    for limit in LIMITS {
        let calls: Vec<&str> = limit.calls.iter().copied().filter(|call| allowed.contains(call)).collect();
        if !calls.is_empty() {
            list.push(limit.about(&calls));
        } else if limit.id == "clone3" && clone3 {
            let mut own = limit.about(&[]);
            own.detail = "clone3 takes its flags in a struct, so the profile answers it with ENOSYS: programs fall back to clone, whose flags it can see.".to_owned();
            own.instead = "nothing: it is taken care of".to_owned();
            list.push(own);
        }
        if limit.id == "descriptors" && asks_driver(input, rules) {
            list.push(DRIVER.about(&["ioctl"]));
        }
    }
    list.extend(ALWAYS.iter().map(|limit| limit.about(&[])));
    list
}

impl Limit {
    fn about(&self, calls: &[&str]) -> Blind {
        Blind {
            id: self.id.to_owned(),
            title: self.title.to_owned(),
            detail: self.detail.to_owned(),
            calls: calls.iter().map(|call| (*call).to_owned()).collect(),
            instead: self.instead.to_owned(),
        }
    }
}

/// Whether the profile allows ioctl without a condition, or with a request of NVIDIA's driver.
fn asks_driver(input: &Input<'_>, rules: &[Rule]) -> bool {
    let gpu = input.trace.and_then(|trace| trace.target.gpu).unwrap_or(false);
    let names: BTreeSet<&str> = nvidia::requests().iter().map(|request| request.name.as_str()).collect();
    let named = |text: &String| text.split([' ', ',', '{', '}']).any(|word| names.contains(word));
    gpu || rules
        .iter()
        .filter(|rule| rule.syscall == "ioctl")
        .flat_map(|rule| &rule.ways)
        .any(|way| way.words.iter().any(named))
}
