//! Whether the evidence is about this: the image, the GPU's driver, the architecture. Old traces prove nothing about a
//! new image.

use std::collections::BTreeSet;

use trace::{Abi, Digest, Startup, Target, Trace};

use super::{
    Case,
    check::{Check, Checks, Status},
    quoted,
};
use crate::{folder, terminal::count};

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
    let named = case.workload.target.image.as_deref();
    let pinned = named.and_then(|name| name.rsplit_once('@')?.1.parse().ok());
    let image = match (case.image.or(pinned), named) {
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
        Check::new(NAME, Status::NoEvidence, message).remedy(case.record_command())
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
            checks.add(Check::new(NAME, Status::Warning, message).remedy(adopt(case)));
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
        checks.add(Check::new(NAME, Status::NoEvidence, message).remedy(case.record_command()));
    }
    let Some(branch) = case.driver else { return };
    let judged = if fresh.is_empty() { own } else { fresh };
    if judged.iter().any(|run| run.branch() == Some(branch)) {
        return;
    }
    let message = format!(
        "nothing was recorded with branch {branch} of the GPU's driver, but with {}; on a machine with that driver",
        different(judged, Subject::driver_in_words)
    );
    checks.add(Check::new(NAME, Status::NoEvidence, message).remedy(case.record_command()));
}

fn architecture(case: &Case, own: &[Subject<'_>], fresh: &[Subject<'_>], checks: &mut Checks) {
    let native = case.evidence.workload.native;
    let wanted = case.arch.unwrap_or(native);
    let all = || own.iter().chain(fresh);
    if wanted == native && all().all(|run| Abi::native_of(run.arch) == Some(wanted)) {
        return;
    }
    let recorded: BTreeSet<&str> = all().map(|run| run.arch).collect();
    let message = format!(
        "this is about {wanted}, and was recorded on {}; on a machine of that architecture, into a folder of its own",
        recorded.into_iter().collect::<Vec<_>>().join(" and ")
    );
    let target = &case.workload.target;
    let name = case.folder.with_file_name(format!(
        "{}-{wanted}",
        case.folder.file_name().map_or_else(|| "workload".into(), |name| name.to_string_lossy())
    ));
    let image = target.image.iter().map(|image| format!(" --image {}", quoted(image.as_ref())));
    let command: Vec<String> = target.command.iter().map(|word| quoted(word.as_ref())).collect();
    let command = if command.is_empty() { String::new() } else { format!(" -- {}", command.join(" ")) };
    let remedy = format!("seccomp-learn learn -o {}{}{command}", quoted(&name), image.collect::<String>());
    checks.add(Check::new(NAME, Status::NoEvidence, message).remedy(remedy));
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
    checks.add(Check::new(NAME, Status::NoEvidence, message));
}

/// The command that makes the fresh traces part of the folder.
pub(super) fn adopt(case: &Case) -> String {
    let files: Vec<String> = case.fresh_files.iter().map(|path| quoted(path)).collect();
    let next = folder::next_trace(&case.folder);
    let copy = match files.as_slice() {
        [file] => format!("cp {file} {}", quoted(&next)),
        files => format!("seccomp-learn merge {} -o {}", files.join(" "), quoted(&next)),
    };
    format!("{copy} && {}", case.synth_command())
}

/// Whether two names are of one image: engines write out what a short one leaves out.
fn is_same(asked: &str, recorded: &str) -> bool {
    let (asked, recorded) = (with_tag(asked), with_tag(recorded));
    let short = |name: &str| name.split_once('/').is_none_or(|(host, _)| !is_host(host));
    let ends = |long: &str, name: &str| {
        long.strip_suffix(name).is_some_and(|start| {
            start.ends_with('/')
                && start
                    .split_once('/')
                    .is_some_and(|(host, rest)| is_host(host) && (rest.is_empty() || rest == "library/"))
        })
    };
    asked == recorded
        || (short(&asked) && ends(&recorded, &asked))
        || (short(&recorded) && ends(&asked, &recorded))
}

/// A name with its tag, `latest` where it has none.
fn with_tag(name: &str) -> String {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    let last = name.rsplit_once('/').map_or(name, |(_, last)| last);
    if last.contains(':') { name.to_owned() } else { format!("{name}:latest") }
}

/// Whether the first part of a name is a registry's: <https://github.com/distribution/reference> at v0.6.0, `normalize.go`.
fn is_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_image_are_told_from_those_of_another() {
        for (one, other) in [
            ("nginx", "nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("org/app:2", "docker.io/org/app:2"),
            ("app", "localhost/app:latest"),
            ("host.example:5000/app:2", "host.example:5000/app:2"),
        ] {
            assert!(is_same(one, other) && is_same(other, one), "{one} {other}");
        }
        for (one, other) in [
            ("nginx:1.27", "nginx:1.28"),
            ("nginx", "docker.io/other/nginx"),
            ("nginx:1.27", "host.example:5000/mynginx:1.27"),
            ("host.example/app:2", "other.example/app:2"),
            ("app", "app:2"),
        ] {
            assert!(!is_same(one, other) && !is_same(other, one), "{one} {other}");
        }
    }
}
