//! How laws are tried: what broke one is kept beside its test, `NAME.proptest-regressions`, and tried first ever after.

use proptest::{prelude::ProptestConfig, test_runner::FileFailurePersistence};

/// A law that is tried so often.
pub(crate) fn laws(cases: u32) -> ProptestConfig {
    let kept = FileFailurePersistence::WithSource("proptest-regressions");
    ProptestConfig { cases, failure_persistence: Some(Box::new(kept)), ..ProptestConfig::default() }
}
