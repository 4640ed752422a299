//! What the arguments of calls were, as far as they were kept, and what the descriptors among them named.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    FirstSight, Outcome, PhaseName, Row, hex, strict,
    values::{RESERVED, Written},
};

/// The most distinct values of one call's arguments that are kept: whoever makes more is marked wide.
pub const MOST_VALUES: usize = 256;

/// What the arguments of a call were.
///
/// `calls` of the row = sum of the `calls` of `values` + `beyond` + `unread`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Written", into = "Written")]
pub struct Arguments {
    /// Which arguments were kept, ordered by index and offset. Of several runs: those that all of them kept.
    pub kept: Vec<Kept>,
    /// There were more distinct values than are kept: `values` are not all.
    pub wide: bool,
    /// Entered calls whose values are not among `values`.
    pub beyond: u64,
    /// Entered calls whose struct could not be read (`EFAULT`): what stood in it is not known.
    pub unread: u64,
    /// Runs were merged that kept different arguments, so that it is not known in how many of them a value was
    /// seen: the `runs` of each value are those of the row.
    pub narrowed: bool,
    /// The distinct values, ordered.
    pub values: Vec<Values>,
}

/// An argument that was kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Which argument, from 0.
    pub index: u32,
    /// For a field of the struct that the argument points to: where in the struct, in bytes. It was read from the
    /// caller's memory when the call was entered; what the kernel then read may differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u32>,
    /// Its name in the manual page.
    pub name: String,
    /// The bits that were kept; the others have no effect. Of several runs: the bits that all of them kept.
    #[serde(with = "hex")]
    #[schemars(with = "hex::Text")]
    pub mask: u64,
}

/// Values that arguments had together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    /// The values, masked; one for each argument that was kept, in that order.
    pub arguments: Vec<u64>,
    /// How often the call was entered with them.
    pub calls: u64,
    /// How often a filter answered it.
    pub denied: u64,
    /// In how many runs they were seen.
    pub runs: u64,
    /// The arguments, of those that the kernel reads as 32 bits, whose upper half was not zero.
    pub upper: BTreeSet<String>,
    /// What the call's descriptor was, for calls of which that is kept.
    pub file: Option<File>,
    /// The phases in which they were seen.
    pub phases: BTreeSet<PhaseName>,
    /// Who made such a call first. Of several runs: the smallest.
    pub first: FirstSight,
}

/// What a descriptor was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct File {
    /// The kind of file.
    pub kind: FileKind,
    /// Major and minor number of a device, `195:255`. Of several runs: where they agree.
    pub device: Option<String>,
    /// Where it is: of devices, and of files without a place (`[eventpoll]`); never of a regular file.
    pub path: Option<String>,
}

/// The kinds of file that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// A character device.
    #[serde(rename = "character device")]
    CharacterDevice,
    /// A block device.
    #[serde(rename = "block device")]
    BlockDevice,
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A socket.
    Socket,
    /// A pipe or fifo.
    Pipe,
    /// A file of the kernel's own without a place in a file system: `[eventpoll]`, `[eventfd]`.
    Anonymous,
    /// Memory with a descriptor (`memfd_create`).
    Memory,
    /// Something else.
    Other,
    /// There was no such descriptor.
    None,
}

/// Kind, path, and the device where there is no path.
type FileKey<'f> = (FileKind, Option<&'f str>, Option<&'f str>);

/// An open of one of the GPU driver's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// The path, as the caller wrote it.
    pub path: String,
    /// How often it was opened, or tried to.
    pub calls: u64,
    /// How that ended; the sum is `calls`.
    #[serde(deserialize_with = "strict::map")]
    #[schemars(with = "BTreeMap<String, u64>")]
    pub outcomes: BTreeMap<Outcome, u64>,
    /// In how many runs it was seen.
    pub runs: u64,
    /// Who did so first. Of several runs: the smallest.
    pub first: FirstSight,
}

impl Arguments {
    /// What one run showed: values that are the same are added up. `beyond` and `unread` are 0.
    #[must_use]
    pub fn of(kept: Vec<Kept>, values: impl IntoIterator<Item = Values>) -> Self {
        let values = added(values, u64::max);
        Self { kept, values, ..Self::default() }
    }

    /// What two runs, or groups of runs, showed together: of the arguments that both kept.
    ///
    /// As while recording, no more than [`MOST_VALUES`] are kept: the first in their order. A value that is left out of a
    /// group has as many before it in every larger one, so that groups of runs that kept the same arguments join in
    /// any order to the same.
    pub(crate) fn join(mut self, other: Self) -> Self {
        if self.kept == other.kept {
            for values in other.values {
                self.insert(values);
            }
        } else {
            let kept: Vec<Kept> = self.kept.iter().filter_map(|own| own.within(&other.kept)).collect();
            let values = [self.narrowed_to(&kept), other.narrowed_to(&kept)].into_iter().flatten();
            self.values = added(values, u64::saturating_add);
            self.kept = kept;
            self.narrowed = true;
        }
        self.wide |= other.wide;
        self.narrowed |= other.narrowed;
        self.beyond = self.beyond.saturating_add(other.beyond);
        self.unread = self.unread.saturating_add(other.unread);
        for values in self.values.drain(MOST_VALUES.min(self.values.len())..) {
            self.wide = true;
            self.beyond = self.beyond.saturating_add(values.calls);
        }
        self
    }

    /// Adds values of another run, of the same arguments, in their place.
    fn insert(&mut self, values: Values) {
        match self.values.binary_search_by(|own| own.key().cmp(&values.key())) {
            Ok(place) => {
                if let Some(own) = self.values.get_mut(place) {
                    own.add(&values, u64::saturating_add);
                }
            }
            Err(place) => self.values.insert(place, values),
        }
    }

    /// As part of a row that was seen in so many runs.
    pub(crate) fn in_runs(mut self, runs: u64) -> Self {
        if self.narrowed {
            self.values.iter_mut().for_each(|values| values.runs = runs);
        }
        self
    }

    pub(crate) fn narrowed_to(&self, kept: &[Kept]) -> Vec<Values> {
        if self.kept == kept {
            return self.values.clone();
        }
        let one = |values: &Values| {
            let value = |kept: &Kept| {
                let place = self.kept.iter().position(|own| own.is_same(kept))?;
                values.arguments.get(place).map(|value| value & kept.mask)
            };
            let mut values = values.clone();
            values.arguments = kept.iter().filter_map(value).collect();
            values.upper.retain(|name| kept.iter().any(|kept| kept.name == *name));
            values
        };
        self.values.iter().map(one).collect()
    }

    /// The laws of what is kept that the types do not say.
    pub(crate) fn check(&self, row: &Row) -> Result<(), String> {
        let Self { kept, values, .. } = self;
        if !kept.is_sorted_by(|a, b| (a.index, a.offset) < (b.index, b.offset)) {
            return Err("`kept` is not ordered by index and offset, or has an argument twice".to_owned());
        }
        let names: BTreeSet<&str> = kept.iter().map(|kept| kept.name.as_str()).collect();
        if names.len() != kept.len() {
            return Err("two arguments of `kept` have one name".to_owned());
        }
        if let Some(name) = names.iter().find(|name| name.is_empty() || RESERVED.contains(name)) {
            return Err(format!("no argument can be called `{name}`"));
        }
        if let Some(kept) = kept.iter().find(|kept| kept.mask == 0 || kept.index > 5) {
            return Err(format!("argument `{}` is none of six, or has no bits", kept.name));
        }
        if !values.is_sorted_by(|a, b| a.key() < b.key()) {
            return Err("`values` is not ordered, or has values twice".to_owned());
        }
        for one in values {
            let masks = kept.iter().map(|kept| kept.mask);
            if one.arguments.len() != kept.len()
                || one.arguments.iter().zip(masks).any(|(value, mask)| value & !mask != 0)
            {
                return Err("values have bits outside of the masks of what was kept".to_owned());
            }
            if let Some(name) = one.upper.iter().find(|name| !names.contains(name.as_str())) {
                return Err(format!("`upper` names `{name}`, which is not kept"));
            }
            if one.calls == 0 && one.denied == 0 {
                return Err("values were neither called nor denied".to_owned());
            }
            let runs = if self.narrowed { row.runs..=row.runs } else { 1..=row.runs };
            if !runs.contains(&one.runs) {
                return Err(format!("values were seen in {} of the row's {} runs", one.runs, row.runs));
            }
        }
        let sum = |count: fn(&Values) -> u64| values.iter().map(count).try_fold(0, u64::checked_add);
        let calls =
            sum(|one| one.calls).and_then(|sum| sum.checked_add(self.beyond)?.checked_add(self.unread));
        if calls != Some(row.calls) {
            return Err(format!("{} calls, but values, beyond and unread are not as many", row.calls));
        }
        if sum(|one| one.denied).is_none_or(|denied| denied > row.denied) {
            return Err(format!("{} denied, but more of the values", row.denied));
        }
        Ok(())
    }
}

/// The values in order; those that are the same added up.
fn added(values: impl IntoIterator<Item = Values>, runs: fn(u64, u64) -> u64) -> Vec<Values> {
    let mut all: Vec<Values> = values.into_iter().collect();
    all.sort_by(|one, other| one.key().cmp(&other.key()));
    all.dedup_by(|other, own| {
        let same = own.key() == other.key();
        if same {
            own.add(other, runs);
        }
        same
    });
    all
}

impl Values {
    /// By what values are told apart.
    pub(crate) fn key(&self) -> (&[u64], &BTreeSet<String>, Option<FileKey<'_>>) {
        (&self.arguments, &self.upper, self.file.as_ref().map(File::key))
    }

    fn add(&mut self, other: &Self, runs: fn(u64, u64) -> u64) {
        self.calls = self.calls.saturating_add(other.calls);
        self.denied = self.denied.saturating_add(other.denied);
        self.runs = runs(self.runs, other.runs);
        self.phases.extend(&other.phases);
        if other.first < self.first {
            self.first = other.first.clone();
        }
        if let (Some(own), Some(other)) = (&mut self.file, &other.file)
            && own.device != other.device
        {
            own.device = None;
        }
    }
}

impl Kept {
    fn is_same(&self, other: &Self) -> bool {
        (self.index, self.offset, &self.name) == (other.index, other.offset, &other.name)
    }

    /// What both kept of this argument; none where that is nothing.
    pub(crate) fn within(&self, others: &[Self]) -> Option<Self> {
        let other = others.iter().find(|other| self.is_same(other))?;
        let mask = self.mask & other.mask;
        (mask != 0).then(|| Self { mask, ..self.clone() })
    }
}

impl File {
    /// Whether it is a device of the NVIDIA driver: by its path, or by the number that its devices share
    /// (major 195, `Documentation/admin-guide/devices.txt`).
    #[must_use]
    pub fn is_nvidia(&self) -> bool {
        self.kind == FileKind::CharacterDevice
            && (self.path.as_ref().is_some_and(|path| path.starts_with("/dev/nvidia"))
                || self.device.as_ref().is_some_and(|device| device.starts_with("195:")))
    }

    /// By what files are told apart: the path, or else the device.
    fn key(&self) -> FileKey<'_> {
        let device = if self.path.is_none() { self.device.as_deref() } else { None };
        (self.kind, self.path.as_deref(), device)
    }
}

#[cfg(test)]
pub(crate) mod tests;
