//! Conditions as people write them, back into numbers: `request == TIOCSTI`, `flags & CLONE_NEWUSER == 0`.

use trace::Abi;

use super::{prototype, prototype::Type, request_value};
use crate::{
    arguments::{self, Argument, ArgumentKind, ArgumentUse},
    condition::{ConditionError, display_conditions, parse_conditions},
    nvidia,
    profile::{ARGUMENTS, Condition, Operator},
};

/// What is wrong with a condition that a person wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrittenError {
    /// It is none.
    #[error("`{0}` is no condition; write `{1} == 2` or `{1} & 0xff == 2`")]
    Form(String, String),
    /// No argument has this name.
    #[error("`{syscall}` has no argument `{name}` that a rule can test; {known}")]
    Argument {
        /// The syscall.
        syscall: String,
        /// What was written.
        name: String,
        /// Those that there are, in words.
        known: String,
    },
    /// The argument is in memory.
    #[error("`{name}` of `{syscall}` is in memory, which seccomp cannot read; decide about the call as such")]
    Memory {
        /// The syscall.
        syscall: String,
        /// The argument.
        name: String,
    },
    /// No value has this name.
    #[error("`{word}` is no value of `{argument}`; write a number, or a name as the report does")]
    Value {
        /// What was written.
        word: String,
        /// The argument.
        argument: String,
    },
    /// Two conditions on one argument, which runtimes take for alternatives.
    #[error("two conditions are about `{0}`; make two of it, or one with a mask")]
    Twice(String),
}

/// Conditions that must all hold, separated by commas: with the names of arguments and values, or in numbers as
/// evidence has them. An argument that the kernel reads as 32 bits is compared by its lower half.
///
/// # Errors
/// The first that is none, with its culprit.
pub fn read_conditions(syscall: &str, text: &str) -> Result<Vec<Condition>, WrittenError> {
    let mut known = [0; 6];
    let mut conditions: Vec<Condition> = Vec::new();
    for part in text.split(',').map(str::trim) {
        let condition = match parse_conditions(part) {
            Ok(parsed) => parsed.into_iter().next().map(|own| low_half(syscall, own)),
            Err(ConditionError(_)) => Some(named(syscall, part, &known)?),
        };
        let condition = condition.ok_or_else(|| form(syscall, part))?;
        if conditions.iter().any(|own| own.index == condition.index) {
            return Err(WrittenError::Twice(name_of(syscall, condition.index)));
        }
        if let Some(slot) = usize::try_from(condition.index).ok().and_then(|index| known.get_mut(index)) {
            *slot = equals(&condition).unwrap_or_default();
        }
        conditions.push(condition);
    }
    Ok(conditions)
}

/// The arguments of a call that a rule may test, as conditions that nothing else meets; empty for a call without such.
#[must_use]
pub fn tuple(syscall: &str, args: &[u64; 6]) -> Vec<Condition> {
    let ruled = rule_arguments(syscall).filter(|argument| argument.usage == ArgumentUse::Rule);
    let condition = |argument: &Argument| {
        let value = *args.get(usize::try_from(argument.index).ok()?)?;
        let (index, value, value_two) = (argument.index, argument.mask, value & argument.mask);
        Some(Condition { index, value, value_two, op: Operator::MaskedEq })
    };
    let mut conditions: Vec<Condition> = ruled.filter_map(condition).collect();
    conditions.sort_by_key(|condition| condition.index);
    conditions
}

/// The same as text that [`read_conditions`] reads; none for a call without such arguments.
#[must_use]
pub fn written(abi: Abi, syscall: &str, args: &[u64; 6]) -> Option<String> {
    let conditions = tuple(syscall, args);
    if conditions.is_empty() {
        return None;
    }
    // A name that is not unique, or none, is written as a number.
    let words = super::conditions(abi, syscall, &conditions);
    let reads_back = read_conditions(syscall, &words).is_ok_and(|read| {
        let wanted = |all: &[Condition]| all.iter().map(|own| (own.index, equals(own))).collect::<Vec<_>>();
        wanted(&read) == wanted(&conditions)
    });
    Some(if reads_back { words } else { display_conditions(&conditions) })
}

/// What the argument has to be, where the condition says it.
fn equals(condition: &Condition) -> Option<u64> {
    match condition.op {
        Operator::Eq => Some(condition.value),
        Operator::MaskedEq => Some(condition.value_two),
        _ => None,
    }
}

/// The registers of a call that meets conditions which say what each argument is; none if they leave one open.
#[must_use]
pub fn registers_of(conditions: &[Condition]) -> Option<[u64; 6]> {
    let mut args = [0; 6];
    for condition in conditions {
        *args.get_mut(usize::try_from(condition.index).ok()?)? = equals(condition)?;
    }
    Some(args)
}

fn form(syscall: &str, part: &str) -> WrittenError {
    let example = rule_arguments(syscall).next().map_or("arg0", |argument| argument.name.as_str());
    WrittenError::Form(part.to_owned(), example.to_owned())
}

fn rule_arguments(syscall: &str) -> impl Iterator<Item = &'static Argument> {
    let testable = |own: &&Argument| own.offset.is_none() && own.kind != ArgumentKind::Descriptor;
    arguments::arguments_of(syscall).filter(testable)
}

fn name_of(syscall: &str, index: u32) -> String {
    let known = rule_arguments(syscall).find(|argument| argument.index == index);
    known.map_or_else(|| format!("arg{index}"), |argument| argument.name.clone())
}

/// A comparison of all 64 bits, where the kernel reads 32, is meant for these.
fn low_half(syscall: &str, condition: Condition) -> Condition {
    let low = u64::from(u32::MAX);
    let narrow = arguments::is_narrow(syscall, condition.index) && condition.value <= low;
    match condition.op {
        Operator::Eq if narrow => {
            Condition { value: low, value_two: condition.value, op: Operator::MaskedEq, ..condition }
        }
        _ => condition,
    }
}

fn named(syscall: &str, part: &str, args: &[u64; 6]) -> Result<Condition, WrittenError> {
    let (left, right, op) = match (part.split_once("=="), part.split_once("!=")) {
        (Some((left, right)), None) => (left, right, Operator::Eq),
        (None, Some((left, right))) => (left, right, Operator::Ne),
        _ => return Err(form(syscall, part)),
    };
    let (name, mask) = match left.split_once('&') {
        Some((name, mask)) => (name.trim(), Some(mask)),
        None => (left.trim(), None),
    };
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(form(syscall, part));
    }
    let argument = argument(syscall, name)?;
    let value = argument.value(args, right)?;
    let index = argument.index;
    Ok(match (op, mask) {
        (Operator::Eq, Some(mask)) => {
            let mask = argument.value(args, mask)?;
            Condition { index, value: mask, value_two: value, op: Operator::MaskedEq }
        }
        (Operator::Eq, None) if argument.is_narrow() => {
            let low = u64::from(u32::MAX);
            Condition { index, value: low, value_two: value & low, op: Operator::MaskedEq }
        }
        (Operator::Ne, None) => Condition { index, value, value_two: 0, op },
        (Operator::Eq, None) => Condition { index, value, value_two: 0, op },
        _ => return Err(form(syscall, part)),
    })
}

/// An argument that a person named, by its name or as `arg0`.
struct Named<'a> {
    name: &'a str,
    index: u32,
    /// How the kernel reads it.
    kind: Option<Type>,
    /// What is known of its values.
    known: Option<&'static Argument>,
}

fn argument<'a>(syscall: &str, name: &'a str) -> Result<Named<'a>, WrittenError> {
    let place = || name.strip_prefix("arg")?.parse().ok().filter(|index: &u32| *index < ARGUMENTS);
    let of = |index, known| Named { name, index, kind: prototype::kind(syscall, index), known };
    let known = || arguments::arguments_of(syscall).filter(|argument| argument.name == name);
    if let Some(argument) = known().find(|argument| argument.offset.is_none()) {
        return Ok(of(argument.index, Some(argument)));
    }
    if let Some(index) = place() {
        return Ok(of(index, rule_arguments(syscall).find(|argument| argument.index == index)));
    }
    if known().next().is_some() {
        return Err(WrittenError::Memory { syscall: syscall.to_owned(), name: name.to_owned() });
    }
    let names: Vec<String> = rule_arguments(syscall).map(|argument| format!("`{}`", argument.name)).collect();
    let known = if names.is_empty() {
        "write `arg0` to `arg5`".to_owned()
    } else {
        format!("it has {}, or write `arg0` to `arg5`", names.join(", "))
    };
    Err(WrittenError::Argument { syscall: syscall.to_owned(), name: name.to_owned(), known })
}

impl Named<'_> {
    /// Whether the kernel reads the lower half of the register alone.
    fn is_narrow(&self) -> bool {
        self.known.is_some_and(|known| known.width == 32) || self.kind.is_some_and(Type::is_narrow)
    }

    /// A number, or names joined by `|`.
    fn value(&self, args: &[u64; 6], text: &str) -> Result<u64, WrittenError> {
        let mut value = 0;
        for word in text.trim().trim_start_matches('(').trim_end_matches(')').split('|').map(str::trim) {
            let known = self.number(word).or_else(|| self.of_name(args, word));
            value |= known.ok_or_else(|| WrittenError::Value {
                word: word.to_owned(),
                argument: self.known.map_or(self.name, |known| &known.name).to_owned(),
            })?;
        }
        Ok(value)
    }

    /// A number as it stands in the register; of 32 bits a negative one, too.
    fn number(&self, word: &str) -> Option<u64> {
        if let Some(digits) = word.strip_prefix('-') {
            let negative: i64 = word.parse().ok().filter(|_| !digits.starts_with('+'))?;
            return if self.is_narrow() {
                i32::try_from(negative).ok().map(|own| u64::from(own.cast_unsigned()))
            } else {
                Some(negative.cast_unsigned())
            };
        }
        match word.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+')),
            None => word.parse().ok().filter(|_| !word.starts_with('+')),
        }
    }

    fn of_name(&self, args: &[u64; 6], word: &str) -> Option<u64> {
        if self.kind == Some(Type::Dir) && word == "AT_FDCWD" {
            return self.number("-100");
        }
        // Names differ between ABIs for a few flags of `open` only, which no rule tests.
        match self.known?.kind {
            ArgumentKind::Request => request(word),
            _ => self.known?.set(Abi::X86_64, args).and_then(|set| {
                set.value(word).or_else(|| (word != "0" && set.show(0) == word).then_some(0))
            }),
        }
    }
}

/// The one number of a request; one of NVIDIA's may have several.
fn request(name: &str) -> Option<u64> {
    let of_nvidia = || match nvidia::requests().iter().find(|own| own.name == name)?.forms.as_slice() {
        [form] if form.through.is_none() && form.mask == u32::MAX => Some(u64::from(form.value)),
        _ => None,
    };
    request_value(name).or_else(of_nvidia)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::conditions;

    #[test]
    fn a_call_is_written_so_that_it_reads_back() {
        let check = |syscall: &str, args: [u64; 6], expected: Option<&str>| {
            let text = written(Abi::X86_64, syscall, &args);
            assert_eq!(text.as_deref(), expected, "{syscall}");
            if let Some(text) = text {
                let read = read_conditions(syscall, &text).unwrap();
                assert!(read.iter().all(|condition| condition.holds(&args)), "{text}");
            }
        };
        check("read", [1, 2, 3, 4, 5, 6], None);
        check("clone3", [1, 2, 3, 4, 5, 6], None);
        check(
            "socket",
            [16, 0x80003, 0, 9, 9, 9],
            Some("domain == AF_NETLINK, type == SOCK_RAW|SOCK_CLOEXEC, protocol == NETLINK_ROUTE"),
        );
        check("mmap", [0, 1, 0, 0x22, 0, 0], Some("prot == PROT_NONE, flags == MAP_PRIVATE|MAP_ANONYMOUS"));
        check("ioctl", [3, 0xffff_ffff_c020_462a, 0, 0, 0, 0], Some("request == NV_ESC_RM_CONTROL"));
        check("ioctl", [3, 1, 0, 0, 0, 0], Some("arg1 & 0xffffffff == 0x1"));
        check("ioctl", [3, 0xdead_beef, 0, 0, 0, 0], Some("arg1 & 0xffffffff == 0xdeadbeef"));
        check(
            "clone",
            [0x3d_0f00, 0, 0, 0, 0, 0],
            Some(
                "flags == CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD|CLONE_SYSVSEM|CLONE_SETTLS|CLONE_PARENT_SETTID|CLONE_CHILD_CLEARTID",
            ),
        );
    }

    #[test]
    fn names_and_numbers_say_the_same() {
        for (syscall, written, expected) in [
            ("ioctl", "request == TIOCSTI", "arg1 & 0xffffffff == 0x5412"),
            ("ioctl", "arg1 == 0x5412", "arg1 & 0xffffffff == 0x5412"),
            ("ioctl", "request == NV_ESC_RM_CONTROL", "arg1 & 0xffffffff == 0xc020462a"),
            (
                "socket",
                "domain == AF_NETLINK, protocol == NETLINK_AUDIT",
                "arg0 & 0xffffffff == 0x10, arg2 & 0xffffffff == 0x9",
            ),
            ("clone", "flags & CLONE_NEWUSER == 0", "arg0 & 0x10000000 == 0x0"),
            ("mmap", "prot & (PROT_WRITE|PROT_EXEC) == PROT_WRITE|PROT_EXEC", "arg2 & 0x6 == 0x6"),
            (
                "setsockopt",
                "level == SOL_TCP, optname == TCP_ULP",
                "arg1 & 0xffffffff == 0x6, arg2 & 0xffffffff == 0x1f",
            ),
            ("socket", "domain != AF_UNIX", "arg0 != 0x1"),
            ("read", "arg2 == 5", "arg2 == 0x5"),
            ("read", "arg2 < 5", "arg2 < 0x5"),
            ("openat", "arg0 == AT_FDCWD", "arg0 & 0xffffffff == 0xffffff9c"),
            ("kill", "arg0 == -1", "arg0 & 0xffffffff == 0xffffffff"),
            ("lseek", "arg1 == -1", "arg1 == 0xffffffffffffffff"),
            ("ioctl", "fd == 1", "arg0 & 0xffffffff == 0x1"),
        ] {
            let read = read_conditions(syscall, written).unwrap();
            assert_eq!(display_conditions(&read), expected, "{syscall} {written}");
            // What a report says can be written back.
            let shown = conditions(Abi::X86_64, syscall, &read);
            if let Ok(again) = read_conditions(syscall, &shown) {
                assert_eq!(again, read, "{shown}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (syscall, written, culprit) in [
            ("ioctl", "", "`` is no condition; write `request == 2`"),
            ("ioctl", "request", "`request` is no condition"),
            (
                "ioctl",
                "reqest == TIOCSTI",
                "no argument `reqest` that a rule can test; it has `request`, or write",
            ),
            ("ioctl", "request == TIOCSTY", "`TIOCSTY` is no value of `request`"),
            ("ioctl", "request == NV_ESC_RM_ALLOC", "`NV_ESC_RM_ALLOC` is no value"),
            ("ioctl", "request == +1", "`+1` is no value"),
            ("ioctl", "request < TIOCSTI", "is no condition"),
            ("clone3", "flags & CLONE_NEWUSER == 0", "`flags` of `clone3` is in memory"),
            ("read", "fd == 1", "no argument `fd` that a rule can test; write `arg0` to `arg5`"),
            ("openat", "arg0 == AT_FDWC", "`AT_FDWC` is no value of `arg0`; write a number"),
            ("kill", "arg0 == -3000000000", "`-3000000000` is no value of `arg0`"),
            ("read", "arg6 == AF_INET", "no argument `arg6`"),
            ("socket", "domain == AF_INET, arg0 == 1", "two conditions are about `domain`"),
        ] {
            let error = read_conditions(syscall, written).unwrap_err().to_string();
            assert!(error.contains(culprit), "{written}: {error}");
        }
    }
}
