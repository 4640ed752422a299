//! nvidia: a profile of a GPU workload is made on one branch of the driver and loaded where there is another. What the
//! requests that were observed are on the other branches, and what those branches added, is allowed too, labelled as
//! not observed. A request that carries out any other one is taken back.

use std::collections::BTreeSet;

use trace::{Abi, Digest, File, GpuDriver, Target, Trace, Values};

use super::{arguments::harmless_alone, observe::Observed};
use crate::{
    clause::Clause,
    evidence::Reason,
    finding::Finding,
    nvidia::{self, AddedCall, Device, Form, Request, RequestClass},
    profile::{Condition, Operator},
    rules::Rules,
    synthesize::{ArgumentMode, GpuDrivers, Options, SynthError},
};

/// Which argument of ioctl the request is.
const REQUEST: u32 = 1;

/// Widens to the branches chosen.
///
/// # Errors
/// A branch that no table is of, or runs with a GPU merged with runs without one.
pub(crate) fn nvidia(
    mut rules: Rules,
    seen: Observed<'_>,
    trace: &Trace,
    options: &Options,
) -> Result<Rules, SynthError> {
    let chosen = chosen(&options.gpu_drivers)?;
    let requests = requests(seen);
    if !uses_gpu(trace)? && requests.iter().all(|seen| seen.device.is_none()) {
        return Ok(rules);
    }
    let recorded = recorded(trace)?;
    for call in nvidia::added_calls() {
        add_call(&mut rules, call, &chosen, &recorded, options.arguments);
    }
    if options.arguments == ArgumentMode::Off {
        return Ok(rules);
    }
    for seen in &requests {
        if let Some(request) = seen.never() {
            take_back(&mut rules, request, seen);
            continue;
        }
        let Some(request) = seen.request else { continue };
        for form in request.forms.iter().filter(|form| form.through.is_none()) {
            let branches: BTreeSet<u32> = chosen.iter().copied().filter(|own| form.is_on(*own)).collect();
            let is_array = form.mask != u32::MAX;
            if branches.is_empty() || (form.matches(seen.number) && !is_array) {
                continue;
            }
            let why = if is_array {
                format!("an array, whose size the client chooses: {form}")
            } else {
                format!("the same request with these branches' struct: {form}")
            };
            rules.allow("ioctl", clause(*form), driver(request, seen.device, branches, why));
        }
    }
    let devices: BTreeSet<Device> = requests.iter().filter_map(|seen| seen.device).collect();
    for (request, device) in added(&chosen, &recorded, &devices) {
        for form in request.forms.iter().filter(|form| form.through.is_none()) {
            let branches: BTreeSet<u32> = chosen.iter().copied().filter(|own| form.is_on(*own)).collect();
            if !branches.is_empty() {
                let why = format!("these branches have it, and the recorded one has not: {form}");
                rules.allow("ioctl", clause(*form), driver(request, Some(device), branches, why));
            }
        }
    }
    Ok(rules)
}

/// A request that was made, on a device of NVIDIA's or, where the file is not known, one that can be no other's.
struct Seen {
    device: Option<Device>,
    path: String,
    number: u32,
    calls: u64,
    request: Option<&'static Request>,
}

impl Seen {
    fn new(file: Option<&File>, number: u32, calls: u64) -> Option<Self> {
        let device = match file {
            Some(file) => Some(nvidia::device(file)?),
            None => None,
        };
        let request = nvidia::request(device, number);
        if device.is_none() && request.is_none() {
            return None;
        }
        let own = file.and_then(|file| file.path.clone());
        let path = own.or_else(|| Some(device?.path().to_owned()));
        Some(Self { device, path: path.unwrap_or_else(|| "a device".to_owned()), number, calls, request })
    }

    /// The request that it is, if what that carries out is in memory. The frontend looks at the number and the size
    /// of a request only: kernel-open/nvidia/nv.c, nvidia_ioctl.
    fn never(&self) -> Option<&'static Request> {
        let number = match self.device {
            Some(Device::Control | Device::Gpu) => self.number & !0xc000_ff00 | 0xc000_4600,
            _ => self.number,
        };
        nvidia::request(self.device, number).filter(|_| nvidia::is_never(number))
    }
}

/// The requests that were made on devices of NVIDIA's, refused ones left aside.
fn requests(seen: Observed<'_>) -> Vec<Seen> {
    let mut found = Vec::new();
    for row in seen.rows().filter(|row| row.name == "ioctl") {
        let Some(arguments) = &row.arguments else { continue };
        let Some(at) = arguments.kept.iter().position(|own| own.index == REQUEST && own.offset.is_none())
        else {
            continue;
        };
        let one = |values: &Values| {
            let request = values.arguments.get(at)? & u64::from(u32::MAX);
            Seen::new(values.file.as_ref(), u32::try_from(request).ok()?, values.calls)
        };
        found.extend(arguments.values.iter().filter(|values| values.calls > 0).filter_map(one));
    }
    found
}

/// The branches to hold for.
fn chosen(drivers: &GpuDrivers) -> Result<BTreeSet<u32>, SynthError> {
    match drivers {
        GpuDrivers::All => Ok(nvidia::branches().iter().map(|branch| branch.number).collect()),
        GpuDrivers::Only(branches) => match branches.iter().find(|branch| !nvidia::is_branch(**branch)) {
            Some(unknown) => Err(unknown_driver(&unknown.to_string())),
            None => Ok(branches.clone()),
        },
    }
}

/// The targets of all runs, with their digests.
fn targets(trace: &Trace) -> Vec<(Option<Digest>, &Target)> {
    match trace.merged.as_slice() {
        [] => vec![(trace.digest, &trace.target)],
        runs => runs.iter().map(|run| (Some(run.digest), &run.target)).collect(),
    }
}

/// Whether the runs used a GPU; some with and some without are refused.
fn uses_gpu(trace: &Trace) -> Result<bool, SynthError> {
    let targets = targets(trace);
    let of = |used: bool| {
        let digests = targets.iter().filter(move |(_, target)| target.gpu == Some(used));
        digests.map(|(digest, _)| digest.map_or_else(|| "?".to_owned(), short)).collect::<Vec<_>>()
    };
    let (with, without) = (of(true), of(false));
    if !with.is_empty() && !without.is_empty() {
        return Err(SynthError::MixedGpu { with: with.join(", "), without: without.join(", ") });
    }
    Ok(!with.is_empty())
}

/// As much of a digest as tells the traces of a folder apart.
fn short(digest: Digest) -> String {
    let text = digest.to_string();
    text.get(..19).map_or_else(|| text.clone(), str::to_owned)
}

/// The branches that the runs were recorded on, where they name them.
fn recorded(trace: &Trace) -> Result<BTreeSet<u32>, SynthError> {
    let drivers = targets(trace).into_iter().filter_map(|(_, target)| target.gpu_driver.as_ref());
    drivers.filter(|driver| driver.vendor == "nvidia").map(branch).collect()
}

fn branch(driver: &GpuDriver) -> Result<u32, SynthError> {
    let number = driver.version.split('.').next().and_then(|major| major.parse().ok());
    number.filter(|number| nvidia::is_branch(*number)).ok_or_else(|| unknown_driver(&driver.version))
}

fn unknown_driver(branch: &str) -> SynthError {
    let known: Vec<String> = nvidia::branches().iter().map(|branch| branch.number.to_string()).collect();
    SynthError::UnknownDriver { branch: branch.to_owned(), known: known.join(", ") }
}

/// A call that a branch's libcuda makes and that of a branch before it did not, where the recording cannot show it.
fn add_call(
    rules: &mut Rules,
    call: &AddedCall,
    chosen: &BTreeSet<u32>,
    recorded: &BTreeSet<u32>,
    mode: ArgumentMode,
) {
    let branches: BTreeSet<u32> = chosen.iter().copied().filter(|branch| *branch >= call.first).collect();
    if branches.is_empty() || recorded.iter().any(|branch| *branch >= call.first) {
        return;
    }
    let reason = Reason::Driver { request: None, device: None, branches, why: call.why.clone() };
    let ways = match mode {
        ArgumentMode::Off => Vec::new(),
        ArgumentMode::Stable | ArgumentMode::Exact => harmless_alone(rules, Abi::X86_64, &call.name),
    };
    if ways.is_empty() {
        rules.allow(&call.name, Clause::default(), reason);
        return;
    }
    for (clause, _) in ways {
        rules.allow(&call.name, clause, reason.clone());
    }
}

/// The compute requests that a chosen branch has and no recorded one, each with the device seen that takes it. Where
/// no branch is recorded, those that some branch added.
fn added(
    chosen: &BTreeSet<u32>,
    recorded: &BTreeSet<u32>,
    devices: &BTreeSet<Device>,
) -> Vec<(&'static Request, Device)> {
    let is_new = |request: &&'static Request| {
        request.classes.contains(&RequestClass::Compute)
            && chosen.iter().any(|branch| request.forms_on(*branch).next().is_some())
            && !recorded.iter().any(|branch| request.forms_on(*branch).next().is_some())
            && (!recorded.is_empty() || request.forms.iter().all(|form| form.first.is_some()))
    };
    let on_seen = |request: &'static Request| {
        let device = request.devices.iter().find(|own| {
            let frontend = |device: &Device| matches!(device, Device::Control | Device::Gpu);
            devices.contains(own) || (frontend(own) && devices.iter().any(frontend))
        });
        Some((request, *device?))
    };
    nvidia::requests().iter().filter(is_new).filter_map(on_seen).collect()
}

/// Takes the observed rule for a request back.
fn take_back(rules: &mut Rules, request: &Request, seen: &Seen) {
    let never = masked(REQUEST, u64::from(u32::MAX), u64::from(seen.number));
    let Some(clauses) = rules.allowed.get_mut("ioctl") else { return };
    let before = clauses.len();
    clauses.retain(|clause, _| !never.covers(clause));
    if clauses.len() == before {
        return;
    }
    if clauses.is_empty() {
        rules.allowed.remove("ioctl");
    }
    // It is found here, and not for what the ceiling says.
    if let Some(tuples) = rules.seen.get_mut("ioctl") {
        tuples.retain(|tuple, _| !never.covers(tuple));
    }
    rules.findings.insert(Finding::NeverDerived {
        request: request.name.clone(),
        device: seen.path.clone(),
        calls: seen.calls,
    });
}

fn driver(request: &Request, device: Option<Device>, branches: BTreeSet<u32>, why: String) -> Reason {
    Reason::Driver {
        request: Some(request.name.clone()),
        device: device.map(|device| device.path().to_owned()),
        branches,
        why,
    }
}

fn clause(form: Form) -> Clause {
    masked(REQUEST, u64::from(form.mask), u64::from(form.value))
}

/// One test of masked equality.
fn masked(index: u32, mask: u64, value: u64) -> Clause {
    let condition = Condition { index, value: mask, value_two: value, op: Operator::MaskedEq };
    // A masked equality is one test.
    Clause::alternatives(&[condition], |_| false).into_iter().next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
