//! What each syscall does, how much it may do, and what allowing it opens up: `profiles/knowledge/syscalls.toml`,
//! read once. It has every name of every ABI that traces know.

use std::{collections::BTreeMap, sync::LazyLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is known about a syscall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// What it does, in a line.
    pub does: String,
    /// The worst kind of thing that it can be used for.
    pub risk: Risk,
    /// What allowing it opens up; there for every risk but [`Risk::Harmless`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opens: Option<String>,
    /// Where the facts come from.
    pub source: String,
}

/// What a call can be used for, in the order in which a reviewer asks: the later, the more there is to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    /// Concerns the caller alone, or what it holds already.
    Harmless,
    /// Reaches files by name, or changes what is stored.
    Files,
    /// Reaches other programs: sockets, shared memory, queues.
    Network,
    /// Decides what memory is executable, or how it is shared and locked.
    Memory,
    /// Starts, signals or steers processes.
    Process,
    /// Looks into or changes another process's memory, descriptors or secrets.
    Inspect,
    /// Changes who the caller is, or the walls around it: identity, capabilities, namespaces, mounts.
    Privilege,
    /// Changes the machine: its clock, name, swap, accounting.
    Host,
    /// Runs the caller's code or little-used code in the kernel: modules, BPF, `io_uring`.
    Kernel,
}

impl Risk {
    /// Every class, in order.
    pub const ALL: [Self; 9] = [
        Self::Harmless,
        Self::Files,
        Self::Network,
        Self::Memory,
        Self::Process,
        Self::Inspect,
        Self::Privilege,
        Self::Host,
        Self::Kernel,
    ];

    /// Its name, as in the table and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Harmless => "harmless",
            Self::Files => "files",
            Self::Network => "network",
            Self::Memory => "memory",
            Self::Process => "process",
            Self::Inspect => "inspect",
            Self::Privilege => "privilege",
            Self::Host => "host",
            Self::Kernel => "kernel",
        }
    }

    /// What the class means, for a reader.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Harmless => "concerns the caller alone, or what it holds already",
            Self::Files => "reaches files by name, or changes what is stored",
            Self::Network => "reaches other programs: sockets, shared memory, queues",
            Self::Memory => "decides what memory is executable, or how it is shared and locked",
            Self::Process => "starts, signals or steers processes",
            Self::Inspect => "looks into or changes another process's memory, descriptors or secrets",
            Self::Privilege => {
                "changes who the caller is, or the walls around it: identity, capabilities, namespaces, mounts"
            }
            Self::Host => "changes the machine: its clock, its name, swap, accounting",
            Self::Kernel => "runs the caller's code, or code that little else uses, in the kernel",
        }
    }
}

impl std::fmt::Display for Risk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Calls with a risk and sources in common.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    risk: Risk,
    /// What allowing any of them opens up, unless a call has its own.
    opens: Option<String>,
    source: String,
    calls: BTreeMap<String, Call>,
}

/// A call of a group: what it does, or that with what sets it apart from the group.
#[derive(Deserialize)]
#[serde(untagged)]
enum Call {
    Does(String),
    Apart(Apart),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Apart {
    does: String,
    opens: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    group: Vec<Group>,
}

#[expect(clippy::expect_used, reason = "the table is compiled in, and a test reads it")]
static CATALOGUE: LazyLock<BTreeMap<String, Description>> = LazyLock::new(|| {
    read(include_str!("../../profiles/knowledge/syscalls.toml")).expect("a shipped table reads")
});

/// What is known about a syscall; none for a name that no ABI of traces has.
#[must_use]
pub fn catalogue(name: &str) -> Option<&'static Description> {
    CATALOGUE.get(name)
}

/// Every syscall that is known, by name.
pub fn descriptions() -> impl Iterator<Item = &'static Description> {
    CATALOGUE.values()
}

fn read(text: &str) -> Result<BTreeMap<String, Description>, String> {
    let table: Table = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut all = BTreeMap::new();
    for group in table.group {
        for (name, call) in group.calls {
            let own = match call {
                Call::Does(does) => Apart { does, opens: None, source: None },
                Call::Apart(own) => own,
            };
            let opens = own.opens.or_else(|| group.opens.clone());
            if opens.is_none() && group.risk != Risk::Harmless {
                return Err(format!("`{name}` does not say what it opens up"));
            }
            let description = Description {
                name: name.clone(),
                does: own.does,
                risk: group.risk,
                opens,
                source: own.source.unwrap_or_else(|| group.source.clone()),
            };
            if all.insert(name.clone(), description).is_some() {
                return Err(format!("`{name}` is there twice"));
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_says_too_little_or_stands_twice_is_no_table() {
        let group = |risk: &str, more: &str| {
            format!("[[group]]\nrisk = \"{risk}\"\nsource = \"x(2)\"\n[group.calls]\n{more}\n")
        };
        let good = read(&group("harmless", "getpid = \"asks\"")).unwrap();
        assert_eq!(good["getpid"].source, "x(2)");
        for (text, culprit) in [
            (group("files", "open = \"opens\""), "`open` does not say"),
            (group("harmless", "a = \"1\"") + &group("harmless", "a = \"2\""), "`a` is there twice"),
            (group("harmless", "a = \"1\"\na = \"2\""), "duplicate key"),
            (group("odd", "a = \"1\""), "odd"),
            (group("harmless", "a = { does = \"1\", open = \"2\" }"), "did not match"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(culprit), "{error}");
        }
    }

    #[test]
    fn each_class_has_one_name() {
        for risk in Risk::ALL {
            assert_eq!(serde_json::to_value(risk).unwrap(), risk.as_str());
            assert!(!risk.meaning().is_empty());
        }
        assert!(Risk::ALL.is_sorted());
    }
}
