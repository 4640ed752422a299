//! The object of the Security Profiles Operator: `SeccompProfile` of `security-profiles-operator.x-k8s.io/v1`.
//!
//! That type says less than a profile of the runtime specification. What it cannot say is an error here, since the
//! operator would drop it or change its meaning. Written as JSON, which is YAML too.
//! <https://github.com/kubernetes-sigs/security-profiles-operator/blob/349e0e62bb964f28321e36c91c25358691cb559b/api/seccompprofile/v1/seccompprofile_types.go>

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::profile::{Action, Condition, Entry, Profile};

/// The API group and version, served since the operator's 1.0.0.
const API_VERSION: &str = "security-profiles-operator.x-k8s.io/v1";

/// `EPERM`, what runtimes answer where a profile names no errno.
const RUNTIME_ERRNO: u16 = 1;

/// The architectures that the type does not know.
const UNKNOWN_ARCHITECTURES: [&str; 4] =
    ["SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64", "SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_M68K"];

/// The only folder in which a listener's socket may be, and the longest path.
const LISTENERS: &str = "/var/run/security-profiles-operator/";
const LONGEST_LISTENER: usize = 107;

/// A profile that the operator's type cannot say.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the operator's `SeccompProfile` cannot say this profile: {}; install the profile as a file instead (`--format oci`, `seccomp-learn install`)",
    .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
)]
pub struct SpoError(pub Vec<SpoUnsayable>);

/// What the operator's type cannot say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum SpoUnsayable {
    /// It has no `defaultErrnoRet`.
    #[error("the default action's errno {0} (it has no `defaultErrnoRet`, so runtimes would answer EPERM)")]
    DefaultErrno(u16),
    /// Runtimes refuse it, and so does the type.
    #[error("`SCMP_ACT_NOTIFY` as the default action")]
    NotifyDefault,
    /// An errno of 0, which it takes for none.
    #[error("{0}: errno 0, which it reads as EPERM")]
    ErrnoZero(String),
    /// Data for a tracer beyond the errnos.
    #[error("{0}: `errnoRet` {1}, which is above 4095")]
    ErrnoAbove(String, u16),
    /// Values are signed there.
    #[error("{0}: the value {1:#x} of argument {2}, which is above 2^63-1")]
    Value(String, u64, u32),
    /// At most six conditions.
    #[error("{0}: more than 6 conditions in one entry")]
    Conditions(String),
    /// An architecture outside its list.
    #[error("architecture `{0}`")]
    Architecture(&'static str),
    /// No flags at all is left out, which to a runtime means its own default.
    #[error("an empty list of `flags`, which it leaves out, so that runtimes use their own")]
    NoFlags,
    /// A socket elsewhere.
    #[error("listener `{0}`, which is not a short name directly in {LISTENERS}")]
    Listener(String),
}

/// The profile as a `SeccompProfile` of this name: JSON with a final newline. The operator writes it to
/// `operator/NAME.json` below kubelet's folder of seccomp profiles.
///
/// # Errors
/// Everything that the type cannot say.
pub fn seccomp_profile(profile: &Profile, name: &str) -> Result<String, SpoError> {
    let unsayable: BTreeSet<SpoUnsayable> = unsayable(profile).into_iter().collect();
    if !unsayable.is_empty() {
        return Err(SpoError(unsayable.into_iter().collect()));
    }
    let mut spec = Map::new();
    spec.insert("defaultAction".to_owned(), json!(profile.default_action));
    if !profile.architectures.is_empty() {
        spec.insert("architectures".to_owned(), json!(once(&profile.architectures)));
    }
    if let Some(flags) = &profile.flags {
        spec.insert("flags".to_owned(), json!(once(flags)));
    }
    if let Some(path) = &profile.listener_path {
        spec.insert("listenerPath".to_owned(), json!(path));
    }
    if let Some(metadata) = &profile.listener_metadata {
        spec.insert("listenerMetadata".to_owned(), json!(metadata));
    }
    spec.insert("syscalls".to_owned(), profile.syscalls.iter().map(entry).collect());
    let object = json!({
        "apiVersion": API_VERSION,
        "kind": "SeccompProfile",
        "metadata": { "name": name },
        "spec": spec,
    });
    // Strings and numbers always serialize.
    Ok(serde_json::to_string_pretty(&object).map(|text| text + "\n").unwrap_or_default())
}

fn entry(entry: &Entry) -> Value {
    let mut value = json!({ "names": once(&entry.names), "action": entry.action });
    if let Some(fields) = value.as_object_mut() {
        if let Some(errno) = entry.errno_ret {
            fields.insert("errnoRet".to_owned(), json!(errno));
        }
        if !entry.args.is_empty() {
            fields.insert("args".to_owned(), json!(entry.args));
        }
    }
    value
}

/// Lists that the type declares as sets: a repetition means nothing, and is refused by the API server.
fn once<T: PartialEq>(list: &[T]) -> Vec<&T> {
    let mut seen = Vec::new();
    for one in list {
        if !seen.contains(&one) {
            seen.push(one);
        }
    }
    seen
}

fn unsayable(profile: &Profile) -> Vec<SpoUnsayable> {
    let mut found = Vec::new();
    match (profile.default_action, profile.default_errno_ret) {
        (Action::Notify, _) => found.push(SpoUnsayable::NotifyDefault),
        (Action::Errno | Action::Trace, Some(errno)) if errno != RUNTIME_ERRNO => {
            found.push(SpoUnsayable::DefaultErrno(errno));
        }
        _ => {}
    }
    if profile.flags.as_ref().is_some_and(Vec::is_empty) {
        found.push(SpoUnsayable::NoFlags);
    }
    let names = profile.architectures.iter().map(|architecture| architecture.as_str());
    found.extend(names.filter(|name| UNKNOWN_ARCHITECTURES.contains(name)).map(SpoUnsayable::Architecture));
    if let Some(path) = &profile.listener_path
        && !is_listener(path)
    {
        found.push(SpoUnsayable::Listener(path.clone()));
    }
    for entry in &profile.syscalls {
        let name = || entry.names.first().cloned().unwrap_or_default();
        match entry.errno_ret {
            Some(0) => found.push(SpoUnsayable::ErrnoZero(name())),
            Some(errno) if errno > 4095 => found.push(SpoUnsayable::ErrnoAbove(name(), errno)),
            _ => {}
        }
        if entry.args.len() > 6 {
            found.push(SpoUnsayable::Conditions(name()));
        }
        for Condition { index, value, value_two, .. } in &entry.args {
            for value in [*value, *value_two] {
                if i64::try_from(value).is_err() {
                    found.push(SpoUnsayable::Value(name(), value, *index));
                }
            }
        }
    }
    found
}

fn is_listener(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    path.len() <= LONGEST_LISTENER
        && path.strip_prefix(LISTENERS).is_some_and(|name| !name.is_empty() && name.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["read", "read"], "action": "SCMP_ACT_ALLOW",
                      "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
                     {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#;

    #[test]
    fn a_profile_becomes_the_operators_object() {
        let profile = Profile::read(SMALL.as_bytes()).unwrap();
        let object: Value = serde_json::from_str(&seccomp_profile(&profile, "nim-1").unwrap()).unwrap();
        assert_eq!(object["metadata"]["name"], "nim-1");
        assert_eq!(object["spec"]["syscalls"][0]["names"], json!(["read"]));
        assert_eq!(object["spec"]["syscalls"][1]["errnoRet"], 38);
        // What runtimes answer anyway need not be said.
        let plain = Profile { default_errno_ret: Some(1), ..profile.clone() };
        assert_eq!(seccomp_profile(&plain, "nim-1"), seccomp_profile(&profile, "nim-1"));
    }

    #[test]
    fn what_the_type_cannot_say_is_an_error_that_names_it() {
        let check = |from: &str, to: &str, expected: &str| {
            assert!(SMALL.contains(from), "{from}");
            let profile = Profile::read(SMALL.replace(from, to).as_bytes()).unwrap();
            let error = seccomp_profile(&profile, "nim-1").unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("`--format oci`"), "{error}");
        };
        check(
            "\"syscalls\"",
            "\"defaultErrnoRet\": 38, \"syscalls\"",
            "errno 38 (it has no `defaultErrnoRet`",
        );
        check("SCMP_ACT_ERRNO\", \"arch", "SCMP_ACT_NOTIFY\", \"arch", "`SCMP_ACT_NOTIFY` as the default");
        check("\"errnoRet\": 38", "\"errnoRet\": 0", "clone3: errno 0");
        check(
            "SCMP_ACT_ERRNO\", \"errnoRet\": 38",
            "SCMP_ACT_TRACE\", \"errnoRet\": 5000",
            "clone3: `errnoRet` 5000",
        );
        check(
            "\"value\": 1",
            "\"value\": 9223372036854775808",
            "read: the value 0x8000000000000000 of argument 0",
        );
        check("\"value\": 1", "\"value\": 1, \"valueTwo\": 18446744073709551615", "0xffffffffffffffff");
        check("SCMP_ARCH_X86_64", "SCMP_ARCH_LOONGARCH64", "architecture `SCMP_ARCH_LOONGARCH64`");
        check("\"syscalls\"", "\"flags\": [], \"syscalls\"", "an empty list of `flags`");
        check("\"syscalls\"", "\"listenerPath\": \"/run/x\", \"syscalls\"", "listener `/run/x`");
        let one = r#"{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}"#;
        check(one, &[one; 7].join(","), "read: more than 6 conditions");
    }
}
