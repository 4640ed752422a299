//! observe: what the traces show, and what a confined run was refused, becomes rules.

use trace::{Row, SyscallName};

use crate::{clause::Clause, evidence::Reason, finding::Finding, rules::Rules, synthesize::Addition};

/// The rows that count as the workload's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed<'a> {
    /// What the workload called.
    pub(crate) workload: &'a [Row],
    /// What exec sessions in its container called.
    pub(crate) exec: &'a [Row],
}

impl<'a> Observed<'a> {
    /// All rows; a call may be in both lists.
    pub(crate) fn rows(self) -> impl Iterator<Item = &'a Row> {
        self.workload.iter().chain(self.exec)
    }
}

/// A rule for each row, also for those that only a filter answered: the pass after this one judges them.
pub(crate) fn observe(seen: Observed<'_>, additions: &[Addition]) -> Rules {
    let mut rules = Rules::default();
    for row in seen.rows() {
        if let SyscallName::Unknown(number) = row.abi.name(row.number) {
            rules.findings.insert(Finding::Unnamed { abi: row.abi, number, calls: row.calls });
        }
    }
    let is_named = |row: &&Row| matches!(row.abi.name(row.number), SyscallName::Known(_));
    for row in seen.workload.iter().filter(is_named) {
        rules.allow(&row.name, Clause::default(), observed(row));
    }
    for row in seen.exec.iter().filter(is_named) {
        rules.allow(&row.name, Clause::default(), in_session(row));
    }
    for Addition { syscall, abi, why } in additions {
        rules.allow(syscall, Clause::default(), Reason::Added { abi: *abi, why: why.clone() });
    }
    rules
}

fn observed(row: &Row) -> Reason {
    Reason::Observed {
        abi: row.abi,
        calls: row.calls,
        runs: row.runs,
        outcomes: row.outcomes.clone(),
        phases: row.phases.clone(),
        first: row.first.clone(),
    }
}

fn in_session(row: &Row) -> Reason {
    Reason::ExecSession {
        abi: row.abi,
        calls: row.calls,
        runs: row.runs,
        outcomes: row.outcomes.clone(),
        first: row.first.clone(),
    }
}
