//! observe: what the traces show, and what a confined run was refused, becomes rules.

use trace::{Row, SyscallName, Trace};

use crate::{clause::Clause, evidence::Reason, finding::Finding, rules::Rules, synthesize::Addition};

/// A rule for each row, also for those that only a filter answered: the pass after this one judges them.
pub(crate) fn observe(trace: &Trace, additions: &[Addition]) -> Rules {
    let mut rules = Rules::default();
    for row in &trace.syscalls {
        if let SyscallName::Unknown(number) = row.abi.name(row.number) {
            rules.findings.insert(Finding::Unnamed { abi: row.abi, number, calls: row.calls });
            continue;
        }
        rules.allow(&row.name, Clause::default(), observed(row));
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
