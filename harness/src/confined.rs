//! Starting a command with a profile in force.

use std::{
    io,
    sync::{Arc, Mutex},
};

use confine::{Child, Filter, Launch, LoadFlags, SpawnError};
use synth::{CompileError, CompileOptions, Flag, Profile, Program, SeccompData, Verdict, compile, simulate};
use trace::Abi;

pub use crate::ledger::PhaseSetter;
use crate::{
    Mode, Report, Stage,
    ledger::{Ledger, Refused},
    rewrite,
    supervisor::{Origin, Supervisor},
};

/// A confined start that could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HarnessError {
    /// The profile cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The compiled program computes its answers, so its refusals cannot be told from the rest.
    #[error(
        "the compiled filter computes its answers; denials can only be named for filters of libseccomp's form"
    )]
    Computed,
    /// This machine is none that profiles are tested on.
    #[error("no ABI is known for this machine `{0}`")]
    Machine(&'static str),
    /// The command cannot be started, for a reason other than the profile.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The supervisor failed.
    #[error("cannot answer the workload's refused calls")]
    Supervisor(#[source] io::Error),
    /// No socket could be made for a container runtime to hand its listener to.
    #[error(
        "cannot listen on `{path}` for the container runtime; choose a shorter TMPDIR that you may write to"
    )]
    Listen {
        /// The socket's path.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The engine cannot make the container.
    #[error(transparent)]
    Engine(#[from] engine::EngineError),
    /// The container ran, or failed, without its runtime handing a listener over.
    #[error(
        "{0} handed no listener of its runtime over, so denials cannot be named without BPF; use podman, or docker from 23 on (20.10 drops `listenerPath`), or run as root with `--backend ebpf`"
    )]
    NoListener(engine::Kind),
    /// The workload could not be followed.
    #[error("cannot follow the workload")]
    Drive(#[source] io::Error),
}

/// A command that runs with a profile in force. Dropping it ends what is left of it, except in [`Mode::Plain`].
#[derive(Debug)]
pub struct Confined {
    child: Child,
    supervisor: Option<Supervisor>,
    phase: PhaseSetter,
    report: Report,
    never_ran: bool,
}

/// Starts a command with a profile in force. The filter and its flags in `launch` are set here.
///
/// A profile that refuses `execve` itself is no error: the child has then ended (127, or by the filter's signal), and
/// the report has the denial.
///
/// # Errors
/// See [`HarnessError`].
pub fn start(profile: &Profile, mut launch: Launch, mode: Mode) -> Result<Confined, HarnessError> {
    let machine = std::env::consts::ARCH;
    let native = Abi::native_of(machine).ok_or(HarnessError::Machine(machine))?;
    let original = compile(profile, native, CompileOptions::default())?;
    let rewritten = rewrite::notifying(&original, native).ok_or(HarnessError::Computed)?;
    launch.flags = flags(profile);
    launch.filter = match mode {
        Mode::Plain => Filter::Enforce(rewrite::plain(&original)),
        Mode::Enforce | Mode::Complain => Filter::Listen(rewritten),
    };
    let mut report = Report::default();
    // A name that is refused anyway is no loss.
    let allowed = profile.allowed();
    let lost: Vec<&str> =
        original.unknown.iter().map(String::as_str).filter(|name| allowed.contains(name)).collect();
    if !lost.is_empty() {
        report.remarks.push(format!(
            "this host's libseccomp does not know `{}`, which the profile allows: here they are refused",
            lost.join("`, `")
        ));
    }
    let phase = PhaseSetter::default();
    let mut ledger = Ledger::new(profile.clone(), native, phase.clone());

    let gated = confine::spawn(launch)?;
    let (mut child, listener) = gated.release()?;
    let exec_verdict = exec_verdict(&original, native);
    let complain = mode == Mode::Complain;
    let mut supervisor = match listener {
        Some(listener) => {
            let shared = Arc::new(Mutex::new(ledger));
            Some(
                Supervisor::start(listener, original, shared, Origin::Command, complain)
                    .map_err(HarnessError::Supervisor)?,
            )
        }
        None => {
            if !exec_verdict.executes() {
                ledger.refuse(&refused_exec(&child, native, exec_verdict));
                report.denials = ledger.denials();
            }
            None
        }
    };
    let mut never_ran = false;
    match child.wait_exec() {
        Ok(()) => {}
        Err(error) if exec_verdict.executes() || complain => {
            if let Some(supervisor) = &mut supervisor {
                supervisor.finish().map_err(HarnessError::Supervisor)?;
            }
            return Err(error.into());
        }
        // The workload never ran: what the child then called to end itself is none of its denials.
        Err(_) => {
            if let Some(mut supervisor) = supervisor.take() {
                supervisor.finish().map_err(HarnessError::Supervisor)?;
                report.denials = supervisor.ledger().denials();
                report.denials.truncate(1);
            }
            never_ran = true;
            report.remarks.push("the profile refuses `execve`: the command never ran".to_owned());
        }
    }
    Ok(Confined { child, supervisor, phase, report, never_ran })
}

/// The flags that a runtime loads this profile with: facts about runc and crun, which set SPEC_ALLOW where the
/// profile says nothing.
fn flags(profile: &Profile) -> LoadFlags {
    match &profile.flags {
        None => LoadFlags::default(),
        Some(flags) => {
            LoadFlags { spec_allow: flags.contains(&Flag::SpecAllow), log: flags.contains(&Flag::Log) }
        }
    }
}

/// What the profile says to the one call that is made between loading it and the program.
fn exec_verdict(program: &Program, native: Abi) -> Verdict {
    let Some(number) = native.number("execve") else { return Verdict::Allow };
    // Its arguments are pointers, which no profile compares.
    simulate(program, &SeccompData::call(native, number, [0; 6])).unwrap_or(Verdict::KillProcess)
}

fn refused_exec(child: &Child, native: Abi, verdict: Verdict) -> Refused {
    Refused {
        abi: native,
        number: native.number("execve").unwrap_or(0),
        arguments: [0; 6],
        verdict,
        thread: child.pid(),
        process: child.pid(),
        stage: Stage::Workload,
    }
}

impl Confined {
    /// The command's process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// From now on denials belong to this phase.
    pub fn set_phase(&self, phase: trace::PhaseName) {
        self.phase.set(phase);
    }

    /// The same, for whoever follows the workload while its child is borrowed.
    #[must_use]
    pub fn phase_setter(&self) -> PhaseSetter {
        self.phase.clone()
    }

    /// Whether no process of the workload is left; not known in [`Mode::Plain`] once it ran.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.never_ran || self.supervisor.as_ref().is_some_and(Supervisor::ended)
    }

    /// Stops, and says what was denied. What is left of the workload ends, except in [`Mode::Plain`].
    ///
    /// # Errors
    /// When the supervisor failed: then denials may be missing.
    pub fn finish(mut self) -> Result<Report, HarnessError> {
        if let Some(mut supervisor) = self.supervisor.take() {
            supervisor.finish().map_err(HarnessError::Supervisor)?;
            let ledger = supervisor.ledger();
            self.report.denials = ledger.denials();
            self.report.remarks.extend(ledger.remarks());
        }
        Ok(self.report)
    }
}
