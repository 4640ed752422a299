//! In which cases the answers differ, in words: by the entries of the profiles, which is how people know them, as
//! far as the compiled filter does what they say; where none speaks, by what is known of the arguments.

use std::collections::BTreeSet;

use trace::Abi;

use super::{
    Side,
    budget::{Question, TooHard},
    explore::{Numbers, Region, Words, explore, smallest},
    word::{Test, Word},
};
use crate::{
    arguments::is_narrow,
    compile::{Program, repeats_an_argument},
    condition::display_conditions,
    decode,
    profile::{Action, Condition, Entry, Operator, Profile},
    simulate::{SeccompData, Verdict, simulate},
};

/// Where no condition has to be said.
pub(super) const ALWAYS: &str = "always";
/// What is left beside the cases that are told.
pub(super) const OTHERWISE: &str = "in all other cases";
/// Where there are too many to be told.
pub(super) const SOMETIMES: &str = "in some cases";

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
pub(super) fn clauses(
    (profile, program): (&Profile, &Program),
    numbers: Numbers,
    name: &str,
    question: &mut Question<'_>,
) -> Vec<Clause> {
    let entries = profile.syscalls.iter().filter(|entry| entry.names.iter().any(|own| own == name));
    let mut list: Vec<Clause> = entries.flat_map(of_entry).collect();
    list.retain(|clause| clause.is_followed(program, numbers, question));
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
    /// Calls that the clause is about: for each of its alternatives what it says of the arguments, where that is not
    /// known to contradict itself.
    fn calls(&self, question: &mut Question<'_>) -> Vec<Words> {
        let mut calls = Vec::new();
        for tests in &self.alternatives {
            let mut words = Words::default();
            let mut keep = |(word, test): &(usize, Test)| {
                words.get_mut(*word).is_some_and(|word| word.keep(*test, question).unwrap_or(true))
            };
            if tests.iter().all(&mut keep) {
                calls.push(words);
            }
        }
        calls
    }

    /// Whether the filter gives this answer to some call that the clause is about, or that cannot be told.
    fn is_followed(&self, program: &Program, numbers: Numbers, question: &mut Question<'_>) -> bool {
        self.calls(question).into_iter().any(|words| {
            let mut followed = false;
            let explored = explore(&[program], numbers, words, question, |verdicts, _| {
                followed = verdicts.contains(&self.answer);
                !followed
            });
            followed || explored.is_err()
        })
    }

    /// Whether some arguments of the region are among those that it is about.
    fn meets(&self, region: &Region, question: &mut Question<'_>) -> Result<bool, TooHard> {
        for tests in &self.alternatives {
            if is_met(tests, region, question)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn is_met(tests: &[(usize, Test)], region: &Region, question: &mut Question<'_>) -> Result<bool, TooHard> {
    let mut words: Vec<(usize, Word)> = Vec::new();
    for (place, test) in tests {
        let known = words.iter().position(|(own, _)| own == place);
        let at = match (known, region.words.get(*place)) {
            (Some(at), _) => at,
            (None, Some(word)) => {
                question.spend(word.size())?;
                words.push((*place, word.clone()));
                words.len() - 1
            }
            (None, None) => return Ok(false),
        };
        let Some((_, word)) = words.get_mut(at) else { return Ok(false) };
        if !word.keep(*test, question)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Of the calls that clauses are about one each, with what the filters answer to it: what is known of filters with more
/// ways than can be followed.
pub(super) fn points(
    programs: [&Program; 2],
    numbers: Numbers,
    clauses: &[&Clause],
    question: &mut Question<'_>,
) -> Vec<Region> {
    let mut points = Vec::new();
    for clause in clauses {
        for words in clause.calls(question) {
            let args = smallest(&words);
            let data = SeccompData {
                nr: numbers.first.cast_signed(),
                arch: numbers.arch,
                instruction_pointer: 0,
                args,
            };
            let verdicts: Result<Vec<Verdict>, _> =
                programs.into_iter().map(|program| simulate(program, &data)).collect();
            points.extend(verdicts.ok().map(|verdicts| Region { verdicts, words: exactly(&args) }));
        }
    }
    points
}

/// These arguments and no others.
fn exactly(args: &[u64; 6]) -> Words {
    let halves = args.iter().flat_map(|value| [(value & u64::from(u32::MAX)) as u32, (value >> 32) as u32]);
    let mut words = Words::default();
    for (word, half) in words.iter_mut().zip(halves) {
        *word = Word::is(half);
    }
    words
}

/// The cases that these regions are. Few values are told one by one; else the clauses speak that are about a region,
/// those of the first list before those of the second; else what is known of the arguments.
pub(super) fn cases(
    abi: Abi,
    name: &str,
    regions: &[&Region],
    clauses: [&[&Clause]; 2],
    few: bool,
    question: &mut Question<'_>,
) -> Result<Vec<String>, TooHard> {
    // In the order of the profile, then what no rule says.
    let mut speaking: BTreeSet<(usize, usize)> = BTreeSet::new();
    let mut untold: BTreeSet<Vec<Condition>> = BTreeSet::new();
    for region in regions {
        if let Some(values) = few.then(|| values(abi, &region.words, question)).flatten() {
            untold.extend(values);
            continue;
        }
        let mut is_told = false;
        for (list, clauses) in clauses.into_iter().enumerate() {
            for (place, clause) in clauses.iter().enumerate() {
                if clause.meets(region, question)? {
                    is_told = true;
                    speaking.insert((list, place));
                }
            }
            if is_told {
                break;
            }
        }
        if !is_told {
            untold.insert(known(abi, &region.words));
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
    Ok(list)
}

/// Whether an argument that the kernel reads as 32 bits has more.
pub(super) fn needs_upper_half(name: &str, args: &[u64; 6]) -> bool {
    args.iter().zip(0..).any(|(value, index)| *value > u64::from(u32::MAX) && is_narrow(name, index))
}

/// The conditions that say exactly what a region is, where these are few values; none where they are not.
fn values(abi: Abi, words: &Words, question: &mut Question<'_>) -> Option<Vec<Vec<Condition>>> {
    /// More than these are not read.
    const MOST: usize = 8;
    let mut all = vec![Vec::new()];
    let (pairs, _) = words.as_chunks::<2>();
    for ([low, high], index) in pairs.iter().zip(0..) {
        let (low, high) = (low.patterns(MOST, question)?, high.patterns(MOST, question)?);
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
pub(super) fn side(
    abi: Abi,
    name: &str,
    which: usize,
    regions: &[Region],
    clauses: &[Clause],
    question: &mut Question<'_>,
) -> Side {
    let verdict = |region: &Region| region.verdicts.get(which).copied();
    let verdicts = regions.iter().filter_map(verdict).collect();
    let (carried_out, refused): (Vec<&Region>, Vec<&Region>) =
        regions.iter().partition(|region| verdict(region).is_some_and(Verdict::executes));
    let when = if carried_out.is_empty() {
        Vec::new()
    } else if refused.is_empty() {
        vec![ALWAYS.to_owned()]
    } else {
        let told = carried_out_when(abi, name, &carried_out, &refused, clauses, question);
        told.unwrap_or_else(|TooHard| vec![SOMETIMES.to_owned()])
    };
    Side { verdicts, when }
}

fn carried_out_when(
    abi: Abi,
    name: &str,
    carried_out: &[&Region],
    refused: &[&Region],
    clauses: &[Clause],
    question: &mut Question<'_>,
) -> Result<Vec<String>, TooHard> {
    let own = |executes: bool| -> Vec<&Clause> {
        clauses.iter().filter(|clause| clause.answer.executes() == executes).collect()
    };
    let (allowing, refusing) = (own(true), own(false));
    // By default it is carried out: what is refused is said instead.
    let mut by_default = false;
    if !refusing.is_empty() {
        for region in carried_out {
            let mut is_allowed = false;
            for clause in &allowing {
                is_allowed = is_allowed || clause.meets(region, question)?;
            }
            by_default = by_default || !is_allowed;
        }
    }
    if by_default {
        let cases = cases(abi, name, refused, [&refusing, &[]], false, question)?;
        return Ok(vec![format!("unless {}", cases.join(" or "))]);
    }
    cases(abi, name, carried_out, [&allowing, &[]], false, question)
}

/// The region with the smallest arguments, and those.
pub(super) fn example<'r>(regions: &[&'r Region]) -> Option<(&'r Region, [u64; 6])> {
    regions.iter().map(|region| (*region, smallest(&region.words))).min_by_key(|(_, args)| *args)
}
