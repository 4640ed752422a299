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

/// A call as strace saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub abi: Abi,
    pub name: String,
    /// What stands between the parentheses.
    pub arguments: String,
    /// Whether strace saw it return; what ends a task or dies with it never does.
    pub finished: bool,
    /// Whether it was interrupted to be restarted.
    pub restarted: bool,
}

/// Calls whose structs are read, so that strace has to decode them; of all others it shows the registers.
const DECODED: &str = "execve,clone3,io_uring_setup,perf_event_open";

/// strace with the options that [`calls`] reads, without a command.
pub fn command(log: &Path, registers: bool) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-n", "-qq", "-o"]).arg(log);
    if registers {
        strace.args(["-X", "raw", "-e", &format!("raw=!{DECODED}")]);
    }
    strace.arg("--");
    strace
}

/// Runs a command below strace, with the tracee alone in the cgroup if there is one.
pub fn follow(command: &[String], cgroup: Option<&Path>, folder: &Path) -> (Seen, bool) {
    let (calls, well) = follow_calls(command, cgroup, folder, false);
    (Seen::of(&calls), well)
}

/// The same, with every call; on request with what was in the registers.
pub fn follow_calls(
    command: &[String],
    cgroup: Option<&Path>,
    folder: &Path,
    registers: bool,
) -> (Vec<Call>, bool) {
    let log = folder.join("strace.log");
    let mut strace = self::command(&log, registers);
    if let Some(cgroup) = cgroup {
        strace.arg(crate::cli::own_program("enter-cgroup")).arg(cgroup);
    }
    let status =
        strace.args(command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
    (calls(&text, cgroup.map(|_| command[0].as_str())), status.unwrap().success())
}

impl Seen {
    /// What these calls come to.
    pub fn of(calls: &[Call]) -> Self {
        let those = |which: fn(&Call) -> bool| -> Calls {
            let calls = calls.iter().filter(|call| which(call));
            calls.map(|call| (call.abi, call.name.clone())).collect()
        };
        let all = those(|_| true);
        let finished = those(|call| call.finished);
        Self { only_unfinished: &all - &finished, restarted: those(|call| call.restarted), calls: all }
    }
}

/// A line's process, and what it says without the number of the call, which is apart.
fn line(line: &str) -> Option<(&str, Option<u32>, &str)> {
    let (pid, rest) = line.split_once(' ')?;
    let rest = rest.trim_start();
    // "[  59] execve(…": the number tells the ABI, except where all of them share it.
    Some(match rest.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((number, rest)) => (pid, number.trim().parse().ok(), rest),
        None => (pid, None, rest),
    })
}

/// The tasks that one and its descendants started in these lines, and itself.
fn family<'log>(lines: &[&'log str], head: &str) -> BTreeSet<&'log str> {
    let mut family = BTreeSet::from([head.to_owned()]);
    let edges: Vec<(&str, String)> = lines
        .iter()
        .filter_map(|text| {
            let (pid, _, rest) = line(text)?;
            let call = rest.strip_prefix("<... ").unwrap_or(rest);
            ["clone", "fork", "vfork"].iter().any(|name| call.starts_with(name)).then_some(())?;
            let child = rest.rsplit_once(" = ")?.1;
            Some((pid, number(child)?.to_string()))
        })
        .collect();
    // A child may be named after it was first seen, and its own children before that.
    loop {
        let before = family.len();
        let new: Vec<String> =
            edges.iter().filter(|(pid, _)| family.contains(*pid)).map(|(_, child)| child.clone()).collect();
        family.extend(new);
        if family.len() == before {
            let pids = lines.iter().filter_map(|text| text.split_once(' ')).map(|(pid, _)| pid);
            return pids.filter(|pid| family.contains(*pid)).collect();
        }
    }
}

/// What stands before the parenthesis that ends the arguments.
fn entered(text: &str) -> &str {
    let inner = text.rsplit_once(" = ").map_or(text, |(inner, _)| inner).trim_end();
    inner.strip_suffix(')').unwrap_or(inner)
}

/// A number as strace writes one, `0` or `0x7f` or `42`.
pub fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Reads a log of `strace -f -n`. With `from`, only the first process that execs this path, from then on, and its
/// descendants.
pub fn calls(log: &str, from: Option<&str>) -> Vec<Call> {
    let start = from.map(|path| format!("execve(\"{path}\""));
    let is_start = |text: &&str| {
        start.as_ref().is_none_or(|start| line(text).is_some_and(|(.., rest)| rest.starts_with(start)))
    };
    let lines: Vec<&str> = log.lines().skip_while(|text| !is_start(text)).collect();
    let head = lines.first().and_then(|text| line(text)).map_or("", |(pid, ..)| pid);
    let family = start.is_some().then(|| family(&lines, head));
    let mut mode: BTreeMap<&str, Abi> = BTreeMap::new();
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    let mut calls: Vec<Call> = Vec::new();
    for text in lines {
        let Some((pid, number, rest)) = line(text) else { continue };
        if family.as_ref().is_some_and(|family| !family.contains(pid)) {
            continue;
        }
        if let Some(resumed) = rest.strip_prefix("<... ") {
            if let Some(call) = open.remove(pid).map(|index| &mut calls[index]) {
                call.restarted = resumed.contains("ERESTART");
                call.finished = true;
                // Some structs are decoded only when the call returns.
                let rest = resumed.split_once("resumed>").map_or("", |(_, rest)| rest);
                call.arguments.push_str(entered(rest));
            }
            continue;
        }
        let Some((name, arguments)) = rest.split_once('(') else { continue };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue;
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
        let unfinished = arguments.strip_suffix("<unfinished ...>");
        if unfinished.is_some() {
            open.insert(pid, calls.len());
        }
        calls.push(Call {
            abi,
            name: kernel_name(abi, &name).to_owned(),
            arguments: unfinished.unwrap_or_else(|| entered(arguments)).trim_end().to_owned(),
            finished: unfinished.is_none(),
            restarted: arguments.contains("ERESTART"),
        });
    }
    calls
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
                   1 [  56] clone(NULL, 0x1200011 <unfinished ...>\n2 [ 202] futex(0x1, 0x80 <unfinished ...>\n\
                   1 [  56] <... clone resumed>) = 0x2\n3 [   0] read(0) = 0\n1 [ 162] nanosleep(0x1 <unfinished ...>\n\
                   1 [ 162] <... nanosleep resumed>) = ? ERESTART_RESTARTBLOCK (x)\n1 [ 439] faccessat2(0) = 0\n\
                   1 --- SIGCHLD {si_signo=SIGCHLD} ---\n1 [ 252] exit_group(0) = ?\n1 +++ exited with 0 +++\n";
        let calls = calls(log, Some("/x"));
        assert_eq!(calls[2].arguments, "NULL, 0x1200011");
        assert_eq!(calls[4].arguments, "0x1");
        let seen = Seen::of(&calls);
        let names: Vec<String> = seen.calls.iter().map(|(abi, name)| format!("{abi} {name}")).collect();
        assert_eq!(
            names,
            [
                "x86_64 clone",
                "x86_64 execve",
                "x86_64 futex",
                "i386 brk",
                "i386 exit_group",
                "i386 faccessat2",
                "i386 nanosleep"
            ]
        );
        assert_eq!(seen.only_unfinished, Calls::from([(Abi::X86_64, "futex".to_owned())]));
        assert_eq!(seen.restarted.len(), 1);
    }
}
