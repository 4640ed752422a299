//! What a filter costs a workload: the mean is that of the calls one by one, and the emitted order is the cheaper one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::{called, row, trace};
use seccomp_learn_synth::{
    Answerer, Ceiling, CompileOptions, Container, CostLookup, CostOf, Entry, Lookup, Mix, Options, Profile,
    Runtime, ask, compile, cost, reference, synthesize,
};
use trace::{Abi, PhaseName, Trace};

fn docker() -> Profile {
    reference("docker").unwrap().resolve(&Container::new(Abi::X86_64, (6, 18)))
}

/// Ten reads, thirty calls of which Docker's default tests an argument, and one that it refuses.
fn mixed() -> Trace {
    let mut socket = called(Abi::X86_64, "socket", [[1, 1, 0], [16, 3, 0]]);
    let arguments = socket.arguments.as_mut().unwrap();
    (arguments.values[0].calls, arguments.values[1].calls) = (20, 10);
    socket.calls = 30;
    socket.outcomes = [(trace::Outcome::Ok, 30)].into();
    trace([row(Abi::X86_64, "read", 10), socket, row(Abi::X86_64, "kexec_load", 1)])
}

#[test]
fn a_mean_is_that_of_the_calls_one_by_one() {
    let trace = mixed();
    let docker = docker();
    let own = cost(&docker, Abi::X86_64, Some(&trace), CompileOptions::default()).unwrap();
    assert_eq!((own.mix, own.calls, own.assumed), (Mix::Recorded, 41, 11));
    assert_eq!(own.filters.len(), 4);
    for figures in &own.filters {
        let lookup = if figures.lookup == CostLookup::Linear { Lookup::Linear } else { Lookup::Tree };
        let program = compile(&docker, Abi::X86_64, CompileOptions::default().with_lookup(lookup)).unwrap();
        let mut sum = 0;
        let mut by_bitmap = 0;
        for (name, args, calls) in [
            ("read", [0; 3], 10),
            ("socket", [1, 1, 0], 20),
            ("socket", [16, 3, 0], 10),
            ("kexec_load", [0; 3], 1),
        ] {
            let [a, b, c] = args;
            let number = Abi::X86_64.number(name).unwrap();
            let answer = ask(&program, Abi::X86_64, number, [a, b, c, 0, 0, 0]).unwrap();
            sum += answer.instructions * calls;
            by_bitmap += if answer.by == Answerer::Bitmap { calls } else { 0 };
        }
        assert!((figures.mean - f64::from(sum) / 41.0).abs() < 0.001, "{figures:?}");
        assert!((figures.by_bitmap - f64::from(by_bitmap) / 41.0).abs() < 0.001, "{figures:?}");
        assert!(figures.mean_without_bitmap > figures.mean, "{figures:?}");
        assert_eq!(figures.length, program.instructions.len());
        assert_eq!(figures.loaded, figures.lookup == CostLookup::Tree, "Docker's has more than eight names");
    }
    let names: Vec<&str> = own.hottest.iter().map(|call| call.syscall.as_str()).collect();
    assert_eq!(names, ["socket", "read", "kexec_load"]);
    assert_eq!(own.hottest[1].instructions, [0.0; 4], "the bitmap answers it");
    assert!(own.hottest[0].instructions.iter().all(|mean| *mean > 5.0));
    // Twice the same profile: twice the same figures.
    let of = |of: CostOf| own.filters.iter().filter(move |own| own.filter == of).map(|own| own.mean);
    assert!(of(CostOf::Profile).eq(of(CostOf::Docker)));
}

#[test]
fn without_a_recording_every_call_counts_once() {
    let own = cost(&docker(), Abi::Aarch64, None, CompileOptions::default()).unwrap();
    assert_eq!(own.mix, Mix::Uniform);
    assert_eq!(own.calls, Abi::Aarch64.numbers().count() as u64);
}

/// A trace that no program could make: nothing overflows.
#[test]
fn counts_at_their_end_are_counts() {
    let calls = trace([row(Abi::X86_64, "read", u64::MAX), row(Abi::X86_64, "kexec_load", u64::MAX)]);
    let own = cost(&docker(), Abi::X86_64, Some(&calls), CompileOptions::default()).unwrap();
    assert_eq!(own.calls, u64::MAX);
}

/// Alternatives stand in the order of what they answer, the most first, and no other order of them is cheaper.
#[test]
fn the_alternatives_of_a_call_stand_in_the_cheapest_order() {
    let calls = [([3, 0x22], 40), ([1, 2], 9), ([5, 0x812], 300), ([0, 0x4022], 6), ([1, 1], 1)];
    let mut mmap = called(Abi::X86_64, "mmap", calls.map(|(args, _)| args));
    let arguments = mmap.arguments.as_mut().unwrap();
    for values in &mut arguments.values {
        values.calls = calls.iter().find(|(args, _)| args[..] == values.arguments[..]).unwrap().1;
        values.phases = [PhaseName::Startup].into();
    }
    mmap.calls = calls.iter().map(|(_, calls)| calls).sum();
    mmap.outcomes = [(trace::Outcome::Ok, mmap.calls)].into();
    let trace = trace([mmap, row(Abi::X86_64, "read", 1)]);
    let options = Options { runtime: Runtime::None, ceiling: Ceiling::None, ..Options::default() };
    let made = synthesize(&trace, &options).unwrap().profile;
    let is_mmap = |entry: &Entry| entry.names == ["mmap"];
    let alternatives: Vec<Entry> = made.syscalls.iter().filter(|entry| is_mmap(entry)).cloned().collect();
    assert!(alternatives.len() > 2, "{alternatives:?}");
    let hits = |entry: &Entry| -> u64 {
        let hit = |args: [u64; 2]| entry.args.iter().all(|own| own.holds(&[0, 0, args[0], args[1], 0, 0]));
        calls.iter().filter(|(args, _)| hit(*args)).map(|(_, calls)| calls).sum()
    };
    assert!(alternatives.iter().map(hits).is_sorted_by(|a, b| a >= b));
    let mean = |profile: &Profile| {
        cost(profile, Abi::X86_64, Some(&trace), CompileOptions::default()).unwrap().filters[1].mean
    };
    let mut orders = vec![Vec::new()];
    for entry in &alternatives {
        let at_each = |order: &Vec<Entry>| {
            let order = order.clone();
            (0..=order.len()).map(move |at| {
                let mut longer = order.clone();
                longer.insert(at, entry.clone());
                longer
            })
        };
        orders = orders.iter().flat_map(at_each).take(120).collect();
    }
    let means: Vec<f64> = orders
        .into_iter()
        .map(|order| {
            let mut other = made.clone();
            let mut order = order.into_iter();
            for entry in other.syscalls.iter_mut().filter(|entry| is_mmap(entry)) {
                *entry = order.next().unwrap();
            }
            mean(&other)
        })
        .collect();
    let own = mean(&made);
    assert!(means.iter().all(|other| own <= *other), "{own} is not the least of {means:?}");
    assert!(means.iter().any(|other| own < *other), "no order costs more than {own}");
}
