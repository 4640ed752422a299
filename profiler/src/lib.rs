//! Recording: finds the target, loads and attaches, drains what the kernel counted, from start to stop.

pub mod capture;
pub mod cgroup;
pub mod containers;
pub mod drive;
pub mod ebpf;
mod error;
pub mod host;
pub mod notify;
pub mod place;
mod recorder;
pub mod runtime_base;
mod session;

pub use capture::{CaptureArgument, CaptureCall, CapturePlan, Descriptor};
pub use error::RecordError;
pub use recorder::{Observations, Progress, Recorder};
pub use session::{Choice, Observer, Recording, Request, Subject, record};
