//! The releases of libseccomp and the names that each knows: `profiles/knowledge/libseccomp.toml`.
//!
//! Decided from a table, not from this host's library: a profile is made here and loaded elsewhere, and what that
//! library does not know silently vanishes from it.

use std::{fmt, str::FromStr, sync::LazyLock};

use serde::Deserialize;
use trace::Abi;

/// From here on all architectures share their numbers: `pidfd_send_signal`, Linux 5.1.
const FIRST_SHARED: u32 = 424;

/// x32 has numbers of its own from here on, which are old calls.
const FIRST_OF_X32: u32 = 512;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    release: Vec<Release>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    version: String,
    linux: String,
    last: u32,
    absent: String,
}

#[expect(clippy::expect_used, reason = "the file is part of the program, and a test reads it")]
static RELEASES: LazyLock<Vec<Release>> = LazyLock::new(|| {
    let text = include_str!("../../profiles/knowledge/libseccomp.toml");
    toml::from_str::<Table>(text).expect("the shipped table reads").release
});

/// A release of libseccomp that the table knows. The default is the oldest that is supported.
#[derive(Clone, Copy)]
pub struct Libseccomp(&'static Release);

/// A version that the table does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("libseccomp `{version}` is not in the table; known are {known}")]
pub struct UnknownLibseccomp {
    /// What was asked for.
    pub version: String,
    /// What there is, in words.
    pub known: String,
}

impl Libseccomp {
    /// The oldest supported release: Debian 12's and RHEL 9's, which newer ones only add names to.
    pub const OLDEST: &'static str = "2.5.4";

    /// All releases of the table, the oldest first.
    pub fn all() -> impl Iterator<Item = Self> {
        RELEASES.iter().map(Self)
    }

    /// The release as it calls itself: `2.5.4`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        &self.0.version
    }

    /// The Linux whose calls it knows, `major.minor`.
    #[must_use]
    pub fn linux(self) -> &'static str {
        &self.0.linux
    }

    /// Whether this release knows the name of a call, as it was published: distributions add names to their builds.
    #[must_use]
    pub fn knows(self, name: &str) -> bool {
        let late = |number: u32| (FIRST_SHARED..FIRST_OF_X32).contains(&number) && number > self.0.last;
        !self.0.absent.split_whitespace().any(|absent| absent == name)
            && !Abi::ALL.iter().filter_map(|abi| abi.number(name)).any(late)
    }
}

impl Default for Libseccomp {
    #[expect(clippy::expect_used, reason = "the table is part of the program, and a test asks for it")]
    fn default() -> Self {
        Self::OLDEST.parse().expect("the oldest release is in the table")
    }
}

impl FromStr for Libseccomp {
    type Err = UnknownLibseccomp;

    fn from_str(version: &str) -> Result<Self, Self::Err> {
        Self::all().find(|release| release.as_str() == version).ok_or_else(|| UnknownLibseccomp {
            version: version.to_owned(),
            known: Self::all().map(Self::as_str).collect::<Vec<_>>().join(", "),
        })
    }
}

impl fmt::Display for Libseccomp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Libseccomp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Libseccomp({self})")
    }
}

impl PartialEq for Libseccomp {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Libseccomp {}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> impl Iterator<Item = String> {
        Abi::ALL.iter().flat_map(|abi| abi.numbers().map(|number| abi.name(number).to_string()))
    }

    #[test]
    fn a_later_release_knows_all_that_an_earlier_one_does() {
        let releases: Vec<Libseccomp> = Libseccomp::all().collect();
        assert_eq!(Libseccomp::default().as_str(), Libseccomp::OLDEST);
        assert!(names().all(|name| releases[releases.len() - 1].knows(&name)));
        for pair in releases.windows(2) {
            let [earlier, later] = pair else { unreachable!() };
            for name in names() {
                assert!(later.knows(&name) || !earlier.knows(&name), "{earlier} {later} {name}");
            }
        }
    }

    #[test]
    fn a_release_knows_the_calls_of_its_linux_and_no_later_ones() {
        for (version, last, next) in [
            ("2.5.3", "process_mrelease", "futex_waitv"),
            ("2.5.4", "set_mempolicy_home_node", "cachestat"),
            ("2.5.5", "futex_requeue", "statmount"),
            ("2.5.6", "removexattrat", "open_tree_attr"),
            ("2.6.0", "uretprobe", "uprobe"),
            ("2.6.0", "mseal", "file_getattr"),
        ] {
            let release: Libseccomp = version.parse().unwrap();
            assert!(release.knows(last) && !release.knows(next), "{version}");
        }
        for name in ["read", "rt_sigaction", "preadv2", "execveat", "clone3"] {
            assert!(Libseccomp::all().all(|release| release.knows(name)), "{name}");
        }
        let unknown = "2.5".parse::<Libseccomp>().unwrap_err().to_string();
        assert_eq!(
            unknown,
            "libseccomp `2.5` is not in the table; known are 2.5.3, 2.5.4, 2.5.5, 2.5.6, 2.6.0, 2.6.1"
        );
    }

    #[test]
    fn the_library_of_this_host_knows_at_least_what_its_release_does() {
        // Distributions add names to their builds (Debian's 2.5.4 knows cachestat), so only this direction.
        let (major, minor, micro) = crate::library_version().unwrap();
        let own = format!("{major}.{minor}.{micro}");
        let Ok(release) = own.parse::<Libseccomp>() else {
            println!("skipped: the table does not have this host's libseccomp {own}");
            return;
        };
        for name in names() {
            assert!(crate::host_knows(&name) || !release.knows(&name), "{name}");
        }
    }
}
