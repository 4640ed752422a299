//! observe: what the traces show, and what a confined run was refused, becomes rules: for a call whose arguments
//! are known one for each of them, exactly; for the others one without conditions.

use std::collections::{BTreeMap, BTreeSet};

use trace::{Row, SyscallName, Values};

use crate::{
    arguments::rule_arguments,
    clause::{Clause, Test},
    decode,
    evidence::Reason,
    finding::Finding,
    rules::Rules,
    synthesize::{Addition, ArgumentMode},
};

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
pub(crate) fn observe(seen: Observed<'_>, additions: &[Addition], mode: ArgumentMode) -> Rules {
    let mut rules = Rules::default();
    for row in seen.rows() {
        if let SyscallName::Unknown(number) = row.abi.name(row.number) {
            rules.findings.insert(Finding::Unnamed { abi: row.abi, number, calls: row.calls });
        }
    }
    let is_named = |row: &&Row| matches!(row.abi.name(row.number), SyscallName::Known(_));
    for row in seen.workload.iter().filter(is_named) {
        add(&mut rules, row, mode, observed);
    }
    for row in seen.exec.iter().filter(is_named) {
        add(&mut rules, row, mode, in_session);
    }
    for Addition { syscall, abi, why, arguments } in additions {
        let clause = match arguments {
            Some(arguments) if mode != ArgumentMode::Off => exact(syscall, arguments),
            _ => Clause::default(),
        };
        rules.allow(syscall, clause, Reason::Added { abi: *abi, why: why.clone() });
    }
    rules
}

/// Adds what a row shows: by its arguments, if they are known and rules go by them.
fn add(rules: &mut Rules, row: &Row, mode: ArgumentMode, reason: fn(&Row, Option<&Values>) -> Reason) {
    let tuples = tuples(row);
    let by_arguments = mode != ArgumentMode::Off && tuples.is_some();
    for (clause, values) in tuples.into_iter().flatten() {
        let seen = rules.seen.entry(row.name.clone()).or_default();
        let calls = seen.entry(clause.clone()).or_default();
        *calls = calls.saturating_add(values.calls);
        if by_arguments {
            rules.allow(&row.name, clause, reason(row, Some(values)));
        }
    }
    if !by_arguments {
        rules.allow(&row.name, Clause::default(), reason(row, None));
    }
}

/// The arguments of the calls that were carried out, as clauses that let through nothing else; none if the row
/// does not have what rules test. What only a filter answered is not needed.
pub(crate) fn tuples(row: &Row) -> Option<Vec<(Clause, &Values)>> {
    let arguments = row.arguments.as_ref().filter(|_| row.calls > 0)?;
    let mut kept = Vec::new();
    for argument in rule_arguments(&row.name) {
        let own = |kept: &trace::Kept| kept.index == argument.index && kept.offset.is_none();
        if let Some(at) = arguments.kept.iter().position(own) {
            kept.push((at, argument.index, argument.mask & arguments.kept.get(at)?.mask));
        }
    }
    if kept.is_empty() {
        return None;
    }
    let clause = |values: &Values| {
        let test = |(at, index, mask): &(usize, u32, u64)| {
            values.arguments.get(*at).map(|value| (*index, Test::new(*mask, *value)))
        };
        Clause::of(kept.iter().filter_map(test))
    };
    let carried_out = arguments.values.iter().filter(|values| values.calls > 0);
    Some(carried_out.map(|values| (clause(values), values)).collect())
}

/// The clause that lets through a call with these arguments, as far as rules test them, and nothing else.
fn exact(syscall: &str, arguments: &[u64; 6]) -> Clause {
    let values: BTreeMap<u32, u64> = (0..).zip(*arguments).collect();
    let test = |argument: &crate::arguments::Argument| {
        values.get(&argument.index).map(|value| (argument.index, Test::new(argument.mask, *value)))
    };
    Clause::of(rule_arguments(syscall).into_iter().filter_map(test))
}

fn observed(row: &Row, values: Option<&Values>) -> Reason {
    let Facts { calls, runs, outcomes, phases, first, arguments, file, upper } = Facts::new(row, values);
    Reason::Observed { abi: row.abi, calls, runs, outcomes, phases, first, arguments, file, upper }
}

fn in_session(row: &Row, values: Option<&Values>) -> Reason {
    let Facts { calls, runs, outcomes, first, arguments, file, upper, .. } = Facts::new(row, values);
    Reason::ExecSession { abi: row.abi, calls, runs, outcomes, first, arguments, file, upper }
}

/// What is known about a row, or about those of its calls that had the same arguments.
struct Facts {
    calls: u64,
    runs: u64,
    outcomes: BTreeMap<trace::Outcome, u64>,
    phases: BTreeSet<trace::PhaseName>,
    first: trace::FirstSight,
    arguments: Option<String>,
    file: Option<String>,
    upper: BTreeSet<String>,
}

impl Facts {
    fn new(row: &Row, values: Option<&Values>) -> Self {
        let Some(values) = values else {
            return Self {
                calls: row.calls,
                runs: row.runs,
                outcomes: row.outcomes.clone(),
                phases: row.phases.clone(),
                first: row.first.clone(),
                arguments: None,
                file: None,
                upper: BTreeSet::new(),
            };
        };
        let kept = row.arguments.as_ref().map_or(&[][..], |arguments| &arguments.kept);
        Self {
            calls: values.calls,
            runs: values.runs,
            outcomes: BTreeMap::new(),
            phases: values.phases.clone(),
            first: values.first.clone(),
            arguments: Some(decode::recorded(row.abi, &row.name, kept, values)),
            file: values.file.as_ref().map(decode::file),
            upper: values.upper.clone(),
        }
    }
}
