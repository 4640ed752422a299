//! Which numbers two filters answer differently, and how.

use std::collections::BTreeSet;

use trace::Abi;

use super::{
    CallDifference, Change, Difference, Part, Place, Side, Undecided,
    budget::{Budget, TooHard},
    explore::{Numbers, Region, Stop, Words, explore, is_same, regions},
    words::{ALWAYS, Clause, SOMETIMES, cases, clauses, example, needs_upper_half, points, side},
};
use crate::{compile::Program, decode, profile::Profile, simulate::Verdict};

/// How many ranges of numbers are told apart on one architecture.
const RANGES: usize = 20_000;

/// The two profiles with their filters.
pub(super) struct Sides<'a> {
    pub(super) old: (&'a Profile, &'a Program),
    pub(super) new: (&'a Profile, &'a Program),
}

/// Numbers that are answered alike by both filters, and how.
struct Range {
    numbers: Numbers,
    /// The pairs of answers that were found.
    answers: BTreeSet<(Verdict, Verdict)>,
    /// Why these may not be all.
    open: Option<&'static str>,
}

impl Range {
    fn is_equal(&self) -> bool {
        self.open.is_none() && self.answers.iter().all(|(old, new)| old == new)
    }
}

/// Everything that the filters answer differently on a machine with this ABI.
pub(super) fn compare(sides: &Sides<'_>, native: Abi) -> Difference {
    let mut difference = Difference::default();
    if sides.old.1.instructions == sides.new.1.instructions {
        return difference;
    }
    let budget = Budget::default();
    for abi in architectures(native) {
        for Range { numbers, open, .. } in differing(sides, *abi, &budget) {
            let Some(place) = place(numbers) else { continue };
            let name = name(place);
            // What is true of one number need not be so of those that it could not be told apart from.
            let is_described = open.is_none() || numbers.first == numbers.last;
            let (call, why) =
                if is_described { describe(sides, numbers, place, &name, &budget) } else { (None, None) };
            difference.calls.extend(call);
            if let Some(why) = open.or(why) {
                difference.undecided.push(Undecided { name, place, why: why.to_owned() });
            }
        }
    }
    difference.calls = joined(difference.calls);
    difference.undecided.sort_by(|a, b| (&a.name, a.place).cmp(&(&b.name, b.place)));
    difference
}

/// An ABI for each architecture whose calls a machine with this own ABI takes.
const fn architectures(native: Abi) -> &'static [Abi] {
    match native {
        Abi::Aarch64 | Abi::Arm => &[Abi::Aarch64, Abi::Arm],
        Abi::X86_64 | Abi::I386 | Abi::X32 => &[Abi::X86_64, Abi::I386],
    }
}

/// The numbers of an architecture that are not answered alike, or of which that is not known, in order.
fn differing(sides: &Sides<'_>, abi: Abi, budget: &Budget) -> Vec<Range> {
    let mut left = start(abi);
    left.reverse();
    let mut found: Vec<Range> = Vec::new();
    let mut count = 0;
    while let Some(numbers) = left.pop() {
        count += 1;
        if is_same(sides.old.1, sides.new.1, numbers) {
            continue;
        }
        let mut range = Range { numbers, answers: BTreeSet::new(), open: None };
        if count > RANGES {
            range.open = Some("the filters tell too many numbers apart");
        } else {
            match answers(sides, numbers, budget, &mut range.answers) {
                Err(Stop::Split(at)) if numbers.first < at && at <= numbers.last => {
                    left.push(Numbers { first: at, ..numbers });
                    left.push(Numbers { last: at - 1, ..numbers });
                    continue;
                }
                Err(stop) => range.open = Some(why(stop)),
                Ok(()) => {}
            }
        }
        if range.is_equal() {
            continue;
        }
        // Numbers without a name that follow each other are one range.
        match found.last_mut() {
            Some(last)
                if last.numbers.last.checked_add(1) == Some(numbers.first)
                    && (&last.answers, last.open) == (&range.answers, range.open)
                    && range.open.is_none()
                    && range.answers.len() == 1
                    && [last.numbers, numbers].into_iter().all(is_unnamed)
                    && place(Numbers { last: numbers.last, ..last.numbers }).is_some() =>
            {
                last.numbers.last = numbers.last;
            }
            _ => found.push(range),
        }
    }
    found
}

/// The numbers with a name each for itself, and what is between them; no range has two ABIs.
fn start(abi: Abi) -> Vec<Numbers> {
    let arch = abi.audit_arch();
    let abis = Abi::ALL.into_iter().filter(|own| own.audit_arch() == arch);
    let named = abis.flat_map(|abi| abi.numbers().map(move |number| abi.seccomp_number(number)));
    // Where x32's marker bit changes, and the number that is none.
    let mut firsts: BTreeSet<u32> = BTreeSet::from([0, 1 << 30, 2 << 30, 3 << 30, u32::MAX]);
    for number in named {
        firsts.insert(number);
        firsts.extend(number.checked_add(1));
    }
    let ends = firsts.iter().skip(1).map(|next| next - 1).chain([u32::MAX]);
    firsts.iter().zip(ends).map(|(&first, last)| Numbers { arch, first, last }).collect()
}

/// The pairs of answers that calls with these numbers get, as far as they are found.
fn answers(
    sides: &Sides<'_>,
    numbers: Numbers,
    budget: &Budget,
    answers: &mut BTreeSet<(Verdict, Verdict)>,
) -> Result<(), Stop> {
    let filters = [sides.old.1, sides.new.1];
    explore(&filters, numbers, Words::default(), &mut budget.question(), |verdicts, _| {
        if let [old, new] = verdicts {
            answers.insert((*old, *new));
        }
        true
    })
}

/// In words.
const fn why(stop: Stop) -> &'static str {
    match stop {
        Stop::Undecided(why) => why,
        Stop::Split(_) => "the filters compare the number in a way that no runtime writes",
    }
}

/// These numbers in their ABI; none if there are two ABIs among them.
fn place(numbers: Numbers) -> Option<Place> {
    let (abi, first) = Abi::from_audit_arch(numbers.arch, numbers.first)?;
    let (other, last) = Abi::from_audit_arch(numbers.arch, numbers.last)?;
    (abi == other && first <= last).then_some(Place { abi, first, last })
}

fn is_unnamed(numbers: Numbers) -> bool {
    place(numbers).is_some_and(|place| {
        place.first != place.last || matches!(place.abi.name(place.first), trace::SyscallName::Unknown(_))
    })
}

fn name(place: Place) -> String {
    let Place { abi, first, last } = place;
    if first == last {
        abi.name(first).to_string()
    } else {
        format!("{} to {}", abi.name(first), abi.name(last))
    }
}

/// The difference of one call, in words, where one was found; and why there may be more of it.
fn describe(
    sides: &Sides<'_>,
    numbers: Numbers,
    place: Place,
    name: &str,
    budget: &Budget,
) -> (Option<CallDifference>, Option<&'static str>) {
    let abi = place.abi;
    // All of them are answered alike.
    let one = Numbers { last: numbers.first, ..numbers };
    let filters = [sides.old.1, sides.new.1];
    let (mut all, stop) = regions(&filters, one, &mut budget.question());
    let open = stop.map(why);
    let [old, new] = [sides.old, sides.new].map(|side| clauses(side, one, name, &mut budget.question()));
    if open.is_some() {
        let clauses: Vec<&Clause> = old.iter().chain(&new).collect();
        all.extend(points(filters, one, &clauses, &mut budget.question()));
    }
    let mut question = budget.question();
    let mut part = |keep: &dyn Fn(Verdict, Verdict) -> bool, clauses: [&[&Clause]; 2]| {
        let kept =
            |region: &&Region| matches!(region.verdicts[..], [old, new] if old != new && keep(old, new));
        let regions: Vec<&Region> = all.iter().filter(kept).collect();
        let (region, example) = example(&regions)?;
        let [old, new] = region.verdicts[..] else { return None };
        let detail =
            if needs_upper_half(name, &example) { decode::Detail::Short } else { decode::Detail::Named };
        let context = decode::Context { detail, ..decode::Context::default() };
        let unnamed = is_unnamed(numbers);
        let call = if unnamed { name.to_owned() } else { decode::call(abi, name, &example, &context) };
        let when = if open.is_some() {
            Err(TooHard)
        } else if regions.len() == all.len() {
            Ok(vec![ALWAYS.to_owned()])
        } else {
            cases(abi, name, &regions, clauses, true, &mut question)
        };
        let when = when.unwrap_or_else(|TooHard| vec![SOMETIMES.to_owned()]);
        Some(Part { when, example, call, old, new })
    };
    // What was refused by a rule and no longer is says more than what lets it through.
    let [gained, lost] = [(&new, &old), (&old, &new)].map(|(allowing, refusing)| {
        let [allowing, refusing] = [(allowing, true), (refusing, false)].map(|(clauses, executes)| {
            clauses.iter().filter(|clause| clause.answer.executes() == executes).collect::<Vec<_>>()
        });
        (allowing, refusing)
    });
    let both: Vec<&Clause> = old.iter().chain(&new).collect();
    let gained = part(&|old, new| !old.executes() && new.executes(), [&gained.1, &gained.0]);
    let lost = part(&|old, new| old.executes() && !new.executes(), [&lost.1, &lost.0]);
    let answered = part(&|old, new| old.executes() == new.executes(), [&both, &[]]);
    if gained.is_none() && lost.is_none() && answered.is_none() {
        return (None, open);
    }
    let [old, new] = [(0, &old), (1, &new)].map(|(which, clauses)| {
        let mut side = side(abi, name, which, &all, clauses, &mut question);
        if open.is_some() && !side.when.is_empty() {
            side.when = vec![SOMETIMES.to_owned()];
        }
        side
    });
    // Of what was not followed it is not known that it is never carried out.
    let ever = |side: &Side| open.is_some() || side.executes();
    let change = match (gained.is_some(), lost.is_some()) {
        (true, true) => Change::Moved,
        (true, false) if ever(&old) => Change::Wider,
        (true, false) => Change::NewlyAllowed,
        (false, true) if ever(&new) => Change::Narrower,
        (false, true) => Change::NoLongerAllowed,
        (false, false) => Change::Answer,
    };
    let (name, places) = (name.to_owned(), vec![place]);
    (Some(CallDifference { name, places, change, old, new, gained, lost, answered }), open)
}

/// Those of which all but the place is the same become one; ordered by name and place.
fn joined(mut calls: Vec<CallDifference>) -> Vec<CallDifference> {
    calls.sort_by(|a, b| (&a.name, &a.places).cmp(&(&b.name, &b.places)));
    let mut list: Vec<CallDifference> = Vec::new();
    for call in calls {
        let same = |own: &&mut CallDifference| {
            let places = own.places.clone();
            **own == CallDifference { places, ..call.clone() }
        };
        let of_this_name = list.iter_mut().rev().take_while(|own| own.name == call.name);
        match of_this_name.into_iter().find(|own| same(own)) {
            Some(own) => own.places.extend(call.places),
            None => list.push(call),
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compile::Instruction,
        profile::{Action, Profile},
    };

    fn program(code: &[(u16, u8, u8, u32)]) -> Program {
        let instructions = code.iter().map(|&(code, jt, jf, k)| Instruction { code, jt, jf, k }).collect();
        Program { instructions, unknown: Vec::new() }
    }

    fn compared(old: &[(u16, u8, u8, u32)], new: &[(u16, u8, u8, u32)]) -> Difference {
        let profile = Profile {
            default_action: Action::Allow,
            default_errno_ret: None,
            architectures: Vec::new(),
            flags: None,
            listener_path: None,
            listener_metadata: None,
            syscalls: Vec::new(),
        };
        let (old, new) = (program(old), program(new));
        compare(&Sides { old: (&profile, &old), new: (&profile, &new) }, Abi::X86_64)
    }

    const LOAD: u16 = 0x20;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_SET: u16 = 0x45;
    const AND: u16 = 0x54;
    const RETURN: u16 = 0x06;
    const ALLOW: (u16, u8, u8, u32) = (RETURN, 0, 0, 0x7fff_0000);
    const REFUSE: (u16, u8, u8, u32) = (RETURN, 0, 0, 0x0005_0001);

    #[test]
    fn what_cannot_be_followed_is_undecided_and_never_equal() {
        // The instruction pointer; an addition; a shift of the number.
        for strange in [(LOAD, 0, 0, 8), (0x04, 0, 0, 1), (0x64, 0, 0, 1)] {
            let own = [(LOAD, 0, 0, 0), strange, (JUMP_EQUAL, 0, 1, 7), ALLOW, REFUSE];
            assert!(compared(&own, &own).is_empty());
            let longer = [own.as_slice(), &[REFUSE]].concat();
            let found = compared(&own, &longer);
            assert!(found.calls.is_empty());
            assert!(
                !found.is_empty() && found.undecided.iter().any(|call| call.name == "read"),
                "{strange:?}"
            );
        }
        // No end.
        assert!(!compared(&[(LOAD, 0, 0, 16)], &[ALLOW]).undecided.is_empty());
        // The lowest bit of the number: every other number is answered otherwise, and there are too many of them.
        let odd = [(LOAD, 0, 0, 0), (JUMP_SET, 0, 1, 1), ALLOW, REFUSE];
        let found = compared(&odd, &[ALLOW]);
        let numbers = |wanted: u32| {
            let is =
                |place: &Place| place.abi == Abi::X86_64 && (place.first, place.last) == (wanted, wanted);
            found.calls.iter().any(|call| call.places.iter().any(is))
        };
        assert!(numbers(0) && !numbers(1) && numbers(2));
        assert!(!found.undecided.is_empty());
    }

    #[test]
    fn masks_of_the_number_and_of_arguments_are_followed() {
        // Numbers below 4, and of them those whose third argument has the lowest bit.
        let own = |bits| {
            [
                (LOAD, 0, 0, 0),
                (AND, 0, 0, !3),
                (JUMP_EQUAL, 0, 4, 0),
                (LOAD, 0, 0, 32),
                (AND, 0, 0, bits),
                (JUMP_EQUAL, 1, 0, bits),
                REFUSE,
                ALLOW,
            ]
        };
        let longer = |bits| [own(bits).as_slice(), &[REFUSE]].concat();
        assert!(compared(&own(1), &longer(1)).is_empty());
        let found = compared(&own(1), &own(3));
        let names: Vec<&str> = found.calls.iter().map(|call| call.name.as_str()).collect();
        // The numbers 0 to 3 of x86-64 and of i386; both have a read among them.
        assert_eq!(names, ["close", "exit", "fork", "open", "read", "restart_syscall", "write"]);
        for call in &found.calls {
            assert_eq!(call.lost.as_ref().unwrap().example, [0, 0, 1, 0, 0, 0], "{call:?}");
            assert!(call.gained.is_none());
        }
        assert!(found.undecided.is_empty());
    }
}
