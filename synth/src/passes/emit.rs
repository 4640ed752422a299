//! emit: plain OCI JSON, which loads unchanged in runc, crun, containerd, Docker, Podman and Kubernetes.

use std::collections::BTreeSet;

use trace::{Abi, Errno};

use super::layout::Layout;
use crate::{
    finding::Finding,
    passes::{guard::calls, observe::Observed},
    profile::{Action, Architecture, Entry, Profile},
    rules::Rules,
    synthesize::DefaultAction,
};

/// The first call that C libraries and runtimes probe for and replace on `ENOSYS` only: `pidfd_send_signal`,
/// where the numbers of all architectures were unified (Linux 5.1).
const FIRST_PROBED: u32 = 424;

/// Every call that is newer than programs may expect and not allowed says `ENOSYS`: `EPERM` would be taken for
/// an answer. crun and youki have no stub for that, and runc's ends at the highest number that a profile names.
/// A probe keeps the errno that it had.
pub(crate) fn refusals(mut rules: Rules, seen: Observed<'_>, abis: &BTreeSet<Abi>) -> Rules {
    let allowed = std::mem::take(&mut rules.allowed);
    rules.refused.retain(|name, _| !allowed.contains_key(name));
    for (syscall, errno) in rules.refused.clone() {
        let (calls, _) = calls(seen, &syscall);
        rules.findings.insert(Finding::ProbeRefused { syscall, errno: errno.to_string(), calls });
    }
    for abi in abis {
        // x32 has numbers of its own from 512 on, which are old calls.
        for number in abi.numbers().filter(|number| (FIRST_PROBED..512).contains(number)) {
            let name = abi.name(number).to_string();
            if !allowed.contains_key(&name) {
                rules.refused.entry(name).or_insert(Errno::ENOSYS);
            }
        }
    }
    Rules { allowed, ..rules }
}

/// The profile.
pub(crate) fn emit(layout: &Layout, default: DefaultAction, native: Abi, abis: &BTreeSet<Abi>) -> Profile {
    let (default_action, default_errno_ret) = match default {
        DefaultAction::Errno => (Action::Errno, Some(Errno::EPERM.number())),
        DefaultAction::Log => (Action::Log, None),
    };
    let allow = |names: Vec<String>, args| Entry { names, action: Action::Allow, errno_ret: None, args };
    let mut syscalls = Vec::new();
    if !layout.always.is_empty() {
        syscalls.push(allow(layout.always.iter().cloned().collect(), Vec::new()));
    }
    for (name, clauses) in &layout.conditional {
        for clause in clauses {
            syscalls.push(allow(vec![name.clone()], clause.conditions()));
        }
    }
    if !layout.enosys.is_empty() {
        syscalls.push(Entry {
            names: layout.enosys.iter().cloned().collect(),
            action: Action::Errno,
            errno_ret: Some(Errno::ENOSYS.number()),
            args: Vec::new(),
        });
    }
    // The machine's own first, as engines write it.
    let others = abis.iter().filter(|abi| **abi != native);
    let architectures = abis.get(&native).into_iter().chain(others).map(|abi| Architecture::from(*abi));
    Profile {
        default_action,
        default_errno_ret,
        architectures: architectures.collect(),
        flags: None,
        listener_path: None,
        listener_metadata: None,
        syscalls,
    }
}
