//! What a container runtime itself calls between loading the filter and starting the workload, by version: the
//! tables of `profiles/runtime`, shipped or measured by `runtime-base`, and which of them is meant.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
};

use serde::Deserialize;

use crate::{
    Condition,
    compile::repeats_an_argument,
    condition::{display_conditions, parse_conditions},
    knowledge, names,
};

/// What one version of a container runtime calls after it loaded the filter and up to the exec.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeTable {
    /// The runtime: `runc` or `crun`.
    pub runtime: String,
    /// Its version as it names it, without a distribution's suffix: `1.1.5`.
    pub version: String,
    /// Where the facts come from.
    pub source: String,
    /// The calls, in groups; no call is in two of them.
    pub need: Vec<RuntimeNeed>,
}

/// Calls with what they are for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeNeed {
    /// The syscalls; in the file one text, separated by white space.
    #[serde(deserialize_with = "words")]
    pub names: BTreeSet<String>,
    /// In which cases they were seen; empty where that was not measured, and for calls that were not seen.
    #[serde(default)]
    pub seen: BTreeSet<RuntimeCase>,
    /// Whether they come and go with timing (a scheduler's, an allocator's), so that a measurement may miss them.
    #[serde(default)]
    pub by_chance: bool,
    /// What they are for.
    pub why: String,
    /// For some of them all ways in which they are made, each as conditions that hold together; the others may be
    /// made with any arguments. In the file each way is one text.
    #[serde(default, deserialize_with = "ways")]
    pub arguments: BTreeMap<String, BTreeSet<Vec<Condition>>>,
}

/// A way in which a runtime starts a program in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub enum RuntimeCase {
    /// The container's own program.
    #[serde(rename = "start")]
    Start,
    /// The same, with no_new_privs, which loads the filter later.
    #[serde(rename = "start no_new_privs")]
    StartNoNewPrivileges,
    /// A further program in a running container.
    #[serde(rename = "exec")]
    Exec,
    /// The same, with no_new_privs.
    #[serde(rename = "exec no_new_privs")]
    ExecNoNewPrivileges,
}

impl RuntimeCase {
    /// All cases.
    pub const ALL: [Self; 4] =
        [Self::Start, Self::StartNoNewPrivileges, Self::Exec, Self::ExecNoNewPrivileges];

    /// The words as they are written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::StartNoNewPrivileges => "start no_new_privs",
            Self::Exec => "exec",
            Self::ExecNoNewPrivileges => "exec no_new_privs",
        }
    }
}

fn words<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    Ok(String::deserialize(deserializer)?.split_whitespace().map(str::to_owned).collect())
}

fn ways<'de, D>(deserializer: D) -> Result<BTreeMap<String, BTreeSet<Vec<Condition>>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    let written: BTreeMap<String, Vec<String>> = BTreeMap::deserialize(deserializer)?;
    let parse = |text: String| parse_conditions(&text).map_err(serde::de::Error::custom);
    let ways = |texts: Vec<String>| texts.into_iter().map(parse).collect::<Result<_, _>>();
    written.into_iter().map(|(name, texts)| Ok((name, ways(texts)?))).collect()
}

/// A file that is no table of a runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeTableError {
    /// It is no TOML, or TOML that is no table.
    #[error("not a runtime table: line {line}: {message}")]
    Malformed {
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A name that no architecture has.
    #[error("unknown syscall `{0}`")]
    UnknownSyscall(String),
    /// A call in two groups.
    #[error("`{0}` is in two entries; keep one")]
    Twice(String),
    /// Ways to make a call that the entry does not name, none at all, or one that tests an argument twice.
    #[error("the `arguments` of `{0}` are of no call of that entry, are none, or test one argument twice")]
    Arguments(String),
    /// No runtime could start a program with it.
    #[error(
        "it does not name `execve`, with which every runtime starts the program; measure with `seccomp-learn runtime-base`"
    )]
    NoExecve,
    /// The version has no number.
    #[error("`{0}` is no version; expected one like 1.1.5")]
    Version(String),
}

impl RuntimeTable {
    /// Reads and checks a table.
    ///
    /// # Errors
    /// See [`RuntimeTableError`].
    pub fn read(text: &str) -> Result<Self, RuntimeTableError> {
        let table: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            RuntimeTableError::Malformed {
                line: before.matches('\n').count() + 1,
                message: error.message().replace('\n', ", "),
            }
        })?;
        if version_of(&table.version).is_none() {
            return Err(RuntimeTableError::Version(table.version));
        }
        let mut seen = BTreeSet::new();
        for name in table.names() {
            if !names::is_syscall(name) {
                return Err(RuntimeTableError::UnknownSyscall(name.to_owned()));
            }
            if !seen.insert(name) {
                return Err(RuntimeTableError::Twice(name.to_owned()));
            }
        }
        if !seen.contains("execve") {
            return Err(RuntimeTableError::NoExecve);
        }
        for need in &table.need {
            let is_wrong = |(name, ways): &(&String, &BTreeSet<Vec<Condition>>)| {
                !need.names.contains(*name)
                    || ways.is_empty()
                    || ways.iter().any(|way| repeats_an_argument(way))
            };
            if let Some((name, _)) = need.arguments.iter().find(is_wrong) {
                return Err(RuntimeTableError::Arguments(name.clone()));
            }
        }
        Ok(table)
    }

    /// Every call.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.need.iter().flat_map(|need| need.names.iter().map(String::as_str))
    }

    /// The ways in which a call is made, each as conditions that hold together; none if with any arguments.
    pub(crate) fn ways(&self, name: &str) -> Option<&BTreeSet<Vec<Condition>>> {
        self.need.iter().find_map(|need| need.arguments.get(name))
    }

    /// The runtime with its version: `runc 1.1.5`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {}", self.runtime, self.version)
    }

    /// The table as TOML, `header` before it as a comment.
    #[must_use]
    pub fn to_toml(&self, header: &str) -> String {
        let mut text = String::new();
        for line in header.lines() {
            let _ = writeln!(text, "# {line}");
        }
        for (key, value) in [("runtime", &self.runtime), ("version", &self.version), ("source", &self.source)]
        {
            let _ = writeln!(text, "{key} = {}", quoted(value));
        }
        for need in &self.need {
            let names: Vec<&str> = need.names.iter().map(String::as_str).collect();
            let _ = writeln!(text, "\n[[need]]\nnames = {}", quoted(&names.join(" ")));
            if !need.seen.is_empty() {
                let seen: Vec<String> = need.seen.iter().map(|case| quoted(case.as_str())).collect();
                let _ = writeln!(text, "seen = [{}]", seen.join(", "));
            }
            if need.by_chance {
                text.push_str("by_chance = true\n");
            }
            let _ = writeln!(text, "why = {}", quoted(&need.why));
            if !need.arguments.is_empty() {
                text.push_str("\n[need.arguments]\n");
            }
            for (name, ways) in &need.arguments {
                let ways: Vec<String> = ways.iter().map(|way| quoted(&display_conditions(way))).collect();
                let _ = writeln!(text, "{name} = [{}]", ways.join(", "));
            }
        }
        text
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

/// The tables that ship with the tool.
#[must_use]
pub fn shipped_runtimes() -> [&'static RuntimeTable; 4] {
    knowledge::runtimes()
}

/// The shipped table of this version of a runtime, or of the nearest; none for a runtime without tables.
#[must_use]
pub fn shipped_runtime(runtime: &str, version: &str) -> Option<&'static RuntimeTable> {
    let tables = shipped_runtimes().into_iter().filter(|table| table.runtime == runtime);
    nearest(&version_of(version).unwrap_or_default(), tables.collect())
}

/// A runtime as traces name it, taken apart: `runc 1.1.5`, `runc version 1.1.5`, `/usr/bin/crun 1.8.1+x`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeName {
    /// `runc` or `crun`; none for another runtime.
    pub name: Option<&'static str>,
    /// The numbers of its version; none where it names none.
    pub version: Option<Vec<u32>>,
}

impl RuntimeName {
    /// Takes a runtime's name apart.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut words = text.split_whitespace();
        let program = words.next().unwrap_or_default();
        let program = program.rsplit('/').next().unwrap_or(program);
        // "crun" does not contain "runc".
        let name = ["runc", "crun"].into_iter().find(|name| program.contains(name));
        Self { name, version: words.find_map(version_of) }
    }

    /// Whether this table is of that version.
    fn is(&self, table: &RuntimeTable) -> bool {
        self.version.is_some() && self.version == version_of(&table.version)
    }
}

impl fmt::Display for RuntimeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.unwrap_or("unknown runtime"))?;
        if let Some(version) = &self.version {
            let numbers: Vec<String> = version.iter().map(u32::to_string).collect();
            write!(f, " {}", numbers.join("."))?;
        }
        Ok(())
    }
}

/// The numbers of a version, without what follows them: `1.1.5+ds1` is 1.1.5.
fn version_of(text: &str) -> Option<Vec<u32>> {
    let text = text.trim_start_matches('v');
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let numbers = text.get(..end)?.trim_end_matches('.').split('.').map(|part| part.parse().ok());
    let mut numbers: Vec<u32> = numbers.collect::<Option<_>>()?;
    // 1.26 and 1.26.0 are one version.
    while numbers.len() > 2 && numbers.last() == Some(&0) {
        numbers.pop();
    }
    Some(numbers)
}

/// The tables to use, and how they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chosen<'a> {
    /// The tables, each with the label that the evidence gives it.
    pub(crate) tables: Vec<(String, &'a RuntimeTable)>,
    /// The runtime of a version that has no table, with the version whose table is taken.
    pub(crate) nearest: Option<(String, String)>,
    /// A runtime that no table is of.
    pub(crate) unknown: Option<String>,
}

/// The tables of the runtime `name` (of all where it is none) in the version of `recorded`: measured there, else
/// shipped, else of the nearest shipped version. Without a version all of them.
pub(crate) fn choose<'a>(
    name: Option<&str>,
    recorded: Option<&str>,
    measured: &'a [RuntimeTable],
) -> Chosen<'a> {
    let mut chosen = Chosen::default();
    let mut wanted = recorded.map(RuntimeName::of);
    if name.is_none() && wanted.as_ref().is_some_and(|wanted| wanted.name.is_none()) {
        chosen.unknown = recorded.map(str::to_owned);
    }
    // A runtime that was asked for goes before the one that was recorded, whose version says nothing about it.
    wanted = wanted.filter(|wanted| wanted.name.is_some() && (name.is_none() || wanted.name == name));
    let name = name.or_else(|| wanted.as_ref().and_then(|wanted| wanted.name));
    let is_named = |table: &RuntimeTable| name.is_none_or(|name| table.runtime == name);
    let shipped = || shipped_runtimes().into_iter().filter(|table| is_named(table));
    // A copy of a shipped table is not another source.
    let measured = || measured.iter().filter(|table| is_named(table) && !shipped().any(|own| own == *table));
    let plain = |table: &'a RuntimeTable| (table.label(), table);
    let marked = |table: &'a RuntimeTable| (format!("{}, measured", table.label()), table);

    let Some(wanted) = wanted.filter(|wanted| wanted.version.is_some()) else {
        chosen.tables = measured().map(marked).chain(shipped().map(plain)).collect();
        return chosen;
    };
    let exact = measured().find(|table| wanted.is(table)).map(marked);
    if let Some(exact) = exact.or_else(|| shipped().find(|table| wanted.is(table)).map(plain)) {
        chosen.tables.push(exact);
        return chosen;
    }
    let version = wanted.version.clone().unwrap_or_default();
    if let Some(table) = nearest(&version, shipped().collect()) {
        let label = format!("{wanted}: nearest shipped table {}", table.version);
        chosen.nearest = Some((wanted.to_string(), table.version.clone()));
        chosen.tables.push((label, table));
    }
    chosen
}

/// Of the newest table before the wanted version and the oldest after it, the one that differs less, number by
/// number; of two that differ as much, the newer.
fn nearest<'a>(wanted: &[u32], mut tables: Vec<&'a RuntimeTable>) -> Option<&'a RuntimeTable> {
    let version = |table: &RuntimeTable| version_of(&table.version).unwrap_or_default();
    tables.sort_by_key(|table| version(table));
    let later = tables.partition_point(|table| version(table).as_slice() < wanted);
    let (before, after) = (later.checked_sub(1).and_then(|index| tables.get(index)), tables.get(later));
    let part = |numbers: &[u32], index| numbers.get(index).copied().unwrap_or_default();
    let distance = |table: &RuntimeTable| -> Vec<u32> {
        let own = version(table);
        let length = wanted.len().max(own.len());
        (0..length).map(|index| part(wanted, index).abs_diff(part(&own, index))).collect()
    };
    after.into_iter().chain(before).min_by_key(|table| distance(table)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "runtime = \"runc\"\nversion = \"1.2.9\"\nsource = \"here \\\"x\\\"\"\n\n[[need]]\n\
        names = \"close execve\"\nseen = [\"start\", \"exec no_new_privs\"]\nby_chance = true\nwhy = \"starts\"\n\n\
        [need.arguments]\nclose = [\"arg0 == 0x1, arg1 & 0xffffffff == 0x2\", \"arg0 == 0x3\"]\n";

    #[test]
    fn a_table_is_read_strictly_and_written_as_it_is_read() {
        let table = RuntimeTable::read(TABLE).unwrap();
        assert_eq!(table.to_toml(""), TABLE);
        assert_eq!(table.to_toml("one\ntwo"), format!("# one\n# two\n{TABLE}"));
        let check = |from: &str, to: &str, expected: &str| {
            let mut error = String::new();
            let mut cause: Option<&dyn std::error::Error> =
                Some(&RuntimeTable::read(&TABLE.replace(from, to)).unwrap_err());
            while let Some(one) = cause {
                let _ = writeln!(error, "{one}");
                cause = one.source();
            }
            assert!(error.contains(expected), "{error:?} has no {expected:?}");
        };
        check("version =", "release =", "unknown field `release`");
        check("why =", "reason =", "unknown field `reason`");
        check("\"start\"", "\"strat\"", "unknown variant `strat`");
        check("close", "colse", "unknown syscall `colse`");
        check("execve", "write", "does not name `execve`");
        check("1.2.9", "new", "`new` is no version");
        check("close = [", "write = [", "`arguments` of `write` are of no call of that entry");
        check("[\"arg0 == 0x1, arg1 & 0xffffffff == 0x2\", \"arg0 == 0x3\"]", "[]", "are none");
        check("arg0 == 0x1, arg1", "arg0 == 0x1, arg0", "test one argument twice");
        check("arg0 == 0x1", "fd == 0x1", "`fd == 0x1` is no condition");
        check("arg0 == 0x3", "", "`` is no condition");
        let twice = format!("{TABLE}\n[[need]]\nnames = \"close\"\nwhy = \"again\"\n");
        assert!(matches!(RuntimeTable::read(&twice), Err(RuntimeTableError::Twice(name)) if name == "close"));
    }

    #[test]
    fn runtimes_are_known_by_name_and_version() {
        let check = |text: &str, expected: &str| assert_eq!(RuntimeName::of(text).to_string(), expected);
        check("runc 1.1.5", "runc 1.1.5");
        check("runc version 1.1.5+ds1", "runc 1.1.5");
        check("/opt/x/crun version 1.8.1", "crun 1.8.1");
        check("io.containerd.runc.v2 1.4.2", "runc 1.4.2");
        check("runc 1.5.0-rc.1", "runc 1.5");
        check("crun", "crun");
        check("youki 0.3.0", "unknown runtime 0.3");
    }

    #[test]
    fn the_exact_version_else_the_nearest() {
        let mut measured = RuntimeTable::read(TABLE).unwrap();
        let labels = |name, recorded, measured: &[RuntimeTable]| {
            let chosen = choose(name, recorded, measured);
            let labels: Vec<String> = chosen.tables.into_iter().map(|(label, _)| label).collect();
            (labels.join("; "), chosen.nearest.is_some(), chosen.unknown.is_some())
        };
        let check = |name, recorded, expected: (&str, bool)| {
            assert_eq!(labels(name, recorded, &[]), (expected.0.to_owned(), expected.1, false));
        };
        check(None, Some("runc 1.1.5+ds1"), ("runc 1.1.5", false));
        check(None, Some("runc 1.2.3"), ("runc 1.2.3: nearest shipped table 1.1.5", true));
        check(None, Some("runc 1.3.0"), ("runc 1.3: nearest shipped table 1.4.2", true));
        check(None, Some("crun 2.0"), ("crun 2.0: nearest shipped table 1.26", true));
        check(Some("runc"), Some("crun 1.8.1"), ("runc 1.1.5; runc 1.4.2", false));
        check(None, Some("crun"), ("crun 1.8.1; crun 1.26", false));
        check(None, None, ("runc 1.1.5; runc 1.4.2; crun 1.8.1; crun 1.26", false));
        assert!(labels(None, Some("youki 0.3.0"), &[]).2);
        let list = std::slice::from_ref(&measured);
        assert_eq!(labels(None, Some("runc 1.2.9"), list), ("runc 1.2.9, measured".to_owned(), false, false));
        assert_eq!(labels(Some("runc"), Some("runc 1.2.9"), list).0, "runc 1.2.9, measured");
        assert_eq!(labels(Some("crun"), None, list).0, "crun 1.8.1; crun 1.26");
        assert!(labels(None, None, list).0.starts_with("runc 1.2.9, measured; runc 1.1.5"));
        measured = shipped_runtimes()[0].clone();
        assert_eq!(
            labels(None, Some("runc 1.1.5"), &[measured]).0,
            "runc 1.1.5",
            "a copy of the shipped one"
        );
    }
}
