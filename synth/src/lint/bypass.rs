//! Ways around what a filter refuses: other calls, other ABIs, and halves of registers that the kernel does not read.

use std::collections::{BTreeMap, BTreeSet};

use trace::{Abi, Errno};

use super::{
    Lint, Severity,
    answers::default_of,
    subject::{Subject, found, list},
};
use crate::{
    arguments::is_narrow,
    decision::Verdict as Decided,
    decode,
    profile::{Condition, Operator},
    reach::Found,
    simulate::Verdict,
};

/// What a ring's operations do as well: `enum io_uring_op`, include/uapi/linux/io_uring.h, and `IORING_OP_URING_CMD`.
const BY_RING: &str = "accept accept4 bind close connect epoll_ctl epoll_wait fadvise64 fallocate fgetxattr fsetxattr \
                       fsync ftruncate futex futex_waitv getsockopt getxattr ioctl linkat listen madvise mkdirat open \
                       openat openat2 pipe2 poll read readv recvfrom recvmsg renameat renameat2 send sendmsg sendto \
                       setsockopt setxattr shutdown socket splice statx symlinkat sync_file_range tee unlinkat waitid \
                       write writev";

/// Calls that do the same: what is refused of one can be had by another. With `true`, also as far as their arguments
/// mean the same, so that what is refused of one with some arguments can be had by another with these.
const SAME: [(&str, bool, &str); 15] = [
    ("running programs", false, "execve execveat"),
    ("opening files", true, "open openat openat2 creat"),
    ("reading", false, "read readv pread64 preadv preadv2"),
    ("writing", false, "write writev pwrite64 pwritev pwritev2 sendfile"),
    ("making processes", false, "fork vfork clone clone3"),
    ("flags of new processes", true, "clone clone3"),
    ("reading other processes", false, "ptrace process_vm_readv pidfd_getfd"),
    ("sending", true, "sendto sendmsg sendmmsg"),
    ("receiving", true, "recvfrom recvmsg recvmmsg"),
    ("accepting connections", false, "accept accept4"),
    ("signalling", true, "kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal"),
    ("changing permissions", true, "chmod fchmod fchmodat fchmodat2"),
    ("changing owners", false, "chown lchown fchown fchownat"),
    ("making device nodes", true, "mknod mknodat"),
    ("changing memory's protection", true, "mprotect pkey_mprotect"),
];

/// What 32-bit x86 has one call for, by its operation: include/uapi/linux/net.h, include/uapi/linux/ipc.h; 0 where the
/// call has none. The upper half of ipc's is a version.
const MULTIPLEXERS: [(&str, &[(u64, &str)]); 3] = [
    (
        "socketcall",
        &[
            (1, "socket"),
            (2, "bind"),
            (3, "connect"),
            (4, "listen"),
            (5, "accept"),
            (8, "socketpair"),
            (11, "sendto"),
            (12, "recvfrom"),
            (14, "setsockopt"),
            (15, "getsockopt"),
            (16, "sendmsg"),
            (17, "recvmsg"),
            (18, "accept4"),
            (19, "recvmmsg"),
            (20, "sendmmsg"),
        ],
    ),
    (
        "ipc",
        &[
            (1, "semop"),
            (2, "semget"),
            (3, "semctl"),
            (4, "semtimedop"),
            (11, "msgsnd"),
            (12, "msgrcv"),
            (13, "msgget"),
            (14, "msgctl"),
            (21, "shmat"),
            (23, "shmget"),
            (24, "shmctl"),
        ],
    ),
    ("mmap", &[(0, "mmap")]),
];

/// More conditions on one call than people write: the first are looked at.
const MOST_CONDITIONS: usize = 256;

/// More examples than a sentence bears.
const MOST: usize = 4;

pub(super) fn bypasses(subject: &Subject<'_>) -> Vec<Lint> {
    let mut lints = Vec::new();
    lints.extend(ring(subject));
    lints.extend(foreign(subject));
    lints.extend(unseen(subject));
    lints.extend(same(subject));
    lints.extend(halves(subject));
    lints
}

/// Whether some arguments of the call are known to be refused.
fn is_limited(subject: &Subject<'_>, name: &str) -> bool {
    subject.reach.refuses(subject.native(), name) == Found::Yes
}

/// Whether no arguments of the call are refused.
fn is_open(subject: &Subject<'_>, name: &str) -> bool {
    subject.reach.refuses(subject.native(), name) == Found::No
}

fn ring(subject: &Subject<'_>) -> Option<Lint> {
    subject.passes_anywhere("io_uring_setup", &[])?;
    let calls = ["io_uring_setup", "io_uring_enter", "io_uring_register"];
    let calls: Vec<&str> =
        calls.into_iter().filter(|name| subject.passes_anywhere(name, &[]).is_some()).collect();
    let void: Vec<&str> = BY_RING.split_whitespace().filter(|name| is_limited(subject, name)).collect();
    let sockets = void.contains(&"socket") || void.contains(&"connect");
    let (severity, title) = match (void.is_empty(), sockets) {
        (true, _) => (Severity::Review, "It can use io_uring"),
        (false, true) => (Severity::Danger, "io_uring stands next to a ban on sockets, and gets past it"),
        (false, false) => (Severity::Danger, "io_uring gets past what is refused"),
    };
    let around = if void.is_empty() {
        String::new()
    } else {
        format!("; so what the profile refuses of {} is void", list(void.iter().copied()))
    };
    Some(found(
        ("io-uring", severity),
        title,
        format!(
            "a ring's operations open, connect and send without a call that a filter sees{around}. The code had many \
             exploitable bugs, and engines' defaults refuse it{}",
            subject.needed_by_all(calls.iter().map(|name| (*name, [].as_slice())))
        ),
        calls,
        "refuse the three with ENOSYS: libraries that try io_uring fall back on epoll",
    ))
}

/// The calls of a foreign ABI that are carried out, or of which that could not be told.
fn carried_out(subject: &Subject<'_>, abi: Abi) -> Vec<String> {
    let executes = |number: &u32| subject.reach.find(abi, *number, &[], Verdict::executes) != Found::No;
    abi.numbers().filter(executes).map(|number| abi.name(number).to_string()).collect()
}

fn foreign(subject: &Subject<'_>) -> Vec<Lint> {
    let others = subject.reach.abis().iter().copied().filter(|abi| *abi != subject.native());
    others
        .filter_map(|abi| {
            let passing = carried_out(subject, abi);
            if passing.is_empty() {
                return None;
            }
            let observed = |evidence: &crate::evidence::Evidence| {
                evidence.rules.iter().any(|rule| rule.observed_in.contains(&abi))
            };
            let (severity, seen) = match subject.evidence.map(observed) {
                Some(true) => (Severity::Note, ". The workload was seen to use it"),
                Some(false) => (Severity::Review, ". The workload was not seen to use it"),
                None => (Severity::Review, ""),
            };
            let id = if abi == Abi::X32 { "x32-abi" } else { "foreign-abi" };
            let why = match abi {
                Abi::X32 => {
                    "x32 is a third table of numbers that nearly nothing uses, off in most distributions' kernels"
                }
                _ => "its entry code and its copies of calls are tested least, and bugs of their own were found there",
            };
            let architecture = abi.scmp_arch();
            Some(found(
                (id, severity),
                format!("Calls of the {abi} ABI pass"),
                format!("{} of its calls are carried out, at least with some arguments: {why}{seen}", passing.len()),
                [],
                format!("leave `{architecture}` out of the architectures: its calls then end the program"),
            ))
        })
        .collect()
}

/// Calls of 32-bit x86 that stand for others, whose arguments they take from memory.
fn unseen(subject: &Subject<'_>) -> Option<Lint> {
    if subject.native() != Abi::X86_64 {
        return None;
    }
    let mut calls: BTreeSet<&str> = BTreeSet::new();
    let mut void: BTreeSet<&str> = BTreeSet::new();
    for (name, operations) in MULTIPLEXERS {
        for (operation, of) in operations {
            let asked = Condition {
                index: 0,
                value: u64::from(u16::MAX),
                value_two: *operation,
                op: Operator::MaskedEq,
            };
            let conditions = if *operation == 0 { &[][..] } else { &[asked][..] };
            if is_limited(subject, of) && subject.reach.passes(Abi::I386, name, conditions) != Found::No {
                calls.insert(name);
                void.insert(of);
            }
        }
    }
    (!calls.is_empty()).then(|| {
        found(
            ("unseen-arguments", Severity::Danger),
            "32-bit x86 passes arguments in memory, past the conditions",
            format!(
                "through the i386 ABI {} take their arguments from memory, so that what is refused of {} passes there",
                list(calls.iter().copied()),
                list(void.iter().copied())
            ),
            calls,
            "leave `SCMP_ARCH_X86` out of the architectures",
        )
    })
}

/// Calls that are refused, or tested, on purpose, where another one that does the same is not.
fn same(subject: &Subject<'_>) -> Vec<Lint> {
    let default = default_of(subject);
    let mut lints = Vec::new();
    for (what, by_arguments, group) in SAME {
        let members = || group.split_whitespace().filter(|name| subject.native().number(name).is_some());
        let banned: Vec<&str> = members().filter(|name| is_banned(subject, name, default)).collect();
        let tested: Vec<&str> =
            members().filter(|name| is_limited(subject, name) && subject.passes(name, &[])).collect();
        let open: Vec<&str> = members().filter(|name| is_open(subject, name)).collect();
        let passing: Vec<&str> = members().filter(|name| subject.passes(name, &[])).collect();
        let (severity, limited, around, how) = if !banned.is_empty() && !passing.is_empty() {
            (Severity::Danger, banned, passing, "refused on purpose")
        } else if by_arguments && !tested.is_empty() && !open.is_empty() {
            (Severity::Review, tested, open, "only allowed with some arguments")
        } else {
            continue;
        };
        let (limited_text, around_text) = (list(limited.iter().copied()), list(around.iter().copied()));
        lints.push(found(
            ("way-around", severity),
            format!("{}: {limited_text} can be got around", capital(what)),
            format!("{limited_text}: {how}, and {around_text} can do the same"),
            limited.iter().chain(&around).copied(),
            format!("refuse {around_text} in the same way, or drop the pretence"),
        ));
    }
    lints
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Whether the call is never carried out because someone said so: a decision, or an answer that is neither the
/// default's nor the one that makes programs fall back.
fn is_banned(subject: &Subject<'_>, name: &str, default: Verdict) -> bool {
    let Some(number) = subject.native().number(name) else { return false };
    let ways = subject.reach.ways(subject.native(), number, &[]).unwrap_or_default();
    if ways.is_empty() || ways.iter().any(|way| way.verdict.executes()) {
        return false;
    }
    let decided = subject.evidence.is_some_and(|evidence| {
        let decisions = evidence.options.decisions.iter();
        decisions
            .into_iter()
            .any(|own| own.verdict == Decided::Deny && own.syscall == name && own.when == "always")
    });
    let falls_back = Verdict::Errno(Errno::ENOSYS.number());
    decided || ways.iter().all(|way| way.verdict != default && way.verdict != falls_back)
}

/// Comparisons of 64 bits where the kernel reads 32.
fn halves(subject: &Subject<'_>) -> Vec<Lint> {
    let mut bypassed: Vec<(String, String)> = Vec::new();
    // Each with whether the sign alone would do.
    let mut refused: BTreeMap<String, bool> = BTreeMap::new();
    let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in &subject.profile.syscalls {
        for name in &entry.names {
            for condition in &entry.args {
                let asked = asked.entry(name).or_default();
                *asked += 1;
                if *asked > MOST_CONDITIONS {
                    continue;
                }
                match half(subject, name, condition) {
                    Some(Half::Bypass(call)) if bypassed.iter().all(|(own, _)| own != name) => {
                        bypassed.push((name.clone(), call));
                    }
                    Some(Half::Refused { by_sign }) => {
                        *refused.entry(name.clone()).or_default() |= by_sign;
                    }
                    _ => {}
                }
            }
        }
    }
    let mut lints = Vec::new();
    if !bypassed.is_empty() {
        let examples: Vec<&str> = bypassed.iter().take(MOST).map(|(_, call)| call.as_str()).collect();
        lints.push(found(
            ("upper-half-bypass", Severity::Danger),
            "What is refused passes with something in the upper half of a register",
            format!(
                "seccomp compares 64 bits, and the kernel reads the lower 32 of these arguments: {}",
                examples.join("; ")
            ),
            bypassed.iter().map(|(name, _)| name.as_str()),
            "compare with SCMP_CMP_MASKED_EQ and the mask 0xffffffff, and name what is allowed instead of what is not",
        ));
    }
    if !refused.is_empty() {
        // Garbage is rare; a sign is what a C library makes of an int.
        let by_sign = refused.values().any(|by_sign| *by_sign);
        let severity = if by_sign { Severity::Review } else { Severity::Note };
        lints.push(found(
            ("upper-half-refused", severity),
            "What is allowed is refused with something in the upper half of a register",
            format!(
                "seccomp compares 64 bits, and the kernel reads the lower 32: some C libraries (musl's ioctl) leave \
                 the sign or garbage above, and the same call is then refused: {}",
                list(refused.keys().map(String::as_str))
            ),
            refused.keys().map(String::as_str),
            "compare with SCMP_CMP_MASKED_EQ and the mask 0xffffffff",
        ));
    }
    lints
}

enum Half {
    /// A call, in words, that passes only because of its upper half.
    Bypass(String),
    /// It passes with an empty upper half only.
    Refused {
        /// The lower half is negative, so that C libraries may fill the upper one with its sign.
        by_sign: bool,
    },
}

/// What a condition's value does with and without an upper half, by the filter.
fn half(subject: &Subject<'_>, name: &str, condition: &Condition) -> Option<Half> {
    let (native, low) = (subject.native(), u64::from(u32::MAX));
    let number = native.number(name)?;
    let index = condition.index;
    if condition.op == Operator::MaskedEq && condition.value <= low || !is_narrow(name, index) {
        return None;
    }
    let pinned = match condition.op {
        Operator::MaskedEq => condition.value_two & condition.value,
        _ => condition.value,
    };
    // The values at which the comparison may turn.
    for value in [pinned, pinned.wrapping_sub(1), pinned.wrapping_add(1)].map(|value| value & low) {
        let at = |mask, value| Condition { index, value: mask, value_two: value, op: Operator::MaskedEq };
        let plain = at(u64::MAX, value);
        let ways = subject.reach.ways(native, number, &[plain])?;
        for way in ways.iter().filter(|way| !way.verdict.executes()) {
            let mut call = way.example;
            let slot = call.get_mut(usize::try_from(index).ok()?)?;
            *slot |= 1 << 32;
            if subject.reach.answers(native, number, call).is_some_and(Verdict::executes) {
                let words = decode::call(native, name, &call, &decode::Context::default());
                return Some(Half::Bypass(format!("`{words}`")));
            }
        }
        let never_above = |upper: u64| {
            let above = at(u64::MAX, value | upper << 32);
            subject.reach.find(native, number, &[above], Verdict::executes) == Found::No
        };
        if ways.iter().any(|way| way.verdict.executes()) && never_above(1) && never_above(low) {
            return Some(Half::Refused { by_sign: value >> 31 == 1 });
        }
    }
    None
}
