//! Whether the evidence is about this: the image, the GPU's driver, the architecture. Old traces prove nothing about a
//! new image.

use std::{collections::BTreeSet, ffi::OsStr, path::Path};

use trace::{Abi, Digest, Startup, Target, TargetKind, Trace};

use super::{
    Asked, Case,
    check::{Check, Checks, Status},
};
use crate::{image_name::is_same, terminal::count};

/// What this check is called.
pub(super) const NAME: &str = "evidence";

/// What one run was recorded of.
struct Subject<'t> {
    target: &'t Target,
    arch: &'t str,
}

impl Subject<'_> {
    /// The image's name, as the engine was given it.
    fn image_name(&self) -> Option<&str> {
        self.target.container.as_ref()?.image.as_deref()
    }

    /// The branch of the GPU's driver.
    fn branch(&self) -> Option<u32> {
        crate::synthesis::branch(&self.target.gpu_driver.as_ref()?.version).ok()
    }

    fn image_in_words(&self) -> String {
        match (self.image_name(), self.target.image) {
            (Some(name), Some(digest)) => format!("`{name}` ({digest})"),
            (Some(name), None) => format!("`{name}`"),
            (None, Some(digest)) => digest.to_string(),
            (None, None) => "no image".to_owned(),
        }
    }

    fn driver_in_words(&self) -> String {
        match &self.target.gpu_driver {
            Some(driver) => format!("{} {}", driver.vendor, driver.version),
            None => "no GPU driver".to_owned(),
        }
    }
}

/// The single runs of a trace.
fn subjects(trace: &Trace) -> Vec<Subject<'_>> {
    if trace.merged.is_empty() {
        return vec![Subject { target: &trace.target, arch: &trace.recorder.arch }];
    }
    trace.merged.iter().map(|run| Subject { target: &run.target, arch: &run.recorder.arch }).collect()
}

/// The different answers to a question about runs, in words.
fn different<'t>(subjects: &[Subject<'t>], what: impl Fn(&Subject<'t>) -> String) -> String {
    subjects.iter().map(what).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
}

/// Checks what the traces are about. Where there are fresh ones, it is they who speak for what is there now.
pub(super) fn check(case: &Case, checks: &mut Checks) {
    let own = subjects(&case.merged);
    let fresh = case.fresh.as_ref().map(subjects).unwrap_or_default();
    image(case, &own, &fresh, checks);
    driver(case, &own, &fresh, checks);
    architecture(case, &own, &fresh, checks);
    program(case, &own, &fresh, checks);
    completeness(case, checks);
    if checks.is_good(NAME) {
        let about = format!(
            "{} of {}, {}, {}",
            count(own.len() as u64, "run"),
            different(&own, Subject::image_in_words),
            different(&own, Subject::driver_in_words),
            different(&own, |run| run.arch.to_owned()),
        );
        checks.add(Check::new(NAME, Status::Ok, about));
    }
}

/// The image that this is about.
enum Image<'c> {
    Digest(Digest),
    Name(&'c str),
    Any,
}

impl Image<'_> {
    fn is(&self, run: &Subject<'_>) -> bool {
        match self {
            Self::Digest(digest) => run.target.image == Some(*digest),
            Self::Name(name) => run.image_name().is_some_and(|own| is_same(name, own)),
            Self::Any => true,
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Digest(digest) => digest.to_string(),
            Self::Name(name) => format!("`{name}`"),
            Self::Any => "any image".to_owned(),
        }
    }
}

fn image(case: &Case, own: &[Subject<'_>], fresh: &[Subject<'_>], checks: &mut Checks) {
    let asked = case.image.as_ref().map(|asked| asked.digest);
    let named = case.workload.target.image.as_deref();
    let image = match (asked.or(case.pinned), named) {
        (Some(digest), _) => Image::Digest(digest),
        (None, Some(name)) => Image::Name(name),
        (None, None) => Image::Any,
    };
    let none = |recorded: &[Subject<'_>], whose: &str| {
        let message = format!(
            "{whose} are of {}; they prove nothing about {}",
            different(recorded, Subject::image_in_words),
            image.in_words()
        );
        let record = |asked: &Asked| case.record_image_command(asked);
        Check::no_evidence(NAME, message, case.image.as_ref().map_or_else(|| case.record_command(), record))
    };
    let others = own.iter().filter(|run| !image.is(run)).count();
    if !fresh.is_empty() {
        if fresh.iter().any(|run| !image.is(run)) {
            checks.add(none(fresh, "the fresh traces"));
        } else if others == own.len() {
            let message = format!(
                "the folder's own traces are of {}, so this holds for the fresh traces alone: put them into the folder",
                different(own, Subject::image_in_words)
            );
            checks.add(Check::new(NAME, Status::Warning, message).remedy(case.adopt_command()));
        }
    } else if others == own.len() {
        checks.add(none(own, "the traces"));
    } else if others > 0 {
        let message = format!(
            "{others} of {} are of another image than {}: {}",
            count(own.len() as u64, "run"),
            image.in_words(),
            different(own, Subject::image_in_words)
        );
        checks.add(Check::new(NAME, Status::Warning, message));
    }
}

fn driver(case: &Case, own: &[Subject<'_>], fresh: &[Subject<'_>], checks: &mut Checks) {
    let uses = |runs: &[Subject<'_>]| runs.iter().find_map(|run| run.target.gpu);
    if let (Some(true), Some(false)) = (uses(own), uses(fresh)) {
        let message = "the fresh traces used no GPU, as the folder's do: they prove nothing about it";
        checks.add(Check::no_evidence(NAME, message, case.record_command()));
    }
    let branches = |runs: &[Subject<'_>]| runs.iter().filter_map(Subject::branch).collect::<BTreeSet<u32>>();
    let (known, now) = (branches(own), branches(fresh));
    if let Some(branch) = case.driver {
        let judged = if fresh.is_empty() { own } else { fresh };
        if !branches(judged).contains(&branch) {
            let message = format!(
                "nothing was recorded with branch {branch} of the GPU's driver, but with {}; on a machine with that driver",
                different(judged, Subject::driver_in_words)
            );
            checks.add(Check::no_evidence(NAME, message, case.record_command()));
            return;
        }
    }
    // Where neither used a GPU its driver has no part in what was recorded.
    if known.is_empty() || now.is_subset(&known) || (uses(own), uses(fresh)) == (Some(false), Some(false)) {
        return;
    }
    let folder = different(own, Subject::driver_in_words);
    let check = if case.driver.is_some() {
        let message = format!(
            "the folder's own traces are with {folder}, so this holds for the fresh traces alone: put them into the folder"
        );
        Check::new(NAME, Status::Warning, message)
    } else {
        let message = format!(
            "the fresh traces are with {}, and the folder's with {folder}: neither proves anything about the other's branch of the GPU's driver; put them into the folder, or say with `--driver` which one this is about",
            different(fresh, Subject::driver_in_words)
        );
        Check::new(NAME, Status::NoEvidence, message)
    };
    checks.add(check.remedy(case.adopt_command()));
}

fn architecture(case: &Case, own: &[Subject<'_>], fresh: &[Subject<'_>], checks: &mut Checks) {
    let native = case.evidence.workload.native;
    let other = fresh.iter().filter_map(|run| Abi::native_of(run.arch)).find(|abi| *abi != native);
    let wanted = case.arch.or(other).unwrap_or(native);
    let all = || own.iter().chain(fresh);
    if wanted == native && all().all(|run| Abi::native_of(run.arch) == Some(wanted)) {
        return;
    }
    let recorded: BTreeSet<&str> = all().map(|run| run.arch).collect();
    let recorded = recorded.into_iter().collect::<Vec<_>>().join(" and ");
    let about =
        format!("this is about {wanted}, and was recorded on {recorded}; on a machine of that architecture");
    let check = if wanted == native {
        Check::no_evidence(NAME, about, case.record_command())
    } else {
        let message = format!("{about}, into a folder of its own");
        Check::no_evidence(NAME, message, case.record_beside_command(wanted.as_str()))
    };
    checks.add(check);
}

/// Whether the fresh traces are of the command that the folder is about. Other arguments may be another port; another
/// program proves nothing.
fn program(case: &Case, own: &[Subject<'_>], fresh: &[Subject<'_>], checks: &mut Checks) {
    let is_command = |run: &&Subject<'_>| run.target.kind == TargetKind::Command;
    let known: BTreeSet<&[String]> =
        own.iter().filter(is_command).map(|run| run.target.command.as_slice()).collect();
    if known.is_empty() || case.workload.target.image.is_some() {
        return;
    }
    fn name(command: &[String]) -> Option<&OsStr> {
        Path::new(command.first()?).file_name()
    }
    let programs: BTreeSet<Option<&OsStr>> = known.iter().map(|command| name(command)).collect();
    let in_words = |run: &Subject<'_>| match run.target.command.as_slice() {
        [] => "something that ran already".to_owned(),
        command => format!("`{}`", command.join(" ")),
    };
    let folder = different(own, in_words);
    let others = |is_other: &dyn Fn(&[String]) -> bool| -> BTreeSet<String> {
        fresh.iter().filter(|run| is_other(&run.target.command)).map(in_words).collect()
    };
    let listed = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(", ");
    let of_others = others(&|command| !programs.contains(&name(command)));
    let with_others = others(&|command| !known.contains(command));
    if !of_others.is_empty() {
        let message =
            format!("the fresh traces are of {}; they prove nothing about {folder}", listed(of_others));
        checks.add(Check::no_evidence(NAME, message, case.record_command()));
    } else if !with_others.is_empty() {
        let message = format!(
            "the fresh traces are of {}, and the folder's of {folder}: whether that is the same workload is for you to say",
            listed(with_others)
        );
        checks.add(Check::new(NAME, Status::Warning, message));
    }
}

/// Whether the fresh traces miss something. Of the folder's own, synthesis says so.
fn completeness(case: &Case, checks: &mut Checks) {
    let Some(trace) = &case.fresh else { return };
    let lacks = if !trace.complete && !case.how.accept_incomplete {
        "was not closed in order"
    } else if trace.losses.lost_calls() && !case.how.accept_incomplete {
        "lost calls"
    } else if trace.startup == Startup::NotRecorded && !case.how.without_startup {
        "lacks the workload's start"
    } else {
        return;
    };
    let message = format!("a fresh trace {lacks}, so what is new may be missing from it; record it again");
    checks.add(Check::no_evidence(NAME, message, case.record_command()));
}
