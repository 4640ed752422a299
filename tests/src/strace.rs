//! strace as the oracle: the set of calls that it sees of the same processes in the same run.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::{Command, Stdio},
};

use trace::Abi;

/// Calls by ABI and name.
pub type Calls = BTreeSet<(Abi, String)>;

/// What strace saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Calls that were entered.
    pub calls: Calls,
    /// Of these, the ones that were seen only in tasks that died in them: strace stops a task before the kernel's
    /// own entry work, where a fatal signal turns it away, so the kernel may never have entered them.
    pub only_unfinished: Calls,
    /// Of these, the ones that were interrupted to be restarted.
    pub restarted: Calls,
}

/// Runs a command below strace, with the tracee alone in the cgroup if there is one.
pub fn follow(command: &[String], cgroup: Option<&Path>, folder: &Path) -> (Seen, bool) {
    let log = folder.join("strace.log");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-n", "-qq", "-o"]).arg(&log).arg("--");
    if let Some(cgroup) = cgroup {
        strace.arg(crate::cli::own_program("enter-cgroup")).arg(cgroup);
    }
    let status =
        strace.args(command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
    (parse(&text, cgroup.is_some()), status.unwrap().success())
}

/// Reads a log of `strace -f`. With `entered`, everything before the second exec is that of the helper which
/// enters the cgroup.
pub fn parse(log: &str, entered: bool) -> Seen {
    let mut execs_to_skip = usize::from(entered);
    let mut mode: BTreeMap<&str, Abi> = BTreeMap::new();
    let mut open: BTreeMap<&str, (Abi, String)> = BTreeMap::new();
    let mut finished = Calls::new();
    let mut seen = Seen::default();
    for line in log.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        // "[  59] execve(…": the number tells the ABI, except where all of them share it.
        let (number, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            Some((number, rest)) => (number.trim().parse::<u32>().ok(), rest),
            None => (None, rest),
        };
        if let Some(resumed) = rest.strip_prefix("<... ") {
            if let Some(call) = open.remove(pid) {
                if resumed.contains("ERESTART") {
                    seen.restarted.insert(call.clone());
                }
                finished.insert(call);
            }
            continue;
        }
        let Some((name, arguments)) = rest.split_once('(') else { continue };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue;
        }
        if execs_to_skip > 0 || (entered && seen.calls.is_empty()) {
            if name != "execve" {
                continue;
            }
            if execs_to_skip > 0 {
                execs_to_skip -= 1;
                continue;
            }
        }
        let named = |abi: &Abi| number.is_some_and(|number| abi.number(name) == Some(number));
        let abi = match (named(&Abi::X86_64), named(&Abi::I386)) {
            (true, false) => Abi::X86_64,
            (false, true) => Abi::I386,
            _ => mode.get(pid).copied().unwrap_or(Abi::X86_64),
        };
        mode.insert(pid, abi);
        // strace names by number what its tables do not have; both sides are brought to the same name.
        let name = match name.strip_prefix("syscall_0x").and_then(|hex| u32::from_str_radix(hex, 16).ok()) {
            Some(number) => abi.name(number).to_string(),
            None => name.to_owned(),
        };
        let call = (abi, kernel_name(abi, &name).to_owned());
        seen.calls.insert(call.clone());
        if arguments.contains("ERESTART") {
            seen.restarted.insert(call.clone());
        }
        if arguments.ends_with("<unfinished ...>") {
            open.insert(pid, call);
        } else {
            finished.insert(call);
        }
    }
    seen.only_unfinished = &seen.calls - &finished;
    seen
}

/// strace prints some calls under glibc's name.
fn kernel_name(abi: Abi, name: &str) -> &str {
    match (abi, name) {
        (_, "umount") if abi == Abi::X86_64 => "umount2",
        (Abi::I386, "fcntl64") if abi.number("fcntl64").is_none() => "fcntl",
        _ => name,
    }
}

/// The calls in which runs of this command differ among themselves.
pub fn varying(command: &[String], folder: &Path, runs: usize) -> Calls {
    let sets: Vec<Calls> = (0..runs).map(|_| follow(command, None, folder).0.calls).collect();
    let all: Calls = sets.iter().flatten().cloned().collect();
    all.into_iter().filter(|call| !sets.iter().all(|set| set.contains(call))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read() {
        let log = "1 [  59] execve(\"/enter\", [\"enter\"]) = 0\n1 [   1] write(3, \"0\", 1) = 1\n\
                   1 [  59] execve(\"/x\", [\"x\"]) = 0\n1 [  45] brk(NULL) = 0\n\
                   2 [ 202] futex(0x1, FUTEX_WAIT <unfinished ...>\n1 [ 162] nanosleep(0x1 <unfinished ...>\n\
                   1 [ 162] <... nanosleep resumed>) = ? ERESTART_RESTARTBLOCK (x)\n1 [ 439] faccessat2(0) = 0\n\
                   1 --- SIGCHLD {si_signo=SIGCHLD} ---\n1 [ 252] exit_group(0) = ?\n1 +++ exited with 0 +++\n";
        let seen = parse(log, true);
        let names: Vec<String> = seen.calls.iter().map(|(abi, name)| format!("{abi} {name}")).collect();
        assert_eq!(
            names,
            [
                "x86_64 execve",
                "x86_64 futex",
                "i386 brk",
                "i386 exit_group",
                "i386 faccessat2",
                "i386 nanosleep"
            ]
        );
        assert_eq!(seen.only_unfinished.len(), 1);
        assert_eq!(seen.restarted.len(), 1);
    }
}
