//! Traces: what is read is what is written, and whatever can be read can be made a profile of, or is refused.

use synth::{
    ArgumentMode, Ceiling, CompileOptions, DefaultAction, Judge, Judgement, Margin, Options, Profile,
    Runtime, cost, replay, synthesize,
};
use trace::{Abi, Trace, merge};

/// A trace as it stands, and one whose digest is put right, since no fuzzer finds a digest. What reads only its runs
/// finds the same ones.
fn read(data: &[u8]) -> Option<Trace> {
    if let Ok(trace) = Trace::read(data) {
        let runs = Trace::runs_in(data).expect("what was read has runs");
        assert_eq!(runs, trace.run_digests(), "its runs are others");
        return Some(trace);
    }
    let unsealed: Trace = serde_json::from_slice(data).ok()?;
    let mut sealed = Vec::new();
    unsealed.write(&mut sealed).ok()?;
    Trace::read(sealed.as_slice()).ok()
}

/// What is read and written reads as the same; merged with itself or alone it stays what it is.
pub fn trace(data: &[u8]) -> bool {
    let Some(trace) = read(data) else { return false };
    let mut bytes = Vec::new();
    trace.write(&mut bytes).expect("what was read can be written");
    let again = read(&bytes).expect("what was written can be read");
    assert_eq!(again, trace, "what was written reads as something else");
    let mut twice = Vec::new();
    again.write(&mut twice).expect("what was read can be written");
    assert_eq!(twice, bytes, "the same trace gives other bytes");
    let alone = merge(vec![trace.clone()]).expect("a trace merges alone");
    assert_eq!(alone, trace, "merged alone it became another");
    let doubled = merge(vec![trace.clone(), trace.clone()]).expect("a trace merges with itself");
    assert_eq!(doubled, trace, "merged with itself it became another");
    true
}

/// A trace with options: a profile comes out that reads, compiles, is the same the second time, and denies nothing of
/// the trace but on purpose.
pub fn synthesis(data: &[u8]) -> bool {
    let Some((&choice, data)) = data.split_last() else { return false };
    let Some(trace) = read(data) else { return false };
    let pick = |shift: u8| choice >> shift & 1 == 1;
    let options = Options {
        margin: if pick(0) { Margin::None } else { Margin::Portable },
        runtime: if pick(1) { Runtime::None } else { Runtime::Auto },
        ceiling: if pick(2) { Ceiling::None } else { Ceiling::RuntimeDefault },
        default_action: if pick(3) { DefaultAction::Log } else { DefaultAction::Errno },
        arguments: match (pick(4), pick(5)) {
            (true, true) => ArgumentMode::Off,
            (true, false) => ArgumentMode::Exact,
            (false, _) => ArgumentMode::Stable,
        },
        without_startup: true,
        accept_incomplete: true,
        without_exec: pick(6),
        ..Options::default()
    };
    let Ok(made) = synthesize(&trace, &options) else { return true };
    let text = made.profile.to_json();
    assert_eq!(Profile::read(text.as_bytes()).expect("the profile reads"), made.profile);
    let evidence = made.evidence.to_json();
    assert_eq!(synth::Evidence::read(evidence.as_bytes()).expect("the evidence reads"), made.evidence);
    let again = synthesize(&trace, &options).expect("it was made before");
    assert_eq!((again.profile.to_json(), again.evidence.to_json()), (text, evidence));
    for native in [Abi::X86_64, Abi::Aarch64] {
        if made.profile.architectures.first().and_then(|own| own.abi()) == Some(native) {
            let judge =
                Judge::new(&made.profile, native, CompileOptions::default()).expect("the profile compiles");
            let judge = judge.with_evidence(&made.evidence);
            for fact in replay(&judge, &trace).facts {
                assert!(
                    !matches!(fact.judgement, Judgement::Denied(_)),
                    "{}: {:?}",
                    fact.in_words(),
                    fact.judgement
                );
            }
            // It compiles five times, and of a large trace nothing that a small one has not.
            if data.len() < 4096 {
                cost(&made.profile, native, Some(&trace), CompileOptions::default())
                    .expect("it costs something");
            }
        }
    }
    true
}
