//! What becomes of recordings: traces into files, each as soon as it is complete, and a few lines about each.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use profiler::{
    Observer, Progress,
    containers::{ContainerRecording, Event},
};
use serde_json::json;
use trace::{Backend, ContainerKind, FileKind, FilterMoment, PhaseName, Row, Startup, Trace};

use crate::{
    output::Output,
    report::gpu,
    terminal::{Live, count, losses, print, say, short, thousands},
};

/// A trace and where it went.
pub(crate) struct Recorded<'a> {
    pub(crate) trace: &'a Trace,
    pub(crate) name: &'a str,
}

impl Recorded<'_> {
    /// Says what was recorded, for a person on standard error, for a program on standard output. What was lost is
    /// said in any case.
    pub(crate) fn tell(&self, quiet: bool, json: bool) {
        let trace = self.trace;
        if !quiet {
            say(self.summary());
            for note in self.notes() {
                say(format!("  {note}"));
            }
        }
        if trace.confined {
            say("note: a seccomp filter was already on the workload (`confined: true`)");
            let refused = refused(trace);
            if !refused.is_empty() {
                let names: Vec<String> =
                    refused.iter().map(|(name, times)| format!("{name} ({})", thousands(*times))).collect();
                say(format!("note: it refused {}", names.join(", ")));
            }
        }
        for loss in losses(&trace.losses) {
            say(format!("lost: {loss}"));
        }
        if json {
            print(self.json().to_string() + "\n");
        }
    }

    fn summary(&self) -> String {
        let trace = self.trace;
        let calls = trace.syscalls.iter().map(|row| row.calls.saturating_add(row.denied)).sum();
        // Tenths are enough, except for what is over in no time.
        let grain = if trace.recorder.duration_ms < 1000 { 1 } else { 100 };
        let seconds = Duration::from_millis(trace.recorder.duration_ms / grain * grain);
        format!(
            "{}{}, {} in {}; wrote {}",
            label(trace).map(|label| format!("{label}: ")).unwrap_or_default(),
            count(trace.syscalls.len() as u64, "syscall"),
            count(calls, "call"),
            humantime::format_duration(seconds),
            self.name,
        )
    }

    /// What else a reader should know of a trace.
    fn notes(&self) -> Vec<String> {
        let mut notes = self.of_container();
        notes.extend(devices(self.trace));
        if self.trace.target.gpu == Some(true) || self.trace.target.gpu_driver.is_some() {
            notes.push(gpu(self.trace));
        }
        notes.extend(wide(self.trace).into_iter().map(|(name, beyond)| {
            format!(
                "wide: `{name}` was called {} times with arguments beyond those that are kept; `synth` asks for a decision about it",
                thousands(beyond)
            )
        }));
        notes
    }

    /// What a container's trace has beside the workload's calls.
    fn of_container(&self) -> Vec<String> {
        let trace = self.trace;
        let Some(container) = &trace.target.container else { return Vec::new() };
        let mut notes = Vec::new();
        match (trace.startup, container.attached.before_first_exec_ms) {
            (Startup::NotRecorded, _) => notes.push(
                "late: it ran already, so its start is not in the trace, and `synth` refuses it without `--without-startup`; restart the container while recording"
                    .to_owned(),
            ),
            (Startup::Recorded, Some(before)) => {
                notes.push(format!("attached {before} ms before its first instruction"));
            }
            (Startup::Recorded, None) => notes.push("its program never started".to_owned()),
        }
        if let Some(runtime) = &trace.runtime {
            let moment = match runtime.filter {
                FilterMoment::Loaded => "before its filter was loaded",
                FilterMoment::WouldBe => "before a filter would have been loaded",
                FilterMoment::Both | FilterMoment::NotSeen => "before the filter",
            };
            notes.push(format!(
                "apart: {}'s own {} {moment}, {} after it",
                trace.target.runtime.as_deref().unwrap_or("the runtime"),
                count(runtime.setup.len() as u64, "syscall"),
                runtime.start.len(),
            ));
        }
        if let Some(exec) = &trace.exec {
            notes.push(format!(
                "apart: {}, {}",
                count(exec.sessions, "exec session"),
                count(exec.syscalls.len() as u64, "syscall")
            ));
        }
        if let Some(code) = trace.target.exit_code.filter(|code| *code != 0) {
            notes.push(format!("it ended with exit status {code}"));
        }
        notes
    }

    fn json(&self) -> serde_json::Value {
        let trace = self.trace;
        let container = trace.target.container.as_ref();
        json!({
            "type": "trace", "version": 1, "file": self.name, "digest": trace.digest,
            "container": container.map(|container| &container.name), "id": container.map(|container| &container.id),
            "kind": container.map(|container| container.kind), "restart": container.map(|container| container.restart),
            "startup": trace.startup, "confined": trace.confined, "exit": trace.target.exit_code,
            "before_first_exec_ms": container.map(|container| container.attached.before_first_exec_ms),
            "syscalls": trace.syscalls.len(), "calls": trace.syscalls.iter().map(|row| row.calls).sum::<u64>(),
            "exec_sessions": trace.exec.as_ref().map_or(0, |exec| exec.sessions),
            "refused": refused(trace), "lost": trace.losses.lost_calls(),
            "gpu": trace.target.gpu, "wide": wide(trace),
        })
    }
}

/// The devices that something was asked of, with how many different requests.
fn devices(trace: &Trace) -> Option<String> {
    let mut devices: BTreeMap<&str, BTreeSet<&[u64]>> = BTreeMap::new();
    let exec = trace.exec.iter().flat_map(|exec| &exec.syscalls);
    for arguments in trace
        .syscalls
        .iter()
        .chain(exec)
        .filter(|row| row.name == "ioctl")
        .filter_map(|row| row.arguments.as_ref())
    {
        for values in &arguments.values {
            let Some(file) = &values.file else { continue };
            let is_device = matches!(file.kind, FileKind::CharacterDevice | FileKind::BlockDevice);
            if let Some(path) = file.path.as_deref().filter(|_| is_device) {
                devices.entry(path).or_default().insert(&values.arguments);
            }
        }
    }
    let words: Vec<String> = devices
        .into_iter()
        .map(|(path, requests)| format!("{path} ({})", count(requests.len() as u64, "request")))
        .collect();
    (!words.is_empty()).then(|| format!("asked of devices: {}", words.join(", ")))
}

/// The calls with more arguments than are kept, and how many of theirs are not.
fn wide(trace: &Trace) -> BTreeMap<&str, u64> {
    let mut wide = BTreeMap::new();
    for row in &trace.syscalls {
        if let Some(arguments) = row.arguments.as_ref().filter(|arguments| arguments.wide) {
            let own: &mut u64 = wide.entry(row.name.as_str()).or_default();
            *own = own.saturating_add(arguments.beyond);
        }
    }
    wide
}

/// What a filter refused, to the workload, its runtime and exec sessions together, by name.
pub(crate) fn refused(trace: &Trace) -> BTreeMap<&str, u64> {
    let runtime = trace.runtime.iter().flat_map(|runtime| runtime.setup.iter().chain(&runtime.start));
    let exec = trace.exec.iter().flat_map(|exec| &exec.syscalls);
    let mut refused = BTreeMap::new();
    for Row { name, denied, .. } in
        trace.syscalls.iter().chain(runtime).chain(exec).filter(|row| row.denied > 0)
    {
        let sum: &mut u64 = refused.entry(name.as_str()).or_default();
        *sum = sum.saturating_add(*denied);
    }
    refused
}

/// `web`, `migrate (init)`, `web (restart 2)`; none for what is no container.
fn label(trace: &Trace) -> Option<String> {
    let container = trace.target.container.as_ref()?;
    let mut label = container.name.clone().unwrap_or_else(|| short(&container.id).to_owned());
    let kind = Some(container.kind.as_str()).filter(|_| container.kind != ContainerKind::Container);
    let restart = Some(format!("restart {}", container.restart)).filter(|_| container.restart > 0);
    let more: Vec<String> = kind.map(str::to_owned).into_iter().chain(restart).collect();
    if !more.is_empty() {
        label = format!("{label} ({})", more.join(", "));
    }
    Some(label)
}

/// Where the traces of containers go.
enum Place {
    /// One file, for one trace.
    File(Option<Output>),
    /// A folder, for one trace of each run of each container; with the pod's name in each file's where there may
    /// be several pods.
    Folder { folder: PathBuf, with_pod: bool },
}

/// Writes each trace of a container as soon as it is complete.
pub(crate) struct Writing {
    live: Live,
    place: Place,
    quiet: bool,
    json: bool,
    written: u32,
    failed: Option<anyhow::Error>,
}

impl Writing {
    /// Makes sure, before any work is done, that the results can be written.
    pub(crate) fn prepare(
        path: &Path,
        folder: bool,
        with_pod: bool,
        quiet: bool,
        json: bool,
    ) -> anyhow::Result<Self> {
        let place = if folder {
            let context =
                || format!("cannot write `{}`; choose a folder you may write to with `-o`", path.display());
            fs::create_dir_all(path).with_context(context)?;
            Output::prepare(&path.join("trace.json"))?;
            Place::Folder { folder: path.to_owned(), with_pod }
        } else {
            Place::File(Some(Output::prepare(path)?))
        };
        Ok(Self { live: Live::new(quiet), place, quiet, json, written: 0, failed: None })
    }

    /// Takes the live line away.
    pub(crate) fn clear(&self) {
        self.live.clear();
    }

    /// Whether all went well, and something was written.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.written == 0 {
            bail!("nothing was recorded: no container made a call");
        }
        Ok(())
    }

    fn write(&mut self, recording: &ContainerRecording) -> anyhow::Result<()> {
        let mut trace = recording.trace.clone();
        trace.seal()?;
        let is_empty = trace.syscalls.is_empty() && trace.runtime.is_none() && trace.exec.is_none();
        if is_empty {
            say(format!("note: {} made no call; nothing is written for it", recording.container.name));
            return Ok(());
        }
        let output = match &mut self.place {
            Place::File(output) => match output.take() {
                Some(output) => output,
                None => bail!("a second trace has no place; record to a folder"),
            },
            Place::Folder { folder, with_pod } => {
                Output::prepare(&folder.join(file_name(recording, *with_pod)))?
            }
        };
        let mut bytes = Vec::new();
        trace.write(&mut bytes)?;
        let name = output.name().to_string();
        output.write(&bytes)?;
        self.written += 1;
        self.live.apart(|| Recorded { trace: &trace, name: &name }.tell(self.quiet, self.json));
        Ok(())
    }
}

/// `web.json`, `web.restart-2.json`, `pod-1.web.json`.
fn file_name(recording: &ContainerRecording, with_pod: bool) -> String {
    let container = &recording.container;
    let pod = container.pod.as_ref().filter(|_| with_pod).map(|pod| pod.name.as_str());
    format!("{}.json", file_stem(pod, &container.name, container.restart))
}

fn file_stem(pod: Option<&str>, name: &str, restart: u32) -> String {
    let pod = pod.map(|pod| format!("{pod}.")).unwrap_or_default();
    let restart = if restart > 0 { format!(".restart-{restart}") } else { String::new() };
    // Names in a cluster are labels of DNS; nothing else gets to choose a path.
    format!("{pod}{name}{restart}").replace('/', "_")
}

impl Observer for Writing {
    fn chosen(&mut self, backend: Backend, reason: &str) {
        self.live.chosen(backend, reason);
    }

    fn started(&mut self, pid: Option<u32>) {
        self.live.started(pid);
    }

    fn progress(&mut self, elapsed: Duration, phase: PhaseName, progress: &Progress) {
        self.live.progress(elapsed, phase, progress);
    }

    fn event(&mut self, event: &Event<'_>) {
        self.live.event(event);
        if let Event::Finished(recording) = event
            && let Err(error) = self.write(recording)
        {
            self.failed.get_or_insert(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for (name, expected) in [("web", "web"), ("a/b", "a_b"), ("../x", ".._x")] {
            assert_eq!(file_stem(None, name, 0), expected);
            assert_eq!(file_stem(None, name, 2), format!("{expected}.restart-2"));
            assert_eq!(file_stem(Some("pod-1"), name, 0), format!("pod-1.{expected}"));
        }
    }
}
