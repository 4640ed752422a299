//! Calls and conditions in words, wherever a person reads them: `socket(AF_INET6, SOCK_STREAM|SOCK_CLOEXEC, 0)`,
//! `ioctl(/dev/nvidia-uvm, UVM_INITIALIZE)`, `no CLONE_NEW* in flags`.
//!
//! Any number decodes: what has no name is written as a number. Nothing here reads memory: behind a pointer is
//! seen only what the caller passes in as [`Context::fields`].

mod condition;
mod prototype;
mod read;
mod recorded;
mod request;

use std::fmt::Write;

use trace::Abi;

pub use condition::{alternatives, alternatives_list, conditions};
pub(crate) use prototype::is_address;
use prototype::{Type, prototype};
pub use read::{WrittenError, read_conditions, registers_of, tuple, written};
pub use recorded::{file, recorded, registers};
pub(crate) use request::request_value;
pub use request::{file_kind, request_names, requests};

use crate::arguments::{self, Argument, ArgumentKind, number};

/// What is known about a call besides its arguments, and how much to write.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The file of the first descriptor: its path, or what /proc/PID/fd shows for one that has none.
    pub file: Option<&'a str>,
    /// Fields of structs that were read when the call was entered.
    pub fields: &'a [StructField],
    /// How much to write.
    pub detail: Detail,
}

/// A field of the struct that an argument points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StructField {
    /// Which argument points to the struct.
    pub index: u32,
    /// Where in the struct, in bytes.
    pub offset: u32,
    /// What it holds.
    pub value: u64,
}

/// How much of a call to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Only what has a meaning of its own, as rules speak of it: `mmap(PROT_READ, MAP_PRIVATE)`. Of what was
    /// recorded with masked arguments nothing else is known.
    Named,
    /// Every argument, addresses shortened: `mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0)`.
    #[default]
    Short,
    /// Every argument in full.
    Full,
}

/// A call in words.
#[must_use]
pub fn call(abi: Abi, name: &str, args: &[u64; 6], context: &Context<'_>) -> String {
    let Some(types) = prototype(abi, name) else { return unknown(name, args) };
    let types = types.get(..count(abi, name, args)).unwrap_or(types);
    let mut file = context.file;
    let mut words = Vec::new();
    for ((&kind, &value), index) in types.iter().zip(args).zip(0..) {
        let path = matches!(kind, Type::Fd | Type::Dir).then(|| file.take()).flatten();
        let named = named(abi, name, index, args, context);
        let word = match (path, named) {
            (Some(path), _) => path.to_owned(),
            (None, Some(word)) => word,
            (None, None) if context.detail == Detail::Named => continue,
            (None, None) => plain(kind, value, context.detail),
        };
        words.push(word);
    }
    format!("{name}({})", words.join(", "))
}

/// What an argument's value is called; none if it has no name, or one that goes by another argument.
#[must_use]
pub fn argument(abi: Abi, syscall: &str, index: u32, value: u64) -> Option<String> {
    let mut args = [0; 6];
    *args.get_mut(usize::try_from(index).ok()?)? = value;
    let known = arguments::argument(syscall, index)?;
    if known.kind == ArgumentKind::Request {
        return Some(request::show(None, value));
    }
    known.sets(abi).next().filter(|_| known.has_own_set()).map(|set| set.show(value & known.mask))
}

/// The argument as the table names it, fields of its struct included.
fn named(abi: Abi, syscall: &str, index: u32, args: &[u64; 6], context: &Context<'_>) -> Option<String> {
    if let Some(text) = in_struct(abi, syscall, index, args, context.fields) {
        return Some(text);
    }
    let known = arguments::argument(syscall, index)?;
    let value = *args.get(usize::try_from(index).ok()?)?;
    let text = match known.kind {
        ArgumentKind::Request => request::show(context.file, value),
        _ => known.set(abi, args)?.show(value & low(known)),
    };
    match garbage(known, value) {
        Some(upper) if context.detail != Detail::Named => Some(format!("{text} /* upper half {upper:#x} */")),
        _ => Some(text),
    }
}

/// What the kernel's declaration takes of a value.
fn low(argument: &Argument) -> u64 {
    if argument.width == 32 { u64::from(u32::MAX) } else { argument.mask }
}

/// The upper half of a 32-bit argument where it is neither zero nor the sign.
fn garbage(argument: &Argument, value: u64) -> Option<u64> {
    let upper = value >> 32;
    let sign = upper == u64::from(u32::MAX) && value & 0x8000_0000 != 0;
    (argument.width == 32 && upper != 0 && !sign).then_some(upper)
}

/// The fields of the struct behind an argument, those that were read: `{flags=CLONE_VM|CLONE_VFORK}`.
fn in_struct(abi: Abi, syscall: &str, index: u32, args: &[u64; 6], read: &[StructField]) -> Option<String> {
    let mut text = String::new();
    for field in read.iter().filter(|field| field.index == index) {
        let known = arguments::arguments_of(syscall)
            .find(|argument| argument.index == index && argument.offset == Some(field.offset));
        let Some(known) = known else { continue };
        let shown = known.set(abi, args).map_or_else(|| number(field.value), |set| set.show(field.value));
        let comma = if text.is_empty() { "{" } else { ", " };
        let _ = write!(text, "{comma}{}={shown}", known.name);
    }
    (!text.is_empty()).then(|| text + "}")
}

/// How many of a call's arguments count: the last of some are there only with certain values of others.
fn count(abi: Abi, name: &str, args: &[u64; 6]) -> usize {
    let all = prototype(abi, name).map_or(6, <[Type]>::len);
    let named = |index: u32| named(abi, name, index, args, &Context::default()).unwrap_or_default();
    let creates = |index: u32| named(index).split('|').any(|flag| matches!(flag, "O_CREAT" | "O_TMPFILE"));
    match name {
        "open" if !creates(1) => 2,
        "openat" if !creates(2) => 3,
        "mq_open" if !creates(1) => 2,
        "fcntl" | "fcntl64" if takes_nothing(&named(1)) => 2,
        "futex" | "futex_time64" => futex_count(&named(1)),
        // Each option has its own; zeros at the end are those that it does not have.
        "prctl" | "keyctl" => {
            let used = args.iter().take(all).rposition(|value| *value != 0);
            let has_second = name == "prctl" && !named(1).is_empty();
            used.map_or(1, |last| last.saturating_add(1)).max(if has_second { 2 } else { 1 })
        }
        _ => all,
    }
}

/// The commands of fcntl without an argument: fcntl(2).
fn takes_nothing(command: &str) -> bool {
    matches!(
        command,
        "F_GETFD" | "F_GETFL" | "F_GETOWN" | "F_GETSIG" | "F_GETLEASE" | "F_GETPIPE_SZ" | "F_GET_SEALS"
    )
}

/// How many arguments a futex operation reads: futex(2).
fn futex_count(operation: &str) -> usize {
    match operation.trim_end_matches("|FUTEX_CLOCK_REALTIME").trim_end_matches("_PRIVATE") {
        "FUTEX_UNLOCK_PI" | "FUTEX_TRYLOCK_PI" => 2,
        "FUTEX_WAKE" => 3,
        "FUTEX_WAIT" | "FUTEX_LOCK_PI" | "FUTEX_LOCK_PI2" => 4,
        "FUTEX_REQUEUE" => 5,
        _ => 6,
    }
}

/// An argument without a name.
fn plain(kind: Type, value: u64, detail: Detail) -> String {
    let low = value & u64::from(u32::MAX);
    let signed = i64::from(low.cast_signed() as i32);
    match kind {
        Type::Dir if signed == -100 => "AT_FDCWD".to_owned(),
        Type::Fd | Type::Dir | Type::Int => signed.to_string(),
        Type::Id if low == u64::from(u32::MAX) => "-1".to_owned(),
        Type::Id => low.to_string(),
        Type::Uint => number(low),
        Type::Mode => {
            if low == 0 {
                "000".to_owned()
            } else {
                format!("0{low:o}")
            }
        }
        Type::Size => value.to_string(),
        Type::Long => match value.cast_signed() {
            signed @ -1023..=-1 => signed.to_string(),
            _ => number(value),
        },
        Type::Ulong | Type::Off => number(value),
        Type::Ptr | Type::Addr => address(value, detail),
    }
}

/// An address; short, the digits that tell the stack from the heap from a library.
fn address(value: u64, detail: Detail) -> String {
    if value == 0 {
        return "NULL".to_owned();
    }
    let text = format!("{value:#x}");
    match text.get(..4) {
        Some(start) if detail != Detail::Full && text.len() > 6 => format!("{start}…"),
        _ => text,
    }
}

/// A call that is in no table.
fn unknown(name: &str, args: &[u64; 6]) -> String {
    let words: Vec<String> = args.iter().map(|value| format!("{value:#x}")).collect();
    format!("{name}({})", words.join(", "))
}

#[cfg(test)]
mod tests;
