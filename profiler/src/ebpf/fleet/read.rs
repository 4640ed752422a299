//! Reading and clearing what was counted for targets.

use std::collections::BTreeMap;

use profiler_ebpf::{
    Call, Counted, Ending, FirstSight, Opened, Refused, Seen, Shared, SharedCell, TABLE_NUMBERS, Target,
    Tuple, group, maps, open,
};

use super::{Fleet, TargetId};
use crate::ebpf::{
    EbpfError,
    observe::Counts,
    opens::Opens,
    sys,
    tables::{Plain, failed},
};

/// The bytes of a target's block.
const BLOCK: usize = TABLE_NUMBERS as usize * size_of::<SharedCell>();

/// What was counted for a target.
#[derive(Clone, Debug, Default)]
pub(super) struct Classes {
    /// By class.
    pub(super) counts: [Counts; group::CLASSES as usize],
    /// What the workload opened.
    pub(super) opens: Opens,
}

impl Classes {
    /// The counts of the class that a group is of; none for a number that no class has.
    fn of(&mut self, of: u32) -> Option<&mut Counts> {
        self.counts.get_mut(group::class(of) as usize)
    }
}

/// Keys of the shared tables, to be removed.
#[derive(Default)]
struct Keys {
    rare: Vec<Counted>,
    first: Vec<Counted>,
    endings: Vec<Ending>,
    refused: Vec<Ending>,
    tuples: Vec<Tuple>,
    opened: Vec<Opened>,
}

impl Fleet {
    /// The rows of a target's block that were ever used.
    pub(super) fn block(&self, target: TargetId) -> Result<Vec<(u32, SharedCell)>, EbpfError> {
        let offset = target.index() as usize * BLOCK;
        sys::with_mapped(self.descriptor(maps::BLOCKS)?, offset, BLOCK, |block| {
            let cells = block.cast::<SharedCell>();
            (0..TABLE_NUMBERS)
                // SAFETY: within the block; the kernel side may write meanwhile, so each is read once.
                .map(|number| (number, unsafe { cells.add(number as usize).read_volatile() }))
                .filter(|(_, cell)| *cell != SharedCell::default())
                .collect()
        })
        .map_err(failed(maps::BLOCKS))
    }

    /// Who made a call of the block first.
    pub(super) fn first(&self, target: TargetId, call: Call) -> Result<Option<FirstSight>, EbpfError> {
        match self.tables.first.get(&Plain(Counted { call, group: target.group() }), 0) {
            Ok(Plain(first)) => Ok(Some(first)),
            // The table was full; that is counted.
            Err(aya::maps::MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(failed(maps::FIRST)(error)),
        }
    }

    /// Everything that was counted for closed targets; afterwards there is nothing left of them, and their places
    /// are free.
    pub(super) fn drain(
        &mut self,
        targets: &[TargetId],
    ) -> Result<BTreeMap<TargetId, (Classes, Target)>, EbpfError> {
        let mut drained = BTreeMap::new();
        let mut keys = Keys::default();
        for target in targets {
            let classes = self.block_counts(*target, &mut keys)?;
            drained.insert(*target, (classes, self.target(*target)?));
        }
        self.collect(&mut drained, &mut keys)?;
        self.remove(&keys);
        for target in targets {
            self.clear(*target)?;
        }
        Ok(drained)
    }

    /// Everything that was counted for a target so far.
    pub(super) fn look(&self, target: TargetId) -> Result<(Classes, Target), EbpfError> {
        let mut keys = Keys::default();
        let classes = self.block_counts(target, &mut keys)?;
        let mut seen = BTreeMap::from([(target, (classes, self.target(target)?))]);
        self.collect(&mut seen, &mut keys)?;
        seen.remove(&target).ok_or(EbpfError::NoTarget(target.group()))
    }

    /// What was counted in a target's block.
    fn block_counts(&self, target: TargetId, keys: &mut Keys) -> Result<Classes, EbpfError> {
        let mut classes = Classes::default();
        if let Some(counts) = classes.of(group::WORKLOAD) {
            for (number, cell) in self.block(target)? {
                let call = Call { number, abi: Call::NATIVE };
                counts.add_cell(call, &cell);
                if let Some(first) = self.first(target, call)? {
                    counts.see(call, first);
                    keys.first.push(Counted { call, group: target.group() });
                }
            }
        }
        Ok(classes)
    }

    /// Reads the entries of the shared tables that belong to these targets.
    fn collect(
        &self,
        drained: &mut BTreeMap<TargetId, (Classes, Target)>,
        keys: &mut Keys,
    ) -> Result<(), EbpfError> {
        let mut of = |counted: Counted, found: &mut dyn FnMut(&mut Counts)| {
            let target = drained.get_mut(&TargetId(group::target(counted.group)));
            if let Some(counts) = target.and_then(|(classes, _)| classes.of(counted.group)) {
                found(counts);
            }
        };
        self.scan(maps::RARE, |Plain(counted): Plain<Counted>, Plain(shared): Plain<Shared>| {
            of(counted, &mut |counts| {
                counts.add_cell(counted.call, &shared.cell);
                counts.see(counted.call, shared.first);
                keys.rare.push(counted);
            });
        })?;
        self.scan(maps::ENDINGS, |Plain(ending): Plain<Ending>, count: u64| {
            of(ending.counted, &mut |counts| {
                counts.add_ending(ending.counted.call, ending.kind, count);
                keys.endings.push(ending);
            });
        })?;
        self.scan(maps::REFUSED, |Plain(ending): Plain<Ending>, Plain(refused): Plain<Refused>| {
            of(ending.counted, &mut |counts| {
                counts.add_ending(ending.counted.call, ending.kind, refused.count);
                keys.refused.push(ending);
            });
        })?;
        self.scan(maps::TUPLES, |Plain(tuple): Plain<Tuple>, Plain(seen): Plain<Seen>| {
            of(tuple.counted, &mut |counts| {
                counts.add_tuple(&tuple, &seen);
                keys.tuples.push(tuple);
            });
        })?;
        self.scan(maps::OPENED, |Plain(opened): Plain<Opened>, Plain(seen): Plain<Seen>| {
            if let Some((classes, _)) = drained.get_mut(&TargetId(group::target(opened.group))) {
                classes.opens.add(&opened, &seen);
                keys.opened.push(opened);
            }
        })
    }

    /// Goes through a shared table.
    pub(super) fn scan<K: aya::Pod, V: aya::Pod>(
        &self,
        map: &'static str,
        each: impl FnMut(K, V),
    ) -> Result<(), EbpfError> {
        sys::scan(self.descriptor(map)?, each).map_err(failed(map))
    }

    /// An entry that cannot be removed stays, of a target that never comes again.
    fn remove(&mut self, keys: &Keys) {
        for key in &keys.rare {
            let _ = self.tables.rare.remove(&Plain(*key));
        }
        for key in &keys.first {
            let _ = self.tables.first.remove(&Plain(*key));
        }
        for key in &keys.endings {
            let _ = self.tables.endings.remove(&Plain(*key));
        }
        for key in &keys.refused {
            let _ = self.own.refused.remove(&Plain(*key));
        }
        for key in &keys.tuples {
            let _ = self.tables.tuples.remove(&Plain(*key));
        }
        for key in &keys.opened {
            let _ = self.tables.opened.remove(&Plain(*key));
        }
    }

    /// Makes the target's place ready for the next one.
    fn clear(&mut self, target: TargetId) -> Result<(), EbpfError> {
        let offset = target.index() as usize * BLOCK;
        sys::with_mapped(self.descriptor(maps::BLOCKS)?, offset, BLOCK, |block| {
            // SAFETY: the target's own block, which no program is at.
            unsafe { block.write_bytes(0, BLOCK) };
        })
        .map_err(failed(maps::BLOCKS))?;
        self.own.targets.set(target.index(), Plain(Target::EMPTY), 0).map_err(failed(maps::TARGETS))?;
        self.own.open.set(target.index(), open(0, 0), 0).map_err(failed(maps::OPEN))?;
        self.known.remove(&target);
        self.own.free.push(group::next(target.group()), 0).map_err(failed(maps::FREE))
    }
}
