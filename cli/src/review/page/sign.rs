//! What is signed, how, and room for a signature on paper.

use maud::html;
use synth::review::{PREDICATE_TYPE, Review};

use super::{Section, text::code};
use crate::terminal::visible;

pub(super) fn section(review: &Review) -> Section {
    let digests = &review.digests;
    let body = html! {
        p { "One digest covers the profile, its evidence, every trace, every decision, the starts that were held out and what the profile is compared with: if any of them changes, so does it." }
        p { (code(&digests.review.to_string())) }
        p { "It is the SHA-256 of these lines; the digests are those of the files, but for a trace's, which is its own, that of all traces merged, as merge writes it, and a shipped default's, which is that of its JSON:" }
        pre tabindex="0" aria-label="The lines that the digest covers" { (manifest(&digests.manifest)) }
        p { "To sign it, write the statement, sign it, and keep the bundle beside the profile:" }
        pre tabindex="0" aria-label="Commands that sign" {
            "seccomp-learn review DIR --attest -o statement.json\n"
            "cosign attest-blob --statement statement.json --key cosign.key --bundle review.sigstore.json --yes\n"
            "cosign verify-blob-attestation --key cosign.pub --type " (PREDICATE_TYPE) " --bundle review.sigstore.json DIR/profile.json"
        }
        p.soft.small { "This page was made by " (visible(&review.tool)) ". It holds no date of its own: what has the same digest gives the same page by the same version of the tool, until a decision expires." }
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
    lines.lines().map(|line| visible(line) + "\n").collect()
}
