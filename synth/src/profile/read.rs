//! Reading a profile: whatever a runtime would silently drop or misread is an error that names the culprit.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::{
    ARCHITECTURES, ARGUMENTS, Action, Architecture, Condition, Entry, Flag, Named, Operator, Profile,
};
use crate::names;

/// The largest errno that the kernel hands on: `MAX_ERRNO`, `include/linux/err.h`.
const MAX_ERRNO: u32 = 4095;

/// A profile that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file is empty.
    #[error("the file is empty; give a seccomp profile in OCI JSON, or docker, podman or containerd")]
    Empty,
    /// It is no JSON, has an unknown or duplicate field, or a field of the wrong type.
    #[error("not an OCI seccomp profile")]
    Malformed(#[source] serde_json::Error),
    /// It is JSON, but something else.
    #[error("not an OCI seccomp profile: {0}")]
    NotAProfile(&'static str),
    /// A field that only Docker and Podman understand.
    #[error(
        "`{0}` is a field of Docker's and Podman's own format, which other runtimes silently drop; give the engine's default by name (docker, podman, containerd) or a profile in plain OCI JSON"
    )]
    EngineField(&'static str),
    /// No architecture has such a call.
    #[error("unknown syscall `{0}`")]
    UnknownSyscall(String),
    /// No such action.
    #[error("unknown action `{0}`; known are {known}", known = known(&Action::ALL))]
    UnknownAction(String),
    /// No such architecture.
    #[error("unknown architecture `{0}`; known are {known}", known = ARCHITECTURES.join(", "))]
    UnknownArchitecture(String),
    /// No such operator.
    #[error("unknown operator `{0}`; known are {known}", known = known(&Operator::ALL))]
    UnknownOperator(String),
    /// No such flag.
    #[error("unknown flag `{0}`; known are {known}", known = known(&Flag::ALL))]
    UnknownFlag(String),
    /// A syscall has six arguments.
    #[error("{syscall}: argument index `{index}` is above 5")]
    Index {
        /// The first name of the entry.
        syscall: String,
        /// What stands there.
        index: u64,
    },
    /// An errno that the action does not take, or that is none.
    #[error("{place}: errno `{errno}` {problem}")]
    Errno {
        /// The first name of the entry, or `default action`.
        place: String,
        /// What stands there.
        errno: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An entry that names no syscall.
    #[error("entry {0} of `syscalls` names no syscall")]
    NoNames(usize),
}

fn known<T: Copy + Named>(all: &[T]) -> String {
    all.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ")
}

/// As it stands in the file, before anything is known to be right.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawProfile {
    default_action: String,
    default_errno_ret: Option<u64>,
    #[serde(default)]
    architectures: Vec<String>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Vec<RawEntry>,
    arch_map: Option<IgnoredAny>,
    default_errno: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawEntry {
    #[serde(default)]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u64>,
    args: Option<Vec<RawCondition>>,
    name: Option<IgnoredAny>,
    comment: Option<IgnoredAny>,
    includes: Option<IgnoredAny>,
    excludes: Option<IgnoredAny>,
    errno: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawCondition {
    index: u64,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

impl Profile {
    /// Reads and checks a profile.
    ///
    /// # Errors
    /// See [`ProfileError`]; each names the culprit.
    pub fn read(bytes: &[u8]) -> Result<Self, ProfileError> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(ProfileError::Empty);
        }
        check_kind(&serde_json::from_slice(bytes).map_err(ProfileError::Malformed)?)?;
        let raw: RawProfile = serde_json::from_slice(bytes).map_err(ProfileError::Malformed)?;
        raw.checked()
    }
}

/// What kind of document it is, so that the error says more than "missing field"; and whether objects stand
/// where objects belong, since serde would also take an array of the fields in their order.
fn check_kind(document: &Value) -> Result<(), ProfileError> {
    let has = |field: &str| document.get(field).is_some();
    let problem = if !document.is_object() {
        "it is no JSON object"
    } else if has("ociVersion") {
        "this is a container's config.json; its profile stands below `linux.seccomp`"
    } else if has("recorder") {
        "this is a trace; make a profile from it with `seccomp-learn synth`"
    } else if has("apiVersion") {
        "this is a Kubernetes object; the file that localhostProfile names is needed"
    } else if !has("defaultAction") {
        "it has no `defaultAction`"
    } else if !objects(document.get("syscalls")).all(Value::is_object) {
        "an entry of `syscalls` is no object"
    } else if !objects(document.get("syscalls")).all(|entry| objects(entry.get("args")).all(Value::is_object))
    {
        "an entry of `args` is no object"
    } else {
        return Ok(());
    };
    Err(ProfileError::NotAProfile(problem))
}

fn objects(list: Option<&Value>) -> impl Iterator<Item = &Value> {
    list.and_then(Value::as_array).into_iter().flatten()
}

impl RawProfile {
    fn checked(self) -> Result<Profile, ProfileError> {
        for (field, present) in
            [("archMap", self.arch_map.is_some()), ("defaultErrno", self.default_errno.is_some())]
        {
            if present {
                return Err(ProfileError::EngineField(field));
            }
        }
        let default_action = action(&self.default_action)?;
        let architecture =
            |name: String| Architecture::from_name(&name).ok_or(ProfileError::UnknownArchitecture(name));
        let flag = |name: String| Flag::from_name(&name).ok_or(ProfileError::UnknownFlag(name));
        Ok(Profile {
            default_action,
            default_errno_ret: errno("default action", default_action, self.default_errno_ret)?,
            architectures: self.architectures.into_iter().map(architecture).collect::<Result<_, _>>()?,
            flags: self.flags.map(|flags| flags.into_iter().map(flag).collect()).transpose()?,
            listener_path: self.listener_path,
            listener_metadata: self.listener_metadata,
            syscalls: self
                .syscalls
                .into_iter()
                .enumerate()
                .map(|(place, entry)| entry.checked(place))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl RawEntry {
    fn checked(self, place: usize) -> Result<Entry, ProfileError> {
        for (field, present) in [
            ("name", self.name.is_some()),
            ("comment", self.comment.is_some()),
            ("includes", self.includes.is_some()),
            ("excludes", self.excludes.is_some()),
            ("errno", self.errno.is_some()),
        ] {
            if present {
                return Err(ProfileError::EngineField(field));
            }
        }
        let Some(first) = self.names.first().cloned() else { return Err(ProfileError::NoNames(place)) };
        if let Some(unknown) = self.names.iter().find(|name| !names::is_syscall(name)) {
            return Err(ProfileError::UnknownSyscall(unknown.clone()));
        }
        let action = action(&self.action)?;
        let args = self.args.unwrap_or_default();
        Ok(Entry {
            names: self.names,
            action,
            errno_ret: errno(&first, action, self.errno_ret)?,
            args: args.into_iter().map(|arg| arg.checked(&first)).collect::<Result<_, _>>()?,
        })
    }
}

impl RawCondition {
    fn checked(self, syscall: &str) -> Result<Condition, ProfileError> {
        let index = u32::try_from(self.index)
            .ok()
            .filter(|index| *index < ARGUMENTS)
            .ok_or_else(|| ProfileError::Index { syscall: syscall.to_owned(), index: self.index })?;
        let op = Operator::from_name(&self.op).ok_or(ProfileError::UnknownOperator(self.op))?;
        Ok(Condition { index, value: self.value, value_two: self.value_two, op })
    }
}

fn action(name: &str) -> Result<Action, ProfileError> {
    Action::from_name(name).ok_or_else(|| ProfileError::UnknownAction(name.to_owned()))
}

/// "If the action does not support returning error code, a runtime MUST generate an error" (the specification).
fn errno(place: &str, action: Action, errno: Option<u64>) -> Result<Option<u16>, ProfileError> {
    let Some(errno) = errno else { return Ok(None) };
    let wrong = |problem| Err(ProfileError::Errno { place: place.to_owned(), errno, problem });
    match (action, u16::try_from(errno)) {
        (Action::Errno, Ok(number)) if u32::from(number) <= MAX_ERRNO => Ok(Some(number)),
        (Action::Errno, _) => wrong("is above 4095"),
        (Action::Trace, Ok(number)) => Ok(Some(number)),
        (Action::Trace, Err(_)) => wrong("is above 65535"),
        _ => wrong("stands with an action that returns none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW",
                      "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]}"#;

    #[test]
    fn what_is_written_reads_back_as_the_same() {
        let profile = Profile::read(SMALL.as_bytes()).unwrap();
        let text = profile.to_json();
        assert_eq!(Profile::read(text.as_bytes()).unwrap(), profile);
        assert_eq!(Profile::read(text.as_bytes()).unwrap().to_json(), text);
        assert!(text.ends_with("}\n"), "{text}");
    }

    #[test]
    fn a_bad_profile_is_refused_with_the_culprit() {
        let check = |from: &str, to: &str, expected: &str| {
            assert!(SMALL.contains(from), "{from}");
            let error = Profile::read(SMALL.replace(from, to).as_bytes()).unwrap_err();
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            assert!(text.contains(expected), "{text:?} has no {expected:?}");
        };
        check("\"read\"", "\"raed\"", "unknown syscall `raed`");
        check("\"read\"", "\"\"", "unknown syscall ``");
        check("[\"read\"]", "[]", "names no syscall");
        check("SCMP_ACT_ALLOW", "SCMP_ACT_ALOW", "unknown action `SCMP_ACT_ALOW`; known are SCMP_ACT_KILL,");
        check("SCMP_ACT_ERRNO", "SCMP_ACT_EPERM", "unknown action `SCMP_ACT_EPERM`");
        check("ARCH_X86_64", "ARCH_X8664", "unknown architecture `SCMP_ARCH_X8664`");
        check("SCMP_CMP_EQ", "EQ", "unknown operator `EQ`");
        check("\"args\"", "\"arg\"", "unknown field `arg`");
        check("\"index\": 0", "\"index\": 6", "read: argument index `6`");
        check("\"index\": 0", "\"index\": 0, \"index\": 1", "duplicate field `index`");
        check("\"value\": 1", "\"value\": -1", "invalid value: integer `-1`");
        check("\"value\": 1", "\"value\": 18446744073709551616", "expected u64");
        check("\"syscalls\"", "\"errnoRet\": 1, \"syscalls\"", "unknown field `errnoRet`");
        check("\"syscalls\"", "\"defaultErrnoRet\": 4096, \"syscalls\"", "errno `4096` is above 4095");
        check("_ALLOW\"", "_ALLOW\", \"errnoRet\": 1", "read: errno `1` stands with an action");
        check("\"syscalls\"", "\"flags\": [\"X\"], \"syscalls\"", "unknown flag `X`");
        check("\"defaultAction\"", "\"action\"", "it has no `defaultAction`");
        check("\"syscalls\"", "\"archMap\": [], \"syscalls\"", "`archMap` is a field of Docker's");
        check("_ALLOW\"", "_ALLOW\", \"includes\": {}", "`includes` is a field of Docker's");
        check("\"names\"", "\"name\": \"read\", \"names\"", "`name` is a field of Docker's");
        check("{\"defaultAction\"", "{\"ociVersion\": \"1.0.2\", \"defaultAction\"", "config.json");
        check("[{\"names\"", "[[], {\"names\"", "an entry of `syscalls` is no object");
        check("[{\"index\"", "[[0], {\"index\"", "an entry of `args` is no object");
        assert!(matches!(Profile::read(b"[]"), Err(ProfileError::NotAProfile(_))));
        assert!(matches!(Profile::read(b" \n"), Err(ProfileError::Empty)));
        assert!(matches!(Profile::read(b"hello"), Err(ProfileError::Malformed(_))));
        assert!(matches!(Profile::read(&SMALL.as_bytes()[..40]), Err(ProfileError::Malformed(_))));
        assert!(matches!(Profile::read("[".repeat(100_000).as_bytes()), Err(ProfileError::Malformed(_))));
    }
}
