//! Reading, adding up and merging of arguments.

use proptest::prelude::*;

use super::*;
use crate::{
    Trace,
    io::tests::{row, trace, written},
    merge,
};

pub(crate) fn kept(index: u32, name: &str, mask: u64) -> Kept {
    Kept { index, offset: None, name: name.to_owned(), mask }
}

pub(crate) fn values(arguments: &[u64], calls: u64) -> Values {
    Values {
        arguments: arguments.to_vec(),
        calls,
        denied: 0,
        runs: 1,
        upper: BTreeSet::new(),
        file: None,
        phases: BTreeSet::from([PhaseName::Serving]),
        first: FirstSight { after_ms: 3, pid: 7, comm: "sh".to_owned() },
    }
}

fn device(path: &str, device: &str) -> File {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    File { kind: FileKind::CharacterDevice, device: some(device), path: some(path) }
}

/// A row with what these arguments say of its calls; refused once where nothing was entered.
pub(crate) fn with_arguments(number: u32, arguments: Option<Arguments>) -> Row {
    let calls = arguments.as_ref().map_or(1, |arguments| {
        arguments.values.iter().map(|one| one.calls).sum::<u64>() + arguments.beyond + arguments.unread
    });
    let mut row = row(number, calls);
    if calls == 0 {
        row.outcomes.clear();
        row.denied = 1;
        row.refusals = BTreeMap::from([(Outcome::Killed, 1)]);
    }
    row.arguments = arguments;
    row
}

/// Arguments of one run, of few kinds, so that those of several runs meet.
pub(crate) fn any_arguments() -> impl Strategy<Value = Option<Arguments>> {
    let mask = || prop::sample::select(vec![0u64, 1, 3]);
    let file = prop::option::of(prop::sample::select(vec![
        device("/dev/a", "1:1"),
        device("/dev/a", "1:2"),
        device("", "1:1"),
        File { kind: FileKind::Socket, device: None, path: None },
    ]));
    let one = (prop::array::uniform2(0u64..4), file, 1u64..5, any::<bool>());
    let all = (mask(), mask(), prop::collection::vec(one, 0..6), any::<bool>(), 0u64..3, 0u64..2);
    let arguments = all.prop_map(|(first, second, all, wide, beyond, unread)| {
        let masks = [(0, "one", first), (1, "other", second)];
        let is_kept = |(_, _, mask): &&(u32, &str, u64)| *mask != 0;
        let masks: Vec<_> = masks.iter().filter(is_kept).collect();
        let all = all.into_iter().map(|(arguments, file, calls, is_upper)| {
            let value = |(index, _, mask): &&(u32, &str, u64)| arguments[*index as usize] & mask;
            let mut one = values(&masks.iter().map(value).collect::<Vec<_>>(), calls);
            if let (true, Some((_, name, _))) = (is_upper, masks.first()) {
                one.upper.insert((*name).to_owned());
            }
            one.file = file;
            one
        });
        let kept = masks.iter().map(|(index, name, mask)| kept(*index, name, *mask)).collect();
        Arguments { wide, beyond, unread, ..Arguments::of(kept, all) }
    });
    prop::option::weighted(0.9, arguments)
}

/// Two requests on two devices, one on no descriptor, one refused.
fn ioctl() -> Row {
    let one = |request, calls, file| Values { file: Some(file), ..values(&[request], calls) };
    let none = File { kind: FileKind::None, device: None, path: None };
    let refused = Values { denied: 1, ..one(0x5412, 0, device("/dev/pts/0", "136:0")) };
    let all = [
        one(0xc030_462b, 5, device("/dev/nvidiactl", "195:255")),
        refused,
        one(0x5401, 2, device("/dev/pts/0", "136:0")),
        one(0x5401, 1, none),
    ];
    let mut row = with_arguments(16, Some(Arguments::of(vec![kept(1, "request", 0xffff_ffff)], all)));
    row.denied = 1;
    row.refusals = BTreeMap::from([(Outcome::Killed, 1)]);
    row
}

#[test]
fn values_are_written_flat_one_on_a_line_and_read_back() {
    let mut original = trace(vec![ioctl()]);
    original.target.gpu = Some(true);
    let text = written(&original);
    let line = concat!(
        r#"          { "request": "0xc030462b", "calls": 5, "runs": 1, "kind": "character device", "#,
        r#""device": "195:255", "path": "/dev/nvidiactl", "phases": ["serving"], "#,
        r#""first": { "after_ms": 3, "pid": 7, "comm": "sh" } }"#,
    );
    assert!(text.lines().any(|own| own == line), "{text}");
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("\"request\": ")).collect();
    assert!(lines.len() == 4 && lines.iter().any(|line| line.contains("\"denied\": 1")), "{text}");
    let back = Trace::read(text.as_bytes()).unwrap();
    assert_eq!(back.syscalls, original.syscalls);
    assert_eq!(written(&back), text);
}

#[test]
fn a_badly_written_value_is_refused_with_the_culprit() {
    let good = written(&trace(vec![ioctl()]));
    let check = |from: &str, to: &str, expected: &str| {
        assert!(good.contains(from), "{from} is not in {good}");
        let error = Trace::read(good.replacen(from, to, 1).as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} has no {expected:?}");
    };
    check("\"request\": \"0x5401\", ", "", "argument `request` is kept");
    check(
        "\"request\": \"0x5401\"",
        "\"request\": \"0x5401\", \"colour\": \"0x1\"",
        "unknown field `colour`",
    );
    check(
        "\"request\": \"0x5401\"",
        "\"request\": \"0x5401\", \"request\": \"0x1\"",
        "duplicate key `request`",
    );
    check("\"calls\": 2", "\"calls\": 2, \"calls\": 2", "duplicate key `calls`");
    let first = "\"comm\": \"sh\" } }";
    check(first, "\"comm\": \"sh\", \"comm\": \"sh\" } }", "duplicate field `comm`");
    check(first, "\"comm\": \"sh\", \"colour\": 1 } }", "unknown field `colour`");
    check(first, "\"comm\": \"sh\" }, \"upper\": null }", "invalid type: null");
    check("\"request\": \"0x5401\"", "\"request\": 21505", "invalid type");
    for number in ["0x05401", "0X5401", "5401", "0x540A", "0x+1", "0x", "0x10000000000000000"] {
        check("\"0x5401\"", &format!("\"{number}\""), &format!("`{number}` is no number as it is written"));
    }
    check("\"calls\": 2, \"runs\": 1, ", "\"calls\": 2, ", "missing field `runs`");
    check("\"kind\": \"character device\", ", "", "no `kind`");
    check("character device", "gadget", "unknown variant `gadget`");
    check("\"wide\": false", "\"wide\": false, \"colour\": 1", "unknown field `colour`");
    check("\"index\": 1", "\"index\": 1, \"colour\": 1", "unknown field `colour`");
    check("\"version\": \"1.2\"", "\"version\": \"1.1\"", "changed after it was recorded");
}

#[test]
fn arguments_that_lie_are_refused() {
    let check = |change: fn(&mut Arguments), expected: &str| {
        let mut row = ioctl();
        change(row.arguments.as_mut().unwrap());
        let error = trace(vec![row]).seal().unwrap_err().to_string();
        assert!(error.contains("arguments of x86_64 ioctl: ") && error.contains(expected), "{error:?}");
    };
    check(|a| a.values[0].calls = 9, "8 calls, but values, beyond and unread are not as many");
    check(|a| a.beyond = 1, "not as many");
    check(|a| a.unread = 1, "not as many");
    check(|a| a.values[0].denied = 2, "1 denied, but more of the values");
    check(|a| a.values[0].runs = 2, "2 of the row's 1 runs");
    check(|a| a.values[0].runs = 0, "0 of the row's 1 runs");
    check(|a| a.values.swap(0, 1), "not ordered");
    check(|a| a.values[1] = a.values[0].clone(), "twice");
    check(|a| a.kept[0].name = "calls".into(), "called `calls`");
    check(|a| a.kept[0].mask = 0xff, "outside of the masks");
    check(|a| a.kept[0].index = 6, "none of six");
    check(|a| a.kept.push(kept(2, "request", 1)), "one name");
    check(|a| a.kept.insert(0, kept(2, "argp", 1)), "not ordered by index");
    check(|a| a.values[0].arguments.clear(), "outside of the masks");
    check(|a| a.values[3].upper.extend(["fd".to_owned()]), "`upper` names `fd`");
    let mut old = trace(vec![ioctl()]);
    old.version = "1.1".to_owned();
    assert!(old.seal().unwrap_err().to_string().contains("`version` is 1.1"));
    let mut opens = trace(vec![ioctl()]);
    let outcomes = BTreeMap::from([(Outcome::Ok, 1)]);
    let first = opens.syscalls[0].first.clone();
    opens.opens = vec![Open { path: "/dev/nvidia0".into(), calls: 2, outcomes, runs: 1, first }];
    assert!(opens.seal().unwrap_err().to_string().contains("open of `/dev/nvidia0`: 2 calls"));
}

#[test]
fn values_of_several_runs_add_up() {
    let mut other = ioctl();
    let arguments = other.arguments.as_mut().unwrap();
    arguments.values.retain(|one| one.arguments == [0xc030_462b]);
    arguments.values[0].file.as_mut().unwrap().device = Some("195:254".to_owned());
    let mut runs = [trace(vec![ioctl()]), trace(vec![with_arguments(16, other.arguments)])];
    runs[1].recorder.duration_ms = 6;
    let merged = merge(runs).unwrap();
    let arguments = merged.syscalls[0].arguments.as_ref().unwrap();
    let seen: Vec<_> = arguments.values.iter().map(|one| (one.arguments[0], one.calls, one.runs)).collect();
    assert_eq!(seen, [(0x5401, 2, 1), (0x5401, 1, 1), (0x5412, 0, 1), (0xc030_462b, 10, 2)]);
    assert_eq!(arguments.values[3].file, Some(device("/dev/nvidiactl", "")), "the devices differ");
    assert!(!arguments.narrowed);
}

#[test]
fn runs_that_kept_different_arguments_are_narrowed_to_what_all_kept() {
    let both = vec![kept(0, "domain", 0xffff_ffff), kept(1, "type", 0xf)];
    let mut upper = values(&[2, 1], 2);
    upper.upper.insert("type".to_owned());
    let one = Arguments::of(both, [values(&[1, 1], 1), values(&[2, 2], 4), upper]);
    let other = Arguments { wide: true, beyond: 3, ..Arguments::of(vec![kept(0, "domain", 3)], []) };
    let joined = one.join(other).in_runs(2);
    assert_eq!(joined.kept, [kept(0, "domain", 3)]);
    let seen: Vec<_> = joined.values.iter().map(|one| (one.arguments[0], one.calls, one.runs)).collect();
    assert_eq!(seen, [(1, 1, 2), (2, 6, 2)]);
    assert!(joined.narrowed && joined.wide && joined.beyond == 3);
    assert!(joined.values.iter().all(|one| one.upper.is_empty()));
}

#[test]
fn a_run_that_entered_the_call_and_kept_nothing_takes_the_arguments_away() {
    let merged = |other: Row| merge([trace(vec![ioctl()]), trace(vec![other])]).unwrap().syscalls.remove(0);
    assert_eq!(merged(row(16, 1)).arguments, None);
    let mut refused = with_arguments(16, Some(Arguments::default()));
    refused.arguments = None;
    assert_eq!(merged(refused).arguments, ioctl().arguments, "nothing was entered");
    assert_eq!(merged(row(0, 1)).arguments, None, "another call");
}
