//! Recording: finds the target, loads and attaches, drains what the kernel counted, from start to stop.

pub mod cgroup;
pub mod drive;
pub mod ebpf;
pub mod host;
pub mod notify;
pub mod place;
mod recorder;
mod session;

pub use recorder::{Observations, Progress, Recorder};
pub use session::{Choice, Observer, RecordError, Recording, Request, Subject, record};
