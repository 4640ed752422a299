//! Arguments of calls: what the kernel side is told to keep, and what it kept.

use std::collections::BTreeMap;

use profiler_ebpf::{Call, FirstSight, Masks, PLACES, ROWS, Seen, Tuple, Usual, maps};
use trace::{Abi, Arguments, Values};

use super::{
    EbpfError,
    files::Files,
    observe,
    tables::{Plain, Tables, failed},
};
use crate::capture::{CaptureCall, CapturePlan, MOST_VALUES};

/// Calls that open a path, and which argument is that, from 1.
const OPENS: [(&str, u32); 4] = [("open", 1), ("creat", 1), ("openat", 2), ("openat2", 2)];

/// What is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Keeping {
    calls: BTreeMap<Call, CaptureCall>,
    opens: bool,
}

impl Keeping {
    /// What of a plan can be kept here: calls of this machine's ABIs that have a row. None if that is nothing.
    pub(super) fn of(plan: &CapturePlan) -> Result<Option<Self>, EbpfError> {
        let mut calls = BTreeMap::new();
        for call in &plan.calls {
            let fields = call.arguments.iter().filter(|argument| argument.kept.offset.is_some());
            if fields.count() > 1 {
                return Err(EbpfError::TooMany { what: "fields of structs in one call", max: 1 });
            }
            if let Some(own) = observe::call(call.abi, call.number).filter(|own| own.row().is_some()) {
                calls.insert(own, call.clone());
            }
        }
        Ok((!plan.is_empty()).then_some(Self { calls, opens: plan.opens }))
    }

    /// Tells the kernel side.
    pub(super) fn tell(&self, tables: &mut Tables) -> Result<(), EbpfError> {
        let mut rows: BTreeMap<u32, Masks> = BTreeMap::new();
        // What has no place is counted with the tuples alone.
        let mut places = 1..PLACES;
        for (call, kept) in &self.calls {
            if let Some(row) = call.row() {
                let place = places.next().unwrap_or_default();
                rows.insert(row, Masks { place, ..masks(kept) });
            }
        }
        if self.opens {
            for (row, path) in opens() {
                let masks = rows.entry(row).or_default();
                masks.kept |= Masks::PATH;
                masks.path = path;
            }
        }
        tell(tables, &rows)
    }

    /// What the arguments of a call were that was entered and denied so often; none if they are not kept.
    pub(super) fn arguments(
        &self,
        call: Call,
        (calls, denied): (u64, u64),
        tuples: &Tuples,
        files: &Files,
        started_ns: u64,
    ) -> Option<Arguments> {
        let plan = self.calls.get(&call)?;
        let kept: Vec<trace::Kept> = plan.arguments.iter().map(|argument| argument.kept.clone()).collect();
        let (mut unread, mut known_denied) = (0u64, 0u64);
        let mut values = Vec::new();
        for ((facts, arguments, file), seen) in &tuples.seen {
            known_denied = known_denied.saturating_add(seen.denied);
            if facts & Tuple::UNREAD != 0 {
                unread = unread.saturating_add(seen.calls);
                continue;
            }
            let value = |index: u32| arguments.get(index as usize).copied().unwrap_or_default();
            let upper = kept.iter().filter(|kept| facts & 1 << kept.index != 0);
            values.push(Values {
                arguments: kept.iter().map(|kept| value(kept.index)).collect(),
                calls: seen.calls,
                denied: seen.denied,
                runs: 1,
                upper: upper.map(|kept| kept.name.clone()).collect(),
                file: files.file(facts >> Tuple::KIND, *file),
                phases: observe::phases(seen.first.phases),
                first: observe::first_sight(&seen.first, started_ns),
            });
        }
        let mut arguments = Arguments::of(kept, values);
        // More than one CPU may have kept the last one, and several targets may be taken as one.
        let mut wide = tuples.is_wide || arguments.values.len() > MOST_VALUES;
        arguments.values.truncate(MOST_VALUES);
        let counted = arguments.values.iter().fold(unread, |sum, values| sum.saturating_add(values.calls));
        let beyond = calls.saturating_sub(counted);
        wide |= beyond > 0 || known_denied < denied;
        Some(Arguments { wide, beyond, unread, ..arguments })
    }
}

/// The tuples that were kept of a call.
#[derive(Clone, Debug, Default)]
pub(super) struct Tuples {
    seen: BTreeMap<(u32, [u64; 6], u64), Seen>,
    /// Whether one was not kept.
    pub(super) is_wide: bool,
}

impl Tuples {
    /// Adds one.
    pub(super) fn add(&mut self, tuple: &Tuple, seen: &Seen) {
        self.sum((tuple.facts, tuple.arguments, tuple.file), seen);
    }

    /// Adds calls with a tuple that is there.
    pub(super) fn add_usual(&mut self, usual: &Usual) {
        let Usual { tuple, calls, .. } = usual;
        if let Some(seen) = self.seen.get_mut(&(tuple.facts, tuple.arguments, tuple.file)) {
            seen.calls = seen.calls.saturating_add(*calls);
        }
    }

    /// Adds what another one has.
    pub(super) fn merge(&mut self, other: &Self) {
        self.is_wide |= other.is_wide;
        for (key, seen) in &other.seen {
            self.sum(*key, seen);
        }
    }

    fn sum(&mut self, key: (u32, [u64; 6], u64), seen: &Seen) {
        let own = self.seen.entry(key).or_insert(Seen { calls: 0, denied: 0, first: seen.first });
        own.calls = own.calls.saturating_add(seen.calls);
        own.denied = own.denied.saturating_add(seen.denied);
        let phases = own.first.phases | seen.first.phases;
        let first = observe::earlier(Some(own.first), seen.first).unwrap_or(seen.first);
        own.first = FirstSight { phases, ..first };
    }
}

/// Tells the kernel side what to keep, by row. Nothing is kept meanwhile, and no call otherwise.
pub(super) fn tell(tables: &mut Tables, rows: &BTreeMap<u32, Masks>) -> Result<(), EbpfError> {
    tables.capturing.set(0, 0, 0).map_err(failed(maps::CAPTURING))?;
    for row in 0..ROWS {
        let masks = rows.get(&row).copied().unwrap_or_default();
        tables.masks.set(row, Plain(masks), 0).map_err(failed(maps::MASKS))?;
    }
    tables.capturing.set(0, u32::from(!rows.is_empty()), 0).map_err(failed(maps::CAPTURING))
}

fn masks(call: &CaptureCall) -> Masks {
    let mut masks = Masks { kept: Masks::ARGUMENTS, ..Masks::default() };
    for argument in &call.arguments {
        let index = argument.kept.index;
        if let Some(mask) = masks.masks.get_mut(index as usize) {
            *mask = argument.masked(u64::MAX);
        }
        if let Some(offset) = argument.kept.offset {
            masks.pointer = index + 1;
            masks.offset = offset;
            masks.size = argument.width / 8;
        } else if argument.width == 32 {
            masks.narrow |= 1 << index;
        }
    }
    if let Some(descriptor) = call.descriptor {
        masks.descriptor = descriptor.index + 1;
        if let Some((index, bits)) = descriptor.unless {
            masks.unless = index + 1;
            masks.unless_bits = bits;
        }
    }
    masks
}

/// The rows of calls that open a path, and which argument that is.
fn opens() -> impl Iterator<Item = (u32, u32)> {
    [Call::NATIVE, Call::COMPAT].into_iter().flat_map(|own| {
        let abi: Option<Abi> = observe::abi(Call { number: 0, abi: own });
        OPENS.into_iter().filter_map(move |(name, path)| {
            let number = abi?.number(name)?;
            Some((Call { number, abi: own }.row()?, path))
        })
    })
}

#[cfg(test)]
mod tests {
    use trace::{FileKind, Kept};

    use super::*;
    use crate::capture::{CaptureArgument, Descriptor};

    fn argument(index: u32, name: &str, width: u32, offset: Option<u32>) -> CaptureArgument {
        let mask = if width == 32 { u64::from(u32::MAX) } else { u64::MAX };
        CaptureArgument { kept: Kept { index, offset, name: name.to_owned(), mask }, width }
    }

    fn plan(arguments: Vec<CaptureArgument>) -> CapturePlan {
        let abi = Abi::native_of(std::env::consts::ARCH).unwrap();
        let descriptor = Some(Descriptor { index: 4, unless: Some((3, 0x20)) });
        CapturePlan { calls: vec![CaptureCall { abi, number: 7, arguments, descriptor }], opens: false }
    }

    #[test]
    fn the_kernel_side_is_told_masks_halves_and_fields() {
        let plan = plan(vec![argument(1, "flags", 32, None), argument(2, "type", 32, Some(8))]);
        let told = masks(&plan.calls[0]);
        assert_eq!(told.masks, [0, 0xffff_ffff, 0xffff_ffff, 0, 0, 0]);
        assert_eq!((told.narrow, told.pointer, told.offset, told.size), (0b10, 3, 8, 4));
        assert_eq!((told.descriptor, told.unless, told.unless_bits), (5, 4, 0x20));
        assert!(opens().count() >= 4 && opens().all(|(row, path)| row < ROWS && (1..=2).contains(&path)));
    }

    #[test]
    fn two_fields_in_one_call_are_refused() {
        let two = plan(vec![argument(1, "a", 32, Some(0)), argument(2, "b", 32, Some(0))]);
        assert!(Keeping::of(&two).is_err());
        assert!(Keeping::of(&CapturePlan::default()).unwrap().is_none());
    }

    #[test]
    fn no_call_is_without_a_place() {
        let plan = plan(vec![argument(1, "flags", 32, None)]);
        let keeping = Keeping::of(&plan).unwrap().unwrap();
        let call = Call { number: 7, abi: Call::NATIVE };
        let mut tuples = Tuples::default();
        let add = |tuples: &mut Tuples, facts, flags, calls, denied| {
            let tuple = Tuple { facts, arguments: [0, flags, 0, 0, 0, 0], ..Tuple::default() };
            let first = FirstSight { phases: 1, ..FirstSight::default() };
            tuples.add(&tuple, &Seen { calls, denied, first });
        };
        let kind = |kind: u32| kind << Tuple::KIND;
        add(&mut tuples, kind(profiler_ebpf::file::SOCKET), 3, 5, 1);
        add(&mut tuples, kind(profiler_ebpf::file::SOCKET) | 0b10, 3, 2, 0);
        add(&mut tuples, Tuple::UNREAD, 0, 4, 0);
        let read = |tuples: &Tuples, calls, denied| {
            keeping.arguments(call, (calls, denied), tuples, &Files::default(), 0).unwrap()
        };
        let all = read(&tuples, 11, 1);
        assert_eq!((all.wide, all.beyond, all.unread, all.values.len()), (false, 0, 4, 2));
        let upper: Vec<usize> = all.values.iter().map(|values| values.upper.len()).collect();
        assert_eq!(upper, [0, 1]);
        assert!(all.values.iter().all(|values| values.file.as_ref().unwrap().kind == FileKind::Socket));
        assert_eq!((read(&tuples, 20, 1).wide, read(&tuples, 20, 1).beyond), (true, 9));
        assert!(read(&tuples, 11, 2).wide);
        for flags in 0..300 {
            add(&mut tuples, 0, flags, 1, 0);
        }
        let wide = read(&tuples, 311, 1);
        assert_eq!((wide.wide, wide.values.len()), (true, MOST_VALUES));
        let sum: u64 = wide.values.iter().map(|values| values.calls).sum();
        assert_eq!(sum + wide.beyond + wide.unread, 311);
    }
}
