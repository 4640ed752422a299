//! Values that may be allowed though no recording showed them: reviewed, entry by entry, in the table.

use std::collections::BTreeMap;

use trace::Abi;

use super::{Table, read::TableError, read::Written, table};
use crate::decode;

/// Arguments of a call that are harmless together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Harmless<'t> {
    /// For each argument that the entry speaks of, by index: what it may be.
    pub arguments: BTreeMap<u32, Allowed>,
    /// For some arguments: the entry counts only where a call was seen with one of these values.
    pub seen: BTreeMap<u32, Vec<u64>>,
    /// Why it is harmless.
    pub why: &'t str,
}

/// What an argument may be: one of `values` with any of `bits`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Bits that do not matter.
    pub bits: u64,
    /// What the other bits are together.
    pub values: Vec<u64>,
    /// The bits that count at all: 32 or 64, or fewer where the kernel reads fewer.
    pub mask: u64,
}

impl Allowed {
    /// Whether an argument is one of them.
    #[must_use]
    pub fn contains(&self, argument: u64) -> bool {
        self.values.contains(&(argument & self.mask & !self.bits))
    }
}

/// The harmless arguments of a call on an ABI: alternatives.
#[must_use]
pub fn harmless(abi: Abi, syscall: &str) -> Vec<Harmless<'static>> {
    let entries = table().harmless.iter().filter(|entry| entry.syscalls.iter().any(|own| own == syscall));
    entries.filter_map(|entry| resolve(table(), abi, syscall, entry).ok()).collect()
}

/// The words of an entry as numbers.
pub(super) fn resolve<'t>(
    table: &'t Table,
    abi: Abi,
    syscall: &str,
    entry: &'t Written,
) -> Result<Harmless<'t>, TableError> {
    let mut known = [0; 6];
    let mut arguments = BTreeMap::new();
    let mut named: Vec<_> = table
        .arguments
        .iter()
        .filter(|argument| argument.offset.is_none() && argument.syscalls.iter().any(|own| own == syscall))
        .filter_map(|argument| Some((argument, entry.arguments.get(&argument.name)?)))
        .collect();
    named.sort_by_key(|(argument, _)| argument.index);
    if let Some(name) = entry.arguments.keys().find(|name| !named.iter().any(|(own, _)| own.name == **name)) {
        return Err(wrong("", name, syscall));
    }
    for (argument, words) in named {
        let set = argument.set_in(table, abi, &known);
        let mut allowed = Allowed { mask: argument.mask, ..Allowed::default() };
        for word in words {
            if let Ok(value) = word.parse() {
                allowed.values.push(value);
                continue;
            }
            let value = match set {
                Some(set) => set.value(word),
                None => decode::request_value(word),
            };
            let value = value.ok_or_else(|| wrong(word, &argument.name, syscall))?;
            match set {
                Some(set) if set.bits.iter().any(|bit| bit.name == *word) => allowed.bits |= value,
                _ => allowed.values.push(value),
            }
        }
        if allowed.values.is_empty() {
            allowed.values.push(0);
        }
        if let (Some(known), Some(first)) = (
            usize::try_from(argument.index).ok().and_then(|index| known.get_mut(index)),
            allowed.values.first(),
        ) {
            *known = *first;
        }
        arguments.insert(argument.index, allowed);
    }
    let seen = entry.seen.iter().map(|(name, words)| seen(table, abi, syscall, name, words));
    Ok(Harmless { arguments, seen: seen.collect::<Result<_, _>>()?, why: &entry.why })
}

/// The values that an argument must have been seen with.
fn seen(
    table: &Table,
    abi: Abi,
    syscall: &str,
    name: &str,
    words: &[String],
) -> Result<(u32, Vec<u64>), TableError> {
    let of_it = |argument: &&super::Argument| {
        argument.name == name && argument.syscalls.iter().any(|own| own == syscall)
    };
    let argument = table.arguments.iter().find(of_it).ok_or_else(|| wrong("", name, syscall))?;
    let set = argument.set_in(table, abi, &[0; 6]);
    let value = |word: &String| set.and_then(|set| set.value(word)).ok_or_else(|| wrong(word, name, syscall));
    Ok((argument.index, words.iter().map(value).collect::<Result<_, _>>()?))
}

fn wrong(word: &str, argument: &str, syscall: &str) -> TableError {
    TableError::Word { word: word.to_owned(), argument: argument.to_owned(), syscall: syscall.to_owned() }
}
