//! Watching one cgroup, or one process with its descendants.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use profiler::{
    CapturePlan, Recorder as _, cgroup,
    ebpf::{Class, EbpfRecorder, Fleet, Tuples, Watch as Subject},
    host,
    place::Place,
};

use super::{About, Ending, Event, Look, Summary, Watch, WatchError, look::arm, run::Run, sighting};

fn about(name: String, id: String, late: bool) -> About {
    About {
        run: 1,
        name,
        id,
        engine: None,
        image: None,
        image_digest: None,
        pod: None,
        seccomp: None,
        late,
        started: host::now(),
    }
}

/// A cgroup with all below it. Without stages: everything in it is the workload.
pub struct OneCgroup {
    fleet: Fleet,
    run: Option<Run>,
    began: bool,
}

impl OneCgroup {
    /// Attaches.
    ///
    /// # Errors
    /// There is no such cgroup, or BPF does not work here.
    pub fn start(path: &Path, look: Look) -> Result<Self, WatchError> {
        let directory: PathBuf = cgroup::find(path)?;
        let mut fleet = Fleet::start(false)?;
        arm(&mut fleet, look.judges.asked.as_ref())?;
        let late = cgroup::processes(&directory).is_ok_and(|pids| !pids.is_empty());
        let target = fleet.add(&directory)?;
        let mount = cgroup::mount_point()?;
        let below = format!("/{}", directory.strip_prefix(&mount).unwrap_or(&directory).display());
        let run = Run::new(about(below.clone(), below, late), target, directory, look);
        Ok(Self { fleet, run: Some(run), began: false })
    }
}

impl Watch for OneCgroup {
    fn look(&mut self) -> Result<Vec<Event>, WatchError> {
        let Some(mut run) = self.run.take() else { return Ok(Vec::new()) };
        let mut events = Vec::new();
        if !self.began {
            self.began = true;
            events.push(Event::Began(run.about.clone()));
        }
        if run.is_over() {
            events.extend(run.end(&mut self.fleet, Ending::Stopped)?);
            return Ok(events);
        }
        events.extend(run.glance(&self.fleet)?);
        self.run = Some(run);
        Ok(events)
    }

    fn is_over(&mut self) -> bool {
        self.run.is_none()
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<Event>, WatchError> {
        match self.run.take() {
            Some(run) => Ok(run.end(&mut self.fleet, Ending::WatchEnded)?),
            None => Ok(Vec::new()),
        }
    }
}

/// A process with its threads and descendants. What was seen is said at the end.
pub struct OneProcess {
    recorder: EbpfRecorder,
    about: About,
    look: Look,
    place: Place,
    since: Instant,
    began: bool,
}

impl OneProcess {
    /// Attaches.
    ///
    /// # Errors
    /// There is no such process, or BPF does not work here.
    pub fn start(pid: u32, look: Look) -> Result<Self, WatchError> {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        let name = name.map_err(|_| WatchError::NoProcess(pid))?;
        let recorder = EbpfRecorder::start(&Subject::Process(pid), &CapturePlan::default())?;
        let about = about(format!("{} ({pid})", name.trim_end()), pid.to_string(), true);
        let (place, since) = (Place::Process(pid), Instant::now());
        Ok(Self { recorder, about, look, place, since, began: false })
    }
}

impl Watch for OneProcess {
    fn look(&mut self) -> Result<Vec<Event>, WatchError> {
        if self.began {
            return Ok(Vec::new());
        }
        self.began = true;
        Ok(vec![Event::Began(self.about.clone())])
    }

    fn is_over(&mut self) -> bool {
        self.place.processes(None).is_ok_and(|processes| processes.is_empty())
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<Event>, WatchError> {
        let ending = if self.is_over() { Ending::Stopped } else { Ending::WatchEnded };
        let Self { recorder, about, look, since, .. } = *self;
        let observed = Box::new(recorder).finish();
        let observed = observed.map_err(|error| WatchError::Read(std::io::Error::other(error)))?;
        let stage = Class::Workload.into();
        let mut sightings = sighting::denied(&observed.rows, stage, look.judges.in_force.as_ref());
        if let Some(judge) = &look.judges.asked {
            let captured = Tuples::default();
            sightings.extend(sighting::would_be_refused(judge, stage, &observed.rows, &captured, true));
        }
        sightings.sort_by_key(|one| (one.first.after_ms, one.abi, one.number));
        let mut events: Vec<Event> =
            sightings.iter().map(|one| Event::First(about.run, one.clone())).collect();
        let summary = Box::new(Summary {
            about,
            ending,
            duration_ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
            calls: observed.rows.iter().map(|row| row.calls.saturating_add(row.denied)).sum(),
            exec_sessions: 0,
            confined: observed.confined,
            losses: observed.losses,
            sightings,
        });
        events.push(Event::Ended(summary, look.judges));
        Ok(events)
    }
}
