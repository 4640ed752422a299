//! Known attacks: which the profile takes a needed call from, next to the reference, negative controls included.

use super::{
    Input,
    model::{AttackOutcome, AttackRow, Attacks, Rule},
};
use crate::{
    attacks::{AttackVerdict, attack_score},
    compile::CompileError,
};

/// Judges both profiles, and notes at each rule the attacks that use it.
pub(super) fn attacks(input: &Input<'_>, rules: &mut [Rule]) -> Result<Attacks, CompileError> {
    let own = attack_score(input.profile, input.native)?;
    let against = attack_score(input.against.profile, input.native)?;
    let mut rows = Vec::new();
    for ((attack, verdict), (_, there)) in own.rows.iter().zip(&against.rows) {
        let calls = match verdict {
            AttackVerdict::Blocked(need) => vec![need.as_str().to_owned()],
            AttackVerdict::Open(calls) => calls.iter().map(|call| call.in_words(input.native)).collect(),
            AttackVerdict::Outside => Vec::new(),
        };
        if let AttackVerdict::Open(calls) = verdict {
            for rule in rules.iter_mut().filter(|rule| calls.iter().any(|call| call.syscall == rule.syscall))
            {
                rule.attacks.push(attack.name.clone());
            }
        }
        rows.push(AttackRow {
            name: attack.name.clone(),
            class: attack.class.clone(),
            gate: attack.gate.clone(),
            outcome: verdict.into(),
            against: there.into(),
            calls,
            control: attack.control,
            source: attack.source.clone(),
            note: attack.note.clone(),
        });
    }
    rows.sort_by(|one, other| {
        (one.control, one.outcome, &one.name).cmp(&(other.control, other.outcome, &other.name))
    });
    Ok(Attacks { blocked: own.blocked(), against_blocked: against.blocked(), decided: own.decided(), rows })
}

impl From<&AttackVerdict> for AttackOutcome {
    fn from(verdict: &AttackVerdict) -> Self {
        match verdict {
            AttackVerdict::Blocked(_) => Self::Blocked,
            AttackVerdict::Open(_) => Self::Open,
            AttackVerdict::Outside => Self::Outside,
        }
    }
}

impl AttackOutcome {
    /// What a reader calls it.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Blocked => "blocked",
            Self::Outside => "outside of any filter",
        }
    }
}
