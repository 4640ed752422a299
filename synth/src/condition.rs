//! Conditions as text, the same in tables, evidence and messages: `arg0 & 0x7e020000 == 0x0, arg1 == 2`.

use std::{fmt, str::FromStr};

use crate::profile::{ARGUMENTS, Condition, Operator};

/// A text that is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no condition; write `arg0 == 2` or `arg0 & 0xff == 2`, with ==, !=, <, <=, > or >=")]
pub struct ConditionError(pub String);

/// The operators but `SCMP_CMP_MASKED_EQ`, the longer spellings first.
const SPELLINGS: [(&str, Operator); 6] = [
    ("==", Operator::Eq),
    ("!=", Operator::Ne),
    ("<=", Operator::Le),
    (">=", Operator::Ge),
    ("<", Operator::Lt),
    (">", Operator::Gt),
];

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ConditionError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Condition> {
    let (spelling, op) = SPELLINGS.into_iter().find(|(spelling, _)| text.contains(spelling))?;
    let (left, right) = text.split_once(spelling)?;
    let right = number(right)?;
    let (argument, mask) = match left.split_once('&') {
        Some((argument, mask)) => (argument, Some(number(mask)?)),
        None => (left, None),
    };
    let index: u32 = argument.trim().strip_prefix("arg")?.parse().ok()?;
    if index >= ARGUMENTS {
        return None;
    }
    match (mask, op) {
        (None, op) => Some(Condition { index, value: right, value_two: 0, op }),
        (Some(mask), Operator::Eq) => {
            Some(Condition { index, value: mask, value_two: right, op: Operator::MaskedEq })
        }
        (Some(_), _) => None,
    }
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => u64::from_str_radix(digits, 16).ok(),
        None if !text.starts_with('+') => text.parse().ok(),
        _ => None,
    }
}

/// Conditions that must all hold, separated by commas.
///
/// # Errors
/// The first that is none.
pub fn parse_conditions(text: &str) -> Result<Vec<Condition>, ConditionError> {
    text.split(',').map(|part| part.trim().parse()).collect()
}

/// Conditions that must all hold, as text; `always` for none.
#[must_use]
pub fn display_conditions(conditions: &[Condition]) -> String {
    if conditions.is_empty() {
        return "always".to_owned();
    }
    conditions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, value, value_two, op } = self;
        if *op == Operator::MaskedEq {
            return write!(f, "arg{index} & {value:#x} == {value_two:#x}");
        }
        let spelling = SPELLINGS.iter().find(|(_, own)| own == op).map_or("==", |(spelling, _)| spelling);
        write!(f, "arg{index} {spelling} {value:#x}")
    }
}

impl Condition {
    /// Whether it holds for these arguments.
    #[must_use]
    pub fn holds(&self, args: &[u64; 6]) -> bool {
        let argument = usize::try_from(self.index).ok().and_then(|index| args.get(index));
        let Some(&argument) = argument else { return false };
        match self.op {
            Operator::Eq => argument == self.value,
            Operator::Ne => argument != self.value,
            Operator::Lt => argument < self.value,
            Operator::Le => argument <= self.value,
            Operator::Gt => argument > self.value,
            Operator::Ge => argument >= self.value,
            // libseccomp clears the datum outside the mask (`_db_node_mask_fixup`, src/db.c at v2.5.4).
            Operator::MaskedEq => argument & self.value == self.value_two & self.value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_read_back_as_they_are_written() {
        for text in ["arg0 == 0x10", "arg5 != 0x0", "arg1 < 0x2", "arg1 <= 0x2", "arg1 > 0x2", "arg1 >= 0x2"]
        {
            assert_eq!(text.parse::<Condition>().unwrap().to_string(), text);
        }
        assert_eq!("arg0&255==7".parse::<Condition>().unwrap().to_string(), "arg0 & 0xff == 0x7");
        assert_eq!(parse_conditions("arg0 == 16, arg2 == 9").unwrap().len(), 2);
        for bad in ["", "arg6 == 1", "arg0", "arg0 = 1", "x == 1", "arg0 & 1 < 2", "arg0 == 0x", "arg0 == +1"]
        {
            assert!(parse_conditions(bad).is_err(), "{bad}");
        }
    }
}
