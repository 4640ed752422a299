//! Targets that the kernel side makes: cgroups with a name that is waited for, and those of nurseries.

use std::path::PathBuf;

use aya::maps::MapError;
use profiler_ebpf::{MAX_NURSERIES, MAX_WANTED, NAME_LENGTH, maps};

use super::{Fleet, Known, TargetId};
use crate::ebpf::{
    EbpfError, cgroup,
    tables::{Plain, failed},
};

/// A target that was made together with its cgroup: nothing in it was missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Born {
    /// The target.
    pub target: TargetId,
    /// The target that its cgroup was made in, if that is recorded too.
    pub parent: Option<TargetId>,
    /// The id of the cgroup.
    pub cgroup: u64,
    /// Its path below the mount, beginning with a slash; cut after 511 bytes.
    pub path: String,
    /// When it was made: `CLOCK_MONOTONIC`, nanoseconds.
    pub at_ns: u64,
}

impl Fleet {
    /// A cgroup made from now on whose directory has one of these names becomes a target, before anybody can put a
    /// task into it.
    ///
    /// # Errors
    /// When a name cannot be a directory's, or there are too many.
    pub fn expect(&mut self, names: &[String]) -> Result<(), EbpfError> {
        for name in names {
            let key = key(name).ok_or_else(|| EbpfError::Name(name.clone()))?;
            self.own
                .wanted
                .insert(key, 1, 0)
                .map_err(|error| full(error, "names of cgroups", MAX_WANTED, maps::WANTED))?;
        }
        Ok(())
    }

    /// Takes names back that were waited for.
    pub fn forget(&mut self, names: &[String]) {
        for key in names.iter().filter_map(|name| key(name)) {
            // A name that is not there is as well as one that was taken away.
            let _ = self.own.wanted.remove(&key);
        }
    }

    /// Every cgroup made below this one from now on becomes a target of its own, down to `depth` levels; what is
    /// made further down counts for the target it is in. The directory itself is not recorded.
    ///
    /// # Errors
    /// When the directory is not one of a cgroup v2 mount, or there are too many below it.
    pub fn nurse(&mut self, directory: &std::path::Path, depth: u32) -> Result<(), EbpfError> {
        cgroup::check(directory)?;
        let mut found = self.nurseries.remove(directory).unwrap_or_default();
        let mut result = Ok(());
        // What is made while we look is found the second time.
        for _ in 0..2 {
            for (id, level) in cgroup::levels(directory, depth)? {
                let below = depth.saturating_sub(level);
                // Another nursery may have it too, and reach further.
                let levels = self.levels(id).map_or(below, |known| known.max(below));
                result = self.own.nurseries.insert(id, levels, 0);
                if result.is_err() {
                    break;
                }
                found.insert(id, below);
            }
        }
        self.nurseries.insert(directory.to_owned(), found);
        let what = "cgroups whose children are waited for";
        result.map_err(|error| full(error, what, MAX_NURSERIES, maps::NURSERIES))
    }

    /// How many levels below a cgroup become targets because of the nurseries that there are.
    fn levels(&self, cgroup: u64) -> Option<u32> {
        self.nurseries.values().filter_map(|found| found.get(&cgroup)).copied().max()
    }

    /// What is made below this directory is no target any more; those that are, stay.
    pub fn unnurse(&mut self, directory: &std::path::Path) {
        let ended = self.nurseries.remove(directory).unwrap_or_default();
        let former = if self.nurseries.is_empty() { std::mem::take(&mut self.former) } else { Vec::new() };
        for id in ended.into_keys().chain(former) {
            // It may have been removed with its cgroup; and another nursery may have it too.
            let _ = match self.levels(id) {
                Some(levels) => self.own.nurseries.insert(id, levels, 0),
                None => self.own.nurseries.remove(&id),
            };
        }
    }

    /// The targets that were made since the last call, in order. Cheap enough to be asked many times a second.
    ///
    /// # Errors
    /// When the kernel's tables cannot be read.
    pub fn news(&mut self) -> Result<Vec<Born>, EbpfError> {
        let mut born = Vec::new();
        loop {
            let target = match self.own.news.pop(0) {
                Ok(target) => TargetId(target),
                Err(MapError::ElementNotFound) => break,
                Err(error) => return Err(failed(maps::NEWS)(error)),
            };
            let kept = self.own.targets.get(&target.index(), 0);
            let Plain(kept) = kept.map_err(failed(maps::TARGETS))?;
            let end = kept.path.iter().position(|byte| *byte == 0).unwrap_or(kept.path.len());
            let path = String::from_utf8_lossy(kept.path.get(..end).unwrap_or_default()).into_owned();
            let directory = self
                .mount
                .as_deref()
                .map_or_else(PathBuf::new, |mount| mount.join(path.trim_start_matches('/')));
            let known = Known { armed_ns: kept.armed_ns, missed_before: self.missed, directory };
            self.known.insert(target, known);
            let parent = Some(TargetId(kept.parent)).filter(|parent| parent.0 != 0);
            born.push(Born { target, parent, cgroup: kept.cgroup, path, at_ns: kept.armed_ns });
        }
        if !born.is_empty() {
            self.missed = self.missed()?;
        }
        Ok(born)
    }
}

/// A name as the kernel side looks it up.
fn key(name: &str) -> Option<[u8; NAME_LENGTH]> {
    let mut key = [0; NAME_LENGTH];
    let fits = !name.is_empty() && name.len() < NAME_LENGTH && !name.contains(['/', '\0']);
    if fits {
        key.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
    }
    fits.then_some(key)
}

/// Whether the kernel had no room, which is its own error.
fn full(error: MapError, what: &'static str, max: u32, map: &'static str) -> EbpfError {
    match &error {
        MapError::SyscallError(refused) if refused.io_error.raw_os_error() == Some(libc::E2BIG) => {
            EbpfError::TooMany { what, max }
        }
        _ => failed(map)(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_with_zeros_and_leave_room_for_one() {
        let name = "n".repeat(NAME_LENGTH - 1);
        assert_eq!(key(&name).unwrap()[NAME_LENGTH - 1], 0);
        assert_eq!(key("ab").unwrap()[..3], *b"ab\0");
        for bad in ["", "a/b", "a\0b", &"n".repeat(NAME_LENGTH)] {
            assert!(key(bad).is_none(), "{bad}");
        }
    }
}
