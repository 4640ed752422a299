//! Arguments of chosen calls: distinct tuples, through masks, as many as the bounds allow.

use std::collections::{BTreeMap, BTreeSet};

use profiler_ebpf::{
    Call, Counted, FLEET_TUPLES, MAX_TUPLES_A_CALL, Masks, Seen, Shared, SharedCell, group, maps,
};
use trace::{Abi, FilterMoment};

use super::{Class, Fleet, TargetId};
use crate::{
    CapturePlan,
    ebpf::{
        EbpfError,
        arguments::{self, Keeping},
        observe,
        tables::Plain,
    },
};

/// Calls with the same arguments, as far as the masks tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tuple {
    /// Whose they were.
    pub class: Class,
    /// The ABI.
    pub abi: Abi,
    /// The number.
    pub number: u32,
    /// The arguments, masked. Of a 32-bit call, the upper halves are 0.
    pub args: [u64; 6],
    /// How often, refused ones included.
    pub count: u64,
}

/// The arguments of a target's calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuples {
    /// The distinct tuples that were kept, in order.
    pub kept: Vec<Tuple>,
    /// Calls of which there were more tuples than the bounds allow.
    pub wide: BTreeSet<(Class, Abi, u32)>,
    /// Whether the table of all targets is full.
    pub full: bool,
}

impl Fleet {
    /// From now on keeps what the plan says, for all targets: up to 256 distinct tuples for a call of one class of a
    /// target, 4 096 for a target and 32 768 in all. To be said before there is a target: what was called earlier
    /// would be calls whose arguments are not known.
    ///
    /// # Errors
    /// When the plan asks for what cannot be kept, or the kernel's tables cannot be written.
    pub fn keep(&mut self, plan: &CapturePlan) -> Result<(), EbpfError> {
        self.kept = Keeping::of(plan)?;
        self.kept.clone().unwrap_or_default().tell(&mut self.tables)
    }

    /// From now on keeps the arguments of these calls, masked, for [`Fleet::tuples`], within the bounds of
    /// [`Fleet::keep`] and instead of what was kept so far. Calls whose numbers have no row (x32, and from 512 up)
    /// are left out. An empty list ends it.
    ///
    /// # Errors
    /// When the kernel's tables cannot be written.
    pub fn capture(&mut self, calls: &[(Abi, u32, [u64; 6])]) -> Result<(), EbpfError> {
        self.kept = None;
        let rows = calls.iter().filter_map(|(abi, number, masks)| {
            let row = observe::call(*abi, *number).and_then(Call::row)?;
            Some((row, Masks { kept: Masks::ARGUMENTS, masks: *masks, ..Masks::default() }))
        });
        arguments::tell(&mut self.tables, &rows.collect())
    }

    /// The arguments that were kept of a target so far.
    ///
    /// # Errors
    /// When there is no such target, or the kernel's tables cannot be read.
    pub fn tuples(&self, target: TargetId) -> Result<Tuples, EbpfError> {
        let kept = self.target(target)?;
        let filter = super::condition::moment(&kept);
        let mut found: BTreeMap<(Class, Abi, u32, [u64; 6]), u64> = BTreeMap::new();
        let mut tuples = Tuples::default();
        let mut all: u32 = 0;
        self.scan(maps::TUPLES, |Plain(tuple): Plain<profiler_ebpf::Tuple>, Plain(seen): Plain<Seen>| {
            all += 1;
            if let Some((class, abi, number)) = named(target, tuple.counted, filter) {
                // What came after the mark is of a class that others are of too.
                let count = found.entry((class, abi, number, tuple.arguments)).or_default();
                *count += seen.calls + seen.denied;
            }
        })?;
        tuples.full = all >= FLEET_TUPLES;
        tuples.wide = self.wide(target, filter)?;
        tuples.kept = found
            .into_iter()
            .map(|((class, abi, number, args), count)| Tuple { class, abi, number, args, count })
            .collect();
        Ok(tuples)
    }

    /// The calls of a target of which not all tuples are kept.
    fn wide(&self, target: TargetId, filter: FilterMoment) -> Result<BTreeSet<(Class, Abi, u32)>, EbpfError> {
        let mut wide = BTreeSet::new();
        let mut add = |counted: Counted, cell: &SharedCell| {
            if cell.tuples > MAX_TUPLES_A_CALL {
                wide.extend(named(target, counted, filter));
            }
        };
        for (number, cell) in self.block(target)? {
            add(Counted { call: Call { number, abi: Call::NATIVE }, group: target.group() }, &cell);
        }
        self.scan(maps::RARE, |Plain(counted): Plain<Counted>, Plain(shared): Plain<Shared>| {
            add(counted, &shared.cell);
        })?;
        Ok(wide)
    }
}

fn named(target: TargetId, counted: Counted, filter: FilterMoment) -> Option<(Class, Abi, u32)> {
    if group::target(counted.group) != target.group() {
        return None;
    }
    Some((Class::of(counted.group, filter), observe::abi(counted.call)?, counted.call.number))
}
