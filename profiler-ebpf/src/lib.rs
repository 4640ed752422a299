//! What the BPF program and user space share: the layout of maps and globals, and the meaning of their fields.
//!
//! Every type is `repr(C)`, `Copy` and without padding, so that it is the same bytes on both sides.

#![no_std]

mod call;
mod globals;
mod values;

pub use call::{Call, ROWS, TABLE_NUMBERS};
pub use globals::{Kernel, MODE_CGROUP, MODE_PROCESS, Tally};
pub use values::{COMM_LENGTH, Cell, Ending, FirstSight, TaskState};

/// How many cgroup ids [`maps::SLOTS`] tells apart without a hash; a power of two.
pub const SLOT_COUNT: u32 = 4096;

/// How many cgroups a recording can follow: the target and all below it.
pub const MAX_CGROUPS: u32 = 8192;

/// How many calls outside the tables (x32, and numbers from [`TABLE_NUMBERS`] up) can have a row.
pub const MAX_RARE: u32 = 1024;

/// How many distinct pairs of call and [`Ending`] can be counted.
pub const MAX_ENDINGS: u32 = 8192;

/// Names of maps, programs and globals in the object.
pub mod maps {
    /// Per CPU, by [`crate::Call::row`]: [`crate::Cell`].
    pub const CELLS: &str = "CELLS";
    /// By [`crate::Call`]: [`crate::Cell`], for calls that have no row; shared by all CPUs.
    pub const RARE: &str = "RARE";
    /// By [`crate::Ending`]: how often (`u64`); shared by all CPUs.
    pub const ENDINGS: &str = "ENDINGS";
    /// By [`crate::Call`]: [`crate::FirstSight`].
    pub const FIRST: &str = "FIRST";
    /// Cgroup ids that are recorded; the value (`u64`) is the id again.
    pub const CGROUPS: &str = "CGROUPS";
    /// By the low bits of a cgroup id: 0 says that no recorded cgroup has these bits, an id that it has.
    pub const SLOTS: &str = "SLOTS";
    /// By task: [`crate::TaskState`].
    pub const TASKS: &str = "TASKS";
    /// The phase's bit in its only element (`u32`); 0 while the recording is not open.
    pub const PHASE: &str = ".data.phase";
    /// [`crate::Tally`] in its only element.
    pub const TALLY: &str = ".bss";
    /// The global of type [`crate::Kernel`] that user space sets before loading.
    pub const KERNEL: &str = "KERNEL";
}
