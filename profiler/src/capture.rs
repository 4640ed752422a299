//! What to keep of the arguments of calls: the plan that both backends follow, and how much either keeps at most.
//!
//! The plan is made of a table by whoever asks for the recording; nothing is captured that is not in it.

use trace::{Abi, Kept, Open, Outcome, Row};

/// The most distinct values that are kept of one call; whoever makes more is marked wide.
pub const MOST_VALUES: usize = trace::MOST_VALUES;
/// The most distinct values that are kept of all calls of one target together.
pub const MOST_VALUES_OF_ALL: usize = 4096;
/// The most paths of which opens are kept.
pub const MOST_OPENS: usize = trace::MOST_OPENS;

/// What to keep. By default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapturePlan {
    /// The calls of which arguments are kept, each at most once.
    pub calls: Vec<CaptureCall>,
    /// Whether opens of the GPU driver's files are kept.
    pub opens: bool,
}

/// What to keep of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureCall {
    /// The ABI it is called through.
    pub abi: Abi,
    /// Its number there (x32 without the marker bit).
    pub number: u32,
    /// What to keep, ordered by index; at most one for each of the six registers: a field of a struct takes the
    /// place of the register that points to the struct.
    pub arguments: Vec<CaptureArgument>,
    /// The argument that is a descriptor of which the file is kept.
    pub descriptor: Option<Descriptor>,
}

/// An argument to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureArgument {
    /// Which one, its name, and the bits that have an effect.
    pub kept: Kept,
    /// 32 or 64: how much of the register, or of the struct, the kernel reads.
    pub width: u32,
}

/// An argument that is a file descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Which one, from 0.
    pub index: u32,
    /// It is none where this argument has one of these bits (`mmap`: `MAP_ANONYMOUS`).
    pub unless: Option<(u32, u64)>,
}

impl CapturePlan {
    /// What to keep of a call; none where nothing is.
    #[must_use]
    pub fn of(&self, abi: Abi, number: u32) -> Option<&CaptureCall> {
        self.calls.iter().find(|call| (call.abi, call.number) == (abi, number))
    }

    /// Whether nothing is kept at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.calls.is_empty() && !self.opens
    }
}

impl CaptureArgument {
    /// What is kept of a value: the bits that the kernel reads and that have an effect.
    #[must_use]
    pub const fn masked(&self, value: u64) -> u64 {
        self.kept.mask & if self.width == 32 { value & 0xffff_ffff } else { value }
    }

    /// Whether the register has bits above those that the kernel reads.
    #[must_use]
    pub const fn is_upper_set(&self, register: u64) -> bool {
        self.width == 32 && self.kept.offset.is_none() && register >> 32 != 0
    }
}

/// Whether opens of this path are kept: the NVIDIA driver's devices, its libraries, its caches, and shared memory.
#[must_use]
pub fn is_of_the_driver(path: &str) -> bool {
    const UNDER: [&str; 5] = ["/dev/nvidia", "/dev/dri/", "/dev/gdrdrv", "/proc/driver/nvidia", "/dev/shm/"];
    const LIBRARIES: [&str; 3] = ["libcuda", "libnvidia-", "libnvcuvid"];
    let name = path.rsplit('/').next().unwrap_or(path);
    UNDER.iter().any(|prefix| path.starts_with(prefix))
        || LIBRARIES.iter().any(|prefix| name.starts_with(prefix))
        || path.contains("/ComputeCache/")
}

/// Whether a GPU device of NVIDIA's was used: by an `ioctl` on one, or an open that succeeded.
#[must_use]
pub fn uses_gpu<'r>(rows: impl IntoIterator<Item = &'r Row>, opens: &[Open]) -> bool {
    let opened =
        |open: &Open| open.path.starts_with("/dev/nvidia") && open.outcomes.contains_key(&Outcome::Ok);
    let mut calls =
        rows.into_iter().filter(|row| row.name == "ioctl").filter_map(|row| row.arguments.as_ref());
    opens.iter().any(opened)
        || calls.any(|arguments| {
            let mut files = arguments.values.iter().filter_map(|values| values.file.as_ref());
            files.any(trace::File::is_nvidia)
        })
}
