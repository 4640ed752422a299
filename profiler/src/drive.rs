//! Takes a workload from start to stop: waits until it is ready, drives it, stops it, and says how it went.
//! Used where it is recorded and where it is tested, so that both see the same life.

use std::{
    io,
    process::Stdio,
    time::{Duration, Instant},
};

use confine::{Child, Exit};
use nix::sys::signal::Signal;
use tokio::{
    signal::unix::{self, SignalKind},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use trace::PhaseName;

use crate::place::{self, Place, Process};

/// How often the workload is looked at.
const TICK: Duration = Duration::from_millis(20);
/// How often `--ready` is asked.
const READY_POLL: Duration = Duration::from_millis(200);
/// How much longer than the workload whoever stops it for us may take.
const SLACK: Duration = Duration::from_secs(15);

/// What to do with a workload between start and stop. Commands are run by `/bin/sh -c`, outside of what is
/// recorded or confined.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Polled until it succeeds; then the phase *serving* begins.
    pub ready: Option<String>,
    /// How long `ready` may take.
    pub ready_timeout: Duration,
    /// Drives the workload; when it ends the workload is stopped.
    pub exercise: Option<String>,
    /// Says whether the workload is well, after it was driven and before it is stopped.
    pub health: Option<String>,
    /// Stops the workload after this time.
    pub duration: Option<Duration>,
    /// How long daemons that outlive the command may go on before they get SIGTERM.
    pub grace: Duration,
    /// How long a workload that got SIGTERM may take before it gets SIGKILL.
    pub stop_timeout: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            ready: None,
            ready_timeout: Duration::from_secs(300),
            exercise: None,
            health: None,
            duration: None,
            grace: Duration::from_secs(5),
            stop_timeout: Duration::from_secs(30),
        }
    }
}

/// What goes along while a workload is driven.
pub trait Watcher: Send {
    /// A phase begins.
    fn phase(&mut self, phase: PhaseName);
    /// Some time went by.
    fn tick(&mut self, elapsed: Duration, phase: PhaseName);
    /// Whether the workload is over, where the watcher knows better than the place; asked after each tick.
    fn over(&mut self) -> Option<bool> {
        None
    }
    /// Asks the workload to stop, and to be killed after this time; says whether it could. Where it cannot, the
    /// workload's processes get signals. Does not wait.
    fn stop(&mut self, _timeout: Duration) -> bool {
        false
    }
}

/// The process whose end is the end of the workload.
pub trait Main: Send {
    /// Its id.
    fn pid(&self) -> u32;
    /// How it ended, if it has.
    ///
    /// # Errors
    /// When it cannot be waited for.
    fn try_wait(&mut self) -> io::Result<Option<Exit>>;
    /// Sends it a signal; one that has ended is no error.
    fn signal(&self, signal: Signal);
}

impl Main for Child {
    fn pid(&self) -> u32 {
        self.pid()
    }

    fn try_wait(&mut self) -> io::Result<Option<Exit>> {
        self.try_wait()
    }

    fn signal(&self, signal: Signal) {
        let _ = self.signal(signal);
    }
}

/// Why the drive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The workload ended by itself.
    Ended,
    /// The plan was carried out, and the workload was stopped.
    Done,
    /// The given time was over.
    Duration,
    /// We were asked to stop (Ctrl-C, SIGTERM).
    Interrupted,
    /// `ready` did not succeed in time.
    NeverReady,
}

/// How a helper command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was not asked for.
    NotAsked,
    /// It succeeded.
    Passed,
    /// It failed: its exit status in words.
    Failed(String),
    /// The workload ended, or we were interrupted, before it could answer.
    Unanswered,
}

impl Verdict {
    /// Whether nothing speaks against the workload.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        matches!(self, Self::NotAsked | Self::Passed)
    }
}

/// How it went.
#[derive(Clone, Debug)]
pub struct Driven {
    /// Why it ended.
    pub end: End,
    /// How the first process ended; none where we started none.
    pub exit: Option<Exit>,
    /// Whether the first process ended by itself before anybody asked the workload to stop.
    pub exited_by_itself: bool,
    /// When each phase began, after the start.
    pub phases: Vec<(PhaseName, Duration)>,
    /// How `ready` ended.
    pub ready: Verdict,
    /// How `exercise` ended.
    pub exercise: Verdict,
    /// How `health` ended.
    pub health: Verdict,
    /// Processes that outlived the command and got SIGTERM after the grace.
    pub left_over: Vec<Process>,
    /// Processes that did not end on SIGTERM and got SIGKILL.
    pub killed: Vec<Process>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Why waiting stopped.
enum Woken<T> {
    Answer(T),
    Ended,
    Interrupted,
    Duration,
}

struct Drive<'a> {
    plan: &'a Plan,
    child: Option<&'a mut (dyn Main + 'static)>,
    place: &'a Place,
    watcher: &'a mut dyn Watcher,
    started: Instant,
    phase: PhaseName,
    phases: Vec<(PhaseName, Duration)>,
    helper: Option<u32>,
    exit: Option<Exit>,
    /// An empty cgroup that was named before its workload starts is waited for.
    seen: bool,
    signals: &'a mut Signals,
}

/// The signals that ask us to stop. Listened for before the workload starts, so that none can end us halfway.
#[derive(Debug)]
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
}

impl Signals {
    /// Starts listening; from inside the runtime.
    ///
    /// # Errors
    /// When the handlers cannot be set.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hangup: unix::signal(SignalKind::hangup())?,
        })
    }

    pub(crate) async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Drives a workload that was just released (or, without `child`, found running).
///
/// # Errors
/// When processes cannot be listed or signals cannot be had; the workload's own failures are in the result.
pub async fn drive(
    plan: &Plan,
    child: Option<&mut (dyn Main + 'static)>,
    place: &Place,
    started: Instant,
    signals: &mut Signals,
    watcher: &mut dyn Watcher,
) -> io::Result<Driven> {
    if let Some(child) = &child {
        place::started(child.pid());
    }
    let mut drive = Drive {
        plan,
        child,
        place,
        watcher,
        started,
        phase: PhaseName::Startup,
        phases: vec![(PhaseName::Startup, Duration::ZERO)],
        helper: None,
        exit: None,
        seen: false,
        signals,
    };
    drive.run().await
}

impl Drive<'_> {
    async fn run(&mut self) -> io::Result<Driven> {
        let mut ready = Verdict::NotAsked;
        let mut exercise = Verdict::NotAsked;
        let mut health = Verdict::NotAsked;
        let end = self.serve(&mut ready, &mut exercise, &mut health).await?;
        let exited_by_itself = self.exit.is_some();
        let (left_over, killed) = self.stop(end).await?;
        if let Some(child) = &mut self.child
            && self.exit.is_none()
        {
            self.exit = child.try_wait()?;
        }
        Ok(Driven {
            end,
            exit: self.exit,
            exited_by_itself,
            phases: std::mem::take(&mut self.phases),
            ready,
            exercise,
            health,
            left_over,
            killed,
            elapsed: self.started.elapsed(),
        })
    }

    async fn serve(
        &mut self,
        ready: &mut Verdict,
        exercise: &mut Verdict,
        health: &mut Verdict,
    ) -> io::Result<End> {
        let plan = self.plan;
        if let Some(command) = &plan.ready {
            match self.until_ready(command).await? {
                Woken::Answer(verdict) => *ready = verdict,
                other => {
                    *ready = Verdict::Unanswered;
                    return Ok(end_of(&other));
                }
            }
            if !ready.is_good() {
                return Ok(End::NeverReady);
            }
        }
        if plan.ready.is_some() || plan.exercise.is_some() {
            self.enter(PhaseName::Serving);
        }
        for (command, verdict) in [(&plan.exercise, exercise), (&plan.health, health)] {
            let Some(command) = command else { continue };
            // A command that is no service may be judged after it ended, on what it left.
            let judged_after = plan.exercise.is_none() && plan.ready.is_none() && plan.duration.is_none();
            if judged_after {
                match self.wait_for(std::future::pending::<()>()).await? {
                    Woken::Ended => {}
                    other => {
                        *verdict = Verdict::Unanswered;
                        return Ok(end_of(&other));
                    }
                }
            }
            let run = self.run_command(command, judged_after).await?;
            match run {
                Woken::Answer(answer) => *verdict = answer,
                other => {
                    *verdict = Verdict::Unanswered;
                    return Ok(end_of(&other));
                }
            }
            if judged_after {
                return Ok(End::Ended);
            }
        }
        if plan.exercise.is_some() || (plan.health.is_some() && plan.duration.is_none()) {
            return Ok(End::Done);
        }
        let woken = self.wait_for(std::future::pending::<()>()).await?;
        Ok(end_of(&woken))
    }

    fn enter(&mut self, phase: PhaseName) {
        if self.phase == phase {
            return;
        }
        self.phase = phase;
        self.phases.push((phase, self.started.elapsed()));
        self.watcher.phase(phase);
    }

    async fn until_ready(&mut self, command: &str) -> io::Result<Woken<Verdict>> {
        let deadline = Instant::now() + self.plan.ready_timeout;
        loop {
            let verdict = match self.run_command(command, false).await? {
                Woken::Answer(Verdict::Passed) => return Ok(Woken::Answer(Verdict::Passed)),
                Woken::Answer(verdict) => verdict,
                other => return Ok(other),
            };
            if Instant::now() >= deadline {
                return Ok(Woken::Answer(verdict));
            }
            match self.wait_for(sleep(READY_POLL)).await? {
                Woken::Answer(()) => {}
                Woken::Ended => return Ok(Woken::Ended),
                Woken::Interrupted => return Ok(Woken::Interrupted),
                Woken::Duration => return Ok(Woken::Duration),
            }
        }
    }

    /// Runs a helper command; its output goes to our standard error.
    async fn run_command(&mut self, command: &str, workload_may_be_gone: bool) -> io::Result<Woken<Verdict>> {
        use std::os::fd::AsFd;
        let output = std::io::stderr().as_fd().try_clone_to_owned()?;
        let quiet = self.plan.ready.as_deref() == Some(command);
        let mut helper = tokio::process::Command::new("/bin/sh")
            .arg("-c")
            .arg(command)
            .stdin(Stdio::null())
            .stdout(if quiet { Stdio::null() } else { output.try_clone()?.into() })
            .stderr(if quiet { Stdio::null() } else { output.into() })
            .kill_on_drop(true)
            .spawn()?;
        self.helper = helper.id();
        if let Some(pid) = self.helper {
            place::started(pid);
        }
        let woken = if workload_may_be_gone {
            Woken::Answer(helper.wait().await)
        } else {
            self.wait_for(helper.wait()).await?
        };
        self.helper = None;
        Ok(match woken {
            Woken::Answer(Ok(status)) if status.success() => Woken::Answer(Verdict::Passed),
            Woken::Answer(Ok(status)) => Woken::Answer(Verdict::Failed(status.to_string())),
            Woken::Answer(Err(error)) => return Err(error),
            Woken::Ended => Woken::Ended,
            Woken::Interrupted => Woken::Interrupted,
            Woken::Duration => Woken::Duration,
        })
    }

    /// Waits for `answer` while the workload lives, nobody interrupts and time is left.
    async fn wait_for<T>(&mut self, answer: impl Future<Output = T>) -> io::Result<Woken<T>> {
        let remaining = self.plan.duration.map(|duration| duration.saturating_sub(self.started.elapsed()));
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut answer = std::pin::pin!(answer);
        let mut time_is_up = std::pin::pin!(async move {
            match remaining {
                Some(remaining) => sleep(remaining).await,
                None => std::future::pending().await,
            }
        });
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return Ok(Woken::Answer(answer)),
                () = self.signals.any() => return Ok(Woken::Interrupted),
                () = &mut time_is_up => return Ok(Woken::Duration),
                _ = ticks.tick() => if self.has_ended()? { return Ok(Woken::Ended) },
            }
        }
    }

    /// Whether the workload is over: nothing of it runs; or its command ended and it is no service.
    fn has_ended(&mut self) -> io::Result<bool> {
        self.watcher.tick(self.started.elapsed(), self.phase);
        if let Some(over) = self.watcher.over() {
            return Ok(over);
        }
        if let Some(child) = &mut self.child
            && self.exit.is_none()
        {
            self.exit = child.try_wait()?;
            if self.exit.is_none() {
                return Ok(false);
            }
        }
        // A command that detaches itself is a service when the plan says how to drive it.
        let service =
            self.plan.ready.is_some() || self.plan.exercise.is_some() || self.plan.duration.is_some();
        if self.exit.is_some() && !service {
            return Ok(true);
        }
        let empty = self.place.processes(self.helper)?.is_empty();
        self.seen |= !empty || self.child.is_some();
        Ok(empty && self.seen)
    }

    /// Ends what is left of the workload; a workload that we did not start is left alone.
    async fn stop(&mut self, end: End) -> io::Result<(Vec<Process>, Vec<Process>)> {
        if self.child.is_none() {
            return Ok((Vec::new(), Vec::new()));
        }
        let mut left_over = Vec::new();
        if end == End::Ended {
            // Daemons that outlive the command.
            if !self.emptied(self.plan.grace).await? {
                left_over = self.place.processes(self.helper)?;
                self.enter(PhaseName::Shutdown);
                self.place.signal_all(self.helper, Signal::SIGTERM)?;
            }
        } else {
            self.enter(PhaseName::Shutdown);
            if self.watcher.stop(self.plan.stop_timeout) {
                if !self.main_ended(self.plan.stop_timeout + SLACK).await?
                    && let Some(child) = &self.child
                {
                    child.signal(Signal::SIGKILL);
                }
                return Ok((Vec::new(), Vec::new()));
            }
            match &self.child {
                Some(child) if self.exit.is_none() => child.signal(Signal::SIGTERM),
                _ => {
                    self.place.signal_heads(self.helper, Signal::SIGTERM)?;
                }
            }
            // What the main process leaves behind when it goes gets its own SIGTERM.
            if self.main_ended(self.plan.stop_timeout).await? && !self.emptied(self.plan.grace).await? {
                left_over = self.place.processes(self.helper)?;
                self.place.signal_all(self.helper, Signal::SIGTERM)?;
            }
        }
        if self.emptied(self.plan.stop_timeout).await? {
            return Ok((left_over, Vec::new()));
        }
        let killed = self.place.processes(self.helper)?;
        self.place.signal_all(self.helper, Signal::SIGKILL)?;
        self.emptied(Duration::from_secs(5)).await?;
        Ok((left_over, killed))
    }

    async fn main_ended(&mut self, limit: Duration) -> io::Result<bool> {
        self.until(limit, |drive| {
            if let Some(child) = &mut drive.child
                && drive.exit.is_none()
            {
                drive.exit = child.try_wait()?;
            }
            Ok(drive.exit.is_some())
        })
        .await
    }

    async fn emptied(&mut self, limit: Duration) -> io::Result<bool> {
        self.until(limit, |drive| {
            if let Some(child) = &mut drive.child
                && drive.exit.is_none()
            {
                drive.exit = child.try_wait()?;
            }
            Ok(drive.place.processes(drive.helper)?.is_empty())
        })
        .await
    }

    /// Polls a condition; an interrupt while we stop the workload ends the patience with it.
    async fn until(
        &mut self,
        limit: Duration,
        condition: impl Fn(&mut Self) -> io::Result<bool>,
    ) -> io::Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            self.watcher.tick(self.started.elapsed(), self.phase);
            if condition(self)? {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            if timeout(TICK, self.signals.any()).await.is_ok() {
                return Ok(false);
            }
        }
    }
}

const fn end_of<T>(woken: &Woken<T>) -> End {
    match woken {
        Woken::Answer(_) => End::Done,
        Woken::Ended => End::Ended,
        Woken::Interrupted => End::Interrupted,
        Woken::Duration => End::Duration,
    }
}
