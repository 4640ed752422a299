//! What the BPF program and user space share: the layout of maps and globals, and the meaning of their fields.
//!
//! Every type is `repr(C)`, `Copy` and without padding, so that it is the same bytes on both sides.

#![no_std]

mod call;
mod capture;
mod fleet;
mod globals;
mod values;

pub use call::{Call, ROWS, TABLE_NUMBERS};
pub use capture::{
    FLEET_TUPLES, MAX_FILES, MAX_OPENED, MAX_TUPLES, MAX_TUPLES_A_CALL, Masks, NAME_PART, NAMES, Names,
    OPENED_PATH, Opened, OpenedFile, PLACES, Seen, Tuple, Usual, file,
};
pub use fleet::{
    BLOCK_ROWS, FLEET_ENDINGS, FLEET_FIRST, FLEET_RARE, MAX_NURSERIES, MAX_REFUSED, MAX_TARGETS, MAX_WANTED,
    Member, NAME_LENGTH, PATH_LENGTH, Refused, STARTUP, Target, group, in_slot, open, slot,
};
pub use globals::{Kernel, MODE_CGROUP, MODE_PROCESS, Tally};
pub use values::{COMM_LENGTH, Cell, Counted, Ending, FirstSight, Shared, SharedCell, TaskState};

/// How many cgroup ids [`maps::SLOTS`] tells apart without a hash; a power of two.
pub const SLOT_COUNT: u32 = 4096;

/// How many cgroups a recording can follow: the target and all below it.
pub const MAX_CGROUPS: u32 = 8192;

/// How many calls outside the tables (x32, and numbers from [`TABLE_NUMBERS`] up) can have a row.
pub const MAX_RARE: u32 = 1024;

/// How many distinct endings can be counted; see [`Ending`].
pub const MAX_ENDINGS: u32 = 8192;

/// Names of maps, programs and globals in the object.
pub mod maps {
    /// Per CPU, by [`crate::Call::row`]: [`crate::Cell`].
    pub const CELLS: &str = "CELLS";
    /// By [`crate::Counted`]: [`crate::Shared`], for calls that have no row; shared by all CPUs.
    pub const RARE: &str = "RARE";
    /// By [`crate::Ending`]: how often (`u64`); shared by all CPUs.
    pub const ENDINGS: &str = "ENDINGS";
    /// By [`crate::Counted`]: [`crate::FirstSight`], for calls that have a row.
    pub const FIRST: &str = "FIRST";
    /// By id of a cgroup that is recorded: [`crate::Member`].
    pub const CGROUPS: &str = "CGROUPS";
    /// By the low bits of a cgroup id: 0 says that no recorded cgroup has these bits; see [`crate::slot`].
    pub const SLOTS: &str = "SLOTS";
    /// By task: [`crate::TaskState`].
    pub const TASKS: &str = "TASKS";
    /// The phase's bit in its only element (`u32`); 0 while the recording is not open.
    pub const PHASE: &str = ".data.phase";
    /// [`crate::Tally`] in its only element.
    pub const TALLY: &str = ".bss";
    /// By [`crate::group::index`] and number: [`crate::SharedCell`]; for many targets.
    pub const BLOCKS: &str = "BLOCKS";
    /// By index: see [`crate::open`].
    pub const OPEN: &str = "OPEN";
    /// By index: [`crate::Target`].
    pub const TARGETS: &str = "TARGETS";
    /// Targets (`u32`) that can be given away.
    pub const FREE: &str = "FREE";
    /// Targets (`u32`) that the kernel side gave away.
    pub const NEWS: &str = "NEWS";
    /// By name of a cgroup: what is made with this name becomes a target.
    pub const WANTED: &str = "WANTED";
    /// By id of a cgroup: how many levels of what is made below it become targets (`u32`).
    pub const NURSERIES: &str = "NURSERIES";
    /// By [`crate::Ending`], its kind being a refusal: [`crate::Refused`].
    pub const REFUSED: &str = "REFUSED";
    /// By [`crate::Call::row`]: [`crate::Masks`].
    pub const MASKS: &str = "MASKS";
    /// By [`crate::Tuple`]: [`crate::Seen`].
    pub const TUPLES: &str = "TUPLES";
    /// [`crate::Usual`], per CPU, by [`crate::Masks::place`].
    pub const USUAL: &str = "USUAL";
    /// By [`crate::Call::row`]: what [`crate::SharedCell::tuples`] is where the cells are not shared.
    pub const WIDTHS: &str = "WIDTHS";
    /// By [`crate::OpenedFile`]: [`crate::Names`].
    pub const FILES: &str = "FILES";
    /// By [`crate::Opened`]: [`crate::Seen`], its `calls` being how often.
    pub const OPENED: &str = "OPENED";
    /// Not 0 in its only element (`u32`) while arguments are kept.
    pub const CAPTURING: &str = ".data.capturing";
    /// The global of type [`crate::Kernel`] that user space sets before loading.
    pub const KERNEL: &str = "KERNEL";
}
