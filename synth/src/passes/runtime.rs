//! runtime: what the container runtime itself calls between loading the filter and starting the workload. A
//! profile learned from a bare command cannot start a container without it.

use std::collections::BTreeSet;

use trace::{Abi, SyscallName, Trace};

use super::{arguments::harmless_alone, observe::tuples};
use crate::{
    arguments::is_narrow,
    clause::Clause,
    evidence::Reason,
    rules::Rules,
    runtime_table::{Chosen, RuntimeTable, choose},
    synthesize::{ArgumentMode, Options, Runtime},
};

/// Adds the calls of the tables chosen, and those that the runtime made in this trace under a filter; both in the ways
/// in which they are made, where that is known.
pub(crate) fn runtime(
    mut rules: Rules,
    options: &Options,
    chosen: &Chosen<'_>,
    trace: &Trace,
    abis: &BTreeSet<Abi>,
) -> Rules {
    if options.runtime == Runtime::None {
        return rules;
    }
    let by_arguments = options.arguments != ArgumentMode::Off;
    for (label, table) in &chosen.tables {
        let reason = Reason::Runtime { runtime: label.clone() };
        for name in table.names() {
            let Some(abi) = abis.iter().find(|abi| abi.number(name).is_some()) else { continue };
            let Some(ways) = table.ways(name).filter(|_| by_arguments) else {
                rules.allow(name, Clause::default(), reason.clone());
                continue;
            };
            let clauses = |way| Clause::alternatives(way, |index| is_narrow(name, index));
            for clause in ways.iter().flat_map(|way| clauses(way)) {
                rules.allow(name, clause, reason.clone());
            }
            // Another version may do a little else than the one that was measured.
            if options.arguments == ArgumentMode::Stable && chosen.nearest.is_some() {
                for (clause, way) in harmless_alone(&rules, *abi, name) {
                    for reason in way.reasons().chain([reason.clone()]) {
                        rules.allow(name, clause.clone(), reason);
                    }
                }
            }
        }
    }
    // Without a filter the moment is a guess, and a few of the calls come before it.
    let seen = trace.runtime.iter().filter(|runtime| runtime.filter.was_loaded());
    for row in seen.flat_map(|runtime| &runtime.start).filter(|row| row.calls > 0) {
        let is_named = matches!(row.abi.name(row.number), SyscallName::Known(_));
        if is_named && abis.contains(&row.abi) {
            let reason = Reason::RuntimeSeen { abi: row.abi, calls: row.calls, runs: row.runs };
            match tuples(row).filter(|_| by_arguments) {
                Some(tuples) => {
                    for (clause, _) in tuples {
                        rules.allow(&row.name, clause, reason.clone());
                    }
                }
                None => rules.allow(&row.name, Clause::default(), reason),
            }
        }
    }
    rules
}

/// The tables to use: the one that was given, or those of the runtime that was asked for or recorded.
pub(crate) fn tables<'a>(options: &'a Options, recorded: Option<&str>) -> Chosen<'a> {
    let named = |name| choose(name, recorded, &options.measured);
    match &options.runtime {
        Runtime::None => Chosen::default(),
        Runtime::Table(table) => Chosen { tables: vec![(given(table), table)], ..Chosen::default() },
        Runtime::Runc => named(Some("runc")),
        Runtime::Crun => named(Some("crun")),
        Runtime::Auto => named(None),
    }
}

fn given(table: &RuntimeTable) -> String {
    format!("{}, given", table.label())
}

#[cfg(test)]
mod tests {
    use trace::{Backend, Recorder, RuntimeCalls, Target, TargetKind};

    use super::*;

    fn trace() -> Trace {
        let recorder = Recorder {
            tool: "test".to_owned(),
            backend: Backend::Ebpf,
            kernel: "6.18".to_owned(),
            arch: "x86_64".to_owned(),
            started: "2026-01-01T00:00:00Z".to_owned(),
            duration_ms: 1,
            perturbations: Vec::new(),
        };
        Trace::new(recorder, Target::new(TargetKind::Container))
    }

    /// Whether a prctl with this option is let through by what the runtime needs.
    fn prctl(recorded: &str, arguments: ArgumentMode, trace: &Trace, option: u64) -> bool {
        let options = Options { arguments, ..Options::default() };
        let chosen = tables(&options, Some(recorded));
        let rules = runtime(Rules::default(), &options, &chosen, trace, &BTreeSet::from([Abi::X86_64]));
        let call = Clause::of([(0, crate::clause::Test::new(0xffff_ffff, option))]);
        rules.allowed.get("prctl").is_some_and(|clauses| clauses.keys().any(|clause| clause.covers(&call)))
    }

    const KEEPCAPS: u64 = 8;
    const DUMPABLE: u64 = 4;
    const GET_NAME: u64 = 16;

    #[test]
    fn what_the_runtime_calls_is_allowed_as_the_runtime_calls_it() {
        use ArgumentMode::{Exact, Off, Stable};
        let check = |recorded, mode, expected: [bool; 3]| {
            let options = [KEEPCAPS, GET_NAME, DUMPABLE];
            let own = options.map(|option| prctl(recorded, mode, &trace(), option));
            assert_eq!(own, expected, "{recorded} {mode:?}");
        };
        check("runc 1.1.5", Off, [true, true, true]);
        check("runc 1.1.5", Exact, [true, false, false]);
        check("runc 1.1.5", Stable, [true, false, false]);
        // Of a version that nobody measured: what is harmless, too.
        check("runc 1.1.9", Stable, [true, true, false]);
        check("runc 1.1.9", Exact, [true, false, false]);
        check("crun 1.8.1", Stable, [true, false, false]);
    }

    #[test]
    fn what_the_runtime_called_in_the_trace_is_allowed_too() {
        let kept = trace::Kept { index: 0, offset: None, name: "option".to_owned(), mask: 0xffff_ffff };
        let first = trace::FirstSight { after_ms: 0, pid: 1, comm: "runc".to_owned() };
        let values = trace::Values {
            arguments: vec![DUMPABLE],
            calls: 1,
            denied: 0,
            runs: 1,
            upper: BTreeSet::new(),
            file: None,
            phases: BTreeSet::new(),
            first: first.clone(),
        };
        let mut start = trace::Row {
            abi: Abi::X86_64,
            number: 157,
            name: "prctl".to_owned(),
            calls: 1,
            runs: 1,
            denied: 0,
            outcomes: [(trace::Outcome::Ok, 1)].into(),
            refusals: std::collections::BTreeMap::new(),
            in_flight: 0,
            never_returned: 0,
            phases: BTreeSet::new(),
            first,
            arguments: Some(trace::Arguments::of(vec![kept], [values])),
        };
        let mut trace = trace();
        let with = |start: &trace::Row| {
            Some(RuntimeCalls {
                filter: trace::FilterMoment::Loaded,
                setup: Vec::new(),
                start: vec![start.clone()],
            })
        };
        trace.runtime = with(&start);
        assert!(prctl("runc 1.1.5", ArgumentMode::Stable, &trace, DUMPABLE));
        assert!(!prctl("runc 1.1.5", ArgumentMode::Stable, &trace, GET_NAME));
        start.arguments = None;
        trace.runtime = with(&start);
        assert!(prctl("runc 1.1.5", ArgumentMode::Stable, &trace, GET_NAME), "an old trace does not say how");
    }
}
