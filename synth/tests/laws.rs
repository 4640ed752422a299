//! Laws that hold for every trace and every choice of options, judged on compiled filters.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;
#[path = "common/generated.rs"]
mod generated;
#[path = "common/laws.rs"]
mod kept;

use std::sync::LazyLock;

use common::row;
use generated::{any_shown, in_sections, is_needed, shown};
use kept::laws;
use proptest::prelude::*;
use seccomp_learn_synth::{
    ArgumentMode, Capabilities, Ceiling, CompileOptions, Container, DefaultAction, Libseccomp, Lookup,
    Margin, Options, Program, Runtime, SeccompData, Synthesis, compile, host_knows, reference, references,
    simulate, synthesize,
};
use trace::{Abi, Trace};

/// The calls of an ABI that every supported libseccomp knows.
fn calls(abi: Abi) -> Vec<String> {
    // Of x86_64's calls that x32 does not have the table of names knows nothing.
    let x32 = "read write openat readv execve sendmsg ioctl ptrace futex mount socket clone clone3";
    if abi == Abi::X32 {
        return x32.split_whitespace().map(str::to_owned).collect();
    }
    let names = abi.numbers().map(|number| abi.name(number).to_string());
    names.filter(|name| Libseccomp::default().knows(name) && host_knows(name)).collect()
}

fn traces() -> impl Strategy<Value = Trace> {
    let some = |abi: Abi, most| prop::collection::btree_set(prop::sample::select(calls(abi)), 0..most);
    let ways = prop::collection::vec(any_shown(), 1..9);
    let calls = (some(Abi::X86_64, 60), some(Abi::I386, 8), some(Abi::X32, 8));
    (calls, ways, any::<bool>()).prop_filter_map("an empty trace", |((native, i386, x32), ways, exec)| {
        let of = |abi: Abi, names: std::collections::BTreeSet<String>| {
            // x32 shares most numbers; a number has one name only.
            names
                .into_iter()
                .filter(move |name| abi.number(name).is_some_and(|n| abi.name(n).to_string() == *name))
                .map(move |name| row(abi, &name, 2))
                .collect::<Vec<_>>()
        };
        let mut rows = of(Abi::X86_64, native);
        rows.extend(of(Abi::I386, i386));
        rows.extend(of(Abi::X32, x32));
        let rows: Vec<_> =
            rows.into_iter().zip(ways.iter().cycle()).map(|(row, way)| shown(row, *way)).collect();
        (!rows.is_empty()).then(|| in_sections(rows, exec, None))
    })
}

fn ceilings() -> Vec<Ceiling> {
    let mut ceilings = vec![Ceiling::RuntimeDefault, Ceiling::None];
    for reference in references() {
        for capabilities in [Capabilities::None, Capabilities::DockerDefault] {
            let container = Container { native: Abi::X86_64, capabilities, kernel: (6, 18) };
            ceilings.push(Ceiling::Profile(reference.resolve(&container)));
        }
    }
    ceilings
}

fn options() -> impl Strategy<Value = Options> {
    (
        prop::sample::select(vec![Margin::None, Margin::Portable]),
        prop::sample::select(vec![Runtime::Auto, Runtime::Runc, Runtime::Crun, Runtime::None]),
        prop::sample::select(ceilings()),
        prop::sample::select(vec![DefaultAction::Errno, DefaultAction::Log]),
        prop::sample::select(vec![ArgumentMode::Off, ArgumentMode::Stable, ArgumentMode::Exact]),
    )
        .prop_map(|(margin, runtime, ceiling, default_action, arguments)| Options {
            margin,
            runtime,
            ceiling,
            default_action,
            arguments,
            ..Options::default()
        })
}

fn program(synthesis: &Synthesis) -> Program {
    compile(&synthesis.profile, Abi::X86_64, CompileOptions::default()).unwrap()
}

fn executes(program: &Program, abi: Abi, number: u32, args: [u64; 6]) -> bool {
    simulate(program, &SeccompData::call(abi, number, args)).unwrap().executes()
}

/// Numbers at which conditions of the shipped profiles change their mind, and any others.
fn argument() -> impl Strategy<Value = u64> {
    let borders =
        [0u64, 8, 9, 12, 13, 16, 38, 39, 40, 41, 45, 46, 0x20000, 0x20008, 0x7e02_0000, 0xffff_ffff];
    prop_oneof![
        prop::sample::select(borders.to_vec()),
        0u64..64,
        any::<u64>(),
        (prop::sample::select(borders.to_vec()), any::<u32>())
            .prop_map(|(low, high)| low | u64::from(high) << 32),
        (0u32..64).prop_map(|bit| 1 << bit),
    ]
}

static CEILINGS: LazyLock<Vec<(Ceiling, Program)>> = LazyLock::new(|| {
    let bounding = ceilings().into_iter().filter_map(|ceiling| {
        let profile = match &ceiling {
            Ceiling::None => return None,
            Ceiling::Profile(profile) => profile.clone(),
            Ceiling::RuntimeDefault => {
                reference("runtime-default").unwrap().resolve(&Container::new(Abi::X86_64, (6, 18)))
            }
        };
        let program = compile(&profile, Abi::X86_64, CompileOptions::default()).unwrap();
        Some((ceiling, program))
    });
    bounding.collect()
});

proptest! {
    #![proptest_config(laws(64))]

    /// Every call that was needed is allowed, for some arguments, if the ceiling's own filter lets these through, and
    /// clone3 never; where it is refused the evidence names it.
    #[test]
    fn what_was_observed_is_allowed(trace in traces(), options in options()) {
        let synthesis = synthesize(&trace, &options).unwrap();
        let program = program(&synthesis);
        prop_assert!(program.unknown.is_empty() || !synthesis.evidence.enosys.is_empty());
        let bound = CEILINGS.iter().find(|(own, _)| *own == options.ceiling).map(|(_, program)| program);
        let exec = trace.exec.iter().flat_map(|exec| &exec.syscalls);
        for row in trace.syscalls.iter().chain(exec).filter(|row| is_needed(row)) {
            let allowed = synthesis.evidence.rules.iter().any(|rule| {
                rule.syscall == row.name && rule.allowed_in.contains(&row.abi)
            });
            // Allowed without arguments, or with a condition that these plain ones meet: no namespaces, AF_UNIX.
            let plain = [u64::from(row.name == "socket"), 0, 0, 0, 0, 0];
            let runs = executes(&program, row.abi, row.number, plain);
            let may = row.name != "clone3" && bound.is_none_or(|bound| executes(bound, row.abi, row.number, plain));
            prop_assert_eq!(allowed, may, "{} {}", row.abi, row.name);
            prop_assert_eq!(runs, may || options.default_action == DefaultAction::Log, "{} {}", row.abi, row.name);
            let named = synthesis.evidence.findings.iter().any(|finding| finding.syscall() == Some(&row.name));
            prop_assert!(may || named, "{} {}", row.abi, row.name);
        }
    }

    /// Whatever is allowed, the ceiling allows too, for any arguments.
    #[test]
    fn no_profile_is_wider_than_its_ceiling(
        trace in traces(),
        margin in prop::sample::select(vec![Margin::None, Margin::Portable]),
        which in 0..CEILINGS.len(),
        args in prop::collection::vec(prop::array::uniform6(argument()), 40),
    ) {
        let (ceiling, bound) = &CEILINGS[which];
        let options = Options { margin, ceiling: ceiling.clone(), ..Options::default() };
        let program = program(&synthesize(&trace, &options).unwrap());
        for abi in [Abi::X86_64, Abi::I386, Abi::X32] {
            for number in (0..560).chain([9999, 0x3fff_ffff]) {
                for args in args.iter().take(if abi == Abi::X86_64 { 40 } else { 4 }) {
                    if executes(&program, abi, number, *args) {
                        prop_assert!(executes(bound, abi, number, *args), "{abi} {} {args:x?}", abi.name(number));
                    }
                }
            }
        }
    }

    /// The same trace and options give the same bytes, and every rule says why it is there.
    #[test]
    fn the_same_evidence_gives_the_same_bytes(trace in traces(), options in options()) {
        let one = synthesize(&trace, &options).unwrap();
        let mut shuffled = trace.clone();
        shuffled.syscalls.reverse();
        shuffled.seal().unwrap();
        let other = synthesize(&shuffled, &options).unwrap();
        prop_assert_eq!(one.profile.to_json(), other.profile.to_json());
        prop_assert_eq!(one.evidence.to_json(), other.evidence.to_json());
        prop_assert!(one.evidence.rules.iter().all(|rule| !rule.reasons.is_empty()));
        let named: std::collections::BTreeSet<&str> =
            one.evidence.rules.iter().map(|rule| rule.syscall.as_str()).collect();
        prop_assert_eq!(named, one.profile.allowed());
        // Only equality, at most one condition for an argument.
        for entry in &one.profile.syscalls {
            prop_assert!(!seccomp_learn_synth::repeats_an_argument(&entry.args));
            use seccomp_learn_synth::Operator::{Eq, MaskedEq};
            prop_assert!(entry.args.iter().all(|condition| matches!(condition.op, Eq | MaskedEq)));
        }
    }

    /// How the library looks a call up changes nothing.
    #[test]
    fn the_lookup_changes_no_verdict(trace in traces(), args in prop::array::uniform6(argument())) {
        let synthesis = synthesize(&trace, &Options::default()).unwrap();
        let with = |lookup| {
            compile(&synthesis.profile, Abi::X86_64, CompileOptions::default().with_lookup(lookup)).unwrap()
        };
        let (linear, tree) = (with(Lookup::Linear), with(Lookup::Tree));
        for abi in [Abi::X86_64, Abi::I386, Abi::X32] {
            for number in 0..560 {
                let data = SeccompData::call(abi, number, args);
                prop_assert_eq!(simulate(&linear, &data).unwrap(), simulate(&tree, &data).unwrap());
            }
        }
    }
}
