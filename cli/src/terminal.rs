//! What a person sees on the terminal: the live line, sentences about what was recorded, errors.

use std::{
    io::{self, IsTerminal, Write},
    sync::OnceLock,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use profiler::{
    Observer, Progress,
    containers::Event,
    drive::{Driven, End, Verdict},
};
use trace::{Backend, Losses, PhaseName};

mod text;

pub(crate) use text::{quoted, visible, wrapped};

/// Writes a line to standard error, whatever others wrote in it; a closed one is nobody's problem.
pub(crate) fn say(line: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "{}", visible(line.as_ref()));
}

/// Why standard output is not whole.
static CUT: OnceLock<io::Error> = OnceLock::new();

/// Writes to standard output; a closed pipe is success, and any other error is kept for [`cut`].
pub(crate) fn print(text: impl AsRef<str>) {
    let mut output = io::stdout().lock();
    let written = output.write_all(text.as_ref().as_bytes()).and_then(|()| output.flush());
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = CUT.set(error);
    }
}

/// What kept standard output from being whole.
pub(crate) fn cut() -> Option<&'static io::Error> {
    CUT.get()
}

/// The live line while recording: elapsed, phase, calls, distinct syscalls, time since the last new one.
/// Only on a terminal.
pub(crate) struct Live {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Live {
    pub(crate) fn new(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
            bar.set_style(
                ProgressStyle::with_template("{spinner} {msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar
        });
        Self { bar, quiet }
    }

    /// Writes whole lines while the live line is up.
    pub(crate) fn apart(&self, write: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the line away, so that what follows stands alone.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Live {
    fn chosen(&mut self, backend: Backend, reason: &str) {
        if self.quiet {
            return;
        }
        match backend {
            Backend::Ebpf => say(format!("recording with ebpf ({reason})")),
            Backend::Notify => say(format!(
                "recording with notify ({reason}); some of the workload's calls may be interrupted, and it ends if this recorder is killed"
            )),
        }
    }

    fn started(&mut self, _: Option<u32>) {
        // For a service manager, and for whoever must know that nothing is missed from here on: sd_notify(3).
        let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
    }

    fn progress(&mut self, elapsed: Duration, phase: PhaseName, progress: &Progress) {
        let Some(bar) = &self.bar else { return };
        let since = elapsed.saturating_sub(Duration::from_millis(progress.last_new_ms));
        let lost = if progress.lost { " · LOSING EVENTS" } else { "" };
        bar.set_message(format!(
            "{} · {} · {} calls · {} syscalls · last new {} ago{lost}",
            seconds(elapsed),
            phase.as_str(),
            thousands(progress.calls),
            progress.distinct,
            seconds(since),
        ));
        bar.tick();
    }

    fn event(&mut self, event: &Event<'_>) {
        if self.quiet {
            return;
        }
        if let Some(sentence) = sentence(event) {
            self.apart(|| say(sentence));
        }
    }
}

/// An event in a sentence for a person; none where it speaks through its trace.
fn sentence(event: &Event<'_>) -> Option<String> {
    Some(match event {
        Event::Found { engine, container, observed } => {
            let mut facts =
                vec![format!("{engine}: container `{}` ({})", container.name, short(&container.id))];
            facts.extend(container.image_name.as_ref().map(|image| format!("image {image}")));
            facts.extend(container.runtime_with_version());
            facts.push(if *observed {
                "seccomp observe (refuses nothing)".to_owned()
            } else {
                format!("seccomp {}", container.seccomp.describe())
            });
            if container.no_new_privileges == Some(true) {
                facts.push("no_new_privs".to_owned());
            }
            if container.privileged {
                facts.push("privileged".to_owned());
            }
            facts.join(", ")
        }
        Event::WaitingForStart(container) => {
            format!(
                "`{}` does not run; waiting for it to be started, nothing of it will be missed",
                container.name
            )
        }
        Event::WaitingForPod { namespace, name, limit } => format!(
            "no pod `{namespace}/{name}` yet; waiting for it, at most {}",
            humantime::format_duration(*limit)
        ),
        Event::PodFound(pod) => format!("pod `{}/{}` ({})", pod.namespace, pod.name, pod.uid),
        Event::Began { container, late: true } => {
            format!("`{}` runs already: attached late, its start is not recorded", container.name)
        }
        Event::Began { container, late: false } => {
            let kind = container.kind.as_str();
            format!(
                "recording {kind} `{}` ({}) from its first instruction",
                container.name,
                short(&container.id)
            )
        }
        Event::Finished(_) => return None,
    })
}

/// An id as engines show it; containerd's are names.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).filter(|_| id.len() == 64).unwrap_or(id)
}

/// Whole seconds as a person writes them: `7s`, `3m 20s`.
fn seconds(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}

/// A count with its thousands apart.
pub(crate) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `1 call`, `2 calls`.
pub(crate) fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", thousands(number))
}

/// What happened to the workload that the user should know, a sentence each; empty when all went as planned.
pub(crate) fn remarks(driven: &Driven) -> Vec<String> {
    let mut remarks = Vec::new();
    match (&driven.end, &driven.exit) {
        (End::NeverReady, _) => remarks.push(
            "the workload did not become ready in time; raise `--ready-timeout`, or look at its output"
                .to_owned(),
        ),
        (End::Ended, Some(exit)) if exit.code() != 0 => {
            remarks.push(format!("the command ended with exit status {}", exit.code()));
        }
        _ => {}
    }
    for (name, verdict) in
        [("--ready", &driven.ready), ("--exercise", &driven.exercise), ("--health-cmd", &driven.health)]
    {
        match verdict {
            Verdict::Failed(status) if name != "--ready" => remarks.push(format!("{name} failed: {status}")),
            Verdict::Unanswered if driven.end == End::Ended => {
                remarks.push(format!("the workload ended before {name} was done"));
            }
            _ => {}
        }
    }
    for (processes, what) in [
        (&driven.left_over, "outlived the command and got SIGTERM"),
        (&driven.killed, "did not end on SIGTERM and got SIGKILL"),
    ] {
        if !processes.is_empty() {
            let names: Vec<String> = processes.iter().map(|p| format!("{} ({})", p.comm, p.pid)).collect();
            remarks.push(format!("{} {what}", names.join(", ")));
        }
    }
    remarks
}

/// What a recording lost, a phrase for each cause; empty when nothing is known to be missing.
pub(crate) fn losses(losses: &Losses) -> Vec<String> {
    [
        (losses.missed_events, "events that the kernel did not hand to the program"),
        (losses.map_full, "calls for which a table was full"),
        (losses.task_storage, "tasks for which the kernel had no memory"),
        (losses.cgroups_full, "cgroups for which the table was full"),
        (losses.notifications_vanished, "notifications whose task had died"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{} {what}", thousands(count)))
    .collect()
}
