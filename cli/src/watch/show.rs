//! What a watch says: each denial when it is first seen, a table for each run, and the result.

use std::process::ExitCode;

use engine::Container;
use harness::{
    Stage,
    watch::{About, Ending, Event, Judges, Kind, Sighting, Summary},
};
use serde_json::{Value, json};
use synth::decode::Detail;
use trace::Digest;

use crate::{
    exit,
    held_out::Ledger,
    record::TOOL,
    terminal::{count, losses, print, say, thousands, visible},
    trial::in_words,
};

/// Tells a person, or a program, what is seen.
pub(super) struct Show {
    json: bool,
    asking: bool,
    ledger: Ledger,
    runs: u32,
    denied_runs: u32,
    denials: u32,
    not_known: u32,
    lost: bool,
    about: Option<(Digest, Option<Digest>)>,
}

impl Show {
    pub(super) fn new(json: bool, asking: bool, ledger: Ledger) -> Self {
        Self {
            json,
            asking,
            ledger,
            runs: 0,
            denied_runs: 0,
            denials: 0,
            not_known: 0,
            lost: false,
            about: None,
        }
    }

    /// Everything is armed: for a service manager, and for whoever starts the target only now.
    pub(super) fn ready(&self) {
        let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
    }

    pub(super) fn found(&self, container: &Container, engine: &str) {
        if container.pid().is_none() {
            say(format!("`{}` ({engine}) does not run; waiting for it to be started", container.name));
        }
    }

    pub(super) fn event(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Began(about) => self.began(&about),
            Event::First(run, sighting) => self.first(run, &sighting),
            Event::Ended(summary, judges) => return self.ended(&summary, &judges),
        }
        Ok(())
    }

    fn began(&self, about: &About) {
        if self.json {
            print(json!({ "type": "began", "version": 1, "run": about.run, "name": about.name, "id": about.id, "late": about.late }).to_string() + "\n");
        }
        let engine = about.engine.as_ref().map(|engine| format!(" ({engine})")).unwrap_or_default();
        let seccomp =
            about.seccomp.as_ref().map(|seccomp| format!(", seccomp profile: {seccomp}")).unwrap_or_default();
        let how = if about.late { "runs already; watched from now on" } else { "watched from its start" };
        say(format!("run {}: `{}`{engine} {how}{seccomp}", about.run, about.name));
    }

    fn first(&self, run: u32, sighting: &Sighting) {
        if self.json {
            print(sighting_json(sighting, run, true).to_string() + "\n");
            return;
        }
        let whose = whose(sighting.stage);
        match sighting.kind {
            Kind::Denied | Kind::WouldBeDenied if sighting.explicit_enosys => {
                say(format!("answered as not implemented: {whose}{}", sentence(sighting)));
            }
            Kind::Denied => print(format!("denied: {whose}{}\n{}", sentence(sighting), remedy(sighting))),
            Kind::WouldBeDenied => {
                print(format!("would be denied: {whose}{}\n{}", sentence(sighting), remedy(sighting)));
            }
            Kind::NotKnown => {
                print(format!(
                    "not known: {whose}{}, whose arguments decide and were not all seen\n",
                    sentence(sighting)
                ));
            }
            Kind::Same => {}
        }
    }

    fn ended(&mut self, summary: &Summary, judges: &Judges) -> anyhow::Result<()> {
        let denials = count_of(summary.denials());
        self.runs += 1;
        self.denied_runs += u32::from(denials > 0);
        self.denials += denials;
        self.not_known += count_of(summary.not_known());
        self.lost |= summary.losses.lost_calls();
        let held_out = summary.held_out(judges, TOOL);
        let counted = held_out.is_some();
        if let Some(run) = held_out {
            self.about = run.profile.map(|profile| (profile, run.image));
            if let (Some(own), Some(other)) = (self.ledger.profile(), run.profile)
                && own != other
            {
                say(
                    "warning: this run was judged by another profile than the folder's; it is written down, but does not count for it",
                );
            }
            self.ledger.add(run)?;
        }
        if self.json {
            for sighting in &summary.sightings {
                print(sighting_json(sighting, summary.about.run, false).to_string() + "\n");
            }
            print(summary_json(summary, counted, denials).to_string() + "\n");
        } else {
            print(self.table(summary, denials));
        }
        for loss in losses(&summary.losses) {
            say(format!("lost: {loss}"));
        }
        Ok(())
    }

    fn table(&self, summary: &Summary, denials: u32) -> String {
        let About { run, name, image, late, .. } = &summary.about;
        let image = image.as_ref().map(|image| format!(" ({image})")).unwrap_or_default();
        let how = match (late, summary.ending) {
            (false, Ending::Stopped) => "from its start to its stop",
            (false, Ending::WatchEnded) => "from its start, and it goes on",
            (true, Ending::Stopped) => "from after its start to its stop",
            (true, Ending::WatchEnded) => "while it ran",
        };
        let mut verdict = match (denials, self.asking) {
            (0, false) => "no denial".to_owned(),
            (0, true) => "nothing would be denied".to_owned(),
            (denials, false) => format!("{} denied", count(denials.into(), "call")),
            (denials, true) => format!("{} denied, or would be", count(denials.into(), "call")),
        };
        let not_known = count_of(summary.not_known());
        if not_known > 0 {
            verdict += &format!(", {} not known", count(not_known.into(), "call"));
        }
        if !summary.confined && !self.asking && denials == 0 {
            verdict += " (no filter was on it: without `--profile` there is nothing to see)";
        }
        let exec = match summary.exec_sessions {
            0 => String::new(),
            sessions => format!(", {}", count(sessions, "exec session")),
        };
        let mut text = format!(
            "run {run}: {name}{image}, {how}, {}: {}{exec}, {verdict}\n",
            time(summary.duration_ms),
            count(summary.calls, "call"),
        );
        let shown: Vec<&Sighting> = summary.sightings.iter().filter(|one| one.kind != Kind::Same).collect();
        if !shown.is_empty() {
            let rows: Vec<[String; 6]> =
                std::iter::once(HEADING.map(str::to_owned)).chain(shown.into_iter().map(cells)).collect();
            text += &aligned(&rows);
        }
        let same: Vec<&str> = summary
            .sightings
            .iter()
            .filter(|one| one.kind == Kind::Same)
            .map(|one| one.name.as_str())
            .collect();
        if !same.is_empty() {
            text += &format!(
                "  the profile would refuse {} too, with the errno that the kernel gave each time\n",
                same.join(", ")
            );
        }
        text
    }

    /// The result of the watch.
    pub(super) fn result(&self) -> ExitCode {
        let code = match (self.denials, self.lost || self.not_known > 0) {
            (1.., _) => exit::NO,
            (0, true) => exit::EVIDENCE,
            (0, false) => exit::YES,
        };
        let tally = self.ledger.tally(self.about).unwrap_or_else(|error| {
            say(format!("warning: {error:#}"));
            None
        });
        if self.json {
            let held_out = tally.as_ref().map(|(path, tally)| {
                json!({ "file": path, "runs": tally.runs, "denied": tally.denied, "not_known": tally.not_known,
                    "upper_bound": tally.upper_bound() })
            });
            print(json!({ "type": "result", "version": 1, "runs": self.runs, "denied_runs": self.denied_runs,
                "denials": self.denials, "not_known": self.not_known, "lost": self.lost, "held_out": held_out }).to_string() + "\n");
            return exit::code(code);
        }
        if self.runs == 0 {
            print("nothing ran while it was watched\n");
        } else if self.runs > 1 {
            print(format!("{} of {} runs with a denial\n", self.denied_runs, self.runs));
        }
        if let Some((path, tally)) = tally {
            let bound = tally.upper_bound().map(|bound| {
                format!(
                    "; at 95 % confidence up to {:.0} % of such starts may still meet a denial",
                    (bound * 100.0).ceil()
                )
            });
            print(format!(
                "held out ({}): {} from start to stop, {} with a denial{}\n",
                path.display(),
                count(tally.runs.into(), "run"),
                tally.denied,
                bound.unwrap_or_default()
            ));
        }
        exit::code(code)
    }
}

fn count_of<'a>(sightings: impl Iterator<Item = &'a Sighting>) -> u32 {
    u32::try_from(sightings.count()).unwrap_or(u32::MAX)
}

const HEADING: [&str; 6] = ["CALL", "ANSWER", "COUNT", "WHOSE", "FIRST BY", "AFTER"];

fn cells(sighting: &Sighting) -> [String; 6] {
    let answer = match sighting.kind {
        Kind::Denied if sighting.explicit_enosys => format!("{} (meant)", sighting.answer),
        Kind::Denied => sighting.answer.to_string(),
        Kind::WouldBeDenied if sighting.explicit_enosys => format!("would be {} (meant)", sighting.answer),
        Kind::WouldBeDenied | Kind::Same => format!("would be {}", sighting.answer),
        Kind::NotKnown => "not known".to_owned(),
    };
    [
        call(sighting, Detail::Named),
        answer,
        thousands(sighting.count),
        match sighting.stage {
            Stage::Workload => "workload",
            Stage::Exec => "exec session",
            Stage::Setup | Stage::Start => "runtime",
        }
        .to_owned(),
        visible(&format!("{} ({})", sighting.first.comm, sighting.first.pid)),
        time(sighting.first.after_ms),
    ]
}

/// Columns as wide as they need to be.
fn aligned(rows: &[[String; 6]]) -> String {
    let mut widths = [0; 6];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::from("  ");
        for (cell, width) in row.iter().zip(widths) {
            line += &format!("{cell:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// The call with as much of its arguments as is known: of one that would be refused, the bits that are compared.
fn call(sighting: &Sighting, detail: Detail) -> String {
    let detail = if sighting.kind == Kind::Denied { detail } else { Detail::Named };
    let call = match &sighting.args {
        Some(args) => in_words(sighting.abi, &sighting.name, args, None, detail),
        None => sighting.name.clone(),
    };
    let call = call.strip_suffix("()").unwrap_or(&call);
    if Some(sighting.abi) == trace::Abi::native_of(std::env::consts::ARCH) {
        call.to_owned()
    } else {
        format!("{call} ({})", sighting.abi)
    }
}

const fn whose(stage: Stage) -> &'static str {
    match stage {
        Stage::Workload => "",
        Stage::Exec => "exec session: ",
        Stage::Setup | Stage::Start => "container runtime: ",
    }
}

/// `unshare(CLONE_NEWUSER) → EPERM, first by python3 (4711) after 12.3s`.
fn sentence(sighting: &Sighting) -> String {
    let answer = match sighting.kind {
        Kind::NotKnown => String::new(),
        _ => format!(" → {}", sighting.answer),
    };
    format!(
        "{}{answer}, first by {} ({}) after {}",
        call(sighting, Detail::Short),
        visible(&sighting.first.comm),
        sighting.first.pid,
        time(sighting.first.after_ms)
    )
}

fn remedy(sighting: &Sighting) -> String {
    let words =
        sighting.rule.as_ref().map(|rule| format!("        to allow it: {rule}\n")).unwrap_or_default();
    let entry = sighting.remedy.as_ref().map(|remedy| format!("        {remedy}\n")).unwrap_or_default();
    words + &entry
}

/// `0.2s`, `12.3s`, `3m 20s`.
fn time(milliseconds: u64) -> String {
    if milliseconds < 60_000 {
        return format!("{}.{}s", milliseconds / 1000, milliseconds % 1000 / 100);
    }
    humantime::format_duration(std::time::Duration::from_secs(milliseconds / 1000)).to_string()
}

fn sighting_json(sighting: &Sighting, run: u32, first: bool) -> Value {
    json!({
        "type": match sighting.kind {
            Kind::Denied | Kind::WouldBeDenied if sighting.explicit_enosys => "enosys",
            Kind::Denied => "denial",
            Kind::WouldBeDenied => "would-be-denial",
            Kind::NotKnown => "not-known",
            Kind::Same => "same",
        },
        "version": 1,
        "run": run,
        "first_sight": first,
        "stage": sighting.stage.as_str(),
        "abi": sighting.abi,
        "number": sighting.number,
        "name": sighting.name,
        "verdict": sighting.answer.to_string(),
        "count": sighting.count,
        "args": sighting.args.map(|args| args.map(|argument| format!("{argument:#x}"))),
        "call": call(sighting, Detail::Full),
        "pid": sighting.first.pid,
        "comm": sighting.first.comm,
        "after_ms": sighting.first.after_ms,
        "remedy": sighting.remedy,
        "rule": sighting.rule,
    })
}

fn summary_json(summary: &Summary, counted: bool, denials: u32) -> Value {
    let about = &summary.about;
    json!({
        "type": "run",
        "version": 1,
        "run": about.run,
        "name": about.name,
        "id": about.id,
        "engine": about.engine,
        "image": about.image,
        "image_digest": about.image_digest,
        "pod": about.pod,
        "seccomp": about.seccomp,
        "late": about.late,
        "stopped": summary.ending == Ending::Stopped,
        "held_out": counted,
        "duration_ms": summary.duration_ms,
        "calls": summary.calls,
        "exec_sessions": summary.exec_sessions,
        "confined": summary.confined,
        "losses": summary.losses,
        "denials": denials,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let row = |cells: [&str; 6]| cells.map(str::to_owned);
        let rows =
            [row(HEADING), row(["getpriority", "EPERM", "1\u{202f}000", "workload", "sh (7)", "0.1s"])];
        assert_eq!(
            aligned(&rows),
            "  CALL         ANSWER  COUNT  WHOSE     FIRST BY  AFTER\n  getpriority  EPERM   1\u{202f}000  workload  sh (7)    0.1s\n"
        );
        assert_eq!((time(90), time(12_345), time(200_000)), ("0.0s".into(), "12.3s".into(), "3m 20s".into()));
    }
}
