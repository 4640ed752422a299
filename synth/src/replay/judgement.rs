//! What can be said about a recorded call, and how often it was said.

use trace::Errno;

use super::Section;
use crate::simulate::Verdict;

/// What a profile says about a fact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Judgement {
    /// It is carried out.
    Allowed,
    /// It was needed, and is refused so.
    Denied(Verdict),
    /// It is refused, as those know who look after the profile.
    OnPurpose(Purpose),
    /// It cannot be told.
    Unknown(Unknown),
    /// It is refused, and was not needed.
    NotNeeded(NotNeeded),
}

/// Why it cannot be told whether a call is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unknown {
    /// The profile asks for arguments, and the recording has none.
    Unrecorded,
    /// The profile asks for bits of the arguments that were not kept.
    NotKept,
    /// The call was made with more different arguments than a recording keeps.
    Wide,
    /// The arguments could not be read.
    Unread,
    /// A supervisor decides, or a tracer.
    Supervised,
}

impl Unknown {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unrecorded => "the profile goes by its arguments, which were not recorded",
            Self::NotKept => "the profile goes by arguments that were not recorded",
            Self::Wide => "it was made with more different arguments than a recording keeps",
            Self::Unread => "its arguments could not be read",
            Self::Supervised => "a supervisor decides about it",
        }
    }
}

/// Why a call was not needed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotNeeded {
    /// A filter refused it every time while recording.
    OnlyRefused,
    /// It only ever failed with this errno, and still does.
    Probe(Errno),
    /// It says `ENOSYS`, and programs use this call in its place, which is allowed.
    Fallback(String),
    /// The profile was made without exec sessions, or for no runtime.
    LeftOut(Section),
}

impl NotNeeded {
    /// In words.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::OnlyRefused => "a filter refused it every time while recording".to_owned(),
            Self::Probe(errno) => format!("it only ever failed with {errno}, and still does"),
            Self::Fallback(other) => format!("it fails with ENOSYS, upon which programs use {other}"),
            Self::LeftOut(section) => format!("the profile was made without it ({})", section.as_str()),
        }
    }
}

/// Why a call is refused on purpose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// The ceiling left it out.
    Ceiling,
    /// It is answered with `ENOSYS`, so that programs fall back.
    Enosys,
    /// No table names its number, so no profile can.
    Unnamed,
    /// A reviewer denied it.
    Denied {
        /// Who.
        owner: String,
        /// Why.
        reason: String,
    },
    /// A reviewer accepted that.
    Accepted {
        /// Who.
        owner: String,
        /// Why.
        reason: String,
    },
    /// A request to the GPU's driver that is allowed only if someone decides so.
    NeverDerived,
}

impl Purpose {
    /// In words.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::Ceiling => "the ceiling leaves it out".to_owned(),
            Self::Enosys => "it is answered with ENOSYS, so that programs fall back".to_owned(),
            Self::Unnamed => "no table names its number, so no profile can".to_owned(),
            Self::Denied { owner, reason } => format!("denied by {owner}: {reason}"),
            Self::Accepted { owner, reason } => format!("accepted by {owner}: {reason}"),
            Self::NeverDerived => "such a request is allowed by a decision only".to_owned(),
        }
    }
}

/// How many facts, and how many calls they stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallied {
    /// Facts.
    pub facts: u64,
    /// Calls.
    pub calls: u64,
}

/// How many facts of each judgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Carried out.
    pub allowed: Tallied,
    /// Needed, and refused.
    pub denied: Tallied,
    /// Refused on purpose.
    pub on_purpose: Tallied,
    /// Not to be told.
    pub unknown: Tallied,
    /// Refused, and not needed.
    pub not_needed: Tallied,
}

impl Tally {
    /// Counts one more.
    pub fn count(&mut self, judgement: &Judgement, calls: u64) {
        let own = match judgement {
            Judgement::Allowed => &mut self.allowed,
            Judgement::Denied(_) => &mut self.denied,
            Judgement::OnPurpose(_) => &mut self.on_purpose,
            Judgement::Unknown(_) => &mut self.unknown,
            Judgement::NotNeeded(_) => &mut self.not_needed,
        };
        *own = Tallied { facts: own.facts.saturating_add(1), calls: own.calls.saturating_add(calls) };
    }

    /// Adds another one's.
    pub fn add(&mut self, other: &Self) {
        let own = [
            &mut self.allowed,
            &mut self.denied,
            &mut self.on_purpose,
            &mut self.unknown,
            &mut self.not_needed,
        ];
        for (own, other) in own.into_iter().zip(other.all()) {
            own.facts = own.facts.saturating_add(other.facts);
            own.calls = own.calls.saturating_add(other.calls);
        }
    }

    /// Everything.
    #[must_use]
    pub fn total(&self) -> Tallied {
        self.all().into_iter().fold(Tallied::default(), |sum, own| Tallied {
            facts: sum.facts.saturating_add(own.facts),
            calls: sum.calls.saturating_add(own.calls),
        })
    }

    const fn all(&self) -> [Tallied; 5] {
        [self.allowed, self.denied, self.on_purpose, self.unknown, self.not_needed]
    }
}
