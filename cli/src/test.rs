//! `test`: runs a command or a container with a profile enforced, and names each denial.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use clap::Args;
use harness::{HeldOutDenial, HeldOutRun, Judged, Mode, Stage, Tally};
use profiler::drive::Plan;
use serde_json::json;
use synth::Profile;
use trace::Digest;

use crate::{
    containers::{Engines, ImageTarget, container_trial, names_seccomp, profile_file},
    exit,
    expected::{Bearing, Expected},
    folder,
    held_out::Ledger,
    input,
    record::TOOL,
    session::{Backend, Life, duration},
    terminal::{count, print, remarks, say},
    trial::{Setting, Trial, denial_json, relayed_trial, running_trial, sentence, trial},
};

/// Run a command or a container with a profile enforced, and name each denial
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The profile: a file, a workload folder, or the name of a shipped default (docker, podman, containerd)
    #[arg(value_name = "PROFILE|DIR")]
    profile: PathBuf,

    /// How many times the command is started with each denial named
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Judge the workload with this command after it was driven: an exit status alone proves little
    #[arg(long, value_name = "CMD")]
    health_cmd: Option<String>,

    /// Name what would be refused, and execute it
    #[arg(long)]
    complain: bool,

    /// Leave out the last start, in which the profile is loaded as a runtime loads it, with no listener of ours
    #[arg(long)]
    no_plain: bool,

    /// Stop each start after this time
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,

    /// One JSON object for each line, for programs
    #[arg(long)]
    json: bool,

    /// Exercise and judge this container, which must already run under the profile; it is never stopped or changed
    #[arg(long, value_name = "CONTAINER", help_heading = "Containers", conflicts_with_all = ["image", "command", "complain", "runs"])]
    container: Option<String>,

    #[command(flatten)]
    image: ImageTarget,

    #[command(flatten)]
    engines: Engines,

    /// How the denials of a container are named: `ebpf` needs root; `notify` is the runtime's own listener, which not
    /// every engine passes on
    #[arg(long, value_enum, default_value_t, help_heading = "Containers")]
    backend: Backend,

    #[command(flatten)]
    life: Life,

    /// The command, or the arguments for an image; a workload folder has its own
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) fn run(mut options: Options) -> anyhow::Result<ExitCode> {
    let profile = input::profile(&options.profile)?;
    let stored =
        if options.profile.is_dir() { Some(folder::Workload::read(&options.profile)?) } else { None };
    let mut command = std::mem::take(&mut options.command);
    let mut container = options.image.run(&options.engines, &command)?;
    let command_line_is_silent = command.is_empty() && container.is_none();
    let is_container = container.is_some() || options.container.is_some();
    if (command.is_empty() && !is_container) || options.container.is_some() {
        if let Some(stored) = &stored {
            if !is_container {
                container = stored.image_run()?;
            }
            if container.is_none() && !is_container {
                command = stored.command()?;
            }
            options.life.or_stored(&stored.life);
            options.health_cmd = options.health_cmd.or_else(|| stored.life.health.clone());
        } else if !is_container {
            anyhow::bail!("nothing to test with; give a command after `--`, an `--image` or a `--container`");
        }
    } else if let (false, Some(stored)) = (is_container, &stored) {
        // What was learned of an image is tested with that image; the words are its arguments.
        container = stored.image_run()?;
        if let Some(container) = &mut container {
            container.arguments = std::mem::take(&mut command);
        }
    }
    let plan = options.life.plan(options.health_cmd.clone(), options.duration);
    let evidence = input::evidence(&options.profile, &profile)?;
    let whole = command_line_is_silent && options.container.is_none() && !options.complain;
    let ledger = if stored.is_some() && whole { Some(&options.profile) } else { None };
    let mut result = Outcome { ledger: ledger.and_then(|folder| ledger_of(folder)), ..Outcome::default() };
    let expected = evidence.as_ref().map(Expected::new).unwrap_or_default();
    if let Some(name) = &options.container {
        match running_trial(&profile, name, &options.engines, &plan, &expected)? {
            Ok(trial) => result.add(&options, &trial, "running", &profile)?,
            Err(why) => {
                say(format!("error: {why}"));
                return Ok(exit::code(exit::EVIDENCE));
            }
        }
        return Ok(result.tell(&options));
    }
    if let Some(container) = container {
        anyhow::ensure!(
            !options.complain,
            "`--complain` is for commands: an engine loads the profile as it is; see `watch --profile`"
        );
        let start = Containers { profile: &profile, plan: &plan, expected: &expected };
        start.test(&options, container, &mut result)?;
        return Ok(result.tell(&options));
    }
    let setting = Setting {
        profile: &profile,
        command: &command,
        plan: &plan,
        expected: &expected,
        stdout_is_ours: options.json,
    };
    let mode = if options.complain { Mode::Complain } else { Mode::Enforce };
    for _ in 1..=options.runs {
        let trial = trial(&setting, mode)?;
        result.add(&options, &trial, if options.complain { "complain" } else { "enforce" }, &profile)?;
    }
    if !options.no_plain && !options.complain {
        let trial = trial(&setting, Mode::Plain)?;
        report(&options, options.runs + 1, &trial, "plain");
        interrupted(&trial)?;
        result.plain = Some(trial.is_well());
    }
    Ok(result.tell(&options))
}

/// Starts of a container by its engine.
struct Containers<'a> {
    profile: &'a Profile,
    plan: &'a Plan,
    expected: &'a Expected,
}

impl Containers<'_> {
    fn test(&self, options: &Options, container: engine::Run, result: &mut Outcome) -> anyhow::Result<()> {
        let Self { profile, plan, expected } = *self;
        anyhow::ensure!(
            !names_seccomp(&container.options),
            "the container's options choose a seccomp profile of their own; leave `--security-opt seccomp=…` and `--privileged` out: the profile under test is put there"
        );
        let notify = match options.backend {
            Backend::Ebpf => false,
            Backend::Notify => true,
            Backend::Auto => match profiler::ebpf::probe() {
                Ok(()) => false,
                Err(error) => {
                    say(format!("no BPF here ({error}): denials are named by the runtime's listener"));
                    true
                }
            },
        };
        // The very file that a user would name, where there is one.
        let named = [options.profile.clone(), options.profile.join(folder::PROFILE)];
        let file = match named.into_iter().find(|path| path.is_file()) {
            Some(path) => (std::path::absolute(path)?, None),
            None => {
                let file = profile_file(&profile.to_json())?;
                (file.path().to_owned(), Some(file))
            }
        };
        for _ in 1..=options.runs {
            let trial = if notify {
                relayed_trial(profile, &container, plan, expected)?
            } else {
                let run = engine::Run { seccomp: Some(file.0.clone()), ..container.clone() };
                container_trial(profile, run, &options.engines, plan, expected)?
            };
            result.add(options, &trial, "container", profile)?;
        }
        Ok(())
    }
}

/// What the starts showed.
#[derive(Default)]
struct Outcome {
    runs: u32,
    denied: u32,
    unwell: u32,
    /// Whether it was well as a runtime loads the profile, where that was tried apart.
    plain: Option<bool>,
    /// Whether the container runtime itself was refused something.
    runtime: bool,
    /// Where the starts of a folder's workload are written down.
    ledger: Option<Ledger>,
}

/// Where the starts of a folder's workload are written down; a folder that cannot be written to is tested all the same.
fn ledger_of(folder: &Path) -> Option<Ledger> {
    let ledger = Ledger::open(Some(folder), None);
    ledger.inspect_err(|error| say(format!("warning: the starts are not written down: {error:#}"))).ok()
}

/// What was stopped by someone proves nothing, and no further start is wanted.
fn interrupted(trial: &Trial) -> anyhow::Result<()> {
    anyhow::ensure!(!trial.is_interrupted(), "interrupted; the start that was under way proves nothing");
    Ok(())
}

/// A start as a held-out run; none for one that was not well and yet refused nothing, or of which something is missing.
fn held_out(trial: &Trial, profile: &Profile, image: Option<Digest>) -> Option<HeldOutRun> {
    let denials: Vec<HeldOutDenial> = trial
        .refused(Bearing::Denial)
        .filter(|denial| denial.stage != Stage::Exec)
        .map(|denial| HeldOutDenial {
            abi: denial.abi,
            syscall: denial.name.clone(),
            answer: denial.verdict.to_string(),
            count: denial.count,
        })
        .collect();
    let container = trial.container.as_ref();
    let is_whole = trial.is_well() && !container.is_some_and(|container| container.lost);
    // Of which image it was must be known where the evidence is of one.
    let is_about = image.is_none() || container.is_some();
    if (denials.is_empty() && !is_whole) || !is_about {
        return None;
    }
    let (kernel, arch) = profiler::host::kernel();
    let elapsed = trial.run.driven.elapsed;
    let started = SystemTime::now().checked_sub(elapsed)?;
    Some(HeldOutRun {
        started: humantime::format_rfc3339_millis(started).to_string(),
        duration_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        container: container.map_or(HeldOutRun::COMMAND, |container| &container.id).to_owned(),
        name: container.map(|container| container.name.clone()),
        pod: None,
        image: container.and_then(|container| container.image),
        judged: Judged::Enforced,
        profile: Some(profile.digest()),
        tool: TOOL.to_owned(),
        kernel,
        arch,
        gpu_driver: profiler::host::gpu_driver(),
        calls: container.map(|container| container.calls),
        denials,
        not_known: Vec::new(),
    })
}

impl Outcome {
    fn add(&mut self, options: &Options, trial: &Trial, mode: &str, profile: &Profile) -> anyhow::Result<()> {
        if trial.is_interrupted() {
            report(options, self.runs + 1, trial, mode);
            return interrupted(trial);
        }
        self.runs += 1;
        self.denied += u32::from(trial.refused(Bearing::Denial).next().is_some());
        self.unwell += u32::from(!trial.is_well());
        self.runtime |= trial.refused(Bearing::Denial).any(|denial| denial.stage.is_runtime());
        report(options, self.runs, trial, mode);
        if let Some(ledger) = &self.ledger
            && let Some(run) = held_out(trial, profile, ledger.image())
        {
            ledger.add(run)?;
        }
        Ok(())
    }

    /// How all starts of this profile went that are written down.
    fn tally(&self) -> Option<(PathBuf, Tally)> {
        let tally = self.ledger.as_ref()?.tally(None);
        tally
            .inspect_err(|error| say(format!("warning: {error:#}")))
            .ok()?
            .filter(|(_, tally)| tally.runs > 0)
    }

    fn tell(&self, options: &Options) -> ExitCode {
        let good = self.denied == 0 && self.unwell == 0 && self.plain != Some(false);
        let bound = harness::upper_bound(self.runs, self.denied).filter(|_| !options.complain);
        let tally = self.tally();
        if options.json {
            let held_out = tally.map(|(path, tally)| {
                json!({ "file": path, "runs": tally.runs, "denied": tally.denied, "upper_bound": tally.upper_bound() })
            });
            print(
                json!({
                    "type": "result", "version": 1, "runs": self.runs, "denied": self.denied, "unwell": self.unwell,
                    "plain": self.plain, "runtime_refused": self.runtime, "upper_bound": bound, "held_out": held_out,
                })
                .to_string()
                    + "\n",
            );
        } else {
            print(self.summary(options, bound));
            if let Some((path, tally)) = tally {
                print(format!(
                    "{} holds {} under this profile, {} with a denial: at 95 % confidence up to {:.0} % of such starts may still meet one\n",
                    path.display(),
                    count(tally.runs.into(), "start"),
                    tally.denied,
                    (tally.upper_bound().unwrap_or(1.0) * 100.0).ceil()
                ));
            }
        }
        if self.runtime {
            say(
                "the container runtime itself was refused calls that it needs before the workload begins: make the profile with `synth --runtime runc` (or crun), or measure what this host's runtime needs with `runtime-base`",
            );
        }
        exit::code(if good { exit::YES } else { exit::NO })
    }

    fn summary(&self, options: &Options, bound: Option<f64>) -> String {
        if options.container.is_some() {
            let denied = if self.denied == 0 { "no denial" } else { "denied" };
            let well = if self.unwell == 0 { "well" } else { "NOT WELL" };
            return format!("while it was exercised: {denied}, {well}\n");
        }
        let mut text =
            format!("{} of {} starts with a denial, {} not well", self.denied, self.runs, self.unwell);
        match self.plain {
            Some(true) => text += "; as a runtime loads it: well",
            Some(false) => text += "; as a runtime loads it: NOT WELL",
            None => {}
        }
        if let Some(bound) = bound {
            text += &format!(
                "\nat 95 % confidence up to {:.0} % of such starts may still meet a denial",
                (bound * 100.0).ceil()
            );
        }
        text + "\n"
    }
}

fn report(options: &Options, run: u32, trial: &Trial, mode: &str) {
    if options.json {
        for denial in &trial.run.denials {
            print(denial_json(denial, trial.bearing(denial), run).to_string() + "\n");
        }
        let exit = trial.run.driven.exit.map(confine::Exit::code);
        let denied = trial.refused(Bearing::Denial).count();
        print(json!({ "type": "run", "version": 1, "run": run, "mode": mode, "exit": exit, "well": trial.is_well(), "denied": denied }).to_string() + "\n");
        return;
    }
    for remark in remarks(&trial.run.driven).into_iter().chain(trial.run.remarks.iter().cloned()) {
        say(format!("warning: {remark}"));
    }
    let word = if options.complain { "would be denied" } else { "denied" };
    for denial in &trial.run.denials {
        match trial.bearing(denial).in_words() {
            Some(words) => say(format!("{words}: {}", sentence(denial))),
            None => print(format!(
                "{word}: {}\n        to allow it: {}\n        {}\n",
                sentence(denial),
                denial.rule,
                denial.remedy
            )),
        }
    }
}
