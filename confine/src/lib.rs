//! Starts a command under a compiled seccomp filter, with or without a listener, and answers the listener: the
//! one place of `seccomp-learn` that forks and that speaks seccomp(2).
//!
//! [`spawn`] leaves the child blocked at a gate, one step before the filter and `execve`, so that a recorder can
//! be armed in between; [`Gated::release`] lets it go. Under [`Filter::Listen`] a [`Listener`] comes back, which
//! receives every call that the filter hands to user notification.
//!
//! **Invariant:** between the gate and `execve` the child makes no call but `seccomp`, and after the filter is
//! loaded none but `execve` (when that fails, `exit_group`). A filter that refuses everything else still starts
//! what it lets start.
//!
//! **Invariant:** a workload under a listener never outlives it unanswered. When the process that listens dies,
//! or drops its [`Listener`] early, the kernel would answer every notified call with ENOSYS; instead a keeper
//! process ends the workload (see `keeper.rs`). A listener that a container runtime handed over has none: the
//! container is the engine's to end.

mod child;
mod entry;
mod error;
mod handover;
mod keeper;
mod launch;
mod listener;
pub mod oracle;
mod program;
mod shared;
mod sys;

pub use nix::sys::signal::Signal;

pub use self::{
    child::{Child, signal_thread},
    error::{Exit, SpawnError},
    handover::receive_listener,
    keeper::is_keeper,
    launch::{Filter, Gated, Launch, spawn},
    listener::{Event, Listener, Notification, Reply},
    program::resolve,
    sys::{Instruction, LoadFlags, confined, probe_listener},
};
