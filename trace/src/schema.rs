//! The JSON Schema of the format, generated from the types; the copy that is checked in is compared by a test.

/// The schema of `trace.json`, as a JSON document.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(crate::Trace).to_value()
}

#[cfg(test)]
mod tests {
    /// `SECCOMP_LEARN_BLESS=1 cargo test -p seccomp-learn-trace` writes the schema anew.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test compares with a file")]
    fn the_checked_in_schema_is_the_one_of_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/trace.schema.json");
        let generated = serde_json::to_string_pretty(&super::json_schema()).unwrap() + "\n";
        if std::env::var("SECCOMP_LEARN_BLESS").is_ok() {
            std::fs::write(path, &generated).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap_or_default(),
            generated,
            "trace.schema.json is stale"
        );
    }
}
