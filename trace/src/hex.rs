//! Numbers that are bits, as text: `"0xc030462b"`. One text for each number, so that a file that reads writes back
//! to the same bytes.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serializer, de};

pub(crate) fn text(number: u64) -> String {
    format!("{number:#x}")
}

pub(crate) fn number(written: &str) -> Result<u64, String> {
    let number = written.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    number.filter(|number| text(*number) == written).ok_or_else(|| {
        format!("`{written}` is no number as it is written here; expected one such as `0x541b`")
    })
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
pub(crate) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&text(*number))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    number(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

/// What the schema says of such a number.
pub(crate) struct Text;

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Hexadecimal".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^0x(0|[1-9a-f][0-9a-f]{0,15})$" })
    }
}
