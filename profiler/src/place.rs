//! Where the processes of a workload are, so that it is known when none is left, and who is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
};

use nix::{
    sys::{
        signal::{self, Signal},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

use crate::cgroup;

/// Where the processes of a workload are found.
#[derive(Clone, Debug)]
pub enum Place {
    /// In this cgroup and below.
    Cgroup(PathBuf),
    /// Among our own descendants: orphans are handed to us, see [`adopt_orphans`].
    Descendants,
    /// This process and its descendants.
    Process(u32),
    /// Nowhere that we look: whoever runs the workload for us knows when it is over.
    Elsewhere,
}

/// A process of a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub parent: u32,
    /// Its name.
    pub comm: String,
}

/// Makes this process the one to which orphans among its descendants are handed (`PR_SET_CHILD_SUBREAPER`), so
/// that without a cgroup a daemon of the workload is still found.
///
/// # Errors
/// When the kernel refuses.
pub fn adopt_orphans() -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true).map_err(Into::into)
}

impl Place {
    /// The processes that live there now, without zombies and without the descendants of `except` (a helper
    /// command of ours).
    ///
    /// # Errors
    /// When a cgroup cannot be read.
    pub fn processes(&self, except: Option<u32>) -> io::Result<Vec<Process>> {
        let pids: BTreeSet<u32> = match self {
            Self::Cgroup(path) => cgroup::processes(path)?.into_iter().collect(),
            Self::Descendants => {
                let all = all_processes();
                let mut ours = below(&all, std::process::id());
                // The process that ends the workload when we die is ours, not the workload's.
                ours.retain(|pid| !confine::is_keeper(*pid));
                if let Some(except) = except {
                    ours.remove(&except);
                    ours = &ours - &below(&all, except);
                }
                ours
            }
            Self::Process(pid) => {
                let all = all_processes();
                let mut tree = below(&all, *pid);
                if all.contains_key(pid) {
                    tree.insert(*pid);
                }
                tree
            }
            Self::Elsewhere => BTreeSet::new(),
        };
        Ok(pids.into_iter().filter_map(read_process).collect())
    }

    /// Sends a signal to the heads of the workload: the processes there whose parent is not there.
    pub fn signal_heads(&self, except: Option<u32>, signal: Signal) -> io::Result<Vec<Process>> {
        let processes = self.processes(except)?;
        let pids: BTreeSet<u32> = processes.iter().map(|process| process.pid).collect();
        let heads: Vec<Process> =
            processes.into_iter().filter(|process| !pids.contains(&process.parent)).collect();
        for head in &heads {
            let _ = signal::kill(raw(head.pid), signal);
        }
        Ok(heads)
    }

    /// Sends a signal to every process there.
    pub fn signal_all(&self, except: Option<u32>, signal: Signal) -> io::Result<()> {
        for process in self.processes(except)? {
            let _ = signal::kill(raw(process.pid), signal);
        }
        Ok(())
    }
}

fn raw(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}

/// Reads one process; none if it is gone or a zombie. An orphan zombie that was handed to us is reaped.
fn read_process(pid: u32) -> Option<Process> {
    let (state, parent, comm) = stat(pid)?;
    if matches!(state, 'Z' | 'X') {
        // The workload's first process is waited for by its owner; WNOWAIT-less reaping is for the others.
        if parent == std::process::id() && is_adopted(pid) {
            let _ = waitpid(raw(pid), Some(WaitPidFlag::WNOHANG));
        }
        return None;
    }
    Some(Process { pid, parent, comm })
}

/// Children we started ourselves are waited for elsewhere; their ids are registered here.
static STARTED: std::sync::Mutex<BTreeSet<u32>> = std::sync::Mutex::new(BTreeSet::new());

/// Says that this child is waited for by somebody.
pub(crate) fn started(pid: u32) {
    if let Ok(mut started) = STARTED.lock() {
        started.insert(pid);
    }
}

fn is_adopted(pid: u32) -> bool {
    STARTED.lock().is_ok_and(|started| !started.contains(&pid))
}

/// State, parent and name from `/proc/PID/stat`; the name stands in parentheses and may hold any character.
fn stat(pid: u32) -> Option<(char, u32, String)> {
    let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, tail) = text.rsplit_once(')')?;
    let comm = head.split_once('(')?.1.to_owned();
    let mut fields = tail.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?, comm))
}

/// Parent of every process on the machine.
fn all_processes() -> BTreeMap<u32, u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| stat(pid).map(|(_, parent, _)| (pid, parent)))
        .collect()
}

/// Every descendant of `root`.
fn below(parents: &BTreeMap<u32, u32>, root: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut pending = vec![root];
    while let Some(parent) = pending.pop() {
        for (pid, _) in parents.iter().filter(|(_, of)| **of == parent) {
            if found.insert(*pid) {
                pending.push(*pid);
            }
        }
    }
    found
}

/// Whether this process is ours or one that ours descends from.
#[must_use]
pub(crate) fn is_ancestor_of_ours(pid: u32) -> bool {
    let mut current = std::process::id();
    while current != 0 {
        if current == pid {
            return true;
        }
        current = stat(current).map_or(0, |(_, parent, _)| parent);
    }
    false
}
