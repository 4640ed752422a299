//! One look at what the kernel has counted.

use std::{collections::BTreeMap, time::Duration};

use profiler::ebpf::{Class, ContainerObservations, EbpfError, Fleet, Refusal, TargetId, Tuples};
use trace::Row;

use super::{
    Judges, Key, Sighting,
    sighting::{self},
};
use crate::{Judge, Stage};

/// How a run is looked at.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Whom to ask.
    pub judges: Judges,
    /// Leave exec sessions out.
    pub without_exec: bool,
}

/// How often it is judged what would be refused: reading every row costs more than reading the refusals.
pub const JUDGED: Duration = Duration::from_secs(1);

/// What was seen so far of a run.
#[derive(Clone, Debug, Default)]
pub struct Seen(BTreeMap<Key, Sighting>);

/// Tells the kernel which arguments matter to the profile that is asked. Before any target.
///
/// # Errors
/// When the kernel's tables cannot be written.
pub fn arm(fleet: &mut Fleet, asked: Option<&Judge>) -> Result<(), EbpfError> {
    match asked {
        Some(judge) => fleet.capture(&judge.dependent()),
        None => Ok(()),
    }
}

impl Look {
    /// What filters refused so far to these targets, which are one run; with `judging`, which costs more, also what
    /// would have been refused.
    ///
    /// # Errors
    /// When what was counted cannot be read.
    pub fn now(
        &self,
        fleet: &Fleet,
        targets: &[TargetId],
        judging: bool,
    ) -> Result<Vec<Sighting>, EbpfError> {
        let mut sum = BTreeMap::new();
        for target in targets {
            let refusals = fleet.refusals(*target)?;
            add(&mut sum, sighting::refused(&refusals, self.judges.in_force.as_ref()));
            if judging && self.judges.asked.is_some() {
                // The rows before the arguments, so that each counted call has its arguments counted.
                let mut rows: BTreeMap<Class, Vec<Row>> = BTreeMap::new();
                for (class, row) in fleet.rows(*target)? {
                    rows.entry(class).or_default().push(row);
                }
                let of = |class| rows.get(&class).map_or(&[][..], Vec::as_slice);
                let (start, exec) = (of(Class::RuntimeStart), of(Class::ExecSession));
                let tuples = self.tuples(fleet, &[*target])?;
                add(&mut sum, self.judged(of(Class::Workload), start, exec, &tuples, false));
            }
        }
        Ok(self.ordered(sum))
    }

    /// The arguments that were kept of these targets.
    ///
    /// # Errors
    /// When what was counted cannot be read.
    pub fn tuples(&self, fleet: &Fleet, targets: &[TargetId]) -> Result<Tuples, EbpfError> {
        let mut sum = Tuples::default();
        if self.judges.asked.is_some() {
            for target in targets {
                let tuples = fleet.tuples(*target)?;
                sum.kept.extend(tuples.kept);
                sum.wide.extend(tuples.wide);
                sum.full |= tuples.full;
            }
        }
        Ok(sum)
    }

    /// Ends these targets: everything that was refused, and everything that would have been. `settled` says that none
    /// of them runs any more.
    pub(super) fn last(
        &self,
        fleet: &mut Fleet,
        targets: &[TargetId],
        settled: bool,
    ) -> Result<(Vec<Sighting>, ContainerObservations), EbpfError> {
        let mut sum = BTreeMap::new();
        add(&mut sum, self.now(fleet, targets, false)?);
        let tuples = self.tuples(fleet, targets)?;
        let taken = fleet.take(targets)?;
        let start = taken.runtime.as_ref().map_or(&[][..], |runtime| &runtime.start);
        let exec = taken.exec.as_ref().map_or(&[][..], |exec| &exec.syscalls);
        add(&mut sum, self.judged(&taken.observations.rows, start, exec, &tuples, settled));
        Ok((self.ordered(sum), taken))
    }

    /// What the profile that is asked would refuse. What the runtime calls before it loads the filter is no profile's
    /// business.
    #[must_use]
    pub fn judged(
        &self,
        workload: &[Row],
        start: &[Row],
        exec: &[Row],
        tuples: &Tuples,
        settled: bool,
    ) -> Vec<Sighting> {
        let Some(judge) = &self.judges.asked else { return Vec::new() };
        let stages = [(Stage::Start, start), (Stage::Workload, workload), (Stage::Exec, exec)];
        let judged =
            stages.map(|(stage, rows)| sighting::would_be_refused(judge, stage, rows, tuples, settled));
        judged.concat()
    }

    /// Everything that was refused, and everything that would have been, of a run that was recorded.
    #[must_use]
    pub fn all(
        &self,
        refusals: &[Refusal],
        workload: &[Row],
        start: &[Row],
        exec: &[Row],
        tuples: &Tuples,
        settled: bool,
    ) -> Vec<Sighting> {
        let mut sum = BTreeMap::new();
        add(&mut sum, sighting::refused(refusals, self.judges.in_force.as_ref()));
        add(&mut sum, self.judged(workload, start, exec, tuples, settled));
        self.ordered(sum)
    }

    fn ordered(&self, sum: BTreeMap<Key, Sighting>) -> Vec<Sighting> {
        let mut all: Vec<Sighting> = sum.into_values().collect();
        all.retain(|one| !(self.without_exec && one.stage == Stage::Exec));
        all.sort_by_key(|one| (one.first.after_ms, one.stage, one.abi, one.number));
        all
    }
}

/// A container and the cgroups inside it are one run.
fn add(sum: &mut BTreeMap<Key, Sighting>, sightings: Vec<Sighting>) {
    for sighting in sightings {
        match sum.get_mut(&sighting.key()) {
            Some(own) => {
                own.count = own.count.saturating_add(sighting.count);
                if sighting.first < own.first {
                    own.first = sighting.first;
                    own.args = sighting.args;
                }
            }
            None => _ = sum.insert(sighting.key(), sighting),
        }
    }
}

impl Seen {
    /// Those that were not seen before.
    pub fn news(&mut self, sightings: &[Sighting]) -> Vec<Sighting> {
        let mut news = Vec::new();
        for sighting in sightings {
            if self.0.insert(sighting.key(), sighting.clone()).is_none() {
                news.push(sighting.clone());
            }
        }
        news
    }
}
