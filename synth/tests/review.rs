//! What a review says of the worked workloads, and of profiles that were spoiled on purpose.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use common::{called, refused, trace};
use seccomp_learn_synth::{
    Carried, Ceiling, Container, DecisionVerdict, Evidence, EvidenceDecision, Margin, Options, Profile, Risk,
    Runtime, Severity, completeness, reference,
    review::{AttackOutcome, Compared, Digests, Files, Input, Origin, Review, review, review_schema},
    synthesize,
};
use trace::{Abi, Digest, Errno, ExecCalls, Outcome, Trace};

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
        let files = Files { profile: &self.bytes, evidence: Some(b"evidence"), held_out: None };
        review(&Input {
            name: "workload",
            profile,
            native: Abi::X86_64,
            evidence: Some(&self.evidence),
            trace: Some(&self.trace),
            completeness: Some(completeness(&self.trace)),
            decisions: decisions.to_vec(),
            against: Compared {
                name: "RuntimeDefault".to_owned(),
                source: None,
                digest: against.digest(),
                profile: against,
            },
            today: Some("2026-06-15".parse().unwrap()),
            starts: None,
            digests: Digests::new(files, Some(&self.trace), decisions, against.digest()),
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
    assert_eq!((left_out.syscall.as_str(), left_out.calls, left_out.succeeded), ("mbind", 6, Some(true)));
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
        assert!(
            names.contains(wider.syscall.as_str()) && wider.open == wider.here && wider.decided.is_empty(),
            "{wider:?}"
        );
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
    assert!(
        made.wider.iter().all(|own| own.decided == ["allow by sec: needed"] && own.open.is_empty()),
        "{made:?}"
    );
}

#[test]
fn a_decision_answers_for_what_it_allows_and_as_long_as_it_counts() {
    let own = workload("inference");
    let of = |entries: &str| {
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{{"names": ["read"], "action": "SCMP_ACT_ALLOW"}}{entries}]}}"#
        );
        Profile::read(text.as_bytes()).unwrap()
    };
    // MPOL_PREFERRED
    let here = of(r#", {"names": ["mbind"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 2, "value": 4294967295, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]}"#);
    let there = of("");
    let ask = |all: &[(&str, &str)]| {
        let decision = |(when, expires): &(&str, &str)| EvidenceDecision {
            verdict: DecisionVerdict::Allow,
            syscall: "mbind".to_owned(),
            when: (*when).to_owned(),
            reason: "numa".to_owned(),
            owner: "sec".to_owned(),
            expires: Some(expires.parse().unwrap()),
        };
        let made = own.review(&here, &there, &all.iter().map(decision).collect::<Vec<_>>());
        let ids: BTreeSet<String> = made.findings.iter().map(|own| own.id.clone()).collect();
        assert_eq!(made.wider.len(), 1, "{:?}", made.wider);
        assert_eq!(ids.contains("wider"), !made.wider[0].open.is_empty());
        (made.wider[0].clone(), ids, made.decisions)
    };
    let mode = "arg2 & 0xffffffff == 0x1";
    let (wider, ..) = ask(&[]);
    assert_eq!(wider.open, ["mode == MPOL_PREFERRED"]);
    let (wider, ids, decisions) = ask(&[(mode, "2026-06-15")]);
    assert_eq!(wider.decided, ["allow where mode == MPOL_PREFERRED by sec until 2026-06-15: numa"]);
    assert!(wider.open.is_empty() && wider.expired.is_empty() && !ids.contains("decision-expired"));
    assert!(!decisions[0].expired && decisions[0].words == "mode == MPOL_PREFERRED");
    // Of another mode: it answers for nothing here.
    let (wider, ..) = ask(&[("arg2 & 0xffffffff == 0x7", "2026-12-31")]);
    assert!(wider.decided.is_empty() && wider.open == ["mode == MPOL_PREFERRED"], "{wider:?}");
    // Of some calls of this mode: for the others nobody answers.
    let (wider, ..) = ask(&[("arg1 == 0x7", "2026-12-31")]);
    assert!(wider.open == ["mode == MPOL_PREFERRED"], "{wider:?}");
    // Of one of two modes.
    let both = of(r#", {"names": ["mbind"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 2, "value": 4294967295, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]}, {"names": ["mbind"],
        "action": "SCMP_ACT_ALLOW", "args": [{"index": 2, "value": 4294967295, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]}"#);
    let decision = EvidenceDecision {
        verdict: DecisionVerdict::Allow,
        syscall: "mbind".to_owned(),
        when: mode.to_owned(),
        reason: "numa".to_owned(),
        owner: "sec".to_owned(),
        expires: None,
    };
    let made = own.review(&both, &there, &[decision]);
    assert_eq!(
        (made.wider[0].decided.len(), made.wider[0].open.as_slice()),
        (1, &["mode == MPOL_BIND".to_owned()][..])
    );
    // What has expired answers for nothing, and is said.
    let (wider, ids, decisions) = ask(&[(mode, "2026-06-14")]);
    assert_eq!(wider.expired, ["allow where mode == MPOL_PREFERRED by sec until 2026-06-14, expired: numa"]);
    assert!(wider.decided.is_empty() && wider.open == ["mode == MPOL_PREFERRED"]);
    assert!(decisions[0].expired && ids.contains("decision-expired"));
    let (wider, ..) = ask(&[(mode, "2026-06-14"), ("always", "2026-12-31")]);
    assert_eq!((wider.decided.len(), wider.expired.len(), wider.open.len()), (1, 1, 0));
}

/// The review of what a made-up trace gives.
fn made(trace: &Trace, options: &Options) -> Review {
    let own = synthesize(trace, options).unwrap();
    Workload {
        bytes: own.profile.to_json().into_bytes(),
        profile: own.profile.clone(),
        evidence: own.evidence,
        trace: trace.clone(),
    }
    .review(&own.profile, &runtime_default(), &[])
}

#[test]
fn how_refused_calls_ended_is_told_as_far_as_it_is_known() {
    let socket = |ok: u64, failed: u64, others: u64| {
        let mut tuples = vec![[16, 3, 9]];
        tuples.extend((0..others).map(|number| [2, 1, number]));
        let mut row = called(Abi::X86_64, "socket", tuples);
        let failed = (Outcome::Error("EAFNOSUPPORT".parse().unwrap()), failed);
        row.outcomes = BTreeMap::from([(Outcome::Ok, ok), failed]);
        row.outcomes.retain(|_, calls| *calls > 0);
        trace([common::row(Abi::X86_64, "read", 1), row])
    };
    // NETLINK_AUDIT is above the ceiling; of the other calls nothing is.
    let bounded = |trace: &Trace| {
        let audit = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]}]}"#;
        let ceiling = Ceiling::Profile(Profile::read(audit.as_bytes()).unwrap());
        let made = made(trace, &Options { ceiling, runtime: Runtime::None, ..Options::default() });
        (made.left_out[0].succeeded, made.summary.left_out, made.summary.left_out_perhaps)
    };
    let named = || BTreeSet::from(["socket".to_owned()]);
    assert_eq!(bounded(&socket(4, 0, 3)), (Some(true), named(), BTreeSet::new()));
    assert_eq!(bounded(&socket(3, 1, 3)), (None, BTreeSet::new(), named()));
    assert_eq!(bounded(&socket(0, 4, 3)), (Some(false), BTreeSet::new(), BTreeSet::new()));
}

#[test]
fn what_a_session_or_the_runtime_did_is_not_what_the_workload_did() {
    let mut recorded = common::named("read openat");
    recorded.exec =
        Some(ExecCalls { sessions: 1, syscalls: vec![common::row(Abi::X86_64, "kexec_load", 1)] });
    let made = made(&recorded, &Options::default());
    assert_eq!((made.left_out[0].whose.as_str(), made.left_out[0].succeeded), ("exec session", Some(true)));
    assert!(made.summary.left_out.is_empty(), "{:?}", made.summary);
}

#[test]
fn what_is_allowed_adds_up_with_other_abis() {
    let recorded = trace([
        common::row(Abi::X86_64, "read", 1),
        common::row(Abi::I386, "socketcall", 1),
        common::row(Abi::I386, "fstat64", 1),
        common::row(Abi::I386, "write", 1),
    ]);
    let summary = made(&recorded, &Options::default()).summary;
    let unseen: usize = summary.not_observed.values().sum();
    assert_eq!(summary.observed.unwrap() + unseen, summary.allowed, "{summary:?}");
    assert_eq!(summary.observed, Some(2));
}

/// A sidecar whose digest was taken out is no older one.
#[test]
fn evidence_without_its_digest_is_refused() {
    let own = workload("inference");
    let text = own.evidence.to_json();
    let line = text.lines().find(|line| line.trim().starts_with("\"digest\": ")).unwrap();
    let without = text.replacen(&format!("{line}\n"), "", 1);
    let error = Evidence::read(without.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("`1.3` has a `digest`"), "{error}");
    let older = without.replacen("\"version\": \"1.3\"", "\"version\": \"1.2\"", 1);
    assert_eq!(Evidence::read(older.as_bytes()).unwrap().is_as_written(), None);
    let both = text.replacen("\"version\": \"1.3\"", "\"version\": \"1.2\"", 1);
    assert!(Evidence::read(both.as_bytes()).is_err());
}

#[test]
fn what_was_refused_is_held_against_the_profile_by_its_arguments() {
    let mut clone = called(Abi::X86_64, "clone", [[0x3d_0f00], [0x1000_0000]]);
    // CLONE_NEWUSER was refused.
    let user = clone.arguments.as_mut().unwrap();
    let at = user.values.iter().position(|own| own.arguments == [0x1000_0000]).unwrap();
    (user.values[at].calls, user.values[at].denied) = (0, 1);
    (clone.calls, clone.denied) = (1, 1);
    clone.outcomes = BTreeMap::from([(Outcome::Ok, 1)]);
    clone.refusals = BTreeMap::from([(Outcome::Error(Errno::EPERM), 1)]);
    let recorded = trace([
        common::row(Abi::X86_64, "read", 1),
        clone,
        refused(Abi::X86_64, "ptrace", 2),
        refused(Abi::X86_64, "write", 2),
    ]);
    let made = made(&recorded, &Options { margin: Margin::Portable, ..Options::default() });
    let here: Vec<(&str, Carried)> =
        made.refused.iter().map(|own| (own.syscall.as_str(), own.here)).collect();
    assert_eq!(
        here,
        [("write", Carried::Allowed), ("clone", Carried::Refused), ("ptrace", Carried::Refused)]
    );
}

#[test]
fn what_could_not_be_decided_is_an_objection() {
    let own = workload("inference");
    // Products of conditions on five arguments: more cases than are looked through.
    let entries: Vec<String> = (0..400u64)
        .map(|number| {
            let arg = |index: u64| {
                let value = 1u64 << ((number * 7 + index * 13) % 60);
                format!(r#"{{"index": {index}, "value": {value}, "valueTwo": {value}, "op": "SCMP_CMP_MASKED_EQ"}}"#)
            };
            let args: Vec<String> = (0..5).map(arg).collect();
            format!(r#"{{"names": ["mbind"], "action": "SCMP_ACT_ALLOW", "args": [{}]}}"#, args.join(", "))
        })
        .collect();
    let text = format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{}]}}"#, entries.join(", "));
    let made = own.review(&Profile::read(text.as_bytes()).unwrap(), &runtime_default(), &[]);
    let remark = made.findings.iter().find(|own| own.id == "wider-undecided");
    assert_eq!(remark.is_some(), !made.summary.undecided.is_empty());
    assert!(
        remark.is_some_and(|own| own.severity == Severity::Danger && own.calls == ["mbind"]),
        "{:?}",
        made.wider
    );
}

#[test]
fn the_image_is_that_of_the_newest_run() {
    let runs = [("2026-01-01", "app:1.4"), ("2026-01-02", "app:1.4"), ("2026-02-01", "app:1.5")].map(
        |(day, image)| {
            let mut run = common::named("read openat");
            run.recorder.started = format!("{day}T00:00:00Z");
            run.target.image = Some(Digest::of(image.as_bytes()));
            run.seal().unwrap();
            run
        },
    );
    let merged = trace::merge(runs).unwrap();
    let made = made(&merged, &Options::default());
    assert_eq!(made.subject.made.unwrap().image, Some(Digest::of(b"app:1.5")));
    let images = made.subject.recorded.unwrap().images;
    let images: Vec<(Option<Digest>, u64)> = images.into_iter().map(|own| (own.digest, own.runs)).collect();
    assert_eq!(images, [(Some(Digest::of(b"app:1.5")), 1), (Some(Digest::of(b"app:1.4")), 2)]);
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
