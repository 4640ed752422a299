//! What filters refused so far, with the arguments of the first of each.

use profiler_ebpf::{Ending, Refused, group, maps};
use trace::{Abi, FilterMoment, Outcome};

use super::{Fleet, TargetId};
use crate::ebpf::{EbpfError, observe, tables::Plain};

/// Whose a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The workload's.
    Workload,
    /// A container runtime's, before it loads the filter.
    RuntimeSetup,
    /// A container runtime's, with the filter loaded.
    RuntimeStart,
    /// A session's of `exec`.
    ExecSession,
}

impl Class {
    /// The class that a group is of, with what is known of its target's filter.
    pub(super) fn of(of: u32, filter: FilterMoment) -> Self {
        match group::class(of) {
            group::SETUP => Self::RuntimeSetup,
            group::MARKED if filter == FilterMoment::Loaded => Self::RuntimeSetup,
            group::START | group::MARKED => Self::RuntimeStart,
            group::EXEC => Self::ExecSession,
            _ => Self::Workload,
        }
    }
}

/// Calls that a filter answered in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The ABI of the call.
    pub abi: Abi,
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Whose it was.
    pub class: Class,
    /// What the filter answered.
    pub outcome: Outcome,
    /// How often.
    pub count: u64,
    /// Who was first, and when after the target was armed.
    pub first: trace::FirstSight,
    /// The arguments of the first. Pointers are only numbers here. None where the table was full.
    pub arguments: Option<[u64; 6]>,
}

impl Fleet {
    /// What filters refused of a target so far, ordered by class, ABI, number and answer. Cheap enough to be asked
    /// a few times a second.
    ///
    /// # Errors
    /// When there is no such target, or the kernel's tables cannot be read.
    pub fn refusals(&self, target: TargetId) -> Result<Vec<Refusal>, EbpfError> {
        let kept = self.target(target)?;
        let filter = super::condition::moment(&kept);
        let mut refusals = Vec::new();
        let mut push = |ending: Ending, count: u64, refused: Option<&Refused>| {
            let call = ending.counted.call;
            let is_ours = group::target(ending.counted.group) == target.group();
            if let Some(abi) = observe::abi(call).filter(|_| is_ours && ending.kind & Ending::REFUSED != 0) {
                refusals.push(Refusal {
                    abi,
                    number: call.number,
                    name: abi.name(call.number).to_string(),
                    class: Class::of(ending.counted.group, filter),
                    outcome: observe::refusal(ending.kind),
                    count,
                    first: observe::first_sight(
                        &refused.map(|refused| refused.first).unwrap_or_default(),
                        kept.armed_ns,
                    ),
                    arguments: refused.map(|refused| refused.arguments),
                });
            }
        };
        self.scan(maps::REFUSED, |Plain(ending): Plain<Ending>, Plain(refused): Plain<Refused>| {
            push(ending, refused.count, Some(&refused));
        })?;
        if kept.refused_full != 0 {
            self.scan(maps::ENDINGS, |Plain(ending): Plain<Ending>, count: u64| push(ending, count, None))?;
        }
        refusals.sort_by(|one, other| {
            let key = |refusal: &Refusal| (refusal.class, refusal.abi, refusal.number, refusal.outcome);
            key(one).cmp(&key(other))
        });
        Ok(refusals)
    }
}
