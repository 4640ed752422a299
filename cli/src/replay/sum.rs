//! What many traces say together: bounded, whatever their number.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use synth::Tally;
use trace::{Abi, FirstSight, PhaseName};

use super::{
    court::{About, File, Kind},
    kernel::Asked,
};
use crate::exit;

/// So many different calls are told apart; more are only counted.
const MOST: usize = 10_000;

/// What the traces say together.
#[derive(Debug, Default)]
pub(super) struct Sum {
    pub(super) traces: u64,
    pub(super) tally: Tally,
    /// How many facts there are of each call.
    pub(super) calls: BTreeMap<(Abi, String), u64>,
    /// What was not plainly allowed.
    pub(super) noted: BTreeMap<About, Noted>,
    /// Facts that are not among these, because there were too many.
    pub(super) beyond: u64,
    pub(super) asked: Option<Asked>,
    incomplete: u64,
}

/// Facts that are the same in several traces.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    pub(super) calls: u64,
    pub(super) traces: u64,
    pub(super) first: FirstSight,
    pub(super) phase: Option<PhaseName>,
    pub(super) path: PathBuf,
}

impl Noted {
    /// Who, when and where: of the first trace that has it.
    pub(super) fn first_in_words(&self) -> String {
        let FirstSight { after_ms, pid, comm } = &self.first;
        let phase = self.phase.map_or(String::new(), |phase| format!(" ({})", phase.as_str()));
        let comm = comm.escape_default();
        format!("first by `{comm}` (pid {pid}) after {after_ms} ms{phase} in {}", self.path.display())
    }
}

impl Sum {
    pub(super) fn add(&mut self, file: File) {
        let File { path, tally, calls, told, asked, is_incomplete } = file;
        self.traces = self.traces.saturating_add(1);
        self.incomplete = self.incomplete.saturating_add(u64::from(is_incomplete));
        self.tally.add(&tally);
        for (call, facts) in calls {
            let own = self.calls.entry(call).or_default();
            *own = own.saturating_add(facts);
        }
        if let Some(asked) = asked {
            self.asked.get_or_insert_default().add(asked);
        }
        let mut here: BTreeMap<About, u64> = BTreeMap::new();
        for told in told.into_iter().filter(|told| told.about.kind < Kind::NotNeeded) {
            let times = here.entry(told.about.clone()).or_default();
            *times = times.saturating_add(1);
            let is_first_here = *times == 1;
            if let Some(noted) = self.noted.get_mut(&told.about) {
                noted.calls = noted.calls.saturating_add(told.calls);
                noted.traces = noted.traces.saturating_add(u64::from(is_first_here));
            } else if self.noted.len() < MOST {
                let noted = Noted {
                    calls: told.calls,
                    traces: 1,
                    first: told.first,
                    phase: told.phases.first().copied(),
                    path: path.clone(),
                };
                self.noted.insert(told.about, noted);
            } else {
                self.beyond = self.beyond.saturating_add(1);
            }
        }
    }

    /// What a reader of the result must know about the traces, and of those calls in them that this host's libseccomp
    /// does not know.
    pub(super) fn warnings(&self, unknown: &BTreeSet<String>) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.incomplete > 0 {
            warnings.push(format!(
                "{} of {} traces were not closed or lost calls, so calls may be missing from them; record these again",
                self.incomplete, self.traces
            ));
        }
        let called: BTreeSet<&str> =
            self.calls.keys().map(|(_, name)| name.as_str()).filter(|name| unknown.contains(*name)).collect();
        if !called.is_empty() {
            warnings.push(format!(
                "this host's libseccomp does not know {}, which were recorded: what the profile says about them is left out of the filter; judge with a newer libseccomp",
                called.into_iter().collect::<Vec<_>>().join(", ")
            ));
        }
        warnings
    }

    /// The exit code: something needed is refused, or the recordings say too little, or all is well.
    pub(super) fn exit(&self) -> u8 {
        let disagrees = self.asked.as_ref().is_some_and(|asked| !asked.disagreements.is_empty());
        if self.tally.denied.facts > 0 || disagrees {
            exit::NO
        } else if self.tally.unknown.facts > 0 || self.incomplete > 0 {
            exit::EVIDENCE
        } else {
            exit::YES
        }
    }
}
