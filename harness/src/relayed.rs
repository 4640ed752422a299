//! One confined start of a container whose denials its runtime's listener names: for hosts and users without BPF.

use std::{
    io,
    os::{
        fd::AsFd as _,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use confine::{Exit, Signal, signal_thread};
use engine::Created;
use profiler::{
    drive::{Main, Plan, Signals, Watcher, drive},
    place::Place,
};
use trace::PhaseName;

use crate::{HarnessError, PhaseSetter, Relay, Run};

/// Makes the container with the relay's profile, which the caller has written to this file, starts it, carries the
/// plan out, stops it and removes it. The container's output goes to our standard error.
///
/// # Errors
/// The engine cannot make it, or hands no listener over.
pub async fn run_relayed(
    relay: Relay,
    container: &engine::Run,
    profile: PathBuf,
    plan: &Plan,
) -> Result<Run, HarnessError> {
    let mut signals = Signals::listen().map_err(HarnessError::Drive)?;
    let container = engine::Run { seccomp: Some(profile), ..container.clone() };
    let made = Removed(Arc::new(container.create()?));
    let output = io::stderr().as_fd().try_clone_to_owned().map_err(HarnessError::Drive)?;
    let mut command = made.0.start_command();
    // Ctrl-C is for us: the engine is asked to stop the container, in order.
    command.stdin(Stdio::null()).stdout(output).process_group(0);
    let started = Instant::now();
    let mut client = Client(command.spawn().map_err(HarnessError::Drive)?);
    let mut watcher = Stopping { phase: relay.phase_setter(), created: Arc::clone(&made.0) };
    let place = Place::Elsewhere;
    let driven = drive(plan, Some(&mut client), &place, started, &mut signals, &mut watcher).await;
    let driven = driven.map_err(HarnessError::Drive)?;
    let loaded = relay.is_loaded();
    let report = relay.finish()?;
    if !loaded {
        return Err(HarnessError::NoListener(container.kind));
    }
    Ok(Run { driven, denials: report.denials, remarks: report.remarks })
}

struct Stopping {
    phase: PhaseSetter,
    created: Arc<Created>,
}

impl Watcher for Stopping {
    fn phase(&mut self, phase: PhaseName) {
        self.phase.set(phase);
    }

    fn tick(&mut self, _: Duration, _: PhaseName) {}

    fn stop(&mut self, timeout: Duration) -> bool {
        let created = Arc::clone(&self.created);
        // The engine waits for the container; its calls are answered meanwhile.
        std::thread::spawn(move || {
            // It may have ended by itself; then its command ends, too.
            let _ = created.stop(timeout);
        });
        true
    }
}

/// A container of ours; goes away with this.
struct Removed(Arc<Created>);

impl Drop for Removed {
    fn drop(&mut self) {
        // One that is gone already is what we want.
        let _ = self.0.remove();
    }
}

/// The engine's command that shows the container's output and ends with it.
struct Client(std::process::Child);

impl Main for Client {
    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn try_wait(&mut self) -> io::Result<Option<Exit>> {
        Ok(self.0.try_wait()?.map(|status| match status.signal() {
            Some(signal) => Exit::Signal(signal),
            None => Exit::Code(status.code().unwrap_or(-1)),
        }))
    }

    fn signal(&self, signal: Signal) {
        let _ = signal_thread(self.0.id(), self.0.id(), signal);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
