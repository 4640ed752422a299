//! Reading the table: strict, so that a misspelt word is an error and not a missing fact.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use trace::Abi;

use super::{
    Argument, ArgumentKind, ArgumentUse, Case, Table,
    set::{Field, Name, Set},
};
use crate::names::is_syscall;

/// A table that says two things, or names something that there is not.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableError {
    #[error("the table is not of its form")]
    Form(#[from] toml::de::Error),
    #[error("`{0}` is no syscall")]
    Syscall(String),
    #[error("argument {index} of `{syscall}` is there twice")]
    Twice { syscall: String, index: u32 },
    #[error("there is no set `{0}`")]
    NoSet(String),
    #[error("`{0}` in set `{1}` has a value that another name there has, or that is outside its field")]
    Value(String, String),
    #[error("argument `{0}` of `{1}` has an index, a width or a mask that no argument has")]
    Bounds(String, String),
    #[error("`{word}` is no value of `{argument}` of `{syscall}`")]
    Word { word: String, argument: String, syscall: String },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTable {
    set: BTreeMap<String, RawSet>,
    argument: Vec<RawArgument>,
    #[serde(default)]
    harmless: Vec<RawHarmless>,
    #[serde(default)]
    exclusive: Vec<RawExclusive>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSet {
    #[expect(dead_code, reason = "for the reader of the table")]
    source: String,
    zero: Option<String>,
    #[serde(default)]
    values: BTreeMap<String, u64>,
    #[serde(default)]
    field: BTreeMap<String, RawField>,
    #[serde(default)]
    bits: BTreeMap<String, u64>,
    #[serde(default)]
    group: BTreeMap<String, u64>,
    #[serde(default)]
    on: BTreeMap<Abi, BTreeMap<String, u64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawField {
    mask: u64,
    #[serde(default)]
    values: BTreeMap<String, u64>,
    of: Option<String>,
    #[serde(default)]
    octal: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawArgument {
    syscalls: String,
    index: u32,
    offset: Option<u32>,
    name: String,
    width: u32,
    mask: Option<u64>,
    kind: ArgumentKind,
    r#use: ArgumentUse,
    set: Option<String>,
    #[serde(default)]
    case: Vec<RawCase>,
    unless: Option<RawUnless>,
    source: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    at: u32,
    is: String,
    set: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUnless {
    at: u32,
    has: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHarmless {
    syscalls: String,
    arguments: BTreeMap<String, String>,
    #[serde(default)]
    seen: BTreeMap<String, String>,
    why: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExclusive {
    syscalls: String,
    argument: String,
    bits: String,
    #[expect(dead_code, reason = "for the reader of the table")]
    why: String,
}

/// Bits that no rule unites unless one call had them together.
#[derive(Debug)]
pub(super) struct Exclusive {
    pub(super) syscalls: Vec<String>,
    pub(super) argument: String,
    pub(super) bits: Vec<String>,
}

/// An entry of harmless values as written: words for each argument's name.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) syscalls: Vec<String>,
    pub(super) arguments: BTreeMap<String, Vec<String>>,
    pub(super) seen: BTreeMap<String, Vec<String>>,
    pub(super) why: String,
}

pub(super) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Reads the table and holds it against itself.
pub(super) fn read(text: &str) -> Result<Table, TableError> {
    let raw: RawTable = toml::from_str(text)?;
    let mut sets = BTreeMap::new();
    for abi in Abi::ALL {
        for (name, set) in &raw.set {
            sets.insert((abi, name.clone()), build(abi, name, set, &raw.set)?);
        }
    }
    let mut seen = BTreeSet::new();
    let mut arguments = Vec::new();
    for argument in raw.argument {
        let argument = check(argument, &raw.set)?;
        for syscall in &argument.syscalls {
            if !is_syscall(syscall) {
                return Err(TableError::Syscall(syscall.clone()));
            }
            if !seen.insert((syscall.clone(), argument.index, argument.offset)) {
                return Err(TableError::Twice { syscall: syscall.clone(), index: argument.index });
            }
        }
        arguments.push(argument);
    }
    let named = |names: BTreeMap<String, String>| {
        names.into_iter().map(|(name, text)| (name, words(&text))).collect::<BTreeMap<_, _>>()
    };
    let written = |entry: RawHarmless| Written {
        syscalls: words(&entry.syscalls),
        arguments: named(entry.arguments),
        seen: named(entry.seen),
        why: entry.why,
    };
    let exclusive = |entry: RawExclusive| Exclusive {
        syscalls: words(&entry.syscalls),
        argument: entry.argument,
        bits: words(&entry.bits),
    };
    let table = Table {
        sets,
        arguments,
        harmless: raw.harmless.into_iter().map(written).collect(),
        exclusive: raw.exclusive.into_iter().map(exclusive).collect(),
    };
    for abi in Abi::ALL {
        for entry in &table.harmless {
            for syscall in &entry.syscalls {
                super::harmless::resolve(&table, abi, syscall, entry)?;
            }
        }
        for entry in &table.exclusive {
            entry.check(&table, abi)?;
        }
    }
    Ok(table)
}

impl Exclusive {
    /// Every bit has to be one of the argument, of each call.
    fn check(&self, table: &Table, abi: Abi) -> Result<(), TableError> {
        for syscall in &self.syscalls {
            let argument = table.arguments.iter().find(|argument| {
                argument.name == self.argument && argument.syscalls.iter().any(|own| own == syscall)
            });
            let set = argument.and_then(|own| table.sets.get(&(abi, own.set.clone()?)));
            for word in &self.bits {
                if !set.is_some_and(|set| set.bits.iter().any(|bit| bit.name == *word)) {
                    return Err(TableError::Word {
                        word: word.clone(),
                        argument: self.argument.clone(),
                        syscall: syscall.clone(),
                    });
                }
            }
        }
        Ok(())
    }
}

fn check(raw: RawArgument, sets: &BTreeMap<String, RawSet>) -> Result<Argument, TableError> {
    let whole = if raw.width == 32 { u64::from(u32::MAX) } else { u64::MAX };
    let mask = raw.mask.unwrap_or(whole);
    if raw.index >= crate::profile::ARGUMENTS
        || !matches!(raw.width, 32 | 64)
        || mask & !whole != 0
        || raw.case.iter().any(|case| case.at >= raw.index)
        || raw.offset.is_some() != (raw.kind == ArgumentKind::StructField)
        || (raw.unless.is_some() && raw.kind != ArgumentKind::Descriptor)
        || (raw.kind == ArgumentKind::Descriptor && raw.r#use != ArgumentUse::Finding)
    {
        return Err(TableError::Bounds(raw.name, raw.syscalls));
    }
    let named = raw.set.iter().chain(raw.case.iter().map(|case| &case.set));
    if let Some(missing) = named.into_iter().find(|name| !sets.contains_key(*name)) {
        return Err(TableError::NoSet(missing.clone()));
    }
    let case = |case: RawCase| Case { at: case.at, is: words(&case.is), set: case.set };
    Ok(Argument {
        syscalls: words(&raw.syscalls),
        index: raw.index,
        offset: raw.offset,
        name: raw.name,
        width: raw.width,
        mask,
        kind: raw.kind,
        usage: raw.r#use,
        source: raw.source,
        set: raw.set,
        cases: raw.case.into_iter().map(case).collect(),
        unless: raw.unless.map(|unless| (unless.at, unless.has)),
    })
}

/// One set on one ABI: what differs there takes the place of what is said for all.
fn build(abi: Abi, title: &str, raw: &RawSet, all: &BTreeMap<String, RawSet>) -> Result<Set, TableError> {
    let own = raw.on.get(&abi);
    let wrong = |name: &str| TableError::Value(name.to_owned(), title.to_owned());
    let named = |values: &BTreeMap<String, u64>, besides: bool| {
        let mut values = values.clone();
        for (name, value) in own.into_iter().flatten() {
            if besides || values.contains_key(name) {
                values.insert(name.clone(), *value);
            }
        }
        let mut names: Vec<Name> = values.into_iter().map(|(name, value)| Name { value, name }).collect();
        names.sort();
        match names.iter().zip(names.iter().skip(1)).find(|(one, next)| one.value == next.value) {
            Some((one, _)) => Err(wrong(&one.name)),
            None => Ok(names),
        }
    };
    let mut fields = Vec::new();
    for field in raw.field.values() {
        let values = match &field.of {
            Some(of) => {
                let other = all.get(of).ok_or_else(|| TableError::NoSet(of.clone()))?;
                build(abi, of, other, &BTreeMap::new())?.values
            }
            None => named(&field.values, false)?,
        };
        if let Some(outside) = values.iter().find(|name| name.value & !field.mask != 0) {
            return Err(wrong(&outside.name));
        }
        fields.push(Field { mask: field.mask, values, octal: field.octal, last: field.of.is_some() });
    }
    fields.sort_by_key(|field| field.mask);
    let is_list = raw.field.is_empty() && raw.bits.is_empty();
    let bits = named(&raw.bits, !is_list)?;
    let in_fields = fields.iter().fold(0, |mask, field| mask | field.mask);
    if let Some(overlap) = bits.iter().find(|bit| bit.value & in_fields != 0 || bit.value == 0) {
        return Err(wrong(&overlap.name));
    }
    Ok(Set {
        values: named(&raw.values, is_list)?,
        fields,
        bits,
        groups: raw.group.iter().map(|(name, value)| Name { value: *value, name: name.clone() }).collect(),
        zero: raw.zero.clone(),
    })
}
