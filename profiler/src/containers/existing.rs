//! A container that an engine has already: one that runs is attached to late, one that does not is armed by the
//! names its cgroup may have, and complete.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use engine::{Container, Engine, EngineError, Found, Kind, Sockets, State};
use trace::PhaseName;

use super::{
    ContainerRecording, Event, Session,
    follow::{Following, Single, cgroup_of, directory, recording},
};
use crate::{
    RecordError,
    drive::{End, drive},
    place::Place,
};

/// How often a start is looked for: a cgroup is a target from its birth on, so nothing hangs on it.
const LOOK: Duration = Duration::from_millis(20);
/// How long an engine may take to say how a container ended.
const SETTLE: Duration = Duration::from_secs(3);

pub(super) fn record(
    session: &mut Session<'_>,
    name: &str,
    choice: Option<Kind>,
) -> Result<ContainerRecording, RecordError> {
    let Found { engine, container } = find(name, choice, &session.request.sockets)?;
    let label = engine.with_version();
    let context = session.context();
    let observed = context.observes(&container);
    session.chosen();
    session.observer.event(&Event::Found { engine: &label, container: &container, observed });
    let mut fleet = session.fleet()?;
    let mut single = Single::new(&mut fleet, &mut *session.observer, &container.id, true)?;
    let running = match container.state {
        State::Running { pid } => Some(pid),
        State::Created | State::Exited { .. } => {
            single.fleet.expect(&engine::cgroup_names(&container.id))?;
            // Started after it was found and before it was expected: nothing will be made any more. Asked before the
            // look, so that what is made meanwhile is not taken for that.
            let pid = engine.inspect(&container.id).ok().and_then(|now| now.pid());
            single.look()?;
            pid.filter(|_| single.run.is_none())
        }
    };
    if let Some(pid) = running {
        let own = cgroup_of(pid, &container.id);
        let path = own.ok_or_else(|| RecordError::NoOwnCgroup(container.name.clone()))?;
        let target = single.fleet.add(&directory(&single.mount, &path))?;
        single.run = Some(Following::late(target, path));
        single.fleet.set_phase(target, PhaseName::Serving);
        single.observer.event(&Event::Began { container: &container, late: true });
    } else if single.run.is_some() {
        single.observer.event(&Event::Began { container: &container, late: false });
    } else {
        single.observer.event(&Event::WaitingForStart(&container));
    }
    single.observer.started(None);
    let plan = &session.request.plan;
    let signals = &mut session.signals;
    let driven = session.runtime.block_on(async {
        while single.run.is_none() {
            if tokio::time::timeout(LOOK, signals.any()).await.is_ok() {
                return Err(RecordError::Interrupted("before the container was started"));
            }
            single.look()?;
            if single.run.is_some() {
                single.observer.event(&Event::Began { container: &container, late: false });
            }
        }
        let driven = drive(plan, None, &Place::Elsewhere, Instant::now(), signals, &mut single).await;
        driven.map_err(|source| RecordError::Io { what: "cannot follow the container", source })
    })?;
    let never = || RecordError::Interrupted("before the container was started");
    let taken = single.finish()?.ok_or_else(never)?;
    let container = described(&engine, container, taken.observed.init_pid, driven.end);
    let recording = recording(&context, &label, container, taken, driven);
    session.observer.event(&Event::Finished(&recording));
    Ok(recording)
}

/// The container that is meant. Podman needs no service to run: where nothing listens, its own command is asked.
fn find(name: &str, choice: Option<Kind>, sockets: &Sockets) -> Result<Found, EngineError> {
    let error = match engine::find(name, choice, sockets) {
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    let absent = matches!(
        error,
        EngineError::NoContainer { .. }
            | EngineError::NoEngine { .. }
            | EngineError::NoSocket { .. }
            | EngineError::NotRunning { .. }
    );
    if absent && !sockets.is_one() && choice.is_none_or(|kind| kind == Kind::Podman) {
        let by_command = Engine::by_command(Kind::Podman, Path::new("podman"));
        let found = by_command.and_then(|engine| {
            let ids = engine.named(name)?;
            let container = engine.inspect(ids.first().map_or(name, String::as_str))?;
            Ok(Found { engine, container })
        });
        return found.map_err(|_| error);
    }
    Err(error)
}

/// What the engine says now, which is more than before it ran: with the exit code, if it ended. One that removed
/// itself is described as it was found.
fn described(engine: &Engine, found: Container, first: Option<u32>, end: End) -> Container {
    let patience = Instant::now();
    loop {
        let Ok(now) = engine.inspect(&found.id) else { return found };
        // It is the run that was found, however often it was started since.
        let container = Container { restart: found.restart, ..now };
        // One that its engine started again runs as another process.
        let again = matches!((container.state, first), (State::Running { pid }, Some(first)) if pid != first);
        let settled = end != End::Ended || again || matches!(container.state, State::Exited { .. });
        if settled || patience.elapsed() > SETTLE {
            return container;
        }
        std::thread::sleep(LOOK);
    }
}
