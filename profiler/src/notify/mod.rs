//! The `notify` backend: every call of the command is reported by seccomp user notification and let go on.
//!
//! It needs no privilege and no BPF. What it costs in evidence is said in the trace: how calls end is not seen
//! (`unknown`), nor what an earlier filter or one of the workload's own refuses; a signal that arrives while a call
//! waits makes it fail with EINTR, or be made and counted again; and the workload ends with its recorder.

mod arguments;
mod caller;
mod filter;
mod table;

use std::{
    io::{self, PipeWriter},
    os::fd::AsFd as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

use confine::{Event, Instruction, Listener, Reply};
use trace::PhaseName;

pub use self::filter::FilterError;
use self::table::Table;
use crate::{CapturePlan, Observations, Progress, Recorder};

/// Why the backend cannot work here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotifyError {
    /// libseccomp does not make the filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The kernel, or a filter on this process, does not let a listener be made.
    #[error("seccomp user notification does not work here: {}", remedy(.0))]
    Listener(#[source] io::Error),
    /// The recording thread could not be started.
    #[error("cannot start the recording thread")]
    Thread(#[source] io::Error),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(16) => {
            "this process has a listener already (a recording inside a recording?); run outside of it"
        }
        Some(22 | 38) => "it needs Linux 5.5 or later with CONFIG_SECCOMP_FILTER",
        _ => "a filter on this process refuses seccomp(2); run where the container's own profile allows it",
    }
}

/// The filter a command must be started with: every call of every ABI is handed to the listener.
///
/// # Errors
/// When libseccomp does not make it.
pub fn filter() -> Result<Vec<Instruction>, NotifyError> {
    filter::filter().map_err(Into::into)
}

/// Whether the backend can work here.
///
/// # Errors
/// [`NotifyError`] with the reason.
pub fn probe() -> Result<(), NotifyError> {
    filter()?;
    confine::probe_listener().map_err(NotifyError::Listener)
}

/// A recording through user notification.
///
/// Its thread answers the workload's calls; the workload stands still without it, and ends when it is dropped.
#[derive(Debug)]
pub struct NotifyRecorder {
    table: Arc<Mutex<Table>>,
    /// Closing it is the sign to stop.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<io::Result<()>>>,
    confined: bool,
    no_new_privileges: bool,
}

impl NotifyRecorder {
    /// Starts to answer the calls of a command that was started with [`filter`] and [`confine::Filter::Listen`], and
    /// keeps of their arguments what the plan says.
    ///
    /// # Errors
    /// When no thread can be started; the workload ends then.
    pub fn start(listener: Listener, plan: CapturePlan) -> Result<Self, NotifyError> {
        let no_new_privileges = listener.no_new_privileges();
        let table = Arc::new(Mutex::new(Table::new(Instant::now(), plan)));
        let (stopped, stop) = io::pipe().map_err(NotifyError::Thread)?;
        let shared = Arc::clone(&table);
        let thread = thread::Builder::new()
            .name("notify".to_owned())
            .spawn(move || serve(listener, &stopped, &shared))
            .map_err(NotifyError::Thread)?;
        Ok(Self {
            table,
            stop: Some(stop),
            thread: Some(thread),
            confined: confine::confined(),
            no_new_privileges,
        })
    }

    /// Whether no process of the workload is left, daemons included: there is nothing more to record.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    /// The words for how this recording changed the workload.
    fn perturbations(&self, asked_for_a_listener: bool) -> Vec<String> {
        let mut all = vec![
            "every call waited for the recorder; a signal that arrived meanwhile made calls fail with EINTR, \
             or be made and counted again",
            "calls that a filter of the workload's own answered were not seen",
        ];
        if self.no_new_privileges {
            all.push("no_new_privs was set: set-user-id programs and file capabilities had no effect");
        }
        all.push(if asked_for_a_listener {
            "the workload asked for a seccomp listener of its own and was refused it (EBUSY)"
        } else {
            "a seccomp listener of the workload's own would have been refused (EBUSY)"
        });
        all.into_iter().map(str::to_owned).collect()
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts and lets go on, until no task is left or the recording is stopped.
fn serve(mut listener: Listener, stopped: &io::PipeReader, table: &Mutex<Table>) -> io::Result<()> {
    loop {
        match listener.receive(Some(stopped.as_fd()))? {
            Event::Woken => break,
            event => {
                if !handle(&mut listener, event, table)? {
                    return Ok(());
                }
            }
        }
    }
    // What was called before the stop belongs to the recording.
    while let Some(event) = listener.try_receive()? {
        if !handle(&mut listener, event, table)? {
            break;
        }
    }
    Ok(())
}

/// False when there will be no more.
fn handle(listener: &mut Listener, event: Event, table: &Mutex<Table>) -> io::Result<bool> {
    match event {
        Event::Call(call) => {
            lock(table).count(&call, || listener.id_valid(call.id));
            // A task that died since, or was interrupted, has asked all the same: it stays counted.
            listener.reply(call.id, Reply::Continue)?;
        }
        Event::Vanished => lock(table).vanished(),
        Event::Woken => {}
        Event::Ended => return Ok(false),
    }
    Ok(true)
}

impl Recorder for NotifyRecorder {
    fn set_phase(&mut self, phase: PhaseName) {
        self.table().set_phase(phase);
    }

    fn progress(&mut self) -> Progress {
        self.table().progress()
    }

    /// Stops; what is left of the workload ends with it.
    fn finish(mut self: Box<Self>) -> anyhow::Result<Observations> {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("the recording thread ended unexpectedly"))?
                .map_err(|error| anyhow::Error::new(error).context("cannot read the seccomp listener"))?;
        }
        let table = self.table();
        let perturbations = self.perturbations(table.asked_for_a_listener());
        Ok(table.observations(self.confined, perturbations))
    }
}
