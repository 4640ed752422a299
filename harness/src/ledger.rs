//! The denials so far: one for each kind, in the order of their first sight, bounded.

use std::{
    collections::HashMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Instant,
};

use synth::{Profile, Verdict};
use trace::{Abi, PhaseName};

use crate::{Denial, Stage, remedy};

/// A workload that is refused in endless variety must not fill our memory.
const MOST_KINDS: usize = 4096;

/// Sets the phase that denials are written under.
#[derive(Clone, Debug, Default)]
pub struct PhaseSetter(Arc<AtomicU8>);

impl PhaseSetter {
    /// From now on denials belong to this phase.
    pub fn set(&self, phase: PhaseName) {
        let place = PhaseName::ALL.iter().position(|one| *one == phase).unwrap_or(0);
        self.0.store(u8::try_from(place).unwrap_or(0), Relaxed);
    }

    fn get(&self) -> PhaseName {
        PhaseName::ALL.get(usize::from(self.0.load(Relaxed))).copied().unwrap_or(PhaseName::Startup)
    }
}

/// A call that the profile refuses.
pub(crate) struct Refused {
    pub(crate) abi: Abi,
    pub(crate) number: u32,
    pub(crate) arguments: [u64; 6],
    pub(crate) verdict: Verdict,
    pub(crate) thread: u32,
    pub(crate) process: u32,
    pub(crate) stage: Stage,
}

/// Two refusals are of one kind when the same rule would allow both and threads of one name asked.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Kind {
    abi: Abi,
    number: u32,
    verdict: Verdict,
    comm: String,
    stage: Stage,
    remedy: String,
}

/// The denials of one start.
#[derive(Debug)]
pub(crate) struct Ledger {
    profile: Profile,
    native: Abi,
    start: Instant,
    phase: PhaseSetter,
    places: HashMap<Kind, usize>,
    denials: Vec<Denial>,
    unlisted: u64,
    own_listener: Option<String>,
}

impl Ledger {
    pub(crate) fn new(profile: Profile, native: Abi, phase: PhaseSetter) -> Self {
        Self {
            profile,
            native,
            start: Instant::now(),
            phase,
            places: HashMap::new(),
            denials: Vec::new(),
            unlisted: 0,
            own_listener: None,
        }
    }

    /// Whether the profile means ENOSYS when it says so for this call.
    pub(crate) fn is_explicit_enosys(&self, abi: Abi, number: u32, verdict: Verdict) -> bool {
        verdict == Verdict::Errno(trace::Errno::ENOSYS.number())
            && remedy::says_enosys(&self.profile, &abi.name(number).to_string())
    }

    /// Writes a denial down.
    pub(crate) fn refuse(&mut self, refused: &Refused) {
        let Refused { abi, number, arguments, verdict, thread, process, stage } = *refused;
        let name = abi.name(number).to_string();
        let remedy = remedy::remedy(&self.profile, self.native, abi, &name, Some(&arguments));
        let kind = Kind { abi, number, verdict, comm: comm(thread), stage, remedy };
        if let Some(denial) = self.places.get(&kind).and_then(|place| self.denials.get_mut(*place)) {
            denial.count += 1;
            return;
        }
        if self.denials.len() >= MOST_KINDS {
            self.unlisted += 1;
            return;
        }
        let rule = remedy::in_words(&self.profile, abi, &name, Some(&arguments));
        self.denials.push(Denial {
            abi,
            number,
            file: file(abi, number, &arguments, thread),
            name,
            args: arguments,
            verdict,
            explicit_enosys: self.is_explicit_enosys(abi, number, verdict),
            count: 1,
            pid: process,
            comm: kind.comm.clone(),
            stage,
            phase: self.phase.get(),
            after_ms: u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX),
            remedy: kind.remedy.clone(),
            rule,
        });
        self.places.insert(kind, self.denials.len() - 1);
    }

    /// A refused call of an architecture that no ABI of ours has.
    pub(crate) const fn refuse_unknown(&mut self) {
        self.unlisted += 1;
    }

    /// The workload asked for a listener of its own.
    pub(crate) fn own_listener(&mut self, thread: u32) {
        self.own_listener.get_or_insert_with(|| comm(thread));
    }

    pub(crate) fn denials(&self) -> Vec<Denial> {
        self.denials.clone()
    }

    pub(crate) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(comm) = &self.own_listener {
            remarks.push(format!(
                "`{comm}` asked for a seccomp listener of its own and was refused it (EBUSY), since the naming of \
                 denials needs the only one there can be; under the plain filter it would get it"
            ));
        }
        if self.unlisted > 0 {
            remarks.push(format!("{} more denials are not listed, being of too many kinds", self.unlisted));
        }
        remarks
    }
}

/// What the descriptor is of that a waiting call was made with, as far as it says nothing about the user's files.
fn file(abi: Abi, number: u32, arguments: &[u64; 6], thread: u32) -> Option<String> {
    let call = synth::arguments::captured(abi).find(|call| call.number == number)?;
    let descriptor = call.descriptor?;
    let argument = |index: u32| arguments.get(usize::try_from(index).ok()?).copied();
    if let Some((index, bits)) = descriptor.unless
        && argument(index)? & bits != 0
    {
        return None;
    }
    // The kernel reads 32 bits of it.
    let number = argument(descriptor.index)? & 0xffff_ffff;
    let path =
        fs::read_link(format!("/proc/{thread}/fd/{number}")).ok()?.into_os_string().into_string().ok()?;
    (!path.starts_with('/') || path.starts_with("/dev/")).then_some(path)
}

/// The name of a thread that waits in a call; empty when it was killed meanwhile.
fn comm(thread: u32) -> String {
    let name = fs::read(format!("/proc/{thread}/comm")).unwrap_or_default();
    String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned()
}
