//! One confined start of a workload: under a profile, driven like a recording, judged by its denials and its health.

use std::{ffi::OsString, os::fd::AsFd};

use confine::Launch;
use engine::{Container, Found, Seccomp};
use harness::{Denial, Mode, Relay, Run, Stage};
use profiler::{
    containers::{ContainerRequest, ContainerSubject},
    drive::{Driven, End, Plan},
};
use serde_json::{Value, json};
use synth::{
    Profile,
    decode::{Context, Detail},
};
use trace::Digest;

use crate::{
    containers::{Engines, profile_file},
    expected::{Bearing, Expected},
    output::read,
    record::TOOL,
    session::capture,
    terminal::Live,
};

/// What a start showed.
#[derive(Debug)]
pub(crate) struct Trial {
    /// How the start went.
    pub(crate) run: Run,
    /// What the profile's evidence says will be refused.
    pub(crate) expected: Expected,
    /// The container, where its start was recorded.
    pub(crate) container: Option<Started>,
}

/// A container that was started under the profile.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) image: Option<Digest>,
    /// How many calls it made.
    pub(crate) calls: u64,
    /// Whether events were lost, so that a denial may be missing.
    pub(crate) lost: bool,
}

impl Trial {
    /// How a refusal bears on the profile.
    pub(crate) fn bearing(&self, denial: &Denial) -> Bearing {
        self.expected.bearing(denial)
    }

    /// The refusals that bear on the profile in this way.
    pub(crate) fn refused(&self, bearing: Bearing) -> impl Iterator<Item = &Denial> {
        self.run.denials.iter().filter(move |denial| self.bearing(denial) == bearing)
    }

    /// Whether someone asked us to stop: what was not driven to its end proves nothing.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.run.driven.end == End::Interrupted
    }

    /// Whether the workload was well: its helpers succeeded, and it did not end with an error of its own.
    pub(crate) fn is_well(&self) -> bool {
        let Driven { end, exit, ready, exercise, health, .. } = &self.run.driven;
        let ended_badly = *end == End::Ended && exit.is_some_and(|exit| exit.code() != 0);
        *end != End::NeverReady
            && !ended_badly
            && [ready, exercise, health].into_iter().all(|verdict| verdict.is_good())
    }
}

/// What a start is made of.
pub(crate) struct Setting<'a> {
    pub(crate) profile: &'a Profile,
    pub(crate) command: &'a [OsString],
    pub(crate) plan: &'a Plan,
    pub(crate) expected: &'a Expected,
    /// Our standard output is for the result: the workload's goes to standard error.
    pub(crate) stdout_is_ours: bool,
}

/// Starts the workload under the profile, drives it and stops it.
pub(crate) fn trial(setting: &Setting<'_>, mode: Mode) -> anyhow::Result<Trial> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut launch = Launch::new(setting.command)?;
    if setting.stdout_is_ours {
        launch.stdout = Some(std::io::stderr().as_fd().try_clone_to_owned()?);
    }
    let run = runtime.block_on(harness::run(setting.profile, launch, mode, setting.plan))?;
    Ok(Trial { run, expected: setting.expected.clone(), container: None })
}

/// A container that already runs, exercised and judged; never started, stopped or changed. The inner error is that it
/// does not run under the profile.
pub(crate) fn running_trial(
    profile: &Profile,
    name: &str,
    engines: &Engines,
    plan: &Plan,
    expected: &Expected,
) -> anyhow::Result<Result<Trial, String>> {
    let sockets = engines.sockets();
    let Found { container, .. } = engine::find(name, engines.engine, &sockets)?;
    if container.pid().is_none() {
        anyhow::bail!(
            "container `{name}` does not run; start it with the profile: `--security-opt seccomp=FILE`"
        );
    }
    if let Err(why) = runs_under(&container, profile) {
        return Ok(Err(why));
    }
    let request = ContainerRequest {
        subject: ContainerSubject::Existing { name: name.to_owned(), choice: engines.engine },
        sockets,
        plan: plan.clone(),
        capture: capture(),
        stdout_is_ours: true,
        observe_profile: None,
    };
    let recorded = profiler::containers::record(&request, TOOL, &mut Live::new(true))?;
    let Some(recording) = recorded.into_iter().next() else {
        anyhow::bail!("container `{name}` was not seen")
    };
    let denials =
        harness::attribute(profile, &recording.refusals, &recording.trace, &recording.driven.phases)?;
    let mut remarks = vec![
        "it ran already: what was refused to it before, and while it starts, is not known; see `test --image`".to_owned(),
    ];
    if recording.trace.losses.lost_calls() {
        remarks.push("some events were lost, so a denial may be missing".to_owned());
    }
    let run = Run { driven: recording.driven, denials, remarks };
    Ok(Ok(Trial { run, expected: expected.clone(), container: None }))
}

/// Whether the engine says that the container runs under this very profile.
fn runs_under(container: &Container, profile: &Profile) -> Result<(), String> {
    let remedy = "start it with `--security-opt seccomp=FILE` and the profile's file, then test it";
    let name = &container.name;
    let text = match &container.seccomp {
        _ if container.privileged => {
            return Err(format!("container `{name}` is privileged, so no profile is in force; {remedy}"));
        }
        Seccomp::Unconfined => {
            return Err(format!("container `{name}` runs unconfined; {remedy}, or use `watch --profile`"));
        }
        Seccomp::Default => {
            return Err(format!("container `{name}` runs under its engine's default profile; {remedy}"));
        }
        Seccomp::Inline(text) => text.clone().into_bytes(),
        Seccomp::Profile(path) => read(path.as_ref()).map_err(|error| format!("{error:#}; {remedy}"))?,
    };
    match Profile::read(&text) {
        Ok(own) if own.digest() == profile.digest() => Ok(()),
        _ => Err(format!("container `{name}` runs under another profile than this one; {remedy}")),
    }
}

/// A container that its engine starts with the profile rewritten so that its runtime's listener names denials.
pub(crate) fn relayed_trial(
    profile: &Profile,
    container: &engine::Run,
    plan: &Plan,
    expected: &Expected,
) -> anyhow::Result<Trial> {
    let folder = tempfile::Builder::new().prefix("seccomp-learn.").tempdir()?;
    let relay = Relay::listen(profile, folder.path())?;
    let file = profile_file(&relay.profile().to_json())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = runtime.block_on(harness::run_relayed(relay, container, file.path().to_owned(), plan))?;
    Ok(Trial { run, expected: expected.clone(), container: None })
}

/// A denial in one line for a person: `unshare(CLONE_NEWUSER) → EPERM, 3 times, first by sh (4711) in serving`.
pub(crate) fn sentence(denial: &Denial) -> String {
    let times = if denial.count == 1 {
        "once".to_owned()
    } else {
        format!("{} times", crate::terminal::thousands(denial.count))
    };
    let abi = if Some(denial.abi) == trace::Abi::native_of(std::env::consts::ARCH) {
        String::new()
    } else {
        format!(" ({})", denial.abi)
    };
    let whose = match denial.stage {
        Stage::Workload => "",
        Stage::Exec => "exec session: ",
        Stage::Setup | Stage::Start => "container runtime: ",
    };
    let call = in_words(denial.abi, &denial.name, &denial.args, denial.file.as_deref(), Detail::Short);
    // The name of the process, and of the file, are the workload's to choose.
    crate::terminal::visible(&format!(
        "{whose}{call}{abi} → {}, {times}, first by {} ({}) in {}",
        denial.verdict,
        denial.comm,
        denial.pid,
        denial.phase.as_str(),
    ))
}

/// A call with its arguments in words, and the file of its first descriptor where it is known.
pub(crate) fn in_words(
    abi: trace::Abi,
    name: &str,
    arguments: &[u64; 6],
    file: Option<&str>,
    detail: Detail,
) -> String {
    synth::decode::call(abi, name, arguments, &Context { file, detail, ..Context::default() })
}

/// A denial for a program.
pub(crate) fn denial_json(denial: &Denial, bearing: Bearing, run: u32) -> Value {
    json!({
        "type": bearing.as_str(),
        "version": 1,
        "run": run,
        "abi": denial.abi,
        "number": denial.number,
        "name": denial.name,
        "args": denial.args.map(|argument| format!("{argument:#x}")),
        "call": in_words(denial.abi, &denial.name, &denial.args, denial.file.as_deref(), Detail::Full),
        "file": denial.file,
        "verdict": denial.verdict.to_string(),
        "count": denial.count,
        "pid": denial.pid,
        "comm": denial.comm,
        "stage": denial.stage.as_str(),
        "phase": denial.phase.as_str(),
        "after_ms": denial.after_ms,
        "remedy": denial.remedy,
        "rule": denial.rule,
    })
}
