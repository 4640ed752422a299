//! Watching the containers of a pod: a recording of them of which only the denials are kept, each run of each
//! container by itself.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use engine::{Container, Kind};
use harness::{
    Judge,
    watch::{About, Ending, Event, JUDGED, Judges, Look, Seen, Summary},
};
use profiler::{
    CapturePlan, Observer, Progress,
    containers::{self, ContainerRecording, ContainerRequest},
    ebpf::{Fleet, TargetId, Tuples},
    host,
};
use trace::{Backend, PhaseName, Row};

use super::{Options, in_force, show::Show};
use crate::{record::TOOL, terminal::say};

pub(super) fn run(options: &Options, asked: Option<Judge>, show: Show) -> anyhow::Result<ExitCode> {
    let Some(subject) = options.pod.subject(&options.engines)? else { anyhow::bail!("no pod to watch") };
    let request = ContainerRequest {
        subject,
        sockets: options.engines.sockets(),
        plan: profiler::drive::Plan { duration: options.duration, ..profiler::drive::Plan::default() },
        capture: CapturePlan::default(),
        stdout_is_ours: true,
        observe_profile: None,
    };
    let kind = options.engines.engine.unwrap_or(Kind::Containerd);
    let without_exec = options.without_exec;
    let mut pods = Pods { asked, kind, without_exec, show, runs: 0, live: BTreeMap::new(), failed: None };
    containers::record(&request, TOOL, &mut pods)?;
    match pods.failed {
        Some(error) => Err(error),
        None => Ok(pods.show.result()),
    }
}

struct Pods {
    asked: Option<Judge>,
    kind: Kind,
    without_exec: bool,
    show: Show,
    runs: u32,
    /// The runs that go on, by the container's id.
    live: BTreeMap<String, Live>,
    failed: Option<anyhow::Error>,
}

struct Live {
    about: About,
    look: Look,
    seen: Seen,
    tuples: Tuples,
    judged: Instant,
}

impl Pods {
    fn began(&mut self, container: &Container, late: bool) {
        self.runs += 1;
        let judges = Judges { asked: self.asked.clone(), in_force: in_force(container, self.kind) }.settled();
        // What was compiled once compiles again.
        let judges = judges.clone().under(container.runtime.as_deref()).unwrap_or(judges);
        let about = About {
            run: self.runs,
            name: container.name.clone(),
            id: container.id.clone(),
            engine: None,
            image: container.image_name.clone(),
            image_digest: container.image_digest,
            pod: container.pod.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name)),
            seccomp: Some(container.seccomp.describe().to_owned()),
            late,
            started: host::now(),
        };
        self.tell(Event::Began(about.clone()));
        let look = Look { judges, without_exec: self.without_exec };
        // What was seen before the engine said whose it is, is kept.
        let (seen, tuples) = (Seen::default(), Tuples::default());
        self.live.insert(container.id.clone(), Live { about, look, seen, tuples, judged: Instant::now() });
    }

    fn finished(&mut self, recording: &ContainerRecording) {
        if !self.live.contains_key(&recording.container.id) {
            self.began(&recording.container, false);
        }
        let Some(mut live) = self.live.remove(&recording.container.id) else { return };
        let trace = &recording.trace;
        live.about.started.clone_from(&trace.recorder.started);
        live.about.engine = trace.target.container.as_ref().map(|container| container.engine.clone());
        // Only the engine knows whether it stopped, or is merely not watched any longer.
        let ending = match recording.container.state {
            engine::State::Exited { .. } => Ending::Stopped,
            engine::State::Created | engine::State::Running { .. } => Ending::WatchEnded,
        };
        let start = trace.runtime.as_ref().map_or(&[][..], |runtime| &runtime.start);
        let exec = trace.exec.as_ref().map_or(&[][..], |exec| &exec.syscalls);
        let settled = ending == Ending::Stopped;
        let sightings =
            live.look.all(&recording.refusals, &trace.syscalls, start, exec, &live.tuples, settled);
        for sighting in live.seen.news(&sightings) {
            self.tell(Event::First(live.about.run, sighting));
        }
        let calls = |row: &Row| row.calls.saturating_add(row.denied);
        let summary = Summary {
            about: live.about,
            ending,
            duration_ms: trace.recorder.duration_ms,
            calls: trace.syscalls.iter().map(calls).sum(),
            exec_sessions: trace.exec.as_ref().map_or(0, |exec| exec.sessions),
            confined: trace.confined,
            losses: trace.losses,
            sightings,
        };
        self.tell(Event::Ended(Box::new(summary), live.look.judges));
    }

    fn tell(&mut self, event: Event) {
        if let Err(error) = self.show.event(event) {
            self.failed.get_or_insert(error);
        }
    }
}

impl Observer for Pods {
    fn chosen(&mut self, _: Backend, _: &str) {}

    fn started(&mut self, _: Option<u32>) {
        self.show.ready();
    }

    fn progress(&mut self, _: Duration, _: PhaseName, _: &Progress) {}

    fn armed(&mut self, fleet: &mut Fleet) {
        if let Err(error) = harness::watch::arm(fleet, self.asked.as_ref()) {
            self.failed.get_or_insert(error.into());
        }
    }

    fn peek(&mut self, fleet: &Fleet, id: &str, targets: &[TargetId]) {
        let Some(live) = self.live.get_mut(id) else { return };
        let judging = live.judged.elapsed() >= JUDGED;
        if judging {
            live.judged = Instant::now();
        }
        let looked = live.look.now(fleet, targets, judging).and_then(|sightings| {
            live.tuples = live.look.tuples(fleet, targets)?;
            Ok((live.about.run, live.seen.news(&sightings)))
        });
        match looked {
            Ok((run, news)) => news.into_iter().for_each(|sighting| self.tell(Event::First(run, sighting))),
            Err(error) => _ = self.failed.get_or_insert(error.into()),
        }
    }

    fn event(&mut self, event: &containers::Event<'_>) {
        match event {
            containers::Event::Began { container, late } => self.began(container, *late),
            containers::Event::Finished(recording) => self.finished(recording),
            containers::Event::WaitingForPod { namespace, name, limit } => say(format!(
                "no pod `{name}` in namespace `{namespace}` yet; waiting {}",
                humantime::format_duration(*limit)
            )),
            containers::Event::PodFound(pod) => say(format!("pod `{}/{}`", pod.namespace, pod.name)),
            containers::Event::Found { .. } | containers::Event::WaitingForStart(_) => {}
        }
    }
}
