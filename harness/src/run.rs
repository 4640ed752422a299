//! One confined start from beginning to end: driven as a recording is, then judged by its denials.

use std::time::{Duration, Instant};

use confine::Launch;
use profiler::{
    cgroup::OwnCgroup,
    drive::{Driven, Plan, Signals, Watcher, drive},
    place::{self, Place},
};
use synth::Profile;
use trace::PhaseName;

use crate::{Denial, HarnessError, Mode, PhaseSetter, start};

/// How a confined start went.
#[derive(Clone, Debug)]
pub struct Run {
    /// How the workload fared.
    pub driven: Driven,
    /// What was refused, or in complain mode would have been.
    pub denials: Vec<Denial>,
    /// What a reader must know besides.
    pub remarks: Vec<String>,
}

/// Starts a command with the profile in force, carries the plan out, and stops it. The launch's cgroup and filter are
/// set here.
///
/// # Errors
/// See [`HarnessError`]; the workload has ended then.
pub async fn run(
    profile: &Profile,
    mut launch: Launch,
    mode: Mode,
    plan: &Plan,
) -> Result<Run, HarnessError> {
    // A cgroup of its own finds daemons too; where none can be had, orphans are handed to us.
    let own = OwnCgroup::create().ok();
    let place = match own.as_ref().and_then(|own| Some((own, own.entrance().ok()?))) {
        Some((own, entrance)) => {
            launch.cgroup = Some(entrance);
            Place::Cgroup(own.path().to_owned())
        }
        None => {
            place::adopt_orphans().map_err(HarnessError::Drive)?;
            Place::Descendants
        }
    };
    let mut signals = Signals::listen().map_err(HarnessError::Drive)?;
    let started = Instant::now();
    let mut confined = start(profile, launch, mode)?;
    let mut watcher = Phases(confined.phase_setter());
    let driven = drive(plan, Some(confined.child()), &place, started, &mut signals, &mut watcher).await;
    let driven = driven.map_err(HarnessError::Drive)?;
    let report = confined.finish()?;
    Ok(Run { driven, denials: report.denials, remarks: report.remarks })
}

/// Hands the drive's phases to the supervisor.
struct Phases(PhaseSetter);

impl Watcher for Phases {
    fn phase(&mut self, phase: PhaseName) {
        self.0.set(phase);
    }

    fn tick(&mut self, _: Duration, _: PhaseName) {}
}
