//! runtime: what the container runtime itself calls between loading the filter and starting the workload. A
//! profile learned from a bare command cannot start a container without it.

use std::collections::BTreeSet;

use trace::Abi;

use crate::{
    clause::Clause,
    evidence::Reason,
    knowledge::{self, RuntimeTable},
    rules::Rules,
    synthesize::Runtime,
};

/// Adds the calls of the tables chosen.
pub(crate) fn runtime(mut rules: Rules, tables: &[&RuntimeTable], abis: &BTreeSet<Abi>) -> Rules {
    for table in tables {
        let reason = Reason::Runtime { runtime: label(table) };
        for name in table.need.iter().flat_map(|need| need.names.iter()) {
            if abis.iter().any(|abi| abi.number(name).is_some()) {
                rules.allow(name, Clause::default(), reason.clone());
            }
        }
    }
    rules
}

/// The runtime with its version: `runc 1.1.5`.
pub(crate) fn label(table: &RuntimeTable) -> String {
    format!("{} {}", table.runtime, table.version)
}

/// The tables to use: of the runtime asked for, or of the one that the trace names, or all.
pub(crate) fn tables(choice: Runtime, recorded: Option<&str>) -> Vec<&'static RuntimeTable> {
    let of = |name: &str| knowledge::runtimes().into_iter().filter(|table| table.runtime == name).collect();
    match choice {
        Runtime::None => Vec::new(),
        Runtime::Runc => of("runc"),
        Runtime::Crun => of("crun"),
        Runtime::Auto => {
            let named = recorded.and_then(|runtime| {
                // "crun" does not contain "runc".
                ["runc", "crun"].into_iter().find(|name| runtime.contains(name))
            });
            named.map_or_else(|| knowledge::runtimes().to_vec(), of)
        }
    }
}
