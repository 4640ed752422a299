//! Many traces, judged at once: each is read, judged, reduced to what is told of it, and dropped, so that memory does
//! not grow with their number.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, anyhow, ensure};
use synth::{CompileOptions, Evidence, Fact, Judge, Judgement, NotNeeded, Profile, Section, Tally, replay};
use trace::{Abi, FirstSight, PhaseName, Startup, Trace};

use super::kernel::{Asked, Kernel};
use crate::input;

/// How many traces each thread may be ahead of the first that is not told yet.
const AHEAD: usize = 16;

/// Who judges.
pub(super) struct Court {
    profile: Profile,
    evidence: Option<Evidence>,
    compile: CompileOptions,
    kernel: Option<Kernel>,
    /// Whether every fact is told, or only what is not plainly allowed.
    all: bool,
    /// By the machine that was recorded.
    judges: Mutex<BTreeMap<Abi, Arc<Judge>>>,
}

/// What came of a trace.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) tally: Tally,
    /// How many facts there are of each call.
    pub(super) calls: BTreeMap<(Abi, String), u64>,
    /// What is told.
    pub(super) told: Vec<Told>,
    /// What the kernel said.
    pub(super) asked: Option<Asked>,
    /// Whether calls may be missing from the trace.
    pub(super) is_incomplete: bool,
    /// Whether the workload ran before the recording began.
    pub(super) lacks_start: bool,
}

/// A fact, as it is told.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) about: About,
    pub(super) number: u32,
    pub(super) calls: u64,
    pub(super) phases: BTreeSet<PhaseName>,
    pub(super) first: FirstSight,
}

/// By what facts of different traces are the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct About {
    pub(super) kind: Kind,
    pub(super) abi: Abi,
    pub(super) name: String,
    pub(super) section: Section,
    /// The call in words.
    pub(super) call: String,
    /// How it is refused, or why it cannot be told.
    pub(super) why: String,
}

/// The judgements, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Denied,
    Unknown,
    OnPurpose,
    NotNeeded,
    Allowed,
}

impl Kind {
    /// The word for it in what programs read.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Unknown => "unknown",
            Self::OnPurpose => "on-purpose",
            Self::NotNeeded => "not-needed",
            Self::Allowed => "allowed",
        }
    }
}

impl Court {
    pub(super) fn new(
        profile: Profile,
        evidence: Option<Evidence>,
        compile: CompileOptions,
        native: bool,
        all: bool,
    ) -> anyhow::Result<Self> {
        let kernel = if native { Some(Kernel::new()?) } else { None };
        Ok(Self { profile, evidence, compile, kernel, all, judges: Mutex::default() })
    }

    pub(super) const fn has_evidence(&self) -> bool {
        self.evidence.is_some()
    }

    /// The names in the profile that this host's libseccomp does not know.
    pub(super) fn unknown_names(&self) -> BTreeSet<String> {
        let judges = self.judges.lock().unwrap_or_else(PoisonError::into_inner);
        judges.values().flat_map(|judge| judge.unknown_names()).cloned().collect()
    }

    /// Judges each trace, and hands the results over in the order of the files.
    pub(super) fn judge_all(&self, files: &[PathBuf], take: impl FnMut(File)) -> anyhow::Result<()> {
        in_order(files, |path| self.judge(path), take)
    }

    /// Reads and judges one trace.
    fn judge(&self, path: &Path) -> anyhow::Result<File> {
        let trace = input::trace(path)?;
        let judge = self.for_machine(&trace).with_context(|| format!("cannot judge `{}`", path.display()))?;
        let replay = replay(&judge, &trace);
        let mut calls: BTreeMap<(Abi, String), u64> = BTreeMap::new();
        for fact in &replay.facts {
            let own = calls.entry((fact.row.abi, fact.row.name.clone())).or_default();
            *own = own.saturating_add(1);
        }
        let is_told = |fact: &&Fact<'_>| {
            self.all || !matches!(fact.judgement, Judgement::Allowed | Judgement::NotNeeded(_))
        };
        let asked = match &self.kernel {
            Some(kernel) => {
                let asked = kernel.ask(&judge, &replay.facts);
                Some(asked.with_context(|| format!("cannot ask the kernel about `{}`", path.display()))?)
            }
            None => None,
        };
        Ok(File {
            path: path.to_owned(),
            tally: replay.tally,
            calls,
            told: replay.facts.iter().filter(is_told).map(told).collect(),
            asked,
            is_incomplete: !trace.complete || trace.losses.lost_calls(),
            lacks_start: trace.startup == Startup::NotRecorded,
        })
    }

    /// The judge for the machine that a trace is of.
    fn for_machine(&self, trace: &Trace) -> anyhow::Result<Arc<Judge>> {
        let machine = &trace.recorder.arch;
        let native = Abi::native_of(machine).ok_or_else(|| {
            anyhow!("it comes from a machine `{machine}`; supported are x86_64 and aarch64")
        })?;
        let mut judges = self.judges.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(judge) = judges.get(&native) {
            return Ok(Arc::clone(judge));
        }
        let mut judge =
            Judge::new(&self.profile, native, self.compile).context("cannot compile the profile")?;
        if let Some(evidence) = &self.evidence {
            judge = judge.with_evidence(evidence);
        }
        let judge = Arc::new(judge);
        judges.insert(native, Arc::clone(&judge));
        Ok(judge)
    }
}

/// Does the same to each file, on all cores, and hands the results over in the order of the files up to the first that
/// failed.
fn in_order<T: Send>(
    files: &[PathBuf],
    one: impl Fn(&Path) -> anyhow::Result<T> + Sync,
    mut take: impl FnMut(T),
) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(files.len());
    for part in files.chunks(threads.max(1).saturating_mul(AHEAD)) {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some((at, path)) = {
                let at = next.fetch_add(1, Ordering::Relaxed);
                part.get(at).map(|path| (at, path))
            } {
                let result = one(path);
                let failed = result.is_err();
                done.push((at, result));
                if failed {
                    break;
                }
            }
            done
        };
        let mut results: BTreeMap<usize, anyhow::Result<T>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            // Of one that panicked the files are missing below.
            workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
        });
        for (at, path) in part.iter().enumerate() {
            let result = results.remove(&at);
            ensure!(result.is_some(), "`{}` was not judged; please report this", path.display());
            result.transpose()?.map(&mut take);
        }
    }
    Ok(())
}

fn told(fact: &Fact<'_>) -> Told {
    let (kind, why) = match &fact.judgement {
        Judgement::Allowed => (Kind::Allowed, String::new()),
        Judgement::Denied(verdict) => (Kind::Denied, verdict.to_string()),
        Judgement::OnPurpose(purpose) => (Kind::OnPurpose, purpose.in_words()),
        Judgement::Unknown(unknown) => (Kind::Unknown, unknown.as_str().to_owned()),
        Judgement::NotNeeded(why) => (Kind::NotNeeded, NotNeeded::in_words(why)),
    };
    Told {
        about: About {
            kind,
            abi: fact.row.abi,
            name: fact.row.name.clone(),
            section: fact.section,
            call: fact.in_words(),
            why,
        },
        number: fact.row.number,
        calls: fact.calls,
        phases: fact.phases().clone(),
        first: fact.first().clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(count: usize) -> Vec<PathBuf> {
        (0..count).map(|number| number.to_string().into()).collect()
    }

    #[test]
    fn every_file_has_its_result_in_their_order() {
        for count in [0, 1, 7, 1000] {
            let mut taken = Vec::new();
            in_order(&files(count), |path| Ok(path.to_owned()), |path| taken.push(path)).unwrap();
            assert_eq!(taken, files(count));
        }
    }

    #[test]
    fn the_first_that_fails_is_told_and_none_after_it() {
        let bad = |path: &Path| {
            if path.ends_with("3") || path.ends_with("5") { Err(anyhow!("{path:?}")) } else { Ok(()) }
        };
        let mut taken = 0;
        let error = in_order(&files(9), bad, |()| taken += 1).unwrap_err().to_string();
        assert_eq!((taken, error.as_str()), (3, "\"3\""));
    }

    /// A result that nobody has is never a good one.
    #[test]
    fn a_thread_that_panics_is_an_error() {
        for count in [1, 200] {
            let at = (count / 2).to_string();
            let work = |path: &Path| {
                assert!(!path.ends_with(&at), "on purpose");
                Ok(())
            };
            let error = in_order(&files(count), work, |()| ()).unwrap_err().to_string();
            assert!(error.contains("was not judged; please report this"), "{error}");
        }
    }
}
