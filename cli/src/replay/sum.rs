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
use crate::{exit, terminal::visible};

/// So many different calls are told apart; more are only counted.
pub(super) const MOST: usize = 10_000;

/// What the traces say together.
#[derive(Debug, Default)]
pub(super) struct Sum {
    pub(super) traces: u64,
    pub(super) tally: Tally,
    /// What there is of each call.
    pub(super) calls: BTreeMap<(Abi, String), OfCall>,
    /// What was not plainly allowed, as far as it is listed.
    pub(super) noted: BTreeMap<About, Noted>,
    /// Facts of each kind that are not among these, because there were too many.
    pub(super) beyond: BTreeMap<Kind, u64>,
    pub(super) asked: Option<Asked>,
    incomplete: u64,
    without_start: u64,
}

/// What there is of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OfCall {
    pub(super) facts: u64,
    /// The worst of what is told of them, listed or not.
    pub(super) worst: Option<Kind>,
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
        let path = self.path.display().to_string();
        format!("first by `{}` (pid {pid}) after {after_ms} ms{phase} in {}", visible(comm), visible(&path))
    }
}

impl Sum {
    pub(super) fn add(&mut self, file: File) {
        let File { path, tally, calls, told, asked, is_incomplete, lacks_start } = file;
        self.traces = self.traces.saturating_add(1);
        self.incomplete = self.incomplete.saturating_add(u64::from(is_incomplete));
        self.without_start = self.without_start.saturating_add(u64::from(lacks_start));
        self.tally.add(&tally);
        for (call, facts) in calls {
            let own = self.calls.entry(call).or_default();
            own.facts = own.facts.saturating_add(facts);
        }
        if let Some(asked) = asked {
            self.asked.get_or_insert_default().add(asked);
        }
        let mut here: BTreeMap<About, u64> = BTreeMap::new();
        for told in told.into_iter().filter(|told| told.about.kind < Kind::NotNeeded) {
            let About { kind, abi, name, .. } = &told.about;
            let of_call = self.calls.entry((*abi, name.clone())).or_default();
            of_call.worst = Some(of_call.worst.map_or(*kind, |worst| worst.min(*kind)));
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
                let own = self.beyond.entry(*kind).or_default();
                *own = own.saturating_add(1);
            }
        }
    }

    /// What is missing from the evidence, whatever was judged.
    pub(super) fn gaps(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.incomplete > 0 {
            warnings.push(format!(
                "{} of {} traces were not closed or lost calls, so calls may be missing from them; record these again",
                self.incomplete, self.traces
            ));
        }
        if self.without_start > 0 {
            warnings.push(format!(
                "{} of {} traces do not have the workload's start, so what only start-up needs was not judged; restart it while recording",
                self.without_start, self.traces
            ));
        }
        warnings
    }

    /// What a reader of the result must know about the traces, and of those calls in them that this host's libseccomp
    /// does not know.
    pub(super) fn warnings(&self, unknown: &BTreeSet<String>) -> Vec<String> {
        let mut warnings = self.gaps();
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
        } else if self.tally.unknown.facts > 0 || self.incomplete > 0 || self.without_start > 0 {
            exit::EVIDENCE
        } else {
            exit::YES
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;
    use crate::replay::court::Told;
    use synth::{Judgement, Section, Verdict};

    /// A trace with so many different denied calls of one name, and a last one of another.
    pub(in crate::replay) fn denied(name: &str, calls: usize) -> File {
        let about = |number: usize, name: &str| About {
            kind: Kind::Denied,
            abi: Abi::X86_64,
            name: name.to_owned(),
            section: Section::Workload,
            call: format!("{name}({number})"),
            why: "EPERM".to_owned(),
        };
        let told = |about| Told {
            about,
            number: 0,
            calls: 1,
            phases: BTreeSet::new(),
            first: FirstSight { after_ms: 0, pid: 1, comm: String::new() },
        };
        let mut tally = Tally::default();
        (0..calls).for_each(|_| tally.count(&Judgement::Denied(Verdict::Errno(1)), 1));
        File {
            path: Path::new("trace.json").to_owned(),
            tally,
            calls: BTreeMap::from([((Abi::X86_64, name.to_owned()), calls as u64)]),
            told: (0..calls).map(|number| told(about(number, name))).collect(),
            asked: None,
            is_incomplete: false,
            lacks_start: false,
        }
    }

    #[test]
    fn what_is_not_listed_is_counted_and_kept_as_the_worst_of_its_call() {
        let mut sum = Sum::default();
        sum.add(denied("ioctl", MOST));
        assert!(sum.beyond.is_empty());
        sum.add(denied("prctl", 7));
        sum.add(denied("ioctl", 5));
        assert_eq!((sum.noted.len(), sum.beyond[&Kind::Denied]), (MOST, 7));
        let prctl = OfCall { facts: 7, worst: Some(Kind::Denied) };
        assert_eq!(sum.calls[&(Abi::X86_64, "prctl".to_owned())], prctl);
        assert_eq!((sum.tally.denied.facts, sum.exit()), (MOST as u64 + 12, exit::NO));
    }

    #[test]
    fn a_recording_without_its_start_is_no_evidence_of_it() {
        let mut sum = Sum::default();
        sum.add(File { lacks_start: true, ..denied("read", 0) });
        assert_eq!(sum.exit(), exit::EVIDENCE);
        assert!(sum.gaps()[0].starts_with("1 of 1 traces do not have the workload's start"));
    }
}
