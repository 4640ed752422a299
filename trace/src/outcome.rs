//! How a call ended: well, or with an errno, by name.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An error number, positive. 1 to 4095, the kernel-internal restart codes (512 to 516) included, which a
/// tracepoint sees before the signal code turns them into `EINTR` or a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(u16);

impl Errno {
    /// Operation not permitted.
    pub const EPERM: Self = Self(1);
    /// Function not implemented.
    pub const ENOSYS: Self = Self(38);

    /// The errno with this number; none outside 1 to 4095 (`MAX_ERRNO`, `include/linux/err.h`).
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number >= 1 && number <= 4095 { Some(Self(number)) } else { None }
    }

    /// The number, positive.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match syscalls::Errno::new(i32::from(self.0)).name() {
            Some(name) => f.write_str(name),
            None => write!(f, "E{}", self.0),
        }
    }
}

impl FromStr for Errno {
    type Err = OutcomeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || OutcomeError(text.to_owned());
        if let Some(number) = text.strip_prefix('E').and_then(|digits| digits.parse().ok()) {
            return Self::new(number).ok_or_else(unknown);
        }
        // Some numbers have two names (`EAGAIN`, `EWOULDBLOCK`); the table has one of them.
        (1..=4095u16).map(Self).find(|errno| errno.to_string() == text).ok_or_else(unknown)
    }
}

/// An outcome that is neither `ok`, `unknown` nor an errno.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown outcome `{0}`; known are `ok`, `unknown`, `killed` and the errno names")]
pub struct OutcomeError(pub String);

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It returned something that is no error.
    Ok,
    /// It failed with this errno.
    Error(Errno),
    /// The recorder could not see how it ended (user notification sees only the entry).
    Unknown,
    /// A seccomp filter answered with a signal (`TRAP`, `KILL_*`). Only among refusals.
    Killed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Unknown => f.write_str("unknown"),
            Self::Killed => f.write_str("killed"),
            Self::Error(errno) => errno.fmt(f),
        }
    }
}

impl FromStr for Outcome {
    type Err = OutcomeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ok" => Ok(Self::Ok),
            "unknown" => Ok(Self::Unknown),
            "killed" => Ok(Self::Killed),
            _ => text.parse().map(Self::Error),
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Outcome {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Outcome".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "`ok`, `unknown`, `killed`, or the errno's name (`E` and the number where it has none)",
            "pattern": "^(ok|unknown|killed|E[A-Z0-9_]+)$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_reads_back_as_itself() {
        for number in 1..=4095 {
            let errno = Errno::new(number).unwrap();
            assert_eq!(errno.to_string().parse::<Errno>().unwrap(), errno, "{errno}");
        }
        assert_eq!(Errno::new(0), None);
        assert_eq!(Errno::new(4096), None);
        assert!("EWHATEVER".parse::<Outcome>().is_err());
        assert_eq!("ERESTARTSYS".parse::<Errno>().unwrap().number(), 512);
    }
}
