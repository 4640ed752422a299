//! What is signed: one digest over the profile, its evidence, the traces and the decisions, and the in-toto statement
//! that carries it.
//!
//! The digest is the SHA-256 of a few lines of text that a reader can put together with `sha256sum`:
//!
//! ```text
//! seccomp-learn review 1
//! profile sha256:…        the file's bytes
//! evidence sha256:…       the file's bytes; the line is missing where there is no evidence
//! trace sha256:…          one for each run, the trace's own digest, in their order
//! decision {…}            one for each decision of workload.toml, canonical JSON, in their order
//! ```

use serde::Serialize;
use serde_json::json;
use trace::Digest;

use super::model::{Digests, Review};
use crate::evidence::EvidenceDecision;

/// The type of the statement's predicate.
pub const PREDICATE_TYPE: &str = "urn:seccomp-learn:review:1";

/// <https://github.com/in-toto/attestation/blob/v1.1.0/spec/v1/statement.md>
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

impl Digests {
    /// Puts the digests together. `profile` and `evidence` are the files' bytes.
    #[must_use]
    pub fn new(
        profile: &[u8],
        evidence: Option<&[u8]>,
        traces: impl IntoIterator<Item = Digest>,
        decisions: &[EvidenceDecision],
    ) -> Self {
        let profile = Digest::of(profile);
        let evidence = evidence.map(Digest::of);
        let mut traces: Vec<Digest> = traces.into_iter().collect();
        traces.sort();
        traces.dedup();
        // Strings and a date always serialize; a line break within one does not end the line.
        let decisions = decisions.iter().filter_map(|decision| serde_json::to_string(decision).ok());
        let mut decisions: Vec<String> = decisions.collect();
        decisions.sort();
        let mut manifest = format!("seccomp-learn review 1\nprofile {profile}\n");
        for (kind, lines) in [
            ("evidence", evidence.iter().map(Digest::to_string).collect::<Vec<_>>()),
            ("trace", traces.iter().map(Digest::to_string).collect()),
            ("decision", decisions),
        ] {
            for line in lines {
                manifest += &format!("{kind} {line}\n");
            }
        }
        Self { review: Digest::of(manifest.as_bytes()), profile, evidence, traces, manifest }
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

    #[test]
    fn the_digest_is_of_lines_that_anybody_can_put_together() {
        let run = |name: &str| Digest::of(name.as_bytes());
        let decisions = [decision("never\ntrace sha256:0")];
        let made = Digests::new(b"{}", Some(b"why"), [run("b"), run("a"), run("b")], &decisions);
        let mut traces = [run("a"), run("b")];
        traces.sort();
        let lines = format!(
            "seccomp-learn review 1\nprofile {}\nevidence {}\ntrace {}\ntrace {}\ndecision {}\n",
            Digest::of(b"{}"),
            Digest::of(b"why"),
            traces[0],
            traces[1],
            r#"{"verdict":"deny","syscall":"ptrace","when":"always","reason":"never\ntrace sha256:0","owner":"sec"}"#,
        );
        assert_eq!(made.manifest, lines);
        assert_eq!(made.review, Digest::of(lines.as_bytes()));
    }

    #[test]
    fn every_part_changes_it_and_the_order_does_not() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let both = [decision("one"), decision("two")];
        let made = Digests::new(b"p", Some(b"e"), [a, b], &both).review;
        let turned = [both[1].clone(), both[0].clone()];
        assert_eq!(made, Digests::new(b"p", Some(b"e"), [b, a], &turned).review);
        for other in [
            Digests::new(b"q", Some(b"e"), [a, b], &both),
            Digests::new(b"p", Some(b"f"), [a, b], &both),
            Digests::new(b"p", None, [a, b], &both),
            Digests::new(b"p", Some(b"e"), [a], &both),
            Digests::new(b"p", Some(b"e"), [a, b], &both[..1]),
        ] {
            assert_ne!(made, other.review, "{}", other.manifest);
        }
    }
}
