//! What is signed, how, and room for a signature on paper.

use maud::html;
use synth::review::{PREDICATE_TYPE, Review};

use super::{Section, text::code};
use crate::review::text::plain;

pub(super) fn section(review: &Review) -> Section {
    let digests = &review.digests;
    let body = html! {
        p { "One digest covers the profile, its evidence, every trace and every decision: if any of them changes, so does it." }
        p { (code(&digests.review.to_string())) }
        p { "It is the SHA-256 of these lines; the first two digests are those of the files, a trace's is its own:" }
        pre tabindex="0" aria-label="The lines that the digest covers" { (manifest(&digests.manifest)) }
        p { "To sign it, write the statement, sign it, and keep the bundle beside the profile:" }
        pre tabindex="0" aria-label="Commands that sign" {
            "seccomp-learn review DIR --attest -o statement.json\n"
            "cosign attest-blob --statement statement.json --key cosign.key --bundle review.sigstore.json --yes\n"
            "cosign verify-blob-attestation --key cosign.pub --type " (PREDICATE_TYPE) " --bundle review.sigstore.json DIR/profile.json"
        }
        p.soft.small { "This page was made by " (plain(&review.tool)) ". It holds no date of its own: the same profile, evidence, traces and decisions give the same page." }
        div.signature {
            div { "Name" }
            div { "Day" }
            div { "Signature" }
        }
    };
    Section { id: "sign", title: "Signing".to_owned(), body }
}

/// The lines, with whatever would not show in them written out.
fn manifest(lines: &str) -> String {
    lines.lines().map(|line| plain(line) + "\n").collect()
}
