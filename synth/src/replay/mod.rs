//! Replay: what a profile would have answered to every call that a trace has, decided on the compiled filter.

mod judgement;
mod purpose;

use std::collections::BTreeSet;

use trace::{Abi, Errno, FirstSight, Outcome, PhaseName, Row, Trace, Values};

use crate::{
    arguments,
    clause::Clause,
    compile::{CompileError, CompileOptions, compile},
    decode,
    evidence::Evidence,
    kernel::bypasses_filters,
    knowledge::{Fallback, siblings},
    machine::Machine,
    possible::{QUESTION, Registers, possible},
    profile::Profile,
    simulate::{SeccompData, Verdict},
};

pub use judgement::{Judgement, NotNeeded, Purpose, Tallied, Tally, Unknown};
use purpose::Purposes;

/// A profile that calls can be held against.
#[derive(Debug)]
pub struct Judge {
    machine: Machine,
    unknown: Vec<String>,
    purposes: Purposes,
}

/// Which of a trace's lists a call is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// The workload's own.
    Workload,
    /// The container runtime's, after it loaded the filter.
    RuntimeStart,
    /// Those of exec sessions.
    Exec,
}

impl Section {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::RuntimeStart => "runtime start",
            Self::Exec => "exec session",
        }
    }
}

/// What a profile makes of the calls of a trace.
#[derive(Clone, Debug)]
pub struct Replay<'t> {
    /// Every recorded fact, in the trace's order.
    pub facts: Vec<Fact<'t>>,
    /// How many.
    pub tally: Tally,
}

/// A call with its arguments, as it was recorded.
#[derive(Clone, Debug)]
pub struct Fact<'t> {
    /// Where it stands.
    pub section: Section,
    /// The row.
    pub row: &'t Row,
    /// The arguments, where the row has them and these calls are among them.
    pub values: Option<&'t Values>,
    /// The same, as a filter sees them.
    pub registers: Registers,
    /// How often the call was made so; for what only a filter answered, how often that was.
    pub calls: u64,
    /// What the profile says.
    pub judgement: Judgement,
}

impl<'t> Fact<'t> {
    /// The phases in which it was seen.
    #[must_use]
    pub fn phases(&self) -> &'t BTreeSet<PhaseName> {
        self.values.map_or(&self.row.phases, |values| &values.phases)
    }

    /// Who made it first.
    #[must_use]
    pub fn first(&self) -> &'t FirstSight {
        self.values.map_or(&self.row.first, |values| &values.first)
    }

    /// The call as people write it: `socket(AF_INET, SOCK_STREAM, IPPROTO_TCP)`; the name where no arguments are known.
    #[must_use]
    pub fn in_words(&self) -> String {
        match (self.values, &self.row.arguments) {
            (Some(values), Some(arguments)) if !arguments.kept.is_empty() => {
                decode::recorded(self.row.abi, &self.row.name, &arguments.kept, values)
            }
            _ => self.row.name.clone(),
        }
    }
}

impl Judge {
    /// Compiles a profile for a machine whose own ABI is `native`.
    ///
    /// # Errors
    /// See [`CompileError`].
    pub fn new(profile: &Profile, native: Abi, options: CompileOptions) -> Result<Self, CompileError> {
        let program = compile(profile, native, options)?;
        let machine = Machine::new(&program).map_err(CompileError::Filter)?;
        Ok(Self { machine, unknown: program.unknown, purposes: Purposes::default() })
    }

    /// The same, with what the profile's evidence says is refused on purpose.
    #[must_use]
    pub fn with_evidence(self, evidence: &Evidence) -> Self {
        Self { purposes: Purposes::new(evidence), ..self }
    }

    /// The filter.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The profile's names that are not in the filter, because libseccomp does not know them.
    #[must_use]
    pub fn unknown_names(&self) -> &[String] {
        &self.unknown
    }

    /// What a kernel answers to a call under this profile alone.
    #[must_use]
    pub fn verdict(&self, abi: Abi, number: u32, arguments: [u64; 6]) -> Verdict {
        if bypasses_filters(abi, number) {
            return Verdict::Allow;
        }
        self.machine.run(&SeccompData::call(abi, number, arguments)).verdict
    }

    /// The verdicts that are possible for a call of which not all is known; none if that cannot be told.
    #[must_use]
    pub fn verdicts(&self, abi: Abi, number: u32, registers: &Registers) -> Option<BTreeSet<Verdict>> {
        self.verdicts_within(abi, number, registers, &mut { QUESTION })
    }

    /// The same, as long as something is left of what that may cost.
    fn verdicts_within(
        &self,
        abi: Abi,
        number: u32,
        registers: &Registers,
        left: &mut u32,
    ) -> Option<BTreeSet<Verdict>> {
        if bypasses_filters(abi, number) {
            return Some(BTreeSet::from([Verdict::Allow]));
        }
        let SeccompData { nr, arch, .. } = SeccompData::call(abi, number, [0; 6]);
        let answers = possible(&self.machine, nr, arch, registers, left)?;
        Some(answers.into_iter().map(Verdict::from_ret).collect())
    }

    /// What a profile says about a needed call; `why` is what it means that its arguments matter and are not known. What
    /// it costs to tell is taken from what is left.
    fn judge(&self, fact: &Fact<'_>, why: Unknown, left: &mut u32) -> Judgement {
        let Row { abi, number, name, .. } = fact.row;
        let Some(verdicts) = self.verdicts_within(*abi, *number, &fact.registers, left) else {
            return self.purposes.unknown(fact, why).map_or(Judgement::Unknown(why), Judgement::OnPurpose);
        };
        if verdicts.iter().all(|verdict| verdict.executes()) {
            return Judgement::Allowed;
        }
        let asks = |verdict: &Verdict| matches!(verdict, Verdict::Notify | Verdict::Trace(_));
        let refusal = verdicts.iter().find(|verdict| !verdict.executes() && !asks(verdict)).copied();
        let Some(verdict) = refusal.filter(|_| !verdicts.iter().any(|own| own.executes() || asks(own)))
        else {
            let why = if verdicts.iter().any(asks) { Unknown::Supervised } else { why };
            return self.purposes.unknown(fact, why).map_or(Judgement::Unknown(why), Judgement::OnPurpose);
        };
        let single = verdicts.len() == 1;
        if let Some(errno) = probe(fact.row).filter(|errno| single && answers(verdict, *errno)) {
            return Judgement::NotNeeded(NotNeeded::Probe(errno));
        }
        if let Some(purpose) = self.purposes.find(fact, &verdicts) {
            return Judgement::OnPurpose(purpose);
        }
        if single
            && answers(verdict, Errno::ENOSYS)
            && let Some(other) = self.fallback(*abi, name)
        {
            return Judgement::NotNeeded(NotNeeded::Fallback(other.to_owned()));
        }
        Judgement::Denied(verdict)
    }

    /// The call that takes this one's place where it fails with `ENOSYS`, if the profile allows that.
    fn fallback(&self, abi: Abi, name: &str) -> Option<&'static str> {
        let allows = |fallback: &&Fallback| {
            let arguments =
                Clause::of_entry(&[fallback.limit.0], |index| arguments::is_narrow(&fallback.to, index));
            let number = abi.number(&fallback.to);
            number.is_some_and(|number| {
                arguments.iter().any(|clause| self.verdict(abi, number, clause.witness()).executes())
            })
        };
        let all = siblings().fallback.iter().filter(|fallback| fallback.from == name);
        all.into_iter().find(allows).map(|fallback| fallback.to.as_str())
    }
}

fn answers(verdict: Verdict, errno: Errno) -> bool {
    verdict == Verdict::Errno(errno.number())
}

/// The errno with which every call failed, if it is one of a probe's.
fn probe(row: &Row) -> Option<Errno> {
    match row.outcomes.iter().next() {
        Some((Outcome::Error(errno @ (Errno::ENOSYS | Errno::EPERM)), calls)) => {
            (*calls == row.calls).then_some(*errno)
        }
        _ => None,
    }
}

/// What the ways to make a call may cost together, and what each may all the same, so that what is plain is told.
const ROW: u32 = 4 * QUESTION;
const LEAST: u32 = 4_000;

/// Holds every call of a trace against a profile.
///
/// The container runtime's calls count from when it loaded the filter, where that was seen.
#[must_use]
pub fn replay<'t>(judge: &Judge, trace: &'t Trace) -> Replay<'t> {
    let start = trace.runtime.iter().filter(|runtime| runtime.filter.was_loaded());
    let start = start.flat_map(|runtime| &runtime.start).map(|row| (Section::RuntimeStart, row));
    let exec = trace.exec.iter().flat_map(|exec| &exec.syscalls).map(|row| (Section::Exec, row));
    let workload = trace.syscalls.iter().map(|row| (Section::Workload, row));
    let mut facts = Vec::new();
    for (section, row) in workload.chain(start).chain(exec) {
        of_row(judge, section, row, &mut facts);
    }
    let mut tally = Tally::default();
    for fact in &facts {
        tally.count(&fact.judgement, fact.calls);
    }
    Replay { facts, tally }
}

fn of_row<'t>(judge: &Judge, section: Section, row: &'t Row, facts: &mut Vec<Fact<'t>>) {
    let mut of_this_row = ROW;
    let mut push = |values: Option<&'t Values>, registers: Registers, calls: u64, why: Option<Unknown>| {
        let judgement = Judgement::NotNeeded(NotNeeded::OnlyRefused);
        let mut fact = Fact { section, row, values, registers, calls, judgement };
        if let Some(why) = why {
            let share = of_this_row.clamp(LEAST, QUESTION);
            let mut left = share;
            fact.judgement = judge.judge(&fact, why, &mut left);
            of_this_row = of_this_row.saturating_sub(share - left);
            if judge.purposes.leaves_out(section) && fact.judgement != Judgement::Allowed {
                fact.judgement = Judgement::NotNeeded(NotNeeded::LeftOut(section));
            }
        }
        facts.push(fact);
    };
    if row.calls == 0 {
        return push(None, Registers::default(), row.denied, None);
    }
    let Some(arguments) = &row.arguments else {
        return push(None, Registers::default(), row.calls, Some(Unknown::Unrecorded));
    };
    for values in &arguments.values {
        let registers = registers(row, arguments, values);
        match values.calls {
            0 => push(Some(values), registers, values.denied, None),
            calls => push(Some(values), registers, calls, Some(Unknown::NotKept)),
        }
    }
    if arguments.unread > 0 {
        push(None, Registers::default(), arguments.unread, Some(Unknown::Unread));
    }
    if arguments.beyond > 0 || arguments.wide {
        push(None, Registers::default(), arguments.beyond, Some(Unknown::Wide));
    }
}

/// The registers of recorded calls. Of an argument that the kernel reads as 32 bits the upper half is known too: it was
/// zero, or is said not to have been.
pub(crate) fn registers(row: &Row, arguments: &trace::Arguments, values: &Values) -> Registers {
    let mut registers = Registers::default();
    for (kept, value) in
        arguments.kept.iter().zip(&values.arguments).filter(|(kept, _)| kept.offset.is_none())
    {
        let Ok(index) = usize::try_from(kept.index) else { continue };
        let narrow = arguments::is_narrow(&row.name, kept.index);
        let is_above = values.upper.contains(&kept.name);
        if let (Some(own), Some(known), Some(above)) =
            (registers.values.get_mut(index), registers.known.get_mut(index), registers.above.get_mut(index))
        {
            *own |= value;
            *known |= kept.mask;
            if is_above {
                *above = true;
            } else if narrow {
                *known |= 0xffff_ffff << 32;
            }
        }
    }
    registers
}
