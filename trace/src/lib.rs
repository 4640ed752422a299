//! The vocabulary (ABI, syscall, outcome) and the trace format of `seccomp-learn`: evidence as data.
//!
//! A [`Trace`] says which syscalls a workload made, how they ended, in which phase, who made each first,
//! and what the recorder could not record. This crate reads, writes and merges traces over
//! [`std::io::Read`] and [`std::io::Write`]; it touches no file, clock or environment.

mod abi;
mod arguments;
mod container;
mod difference;
mod digest;
mod hex;
mod io;
mod lines;
mod merge;
mod model;
mod outcome;
mod schema;
mod secret;
pub mod strict;
mod values;

pub use abi::{Abi, SyscallName, UnknownAbi};
pub use arguments::{Arguments, File, FileKind, Kept, MOST_VALUES, Open, Values};
pub use container::{Attached, Container, ContainerKind, ExecCalls, FilterMoment, Pod, RuntimeCalls};
pub use difference::{CallDifference, Difference, Turn, difference};
pub use digest::Digest;
pub use io::{ReadError, WriteError};
pub use merge::{MOST_OPENS, MergeError, Merger, merge};
pub use model::{
    Backend, FORMAT_MAJOR, FORMAT_MINOR, FirstSight, GpuDriver, Losses, Phase, PhaseName, Recorder, Row, Run,
    Startup, Target, TargetKind, Trace,
};
pub use outcome::{Errno, Outcome, OutcomeError};
pub use schema::json_schema;
pub use secret::mask_arguments;
