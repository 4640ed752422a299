//! The report of `learn`: answers the operator's question first, then says how little the proof proves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use harness::HeldOut;
use synth::{Completeness, Program, SeccompData, Synthesis, Verdict, decode};
use trace::{Abi, Backend, Container, Outcome, Row, Trace};

use crate::{
    expected::Bearing,
    folder::Workload,
    input,
    terminal::{count, losses, thousands, visible},
    trial::Trial,
};

mod arguments;
mod completeness;
mod findings;
mod rules;
mod table;

pub(crate) use completeness::completeness;
use findings::{decisions, findings, held};

/// What the confined starts showed.
#[derive(Debug, Default)]
pub(crate) struct Proof {
    /// Whether the profile was mended once more after the last round, so that the newest one was not tried.
    pub(crate) out_of_rounds: bool,
    /// Starts with every denial named.
    pub(crate) starts: u32,
    /// Of these, those with a denial.
    pub(crate) denied: u32,
    /// Of these, those that were not well.
    pub(crate) unwell: u32,
    /// What was refused, by name: how it was answered, and how often.
    pub(crate) refused: BTreeMap<String, (Verdict, u64)>,
    /// What was refused because the ceiling took it out of the profile.
    pub(crate) above_ceiling: BTreeSet<String>,
    /// The starts as a runtime loads the profile, and whether they were well.
    pub(crate) plain: Vec<(&'static str, bool)>,
}

impl Proof {
    /// Takes a start into account.
    pub(crate) fn add(&mut self, trial: &Trial) {
        self.starts += 1;
        self.denied += u32::from(trial.refused(Bearing::Denial).next().is_some());
        self.unwell += u32::from(!trial.is_well());
        self.above_ceiling.extend(trial.refused(Bearing::AboveCeiling).map(|denial| denial.name.clone()));
        for denial in trial.refused(Bearing::Denial) {
            let entry = self.refused.entry(denial.name.clone()).or_insert((denial.verdict, 0));
            entry.1 = entry.1.saturating_add(denial.count);
        }
    }

    /// Whether the newest profile was tried, refused nothing, and the workload was well.
    pub(crate) fn is_good(&self) -> bool {
        !self.out_of_rounds
            && self.starts > 0
            && self.denied == 0
            && self.unwell == 0
            && self.plain.iter().all(|(_, well)| *well)
    }
}

/// What the engines' default profile would have done to the recorded calls.
struct RuntimeDefault {
    name: String,
    refused: Vec<String>,
    unimplemented: Vec<String>,
}

impl RuntimeDefault {
    /// Judges every call that succeeded by the compiled default. Where the arguments were not recorded, a call that the
    /// default allows under a condition counts as allowed.
    fn judge(trace: &Trace) -> Option<Self> {
        let reference = synth::reference("runtime-default")?;
        let container = input::container();
        let profile = reference.resolve(&container);
        let program = synth::compile(&profile, container.native, synth::CompileOptions::default()).ok()?;
        let allowed = profile.allowed();
        let mut default = Self {
            name: format!("{} {}", reference.name, reference.provenance()),
            refused: Vec::new(),
            unimplemented: Vec::new(),
        };
        for row in trace.syscalls.iter().filter(|row| row.calls > 0 && row.succeeded()) {
            let judged = synth::simulate(&program, &SeccompData::call(row.abi, row.number, [0; 6])).ok()?;
            let conditional = allowed.contains(row.name.as_str()) && row.abi == container.native;
            if conditional {
                default.refused.extend(refused_ways(&program, row)?);
                continue;
            }
            if judged.executes() {
                continue;
            }
            let list = if judged == Verdict::Errno(trace::Errno::ENOSYS.number()) {
                &mut default.unimplemented
            } else {
                &mut default.refused
            };
            list.push(label(row, container.native));
        }
        Some(default)
    }
}

/// The ways of a call that would be refused, of one that succeeded every time.
fn refused_ways(program: &Program, row: &Row) -> Option<BTreeSet<String>> {
    let mut refused = BTreeSet::new();
    let Some(arguments) = &row.arguments else { return Some(refused) };
    if row.outcomes.keys().any(|outcome| *outcome != Outcome::Ok) {
        return Some(refused);
    }
    for values in &arguments.values {
        let registers = decode::registers(&arguments.kept, values);
        let call = SeccompData::call(row.abi, row.number, registers);
        if !synth::simulate(program, &call).ok()?.executes() {
            refused.insert(decode::recorded(row.abi, &row.name, &arguments.kept, values));
        }
    }
    Some(refused)
}

fn label(row: &Row, native: Abi) -> String {
    if row.abi == native { row.name.clone() } else { format!("{} ({})", row.name, row.abi) }
}

/// The report.
pub(crate) struct Report {
    headline: String,
    body: String,
}

impl Report {
    pub(crate) fn new(
        trace: &Trace,
        made: &Synthesis,
        proof: &Proof,
        workload: &Workload,
        held_out: &HeldOut,
        completeness: &Completeness,
    ) -> Self {
        let headline = headline(trace, made, proof, workload);
        Self { body: body(trace, made, workload, held_out, completeness), headline }
    }

    /// The answer, in plain text.
    pub(crate) fn headline(&self) -> &str {
        &self.headline
    }

    /// The whole report.
    pub(crate) fn markdown(&self) -> String {
        let quoted: String = self.headline.lines().map(|line| format!("{line}\n\n")).collect();
        format!("# Seccomp profile: what was learned\n\n{quoted}{}", self.body)
    }
}

fn headline(trace: &Trace, made: &Synthesis, proof: &Proof, workload: &Workload) -> String {
    let mut text = String::new();
    if let Some(default) = RuntimeDefault::judge(trace) {
        let list = if default.refused.is_empty() {
            String::new()
        } else {
            format!(": {}", default.refused.join(", "))
        };
        let _ = writeln!(
            text,
            "RuntimeDefault ({}) would refuse {} that succeeded{list}.",
            default.name,
            count(default.refused.len() as u64, "call"),
        );
        if !default.unimplemented.is_empty() {
            let _ = writeln!(
                text,
                "It answers {} with ENOSYS, and so does this profile: programs fall back.",
                default.unimplemented.join(", ")
            );
        }
    }
    let health = match (proof.unwell, &workload.life.health) {
        (0, Some(_)) => "health green".to_owned(),
        (0, None) => "the workload well (no --health-cmd was given)".to_owned(),
        (unwell, _) => format!("{unwell} of them not well"),
    };
    let refused = if proof.refused.is_empty() {
        "0 calls".to_owned()
    } else {
        let names: Vec<String> = proof
            .refused
            .iter()
            .map(|(name, (verdict, times))| format!("{name} ({verdict}, {} times)", thousands(*times)))
            .collect();
        names.join(", ")
    };
    let _ = writeln!(
        text,
        "This profile refused {refused} in {}{}, {health}.",
        count(u64::from(proof.starts), "confined start"),
        by_engine(trace),
    );
    if !proof.above_ceiling.is_empty() {
        let names: Vec<&str> = proof.above_ceiling.iter().map(String::as_str).collect();
        let _ = writeln!(
            text,
            "Not counted: {}, which the ceiling ({}) refuses and the workload {}; an `allow` decision in `workload.toml` would let it through.",
            names.join(", "),
            made.evidence.options.ceiling.name,
            if proof.unwell == 0 { "did without" } else { "may need" },
        );
    }
    let what = if trace.target.container.is_some() { "The last start" } else { "As a runtime loads it" };
    for (name, well) in &proof.plain {
        let _ = writeln!(text, "{what} ({name}): {}.", if *well { "well" } else { "NOT WELL" });
    }
    if proof.out_of_rounds {
        text.push_str("It was mended after the last round and has not been tried since: run `learn` again, or give more --rounds.\n");
    }
    let counts = made.evidence.counts;
    let _ = writeln!(
        text,
        "It allows {} of which {} were observed; {} are there for the container runtime alone, {} go by arguments.",
        count(counts.allowed as u64, "syscall"),
        counts.observed,
        counts.allowed.saturating_sub(counts.allowed_without_runtime),
        counts.conditional,
    );
    if let Some(bound) = harness::upper_bound(proof.starts, proof.denied) {
        let _ = writeln!(
            text,
            "How little that proves: at 95 % confidence up to {:.0} % of such starts may still meet a denial; other uses of the workload were not tried.",
            (bound * 100.0).ceil()
        );
    }
    text
}

fn body(
    trace: &Trace,
    made: &Synthesis,
    workload: &Workload,
    held_out: &HeldOut,
    completeness: &Completeness,
) -> String {
    let evidence = &made.evidence;
    let mut text = about(trace, workload);
    text.push_str(&findings(evidence));
    text.push_str(&decisions(evidence));
    if !workload.added.is_empty() {
        text.push_str("\n## Added after a denial\n\n");
        for added in &workload.added {
            let when = added.when.as_ref().map(|when| format!(" `{when}`")).unwrap_or_default();
            let _ = writeln!(text, "- `{}` ({}){when}: {}", added.syscall, added.abi, visible(&added.why));
        }
    }
    text.push_str(&held(made.profile.digest(), evidence.workload.image, held_out));
    text.push_str(&completeness::section(completeness));
    text.push_str(&arguments::sections(trace, evidence));
    let _ = write!(text, "\n## Rules\n\n{}", rules::rules(evidence));
    text.push_str(
        "\n## What this profile does not promise\n\n\
         It holds for what was driven while it was recorded. Log rotation, certificate renewal, running out of memory, a \
         driver reset and whatever else was not exercised may need calls that it refuses. It decides by syscall and by the \
         values of arguments, not by what they point to: no path, no device, no command inside a driver's struct.\n",
    );
    text
}

/// What was recorded, and how.
fn about(trace: &Trace, workload: &Workload) -> String {
    let mut text = String::from("\n## The workload\n\n");
    let recorder = &trace.recorder;
    match &trace.target.container {
        None => drop(writeln!(text, "- command: `{}`", visible(&workload.target.in_words()))),
        Some(container) => text.push_str(&image(trace, container, workload)),
    }
    let _ = writeln!(
        text,
        "- recorded with `{}` on Linux {} ({}), {}",
        backend(recorder.backend),
        recorder.kernel,
        recorder.arch,
        count(trace.runs, "run")
    );
    let phases: Vec<&str> = trace.phases.iter().map(|phase| phase.name.as_str()).collect();
    let _ = writeln!(text, "- phases: {}", phases.join(", "));
    let about_gpu = trace.target.gpu.unwrap_or(trace.target.gpu_driver.is_some());
    let nothing = if about_gpu { "" } else { ": this profile says nothing about a GPU" };
    let _ = writeln!(text, "- {}{nothing}", visible(&gpu(trace)));
    let lost = losses(&trace.losses);
    let _ = writeln!(
        text,
        "- lost while recording: {}",
        if lost.is_empty() { "nothing".to_owned() } else { lost.join("; ") }
    );
    for perturbation in &recorder.perturbations {
        let _ = writeln!(text, "- the recording changed the workload: {}", visible(perturbation));
    }
    text
}

/// Whether this is about a GPU.
pub(crate) fn gpu(trace: &Trace) -> String {
    let driver =
        trace.target.gpu_driver.as_ref().map(|driver| format!("{} {}", driver.vendor, driver.version));
    match (trace.target.gpu, driver) {
        (Some(true), Some(driver)) => format!("GPU: used, with driver {driver}"),
        (Some(true), None) => "GPU: used, with a driver of unknown version".to_owned(),
        (Some(false), Some(driver)) => {
            format!("GPU: not used, though driver {driver} was loaded")
        }
        (None, Some(driver)) => format!("GPU driver: {driver}"),
        (_, None) => "no GPU driver was loaded".to_owned(),
    }
}

/// By whom the confined starts were made, where it was not by us.
fn by_engine(trace: &Trace) -> String {
    let Some(container) = &trace.target.container else { return String::new() };
    visible(&match &trace.target.runtime {
        Some(runtime) => format!(" by {} with {runtime}", container.engine),
        None => format!(" by {}", container.engine),
    })
}

/// The lines about the image that was learned.
fn image(trace: &Trace, container: &Container, workload: &Workload) -> String {
    let mut text = format!("- image: `{}`", visible(workload.target.image.as_deref().unwrap_or("unknown")));
    match &trace.target.image {
        Some(digest) => drop(write!(text, ", {digest}")),
        None => text.push_str(", of unknown digest"),
    }
    let runtime = trace.target.runtime.as_deref().unwrap_or("an unknown runtime");
    let _ = writeln!(text, "\n- run by {} with {}", visible(&container.engine), visible(runtime));
    if !workload.target.run_options.is_empty() {
        let _ = writeln!(text, "- options: `{}`", visible(&workload.target.run_options.join(" ")));
    }
    if !trace.target.command.is_empty() {
        let _ =
            writeln!(text, "- command: `{}`", visible(&trace.target.command.join(" ").replace('\n', " ⏎ ")));
    }
    match container.no_new_privileges {
        Some(true) => text.push_str("- with no_new_privs\n"),
        Some(false) => text.push_str("- without no_new_privs\n"),
        None => {}
    }
    if let Some(before) = container.attached.before_first_exec_ms {
        let _ = writeln!(text, "- recorded from {before} ms before its first instruction");
    }
    text
}

const fn backend(backend: Backend) -> &'static str {
    match backend {
        Backend::Ebpf => "ebpf",
        Backend::Notify => "notify",
    }
}
