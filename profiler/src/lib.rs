//! Recording: finds the target, loads and attaches, drains what the kernel counted, from start to stop.

pub mod ebpf;
pub mod notify;
mod recorder;

pub use recorder::{Observations, Progress, Recorder};
