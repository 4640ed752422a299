//! What is shared for keeping arguments of calls: which, through which masks, and what was kept.

use crate::{Counted, FirstSight};

/// How many distinct tuples of arguments are kept of one target, of all its calls together.
pub const MAX_TUPLES: u32 = 4096;

/// How many distinct tuples of arguments are kept of all targets together.
pub const FLEET_TUPLES: u32 = 32 * 1024;

/// How many distinct tuples are kept for one call of one group. CPUs that are at it at once may pass it by one each.
pub const MAX_TUPLES_A_CALL: u32 = 256;

/// How many devices and kinds of anonymous files are kept with their names.
pub const MAX_FILES: u32 = 512;

/// How many paths that were opened are kept, each as often as it has outcomes.
pub const MAX_OPENED: u32 = 1024;

/// How many calls have a place for what they are usually made with; index 0 stays empty.
pub const PLACES: u32 = 128;

/// Room for a path that was opened, its final 0 included; longer ones are not kept.
pub const OPENED_PATH: usize = 152;

/// Room for one name in a device's path, its final 0 included.
pub const NAME_PART: usize = 32;

/// How many names of a device's path are kept.
pub const NAMES: usize = 4;

/// What is kept of a call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Masks {
    /// The bits that count, for each argument; of the field where one takes the argument's place.
    pub masks: [u64; 6],
    /// [`Masks::ARGUMENTS`] and [`Masks::PATH`].
    pub kept: u32,
    /// The arguments of which the kernel reads the low half, a bit for each: what stands above is noted.
    pub narrow: u32,
    /// The argument that points to a struct of which a field takes its place, from 1; 0 if none does.
    pub pointer: u32,
    /// Where in the struct, in bytes.
    pub offset: u32,
    /// The field's size in bytes: 4 or 8.
    pub size: u32,
    /// The argument that is a descriptor of which the kind of file is kept, from 1; 0 if none is.
    pub descriptor: u32,
    /// The argument that says by one of [`Masks::unless_bits`] that there is no descriptor, from 1; 0 if none does.
    pub unless: u32,
    /// The argument that points to the path which the call opens, from 1; see [`Masks::PATH`].
    pub path: u32,
    /// See [`Masks::unless`].
    pub unless_bits: u64,
    /// The call's place among the [`Usual`] ones, from 1; 0 if it has none.
    pub place: u32,
    /// Fills the struct up.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Masks>() == 96 && align_of::<Masks>() == 8);

impl Masks {
    /// Arguments are kept.
    pub const ARGUMENTS: u32 = 1;
    /// The path is kept, if it is one of the GPU driver's.
    pub const PATH: u32 = 2;
}

/// The kinds of file in [`Tuple::facts`] and [`OpenedFile`].
pub mod file {
    /// The call has no descriptor, or it is not kept, or this kernel does not tell.
    pub const UNKNOWN: u32 = 0;
    /// A character device; the id is its number.
    pub const CHARACTER_DEVICE: u32 = 1;
    /// A block device; the id is its number.
    pub const BLOCK_DEVICE: u32 = 2;
    /// A regular file.
    pub const REGULAR: u32 = 3;
    /// A directory.
    pub const DIRECTORY: u32 = 4;
    /// A socket.
    pub const SOCKET: u32 = 5;
    /// A pipe or fifo.
    pub const PIPE: u32 = 6;
    /// A file that is in no directory; the id tells apart what such files are.
    pub const ANONYMOUS: u32 = 7;
    /// Memory with a descriptor, in no directory.
    pub const MEMORY: u32 = 8;
    /// Anything else.
    pub const OTHER: u32 = 9;
    /// There is no such descriptor.
    pub const NONE: u32 = 10;
}

/// The arguments of a call, masked, and what else tells calls apart.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// The call and the group.
    pub counted: Counted,
    /// The arguments with upper halves that were not zero, a bit for each, [`Tuple::UNREAD`], and the kind of file
    /// from [`Tuple::KIND`] on.
    pub facts: u32,
    /// The arguments.
    pub arguments: [u64; 6],
    /// What tells files of its kind apart; see [`file`].
    pub file: u64,
}

const _: () = assert!(size_of::<Tuple>() == 72 && align_of::<Tuple>() == 8);

impl Tuple {
    /// The struct could not be read; everything else is 0.
    pub const UNREAD: u32 = 1 << 6;
    /// How far to the left the kind of file stands in [`Tuple::facts`].
    pub const KIND: u32 = 8;
}

/// How often something was seen, and who was first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// How often it was entered.
    pub calls: u64,
    /// How often a filter answered it.
    pub denied: u64,
    /// Who and when first, and in which phases.
    pub first: FirstSight,
}

const _: () = assert!(size_of::<Seen>() == 48 && align_of::<Seen>() == 8);

/// What a call is mostly made with, as far as one CPU saw: the tuple that came first there. Calls with it are counted
/// here, where no other CPU is, and not with the tuple.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usual {
    /// The tuple; it is among those that are kept.
    pub tuple: Tuple,
    /// How often it was entered, beyond what is counted with the tuple.
    pub calls: u64,
    /// The phases that are noted with the tuple; 0 while there is none.
    pub phases: u32,
    /// Fills the struct up.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Usual>() == 88 && align_of::<Usual>() == 8);

/// A file whose names are kept.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpenedFile {
    /// See [`file`].
    pub kind: u32,
    /// Fills the struct up.
    pub reserved: u32,
    /// What tells files of this kind apart.
    pub id: u64,
}

const _: () = assert!(size_of::<OpenedFile>() == 16 && align_of::<OpenedFile>() == 8);

/// What a file is called.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// What its file system is: `include/uapi/linux/magic.h`.
    pub magic: u64,
    /// Its name, the name of the directory it is in, and so on below the root of its file system; each filled with
    /// zeros. Longer ones are cut.
    pub names: [[u8; NAME_PART]; NAMES],
}

const _: () = assert!(size_of::<Names>() == 8 + NAMES * NAME_PART && align_of::<Names>() == 8);

/// A path of the GPU driver's that was opened, and how that ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opened {
    /// Who did; see [`crate::group`].
    pub group: u32,
    /// An errno; 0 if there was none.
    pub errno: u32,
    /// The path, filled with zeros.
    pub path: [u8; OPENED_PATH],
}

const _: () = assert!(size_of::<Opened>() == 160 && align_of::<Opened>() == 4);
