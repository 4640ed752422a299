//! The review of a profile: everything that a person needs who is to sign it, as data. Pages, Markdown and JSON are
//! made of it, and nothing of them is decided elsewhere.

mod attacks;
mod blind;
mod compared;
mod digest;
mod findings;
mod model;
mod open;
mod reasons;
mod rules;
mod summary;
mod surface;

use trace::{Abi, Digest, Trace};

use crate::{
    compile::{CompileError, CompileOptions},
    completeness::Completeness,
    cost::{CostError, cost},
    decision::Date,
    evidence::{Evidence, EvidenceDecision},
    profile::Profile,
};

use open::Open;

pub use digest::{Files, PREDICATE_TYPE};
pub use model::{
    Added, Against, AttackOutcome, AttackRow, Attacks, Blind, Decided, Digests, LeftOut, Made, Origin,
    PhaseGroup, REVIEW_VERSION, Recorded, RecordedImage, Refused, Remark, Replayed, Review, Rule, Seen,
    SpecialAnswer, Starts, Subject, Summary, SurfaceClass, Way, Wider,
};
pub use reasons::sentences;

/// What a review is made from.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// What the user calls the profile.
    pub name: &'a str,
    /// The profile.
    pub profile: &'a Profile,
    /// The machine's own ABI.
    pub native: Abi,
    /// The evidence beside it.
    pub evidence: Option<&'a Evidence>,
    /// The traces of the workload, merged.
    pub trace: Option<&'a Trace>,
    /// What the runs say about those that were not recorded.
    pub completeness: Option<Completeness>,
    /// What reviewers decided.
    pub decisions: Vec<EvidenceDecision>,
    /// The day, for decisions that expire; without it none has.
    pub today: Option<Date>,
    /// What the profile is compared with.
    pub against: Compared<'a>,
    /// How starts went that were watched after the profile was made.
    pub starts: Option<Starts>,
    /// What is signed.
    pub digests: Digests,
}

/// What a profile is compared with.
#[derive(Clone, Debug)]
pub struct Compared<'a> {
    /// Its name, for a person.
    pub name: String,
    /// Where it comes from.
    pub source: Option<String>,
    /// SHA-256 of its file, or of a shipped default's JSON.
    pub digest: Digest,
    /// The profile.
    pub profile: &'a Profile,
}

impl<'a> Input<'a> {
    /// The evidence, if it is about this profile.
    fn own_evidence(&self) -> Option<&'a Evidence> {
        self.evidence.filter(|evidence| evidence.profile == self.profile.digest())
    }
}

/// A profile that cannot be reviewed.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// It, or what it is compared with, cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// What its filter costs cannot be told.
    #[error(transparent)]
    Cost(#[from] CostError),
}

/// Reviews a profile.
///
/// # Errors
/// See [`ReviewError`].
pub fn review(input: &Input<'_>) -> Result<Review, ReviewError> {
    let open = Open::of(input.profile, input.native)?;
    let there = Open::of(input.against.profile, input.native)?;
    let mut rules = rules::rules(input, &open);
    let (wider, undecided) = compared::wider(input)?;
    for rule in &mut rules {
        rule.wider = wider.iter().any(|own| own.syscall == rule.syscall);
    }
    let attacks = attacks::attacks(input, &mut rules)?;
    let (replayed, left_out) = match input.trace {
        Some(trace) => {
            let (replayed, left_out) = compared::replayed(input, trace)?;
            (Some(replayed), left_out)
        }
        None => (None, Vec::new()),
    };
    let refused = input.trace.map(|trace| compared::refused(input, trace)).transpose()?.unwrap_or_default();
    let findings = findings::findings(input, (&wider, &undecided))?;
    Ok(Review {
        version: REVIEW_VERSION.to_owned(),
        tool: format!("seccomp-learn {}", env!("CARGO_PKG_VERSION")),
        subject: summary::subject(input),
        digests: input.digests.clone(),
        summary: summary::summary(
            input,
            (&open, &there),
            &rules,
            &wider,
            undecided,
            (replayed, &left_out),
            &findings,
        ),
        answers: rules::answers(input.profile, input.native),
        decisions: rules::decisions(input),
        blind: blind::blind(input, &rules),
        refused,
        phases: surface::phases(&rules),
        surface: surface::surface(input.native, &open, &there),
        completeness: input.completeness.clone(),
        cost: Some(cost(input.profile, input.native, input.trace, CompileOptions::default())?),
        findings,
        wider,
        left_out,
        rules,
        attacks,
    })
}

/// The schema of a review, as a JSON document.
#[must_use]
pub fn review_schema() -> serde_json::Value {
    schemars::schema_for!(Review).to_value()
}

impl Review {
    /// The review as JSON: pretty-printed, with a final newline.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings, numbers and ordered maps always serialize.
        serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default()
    }
}
