//! What is known about the arguments of system calls: `profiles/knowledge/arguments.toml`, read once.
//!
//! For each argument: how much of it the kernel reads, what its values are called on each ABI, whether a rule may
//! be made of it, and which values are harmless ([`harmless`]).

mod harmless;
mod read;
mod set;

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;
use trace::Abi;

pub use harmless::{Allowed, Harmless, harmless};
pub(crate) use set::number;
pub use set::{Field, Name, Set};

/// What is known about one argument, of one or more calls.
#[derive(Clone, Debug)]
pub struct Argument {
    /// The calls that have it.
    pub syscalls: Vec<String>,
    /// Which argument, from 0.
    pub index: u32,
    /// For a field of the struct that the argument points to: where in the struct, in bytes. It is read when the
    /// call is entered; seccomp cannot see it.
    pub offset: Option<u32>,
    /// Its name in the manual page.
    pub name: String,
    /// 32 or 64: how much of it the kernel's declaration takes.
    pub width: u32,
    /// The bits that have an effect.
    pub mask: u64,
    /// What kind of argument it is.
    pub kind: ArgumentKind,
    /// What it is for here.
    pub usage: ArgumentUse,
    /// Where the facts come from.
    pub source: String,
    set: Option<String>,
    cases: Vec<Case>,
    /// For a descriptor: the argument that says by a bit of this name that it counts for nothing.
    unless: Option<(u32, String)>,
}

/// A set that counts where another argument is one of `is`.
#[derive(Clone, Debug)]
struct Case {
    at: u32,
    is: Vec<String>,
    set: String,
}

/// What kind of argument one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArgumentKind {
    /// One of a list.
    Value,
    /// Bits, perhaps with fields.
    Flags,
    /// An address family.
    Family,
    /// An ioctl request: its meaning goes by the kind of the file.
    Request,
    /// Its meaning goes by another argument.
    Option,
    /// A signal.
    Signal,
    /// In the struct that the argument points to.
    StructField,
    /// A descriptor: what file it is of is captured, never its number.
    Descriptor,
}

/// What an argument is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArgumentUse {
    /// A rule may test it, so it is captured.
    Rule,
    /// It is captured for a finding; no rule can test it.
    Finding,
    /// It has names for people and is never captured.
    Reading,
}

/// What is captured of a call on an ABI.
#[derive(Clone, Debug)]
pub struct Captured {
    /// The call.
    pub syscall: &'static str,
    /// Its number.
    pub number: u32,
    /// Its arguments, by index and offset; fields of structs are read when the call is entered.
    pub arguments: Vec<&'static Argument>,
    /// The descriptor whose file is noted.
    pub descriptor: Option<Descriptor>,
}

/// A descriptor among the arguments of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Which argument.
    pub index: u32,
    /// The argument and the bits of it that say that the descriptor counts for nothing.
    pub unless: Option<(u32, u64)>,
}

/// The table.
struct Table {
    sets: BTreeMap<(Abi, String), Set>,
    arguments: Vec<Argument>,
    harmless: Vec<read::Written>,
    exclusive: Vec<read::Exclusive>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the table is compiled in, and tests read it")]
    read::read(include_str!("../../../profiles/knowledge/arguments.toml")).expect("a shipped table reads")
});

fn table() -> &'static Table {
    &TABLE
}

/// Every argument that the table knows.
#[must_use]
pub fn arguments() -> &'static [Argument] {
    &table().arguments
}

/// The arguments of a call that the table knows, fields of structs included.
pub fn arguments_of(syscall: &str) -> impl Iterator<Item = &'static Argument> {
    arguments().iter().filter(move |argument| argument.syscalls.iter().any(|own| own == syscall))
}

/// What is known about an argument itself; not about a struct behind it.
#[must_use]
pub fn argument(syscall: &str, index: u32) -> Option<&'static Argument> {
    arguments_of(syscall).find(|argument| argument.index == index && argument.offset.is_none())
}

/// The arguments of a call that a rule may test, by index.
pub(crate) fn rule_arguments(syscall: &str) -> Vec<&'static Argument> {
    let mut arguments: Vec<_> =
        arguments_of(syscall).filter(|argument| argument.usage == ArgumentUse::Rule).collect();
    arguments.sort_by_key(|argument| argument.index);
    arguments
}

/// Bits of an argument of which a rule lets through all together only where one call had them so.
pub(crate) fn exclusive(abi: Abi, syscall: &str, argument: &Argument) -> u64 {
    let of_it = |entry: &&read::Exclusive| {
        entry.argument == argument.name && entry.syscalls.iter().any(|own| own == syscall)
    };
    let set = argument.sets(abi).next();
    let bits = |entry: &read::Exclusive| {
        let value = |word: &String| set.and_then(|set| set.value(word)).unwrap_or_default();
        entry.bits.iter().map(value).fold(0, |bits, bit| bits | bit)
    };
    table().exclusive.iter().filter(of_it).map(bits).fold(0, |bits, bit| bits | bit)
}

/// What is captured on an ABI: of every call what a rule or a finding uses.
pub fn captured(abi: Abi) -> impl Iterator<Item = Captured> {
    let mut calls: BTreeMap<&'static str, Captured> = BTreeMap::new();
    for argument in arguments().iter().filter(|argument| argument.usage != ArgumentUse::Reading) {
        for syscall in &argument.syscalls {
            let Some(number) = abi.number(syscall) else { continue };
            let captured = calls.entry(syscall).or_insert_with(|| Captured {
                syscall,
                number,
                arguments: Vec::new(),
                descriptor: None,
            });
            if argument.kind == ArgumentKind::Descriptor {
                captured.descriptor = Some(argument.descriptor(abi, syscall));
            } else {
                captured.arguments.push(argument);
            }
        }
    }
    calls.into_values().map(|mut captured| {
        captured.arguments.sort_by_key(|argument| (argument.index, argument.offset));
        captured
    })
}

/// Whether the kernel reads this argument as 32 bits.
pub(crate) fn is_narrow(syscall: &str, index: u32) -> bool {
    argument(syscall, index).is_some_and(|argument| argument.width == 32)
}

/// A set of names by its title in the table.
#[cfg(test)]
pub(crate) fn set(abi: Abi, title: &str) -> Option<&'static Set> {
    table().sets.get(&(abi, title.to_owned()))
}

impl Argument {
    /// The names of its values. Where they go by another argument, by that one's value in `args`.
    #[must_use]
    pub fn set(&self, abi: Abi, args: &[u64; 6]) -> Option<&'static Set> {
        self.set_in(table(), abi, args)
    }

    /// Whether it is the one that was kept.
    pub(crate) fn is(&self, kept: &trace::Kept) -> bool {
        self.index == kept.index && self.offset == kept.offset
    }

    /// Whether its names do not go by another argument.
    pub(crate) const fn has_own_set(&self) -> bool {
        self.set.is_some()
    }

    /// Every set that its values may be named by.
    pub fn sets(&self, abi: Abi) -> impl Iterator<Item = &'static Set> {
        let titles = self.set.iter().chain(self.cases.iter().map(|case| &case.set));
        titles.filter_map(move |title| table().sets.get(&(abi, title.clone())))
    }

    fn descriptor(&self, abi: Abi, syscall: &str) -> Descriptor {
        let bits = |(at, name): &(u32, String)| {
            let set = argument(syscall, *at)?.sets(abi).next()?;
            Some((*at, set.value(name)?))
        };
        Descriptor { index: self.index, unless: self.unless.as_ref().and_then(bits) }
    }

    fn set_in<'t>(&self, table: &'t Table, abi: Abi, args: &[u64; 6]) -> Option<&'t Set> {
        let set = |title: &String| table.sets.get(&(abi, title.clone()));
        if let Some(title) = &self.set {
            return set(title);
        }
        let of_these = |other: &&Argument| {
            other.offset.is_none() && self.syscalls.iter().all(|own| other.syscalls.contains(own))
        };
        self.cases.iter().find_map(|case| {
            let by = table.arguments.iter().filter(of_these).find(|other| other.index == case.at)?;
            let value = by.mask & *args.get(usize::try_from(case.at).ok()?)?;
            let names = set(by.set.as_ref()?)?;
            case.is.iter().any(|name| names.value(name) == Some(value)).then(|| set(&case.set))?
        })
    }
}

#[cfg(test)]
mod tests;
