//! Runs of a workload from their start to their stop after its profile was made, watched or started under it: what a
//! profile has not seen while it was learned, and so what says something about it. `heldout.json` in a workload's folder.

use serde::{Deserialize, Serialize};
use trace::{Abi, Digest, GpuDriver};

use crate::upper_bound;

/// The version of this format, `major.minor`.
pub const HELD_OUT_VERSION: &str = "1.1";

/// The versions that are read: 1.1 has runs whose calls nobody counted.
const READABLE: [&str; 2] = ["1.0", HELD_OUT_VERSION];

/// The runs that were watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// Format version, `major.minor`.
    pub version: String,
    /// One for each start-to-stop that was seen, ordered by time.
    pub runs: Vec<HeldOutRun>,
}

/// A start-to-stop that was watched without losing anything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOutRun {
    /// When it started: RFC 3339, UTC.
    pub started: String,
    /// How long it lasted, in milliseconds.
    pub duration_ms: u64,
    /// The container's id, the cgroup's path, or [`Self::COMMAND`].
    pub container: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The pod it belongs to, `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The image's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
    /// How the denials were seen.
    pub judged: Judged,
    /// The digest of the profile it was judged by, in force or not; none where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Digest>,
    /// Which tool watched.
    pub tool: String,
    /// The kernel's release.
    pub kernel: String,
    /// The machine's architecture.
    pub arch: String,
    /// The host's GPU driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_driver: Option<GpuDriver>,
    /// How many calls the workload made, where they were counted; always in 1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u64>,
    /// What was refused, or would have been; empty is what one hopes for.
    pub denials: Vec<HeldOutDenial>,
    /// Calls whose answer depends on arguments that were not seen: neither denied nor allowed. A run with any does
    /// not count as clean.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_known: Vec<String>,
}

/// How the denials of a run were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Judged {
    /// The profile was in force.
    Enforced,
    /// The profile was asked about each call, and not loaded.
    Simulated,
}

/// What one call was refused, in a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldOutDenial {
    /// Through which ABI.
    pub abi: Abi,
    /// The syscall.
    pub syscall: String,
    /// The answer: an errno's name, `killed`, …
    pub answer: String,
    /// How often.
    pub count: u64,
}

/// How the runs about one profile and image went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Runs that count.
    pub runs: u32,
    /// Of these, those with a denial.
    pub denied: u32,
    /// Runs that cannot be counted, since the answer to some call is not known.
    pub not_known: u32,
}

/// Held-out runs that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HeldOutError {
    /// It is no JSON, or JSON that is none of ours.
    #[error("not a list of held-out runs: {0}")]
    Malformed(serde_json::Error),
    /// Written by another version.
    #[error("held-out format `{0}` is not {HELD_OUT_VERSION}; use the seccomp-learn that wrote it")]
    Version(String),
}

impl HeldOutRun {
    /// In the place of a container's id: a command that was started under the profile.
    pub const COMMAND: &'static str = "command";
}

impl Default for HeldOut {
    fn default() -> Self {
        Self { version: HELD_OUT_VERSION.to_owned(), runs: Vec::new() }
    }
}

impl HeldOut {
    /// Reads a list.
    ///
    /// # Errors
    /// See [`HeldOutError`].
    pub fn read(bytes: &[u8]) -> Result<Self, HeldOutError> {
        /// All that a reader of any version may rely on.
        #[derive(Deserialize)]
        struct Header {
            version: String,
        }
        let header: Header = serde_json::from_slice(bytes).map_err(HeldOutError::Malformed)?;
        if !READABLE.contains(&header.version.as_str()) {
            return Err(HeldOutError::Version(header.version));
        }
        let list: Self = serde_json::from_slice(bytes).map_err(HeldOutError::Malformed)?;
        // What is added is of this version, and so is what is written then.
        Ok(Self { version: HELD_OUT_VERSION.to_owned(), ..list })
    }

    /// The list as JSON: pretty-printed, with a final newline.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings, numbers and lists always serialize.
        serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default()
    }

    /// Adds a run; one that is in the list already, seen by another watcher, is replaced.
    pub fn add(&mut self, run: HeldOutRun) {
        self.runs.retain(|own| {
            (&own.container, &own.started, own.profile, own.judged)
                != (&run.container, &run.started, run.profile, run.judged)
        });
        self.runs.push(run);
        self.runs.sort();
    }

    /// How the runs about this profile went; where an image is given, those of that image alone.
    #[must_use]
    pub fn tally(&self, profile: Digest, image: Option<Digest>) -> Tally {
        let about =
            |run: &&HeldOutRun| run.profile == Some(profile) && (image.is_none() || run.image == image);
        let mut tally = Tally::default();
        for run in self.runs.iter().filter(about) {
            if run.denials.is_empty() && !run.not_known.is_empty() {
                tally.not_known += 1;
                continue;
            }
            tally.runs += 1;
            tally.denied += u32::from(!run.denials.is_empty());
        }
        tally
    }
}

impl Tally {
    /// The share of starts that may still meet a denial, at 95 % confidence; none without a run.
    #[must_use]
    pub fn upper_bound(&self) -> Option<f64> {
        upper_bound(self.runs, self.denied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(container: &str, started: &str, profile: &[u8], denied: bool) -> HeldOutRun {
        let denial = HeldOutDenial {
            abi: Abi::X86_64,
            syscall: "mkdir".to_owned(),
            answer: "EPERM".to_owned(),
            count: 3,
        };
        HeldOutRun {
            started: started.to_owned(),
            duration_ms: 12,
            container: container.to_owned(),
            name: Some("canary".to_owned()),
            pod: None,
            image: Some(Digest::of(b"image")),
            judged: Judged::Enforced,
            profile: Some(Digest::of(profile)),
            tool: "seccomp-learn 0.1.0".to_owned(),
            kernel: "6.18.0".to_owned(),
            arch: "x86_64".to_owned(),
            gpu_driver: None,
            calls: Some(100),
            denials: if denied { vec![denial] } else { Vec::new() },
            not_known: Vec::new(),
        }
    }

    #[test]
    fn runs_are_counted_once_and_only_for_their_profile_and_image() {
        let mut list = HeldOut::default();
        for second in 0..10 {
            list.add(run("a", &format!("2026-01-01T00:00:0{second}Z"), b"p", false));
        }
        list.add(run("a", "2026-01-01T00:00:03Z", b"p", true));
        list.add(run("b", "2026-01-01T00:00:03Z", b"other", true));
        list.add(HeldOutRun {
            not_known: vec!["ioctl".to_owned()],
            ..run("c", "2026-01-02T00:00:00Z", b"p", false)
        });
        assert_eq!(list.runs.len(), 12);
        let tally = list.tally(Digest::of(b"p"), Some(Digest::of(b"image")));
        assert_eq!(tally, Tally { runs: 10, denied: 1, not_known: 1 });
        assert!((tally.upper_bound().unwrap() - 0.3942).abs() < 1e-4);
        assert_eq!(list.tally(Digest::of(b"p"), Some(Digest::of(b"another"))), Tally::default());
        assert_eq!(list.tally(Digest::of(b"p"), None).runs, 10);
        let text = list.to_json();
        let back = HeldOut::read(text.as_bytes()).unwrap();
        assert_eq!((back.to_json(), back), (text.clone(), list.clone()));
        let old = text.replace("\"version\": \"1.1\"", "\"version\": \"1.0\"");
        assert_eq!(HeldOut::read(old.as_bytes()).unwrap(), list);
    }

    #[test]
    fn what_is_not_a_list_is_refused_with_the_culprit() {
        let mut list = HeldOut::default();
        list.add(run("a", "2026-01-01T00:00:00Z", b"p", true));
        let good = list.to_json();
        let check = |text: &str, expected: &str| {
            let error = HeldOut::read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("", "not a list of held-out runs");
        check(&good.replace("\"version\": \"1.1\"", "\"version\": \"1.2\""), "`1.2` is not 1.1");
        check(&good.replace("\"calls\"", "\"colour\": 1, \"calls\""), "unknown field `colour`");
        check(&good.replace("\"enforced\"", "\"guessed\""), "unknown variant `guessed`");
        check(&good.replace("\"count\": 3", "\"count\": 3, \"count\": 3"), "duplicate field `count`");
    }
}
