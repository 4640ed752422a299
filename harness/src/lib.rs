//! Runs a command or a container with a profile in force, and names each denial: the syscall, who asked for it, when,
//! and the smallest rule that would allow it. [`watch`] does so for what runs already.
//!
//! Under a container runtime, which loads the filter itself, denials are what BPF sees a filter answer ([`attribute`]);
//! without BPF they come from the runtime's own listener ([`Relay`]). [`Judge`] asks a profile that is not loaded.
//!
//! What follows is about commands.
//!
//! The profile is compiled as a runtime does it. In [`Mode::Plain`] the program is loaded as it is. In the other
//! modes its refusing answers are rewritten to user notification; a supervisor asks the *original* program about
//! each such call, writes the denial down, and answers what the original says: the same errno, the same death. So
//! the allowed calls cost what they cost under the plain filter, and the refused ones behave as under it.
//!
//! What still differs from the plain filter, because the kernel offers no way to it:
//! - a workload that asks for a seccomp listener of its own is refused it (EBUSY); this is remarked on;
//! - `KILL_THREAD` in a process with several threads ends the process;
//! - a SIGSYS handler that is called for `TRAP` sees `si_code` SI_TKILL and no syscall number in the siginfo (the
//!   number is in the return register, as it should be); `KILL_*`, and `TRAP` where SIGSYS is ignored or blocked,
//!   end a process that handles, ignores or blocks SIGSYS by SIGKILL instead of SIGSYS;
//! - where a filter of the workload's own refuses the same call, its ERRNO outranks the notification: against a
//!   profile that kills, the process lives on, and the denial is not named;
//! - a refused call waits for the supervisor: a signal without SA_RESTART that arrives meanwhile gives EINTR.

mod attribute;
mod bound;
mod confined;
mod denial;
mod held_out;
mod judge;
mod ledger;
mod relay;
mod relayed;
mod remedy;
mod rewrite;
mod run;
mod supervisor;
pub mod watch;

pub use self::{
    attribute::attribute,
    bound::upper_bound,
    confined::{Confined, HarnessError, PhaseSetter, start},
    denial::{Denial, Mode, Report, Stage},
    held_out::{HELD_OUT_VERSION, HeldOut, HeldOutDenial, HeldOutError, HeldOutRun, Judged, Tally},
    judge::{Answer, Judge},
    relay::Relay,
    relayed::run_relayed,
    run::{Run, run},
};
