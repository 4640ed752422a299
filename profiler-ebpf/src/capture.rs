//! What is shared for keeping arguments of calls: which, through which masks, and what was kept.

use crate::Counted;

/// How many distinct tuples of arguments can be kept, of all calls and targets together.
pub const MAX_TUPLES: u32 = 4096;

/// How many distinct tuples are kept for one call of one group; what is beyond is counted as wide.
pub const MAX_TUPLES_A_CALL: u64 = 256;

/// Through which masks a call's arguments are kept.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Masks {
    /// Not 0 if they are kept at all.
    pub kept: u64,
    /// The bits that count, for each argument.
    pub masks: [u64; 6],
}

const _: () = assert!(size_of::<Masks>() == 56);

/// The arguments of a call, masked.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// The call and the group.
    pub counted: Counted,
    /// Fills the struct up.
    pub reserved: u32,
    /// The arguments.
    pub arguments: [u64; 6],
}

const _: () = assert!(size_of::<Tuple>() == 64);

/// How many tuples a call has.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Width {
    /// Distinct tuples that are kept.
    pub tuples: u64,
    /// Calls whose tuple was not kept, there being too many.
    pub wide: u64,
}

const _: () = assert!(size_of::<Width>() == 16);
