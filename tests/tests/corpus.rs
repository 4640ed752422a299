//! What the default profiles of three services take from the attack corpus, and what each way of testing arguments
//! costs and gives: `cargo test --test corpus -- --nocapture` prints the README's table.

use std::{collections::BTreeSet, path::Path};

use seccomp_learn_tests::{
    cli::read_trace,
    inference::INFERENCE,
    learned::{self, profile},
    programs::{Workload, program},
    require,
};
use synth::{
    AttackVerdict, CompileOptions, Container, Profile, Program, SeccompData, attack_score, compile,
    reference, simulate,
};
use trace::{Abi, Trace};

const ABI: Abi = Abi::X86_64;
/// How many rows of the corpus the default profile of each has to block.
const BLOCKED: usize = 95;
/// How many Docker's default profile blocks, and of how many.
const DOCKER: (usize, usize) = (62, 111);
/// From the widest to the narrowest.
const MODES: [&str; 3] = ["off", "stable", "exact"];

/// A profile with what it comes to.
struct Made {
    mode: &'static str,
    profile: Profile,
    program: Program,
    blocked: usize,
}

impl Made {
    fn new(mode: &'static str, trace: &Path, folder: &Path) -> Self {
        let output = folder.join(format!("{mode}.json"));
        learned::synthesize(&[trace.to_owned()], &output, &["--arguments", mode]);
        let profile = profile(&output);
        let program = compile(&profile, ABI, CompileOptions::default()).unwrap();
        let blocked = attack_score(&profile, ABI).unwrap().blocked();
        Self { mode, profile, program, blocked }
    }

    /// One rule for each call and condition, as libseccomp is given them.
    fn rules(&self) -> usize {
        let allowing = self.profile.syscalls.iter().filter(|entry| entry.action.executes());
        allowing.map(|entry| entry.names.len()).sum()
    }

    fn line(&self, name: &str) -> String {
        format!(
            "| {name} | `{}` | {} | {} | {} | {} |",
            self.mode,
            self.profile.allowed().len(),
            self.rules(),
            self.program.instructions.len(),
            self.blocked
        )
    }

    fn executes(&self, data: &SeccompData) -> bool {
        simulate(&self.program, data).unwrap().executes()
    }
}

/// What was recorded, and each call with one bit of one kept argument changed.
fn around(trace: &Trace) -> Vec<SeccompData> {
    let mut calls = Vec::new();
    for row in trace.syscalls.iter().filter(|row| row.abi == ABI) {
        calls.push(SeccompData::call(ABI, row.number, [0; 6]));
        let Some(arguments) = &row.arguments else { continue };
        for values in &arguments.values {
            let mut registers = [0; 6];
            let in_registers =
                || arguments.kept.iter().zip(&values.arguments).filter(|(kept, _)| kept.offset.is_none());
            for (kept, value) in in_registers() {
                registers[kept.index as usize] = *value;
            }
            calls.push(SeccompData::call(ABI, row.number, registers));
            for (kept, _) in in_registers() {
                calls.extend((0..64).map(|bit| {
                    let mut changed = registers;
                    changed[kept.index as usize] ^= 1 << bit;
                    SeccompData::call(ABI, row.number, changed)
                }));
            }
        }
    }
    calls
}

/// Each is at most as wide as the one before it, and all allow what was recorded.
fn narrower_and_narrower(name: &str, trace: &Trace, made: &[Made]) {
    let calls = around(trace);
    for pair in made.windows(2) {
        let [wide, narrow] = pair else { unreachable!("windows of two") };
        let between = format!("{name}: {} and {}", wide.mode, narrow.mode);
        let (more, less): (BTreeSet<_>, BTreeSet<_>) = (wide.profile.allowed(), narrow.profile.allowed());
        assert!(less.is_subset(&more), "{between}: {:?}", less.difference(&more));
        assert!(narrow.blocked >= wide.blocked, "{between}: {} and {} rows", wide.blocked, narrow.blocked);
        let wider: Vec<_> =
            calls.iter().filter(|data| narrow.executes(data) && !wide.executes(data)).collect();
        assert!(wider.is_empty(), "{between}: {wider:x?}");
    }
    let count = |made: &Made| calls.iter().filter(|data| made.executes(data)).count();
    assert!(
        count(&made[0]) > count(&made[1]) && count(&made[1]) >= count(&made[2]),
        "{name}: conditions do nothing"
    );
}

/// The default profile's score, with every row that stays open.
fn scores(name: &str, made: &Made) {
    let score = attack_score(&made.profile, ABI).unwrap();
    let controls: Vec<&str> = score
        .rows
        .iter()
        .filter(|(attack, verdict)| attack.control && *verdict != AttackVerdict::Outside)
        .map(|(attack, _)| attack.name.as_str())
        .collect();
    println!(
        "\n{name}: {} of {} blocked; controls apart: {}",
        score.blocked(),
        score.decided(),
        controls.join(", ")
    );
    for (attack, calls) in score.open() {
        let calls: Vec<String> = calls.iter().map(|call| call.in_words(ABI)).collect();
        println!("  open: {} ({}): {}", attack.name, attack.class, calls.join(", "));
    }
    assert_eq!(score.decided(), DOCKER.1);
    assert_eq!(controls.len(), 3);
    assert!(score.blocked() >= BLOCKED, "{name}: {} of {} blocked", score.blocked(), score.decided());
}

fn check(name: &str, workload: &Workload) {
    let folder = tempfile::tempdir().unwrap();
    let traces = learned::record(workload, folder.path(), 1);
    let trace = read_trace(&traces[0]);
    let made = MODES.map(|mode| Made::new(mode, &traces[0], folder.path()));
    println!(
        "\n| workload | `--arguments` | calls | rules | BPF instructions | rows blocked of {} |",
        DOCKER.1
    );
    println!("|---|---|---|---|---|---|");
    made.iter().for_each(|made| println!("{}", made.line(name)));
    narrower_and_narrower(name, &trace, &made);
    scores(name, &made[1]);
}

fn service(name: &str) {
    let Some(program) = program(name) else { return };
    let folder = tempfile::tempdir().unwrap();
    check(name, &(program.prepare)(folder.path()));
}

#[test]
fn nginx() {
    require!();
    service("nginx");
}

#[test]
fn redis() {
    require!();
    service("redis");
}

#[test]
fn inference() {
    require!();
    check("inference", &INFERENCE.workload());
}

#[test]
fn dockers_default() {
    let docker = reference("docker").unwrap().resolve(&Container::new(ABI, (6, 18)));
    let score = attack_score(&docker, ABI).unwrap();
    assert_eq!((score.blocked(), score.decided()), DOCKER);
}
