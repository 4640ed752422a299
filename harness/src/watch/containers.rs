//! Watching a container by its name: the run that goes on, if one does, and every later one, also of a container that
//! is made anew under that name.
//!
//! A container's cgroup is known by its directory name, which follows from the id; so it is a target from its birth
//! on, and a restart is seen from its first call. A container that is made anew has another id, which the engine is
//! asked for now and then: one that runs already by then is watched from there on, and its run counts as a part.

use std::time::{Duration, Instant};

use engine::{Container, Engine, Found, Kind, Sockets, State};
use profiler::{cgroup, ebpf::Fleet, host};

use super::{About, Ending, Event, Judges, Look, Watch, WatchError, look::arm, run::Run};
use crate::Judge;

/// How often the engine is asked whether there is a new container of that name, while none runs.
const ASK: Duration = Duration::from_secs(1);

/// What finds the profile that a container runs under, where it is known.
pub type InForce = Box<dyn Fn(&Container, Kind) -> Option<Judge>>;

/// A container, by its name or id.
pub struct Containers {
    fleet: Fleet,
    mount: std::path::PathBuf,
    name: String,
    sockets: Sockets,
    engine: Engine,
    container: Container,
    asked: Option<Judge>,
    in_force: InForce,
    without_exec: bool,
    patience: Option<Duration>,
    run: Option<Run>,
    runs: u32,
    events: Vec<Event>,
    last_asked: Instant,
    /// Since when nothing runs.
    idle: Option<Instant>,
}

impl Containers {
    /// Asks for the container, and attaches to it or arms its start. With a `patience` the watch is over when the
    /// container has stopped and did not come back for so long, or is gone.
    ///
    /// # Errors
    /// No engine has it, or BPF does not work here.
    pub fn start(
        name: &str,
        choice: Option<Kind>,
        sockets: Sockets,
        asked: Option<Judge>,
        in_force: InForce,
        without_exec: bool,
        patience: Option<Duration>,
    ) -> Result<Self, WatchError> {
        let Found { engine, container } = engine::find(name, choice, &sockets)?;
        let mount = cgroup::mount_point()?;
        let mut fleet = Fleet::start(true)?;
        arm(&mut fleet, asked.as_ref())?;
        let mut watch = Self {
            fleet,
            mount,
            name: name.to_owned(),
            sockets,
            engine,
            container,
            asked,
            in_force,
            without_exec,
            patience,
            run: None,
            runs: 0,
            events: Vec::new(),
            last_asked: Instant::now(),
            idle: Some(Instant::now()),
        };
        watch.attach()?;
        Ok(watch)
    }

    /// The container as its engine described it last, and the engine.
    #[must_use]
    pub fn container(&self) -> (&Container, String) {
        (&self.container, self.engine.with_version())
    }

    /// Arms the container's next start, and attaches to what runs already.
    fn attach(&mut self) -> Result<(), WatchError> {
        self.fleet.expect(&engine::cgroup_names(&self.container.id))?;
        // Asked again: what was started in between was armed, or is seen to run now.
        if let Ok(container) = self.engine.inspect(&self.container.id) {
            self.container = container;
        }
        self.take_in()?;
        if let (None, State::Running { pid }) = (&self.run, self.container.state) {
            let path = profiler::containers::cgroup_of(pid, &self.container.id);
            let path = path.ok_or_else(|| WatchError::NoCgroup(self.container.name.clone()))?;
            let directory = self.mount.join(path.trim_start_matches('/'));
            let target = self.fleet.add(&directory)?;
            self.fleet.set_phase(target, trace::PhaseName::Serving);
            self.begin(target, directory, true)?;
        }
        Ok(())
    }

    fn begin(
        &mut self,
        target: profiler::ebpf::TargetId,
        directory: std::path::PathBuf,
        late: bool,
    ) -> Result<(), WatchError> {
        if let Ok(container) = self.engine.inspect(&self.container.id) {
            self.container = container;
        }
        self.runs += 1;
        self.idle = None;
        let container = &self.container;
        let about = About {
            run: self.runs,
            name: container.name.clone(),
            id: container.id.clone(),
            engine: Some(self.engine.with_version()),
            image: container.image_name.clone(),
            image_digest: container.image_digest,
            pod: container.pod.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name)),
            seccomp: Some(container.seccomp.describe().to_owned()),
            late,
            started: host::now(),
        };
        let in_force = (self.in_force)(container, self.engine.kind());
        let judges = Judges { asked: self.asked.clone(), in_force }.settled();
        let judges = judges.under(container.runtime.as_deref())?;
        let look = Look { judges, without_exec: self.without_exec };
        self.events.push(Event::Began(about.clone()));
        self.run = Some(Run::new(about, target, directory, look));
        Ok(())
    }

    /// Takes in the cgroups that were made.
    fn take_in(&mut self) -> Result<(), WatchError> {
        for born in self.fleet.news()? {
            if let (Some(run), Some(parent)) = (&mut self.run, born.parent)
                && run.holds(parent)
            {
                run.adopt(born.target);
                continue;
            }
            // The old run's cgroup is gone before the next one's is made.
            if let Some(run) = self.run.take() {
                self.events.extend(run.end(&mut self.fleet, Ending::Stopped)?);
            }
            let directory = self.mount.join(born.path.trim_start_matches('/'));
            self.begin(born.target, directory, false)?;
        }
        Ok(())
    }

    /// Looks for a container that was made anew under the name.
    fn ask_again(&mut self) -> Result<(), WatchError> {
        if self.run.is_some() || self.last_asked.elapsed() < ASK {
            return Ok(());
        }
        self.last_asked = Instant::now();
        let choice = Some(self.engine.kind());
        if let Ok(Found { engine, container }) = engine::find(&self.name, choice, &self.sockets)
            && container.id != self.container.id
        {
            self.fleet.forget(&engine::cgroup_names(&self.container.id));
            (self.engine, self.container) = (engine, container);
            self.attach()?;
        }
        Ok(())
    }
}

impl Watch for Containers {
    fn look(&mut self) -> Result<Vec<Event>, WatchError> {
        self.take_in()?;
        if let Some(mut run) = self.run.take() {
            if run.is_over() {
                self.events.extend(run.end(&mut self.fleet, Ending::Stopped)?);
                self.idle = Some(Instant::now());
            } else {
                self.events.extend(run.glance(&self.fleet)?);
                self.run = Some(run);
            }
        }
        self.ask_again()?;
        Ok(std::mem::take(&mut self.events))
    }

    fn is_over(&mut self) -> bool {
        let (Some(patience), Some(idle)) = (self.patience, self.idle) else { return false };
        self.runs > 0 && (idle.elapsed() >= patience || self.engine.inspect(&self.container.id).is_err())
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<Event>, WatchError> {
        let mut events = std::mem::take(&mut self.events);
        if let Some(mut run) = self.run.take() {
            let ending = if run.is_over() { Ending::Stopped } else { Ending::WatchEnded };
            events.extend(run.end(&mut self.fleet, ending)?);
        }
        Ok(events)
    }
}
