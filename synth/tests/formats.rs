//! The Security Profiles Operator's object against the schema that the operator publishes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use seccomp_learn_synth::{Container, Profile, format::seccomp_profile, observe_profile, references};
use serde_json::{Value, json};
use trace::Abi;

/// The published schema as an API server applies it: a field that it does not name would be dropped, so it is an
/// error here; lists declared as sets must be sets; numbers must fit their format; the CEL rule about the default
/// action as a schema.
fn validator() -> jsonschema::Validator {
    fn strict(schema: &mut Value) {
        let Value::Object(fields) = schema else {
            if let Value::Array(list) = schema {
                list.iter_mut().for_each(strict);
            }
            return;
        };
        fields.values_mut().for_each(strict);
        if fields.get("properties").is_some_and(Value::is_object) {
            fields.insert("additionalProperties".to_owned(), json!(false));
        }
        if fields.get("x-kubernetes-list-type") == Some(&json!("set")) {
            fields.insert("uniqueItems".to_owned(), json!(true));
        }
        if fields.get("format") == Some(&json!("int64")) {
            fields.insert("maximum".to_owned(), json!(i64::MAX));
        }
    }
    let mut schema: Value = serde_json::from_str(include_str!("data/spo-seccompprofile-v1.json")).unwrap();
    strict(&mut schema);
    let properties = &mut schema["properties"];
    properties["apiVersion"] = json!({ "const": "security-profiles-operator.x-k8s.io/v1" });
    properties["kind"] = json!({ "const": "SeccompProfile" });
    let name = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
    properties["metadata"] = json!({
        "type": "object", "required": ["name"], "additionalProperties": false,
        "properties": { "name": { "type": "string", "maxLength": 253, "pattern": name } }
    });
    properties["spec"]["properties"]["defaultAction"]["not"] = json!({ "const": "SCMP_ACT_NOTIFY" });
    schema["required"] = json!(["apiVersion", "kind", "metadata", "spec"]);
    jsonschema::validator_for(&schema).unwrap()
}

#[track_caller]
fn check(profile: &Profile) {
    let object: Value = serde_json::from_str(&seccomp_profile(profile, "nim-0123456789ab").unwrap()).unwrap();
    if let Err(error) = validator().validate(&object) {
        panic!("{error} at {}", error.instance_path());
    }
    // Nothing is lost: the specification read back as a profile is the profile, but for what runtimes answer anyway.
    let same = |profile: &Profile| {
        let errno = profile.default_errno_ret.filter(|errno| *errno != 1);
        Profile { default_errno_ret: errno, ..profile.clone() }
    };
    let read = Profile::read(object["spec"].to_string().as_bytes()).unwrap();
    assert!(same(&read) == same(profile), "{object:#}");
}

#[test]
fn shipped_profiles_are_the_operators_or_are_refused_for_their_errno() {
    check(&observe_profile(Abi::X86_64));
    check(&observe_profile(Abi::Aarch64));
    let mut said = 0;
    for reference in references() {
        let profile = reference.resolve(&Container::new(Abi::X86_64, (6, 18)));
        match seccomp_profile(&profile, "nim-0123456789ab") {
            Ok(_) => {
                check(&profile);
                said += 1;
            }
            // Podman's default answers ENOSYS.
            Err(error) => assert!(error.to_string().contains("the default action's errno 38"), "{error}"),
        }
    }
    assert!(said >= 2, "Docker's and containerd's can be said");
}

#[test]
fn the_schema_refuses_what_we_refuse() {
    let good: Value =
        serde_json::from_str(&seccomp_profile(&observe_profile(Abi::X86_64), "a").unwrap()).unwrap();
    let refused = |pointer: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert!(validator().validate(&bad).is_err(), "{pointer}");
    };
    assert!(validator().validate(&good).is_ok());
    refused("/spec/defaultAction", json!("SCMP_ACT_NOTIFY"));
    refused("/spec/architectures", json!(["SCMP_ARCH_LOONGARCH64"]));
    refused("/spec/architectures", json!(["SCMP_ARCH_X86", "SCMP_ARCH_X86"]));
    refused("/spec/syscalls/0/errnoRet", json!(5000));
    refused("/spec/syscalls/0", json!({ "names": [], "action": "SCMP_ACT_ALLOW" }));
    let value = json!([{ "index": 0, "value": 9_223_372_036_854_775_808_u64, "op": "SCMP_CMP_EQ" }]);
    refused("/spec/syscalls/0", json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": value }));
    refused("/spec", json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38 }));
}

fn profile() -> impl Strategy<Value = Profile> {
    let action = prop_oneof![
        Just("SCMP_ACT_ALLOW"),
        Just("SCMP_ACT_ERRNO"),
        Just("SCMP_ACT_TRACE"),
        Just("SCMP_ACT_KILL_PROCESS"),
        Just("SCMP_ACT_NOTIFY")
    ];
    let value = prop_oneof![0u64..4, Just(i64::MAX.cast_unsigned()), any::<u64>()];
    let condition = (0u32..6, value.clone(), value, prop_oneof![Just("SCMP_CMP_EQ"), Just("SCMP_CMP_MASKED_EQ")])
        .prop_map(|(index, value, value_two, op)| {
            json!({ "index": index, "value": value, "valueTwo": value_two, "op": op })
        });
    let entry = (
        prop::collection::vec(prop_oneof![Just("read"), Just("write"), Just("ioctl")], 1..3),
        action.clone(),
        prop::option::of(prop_oneof![0u16..40, 4090u16..4096]),
        prop::collection::vec(condition, 0..8),
    )
        .prop_map(|(names, action, errno, args)| {
            let mut entry = json!({ "names": names, "action": action, "args": args });
            if let Some(errno) = errno.filter(|_| ["SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"].contains(&action)) {
                entry["errnoRet"] = json!(errno);
            }
            entry
        });
    let architectures = prop::collection::vec(
        prop_oneof![Just("SCMP_ARCH_X86_64"), Just("SCMP_ARCH_X86"), Just("SCMP_ARCH_M68K")],
        0..4,
    );
    let flags = prop::option::of(prop::collection::vec(Just("SECCOMP_FILTER_FLAG_LOG"), 0..3));
    (action, prop::option::of(0u16..40), architectures, flags, prop::collection::vec(entry, 0..4)).prop_map(
        |(default, errno, architectures, flags, entries)| {
            let mut profile =
                json!({ "defaultAction": default, "architectures": architectures, "syscalls": entries });
            if let Some(errno) = errno.filter(|_| ["SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"].contains(&default)) {
                profile["defaultErrnoRet"] = json!(errno);
            }
            if let Some(flags) = flags {
                profile["flags"] = json!(flags);
            }
            Profile::read(profile.to_string().as_bytes()).unwrap()
        },
    )
}

proptest! {
    #[test]
    fn any_profile_is_valid_for_the_operator_or_refused(profile in profile()) {
        if let Ok(text) = seccomp_profile(&profile, "nim-0123456789ab") {
            let object: Value = serde_json::from_str(&text).unwrap();
            let result = validator().validate(&object).map_err(|error| error.to_string());
            prop_assert!(result.is_ok(), "{result:?}: {text}");
        }
    }
}
