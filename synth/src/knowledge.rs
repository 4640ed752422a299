//! The tables of `profiles/knowledge` and `profiles/runtime` that the passes read, parsed once.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

use crate::{profile::Condition, runtime_table::RuntimeTable};

/// What a profile needs although a recording may not show it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Siblings {
    pub(crate) always: Vec<Needed>,
    pub(crate) portable: Vec<Needed>,
    pub(crate) fallback: Vec<Fallback>,
    pub(crate) class: Vec<Class>,
}

/// Calls that are needed whatever was observed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Needed {
    pub(crate) names: Names,
    pub(crate) why: String,
    #[expect(dead_code, reason = "for the reader of the table; a test asks for it")]
    pub(crate) source: String,
}

/// What takes the place of a call that is answered with `ENOSYS`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fallback {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) why: String,
    #[expect(dead_code, reason = "for the reader of the table; a test asks for it")]
    pub(crate) source: String,
    pub(crate) limit: ConditionText,
}

/// Calls of which one may take another's place.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Class {
    pub(crate) name: String,
    /// The members whose observation counts; all of them if there is none.
    pub(crate) from: Option<Names>,
    pub(crate) names: Names,
    pub(crate) why: String,
    #[expect(dead_code, reason = "for the reader of the table; a test asks for it")]
    pub(crate) source: String,
    /// The condition under which a member is added, where without one it would be of more privilege.
    #[serde(default)]
    pub(crate) limit: BTreeMap<String, ConditionText>,
}

/// Names separated by white space.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "String")]
pub(crate) struct Names(Vec<String>);

impl From<String> for Names {
    fn from(text: String) -> Self {
        Self(text.split_whitespace().map(str::to_owned).collect())
    }
}

impl Names {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// A condition as text.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct ConditionText(pub(crate) Condition);

impl TryFrom<String> for ConditionText {
    type Error = crate::condition::ConditionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

macro_rules! table {
    ($name:ident: $type:ty = $path:literal) => {
        table!($name: $type = $path, toml::from_str);
    };
    ($name:ident: $type:ty = $path:literal, $read:expr) => {
        static $name: LazyLock<$type> = LazyLock::new(|| {
            $read(include_str!(concat!("../../profiles/", $path))).expect("a shipped table reads")
        });
    };
}

table!(SIBLINGS: Siblings = "knowledge/siblings.toml");

table!(RUNC_1_1: RuntimeTable = "runtime/runc-1.1.5.toml", RuntimeTable::read);
table!(RUNC_1_4: RuntimeTable = "runtime/runc-1.4.2.toml", RuntimeTable::read);
table!(CRUN_1_8: RuntimeTable = "runtime/crun-1.8.1.toml", RuntimeTable::read);
table!(CRUN_1_26: RuntimeTable = "runtime/crun-1.26.toml", RuntimeTable::read);

pub(crate) fn siblings() -> &'static Siblings {
    &SIBLINGS
}

/// The tables of all runtimes.
pub(crate) fn runtimes() -> [&'static RuntimeTable; 4] {
    [&RUNC_1_1, &RUNC_1_4, &CRUN_1_8, &CRUN_1_26]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::names;

    #[test]
    fn every_table_reads_and_names_only_syscalls() {
        let siblings = siblings();
        let lists = siblings
            .always
            .iter()
            .chain(&siblings.portable)
            .map(|needed| &needed.names)
            .chain(siblings.class.iter().map(|class| &class.names))
            .chain(siblings.class.iter().filter_map(|class| class.from.as_ref()));
        for names in lists {
            for name in names.iter() {
                assert!(names::is_syscall(name), "{name}");
            }
        }
        assert!(runtimes().iter().all(|table| table.names().count() > 10));
    }

    #[test]
    fn a_call_is_in_one_class_and_never_gains_privilege_by_it() {
        let mut seen = BTreeSet::new();
        for class in &siblings().class {
            assert!(!class.name.is_empty() && !class.why.is_empty());
            for name in class.names.iter() {
                assert!(seen.insert(name.to_owned()), "{name} is in two classes");
                let powerful =
                    ["ptrace", "mount", "bpf", "io_uring", "clone3", "unshare", "setns", "process_"];
                assert!(!powerful.iter().any(|word| name.starts_with(word)), "{name}");
            }
            for name in class.limit.keys() {
                assert!(class.names.iter().any(|own| own == name), "{name}");
            }
        }
        assert!(
            seen.contains("clone") && siblings().class.iter().any(|class| class.limit.contains_key("clone"))
        );
    }
}
