//! Values of the maps.

use crate::Call;

/// Length of a thread's name, `TASK_COMM_LEN` in `include/linux/sched.h`.
pub const COMM_LENGTH: usize = 16;

/// What is kept for a recorded task, in task storage.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskState {
    /// The number of the call that the task is in; see [`Call::number`].
    pub number: u32,
    /// The ABI of the call that the task is in, [`Call::NONE`] if it is in none.
    pub abi: u32,
    /// [`TaskState::SEEN`] and [`TaskState::DESCENDANT`].
    pub flags: u32,
    /// The group that its next call is counted for; see [`crate::group`].
    pub group: u32,
    /// The group that the call which it is in is counted for.
    pub entered: u32,
    /// How many filters were on it when it was first seen.
    pub filters: u32,
    /// Where in its memory the path stands that the call opens; 0 if it opens none, or paths are not kept.
    pub path: u64,
}

const _: () = assert!(size_of::<TaskState>() == 32 && align_of::<TaskState>() == 8);

impl TaskState {
    /// The task had an event since the recording began.
    pub const SEEN: u32 = 1;
    /// The task was made by a recorded task while recording.
    pub const DESCENDANT: u32 = 2;
}

/// What one CPU counts for a call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// How often it was entered.
    pub calls: u64,
    /// How often it returned something that is no error.
    pub ok: u64,
    /// How often it failed with `errno`.
    pub errors: u64,
    /// The first error seen in this cell; the others are in [`crate::maps::ENDINGS`]. 0 while there was none.
    pub errno: u32,
    /// The phases in which it was seen, a bit for each.
    pub phases: u32,
}

const _: () = assert!(size_of::<Cell>() == 32 && align_of::<Cell>() == 8);

/// What all CPUs together count for a call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedCell {
    /// How often it was entered.
    pub calls: u64,
    /// How often it returned something that is no error.
    pub ok: u64,
    /// How often it failed with [`SharedCell::ERRNO`]; other errors are in [`crate::maps::ENDINGS`].
    pub errors: u64,
    /// How many distinct tuples of its arguments are kept; more than [`crate::MAX_TUPLES_A_CALL`] if one was not.
    pub tuples: u32,
    /// The phases in which it was seen, a bit for each.
    pub phases: u32,
}

const _: () = assert!(size_of::<SharedCell>() == 32 && align_of::<SharedCell>() == 8);

impl SharedCell {
    /// `EAGAIN`, on which programs loop. No CPU can claim the cell for the error that it saw first.
    pub const ERRNO: u32 = 11;
}

/// A call as it is counted: of one group.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Counted {
    /// The call.
    pub call: Call,
    /// The target and the class; see [`crate::group`].
    pub group: u32,
}

const _: () = assert!(size_of::<Counted>() == 12 && align_of::<Counted>() == 4);

/// What is counted for a call that has no row, and who made it first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// The counters.
    pub cell: SharedCell,
    /// Who made the call first, and when.
    pub first: FirstSight,
}

const _: () = assert!(size_of::<Shared>() == 64 && align_of::<Shared>() == 8);

/// One way in which a call ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ending {
    /// The call and its group.
    pub counted: Counted,
    /// An errno (1 to 4095) or one of the constants.
    pub kind: u32,
}

const _: () = assert!(size_of::<Ending>() == 16 && align_of::<Ending>() == 4);

impl Ending {
    /// The task ended inside the call.
    pub const NEVER_RETURNED: u32 = 0x1_0000;
    /// The task was inside the call when the recording ended.
    pub const IN_FLIGHT: u32 = 0x2_0000;
    /// A filter or its supervisor answered; the low 16 bits are the errno, 0 where the answer was no error.
    pub const REFUSED: u32 = 0x4_0000;
    /// A filter answered with a signal.
    pub const REFUSED_BY_SIGNAL: u32 = Self::REFUSED | 0xffff;
}

/// Who made a call first, and when.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirstSight {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub nanoseconds: u64,
    /// The process, in the host's pid namespace.
    pub process: u32,
    /// The phases in which it was seen, a bit for each, where no cell says so: in [`crate::Seen`]. 0 elsewhere.
    pub phases: u32,
    /// The thread's name, filled with zeros.
    pub comm: [u8; COMM_LENGTH],
}

const _: () = assert!(size_of::<FirstSight>() == 32 && align_of::<FirstSight>() == 8);
