//! What the arguments of calls were: the distinct values that the plan keeps, with counts, within bounds.

use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry};

use confine::Notification;
use trace::{Abi, Arguments, File, FirstSight, Open, Outcome, PhaseName, Values};

use super::caller::Caller;
use crate::capture::{
    CaptureCall, CapturePlan, MOST_OPENS, MOST_VALUES, MOST_VALUES_OF_ALL, is_of_the_driver,
};

/// By what values are told apart.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    arguments: Vec<u64>,
    upper: BTreeSet<String>,
    file: Option<File>,
}

#[derive(Debug)]
struct Count {
    calls: u64,
    phases: BTreeSet<PhaseName>,
    first: FirstSight,
}

/// What is kept of one call.
#[derive(Debug)]
struct Kept {
    plan: CaptureCall,
    values: HashMap<Key, Count>,
    wide: bool,
    unread: u64,
}

/// Everything that was kept so far.
#[derive(Debug)]
pub(super) struct Captured {
    calls: HashMap<(Abi, u32), Kept>,
    /// How many values there are of all calls together.
    values: usize,
    /// Whether opens are kept.
    of_opens: bool,
    opens: HashMap<String, Count>,
    opens_beyond: u64,
}

impl Captured {
    pub(super) fn new(plan: CapturePlan) -> Self {
        let kept = |plan: CaptureCall| {
            ((plan.abi, plan.number), Kept { plan, values: HashMap::new(), wide: false, unread: 0 })
        };
        Self {
            calls: plan.calls.into_iter().map(kept).collect(),
            values: 0,
            of_opens: plan.opens,
            opens: HashMap::new(),
            opens_beyond: 0,
        }
    }

    /// Takes in a call that is waiting for its answer. What its caller points to is read, and counts only if the call
    /// still waits after that, since then it was that caller's.
    pub(super) fn count(
        &mut self,
        (abi, number): (Abi, u32),
        call: &Notification,
        phase: PhaseName,
        waits: impl Fn() -> bool,
        first: impl FnOnce() -> FirstSight,
    ) {
        let caller = Caller(call.thread);
        if let Some(kept) = self.calls.get_mut(&(abi, number)) {
            let Some(key) = kept.read(call, caller, waits) else {
                kept.unread += 1;
                return;
            };
            let room = kept.values.len() < MOST_VALUES && self.values < MOST_VALUES_OF_ALL;
            match kept.values.entry(key) {
                Entry::Occupied(mut entry) => entry.get_mut().add(phase),
                Entry::Vacant(entry) if room => {
                    entry.insert(Count::new(phase, first()));
                    self.values += 1;
                }
                Entry::Vacant(_) => kept.wide = true,
            }
        } else if self.of_opens
            && let Some(address) = path_of(abi, number, call)
            && let Some(path) = caller.path(address).filter(|path| is_of_the_driver(path))
            && waits()
        {
            let room = self.opens.len() < MOST_OPENS;
            match self.opens.entry(path) {
                Entry::Occupied(mut entry) => entry.get_mut().add(phase),
                Entry::Vacant(entry) if room => drop(entry.insert(Count::new(phase, first()))),
                Entry::Vacant(_) => self.opens_beyond += 1,
            }
        }
    }

    /// What was kept of a call that was made so often; none where the plan does not name it.
    pub(super) fn of(&self, abi: Abi, number: u32, calls: u64) -> Option<Arguments> {
        let kept = self.calls.get(&(abi, number))?;
        let values = kept.values.iter().map(|(key, count)| Values {
            arguments: key.arguments.clone(),
            calls: count.calls,
            denied: 0,
            runs: 1,
            upper: key.upper.clone(),
            file: key.file.clone(),
            phases: count.phases.clone(),
            first: count.first.clone(),
        });
        let arguments = kept.plan.arguments.iter().map(|argument| argument.kept.clone()).collect();
        let known = kept.values.values().fold(kept.unread, |sum, count| sum + count.calls);
        Some(Arguments {
            wide: kept.wide,
            beyond: calls.saturating_sub(known),
            unread: kept.unread,
            ..Arguments::of(arguments, values)
        })
    }

    /// Whether anything was to be kept.
    pub(super) fn has_plan(&self) -> bool {
        !self.calls.is_empty() || self.of_opens
    }

    /// The opens by path, in order, and how many are not among them.
    pub(super) fn opens(&self) -> (Vec<Open>, u64) {
        let ordered: BTreeMap<_, _> = self.opens.iter().collect();
        let open = |(path, count): (&String, &Count)| Open {
            path: path.clone(),
            calls: count.calls,
            outcomes: BTreeMap::from([(Outcome::Unknown, count.calls)]),
            runs: 1,
            first: count.first.clone(),
        };
        (ordered.into_iter().map(open).collect(), self.opens_beyond)
    }
}

impl Count {
    fn new(phase: PhaseName, first: FirstSight) -> Self {
        Self { calls: 1, phases: BTreeSet::from([phase]), first }
    }

    fn add(&mut self, phase: PhaseName) {
        self.calls += 1;
        self.phases.insert(phase);
    }
}

impl Kept {
    /// The values of a call; none where a struct cannot be read.
    fn read(&self, call: &Notification, caller: Caller, waits: impl Fn() -> bool) -> Option<Key> {
        let register = |index: u32| call.arguments.get(index as usize).copied();
        let mut key = Key { arguments: Vec::new(), upper: BTreeSet::new(), file: None };
        let mut of_caller = false;
        for argument in &self.plan.arguments {
            let own = register(argument.kept.index)?;
            let value = match argument.kept.offset {
                Some(offset) => {
                    of_caller = true;
                    caller.number(own.checked_add(offset.into())?, argument.width)?
                }
                None => own,
            };
            key.arguments.push(argument.masked(value));
            if argument.is_upper_set(own) {
                key.upper.insert(argument.kept.name.clone());
            }
        }
        if of_caller && !waits() {
            return None;
        }
        if let Some(descriptor) = &self.plan.descriptor
            && descriptor
                .unless
                .is_none_or(|(index, bits)| register(index).is_some_and(|own| own & bits == 0))
        {
            key.file = caller.file(register(descriptor.index)?).filter(|_| waits());
        }
        Some(key)
    }
}

/// Where the path is that a call opens; none for a call that opens nothing.
fn path_of(abi: Abi, number: u32, call: &Notification) -> Option<u64> {
    let [first, second, ..] = call.arguments;
    match abi.name(number) {
        trace::SyscallName::Known("open" | "creat") => Some(first),
        trace::SyscallName::Known("openat" | "openat2") => Some(second),
        _ => None,
    }
}
