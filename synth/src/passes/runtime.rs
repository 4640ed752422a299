//! runtime: what the container runtime itself calls between loading the filter and starting the workload. A
//! profile learned from a bare command cannot start a container without it.

use std::collections::BTreeSet;

use trace::{Abi, FilterMoment, SyscallName, Trace};

use crate::{
    clause::Clause,
    evidence::Reason,
    rules::Rules,
    runtime_table::{Chosen, RuntimeTable, choose},
    synthesize::{Options, Runtime},
};

/// Adds the calls of the tables chosen, and those that the runtime made in this trace under a filter.
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
    for (label, table) in &chosen.tables {
        let reason = Reason::Runtime { runtime: label.clone() };
        for name in table.names().filter(|name| abis.iter().any(|abi| abi.number(name).is_some())) {
            rules.allow(name, Clause::default(), reason.clone());
        }
    }
    // Without a filter the moment is a guess, and a few of the calls come before it.
    let seen = trace.runtime.iter().filter(|runtime| runtime.filter == FilterMoment::Loaded);
    for row in seen.flat_map(|runtime| &runtime.start).filter(|row| row.calls > 0) {
        let is_named = matches!(row.abi.name(row.number), SyscallName::Known(_));
        if is_named && abis.contains(&row.abi) {
            let reason = Reason::RuntimeSeen { abi: row.abi, calls: row.calls, runs: row.runs };
            rules.allow(&row.name, Clause::default(), reason);
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
