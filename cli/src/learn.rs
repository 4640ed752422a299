//! `learn`: records a workload, makes its profile, and proves it, in rounds, into one folder.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use engine::Run;
use harness::{Denial, Mode};
use profiler::{
    Recording, Request, Subject,
    containers::{ContainerRecording, ContainerSubject},
    drive::Plan,
};
use synth::{Synthesis, decode};
use trace::{Trace, Values};

use crate::{
    containers::{Engines, ImageTarget, Observe, container_trial, names_seccomp, profile_file},
    exit,
    expected::{Bearing, Expected},
    folder,
    image_name::is_version_of,
    input,
    output::Output,
    record::TOOL,
    report::{Proof, Report, completeness},
    session::{Backend, Life, capture, duration},
    synth::{Risks, say_summary, say_undecided, synthesize},
    synthesis::Choices,
    terminal::{Live, count, losses, print, remarks, say},
    trial::{Setting, Trial, sentence, trial},
};

/// Record a workload, make its profile and prove it, into one folder
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The workload's folder: evidence, profile, reasons, report. An existing one gains a run
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,

    /// How the calls are seen
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,

    /// How many confined starts without a denial are the proof
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// How often the profile may be mended after a denial
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,

    /// Judge the workload with this command after it was driven: an exit status alone proves little
    #[arg(long, value_name = "CMD")]
    health_cmd: Option<String>,

    /// Empty the workload's caches with this command: the last proof is then one cold and one warm start
    #[arg(long, value_name = "CMD")]
    reset: Option<String>,

    /// Stop each start after this time
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,

    #[command(flatten)]
    life: Life,

    #[command(flatten)]
    choices: Choices,

    #[command(flatten)]
    risks: Risks,

    /// Say nothing but errors and the result
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    image: ImageTarget,

    #[command(flatten)]
    engines: Engines,

    /// The command, or with `--image` the container's arguments; an existing folder has its own
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut session = Session::open(options)?;
    if let Err(code) = session.record()? {
        return Ok(code);
    }
    let Ok(mut made) = session.synthesize()? else { return Ok(exit::code(exit::EVIDENCE)) };
    // All refusals at once: what would be refused is named and executed. An engine's runtime loads the filter in a
    // container, and none of them can hand its calls to us and go on: there the enforced rounds name them.
    if let What::Command(_) = &session.what {
        let complain = session.start(&made, Mode::Complain)?;
        session.step("complain", &complain);
        if session.mend(&complain.run.denials) {
            let Ok(again) = session.synthesize()? else { return Ok(exit::code(exit::EVIDENCE)) };
            made = again;
        }
    }
    let mut proof = Proof::default();
    for round in 0..=session.options.rounds {
        proof = Proof::default();
        let mut mended = false;
        for _ in 0..session.options.runs {
            let trial = session.start(&made, Mode::Enforce)?;
            session.step("enforce", &trial);
            proof.add(&trial);
            if session.mend(&trial.run.denials) {
                mended = true;
                break;
            }
        }
        if !mended {
            break;
        }
        let Ok(again) = session.synthesize()? else { return Ok(exit::code(exit::EVIDENCE)) };
        made = again;
        proof.out_of_rounds = round == session.options.rounds;
    }
    session.prove_plain(&made, &mut proof)?;
    let report = session.write(&made, &proof)?;
    print(report.headline());
    say(format!("wrote {}", session.options.output.display()));
    if say_undecided(&made, Some(&session.options.output)) {
        return Ok(exit::code(exit::EVIDENCE));
    }
    Ok(exit::code(if proof.is_good() { exit::YES } else { exit::NO }))
}

/// What is started, again and again.
#[derive(Clone, Debug)]
enum What {
    /// A command.
    Command(Vec<OsString>),
    /// A container.
    Container(Run),
}

impl What {
    fn target(&self) -> folder::Target {
        match self {
            Self::Command(command) => folder::Target::command(command),
            Self::Container(run) => folder::Target::container(run),
        }
    }
}

/// What to start: as the command line says, else as the folder does.
fn what(
    options: &Options,
    command: Vec<OsString>,
    stored: Option<&folder::Workload>,
) -> anyhow::Result<What> {
    if let Some(run) = image(options, &command, stored)? {
        if names_seccomp(&run.options) {
            bail!(
                "a seccomp profile or `--privileged` among the `--run-option`s; `learn` sets the profile itself, leave them out"
            );
        }
        if matches!(options.backend, Backend::Notify) {
            bail!(
                "backend `notify` records only commands that it starts itself; use `--backend ebpf` for an image"
            );
        }
        return Ok(What::Container(run));
    }
    if let Some(stored) = stored
        && command.is_empty()
    {
        return Ok(match stored.image_run()? {
            Some(run) => What::Container(run),
            None => What::Command(stored.command()?),
        });
    }
    if command.is_empty() {
        bail!("nothing to learn; give a command after `--`, or an image with `--image`");
    }
    Ok(What::Command(command))
}

/// The container that the command line names. Of another version of the image in an existing folder it need not say
/// more than that: it is run as the folder says.
fn image(
    options: &Options,
    command: &[OsString],
    stored: Option<&folder::Workload>,
) -> anyhow::Result<Option<Run>> {
    let ImageTarget { image: Some(image), run_option, engine_program } = &options.image else {
        return Ok(None);
    };
    let names_nothing_else = run_option.is_empty()
        && engine_program.is_none()
        && command.is_empty()
        && options.engines.engine.is_none();
    if let Some(stored) = stored
        && names_nothing_else
        && is_version_of_stored(image, stored)
        && let Some(run) = stored.image_run()?
    {
        return Ok(Some(Run { image: image.clone(), ..run }));
    }
    options.image.run(&options.engines, command)
}

fn is_version_of_stored(image: &str, stored: &folder::Workload) -> bool {
    stored.target.image.as_deref().is_some_and(|own| is_version_of(own, image))
}

/// What `learn` works on.
struct Session {
    options: Options,
    what: What,
    workload: folder::Workload,
    plan: Plan,
    merged: Option<Trace>,
}

impl Session {
    fn open(mut options: Options) -> anyhow::Result<Self> {
        let command = std::mem::take(&mut options.command);
        let existing = options.output.join(folder::WORKLOAD).exists();
        let mut workload =
            if existing { folder::Workload::read(&options.output)? } else { folder::Workload::default() };
        let what = what(&options, command, existing.then_some(&workload))?;
        let target = what.target();
        // A new version of an image is the same workload, run the same way.
        let mut before = workload.target.clone();
        if target.image.as_deref().is_some_and(|image| is_version_of_stored(image, &workload)) {
            before.image.clone_from(&target.image);
        }
        if existing && before != target {
            bail!(
                "`{}` holds the evidence of another command (`{}`); choose another folder with `-o`",
                options.output.display(),
                workload.target.in_words()
            );
        }
        options.life.or_stored(&workload.life);
        options.health_cmd = options.health_cmd.take().or_else(|| workload.life.health.clone());
        options.reset = options.reset.take().or_else(|| workload.life.reset.clone());
        workload.target = target;
        workload.life = folder::Life {
            ready: options.life.ready.clone(),
            exercise: options.life.exercise.clone(),
            health: options.health_cmd.clone(),
            reset: options.reset.clone(),
        };
        options.choices.or_stored(&workload.synthesis);
        workload.synthesis = options.choices.clone();
        // Before any work: the command is there, the folder can be written.
        if let What::Command(command) = &what {
            confine::resolve(command.first().map_or_else(Default::default, OsString::as_os_str))?;
        }
        let traces = options.output.join(folder::TRACES);
        fs::create_dir_all(&traces)
            .with_context(|| format!("cannot write `{}`", options.output.display()))?;
        Output::prepare(&folder::next_trace(&options.output))?;
        let plan = options.life.plan(options.health_cmd.clone(), options.duration);
        Ok(Self { options, what, workload, plan, merged: None })
    }

    /// Records one more run. The outer error is a failure, the inner one an answer.
    fn record(&mut self) -> anyhow::Result<Result<(), ExitCode>> {
        let mut live = Live::new(self.options.quiet);
        let recorded = self.record_once(&mut live);
        live.clear();
        let recorded = recorded.inspect_err(|_| self.remove_if_new())?;
        for remark in remarks(&recorded.driven) {
            say(format!("warning: {remark}"));
        }
        for loss in losses(&recorded.trace.losses) {
            say(format!("lost: {loss}"));
        }
        if recorded.driven.end == profiler::drive::End::Interrupted {
            say("error: interrupted; nothing was learned");
            self.remove_if_new();
            return Ok(Err(exit::code(exit::FAILED)));
        }
        if !recorded.driven.exercise.is_good()
            || !recorded.driven.health.is_good()
            || !recorded.driven.ready.is_good()
        {
            say(
                "error: the workload was not well while it was recorded, without any profile; mend that first",
            );
            self.remove_if_new();
            return Ok(Err(exit::code(exit::NO)));
        }
        let mut bytes = Vec::new();
        recorded.trace.write(&mut bytes)?;
        Output::prepare(&folder::next_trace(&self.options.output))?.write(&bytes)?;
        self.workload.write(&self.options.output)?;
        let calls = recorded.trace.syscalls.iter().map(|row| row.calls).sum();
        self.say(format!(
            "record      {}, {}",
            count(recorded.trace.syscalls.len() as u64, "syscall"),
            count(calls, "call")
        ));
        self.merged = Some(input::merged(std::slice::from_ref(&self.options.output))?);
        Ok(Ok(()))
    }

    fn record_once(&self, live: &mut Live) -> anyhow::Result<Recording> {
        let run = match &self.what {
            What::Command(command) => {
                let request = Request {
                    stdout_is_ours: true,
                    subject: Subject::Command(command.clone()),
                    backend: self.options.backend.into(),
                    plan: self.plan.clone(),
                    capture: capture(),
                };
                return Ok(profiler::record(&request, TOOL, live)?);
            }
            What::Container(run) => run.clone(),
        };
        let observe = Observe::new()?;
        let subject = ContainerSubject::Image(run);
        let request = observe.request(subject, &self.options.engines, self.plan.clone(), true);
        let recorded = profiler::containers::record(&request, TOOL, live)?;
        let Some(ContainerRecording { trace, driven, .. }) = recorded.into_iter().next() else {
            bail!("nothing was recorded");
        };
        Ok(Recording { trace, driven })
    }

    /// A folder that holds nothing yet is not left behind.
    fn remove_if_new(&self) {
        let _ = fs::remove_dir(self.options.output.join(folder::TRACES));
        let _ = fs::remove_dir(&self.options.output);
    }

    fn synthesize(&self) -> anyhow::Result<Result<Synthesis, ExitCode>> {
        let Some(merged) = &self.merged else { bail!("nothing was recorded") };
        let mut how = self.options.choices.options()?;
        how.without_startup = self.options.risks.without_startup;
        how.accept_incomplete = self.options.risks.accept_incomplete;
        self.workload.resolve(&mut how)?;
        let made = synthesize(merged, &how)?;
        if let Ok(made) = &made
            && !self.options.quiet
        {
            say_summary(made, merged);
        }
        Ok(made)
    }

    fn start(&self, made: &Synthesis, mode: Mode) -> anyhow::Result<Trial> {
        let trial = self.start_once(made, mode)?;
        if trial.is_interrupted() {
            bail!("interrupted; what was recorded is kept, and the profile is not proved: run `learn` again");
        }
        Ok(trial)
    }

    fn start_once(&self, made: &Synthesis, mode: Mode) -> anyhow::Result<Trial> {
        let command = match &self.what {
            What::Container(run) => return self.start_container(made, run),
            What::Command(command) => command,
        };
        let setting = Setting {
            profile: &made.profile,
            command,
            plan: &self.plan,
            expected: &Expected::new(&made.evidence),
            stdout_is_ours: true,
        };
        trial(&setting, mode)
    }

    /// Starts the container with the profile in force, the way a user would. Its denials are seen by BPF.
    fn start_container(&self, made: &Synthesis, run: &Run) -> anyhow::Result<Trial> {
        let file = profile_file(&made.profile.to_json())?;
        let run = Run { seccomp: Some(file.path().to_owned()), ..run.clone() };
        container_trial(&made.profile, run, &self.options.engines, &self.plan, &Expected::new(&made.evidence))
    }

    /// Adds what was refused and is not added yet; says whether the profile must be made anew.
    ///
    /// What the ceiling refuses stays refused: it was added once, and the guard took it out again.
    fn mend(&mut self, denials: &[Denial]) -> bool {
        let before = self.workload.added.len();
        for denial in denials {
            let when = decode::written(denial.abi, &denial.name, &denial.args);
            let is_same = |added: &folder::Added| {
                (added.abi, &added.syscall, &added.when) == (denial.abi, &denial.name, &when)
            };
            if self.workload.added.iter().any(is_same) || self.was_recorded(denial, when.as_deref()) {
                continue;
            }
            let why =
                format!("refused in a confined start, in {}, to {}", denial.phase.as_str(), denial.comm);
            let (syscall, abi) = (denial.name.clone(), denial.abi);
            self.workload.added.push(folder::Added { syscall, abi, when, why });
        }
        self.workload.added.sort();
        let added = self.workload.added.len().saturating_sub(before);
        if added > 0 {
            let file = self.options.output.join(folder::WORKLOAD);
            self.say(format!(
                "added       {}, as far as the ceiling allows; see `{}`",
                count(added as u64, "call"),
                file.display()
            ));
        }
        added > 0
    }

    /// Whether the recording has the call, so that its refusal is a finding already: with these arguments, or with more
    /// than it could keep, about which someone has to decide.
    fn was_recorded(&self, denial: &Denial, when: Option<&str>) -> bool {
        let rows = self.merged.iter().flat_map(|trace| &trace.syscalls);
        let mut same = rows.filter(|row| (row.abi, &row.name) == (denial.abi, &denial.name) && row.calls > 0);
        same.any(|row| match (&row.arguments, when) {
            (None, _) | (_, None) => true,
            (Some(arguments), Some(when)) => {
                let recorded = |values: &Values| {
                    let registers = decode::registers(&arguments.kept, values);
                    decode::written(row.abi, &row.name, &registers).as_deref() == Some(when)
                };
                arguments.wide || arguments.values.iter().any(recorded)
            }
        })
    }

    /// The last proof: the profile as a runtime loads it, cold and warm where there is something to empty.
    fn prove_plain(&self, made: &Synthesis, proof: &mut Proof) -> anyhow::Result<()> {
        let container = matches!(self.what, What::Container(_));
        // The engine's runtime loaded the profile in every enforced start already.
        let mut starts = if container { Vec::new() } else { vec!["plain"] };
        if let Some(reset) = &self.options.reset {
            let status =
                Command::new("/bin/sh").args(["-c", reset]).status().context("cannot run `--reset`")?;
            if !status.success() {
                bail!("`--reset` failed: {status}");
            }
            starts = if container { vec!["cold", "warm"] } else { vec!["plain, cold", "plain, warm"] };
        }
        for name in starts {
            let trial = self.start(made, Mode::Plain)?;
            self.step(name, &trial);
            proof.plain.push((name, trial.is_well() && trial.refused(Bearing::Denial).next().is_none()));
        }
        Ok(())
    }

    fn write(&self, made: &Synthesis, proof: &Proof) -> anyhow::Result<Report> {
        let Some(merged) = &self.merged else { bail!("nothing was recorded") };
        let held_out = crate::held_out::read(&self.options.output.join(folder::HELD_OUT))?;
        let held_out = held_out.map(|(list, _)| list).unwrap_or_default();
        let completeness = completeness(merged, &folder::traces(&self.options.output)?)?;
        let report = Report::new(merged, made, proof, &self.workload, &held_out, &completeness);
        let put = |name: &str, text: &str| {
            Output::prepare(&Path::new(&self.options.output).join(name))?.write(text.as_bytes())
        };
        put(folder::PROFILE, &made.profile.to_json())?;
        put(folder::EVIDENCE, &made.evidence.to_json())?;
        put(folder::REPORT, &report.markdown())?;
        self.workload.write(&self.options.output)?;
        Ok(report)
    }

    fn step(&self, name: &str, trial: &Trial) {
        if self.options.quiet {
            return;
        }
        let denied = trial.refused(Bearing::Denial).count() as u64;
        let health = if trial.is_well() { "well" } else { "NOT WELL" };
        say(format!(
            "{name:<11} {}, {health}",
            if denied == 0 { "no denial".to_owned() } else { count(denied, "denial") }
        ));
        for remark in remarks(&trial.run.driven).into_iter().chain(trial.run.remarks.iter().cloned()) {
            say(format!("  warning: {remark}"));
        }
        for denial in &trial.run.denials {
            match trial.bearing(denial) {
                // Expected in nearly every workload, and in the report.
                Bearing::Enosys | Bearing::Probe => {}
                bearing => {
                    let before = bearing.in_words().map(|words| format!("{words}: ")).unwrap_or_default();
                    say(format!("  {before}{}", sentence(denial)));
                }
            }
        }
    }

    fn say(&self, line: String) {
        if !self.options.quiet {
            say(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn options(line: &str) -> Options {
        let cli = crate::Cli::try_parse_from(line.split(' ')).unwrap();
        let crate::Verb::Learn(options) = cli.verb else { panic!("{line}") };
        options
    }

    /// As `verify` prints it where the evidence is of another image.
    #[test]
    fn another_version_of_the_image_is_run_as_the_folder_says() {
        let text = r#"[target]
            image = "registry.example:5000/app:1.4"
            engine = "podman"
            run_options = ["--gpus", "all"]
            command = ["serve"]"#;
        let stored = folder::Workload::parse(text).unwrap();
        let new = format!("registry.example:5000/app@{}", trace::Digest::of(b"1.5"));
        let options_of_it = options(&format!("seccomp-learn learn -o w --image {new}"));
        let What::Container(run) = what(&options_of_it, Vec::new(), Some(&stored)).unwrap() else { panic!() };
        assert_eq!(run.image, new);
        assert_eq!((run.kind.to_string().as_str(), run.options.len()), ("podman", 2));
        assert_eq!(run.arguments, ["serve"]);
        // Another image is another workload.
        let other = options("seccomp-learn learn -o w --engine docker --image registry.example/tool:1");
        let What::Container(run) = what(&other, Vec::new(), Some(&stored)).unwrap() else { panic!() };
        assert!(run.arguments.is_empty() && !is_version_of_stored(&run.image, &stored));
    }
}
