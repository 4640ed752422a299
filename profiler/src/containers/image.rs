//! An image that its engine starts for the recording: made first, then armed, then started, so that nothing of it
//! is missed; removed in the end.

use std::{
    io,
    os::{
        fd::AsFd as _,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::Stdio,
    sync::Arc,
    time::Instant,
};

use confine::Exit;
use engine::{Container, Created, Run, State};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    ContainerRecording, Event, Session,
    follow::{Single, recording},
};
use crate::{
    RecordError,
    drive::{Main, drive},
    place::Place,
};

pub(super) fn record(session: &mut Session<'_>, run: &Run) -> Result<ContainerRecording, RecordError> {
    let context = session.context();
    let sockets = &session.request.sockets;
    let mut fleet = session.fleet()?;
    let made = Removed(Arc::new(run.create_with(sockets)?));
    let created = &made.0;
    let engine = created.engine(sockets)?;
    let (label, container) = (engine.with_version(), engine.inspect(&created.id)?);
    let observed = context.observes(&container);
    session.chosen();
    session.observer.event(&Event::Found { engine: &label, container: &container, observed });
    fleet.expect(&engine::cgroup_names(&created.id))?;
    let mut single = Single::new(&mut fleet, &mut *session.observer, &created.id, false)?;
    let stopped = Arc::clone(created);
    single.stop = Some(Box::new(move |timeout| {
        let stopped = Arc::clone(&stopped);
        // The engine waits for the container; we go on looking meanwhile.
        std::thread::spawn(move || {
            if let Err(error) = stopped.stop(timeout) {
                tracing::warn!(%error, "the engine could not stop the container");
            }
        });
    }));

    let mut command = created.start_command();
    if session.request.stdout_is_ours {
        let stderr = io::stderr().as_fd().try_clone_to_owned();
        let what = "cannot hand on standard error";
        command.stdout(stderr.map_err(|source| RecordError::Io { what, source })?);
    }
    // Ctrl-C is for us: the engine is asked to stop the container, in order.
    command.stdin(Stdio::null()).process_group(0);
    let started = Instant::now();
    let child = command.spawn();
    let child =
        child.map_err(|source| RecordError::Io { what: "cannot run the engine's command", source })?;
    let mut client = Client(child);
    single.observer.started(Some(client.pid()));
    let (plan, signals) = (&session.request.plan, &mut session.signals);
    let driven = drive(plan, Some(&mut client), &Place::Elsewhere, started, signals, &mut single);
    let driven = session.runtime.block_on(driven);
    let driven = driven.map_err(|source| RecordError::Io { what: "cannot follow the container", source })?;
    let code = driven.exit.map(Exit::code);
    let not_started = || RecordError::NotStarted { image: run.image.clone(), code };
    let taken = single.finish()?.ok_or_else(|| match code {
        Some(0) => RecordError::NoOwnCgroup(created.id.clone()),
        _ => not_started(),
    })?;
    // Not where a filter kept it from starting: that is an answer.
    if taken.observed.first_exec_ns.is_none() && taken.refusals.is_empty() && code != Some(0) {
        return Err(not_started());
    }
    // Asked again: only what ran has an exit code. One that removed itself has left it with its client.
    let container = match (engine.inspect(&created.id), code) {
        (Ok(container), _) => container,
        (Err(_), Some(code)) => Container { state: State::Exited { code }, ..container },
        (Err(_), None) => container,
    };
    let recording = recording(&context, &label, container, taken, driven);
    session.observer.event(&Event::Finished(&recording));
    Ok(recording)
}

/// A container of ours; goes away with this.
struct Removed(Arc<Created>);

impl Drop for Removed {
    fn drop(&mut self) {
        // One that removes itself (`--rm`) is gone already.
        if let Err(error) = self.0.remove()
            && self.0.inspect().is_ok()
        {
            tracing::warn!(%error, id = self.0.id, "the container could not be removed");
        }
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
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap_or(i32::MAX));
        let _ = kill(pid, signal);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
