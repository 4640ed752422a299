//! Arguments of chosen calls: distinct tuples, through masks, as many as the bounds allow.

use std::collections::BTreeMap;

use profiler_ebpf::{Call, Counted, Masks, Width, group, maps};
use trace::{Abi, FilterMoment};

use super::{Class, Fleet, TargetId};
use crate::ebpf::{
    EbpfError, observe,
    tables::{Plain, failed},
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
    /// Calls of which there were more tuples than the bound, and how many calls have none here.
    pub wide: BTreeMap<(Class, Abi, u32), u64>,
    /// Whether a table was full, so that calls may be missing from `wide` too.
    pub full: bool,
}

impl Fleet {
    /// From now on keeps the arguments of these calls, masked, for all targets: up to 256 distinct tuples for a
    /// call of one class of a target, 4 096 in all. Calls whose numbers have no row (x32, and from 512 up) are
    /// left out. An empty list ends it.
    ///
    /// # Errors
    /// When the kernel's tables cannot be written.
    pub fn capture(&mut self, calls: &[(Abi, u32, [u64; 6])]) -> Result<(), EbpfError> {
        self.own.capturing.set(0, 0, 0).map_err(failed(maps::CAPTURING))?;
        for row in 0..profiler_ebpf::ROWS {
            self.own.masks.set(row, Plain(Masks::default()), 0).map_err(failed(maps::MASKS))?;
        }
        for (abi, number, masks) in calls {
            if let Some(row) = observe::call(*abi, *number).and_then(Call::row) {
                let masks = Masks { kept: 1, masks: *masks };
                self.own.masks.set(row, Plain(masks), 0).map_err(failed(maps::MASKS))?;
            }
        }
        let capturing = u32::from(!calls.is_empty());
        self.own.capturing.set(0, capturing, 0).map_err(failed(maps::CAPTURING))
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
        let mut widths: u32 = 0;
        self.scan(maps::TUPLES, |Plain(tuple): Plain<profiler_ebpf::Tuple>, count: u64| {
            if let Some((class, abi, number)) = named(target, tuple.counted, filter) {
                // What came after the mark is of a class that others are of too.
                *found.entry((class, abi, number, tuple.arguments)).or_default() += count;
            }
        })?;
        self.scan(maps::WIDTHS, |Plain(counted): Plain<Counted>, Plain(width): Plain<Width>| {
            widths += 1;
            if width.wide > 0
                && let Some(key) = named(target, counted, filter)
            {
                *tuples.wide.entry(key).or_default() += width.wide;
            }
        })?;
        tuples.full = widths >= profiler_ebpf::MAX_TUPLES;
        tuples.kept = found
            .into_iter()
            .map(|((class, abi, number, args), count)| Tuple { class, abi, number, args, count })
            .collect();
        Ok(tuples)
    }
}

fn named(target: TargetId, counted: Counted, filter: FilterMoment) -> Option<(Class, Abi, u32)> {
    if group::target(counted.group) != target.group() {
        return None;
    }
    Some((Class::of(counted.group, filter), observe::abi(counted.call)?, counted.call.number))
}
