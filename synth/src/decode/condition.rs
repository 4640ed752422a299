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
    joined(expanded(syscall, conditions).iter().map(|one| words(abi, syscall, one))).join(" or ")
}

/// The alternatives of a rule as people say them, from the text that evidence carries, for a sentence: more than
/// three are only counted.
#[must_use]
pub fn alternatives(abi: Abi, syscall: &str, when: &[String]) -> String {
    /// Beyond this a sentence is no help.
    const MOST: usize = 3;
    let list = alternatives_list(abi, syscall, when);
    if list.len() > MOST {
        return format!("{} alternatives", list.len());
    }
    list.join(" or ")
}

/// The alternatives of a rule as people say them, from the text that evidence carries. Those that differ in the
/// value of one argument alone are one: `request in {TCGETS, TIOCGWINSZ}`. A text that is no condition stays as it is.
#[must_use]
pub fn alternatives_list(abi: Abi, syscall: &str, when: &[String]) -> Vec<String> {
    let one = |text: &String| match parse_conditions(text) {
        Ok(parsed) => expanded(syscall, &parsed).iter().map(|one| words(abi, syscall, one)).collect(),
        Err(_) => vec![vec![Words::Text(text.clone())]],
    };
    joined(when.iter().flat_map(one))
}

/// The alternatives of which no two differ in the values of one argument alone, as sentences.
fn joined(alternatives: impl IntoIterator<Item = Vec<Words>>) -> Vec<String> {
    let mut list: Vec<Vec<Words>> = Vec::new();
    for next in alternatives {
        if !list.iter_mut().any(|own| join(own, &next)) {
            list.push(next);
        }
    }
    list.iter().map(|words| sentence(words)).collect()
}

/// Where the meaning of an argument goes by another one that may be several values: the conditions for each of them.
fn expanded(syscall: &str, conditions: &[Condition]) -> Vec<Vec<Condition>> {
    let known = |condition: &Condition| arguments::argument(syscall, condition.index);
    let depends = |condition: &Condition| {
        known(condition).is_some_and(|own| !own.has_own_set() && own.sets(Abi::X86_64).next().is_some())
    };
    let mut all = vec![Vec::new()];
    let any_depends = conditions.iter().any(depends);
    for condition in conditions {
        let values = known(condition).filter(|own| {
            any_depends
                && !depends(condition)
                && condition.op == Operator::MaskedEq
                && own.kind != ArgumentKind::Flags
        });
        let list = values.and_then(|own| Some((own.mask, combinations(own.mask & !condition.value)?)));
        let pinned = match list {
            Some((mask, list)) => list
                .into_iter()
                .map(|bits| Condition {
                    value: condition.value | mask,
                    value_two: condition.value_two & condition.value | bits,
                    ..*condition
                })
                .collect(),
            None => vec![*condition],
        };
        all = all
            .iter()
            .flat_map(|own| pinned.iter().map(move |one| [own.as_slice(), &[*one]].concat()))
            .collect();
    }
    all
}

/// A condition as people say it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Words {
    /// The argument is one of these values, with any of some flags.
    Values { name: String, values: Vec<String>, with: String },
    /// Anything else.
    Text(String),
}

fn sentence(all: &[Words]) -> String {
    if all.is_empty() {
        return display_conditions(&[]);
    }
    let one = |words: &Words| match words {
        Words::Text(text) => text.clone(),
        Words::Values { name, values, with } => match values.as_slice() {
            [value] => format!("{name} == {value}{with}"),
            values => format!("{name} in {{{}}}{with}", values.join(", ")),
        },
    };
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Makes one alternative of two that differ in the values of one argument alone; says whether they do.
fn join(own: &mut [Words], other: &[Words]) -> bool {
    if own.len() != other.len() {
        return false;
    }
    let mut different = own.iter_mut().zip(other).filter(|(own, other)| *own != *other);
    let (
        Some((
            Words::Values { name, values, with },
            Words::Values { name: other_name, values: more, with: other_with },
        )),
        None,
    ) = (different.next(), different.next())
    else {
        return false;
    };
    if name != other_name || with != other_with {
        return false;
    }
    for value in more {
        if !values.contains(value) {
            values.push(value.clone());
        }
    }
    true
}

fn words(abi: Abi, syscall: &str, conditions: &[Condition]) -> Vec<Words> {
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
    conditions.iter().map(|condition| one(abi, syscall, condition, &known)).collect()
}

/// Which bits are compared, and with what.
const fn masked(condition: &Condition) -> (u64, u64) {
    match condition.op {
        Operator::MaskedEq => (condition.value, condition.value_two & condition.value),
        _ => (u64::MAX, condition.value),
    }
}

fn one(abi: Abi, syscall: &str, condition: &Condition, known: &[u64; 6]) -> Words {
    let Some(argument) = arguments::argument(syscall, condition.index) else {
        return raw(&format!("arg{}", condition.index), condition);
    };
    let name = argument.name.as_str();
    if argument.kind == ArgumentKind::Request {
        return requests(name, condition);
    }
    let (mask, value) = masked(condition);
    // A bit that the kernel does not read has no name; a rule that asks for it is written as it is.
    let beyond = value & !argument.mask != 0;
    let Some(set) = argument.set(abi, known) else {
        let whole = matches!(condition.op, Operator::Eq | Operator::MaskedEq) && argument.mask & !mask == 0;
        return if whole && !beyond { values(name, vec![number(value)]) } else { raw(name, condition) };
    };
    match condition.op {
        Operator::MaskedEq if !beyond => {
            equal(name, argument, set, mask, value).unwrap_or_else(|| raw(name, condition))
        }
        Operator::Eq if !beyond => values(name, vec![set.show(value)]),
        Operator::Ne if !beyond => Words::Text(format!("{name} != {}", set.show(value))),
        _ => match (raw(name, condition), set.name(condition.value)) {
            (Words::Text(text), Some(known)) => Words::Text(format!("{text} ({known})")),
            (text, _) => text,
        },
    }
}

fn values(name: &str, values: Vec<String>) -> Words {
    Words::Values { name: name.to_owned(), values, with: String::new() }
}

/// `argument & mask == value`; none where names do not help.
fn equal(name: &str, argument: &Argument, set: &Set, mask: u64, value: u64) -> Option<Words> {
    let read = mask & argument.mask;
    let free = argument.mask & !mask;
    if read == 0 {
        return Some(Words::Text(format!("any {name}")));
    }
    if set.is_flags() {
        return Some(flags(name, set, read, free, value));
    }
    // Numbers that follow each other: the mask leaves out low bits only.
    if free > 1 && free & free.wrapping_add(1) == 0 {
        let from = |value| set.name(value).map_or_else(|| number(value), str::to_owned);
        return Some(Words::Text(format!("{name} from {} to {}", from(value), from(value | free))));
    }
    let list = combinations(free)?;
    Some(values(name, list.into_iter().map(|bits| set.show(value | bits)).collect()))
}

/// The same of bits and fields.
fn flags(name: &str, set: &Set, read: u64, free: u64, value: u64) -> Words {
    let of_fields = set.fields().iter().fold(0, |mask, field| mask | field.mask);
    let field = set.fields().iter().find(|field| read == field.mask);
    if let Some(name_of) = field.and_then(|field| field.values.iter().find(|own| own.value == value)) {
        return Words::Text(format!("{} in {name}", name_of.name));
    }
    // Every bit that is left open has a name, and the others are told: the flags that may be set are the list.
    let open = free & !of_fields;
    if open & !set.bit_mask() == 0
        && (free.count_ones() < read.count_ones() || value & of_fields != 0)
        && let Some(list) = combinations(free & of_fields)
    {
        let values: Vec<String> = list.into_iter().map(|bits| set.show(value | bits)).collect();
        let with = if open == 0 { String::new() } else { format!(" with any of {}", set.show_mask(open)) };
        if value == 0 && values == ["0"] && open != 0 {
            return Words::Text(format!("{name} within {}", set.show_mask(open)));
        }
        return Words::Values { name: name.to_owned(), values, with };
    }
    let asked = set.show_mask(read);
    Words::Text(match value {
        0 => format!("no {} in {name}", asked.replace('|', ", no ")),
        _ if value == read => format!("{} in {name}", asked.replace('|', " and ")),
        _ => format!("{name} & ({asked}) == {}", set.show_mask(value)),
    })
}

/// Every number that has none but these bits, ascending; none where they are too many to be listed.
fn combinations(bits: u64) -> Option<Vec<u64>> {
    /// As many bits as make a list that is still read.
    const MOST: u32 = 4;
    if bits.count_ones() > MOST {
        return None;
    }
    let mut list = vec![0];
    // The next number with none but these bits; 0 after the last.
    while let Some(next) =
        list.last().map(|last: &u64| (last | !bits).wrapping_add(1) & bits).filter(|next| *next != 0)
    {
        list.push(next);
    }
    Some(list)
}

/// Which requests a condition on one lets through.
fn requests(name: &str, condition: &Condition) -> Words {
    let (mask, value) = masked(condition);
    let low = u64::from(u32::MAX);
    if !matches!(condition.op, Operator::Eq | Operator::MaskedEq) || value > low {
        return raw(name, condition);
    }
    let of_any_size = |form: &nvidia::Form| {
        u64::from(form.mask) == mask & low && u64::from(form.value) == value && form.mask != u32::MAX
    };
    if let Some(request) = nvidia::requests().iter().find(|request| request.forms.iter().any(of_any_size)) {
        return values(name, vec![format!("{} of any size", request.name)]);
    }
    let named = |bits: u64| !request::request_names(None, value | bits).is_empty();
    match combinations(low & !mask) {
        Some(list) if list.len() == 1 || list.iter().all(|bits| named(*bits)) => {
            let mut names: Vec<String> =
                list.into_iter().map(|bits| request::show(None, value | bits)).collect();
            // Forms of one request have one name.
            names.dedup();
            values(name, names)
        }
        _ => raw(name, condition),
    }
}

/// A condition in numbers.
fn raw(name: &str, condition: &Condition) -> Words {
    Words::Text(condition.to_string().replacen(&format!("arg{}", condition.index), name, 1))
}
