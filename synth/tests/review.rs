//! What a review says of the worked workloads, and of profiles that were spoiled on purpose.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{collections::BTreeSet, path::PathBuf};

use seccomp_learn_synth::{
    Container, DecisionVerdict, Evidence, EvidenceDecision, Profile, Risk, Severity, completeness, reference,
    review::{AttackOutcome, Compared, Digests, Input, Origin, Review, review, review_schema},
};
use trace::{Abi, Trace};

/// A worked workload as it is checked in.
struct Workload {
    profile: Profile,
    bytes: Vec<u8>,
    evidence: Evidence,
    trace: Trace,
}

#[expect(clippy::disallowed_methods, reason = "the tests read the worked workloads")]
fn workload(name: &str) -> Workload {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles/workloads")).join(name);
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let traces = (1..=3).map(|run| read(&format!("traces/run-{run:03}.json")));
    let traces: Vec<Trace> = traces.map(|bytes| Trace::read(bytes.as_slice()).unwrap()).collect();
    let bytes = read("profile.json");
    Workload {
        profile: Profile::read(&bytes).unwrap(),
        bytes,
        evidence: Evidence::read(&read("profile.evidence.json")).unwrap(),
        trace: trace::merge(traces).unwrap(),
    }
}

fn runtime_default() -> Profile {
    reference("runtime-default").unwrap().resolve(&Container::new(Abi::X86_64, (6, 18)))
}

impl Workload {
    fn review(&self, profile: &Profile, against: &Profile, decisions: &[EvidenceDecision]) -> Review {
        let runs = self.trace.merged.iter().map(|run| run.digest);
        review(&Input {
            name: "workload",
            profile,
            native: Abi::X86_64,
            evidence: Some(&self.evidence),
            trace: Some(&self.trace),
            completeness: Some(completeness(&self.trace)),
            decisions: decisions.to_vec(),
            against: Compared { name: "RuntimeDefault".to_owned(), source: None, profile: against },
            starts: None,
            digests: Digests::new(&self.bytes, Some(b"evidence"), runs, decisions),
        })
        .unwrap()
    }
}

#[test]
fn the_worked_workloads_add_up() {
    for name in ["inference", "nim-llm", "webrtc-media"] {
        let own = workload(name);
        let made = own.review(&own.profile, &runtime_default(), &[]);
        let summary = &made.summary;
        assert!(summary.wider.is_empty() && made.wider.is_empty(), "{name}: {:?}", summary.wider);
        assert_eq!(summary.allowed, own.evidence.counts.allowed, "{name}");
        assert_eq!(summary.conditional, own.evidence.counts.conditional, "{name}");
        assert_eq!(summary.observed, Some(own.evidence.counts.observed), "{name}");
        let unseen: usize = summary.not_observed.values().sum();
        assert_eq!(unseen, own.evidence.counts.not_observed, "{name}");
        let replayed = summary.replayed.as_ref().unwrap();
        let judged =
            [replayed.allowed, replayed.on_purpose, replayed.not_needed, replayed.denied, replayed.unknown];
        assert_eq!(judged.iter().sum::<u64>(), replayed.calls, "{name}");
        assert_eq!((replayed.denied, replayed.unknown), (0, 0), "{name}");
        // Every class, phase and attack is counted once.
        let open: usize = made.surface.iter().map(|class| class.always + class.conditional).sum();
        assert_eq!(open, summary.allowed, "{name}");
        assert_eq!(made.surface.iter().map(|class| class.known).sum::<usize>(), summary.known, "{name}");
        let seen: usize = made.phases.iter().map(|group| group.syscalls.len()).sum();
        assert_eq!(seen, made.rules.iter().filter(|rule| rule.calls > 0).count(), "{name}");
        let of = |outcome| made.attacks.rows.iter().filter(|row| row.outcome == outcome).count();
        assert_eq!(of(AttackOutcome::Blocked), made.attacks.blocked, "{name}");
        assert_eq!(of(AttackOutcome::Blocked) + of(AttackOutcome::Open), made.attacks.decided, "{name}");
        assert_eq!(made.attacks.against_blocked, 62, "{name}");
        assert!(made.attacks.blocked > 62, "{name}");
        // Everything has a reason, and everything observed has somebody who made it.
        for rule in &made.rules {
            assert!(rule.ways.iter().all(|way| !way.reasons.is_empty()), "{name}: {}", rule.syscall);
            assert!(rule.does.is_some() && rule.risk.is_some(), "{name}: {}", rule.syscall);
            assert_eq!(rule.origin == Origin::Observed, rule.first.is_some(), "{name}: {}", rule.syscall);
            assert_ne!(rule.risk > Some(Risk::Harmless), rule.opens.is_none(), "{name}: {}", rule.syscall);
        }
        assert_eq!(made.to_json(), own.review(&own.profile, &runtime_default(), &[]).to_json(), "{name}");
    }
}

#[test]
fn what_the_ceiling_left_out_is_told_with_its_arguments() {
    let own = workload("nim-llm");
    let made = own.review(&own.profile, &runtime_default(), &[]);
    assert_eq!(made.summary.left_out, BTreeSet::from(["mbind".to_owned()]));
    let left_out = &made.left_out[0];
    assert_eq!((left_out.syscall.as_str(), left_out.calls, left_out.succeeded), ("mbind", 6, true));
    assert_eq!(left_out.arguments, ["mbind(MPOL_PREFERRED, 0)"]);
    assert_eq!(made.summary.answered_enosys, BTreeSet::from(["clone3".to_owned()]));
    let clone3 = made.blind.iter().find(|own| own.id == "clone3").unwrap();
    assert!(clone3.detail.contains("ENOSYS") && clone3.calls.is_empty(), "{clone3:?}");
}

#[test]
fn what_is_wider_is_an_objection_until_someone_answers_for_it() {
    let own = workload("inference");
    let narrow = Profile { syscalls: own.profile.syscalls[1..].to_vec(), ..own.profile.clone() };
    let made = own.review(&own.profile, &narrow, &[]);
    let names: BTreeSet<&str> = own.profile.syscalls[0].names.iter().map(String::as_str).collect();
    assert!(!made.wider.is_empty());
    for wider in &made.wider {
        assert!(names.contains(wider.syscall.as_str()) && wider.decided.is_none(), "{wider:?}");
        assert!(made.rules.iter().any(|rule| rule.syscall == wider.syscall && rule.wider), "{wider:?}");
    }
    let wide = |made: &Review| made.findings.iter().find(|own| own.id == "wider").map(|own| own.severity);
    assert_eq!(wide(&made), Some(Severity::Danger));
    let decisions: Vec<EvidenceDecision> = made
        .summary
        .wider
        .iter()
        .map(|syscall| EvidenceDecision {
            verdict: DecisionVerdict::Allow,
            syscall: syscall.clone(),
            when: "always".to_owned(),
            reason: "needed".to_owned(),
            owner: "sec".to_owned(),
            expires: None,
        })
        .collect();
    let made = own.review(&own.profile, &narrow, &decisions);
    assert_eq!(wide(&made), None);
    assert!(made.wider.iter().all(|own| own.decided.as_deref() == Some("allow by sec: needed")), "{made:?}");
}

#[test]
fn a_profile_that_was_changed_by_hand_has_no_reasons_and_says_so() {
    let own = workload("webrtc-media");
    let mut changed = own.profile.clone();
    let gone = changed.syscalls[0].names.remove(0);
    let made = own.review(&changed, &runtime_default(), &[]);
    assert_eq!(made.findings[0].id, "other-evidence");
    assert_eq!(made.findings[0].severity, Severity::Danger);
    assert!(made.rules.iter().all(|rule| rule.origin == Origin::Unexplained));
    assert_eq!((made.summary.observed, made.summary.allowed), (None, own.evidence.counts.allowed - 1));
    // The replay does not need evidence: what was taken out was needed.
    let seen = own.trace.syscalls.iter().any(|row| row.name == gone && row.calls > 0);
    let denied = &made.summary.replayed.as_ref().unwrap().denied_syscalls;
    assert_eq!(denied.contains(&gone), seen, "{gone}: {denied:?}");
}

#[test]
fn what_the_default_lets_through_counts_as_allowed() {
    let own = workload("inference");
    let open = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["ptrace"], "action": "SCMP_ACT_ERRNO"},
        {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]}
    ]}"#;
    let open = Profile::read(open.as_bytes()).unwrap();
    let made = own.review(&open, &runtime_default(), &[]);
    let summary = &made.summary;
    assert_eq!((summary.allowed, summary.conditional), (summary.known - 1, 1));
    assert!(made.rules.iter().all(|rule| rule.syscall != "ptrace"));
    assert!(made.rules.iter().any(|rule| rule.syscall == "socket" && !rule.always));
    assert!(summary.wider.contains("bpf") && summary.wider.contains("io_uring_setup"));
    // A name that this host's libseccomp may not know, and newer nodes do.
    let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read", "open_tree_attr"], "action": "SCMP_ACT_ALLOW"}]}"#;
    let newer = Profile::read(text.as_bytes()).unwrap();
    let made = own.review(&newer, &runtime_default(), &[]);
    assert_eq!(made.summary.wider, BTreeSet::from(["open_tree_attr".to_owned()]));
    assert_eq!(made.summary.allowed, 2);
}

#[test]
fn what_a_gpu_driver_is_asked_is_among_what_no_filter_sees() {
    let own = workload("nim-llm");
    let about = |value: u64| {
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
                "args": [{{"index": 1, "value": 4294967295, "valueTwo": {value}, "op": "SCMP_CMP_MASKED_EQ"}}]}}]}}"#
        );
        let made = own.review(&Profile::read(text.as_bytes()).unwrap(), &runtime_default(), &[]);
        made.blind.into_iter().map(|own| own.id).collect::<BTreeSet<String>>()
    };
    // NV_ESC_RM_CONTROL, and TCGETS.
    assert!(about(0xc020_462a).contains("gpu-commands"));
    assert!(about(0x5401).contains("descriptors") && !about(0x5401).contains("gpu-commands"));
}

#[test]
fn a_review_fits_its_schema() {
    let own = workload("nim-llm");
    let document =
        serde_json::from_str(&own.review(&own.profile, &runtime_default(), &[]).to_json()).unwrap();
    jsonschema::validator_for(&review_schema()).unwrap().validate(&document).unwrap();
}

/// `SECCOMP_LEARN_BLESS=1 cargo test -p seccomp-learn-synth` writes the schema anew.
#[test]
#[expect(clippy::disallowed_methods, reason = "the test compares with a file")]
fn the_checked_in_schema_is_the_one_of_the_types() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/review.schema.json");
    let generated = serde_json::to_string_pretty(&review_schema()).unwrap() + "\n";
    if std::env::var("SECCOMP_LEARN_BLESS").is_ok() {
        std::fs::write(path, &generated).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), generated, "review.schema.json is stale");
}
