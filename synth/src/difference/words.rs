//! In which cases the answers differ, in words: by the entries of the profiles, which is how people know them, as
//! far as the compiled filter does what they say; where none speaks, by what is known of the arguments.

use std::collections::BTreeSet;

use trace::Abi;

use super::{
    Side,
    explore::{Numbers, Region, Words, explore},
    word::{Test, Word},
};
use crate::{
    arguments::is_narrow,
    compile::{Program, repeats_an_argument},
    condition::display_conditions,
    decode,
    profile::{Action, Condition, Entry, Operator, Profile},
    simulate::Verdict,
};

/// Where no condition has to be said.
pub(super) const ALWAYS: &str = "always";
/// What is left beside the cases that are told.
pub(super) const OTHERWISE: &str = "in all other cases";

/// What an entry of a profile says about a call.
#[derive(Clone)]
pub(super) struct Clause {
    pub(super) answer: Verdict,
    conditions: Vec<Condition>,
    /// The same as tests of words, of which one list must hold.
    alternatives: Vec<Vec<(usize, Test)>>,
}

/// What the entries of a profile say about a call, those left out that the filter does not follow: another entry
/// undid them, or the library does not know the name.
pub(super) fn clauses(profile: &Profile, program: &Program, numbers: Numbers, name: &str) -> Vec<Clause> {
    let entries = profile.syscalls.iter().filter(|entry| entry.names.iter().any(|own| own == name));
    let mut list: Vec<Clause> = entries.flat_map(of_entry).collect();
    list.retain(|clause| clause.is_followed(program, numbers));
    // What always holds leaves nothing to the others of the same answer.
    let always: Vec<Verdict> =
        list.iter().filter(|clause| clause.conditions.is_empty()).map(|clause| clause.answer).collect();
    list.retain(|clause| clause.conditions.is_empty() || !always.contains(&clause.answer));
    list
}

fn of_entry(entry: &Entry) -> Vec<Clause> {
    let answer = answer(entry);
    let one = |conditions: &[Condition]| Clause {
        answer,
        conditions: conditions.to_vec(),
        alternatives: alternatives(conditions),
    };
    if repeats_an_argument(&entry.args) {
        entry.args.iter().map(|condition| one(&[*condition])).collect()
    } else {
        vec![one(&entry.args)]
    }
}

/// As `compile` has it.
const fn answer(entry: &Entry) -> Verdict {
    let errno = match entry.errno_ret {
        Some(errno) => errno,
        None => 1,
    };
    match entry.action {
        Action::Kill | Action::KillThread => Verdict::KillThread,
        Action::KillProcess => Verdict::KillProcess,
        Action::Trap => Verdict::Trap,
        Action::Errno => Verdict::Errno(if errno > 4095 { 4095 } else { errno }),
        Action::Trace => Verdict::Trace(errno),
        Action::Notify => Verdict::Notify,
        Action::Log => Verdict::Log,
        Action::Allow => Verdict::Allow,
    }
}

/// Conditions as tests of words: every list of tests is an alternative.
fn alternatives(conditions: &[Condition]) -> Vec<Vec<(usize, Test)>> {
    let mut all = vec![Vec::new()];
    for condition in conditions {
        let own = of_condition(condition);
        all = all
            .iter()
            .flat_map(|tests: &Vec<_>| own.iter().map(move |more| [tests.as_slice(), more].concat()))
            .collect();
    }
    all
}

fn of_condition(condition: &Condition) -> Vec<Vec<(usize, Test)>> {
    let place = usize::try_from(condition.index).unwrap_or(usize::MAX).saturating_mul(2);
    let halves = |value: u64| ((value >> 32) as u32, (value & u64::from(u32::MAX)) as u32);
    let (high, low) = halves(condition.value);
    let is = |value| Test::equal(u32::MAX, value);
    let above = |value: u32| Some(Test::from_to(u32::MAX, value.checked_add(1)?, u32::MAX));
    let below = |value: u32| Some(Test::from_to(u32::MAX, 0, value.checked_sub(1)?));
    let upper = |test| (place.saturating_add(1), test);
    let lower = |test| (place, test);
    // The upper half decides, or it is the same and the lower half does.
    let ordered = |beyond: Option<Test>, rest: Option<Test>| {
        let by_upper = beyond.map(|test| vec![upper(test)]);
        let by_lower = rest.map(|test| vec![upper(is(high)), lower(test)]);
        by_upper.into_iter().chain(by_lower).collect()
    };
    match condition.op {
        Operator::Eq => vec![vec![upper(is(high)), lower(is(low))]],
        Operator::Ne => vec![vec![upper(is(high).not())], vec![lower(is(low).not())]],
        Operator::Gt => ordered(above(high), above(low)),
        Operator::Ge => ordered(above(high), Some(Test::from_to(u32::MAX, low, u32::MAX))),
        Operator::Lt => ordered(below(high), below(low)),
        Operator::Le => ordered(below(high), Some(Test::from_to(u32::MAX, 0, low))),
        Operator::MaskedEq => {
            let (value_high, value_low) = halves(condition.value_two & condition.value);
            vec![vec![upper(Test::equal(high, value_high)), lower(Test::equal(low, value_low))]]
        }
    }
}

impl Clause {
    /// Whether the filter gives this answer to some call that the clause is about.
    fn is_followed(&self, program: &Program, numbers: Numbers) -> bool {
        self.alternatives.iter().any(|tests| {
            let mut words = Words::default();
            let possible = tests.iter().all(|(word, test)| {
                words.get_mut(*word).is_some_and(|word| word.keep(*test).unwrap_or(true))
            });
            let mut followed = false;
            let explored = possible.then(|| {
                explore(&[program], numbers, words, |verdicts, _| {
                    followed |= verdicts.contains(&self.answer);
                    Ok(())
                })
            });
            followed || explored.is_some_and(|explored| explored.is_err())
        })
    }

    /// Whether some arguments of the region are among those that it is about.
    fn meets(&self, region: &Region) -> bool {
        self.alternatives.iter().any(|tests| {
            let mut words: Vec<(usize, Word)> = Vec::new();
            tests.iter().all(|(place, test)| {
                let known = words.iter().position(|(own, _)| own == place);
                let known = known.or_else(|| {
                    words.push((*place, region.words.get(*place)?.clone()));
                    Some(words.len() - 1)
                });
                let word = known.and_then(|at| words.get_mut(at));
                word.is_some_and(|(_, word)| word.keep(*test).unwrap_or(true))
            })
        })
    }
}

/// The cases that these regions are. Few values are told one by one; else the clauses speak that are about a region,
/// those of the first list before those of the second; else what is known of the arguments.
pub(super) fn cases(
    abi: Abi,
    name: &str,
    regions: &[&Region],
    clauses: [&[&Clause]; 2],
    few: bool,
) -> Vec<String> {
    // In the order of the profile, then what no rule says.
    let mut speaking: BTreeSet<(usize, usize)> = BTreeSet::new();
    let mut untold: BTreeSet<Vec<Condition>> = BTreeSet::new();
    for region in regions {
        if let Some(values) = few.then(|| values(abi, &region.words)).flatten() {
            untold.extend(values);
            continue;
        }
        let about = |(list, clauses): (usize, &[&Clause])| -> Vec<(usize, usize)> {
            let places = clauses.iter().enumerate().filter(|(_, clause)| clause.meets(region));
            places.map(|(place, _)| (list, place)).collect()
        };
        match clauses.into_iter().enumerate().map(about).find(|own| !own.is_empty()) {
            Some(own) => speaking.extend(own),
            None => _ = untold.insert(known(abi, &region.words)),
        }
    }
    let clause =
        |(list, place): (usize, usize)| clauses.get(list)?.get(place).map(|own| own.conditions.clone());
    let mut told: Vec<Vec<Condition>> = speaking.into_iter().filter_map(clause).chain(untold).collect();
    let all = told.len();
    told.retain(|conditions| !conditions.is_empty());
    let otherwise = told.len() < all;
    let texts: Vec<String> = told.iter().map(|conditions| display_conditions(conditions)).collect();
    let mut list = decode::alternatives_list(abi, name, &texts);
    if otherwise {
        list.push(OTHERWISE.to_owned());
    }
    // Words are about the half that the kernel reads.
    if regions.iter().all(|region| needs_upper_half(name, &smallest(&region.words))) {
        list.iter_mut().for_each(|words| words.push_str(", with bits in an upper half"));
    }
    list
}

/// Whether an argument that the kernel reads as 32 bits has more.
pub(super) fn needs_upper_half(name: &str, args: &[u64; 6]) -> bool {
    args.iter().zip(0..).any(|(value, index)| *value > u64::from(u32::MAX) && is_narrow(name, index))
}

/// The smallest arguments of a region.
fn smallest(words: &Words) -> [u64; 6] {
    let (pairs, _) = words.as_chunks::<2>();
    let mut args = [0; 6];
    for (slot, [low, high]) in args.iter_mut().zip(pairs) {
        *slot = u64::from(low.smallest()) | u64::from(high.smallest()) << 32;
    }
    args
}

/// The conditions that say exactly what a region is, where these are few values; none where they are not.
fn values(abi: Abi, words: &Words) -> Option<Vec<Vec<Condition>>> {
    /// More than these are not read.
    const MOST: usize = 8;
    let mut all = vec![Vec::new()];
    let (pairs, _) = words.as_chunks::<2>();
    for ([low, high], index) in pairs.iter().zip(0..) {
        let (low, high) = (low.patterns(MOST)?, high.patterns(MOST)?);
        let pairs = low.iter().flat_map(|low| high.iter().map(move |high| (*low, *high)));
        let own: Vec<Option<Condition>> = pairs.map(|(low, high)| equality(abi, index, low, high)).collect();
        all = all
            .iter()
            .flat_map(|conditions: &Vec<Condition>| {
                own.iter().map(move |one| conditions.iter().copied().chain(*one).collect())
            })
            .collect();
        if all.len() > MOST {
            return None;
        }
    }
    (all != [Vec::new()]).then_some(all)
}

/// What is known of the bits of the arguments.
fn known(abi: Abi, words: &Words) -> Vec<Condition> {
    let (pairs, _) = words.as_chunks::<2>();
    let one = |([low, high], index): (&[Word; 2], u32)| equality(abi, index, low.known(), high.known());
    pairs.iter().zip(0..).filter_map(one).collect()
}

/// That an argument's halves have these bits, each a mask and what the bits in it are; none if that says nothing.
fn equality(abi: Abi, index: u32, low: (u32, u32), high: (u32, u32)) -> Option<Condition> {
    // A 32-bit program has no upper halves.
    let whole = matches!(abi, Abi::I386 | Abi::Arm) && low.0 == u32::MAX;
    let high = if whole { (u32::MAX, 0) } else { high };
    let joined = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let (mask, value) = (joined(low.0, high.0), joined(low.1, high.1));
    match mask {
        0 => None,
        u64::MAX => Some(Condition { index, value, value_two: 0, op: Operator::Eq }),
        _ => Some(Condition { index, value: mask, value_two: value, op: Operator::MaskedEq }),
    }
}

/// What one of the filters answers, in which cases.
pub(super) fn side(abi: Abi, name: &str, which: usize, regions: &[Region], clauses: &[Clause]) -> Side {
    let verdict = |region: &Region| region.verdicts.get(which).copied();
    let verdicts = regions.iter().filter_map(verdict).collect();
    let (carried_out, refused): (Vec<&Region>, Vec<&Region>) =
        regions.iter().partition(|region| verdict(region).is_some_and(Verdict::executes));
    if carried_out.is_empty() {
        return Side { verdicts, when: Vec::new() };
    }
    let own = |executes: bool| -> Vec<&Clause> {
        clauses.iter().filter(|clause| clause.answer.executes() == executes).collect()
    };
    // By default it is carried out: what is refused is said instead.
    let allowing = own(true);
    let by_default = carried_out.iter().any(|region| !allowing.iter().any(|clause| clause.meets(region)));
    let refusing = own(false);
    let when = if refused.is_empty() {
        vec![ALWAYS.to_owned()]
    } else if !by_default || refusing.is_empty() {
        cases(abi, name, &carried_out, [&allowing, &[]], false)
    } else {
        vec![format!("unless {}", cases(abi, name, &refused, [&refusing, &[]], false).join(" or "))]
    };
    Side { verdicts, when }
}

/// The region with the smallest arguments, and those.
pub(super) fn example<'r>(regions: &[&'r Region]) -> Option<(&'r Region, [u64; 6])> {
    regions.iter().map(|region| (*region, smallest(&region.words))).min_by_key(|(_, args)| *args)
}
