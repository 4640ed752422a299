//! The smallest rule that would allow a refused call.

use std::{collections::BTreeMap, fmt::Write as _};

use synth::{Action, Condition, Operator, Profile, decode};
use trace::Abi;

/// What a person compares: parameters that are 32 bits wide, the upper half of the register being garbage.
const LOW_HALF: u64 = 0xffff_ffff;

/// An entry of `syscalls` on one line, with the conditions of [`conditions`]; where the ABI is not judged at all, the
/// architectures come first.
pub(crate) fn remedy(
    profile: &Profile,
    native: Abi,
    abi: Abi,
    name: &str,
    arguments: Option<&[u64; 6]>,
) -> String {
    let mut entry = format!(r#"{{"names":["{name}"],"action":"SCMP_ACT_ALLOW""#);
    let conditions: Vec<String> = conditions(profile, name, arguments).iter().map(written).collect();
    if !conditions.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(entry, r#","args":[{}]"#, conditions.join(","));
    }
    entry.push('}');
    let judged = abi == native || profile.architectures.iter().any(|one| one.abi() == Some(abi));
    if judged {
        return entry;
    }
    let mut architectures: Vec<&str> = profile.architectures.iter().map(|one| one.as_str()).collect();
    if architectures.is_empty() {
        architectures.push(native.scmp_arch());
    }
    architectures.push(abi.scmp_arch());
    let mut quoted = architectures.iter().map(|name| format!("\"{name}\""));
    let list = quoted.by_ref().collect::<Vec<_>>().join(",");
    format!(r#"{{"architectures":[{list}],"syscalls":[{entry}]}}"#)
}

/// The same in words: `socket when domain == AF_NETLINK`.
pub(crate) fn in_words(profile: &Profile, abi: Abi, name: &str, arguments: Option<&[u64; 6]>) -> String {
    let conditions = conditions(profile, name, arguments);
    if conditions.is_empty() {
        return format!("{name} always");
    }
    format!("{name} when {}", decode::conditions(abi, name, &conditions))
}

fn written(condition: &Condition) -> String {
    let Condition { index, value, value_two, op } = *condition;
    format!(r#"{{"index":{index},"value":{value},"valueTwo":{value_two},"op":"{}"}}"#, op.as_str())
}

/// Where the profile allows the call under conditions, one on each argument that it looks at; where it does not allow
/// it, one on each argument that a rule may test. Each with the value that was asked for; none if that is not known.
fn conditions(profile: &Profile, name: &str, arguments: Option<&[u64; 6]>) -> Vec<Condition> {
    let Some(arguments) = arguments else { return Vec::new() };
    let mut allowing = profile
        .syscalls
        .iter()
        .filter(|entry| entry.action.executes() && entry.names.iter().any(|own| own == name))
        .peekable();
    if allowing.peek().is_none() {
        return decode::tuple(name, arguments);
    }
    let mut found = BTreeMap::new();
    for condition in allowing.flat_map(|entry| &entry.args) {
        let Some(argument) = usize::try_from(condition.index).ok().and_then(|index| arguments.get(index))
        else {
            continue;
        };
        // The same bits as the profile looks at; a comparison without a mask is about a 32-bit value where the
        // value that was asked for is one.
        let mask = match condition.op {
            Operator::MaskedEq => condition.value,
            _ if *argument <= LOW_HALF => LOW_HALF,
            _ => u64::MAX,
        };
        // Several conditions on one argument: the widest mask is the smallest rule.
        let widest = found.entry(condition.index).or_insert((0, *argument));
        widest.0 |= mask;
    }
    let condition = |(index, (mask, argument))| Condition {
        index,
        value: mask,
        value_two: argument & mask,
        op: Operator::MaskedEq,
    };
    found.into_iter().map(condition).collect()
}

/// Whether ENOSYS for this call is the profile's own word, not what it says to all it does not name.
pub(crate) fn says_enosys(profile: &Profile, name: &str) -> bool {
    profile.answers_enosys(name)
        && !profile.syscalls.iter().any(|entry| {
            entry.action == Action::Allow
                && entry.args.is_empty()
                && entry.names.iter().any(|own| own == name)
        })
}

#[cfg(test)]
mod tests {
    use synth::{CompileOptions, SeccompData, compile, simulate};

    use super::*;

    /// Adding the remedy to the profile allows the call, and is what is written here.
    fn check(profile: &str, abi: Abi, name: &str, arguments: [u64; 6], expected: &str) {
        let parsed = Profile::read(profile.as_bytes()).unwrap();
        let data = SeccompData::call(abi, abi.number(name).unwrap(), arguments);
        let verdict = |profile: &Profile| {
            let program = compile(profile, Abi::X86_64, CompileOptions::default()).unwrap();
            simulate(&program, &data).unwrap()
        };
        assert!(!verdict(&parsed).executes());
        let remedy = remedy(&parsed, Abi::X86_64, abi, name, Some(&arguments));
        assert_eq!(remedy, expected);
        let mut changed: serde_json::Value = serde_json::from_str(profile).unwrap();
        let remedy: serde_json::Value = serde_json::from_str(&remedy).unwrap();
        let entry = match remedy.get("syscalls") {
            None => remedy,
            Some(entries) => {
                changed["architectures"] = remedy["architectures"].clone();
                entries[0].clone()
            }
        };
        changed["syscalls"].as_array_mut().unwrap().push(entry);
        let changed = Profile::read(changed.to_string().as_bytes()).unwrap();
        assert!(verdict(&changed).executes(), "{expected}");
    }

    #[test]
    fn the_remedy_allows_the_call() {
        let profile = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":4294967295,"valueTwo":2,"op":"SCMP_CMP_MASKED_EQ"}]},
            {"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"op":"SCMP_CMP_MASKED_EQ"}]},
            {"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":0,"op":"SCMP_CMP_EQ"}]},
            {"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]}]}"#;
        let none = [0; 6];
        check(profile, Abi::X86_64, "mkdir", none, r#"{"names":["mkdir"],"action":"SCMP_ACT_ALLOW"}"#);
        check(
            profile,
            Abi::X86_64,
            "socket",
            [16, 3, 9, 0, 0, 0],
            r#"{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":4294967295,"valueTwo":16,"op":"SCMP_CMP_MASKED_EQ"}]}"#,
        );
        check(
            profile,
            Abi::X86_64,
            "clone",
            [0x1000_0011, 0, 0, 0, 0, 0],
            r#"{"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"valueTwo":268435456,"op":"SCMP_CMP_MASKED_EQ"}]}"#,
        );
        check(
            profile,
            Abi::X86_64,
            "personality",
            [0xffff_ffff, 0, 0, 0, 0, 0],
            r#"{"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":4294967295,"valueTwo":4294967295,"op":"SCMP_CMP_MASKED_EQ"}]}"#,
        );
        check(
            profile,
            Abi::I386,
            "getpid",
            none,
            r#"{"architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],"syscalls":[{"names":["getpid"],"action":"SCMP_ACT_ALLOW"}]}"#,
        );
        // A call that the profile does not know is allowed with these arguments only, where a rule may test them.
        check(
            profile,
            Abi::X86_64,
            "socketpair",
            [1, 0x80001, 0, 0xdead_beef, 0, 0],
            r#"{"names":["socketpair"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":4294967295,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"},{"index":1,"value":4294967295,"valueTwo":524289,"op":"SCMP_CMP_MASKED_EQ"},{"index":2,"value":4294967295,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]}"#,
        );
        let profile = Profile::read(profile.as_bytes()).unwrap();
        let words = |name, arguments| in_words(&profile, Abi::X86_64, name, Some(&arguments));
        assert_eq!(words("mkdir", none), "mkdir always");
        assert_eq!(in_words(&profile, Abi::X86_64, "socket", None), "socket always");
        assert_eq!(words("socket", [16, 3, 9, 0, 0, 0]), "socket when domain == AF_NETLINK");
        let pair = words("socketpair", [1, 0x80001, 0, 7, 0, 0]);
        assert!(
            pair.starts_with("socketpair when domain == AF_UNIX, type == SOCK_STREAM|SOCK_CLOEXEC"),
            "{pair}"
        );
    }
}
