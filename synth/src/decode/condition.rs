//! Conditions of rules in words.

use trace::Abi;

use super::request;
use crate::{
    arguments::{self, Argument, ArgumentKind, Set, number},
    condition::{display_conditions, parse_conditions},
    nvidia,
    profile::{Condition, Operator},
};

/// Conditions that must all hold, as people say them: `domain == AF_INET, type == SOCK_STREAM with any of
/// SOCK_NONBLOCK|SOCK_CLOEXEC`; `always` for none.
#[must_use]
pub fn conditions(abi: Abi, syscall: &str, conditions: &[Condition]) -> String {
    if conditions.is_empty() {
        return display_conditions(conditions);
    }
    // What an argument means may go by another one, where that one is pinned.
    let mut known = [0; 6];
    for condition in conditions {
        let (mask, value) = masked(condition);
        let slot = usize::try_from(condition.index).ok().and_then(|index| known.get_mut(index));
        if let (Some(slot), Operator::Eq | Operator::MaskedEq, true) =
            (slot, condition.op, mask & u64::from(u32::MAX) == u64::from(u32::MAX))
        {
            *slot = value;
        }
    }
    let words: Vec<String> =
        conditions.iter().map(|condition| one(abi, syscall, condition, &known)).collect();
    words.join(", ")
}

/// The alternatives of a rule as people say them, from the text that evidence carries. A text that is no condition
/// stays as it is; more than three alternatives are only counted.
#[must_use]
pub fn alternatives(abi: Abi, syscall: &str, when: &[String]) -> String {
    /// Beyond this a sentence is no help.
    const MOST: usize = 3;
    if when.len() > MOST {
        return format!("{} alternatives", when.len());
    }
    let decoded = |text: &String| match parse_conditions(text) {
        Ok(parsed) => conditions(abi, syscall, &parsed),
        Err(_) => text.clone(),
    };
    when.iter().map(decoded).collect::<Vec<_>>().join(" or ")
}

/// Which bits are compared, and with what.
const fn masked(condition: &Condition) -> (u64, u64) {
    match condition.op {
        Operator::MaskedEq => (condition.value, condition.value_two & condition.value),
        _ => (u64::MAX, condition.value),
    }
}

fn one(abi: Abi, syscall: &str, condition: &Condition, known: &[u64; 6]) -> String {
    let Some(argument) = arguments::argument(syscall, condition.index) else {
        return raw(&format!("arg{}", condition.index), condition);
    };
    let name = argument.name.as_str();
    if argument.kind == ArgumentKind::Request {
        return requests(name, condition);
    }
    let Some(set) = argument.set(abi, known) else { return raw(name, condition) };
    let (mask, value) = masked(condition);
    // A bit that the kernel does not read has no name; a rule that asks for it is written as it is.
    let beyond = value & !argument.mask != 0;
    match condition.op {
        Operator::MaskedEq if beyond => raw(name, condition),
        Operator::MaskedEq => equal(name, argument, set, mask, value),
        Operator::Eq if !beyond => format!("{name} == {}", set.show(value)),
        Operator::Ne if !beyond => format!("{name} != {}", set.show(value)),
        _ => match set.name(condition.value) {
            Some(known) => format!("{} ({known})", raw(name, condition)),
            None => raw(name, condition),
        },
    }
}

/// `argument & mask == value`.
fn equal(name: &str, argument: &Argument, set: &Set, mask: u64, value: u64) -> String {
    let read = mask & argument.mask;
    let free = argument.mask & !mask;
    if read == 0 {
        return format!("any {name}");
    }
    if free == 0 {
        return format!("{name} == {}", set.show(value));
    }
    if !set.is_flags() {
        // Numbers that follow each other: the mask leaves out low bits only.
        let last = value | free;
        return if free & free.wrapping_add(1) == 0 {
            let from = |value| set.name(value).map_or_else(|| number(value), str::to_owned);
            format!("{name} from {} to {}", from(value), from(last))
        } else {
            format!("{name} & {mask:#x} == {value:#x}")
        };
    }
    let field = set.fields().iter().find(|field| read == field.mask);
    if let Some(name_of) = field.and_then(|field| field.values.iter().find(|own| own.value == value)) {
        return format!("{} in {name}", name_of.name);
    }
    // A few flags are left open: the rest is asked for.
    if free & !set.bit_mask() == 0 && free.count_ones() < read.count_ones() {
        return format!("{name} == {} with any of {}", set.show(value), set.show_mask(free));
    }
    let asked = set.show_mask(read);
    match value {
        0 => format!("no {} in {name}", asked.replace('|', ", no ")),
        _ if value == read => format!("{} in {name}", asked.replace('|', " and ")),
        _ => format!("{name} & ({asked}) == {}", set.show_mask(value)),
    }
}

/// Which requests a condition on one lets through.
fn requests(name: &str, condition: &Condition) -> String {
    let (mask, value) = masked(condition);
    let low = u64::from(u32::MAX);
    let equal = matches!(condition.op, Operator::Eq | Operator::MaskedEq);
    if equal && mask & low == low && value <= low {
        return format!("{name} == {}", request::show(None, value));
    }
    let form = (equal && value <= low).then(|| {
        nvidia::requests().iter().find(|request| {
            request.forms.iter().any(|form| {
                u64::from(form.mask) == mask & low && u64::from(form.value) == value && form.mask != u32::MAX
            })
        })
    });
    match form.flatten() {
        Some(request) => format!("{name} == {} of any size", request.name),
        None => raw(name, condition),
    }
}

/// A condition in numbers.
fn raw(name: &str, condition: &Condition) -> String {
    condition.to_string().replacen(&format!("arg{}", condition.index), name, 1)
}
