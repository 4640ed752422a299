//! What is signed: one digest over the profile, its evidence, the traces, the decisions, the starts that were held out and
//! what the profile is compared with, and the in-toto statement that carries it.
//!
//! The digest is the SHA-256 of a few lines of text that a reader can put together with `sha256sum`:
//!
//! ```text
//! seccomp-learn review 1
//! profile sha256:…        the file's bytes
//! evidence sha256:…       the file's bytes; the line is missing where there is no evidence
//! trace sha256:…          one for each run, the trace's own digest, in their order
//! merged sha256:…         the digest of all of them merged, as `seccomp-learn merge` writes it; of several runs
//! decision {…}            one for each decision of workload.toml, canonical JSON, in their order
//! heldout sha256:…        the bytes of heldout.json; the line is missing where there is none
//! against sha256:…        the bytes of the file that it is compared with, or of a shipped default's JSON
//! ```

use serde::Serialize;
use serde_json::json;
use trace::{Digest, Trace};

use super::model::{Digests, Review};
use crate::evidence::EvidenceDecision;

/// The type of the statement's predicate.
pub const PREDICATE_TYPE: &str = "urn:seccomp-learn:review:1";

/// <https://github.com/in-toto/attestation/blob/v1.1.0/spec/v1/statement.md>
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// The bytes of the files that a review rests on.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The profile's.
    pub profile: &'a [u8],
    /// The evidence's.
    pub evidence: Option<&'a [u8]>,
    /// Those of the starts that were held out.
    pub held_out: Option<&'a [u8]>,
}

impl Digests {
    /// Puts the digests together; `against` is that of what the profile is compared with.
    #[must_use]
    pub fn new(
        files: Files<'_>,
        trace: Option<&Trace>,
        decisions: &[EvidenceDecision],
        against: Digest,
    ) -> Self {
        let profile = Digest::of(files.profile);
        let (evidence, held_out) = (files.evidence.map(Digest::of), files.held_out.map(Digest::of));
        let traces: Vec<Digest> = trace.iter().flat_map(|own| own.run_digests()).collect();
        let merged = trace.filter(|own| !own.merged.is_empty()).and_then(|own| own.digest);
        // Strings and a date always serialize; a line break within one does not end the line.
        let decisions = decisions.iter().filter_map(|decision| serde_json::to_string(decision).ok());
        let mut decisions: Vec<String> = decisions.collect();
        decisions.sort();
        let mut manifest = format!("seccomp-learn review 1\nprofile {profile}\n");
        for (kind, lines) in [
            ("evidence", evidence.iter().map(Digest::to_string).collect::<Vec<_>>()),
            ("trace", traces.iter().map(Digest::to_string).collect()),
            ("merged", merged.iter().map(Digest::to_string).collect()),
            ("decision", decisions),
            ("heldout", held_out.iter().map(Digest::to_string).collect()),
            ("against", vec![against.to_string()]),
        ] {
            for line in lines {
                manifest += &format!("{kind} {line}\n");
            }
        }
        Self {
            review: Digest::of(manifest.as_bytes()),
            profile,
            evidence,
            traces,
            merged,
            held_out,
            against,
            manifest,
        }
    }
}

/// The statement that a reviewer signs.
#[derive(Serialize)]
struct Statement<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: Vec<serde_json::Value>,
    #[serde(rename = "predicateType")]
    predicate_type: &'static str,
    predicate: Predicate<'a>,
}

/// What the statement says about its subject: what the review rests on, and what its first screen says. The whole
/// review can be made anew from what the digests name.
#[derive(Serialize)]
struct Predicate<'a> {
    version: &'a str,
    tool: &'a str,
    name: &'a str,
    digests: &'a Digests,
    summary: &'a super::model::Summary,
    attacks: serde_json::Value,
    findings: Vec<serde_json::Value>,
}

impl Review {
    /// The review as an in-toto statement about the profile's file, for `cosign attest-blob --statement`.
    #[must_use]
    pub fn statement(&self) -> String {
        let hex = |digest: Digest| digest.to_string().trim_start_matches("sha256:").to_owned();
        let subject = |name: &str, digest| json!({ "name": name, "digest": { "sha256": hex(digest) } });
        let findings = self.findings.iter().map(
            |own| json!({ "id": own.id, "severity": own.severity, "title": own.title, "calls": own.calls }),
        );
        let statement = Statement {
            kind: STATEMENT_TYPE,
            subject: vec![subject("profile.json", self.digests.profile)],
            predicate_type: PREDICATE_TYPE,
            predicate: Predicate {
                version: &self.version,
                tool: &self.tool,
                name: &self.subject.name,
                digests: &self.digests,
                summary: &self.summary,
                attacks: json!({
                    "blocked": self.attacks.blocked,
                    "decided": self.attacks.decided,
                    "against_blocked": self.attacks.against_blocked,
                }),
                findings: findings.collect(),
            },
        };
        serde_json::to_string_pretty(&statement).map(|text| text + "\n").unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use trace::{Backend, Recorder, Run, Target, TargetKind};

    use super::*;
    use crate::decision::Verdict;

    fn decision(reason: &str) -> EvidenceDecision {
        EvidenceDecision {
            verdict: Verdict::Deny,
            syscall: "ptrace".to_owned(),
            when: "always".to_owned(),
            reason: reason.to_owned(),
            owner: "sec".to_owned(),
            expires: None,
        }
    }

    /// A trace of the single runs whose digests are those of these names.
    fn merged(names: &[&str]) -> Trace {
        let recorder = Recorder {
            tool: "seccomp-learn 0.1.0".to_owned(),
            backend: Backend::Ebpf,
            kernel: "6.18.0".to_owned(),
            arch: "x86_64".to_owned(),
            started: "2026-01-01T00:00:00Z".to_owned(),
            duration_ms: 1,
            perturbations: Vec::new(),
        };
        let target = Target::new(TargetKind::Command);
        let run = |name: &&str| Run {
            digest: Digest::of(name.as_bytes()),
            recorder: recorder.clone(),
            target: target.clone(),
        };
        let mut trace = Trace::new(recorder.clone(), target.clone());
        trace.merged = names.iter().map(run).collect();
        trace.digest = Some(Digest::of(b"all"));
        trace
    }

    #[test]
    fn the_digest_is_of_lines_that_anybody_can_put_together() {
        let run = |name: &str| Digest::of(name.as_bytes());
        let decisions = [decision("never\ntrace sha256:0")];
        let files = Files { profile: b"{}", evidence: Some(b"why"), held_out: Some(b"starts") };
        let made = Digests::new(files, Some(&merged(&["b", "a"])), &decisions, run("docker"));
        let mut traces = [run("a"), run("b")];
        traces.sort();
        let lines = format!(
            "seccomp-learn review 1\nprofile {}\nevidence {}\ntrace {}\ntrace {}\nmerged {}\ndecision {}\nheldout {}\nagainst {}\n",
            Digest::of(b"{}"),
            Digest::of(b"why"),
            traces[0],
            traces[1],
            run("all"),
            r#"{"verdict":"deny","syscall":"ptrace","when":"always","reason":"never\ntrace sha256:0","owner":"sec"}"#,
            Digest::of(b"starts"),
            run("docker"),
        );
        assert_eq!(made.manifest, lines);
        assert_eq!(made.review, Digest::of(lines.as_bytes()));
    }

    #[test]
    fn every_part_changes_it_and_the_order_does_not() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let all = merged(&["a", "b"]);
        let both = [decision("one"), decision("two")];
        let files = Files { profile: b"p", evidence: Some(b"e"), held_out: Some(b"h") };
        let made = Digests::new(files, Some(&all), &both, a).review;
        let turned = [both[1].clone(), both[0].clone()];
        assert_eq!(made, Digests::new(files, Some(&merged(&["b", "a"])), &turned, a).review);
        // The same runs, and another row.
        let changed = Trace { digest: Some(b), ..all.clone() };
        for other in [
            Digests::new(Files { profile: b"q", ..files }, Some(&all), &both, a),
            Digests::new(Files { evidence: Some(b"f"), ..files }, Some(&all), &both, a),
            Digests::new(Files { evidence: None, ..files }, Some(&all), &both, a),
            Digests::new(Files { held_out: Some(b"g"), ..files }, Some(&all), &both, a),
            Digests::new(Files { held_out: None, ..files }, Some(&all), &both, a),
            Digests::new(files, Some(&merged(&["a"])), &both, a),
            Digests::new(files, Some(&changed), &both, a),
            Digests::new(files, None, &both, a),
            Digests::new(files, Some(&all), &both[..1], a),
            Digests::new(files, Some(&all), &both, b),
        ] {
            assert_ne!(made, other.review, "{}", other.manifest);
        }
    }
}
