//! What a filter costs this workload: instructions of the filter for each call, over the workload's own mix.
//!
//! Instructions are what a profile decides; how long one takes is the host's business (`cargo xtask bench filter`
//! measures that). Since Linux 5.11 a call that is allowed whatever its arguments costs none: the kernel's bitmap
//! answers it.

use schemars::JsonSchema;
use serde::Serialize;
use trace::{Abi, Row, Trace};

use crate::{
    compile::{CompileError, CompileOptions, Lookup, Program, compile},
    decode::registers,
    kernel::{bypasses_filters, is_constant_allow},
    profile::Profile,
    reference::{Container, reference},
    simulate::{SeccompData, SimulateError, execute},
};

/// How many calls are listed one by one.
const HOTTEST: usize = 20;

/// The kernel whose engine defaults stand beside: with every rule that asks for a newer one.
const KERNEL: (u32, u32) = (6, 18);

/// What filters cost a mix of calls.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Cost {
    /// Which calls the means are over.
    pub mix: Mix,
    /// How many calls that is.
    pub calls: u64,
    /// Of these, those whose arguments were not recorded; they are judged with zeros.
    pub assumed: u64,
    /// The profile's filter and that of Docker's default, each looked up in both ways.
    pub filters: Vec<FilterCost>,
    /// The calls that are made most often, the first the most often.
    pub hottest: Vec<CallCost>,
}

/// Which calls means are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mix {
    /// What was recorded, as often as it was.
    Recorded,
    /// Every call of the machine's own ABI once: there is no recording.
    Uniform,
}

/// What one filter costs.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct FilterCost {
    /// Whose filter.
    pub filter: CostOf,
    /// How it looks a call up.
    pub lookup: CostLookup,
    /// Whether this is the one that runc makes of the profile.
    pub loaded: bool,
    /// How many instructions it has.
    pub length: usize,
    /// Instructions that run for a call, on average.
    pub mean: f64,
    /// The same on a kernel before 5.11, which has no bitmap.
    pub mean_without_bitmap: f64,
    /// The share of the calls that the kernel's bitmap answers.
    pub by_bitmap: f64,
}

/// Whose filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CostOf {
    /// The profile's.
    Profile,
    /// That of Docker's default.
    Docker,
}

/// How a filter looks a call up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CostLookup {
    /// One comparison after the other.
    Linear,
    /// By a binary tree.
    Tree,
}

/// What filters cost one call.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct CallCost {
    /// The ABI through which it was called.
    pub abi: Abi,
    /// The syscall.
    pub syscall: String,
    /// How often.
    pub calls: u64,
    /// That as a share of all calls.
    pub share: f64,
    /// Instructions that run for it on average, in the order of [`Cost::filters`].
    pub instructions: Vec<f64>,
}

/// A profile whose cost cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum CostError {
    /// It cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// Its filter is none that a kernel would take.
    #[error(transparent)]
    Simulate(#[from] SimulateError),
}

/// Some calls of a mix: the same syscall with the same registers.
struct Calls {
    args: [u64; 6],
    calls: u64,
}

/// What one syscall of a mix is called with.
struct Called {
    abi: Abi,
    number: u32,
    calls: u64,
    with: Vec<Calls>,
}

/// Instructions that ran, all calls together.
#[derive(Clone, Copy, Default)]
struct Sum {
    with_bitmap: u128,
    without: u128,
    by_bitmap: u128,
}

/// What the profile's filter and that of Docker's default cost the workload that was recorded; without a recording,
/// what they cost each call of the machine's own ABI once.
///
/// # Errors
/// See [`CostError`].
pub fn cost(
    profile: &Profile,
    native: Abi,
    trace: Option<&Trace>,
    options: CompileOptions,
) -> Result<Cost, CostError> {
    let (mix, calls, assumed) = match trace {
        Some(trace) => recorded(trace),
        None => uniform(native),
    };
    let total = total(calls.iter().map(|called| called.calls));
    let docker = reference("docker").map(|reference| reference.resolve(&Container::new(native, KERNEL)));
    let profiles = [(CostOf::Profile, Some(profile)), (CostOf::Docker, docker.as_ref())];
    let mut filters = Vec::new();
    let mut sums = Vec::new();
    for (filter, profile) in profiles.into_iter().filter_map(|(of, profile)| Some((of, profile?))) {
        let loaded = compile(profile, native, options.with_lookup(Lookup::AsRunc))?;
        for (lookup, how) in [(CostLookup::Linear, Lookup::Linear), (CostLookup::Tree, Lookup::Tree)] {
            let program = compile(profile, native, options.with_lookup(how))?;
            let each = calls.iter().map(|called| sum(&program, called)).collect::<Result<Vec<_>, _>>()?;
            let all = each.iter().fold(Sum::default(), |all, own| all.plus(*own));
            filters.push(FilterCost {
                filter,
                lookup,
                loaded: program.instructions == loaded.instructions,
                length: program.instructions.len(),
                mean: mean(all.with_bitmap, total),
                mean_without_bitmap: mean(all.without, total),
                by_bitmap: mean(all.by_bitmap, total),
            });
            sums.push(each);
        }
    }
    let mut order: Vec<usize> = (0..calls.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(calls.get(*at).map_or(0, |called| called.calls)));
    let one = |at: usize| {
        let called = calls.get(at)?;
        let instructions =
            sums.iter().filter_map(|each| Some(mean(each.get(at)?.with_bitmap, called.calls))).collect();
        Some(CallCost {
            abi: called.abi,
            syscall: called.abi.name(called.number).to_string(),
            calls: called.calls,
            share: mean(u128::from(called.calls), total),
            instructions,
        })
    };
    let hottest = order.into_iter().take(HOTTEST).filter_map(one).collect();
    Ok(Cost { mix, calls: total, assumed, filters, hottest })
}

/// The mix that a recording has, in the order of its rows.
fn recorded(trace: &Trace) -> (Mix, Vec<Called>, u64) {
    let mut assumed = 0u64;
    let entered = trace.syscalls.iter().filter(|row| row.calls > 0);
    let calls = entered.map(|row| called(row, &mut assumed)).collect();
    (Mix::Recorded, calls, assumed)
}

fn called(row: &Row, assumed: &mut u64) -> Called {
    let mut with = Vec::new();
    for (arguments, values) in
        row.arguments.iter().flat_map(|own| own.values.iter().map(move |one| (own, one)))
    {
        with.push(Calls { args: registers(&arguments.kept, values), calls: values.calls });
    }
    let rest = row.calls.saturating_sub(total(with.iter().map(|own| own.calls)));
    *assumed = assumed.saturating_add(rest);
    with.push(Calls { args: [0; 6], calls: rest });
    Called { abi: row.abi, number: row.number, calls: row.calls, with }
}

/// Each call once.
fn uniform(native: Abi) -> (Mix, Vec<Called>, u64) {
    let one = |number| Called { abi: native, number, calls: 1, with: vec![Calls { args: [0; 6], calls: 1 }] };
    let calls: Vec<Called> = native.numbers().map(one).collect();
    let count = u64::try_from(calls.len()).unwrap_or(u64::MAX);
    (Mix::Uniform, calls, count)
}

impl Sum {
    const fn plus(self, other: Self) -> Self {
        Self {
            with_bitmap: self.with_bitmap.saturating_add(other.with_bitmap),
            without: self.without.saturating_add(other.without),
            by_bitmap: self.by_bitmap.saturating_add(other.by_bitmap),
        }
    }
}

fn sum(program: &Program, called: &Called) -> Result<Sum, SimulateError> {
    let (abi, number) = (called.abi, called.number);
    if bypasses_filters(abi, number) {
        return Ok(Sum::default());
    }
    let by_bitmap = is_constant_allow(program, abi, number);
    let mut sum = Sum::default();
    for Calls { args, calls } in called.with.iter().filter(|own| own.calls > 0) {
        let execution = execute(program, &SeccompData::call(abi, number, *args))?;
        let (calls, instructions) = (u128::from(*calls), u128::from(execution.instructions));
        let ran = calls.saturating_mul(instructions);
        sum = sum.plus(Sum {
            with_bitmap: if by_bitmap { 0 } else { ran },
            without: ran,
            by_bitmap: if by_bitmap { calls } else { 0 },
        });
    }
    Ok(sum)
}

/// A sum that a trace of impossible counts does not overflow.
fn total(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

/// A mean, to three decimals: enough to compare, and the same text everywhere.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn mean(sum: u128, count: u64) -> f64 {
    if count == 0 {
        return 0.0;
    }
    (sum as f64 / count as f64 * 1000.0).round() / 1000.0
}
