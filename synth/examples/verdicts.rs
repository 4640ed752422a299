//! How fast the simulator answers: Docker's default profile, numbers drawn uniformly from the kernel's table, random
//! arguments, each way to compile it, one core. Run by `cargo xtask bench replay`.

#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "an example that measures and prints"
)]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use seccomp_learn_synth::{
    CompileOptions, Container, Lookup, Machine, SeccompData, compile, execute, reference,
};
use trace::Abi;

/// Enough calls that no cache holds them and their answers.
const CALLS: usize = 1 << 16;

/// Sebastiano Vigna's generator, <https://prng.di.unimi.it/splitmix64.c> (public domain).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// Verdicts a second: the median over rows of calls, which what else runs here hits only in part.
fn rate(calls: &[SeccompData], mut verdict: impl FnMut(&SeccompData) -> u32) -> f64 {
    let mut rows = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) || rows.len() < 5 {
        let row = Instant::now();
        for call in calls {
            black_box(verdict(black_box(call)));
        }
        rows.push(calls.len() as f64 / row.elapsed().as_secs_f64());
    }
    rows.sort_by(f64::total_cmp);
    rows[rows.len() / 2]
}

fn main() {
    let docker = reference("docker").unwrap().resolve(&Container::new(Abi::X86_64, (6, 18)));
    let last = Abi::X86_64.numbers().max().unwrap();
    let mut state = 1;
    let calls: Vec<SeccompData> = (0..CALLS)
        .map(|_| {
            let number = (random(&mut state) % u64::from(last + 1)) as u32;
            SeccompData::call(Abi::X86_64, number, std::array::from_fn(|_| random(&mut state)))
        })
        .collect();
    println!("Docker's default, numbers 0 to {last} drawn uniformly, random arguments, one core");
    println!(
        "| lookup | filter | instructions per verdict | prepared: million verdicts/s | plain interpreter: million verdicts/s | prepared in |"
    );
    println!("|---|---|---|---|---|---|");
    for lookup in [Lookup::Linear, Lookup::Tree] {
        let program = compile(&docker, Abi::X86_64, CompileOptions::default().with_lookup(lookup)).unwrap();
        let begin = Instant::now();
        let machine = Machine::new(&program).unwrap();
        let made = begin.elapsed();
        let ran: u64 = calls.iter().map(|call| u64::from(machine.run(call).instructions)).sum();
        let prepared = rate(&calls, |call| machine.run(call).ret);
        let plain = rate(&calls, |call| execute(&program, call).unwrap().ret);
        println!(
            "| {} | {} | {:.1} | {:.1} | {:.1} | {:.2} ms |",
            if lookup == Lookup::Linear { "linear" } else { "tree" },
            program.instructions.len(),
            ran as f64 / calls.len() as f64,
            prepared / 1e6,
            plain / 1e6,
            made.as_secs_f64() * 1e3,
        );
    }
}
