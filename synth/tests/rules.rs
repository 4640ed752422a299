//! Every rule with conditions, of every profile in the repository: the call that it is made for passes, whatever is
//! in the bits that it does not compare; and each argument changed in a bit that it compares is refused, unless
//! another rule allows that. By the simulator, and by the real kernel.

#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "common/oracle.rs"]
mod oracle;
#[path = "common/profiles.rs"]
mod profiles;

use std::collections::BTreeSet;

use oracle::{Asked, Call, SplitMix, ask_kernel, expected, skip};
use seccomp_learn_synth::{
    CompileOptions, Condition, Entry, Execution, Machine, Operator, Profile, SeccompData, compile, decode,
    display_conditions, repeats_an_argument,
};
use trace::Abi;

/// A call, and what the rules say about it.
struct Case {
    call: Call,
    allowed: bool,
    rule: String,
}

#[test]
fn what_a_rule_allows_passes_and_what_it_does_not_is_refused() {
    let mut asked = true;
    for (name, profile) in profiles::repository() {
        let (rules, cases) = cases(&name, &profile);
        let program = compile(&profile, Abi::X86_64, CompileOptions::default()).unwrap();
        let machine = Machine::new(&program).unwrap();
        let simulated: Vec<Execution> = cases.iter().map(|case| run(&machine, &case.call)).collect();
        for (case, execution) in cases.iter().zip(&simulated) {
            let (number, args) = case.call;
            assert_eq!(
                execution.verdict.executes(),
                case.allowed,
                "{name}: {}: {number} {args:x?}",
                case.rule
            );
        }
        let calls: Vec<Call> = cases.iter().map(|case| case.call).collect();
        match ask_kernel(&program, &calls) {
            Asked::Answers(answers) => {
                for ((case, execution), answer) in cases.iter().zip(&simulated).zip(answers) {
                    assert_eq!(answer, expected(*execution), "{name}: {}: {:x?}", case.rule, case.call);
                }
            }
            Asked::NoFilter => asked = false,
            Asked::Ended(signal) => panic!("{name}: signal {signal}"),
        }
        let allowed = cases.iter().filter(|case| case.allowed).count();
        println!(
            "{name}: {rules} rules with conditions: {allowed} calls pass, {} refused",
            cases.len() - allowed
        );
    }
    if !asked {
        skip("this process may not load a filter: the simulator alone was asked");
    }
}

/// What the workloads called passes under their profiles, or their evidence has a finding about the call.
#[test]
fn what_was_observed_passes() {
    let mut workloads = 0;
    for (name, profile) in profiles::repository() {
        let Some((traces, findings)) = profiles::evidence(&name) else { continue };
        workloads += 1;
        let program = compile(&profile, Abi::X86_64, CompileOptions::default()).unwrap();
        let machine = Machine::new(&program).unwrap();
        let found = |syscall: &str| findings.as_array().unwrap().iter().any(|one| one["syscall"] == syscall);
        let (mut calls, mut refused) = (Vec::new(), BTreeSet::new());
        for row in traces.iter().flat_map(|trace| &trace.syscalls).filter(|row| row.abi == Abi::X86_64) {
            for (arguments, values) in
                row.arguments.iter().flat_map(|own| own.values.iter().map(move |values| (own, values)))
            {
                let mut args = decode::registers(&arguments.kept, values);
                // What was in the halves that the kernel does not read.
                for kept in arguments.kept.iter().filter(|kept| values.upper.contains(&kept.name)) {
                    args[kept.index as usize] |= 0xffff_ffff << 32;
                }
                calls.push((row.number, args));
                let executes = run(&machine, &(row.number, args)).verdict.executes();
                assert!(executes || found(&row.name), "{name}: {} {args:x?} is refused", row.name);
                if !executes {
                    refused.insert(row.name.clone());
                }
            }
        }
        if let Asked::Answers(answers) = ask_kernel(&program, &calls) {
            for (call, answer) in calls.iter().zip(answers) {
                assert_eq!(answer, expected(run(&machine, call)), "{name}: {call:x?}");
            }
        }
        println!("{name}: {} observed tuples pass but for those of {refused:?}, each a finding", calls.len());
        assert!(calls.len() > 50, "{name}: {}", calls.len());
    }
    println!("{workloads} workloads");
}

fn run(machine: &Machine, (number, args): &Call) -> Execution {
    machine.run(&SeccompData::call(Abi::X86_64, *number, *args))
}

/// The calls that show the profile's rules at work, and how many rules those are.
fn cases(name: &str, profile: &Profile) -> (usize, Vec<Case>) {
    let mut random = SplitMix(7);
    let mut cases = Vec::new();
    let mut rules = 0;
    let conditioned =
        profile.syscalls.iter().filter(|entry| entry.action.executes() && !entry.args.is_empty());
    for (entry, syscall) in conditioned.flat_map(|entry| entry.names.iter().map(move |name| (entry, name))) {
        let Some(number) = Abi::X86_64.number(syscall) else { continue };
        rules += 1;
        let rule = format!("{syscall} when {}", display_conditions(&entry.args));
        let own: Vec<&Entry> = profile
            .syscalls
            .iter()
            .filter(|entry| entry.action.executes() && entry.names.contains(syscall))
            .collect();
        let mut push = |args: [u64; 6]| {
            let allowed = own.iter().any(|entry| allows(entry, &args));
            cases.push(Case { call: (number, args), allowed, rule: rule.clone() });
            allowed
        };
        let (mut witness, free) = witness(&entry.args);
        assert!(push(witness), "{name}: {rule}: nothing passes");
        // What is not compared does not matter.
        for (argument, free) in witness.iter_mut().zip(free) {
            *argument |= free & random.next();
        }
        assert!(push(witness), "{name}: {rule}: it compares more than it says");
        for condition in &entry.args {
            let index = condition.index as usize;
            // Where they compare with < or !=, what lies next to the borders.
            let borders = own
                .iter()
                .flat_map(|entry| &entry.args)
                .filter(|own| own.index == condition.index && own.op != Operator::MaskedEq);
            let near =
                borders.flat_map(|own| [own.value.wrapping_sub(1), own.value, own.value.wrapping_add(1)]);
            let mut changes = changes(!free[index], &mut random);
            changes.extend(near.map(|value| value ^ witness[index]));
            let mut refused = 0;
            for change in changes {
                let mut args = witness;
                args[index] ^= change;
                refused += usize::from(!push(args));
            }
            let widest = own.iter().all(|entry| entry.args.iter().any(|own| own.index == condition.index));
            assert!(refused > 0 || !widest, "{name}: {rule}: arg{index} may be anything");
        }
    }
    (rules, cases)
}

/// Changes of an argument in the bits that are compared: each alone, two at a time where they are few, and any.
fn changes(compared: u64, random: &mut SplitMix) -> Vec<u64> {
    let bits: Vec<u64> = (0..64).map(|bit| 1 << bit).filter(|bit| compared & bit != 0).collect();
    let mut changes = bits.clone();
    if bits.len() <= 8 {
        changes.extend(bits.iter().flat_map(|one| bits.iter().map(move |other| one | other)));
    }
    changes.extend((0..8).map(|_| random.next() & compared).filter(|change| *change != 0));
    changes
}

/// Arguments that meet the conditions, and for each argument the bits that no condition compares.
fn witness(conditions: &[Condition]) -> ([u64; 6], [u64; 6]) {
    let (mut args, mut free) = ([0; 6], [u64::MAX; 6]);
    for condition in conditions {
        let index = condition.index as usize;
        let Condition { value, value_two, .. } = *condition;
        let candidates = [value_two & value, value, value.wrapping_add(1), value.wrapping_sub(1)];
        let met = |candidate: &u64| {
            let mut args = args;
            args[index] = *candidate;
            condition.holds(&args)
        };
        args[index] = *candidates.iter().find(|candidate| met(candidate)).unwrap();
        free[index] &= if condition.op == Operator::MaskedEq { !value } else { 0 };
    }
    (args, free)
}

/// What an entry says about arguments, without any filter; conditions on one argument twice are alternatives.
fn allows(entry: &Entry, args: &[u64; 6]) -> bool {
    let mut holds = entry.args.iter().map(|condition| condition.holds(args));
    if repeats_an_argument(&entry.args) { holds.any(|holds| holds) } else { holds.all(|holds| holds) }
}
