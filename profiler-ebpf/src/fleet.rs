//! What is shared for recording many targets at once: groups, slots, blocks and what is kept for a target.

use crate::{FirstSight, TABLE_NUMBERS, Tally};

/// How many targets there can be at one time; a power of two.
pub const MAX_TARGETS: u32 = 1024;

/// How many nurseries there can be: the directories named, and those below them.
pub const MAX_NURSERIES: u32 = 8192;

/// How many names of cgroups can be waited for.
pub const MAX_WANTED: u32 = 1024;

/// Room for the name of a cgroup that is waited for, its final 0 included.
pub const NAME_LENGTH: usize = 128;

/// Room for a cgroup's path below the mount, its final 0 included; longer ones are cut.
pub const PATH_LENGTH: usize = 512;

/// How many calls of all targets together can have a row outside the blocks: 32-bit calls, and those that are not
/// the workload's own.
pub const FLEET_RARE: u32 = 128 * 1024;

/// How many first sights in the blocks there can be, of all targets together.
pub const FLEET_FIRST: u32 = 96 * 1024;

/// How many distinct endings of all targets together can be counted.
pub const FLEET_ENDINGS: u32 = 48 * 1024;

/// How many distinct refusals of all targets together are kept with their arguments.
pub const MAX_REFUSED: u32 = 4096;

/// The bit of the phase that a target is born into.
pub const STARTUP: u32 = 1;

/// Rows of all blocks: a block for each target, a row for each number of the native ABI.
pub const BLOCK_ROWS: u32 = MAX_TARGETS * TABLE_NUMBERS;

/// A target and a class of its calls, in one number: the class in the low three bits, then the target's index,
/// then how often that index was given away. 0 where there is only one target.
pub mod group {
    use crate::MAX_TARGETS;

    /// Calls of the workload itself.
    pub const WORKLOAD: u32 = 0;
    /// Calls of a container runtime before the filter is loaded.
    pub const SETUP: u32 = 1;
    /// Calls of a container runtime with the filter loaded.
    pub const START: u32 = 2;
    /// Calls of exec sessions.
    pub const EXEC: u32 = 3;
    /// Calls of a container runtime after the call that comes shortly before a filter is loaded, if there is one.
    pub const MARKED: u32 = 4;
    /// How many classes there are.
    pub const CLASSES: u32 = 5;

    const CLASS_BITS: u32 = 3;
    const CLASS: u32 = (1 << CLASS_BITS) - 1;
    const SERIAL: u32 = MAX_TARGETS << CLASS_BITS;

    /// The first target with this index.
    #[inline(always)]
    #[must_use]
    pub const fn first(index: u32) -> u32 {
        SERIAL | (index & (MAX_TARGETS - 1)) << CLASS_BITS
    }

    /// The next target with the same index.
    #[inline(always)]
    #[must_use]
    pub const fn next(target: u32) -> u32 {
        match target.wrapping_add(SERIAL) {
            wrapped if wrapped < SERIAL => wrapped | SERIAL,
            next => next,
        }
    }

    /// The target's index.
    #[inline(always)]
    #[must_use]
    pub const fn index(group: u32) -> u32 {
        (group >> CLASS_BITS) & (MAX_TARGETS - 1)
    }

    /// The target alone: the group of its workload.
    #[inline(always)]
    #[must_use]
    pub const fn target(group: u32) -> u32 {
        group & !CLASS
    }

    /// The class.
    #[inline(always)]
    #[must_use]
    pub const fn class(group: u32) -> u32 {
        group & CLASS
    }
}

/// What [`crate::maps::SLOTS`] holds for a cgroup: its id and the index of its target.
#[inline(always)]
#[must_use]
pub const fn slot(cgroup: u64, index: u32) -> u64 {
    // An id that has no room is looked up in the hash each time.
    if cgroup >> 54 == 0 { cgroup << 10 | (index & (MAX_TARGETS - 1)) as u64 } else { u64::MAX }
}

/// The index of the target, if the slot is this cgroup's.
#[inline(always)]
#[must_use]
pub const fn in_slot(slot: u64, cgroup: u64) -> Option<u32> {
    if slot >> 10 == cgroup { Some(slot as u32 & (MAX_TARGETS - 1)) } else { None }
}

/// The value of [`crate::maps::OPEN`]: the target and the bit of its phase, 0 while it is closed.
#[inline(always)]
#[must_use]
pub const fn open(target: u32, phase: u32) -> u64 {
    (phase as u64) << 32 | target as u64
}

/// A cgroup that is recorded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The index of its target.
    pub index: u32,
    /// How many levels of what is made below it become targets of their own.
    pub depth: u32,
}

const _: () = assert!(size_of::<Member>() == 8 && align_of::<Member>() == 4);

/// What is kept for a target besides its counts.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The target; see [`group`].
    pub group: u32,
    /// The target of the cgroup above it; 0 if that is not recorded.
    pub parent: u32,
    /// The id of its uppermost cgroup.
    pub cgroup: u64,
    /// When it was made or armed: `CLOCK_MONOTONIC`, nanoseconds.
    pub armed_ns: u64,
    /// When a runtime started the workload in it; 0 while that was not seen.
    pub first_exec_ns: u64,
    /// How many exec sessions were started in it.
    pub sessions: u64,
    /// The process that the runtime started as the workload, in the first pid namespace.
    pub init: u32,
    /// 1 if a runtime was seen to load a filter.
    pub loaded: u32,
    /// 1 if a runtime was seen at the call that comes shortly before it would load a filter.
    pub marked: u32,
    /// 1 if tasks were in it when it was added.
    pub late: u32,
    /// 1 if its cgroup was removed.
    pub released: u32,
    /// Refusals that were counted without their arguments, [`crate::maps::REFUSED`] being full.
    pub refused_full: u32,
    /// Distinct tuples of arguments that are kept of all its calls.
    pub tuples: u32,
    /// Fills the struct up.
    pub reserved: u32,
    /// What else was counted.
    pub tally: Tally,
    /// The cgroup's path below the mount, filled with zeros; empty where user space knows it.
    pub path: [u8; PATH_LENGTH],
}

const _: () = assert!(size_of::<Target>() == 72 + size_of::<Tally>() + PATH_LENGTH);

impl Target {
    /// A target of which nothing is known yet.
    pub const EMPTY: Self = Self {
        group: 0,
        parent: 0,
        cgroup: 0,
        armed_ns: 0,
        first_exec_ns: 0,
        sessions: 0,
        init: 0,
        loaded: 0,
        marked: 0,
        late: 0,
        released: 0,
        refused_full: 0,
        tuples: 0,
        reserved: 0,
        tally: Tally::EMPTY,
        path: [0; PATH_LENGTH],
    };
}

/// A refusal as it was first seen, and how often.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// How often.
    pub count: u64,
    /// The arguments of the first.
    pub arguments: [u64; 6],
    /// Who and when.
    pub first: FirstSight,
}

const _: () = assert!(size_of::<Refused>() == 88);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_keep_index_class_and_serial_apart() {
        for index in [0, 1, MAX_TARGETS - 1] {
            let target = group::first(index);
            assert_ne!(target, 0);
            assert_eq!(group::index(target | group::EXEC), index);
            assert_eq!(group::target(target | group::MARKED), target);
            assert_eq!(group::class(target | group::MARKED), group::MARKED);
            let next = group::next(target);
            assert_eq!((group::index(next), next == target), (index, false));
        }
        let last = !7;
        assert_eq!(group::index(group::next(last)), group::index(last));
        assert_ne!(group::next(last), 0);
    }

    #[test]
    fn slots_are_of_one_cgroup() {
        assert_eq!(in_slot(slot(77, 5), 77), Some(5));
        assert_eq!(in_slot(slot(77, 5), 78), None);
        assert_eq!(in_slot(slot(1 << 60, 5), 1 << 60), None);
        assert_ne!(slot(1 << 60, 0), 0);
    }
}
