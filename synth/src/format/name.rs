//! What an installed profile is called: a name and the first digits of its digest.

use std::{fmt, str::FromStr};

use trace::Digest;

use crate::profile::Profile;

/// How many hexadecimal digits of the digest are in the name.
const DIGITS: usize = 12;

/// The longest name: with the digits it is still a label of Kubernetes (63 characters).
const LONGEST: usize = 63 - 1 - DIGITS;

/// A name that is the same in a file system, in Kubernetes and on a command line: lower-case letters, digits and
/// hyphens, with a letter or digit at both ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProfileName(String);

/// A name that cannot be one everywhere.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no name for a profile; use at most {LONGEST} lower-case letters, digits and hyphens, with a letter or digit at both ends"
)]
pub struct NameError(String);

impl FromStr for ProfileName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ends = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = (1..=LONGEST).contains(&text.len())
            && text.bytes().all(|byte| ends(byte) || byte == b'-')
            && text.bytes().next().is_some_and(ends)
            && text.bytes().last().is_some_and(ends);
        if fits { Ok(Self(text.to_owned())) } else { Err(NameError(text.to_owned())) }
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ProfileName {
    /// The nearest name to what a file, a folder or an image is called; `profile` where nothing is left of it.
    #[must_use]
    pub fn nearest(text: &str) -> Self {
        let mut name = String::new();
        for character in text.chars().map(|character| character.to_ascii_lowercase()) {
            if character.is_ascii_lowercase() || character.is_ascii_digit() {
                name.push(character);
            } else if !name.is_empty() && !name.ends_with('-') {
                name.push('-');
            }
        }
        name.truncate(LONGEST);
        let name = name.trim_end_matches('-');
        Self(if name.is_empty() { "profile" } else { name }.to_owned())
    }

    /// The name with the first digits of the profile's digest: `nim-llm-0123456789ab`.
    #[must_use]
    pub fn of(&self, profile: &Profile) -> String {
        format!("{self}-{}", Self::digits(&profile.digest()))
    }

    /// The digits of a digest that stand in a name.
    #[must_use]
    pub fn digits(digest: &Digest) -> String {
        digest.to_string().chars().skip("sha256:".len()).take(DIGITS).collect()
    }
}

#[cfg(test)]
mod tests {
    use trace::Abi;

    use super::*;
    use crate::observe_profile;

    #[test]
    fn names_are_the_same_everywhere_or_refused() {
        for good in ["a", "nim-llm", "0", "llama-3-1-8b", &"x".repeat(50)] {
            assert_eq!(good.parse::<ProfileName>().unwrap().to_string(), good);
            assert_eq!(ProfileName::nearest(good).to_string(), good);
        }
        for bad in ["", "-a", "a-", "A", "a/b", "..", "a_b", "a.b", "a b", "ä", &"x".repeat(51)] {
            let error = bad.parse::<ProfileName>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{bad}` is no name for a profile; use")), "{error}");
        }
    }

    #[test]
    fn any_text_gives_a_name() {
        let check = |text: &str, expected: &str| {
            let name = ProfileName::nearest(text);
            assert_eq!(name.to_string(), expected);
            assert_eq!(name.to_string().parse(), Ok(name));
        };
        check("My NIM (8B)!", "my-nim-8b");
        check("--", "profile");
        check("", "profile");
        check("…", "profile");
        check(&"ab-".repeat(40), &("ab-".repeat(16) + "ab"));
    }

    #[test]
    fn the_digest_is_in_the_name() {
        let profile = observe_profile(Abi::X86_64);
        let name = "observe".parse::<ProfileName>().unwrap().of(&profile);
        let digest = profile.digest().to_string();
        assert_eq!(name, format!("observe-{}", digest.get(7..19).unwrap()));
    }
}
