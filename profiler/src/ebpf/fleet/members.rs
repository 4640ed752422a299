//! The cgroups of targets that end: they are foreign again, and their places are free.

use std::collections::BTreeSet;

use profiler_ebpf::{Member, SLOT_COUNT, in_slot, maps};

use super::{Fleet, TargetId};
use crate::ebpf::{
    EbpfError,
    program::Walk,
    sys,
    tables::{Plain, failed},
};

impl Fleet {
    /// Ends the recording of targets: nothing is counted for them any more, and no program is at their entries.
    /// The calls that their tasks are in are counted as in flight.
    pub(super) fn close(&mut self, targets: &[TargetId]) -> Result<(), EbpfError> {
        for target in targets {
            self.open(*target, 0)?;
        }
        sys::wait_for_running_programs();
        self.programs.walk(Walk::InFlight)?;
        let indices = targets.iter().map(|target| target.index()).collect();
        self.release(&indices)?;
        sys::wait_for_running_programs();
        // A cgroup may have been made in one of them while we looked; not below one that was looked at.
        while self.release(&indices)? {
            sys::wait_for_running_programs();
        }
        Ok(())
    }

    /// Takes the cgroups of these targets out of the tables. Where what is made below one is to be a target, that
    /// stays so. False if there were none.
    fn release(&mut self, indices: &BTreeSet<u32>) -> Result<bool, EbpfError> {
        let mut found = Vec::new();
        let descriptor = self.descriptor(maps::CGROUPS)?;
        sys::scan(descriptor, |id: u64, Plain(member): Plain<Member>| {
            if indices.contains(&member.index) {
                found.push((id, member));
            }
        })
        .map_err(failed(maps::CGROUPS))?;
        for (id, member) in &found {
            if member.depth > 0 {
                // No room: what is made below is not recorded, and was never said to be.
                let _ = self.own.nurseries.insert(id, member.depth, 0);
                self.former.push(*id);
            }
            let place = (*id % u64::from(SLOT_COUNT)) as u32;
            let slot = self.tables.slots.get(&place, 0).map_err(failed(maps::SLOTS))?;
            if in_slot(slot, *id).is_some() {
                // It says that some cgroup has these bits; which, is looked up in the hash.
                self.tables.slots.set(place, u64::MAX, 0).map_err(failed(maps::SLOTS))?;
            }
            // It may have been removed with its cgroup.
            let _ = self.tables.cgroups.remove(id);
        }
        Ok(!found.is_empty())
    }
}
