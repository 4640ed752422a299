//! Decisions of a reviewer, which survive every synthesis: what is allowed, denied or accepted, why, by whom, and
//! until when.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::profile::{Action, Condition, Entry, Profile};

/// What a reviewer decided about a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Which way.
    pub verdict: Verdict,
    /// The syscall.
    pub syscall: String,
    /// The conditions that must all hold; none for the call as such.
    pub when: Vec<Condition>,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// The last day on which it counts; none for good.
    pub expires: Option<Date>,
}

/// Which way a reviewer decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is allowed, also above the ceiling.
    Allow,
    /// It is refused, also where it was observed.
    Deny,
    /// What was found about it is known and accepted.
    Accept,
}

impl Verdict {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Accept => "accept",
        }
    }
}

impl Decision {
    /// Whether it no longer counts on this day; without one none is over, and one that denies never is.
    #[must_use]
    pub fn is_over(&self, today: Option<Date>) -> bool {
        is_over(self.verdict, self.expires, today)
    }
}

/// Whether a decision no longer counts on this day.
pub(crate) fn is_over(verdict: Verdict, expires: Option<Date>, today: Option<Date>) -> bool {
    verdict != Verdict::Deny && expires.zip(today).is_some_and(|(expires, today)| today > expires)
}

/// A profile that lets through what decisions allow as well. What it refuses by name it no longer does where one of them
/// is about the call.
#[must_use]
pub fn allowing<'a>(profile: &Profile, decisions: impl IntoIterator<Item = &'a Decision>) -> Profile {
    let mut profile = profile.clone();
    for decision in decisions.into_iter().filter(|own| own.verdict == Verdict::Allow) {
        for entry in profile.syscalls.iter_mut().filter(|entry| !entry.action.executes()) {
            entry.names.retain(|name| *name != decision.syscall);
        }
        profile.syscalls.push(Entry {
            names: vec![decision.syscall.clone()],
            action: Action::Allow,
            errno_ret: None,
            args: decision.when.clone(),
        });
    }
    profile.syscalls.retain(|entry| !entry.names.is_empty());
    profile
}

/// A day, `yyyy-mm-dd`; ordered by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

/// A text that is no day.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no day; write it as 2026-12-31")]
pub struct DateError(pub String);

impl Date {
    /// How many days after another one this is; negative before it.
    #[must_use]
    pub fn days_after(self, other: Self) -> i64 {
        self.number() - other.number()
    }

    /// Days since the first of March of year 0 of the Gregorian calendar: the leap day is a year's last.
    fn number(self) -> i64 {
        let (month, day) = (i64::from(self.month), i64::from(self.day));
        let year = i64::from(self.year) - i64::from(month < 3);
        let month = (month + 9) % 12;
        365 * year + year.div_euclid(4) - year.div_euclid(100)
            + year.div_euclid(400)
            + (153 * month + 2) / 5
            + day
            - 1
    }
}

impl FromStr for Date {
    type Err = DateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| DateError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let mut number = |digits: usize| {
        let part = parts.next().filter(|part| part.len() == digits)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u16>().ok())?
    };
    let (year, month, day) = (number(4)?, number(2)?, number(2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    let is_day = (1..=days).contains(&day) && parts.next().is_none();
    is_day.then_some(Date { year, month: u8::try_from(month).ok()?, day: u8::try_from(day).ok()? })
}

impl TryFrom<String> for Date {
    type Error = DateError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Date> for String {
    fn from(date: Date) -> Self {
        date.to_string()
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl JsonSchema for Date {
    fn schema_name() -> Cow<'static, str> {
        "Date".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_read_back_and_are_ordered() {
        for text in ["2026-01-31", "2024-02-29", "0001-12-01"] {
            assert_eq!(text.parse::<Date>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "2026-1-31",
            "2026-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-04-31",
            "26-01-01",
            "2026-01-01-",
        ] {
            assert!(bad.parse::<Date>().is_err(), "{bad}");
        }
        let day = |text: &str| text.parse::<Date>().unwrap();
        for (later, earlier, days) in [
            ("2026-01-01", "2025-12-31", 1),
            ("2024-03-01", "2024-02-28", 2),
            ("2100-03-01", "2100-02-28", 1),
            ("2000-03-01", "1970-01-01", 11_017),
            ("2026-11-22", "2026-11-22", 0),
        ] {
            assert_eq!(day(later).days_after(day(earlier)), days, "{later} {earlier}");
            assert_eq!(day(earlier).days_after(day(later)), -days);
        }
        assert!(day("2025-12-31") < day("2026-01-01") && day("2026-01-31") < day("2026-02-01"));
    }
}
