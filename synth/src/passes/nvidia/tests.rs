//! Profiles of traces that look like those of a driver branch: what they allow on that branch and on the others.

use std::collections::{BTreeMap, BTreeSet};

use trace::{
    Arguments, Backend, FileKind, FirstSight, Kept, Outcome, PhaseName, Recorder, Row, Target, TargetKind,
    merge,
};

use super::*;
use crate::{
    CompileOptions, Program, Runtime, SeccompData, Synthesis, compile,
    nvidia::{Branch, branches, compute_set, is_branch},
    simulate, synthesize,
};

const UVM: (&str, &str) = ("/dev/nvidia-uvm", "510:0");

fn first() -> FirstSight {
    FirstSight { after_ms: 3, pid: 4711, comm: "python3".to_owned() }
}

fn row(name: &str, calls: u64) -> Row {
    Row {
        abi: Abi::X86_64,
        number: Abi::X86_64.number(name).unwrap(),
        name: name.to_owned(),
        calls,
        runs: 1,
        denied: 0,
        outcomes: BTreeMap::from([(Outcome::Ok, calls)]),
        refusals: BTreeMap::new(),
        in_flight: 0,
        never_returned: 0,
        phases: BTreeSet::from([PhaseName::Startup]),
        first: first(),
        arguments: None,
    }
}

/// The device files as a host has them.
fn place(device: Device) -> (&'static str, &'static str) {
    match device {
        Device::Control => ("/dev/nvidiactl", "195:255"),
        Device::Gpu => ("/dev/nvidia0", "195:0"),
        _ => UVM,
    }
}

/// A run under this driver that made these requests.
fn trace(version: &str, requests: &[((&str, &str), u32)]) -> Trace {
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
    target.gpu_driver = Some(GpuDriver { vendor: "nvidia".to_owned(), version: version.to_owned() });
    target.gpu = Some(!requests.is_empty());
    let requests: BTreeSet<_> = requests.iter().collect();
    let values: Vec<Values> = requests
        .iter()
        .map(|((path, device), number)| Values {
            arguments: vec![u64::from(*number)],
            calls: 2,
            denied: 0,
            runs: 1,
            upper: BTreeSet::new(),
            file: Some(File {
                kind: FileKind::CharacterDevice,
                device: Some((*device).to_owned()),
                path: Some((*path).to_owned()),
            }),
            phases: BTreeSet::from([PhaseName::Startup]),
            first: first(),
        })
        .collect();
    let mut ioctl = row("ioctl", 2 * values.len() as u64);
    let request = Kept { index: 1, offset: None, name: "request".to_owned(), mask: u64::from(u32::MAX) };
    ioctl.arguments = Some(Arguments::of(vec![request], values));
    let mut trace = Trace::new(recorder, target);
    trace.complete = true;
    trace.syscalls = vec![row("read", 1), row("openat", 1)];
    if !requests.is_empty() {
        trace.syscalls.push(ioctl);
    }
    trace.syscalls.sort_by_key(|row| row.number);
    trace.seal().unwrap();
    trace
}

/// What a compute workload asks for on a branch: each request once, of an array one size.
fn compute(branch: u32) -> Vec<((&'static str, &'static str), u32)> {
    compute_set(branch)
        .unwrap()
        .into_iter()
        .map(|(request, form)| {
            let device = *request.devices.iter().next().unwrap();
            let size = if form.mask == u32::MAX { 0 } else { 64 << 16 };
            (place(device), form.value | size)
        })
        .collect()
}

fn options(drivers: &[u32]) -> Options {
    let gpu_drivers = if drivers.is_empty() {
        GpuDrivers::All
    } else {
        GpuDrivers::Only(drivers.iter().copied().collect())
    };
    Options { gpu_drivers, runtime: Runtime::None, ..Options::default() }
}

fn made(trace: &Trace, drivers: &[u32]) -> Synthesis {
    synthesize(trace, &options(drivers)).unwrap()
}

/// Whether the compiled profile lets a request through.
fn allows(made: &Synthesis) -> impl Fn(u64) -> bool + use<> {
    let program: Program = compile(&made.profile, Abi::X86_64, CompileOptions::default()).unwrap();
    move |request| {
        let call = SeccompData::call(Abi::X86_64, 16, [3, request, 0x1000, 0, 0, 0]);
        simulate(&program, &call).unwrap().executes()
    }
}

#[test]
fn a_trace_of_535_gives_a_profile_for_every_later_branch() {
    let made = made(&trace("535.104.05", &compute(535)), &[]);
    let allows = allows(&made);
    let later: Vec<&Branch> = branches().iter().filter(|branch| branch.number >= 535).collect();
    assert!(later.len() > 8);
    let mut checked = 0;
    for branch in later {
        for (request, form) in compute_set(branch.number).unwrap() {
            let sizes: &[u32] = if form.mask == u32::MAX { &[0] } else { &[4, 64, 72, 0x3fff] };
            for size in sizes {
                let number = form.value | size << 16;
                let extended = i64::from(number.cast_signed()).cast_unsigned();
                assert!(allows(u64::from(number)), "{} {number:#x} on {}", request.name, branch.number);
                assert!(allows(extended), "{} {extended:#x}", request.name);
                checked += 1;
            }
        }
    }
    assert!(checked > 400, "{checked}");
    // Neither what a container does not need nor what carries out any other.
    for number in [0xc010_46d3, 0xc010_46d2, 0x5412, 62, 63, 2047] {
        assert!(!allows(number), "{number:#x}");
    }
    assert!(made.profile.allowed().contains("memfd_create"));
}

#[test]
fn what_is_widened_is_labelled_with_its_branches() {
    // `NVOS46_PARAMETERS`, of the frontend, grew with 580.
    let mut requests = compute(535);
    requests.push((place(Device::Control), 0xc038_4657));
    let made = made(&trace("535.104.05", &requests), &[]);
    let rules = |request: &str| {
        let reasons = made.evidence.rules.iter().filter(|rule| rule.syscall == "ioctl");
        let reasons = reasons.flat_map(|rule| rule.reasons.iter().map(move |reason| (rule.observed, reason)));
        let driver = reasons.filter_map(|(observed, reason)| match reason {
            Reason::Driver { request: Some(own), branches, device, .. } if own == request => {
                Some((observed, branches.clone(), device.clone()))
            }
            _ => None,
        });
        driver.collect::<Vec<_>>()
    };
    let grown = rules("NV_ESC_RM_MAP_MEMORY_DMA");
    let expected: BTreeSet<u32> = branches().iter().map(|own| own.number).filter(|own| *own >= 580).collect();
    assert!(grown.iter().any(|(observed, own, _)| !observed && *own == expected), "{grown:?}");
    let added = rules("NV_ESC_WAIT_OPEN_COMPLETE");
    assert!(
        added.iter().all(|(observed, own, _)| !observed && own.iter().all(|own| *own >= 550)),
        "{added:?}"
    );
    assert!(!added.is_empty());
    let array = rules("NV_ESC_CARD_INFO");
    assert!(array.iter().any(|(_, own, device)| {
        own.len() == branches().len() && device.as_deref() == Some("/dev/nvidiactl")
    }));
}

#[test]
fn one_branch_alone_gets_nothing_of_another() {
    let made = made(&trace("535.104.05", &compute(535)), &[535]);
    let allows = allows(&made);
    for (request, form) in compute_set(535).unwrap() {
        assert!(allows(u64::from(form.value)), "{}", request.name);
    }
    let own: BTreeSet<u32> = compute(535).into_iter().map(|(_, number)| number).collect();
    let mut newer = 0;
    for (request, form) in compute_set(580).unwrap() {
        if form.mask == u32::MAX && !own.contains(&form.value) {
            assert!(!allows(u64::from(form.value)), "{} {form}", request.name);
            newer += 1;
        }
    }
    assert!(newer > 0);
    assert!(!made.profile.allowed().contains("memfd_create"));
}

#[test]
fn an_array_passes_with_every_size() {
    let allows = allows(&made(&trace("570.86.15", &[(place(Device::Control), 0xc900_46c8)]), &[570]));
    for size in [0_u64, 4, 0x48, 0x900, 0x3fff] {
        assert!(allows(0xc000_46c8 | size << 16), "{size:#x}");
    }
    assert!(!allows(0x4000_46c8) && !allows(0xc900_46c9));
}

#[test]
fn only_devices_that_were_seen_are_widened() {
    let made = made(&trace("535.104.05", &[(place(Device::Control), 0xc900_46c8)]), &[]);
    let allows = allows(&made);
    assert!(allows(0xc008_46da), "added by 550 to the frontend");
    assert!(!allows(75), "nvidia-uvm was not used");
}

#[test]
fn a_request_that_carries_out_any_other_is_taken_back() {
    for number in [0xc010_46d3, 0x0010_00d3] {
        let requests = [(place(Device::Gpu), number), (place(Device::Control), 0xc020_462a)];
        let made = made(&trace("570.86.15", &requests), &[]);
        let allows = allows(&made);
        assert!(!allows(u64::from(number)), "{number:#x}");
        assert!(allows(0xc020_462a));
        let expected = Finding::NeverDerived {
            request: "NV_ESC_IOCTL_XFER_CMD".to_owned(),
            device: "/dev/nvidia0".to_owned(),
            calls: 2,
        };
        let about: Vec<_> =
            made.evidence.findings.iter().filter(|finding| finding.syscall() == Some("ioctl")).collect();
        assert_eq!(about, [&expected]);
    }
    // On another file the number is another driver's.
    let other = trace("570.86.15", &[(("/dev/snd/controlC0", "116:0"), 0xc010_46d3)]);
    assert!(allows(&made(&other, &[]))(0xc010_46d3));
}

#[test]
fn what_no_table_is_about_is_refused() {
    let refused = |trace: &Trace, drivers: &[u32]| {
        let error = synthesize(trace, &options(drivers)).unwrap_err();
        assert!(error.is_incomplete_evidence(), "{error}");
        error.to_string()
    };
    let requests = compute(535);
    assert!(!is_branch(999));
    assert!(refused(&trace("999.1", &requests), &[]).contains("999.1"));
    assert!(refused(&trace("nonsense", &requests), &[]).contains("nonsense"));
    assert!(refused(&trace("535.104.05", &requests), &[535, 999]).contains("999"));
    let mixed = merge([trace("535.104.05", &requests), trace("535.104.05", &[])]).unwrap();
    let said = refused(&mixed, &[]);
    assert!(said.contains("some runs used a GPU") && said.contains("sha256:"), "{said}");
    // A host's driver is nothing to a workload without a GPU.
    synthesize(&trace("999.1", &[]), &options(&[])).unwrap();
}

#[test]
fn a_workload_without_a_gpu_is_left_alone() {
    let made = made(&trace("535.104.05", &[]), &[]);
    let reasons = made.evidence.rules.iter().flat_map(|rule| &rule.reasons);
    assert_eq!(reasons.filter(|reason| matches!(reason, Reason::Driver { .. })).count(), 0);
}
