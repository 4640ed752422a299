//! `test`: runs a command with a profile enforced, and names each denial.

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use harness::Mode;
use serde_json::json;

use crate::{
    exit, folder, input,
    session::{Life, duration},
    terminal::{print, remarks, say},
    trial::{Bearing, Setting, Trial, above_ceiling, denial_json, sentence, trial},
};

/// Run a command with a profile enforced, and name each denial
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

    #[command(flatten)]
    life: Life,

    /// The command; a workload folder has its own
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(crate) fn run(mut options: Options) -> anyhow::Result<ExitCode> {
    let profile = input::profile(&options.profile)?;
    let stored =
        if options.profile.is_dir() { Some(folder::Workload::read(&options.profile)?) } else { None };
    let mut command = std::mem::take(&mut options.command);
    if command.is_empty() {
        let Some(stored) = &stored else {
            anyhow::bail!("no command to test with; give one after `--`");
        };
        command = stored.command()?;
        options.life.or_stored(&stored.life);
        options.health_cmd = options.health_cmd.or_else(|| stored.life.health.clone());
    }
    let plan = options.life.plan(options.health_cmd.clone(), options.duration);
    let above_ceiling =
        input::evidence(&options.profile)?.map(|evidence| above_ceiling(&evidence)).unwrap_or_default();
    let setting = Setting {
        profile: &profile,
        command: &command,
        plan: &plan,
        above_ceiling: &above_ceiling,
        stdout_is_ours: options.json,
    };
    let mode = if options.complain { Mode::Complain } else { Mode::Enforce };
    let mut denied_runs = 0u32;
    let mut unwell_runs = 0u32;
    for run in 1..=options.runs {
        let trial = trial(&setting, mode)?;
        denied_runs += u32::from(trial.refused(Bearing::Denial).next().is_some());
        unwell_runs += u32::from(!trial.is_well());
        report(&options, run, &trial, mode);
    }
    let mut plain_is_well = true;
    if !options.no_plain && !options.complain {
        let trial = trial(&setting, Mode::Plain)?;
        plain_is_well = trial.is_well();
        report(&options, options.runs + 1, &trial, Mode::Plain);
    }
    let good = denied_runs == 0 && unwell_runs == 0 && plain_is_well;
    if options.json {
        print(
            json!({
                "type": "result", "version": 1, "runs": options.runs, "denied": denied_runs, "unwell": unwell_runs,
                "plain": if options.no_plain || options.complain { None } else { Some(plain_is_well) },
                "upper_bound": harness::upper_bound(options.runs, denied_runs),
            })
            .to_string()
                + "\n",
        );
    } else {
        print(summary(&options, denied_runs, unwell_runs, plain_is_well));
    }
    Ok(exit::code(if good { exit::YES } else { exit::NO }))
}

fn report(options: &Options, run: u32, trial: &Trial, mode: Mode) {
    if options.json {
        for denial in &trial.run.denials {
            print(denial_json(denial, trial.bearing(denial), run).to_string() + "\n");
        }
        let exit = trial.run.driven.exit.map(confine::Exit::code);
        let mode = match mode {
            Mode::Enforce => "enforce",
            Mode::Complain => "complain",
            Mode::Plain => "plain",
        };
        let denied = trial.refused(Bearing::Denial).count();
        print(json!({ "type": "run", "version": 1, "run": run, "mode": mode, "exit": exit, "well": trial.is_well(), "denied": denied }).to_string() + "\n");
        return;
    }
    for remark in remarks(&trial.run.driven).into_iter().chain(trial.run.remarks.iter().cloned()) {
        say(format!("warning: {remark}"));
    }
    let word = if options.complain { "would be denied" } else { "denied" };
    for denial in &trial.run.denials {
        match trial.bearing(denial) {
            Bearing::Enosys => say(format!("answered as not implemented: {}", sentence(denial))),
            Bearing::AboveCeiling => say(format!("refused by the ceiling: {}", sentence(denial))),
            Bearing::Denial => {
                print(format!("{word}: {}\n        to allow it: {}\n", sentence(denial), denial.remedy));
            }
        }
    }
}

fn summary(options: &Options, denied: u32, unwell: u32, plain: bool) -> String {
    let runs = options.runs;
    let mut text = format!("{denied} of {runs} starts with a denial, {unwell} not well");
    if !options.no_plain && !options.complain {
        text += if plain { "; as a runtime loads it: well" } else { "; as a runtime loads it: NOT WELL" };
    }
    if let Some(bound) = harness::upper_bound(runs, denied).filter(|_| !options.complain) {
        text += &format!(
            "\nat 95 % confidence up to {:.0} % of such starts may still meet a denial",
            (bound * 100.0).ceil()
        );
    }
    text + "\n"
}
