//! What the report says about arguments: what was seen of each call that rules go by, what was asked of which device,
//! which files of the GPU's driver were opened, and what is allowed for other branches of that driver.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use synth::{Evidence, Reason, decode, nvidia};
use trace::{FirstSight, Open, PhaseName, Row, Trace, Values};

use super::table::{cell, code, table};
use crate::terminal::{count, thousands};

/// As many ways of one call as a reader looks through.
const MOST: usize = 24;

/// The sections.
pub(super) fn sections(trace: &Trace, evidence: &Evidence) -> String {
    let seen = Seen::of(trace);
    let mut text = String::new();
    if !seen.is_empty() {
        text.push_str(
            "\n## Arguments\n\nWhat was seen of the calls whose arguments rules or findings go by. Addresses, sizes and numbers of descriptors \
             are not kept; what a call found in memory is what was there when it was entered.\n\n",
        );
        text.push_str(&seen.calls());
        text.push_str(&seen.requests());
    }
    text.push_str(&opens(trace));
    text.push_str(&drivers(evidence));
    text
}

/// One way in which a call was made.
struct Way {
    calls: u64,
    denied: u64,
    phases: BTreeSet<PhaseName>,
    first: FirstSight,
    in_exec: bool,
}

impl Way {
    fn new(values: &Values, in_exec: bool) -> Self {
        Self {
            calls: values.calls,
            denied: values.denied,
            phases: values.phases.clone(),
            first: values.first.clone(),
            in_exec,
        }
    }

    fn add(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.denied = self.denied.saturating_add(other.denied);
        self.phases.extend(other.phases);
        self.in_exec |= other.in_exec;
        if other.first < self.first {
            self.first = other.first;
        }
    }

    fn cells(&self) -> [String; 3] {
        let mut count = thousands(self.calls);
        if self.denied > 0 {
            let _ = write!(count, " ({} refused)", thousands(self.denied));
        }
        let mut places: Vec<&str> = self.phases.iter().map(|phase| phase.as_str()).collect();
        if self.in_exec {
            places.push("exec sessions");
        }
        [count, places.join(", "), code(&self.first.comm)]
    }
}

type Ways = BTreeMap<String, Way>;

/// What was seen, by syscall, of ioctl by file.
#[derive(Default)]
struct Seen {
    calls: BTreeMap<String, Ways>,
    requests: BTreeMap<String, Ways>,
    /// What is not among the values.
    beyond: BTreeMap<String, (u64, u64)>,
}

impl Seen {
    fn of(trace: &Trace) -> Self {
        let mut seen = Self::default();
        let exec = trace.exec.iter().flat_map(|exec| &exec.syscalls);
        for (row, in_exec) in trace.syscalls.iter().map(|row| (row, false)).chain(exec.map(|row| (row, true)))
        {
            seen.add(row, in_exec);
        }
        seen
    }

    fn add(&mut self, row: &Row, in_exec: bool) {
        let Some(arguments) = &row.arguments else { return };
        for values in &arguments.values {
            let text = decode::recorded(row.abi, &row.name, &arguments.kept, values);
            let (ways, text) = match &values.file {
                _ if row.name != "ioctl" => (self.calls.entry(row.name.clone()).or_default(), text),
                None => (self.requests.entry("not known".to_owned()).or_default(), text),
                Some(file) => {
                    let file = decode::file(file);
                    let request = text.strip_prefix(&format!("ioctl({file}, "));
                    let request = request.and_then(|text| text.strip_suffix(')')).map(str::to_owned);
                    (self.requests.entry(file).or_default(), request.unwrap_or(text))
                }
            };
            let way = Way::new(values, in_exec);
            match ways.get_mut(&text) {
                Some(own) => own.add(way),
                None => _ = ways.insert(text, way),
            }
        }
        if arguments.beyond > 0 || arguments.unread > 0 {
            let own = self.beyond.entry(row.name.clone()).or_default();
            own.0 = own.0.saturating_add(arguments.beyond);
            own.1 = own.1.saturating_add(arguments.unread);
        }
    }

    fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.requests.is_empty()
    }

    fn calls(&self) -> String {
        let rows = self.calls.iter().flat_map(|(name, ways)| {
            let rest = self.rest(name);
            lines(ways).into_iter().chain(rest.map(|rest| vec![code(name), rest]))
        });
        table(&["call", "how often", "in", "first by"], rows.map(|row| filled(row, 4)))
    }

    fn requests(&self) -> String {
        let rows = self.requests.iter().flat_map(|(file, ways)| {
            let own = lines(ways).into_iter().enumerate();
            own.map(|(place, mut row)| {
                row.insert(0, if place == 0 { code(file) } else { String::new() });
                row
            })
        });
        let rest = self.rest("ioctl").map(|rest| vec![String::new(), code("ioctl"), rest]);
        let text = table(
            &["device or kind of file", "request", "how often", "in", "first by"],
            rows.chain(rest).map(|row| filled(row, 5)),
        );
        if text.is_empty() { text } else { format!("\n### Requests (ioctl)\n\n{text}") }
    }

    /// The calls of which the values are not known.
    fn rest(&self, name: &str) -> Option<String> {
        let (beyond, unread) = self.beyond.get(name)?;
        let mut words = Vec::new();
        if *beyond > 0 {
            words.push(format!("{} with arguments beyond those that are kept", thousands(*beyond)));
        }
        if *unread > 0 {
            words.push(format!("{} whose memory could not be read", thousands(*unread)));
        }
        Some(words.join("; "))
    }
}

/// The ways of one call, the most frequent first.
fn lines(ways: &Ways) -> Vec<Vec<String>> {
    let mut list: Vec<(&String, &Way)> = ways.iter().collect();
    list.sort_by_key(|(text, way)| (std::cmp::Reverse(way.calls), *text));
    let line = |(text, way): &(&String, &Way)| {
        let mut row = vec![code(text)];
        row.extend(way.cells());
        row
    };
    let mut rows: Vec<Vec<String>> = list.iter().take(MOST).map(line).collect();
    let more = list.iter().skip(MOST).map(|(_, way)| way.calls).fold(0, u64::saturating_add);
    if list.len() > MOST {
        rows.push(vec![format!("… {} more ways", list.len() - MOST), thousands(more)]);
    }
    rows
}

/// A row with as many cells as the table has.
fn filled(mut row: Vec<String>, cells: usize) -> Vec<String> {
    row.resize(cells, String::new());
    row
}

fn opens(trace: &Trace) -> String {
    let row = |open: &Open| {
        let outcomes: Vec<String> =
            open.outcomes.iter().map(|(outcome, times)| format!("{outcome} {}", thousands(*times))).collect();
        vec![code(&open.path), thousands(open.calls), outcomes.join(", "), code(&open.first.comm)]
    };
    let text = table(&["file", "opened", "how it ended", "first by"], trace.opens.iter().map(row));
    if text.is_empty() {
        return text;
    }
    let mut text = format!(
        "\n## Files of the GPU's driver\n\nEvidence for the reader: no profile can go by a path.\n\n{text}"
    );
    if trace.opens_beyond > 0 {
        let _ = writeln!(text, "\n{} of further paths are not listed.", count(trace.opens_beyond, "open"));
    }
    text
}

/// What is allowed because other branches of the driver ask for it.
fn drivers(evidence: &Evidence) -> String {
    let mut widened: BTreeMap<(&str, &str, &str), BTreeSet<u32>> = BTreeMap::new();
    for rule in &evidence.rules {
        for reason in &rule.reasons {
            let Reason::Driver { request, device, branches, why } = reason else { continue };
            let what = request.as_deref().unwrap_or(&rule.syscall);
            widened.entry((device.as_deref().unwrap_or_default(), what, why)).or_default().extend(branches);
        }
    }
    let rows = widened.into_iter().map(|((device, what, why), branches)| {
        let device = if device.is_empty() { String::new() } else { code(device) };
        vec![device, code(what), ranges(&branches), cell(why)]
    });
    let text = table(&["device", "request or syscall", "driver branches", "why"], rows);
    if text.is_empty() {
        return text;
    }
    format!(
        "\n## Allowed for other branches of the GPU's driver\n\n*Not observed*: it holds for a node with another driver than the recorded one; \
         `--gpu-driver` narrows it.\n\n{text}"
    )
}

/// Branches as people write them: `535, 550 to 595`, following each other in the table.
fn ranges(branches: &BTreeSet<u32>) -> String {
    let mut parts: Vec<Vec<u32>> = Vec::new();
    let mut before = false;
    for branch in nvidia::branches().iter().map(|branch| branch.number) {
        let is_in = branches.contains(&branch);
        match parts.last_mut().filter(|_| before && is_in) {
            Some(part) => part.push(branch),
            None if is_in => parts.push(vec![branch]),
            None => {}
        }
        before = is_in;
    }
    let part = |part: &Vec<u32>| match part.as_slice() {
        [first, .., last] if part.len() > 2 => format!("{first} to {last}"),
        some => some.iter().map(u32::to_string).collect::<Vec<_>>().join(", "),
    };
    parts.iter().map(part).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use synth::Options;
    use trace::{
        Abi, Arguments, Backend, File, FileKind, GpuDriver, Kept, Outcome, Recorder, Target, TargetKind,
    };

    use super::*;

    /// A run of a workload on a GPU, as far as this is about it.
    fn gpu_trace() -> Trace {
        let recorder = Recorder {
            tool: "seccomp-learn 0.1.0".to_owned(),
            backend: Backend::Ebpf,
            kernel: "6.8.0".to_owned(),
            arch: "x86_64".to_owned(),
            started: "2026-01-01T00:00:00Z".to_owned(),
            duration_ms: 5,
            perturbations: Vec::new(),
        };
        let mut target = Target::new(TargetKind::Command);
        target.gpu_driver = Some(GpuDriver { vendor: "nvidia".to_owned(), version: "535.104.05".to_owned() });
        target.gpu = Some(true);
        let first = FirstSight { after_ms: 3, pid: 4711, comm: "py`thon|3".to_owned() };
        let values = |path: &str, request: u64, calls| Values {
            arguments: vec![request],
            calls,
            denied: 0,
            runs: 1,
            upper: BTreeSet::new(),
            file: Some(File { kind: FileKind::CharacterDevice, device: None, path: Some(path.to_owned()) }),
            phases: BTreeSet::from([PhaseName::Startup, PhaseName::Serving]),
            first: first.clone(),
        };
        let all = [
            values("/dev/nvidia-uvm", 0x3000_0001, 1),
            values("/dev/nvidiactl", 0xc020_462a, 1200),
            values("/dev/nvidiactl", 0xc030_462b, 7),
        ];
        let request = Kept { index: 1, offset: None, name: "request".to_owned(), mask: 0xffff_ffff };
        let ioctl = Row {
            abi: Abi::X86_64,
            number: 16,
            name: "ioctl".to_owned(),
            calls: 1208,
            runs: 1,
            denied: 0,
            outcomes: BTreeMap::from([(Outcome::Ok, 1208)]),
            refusals: BTreeMap::new(),
            in_flight: 0,
            never_returned: 0,
            phases: BTreeSet::from([PhaseName::Startup]),
            first: first.clone(),
            arguments: Some(Arguments::of(vec![request], all)),
        };
        let mut trace = Trace::new(recorder, target);
        trace.complete = true;
        trace.syscalls = vec![ioctl];
        trace.opens = vec![Open {
            path: "/dev/nvidiactl".to_owned(),
            calls: 2,
            outcomes: BTreeMap::from([(Outcome::Ok, 2)]),
            runs: 1,
            first,
        }];
        trace.seal().unwrap();
        trace
    }

    #[test]
    fn a_gpu_is_told_by_its_devices_requests_files_and_branches() {
        let trace = gpu_trace();
        let made = synth::synthesize(&trace, &Options::default()).unwrap();
        let text = sections(&trace, &made.evidence);
        for line in [
            "| `/dev/nvidia-uvm` | `UVM_INITIALIZE` | 1 | startup, serving | `py'thon\\|3` |",
            "| `/dev/nvidiactl` | `NV_ESC_RM_CONTROL` | 1\u{202f}200 | startup, serving | `py'thon\\|3` |",
            "|  | `NV_ESC_RM_ALLOC` | 7 | startup, serving | `py'thon\\|3` |",
            "| `/dev/nvidiactl` | 2 | ok 2 | `py'thon\\|3` |",
            "| `/dev/nvidiactl` | `NV_ESC_RM_ALLOC` | 515, 525 | the same request with these branches' struct: 0xc028462b |",
            "| `/dev/nvidiactl` | `NV_ESC_WAIT_OPEN_COMPLETE` | 550 to 595 | these branches have it, and the recorded one has not: 0xc00846da |",
            "|  | `memfd_create` | 570 to 595 |",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn branches_that_follow_each_other_are_a_range() {
        let all: BTreeSet<u32> = nvidia::branches().iter().map(|branch| branch.number).collect();
        let (first, last) = (all.first().unwrap(), all.last().unwrap());
        assert_eq!(ranges(&all), format!("{first} to {last}"));
        let but = |without: u32| ranges(&all.iter().copied().filter(|own| *own != without).collect());
        assert_eq!(but(535), format!("515, 525, 545 to {last}"));
        assert_eq!(ranges(&BTreeSet::from([570])), "570");
    }
}
