//! What a watcher has to say about one call: a denial, or what would be one.

use std::collections::BTreeMap;

use profiler::ebpf::{Refusal, Tuples};
use synth::Verdict;
use trace::{Abi, FirstSight, Outcome, Row};

use crate::{Answer, Judge, Stage, attribute::answer};

/// What was seen of one call, with one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Whether it was refused, or would have been.
    pub kind: Kind,
    /// Who called.
    pub stage: Stage,
    /// Through which ABI.
    pub abi: Abi,
    /// The number in that ABI.
    pub number: u32,
    /// The syscall.
    pub name: String,
    /// The answer; for [`Kind::NotKnown`] the one it would be if it were refused.
    pub answer: Verdict,
    /// Whether the profile means it: programs then take their way around it.
    pub explicit_enosys: bool,
    /// How often.
    pub count: u64,
    /// The arguments of the first; of a call that would be refused, the bits that the profile compares.
    pub args: Option<[u64; 6]>,
    /// Who called first, and when.
    pub first: FirstSight,
    /// The smallest rule that would allow it, where the profile is known.
    pub remedy: Option<String>,
    /// The same in words.
    pub rule: Option<String>,
}

/// How a call fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A filter refused it.
    Denied,
    /// The profile that is asked would refuse it; nothing did.
    WouldBeDenied,
    /// The profile's answer depends on arguments that were not seen.
    NotKnown,
    /// The profile would refuse it with the very errno that the kernel gave each time: nothing would change.
    Same,
}

impl Kind {
    /// The name in what programs read.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::WouldBeDenied => "would-be-denied",
            Self::NotKnown => "not-known",
            Self::Same => "same",
        }
    }
}

/// What makes two sightings one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    kind: Kind,
    stage: Stage,
    abi: Abi,
    number: u32,
    answer: Verdict,
    remedy: Option<String>,
}

impl Sighting {
    /// What it has in common with later sightings of the same.
    #[must_use]
    pub fn key(&self) -> Key {
        let Self { kind, stage, abi, number, answer, ref remedy, .. } = *self;
        Key { kind, stage, abi, number, answer, remedy: remedy.clone() }
    }

    /// Whether it speaks against the profile.
    #[must_use]
    pub const fn is_denial(&self) -> bool {
        matches!(self.kind, Kind::Denied | Kind::WouldBeDenied) && !self.explicit_enosys
    }
}

/// The refusals of filters that are in force; `judge` is asked about them where it is known which filter that is.
#[must_use]
pub(super) fn refused(refusals: &[Refusal], judge: Option<&Judge>) -> Vec<Sighting> {
    let sighting = |refusal: &Refusal| {
        let answer = answer(refusal.outcome);
        let Refusal { abi, number, arguments: args, .. } = *refusal;
        Sighting {
            kind: Kind::Denied,
            stage: refusal.class.into(),
            abi,
            number,
            name: refusal.name.clone(),
            answer,
            explicit_enosys: judge.is_some_and(|judge| judge.is_explicit_enosys(abi, number, answer)),
            count: refusal.count,
            args,
            first: refusal.first.clone(),
            remedy: judge.map(|judge| judge.remedy(abi, number, args.as_ref())),
            rule: judge.map(|judge| judge.rule(abi, number, args.as_ref())),
        }
    };
    refusals.iter().map(sighting).collect()
}

/// The same from rows, which know nothing of arguments.
#[must_use]
pub(super) fn denied(rows: &[Row], stage: Stage, judge: Option<&Judge>) -> Vec<Sighting> {
    let mut sightings = Vec::new();
    for row in rows {
        for (outcome, count) in &row.refusals {
            let answer = answer(*outcome);
            sightings.push(Sighting {
                kind: Kind::Denied,
                stage,
                abi: row.abi,
                number: row.number,
                name: row.name.clone(),
                answer,
                explicit_enosys: judge
                    .is_some_and(|judge| judge.is_explicit_enosys(row.abi, row.number, answer)),
                count: *count,
                args: None,
                first: row.first.clone(),
                remedy: None,
                rule: None,
            });
        }
    }
    sightings
}

/// What the profile would say to calls that were carried out, or tried. The rows were read before the arguments;
/// `settled` says that nothing was counted in between.
#[must_use]
pub(super) fn would_be_refused(
    judge: &Judge,
    stage: Stage,
    rows: &[Row],
    captured: &Tuples,
    settled: bool,
) -> Vec<Sighting> {
    let mut sightings = Vec::new();
    for row in rows.iter().filter(|row| row.calls > 0) {
        let asked = Asked { judge, stage, row, settled };
        match judge.answer(row.abi, row.number) {
            Answer::Allowed => {}
            Answer::Refused(verdict) => {
                let kind = if only_failed_with(row, verdict) { Kind::Same } else { Kind::WouldBeDenied };
                sightings.push(asked.sighting(kind, verdict, None, row.calls));
            }
            Answer::Depends(_) => asked.by_arguments(captured, &mut sightings),
        }
    }
    sightings
}

struct Asked<'a> {
    judge: &'a Judge,
    stage: Stage,
    row: &'a Row,
    settled: bool,
}

impl Asked<'_> {
    fn by_arguments(&self, captured: &Tuples, sightings: &mut Vec<Sighting>) {
        let Row { abi, number, calls, denied, .. } = *self.row;
        let mut known = 0u64;
        let mut refused: BTreeMap<(Verdict, String), ([u64; 6], u64)> = BTreeMap::new();
        let own = captured.kept.iter().filter(|tuple| {
            (tuple.abi, tuple.number) == (abi, number) && Stage::from(tuple.class) == self.stage
        });
        for tuple in own {
            known = known.saturating_add(tuple.count);
            let verdict = self.judge.verdict(abi, number, tuple.args);
            if !verdict.executes() {
                let remedy = self.judge.remedy(abi, number, Some(&tuple.args));
                refused.entry((verdict, remedy)).or_insert((tuple.args, 0)).1 += tuple.count;
            }
        }
        for ((verdict, _), (args, count)) in refused {
            let kind = if only_failed_with(self.row, verdict) { Kind::Same } else { Kind::WouldBeDenied };
            sightings.push(self.sighting(kind, verdict, Some(args), count));
        }
        let unknown = calls.saturating_add(denied).saturating_sub(known);
        let wide = captured
            .wide
            .iter()
            .any(|(class, own, other)| (Stage::from(*class), *own, *other) == (self.stage, abi, number));
        // A call that is just being counted is known by the next look.
        if unknown > 0 && (self.settled || known == 0 || wide || captured.full) {
            let verdict = self.judge.verdict(abi, number, [u64::MAX; 6]);
            sightings.push(self.sighting(Kind::NotKnown, verdict, None, unknown));
        }
    }

    fn sighting(&self, kind: Kind, answer: Verdict, args: Option<[u64; 6]>, count: u64) -> Sighting {
        let Row { abi, number, ref name, ref first, .. } = *self.row;
        let judge = (kind != Kind::NotKnown).then_some(self.judge);
        Sighting {
            kind,
            stage: self.stage,
            abi,
            number,
            name: name.clone(),
            answer,
            explicit_enosys: self.judge.is_explicit_enosys(abi, number, answer),
            count,
            args,
            first: first.clone(),
            remedy: judge.map(|judge| judge.remedy(abi, number, args.as_ref())),
            rule: judge.map(|judge| judge.rule(abi, number, args.as_ref())),
        }
    }
}

/// Whether nothing would change if the profile refused it in this way.
fn only_failed_with(row: &Row, verdict: Verdict) -> bool {
    let Verdict::Errno(errno) = verdict else { return false };
    let same = |outcome: &Outcome| matches!(outcome, Outcome::Error(own) if own.number() == errno);
    row.in_flight == 0 && row.never_returned == 0 && row.outcomes.keys().all(same) && !row.outcomes.is_empty()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use profiler::ebpf::{Class, Tuple};
    use synth::Profile;
    use trace::Errno;

    use super::*;

    fn row(name: &str, calls: u64, outcome: Outcome) -> Row {
        let number = Abi::X86_64.number(name).unwrap();
        Row {
            abi: Abi::X86_64,
            number,
            name: name.to_owned(),
            calls,
            runs: 1,
            denied: 0,
            outcomes: BTreeMap::from([(outcome, calls)]),
            refusals: BTreeMap::new(),
            in_flight: 0,
            never_returned: 0,
            phases: BTreeSet::new(),
            first: FirstSight { after_ms: 3, pid: 7, comm: "sh".to_owned() },
            arguments: None,
        }
    }

    fn tuple(name: &str, args: [u64; 6], count: u64) -> Tuple {
        let number = Abi::X86_64.number(name).unwrap();
        Tuple { abi: Abi::X86_64, number, args, class: Class::Workload, count }
    }

    fn judge() -> Judge {
        let profile = br#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"names":["read"],"action":"SCMP_ACT_ALLOW"},
            {"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38},
            {"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":4294967295,"valueTwo":2,"op":"SCMP_CMP_MASKED_EQ"}]}]}"#;
        Judge::new(Profile::read(profile).unwrap()).unwrap()
    }

    fn seen(rows: &[Row], captured: &Tuples) -> Vec<(Kind, String, u64)> {
        let seen = would_be_refused(&judge(), Stage::Workload, rows, captured, true);
        seen.into_iter().map(|one| (one.kind, one.name, one.count)).collect()
    }

    #[test]
    fn a_call_is_refused_known_not_to_matter_or_not_known() {
        let eperm = Outcome::Error(Errno::EPERM);
        let rows = [
            row("read", 9, Outcome::Ok),
            row("mkdir", 4, Outcome::Ok),
            row("mount", 2, eperm),
            row("socket", 5, Outcome::Ok),
        ];
        let named = |kind, name: &str, count| (kind, name.to_owned(), count);
        let always = [named(Kind::WouldBeDenied, "mkdir", 4), named(Kind::Same, "mount", 2)];
        // Nothing is known of the arguments: never silently allowed.
        let mut expected = always.to_vec();
        expected.push(named(Kind::NotKnown, "socket", 5));
        assert_eq!(seen(&rows, &Tuples::default()), expected);
        // Everything is known of them.
        let tuples = vec![tuple("socket", [2, 0, 0, 0, 0, 0], 3), tuple("socket", [16, 0, 0, 0, 0, 0], 2)];
        let mut captured = Tuples { kept: tuples, ..Tuples::default() };
        expected[2] = named(Kind::WouldBeDenied, "socket", 2);
        assert_eq!(seen(&rows, &captured), expected);
        // A part of it.
        captured.kept.pop();
        captured.wide.insert((Class::Workload, Abi::X86_64, 41));
        expected[2] = named(Kind::NotKnown, "socket", 2);
        assert_eq!(seen(&rows, &captured), expected);
    }

    #[test]
    fn a_refusal_that_the_profile_means_is_no_denial() {
        let refusal = |name: &str, outcome| Refusal {
            abi: Abi::X86_64,
            number: Abi::X86_64.number(name).unwrap(),
            name: name.to_owned(),
            class: Class::Workload,
            outcome,
            count: 1,
            first: FirstSight { after_ms: 3, pid: 7, comm: "sh".to_owned() },
            arguments: Some([0; 6]),
        };
        let refusals = [
            refusal("clone3", Outcome::Error(Errno::ENOSYS)),
            refusal("mkdir", Outcome::Error(Errno::EPERM)),
        ];
        let judge = judge();
        let denials = |judge| refused(&refusals, judge).iter().map(Sighting::is_denial).collect::<Vec<_>>();
        assert_eq!(denials(Some(&judge)), [false, true]);
        assert_eq!(denials(None), [true, true]);
    }
}
