//! The laws of merging, for traces of anything, and examples of each.

use proptest::prelude::*;

use super::*;
use crate::{
    Arguments, ExecCalls, FilterMoment, Kept, Losses, MOST_VALUES, PhaseName, RuntimeCalls, Values,
    arguments::tests::{any_arguments, with_arguments},
    io::tests::{row, runtime, trace},
};

fn bytes(trace: &Trace) -> Vec<u8> {
    let mut bytes = Vec::new();
    trace.write(&mut bytes).unwrap();
    bytes
}

fn rows(pid: u32) -> impl Strategy<Value = Vec<Row>> {
    let calls = prop::collection::btree_map(0u32..12, 1u64..1000, 1..8);
    let captured = prop::collection::btree_map(400u32..403, any_arguments(), 0..3);
    (calls, captured).prop_map(move |(calls, captured)| {
        let plain = calls.into_iter().map(|(number, calls)| row(number, calls));
        let captured = captured.into_iter().map(|(number, arguments)| with_arguments(number, arguments));
        let mut rows: Vec<Row> = plain.chain(captured).collect();
        rows.iter_mut().for_each(|row| row.first.pid = pid);
        rows
    })
}

fn any_opens() -> impl Strategy<Value = Vec<Open>> {
    prop::collection::btree_map("/dev/nvidia[0-2]", 1u64..9, 0..3).prop_map(|opens| {
        let open = |(path, calls)| Open {
            path,
            calls,
            outcomes: BTreeMap::from([(Outcome::Ok, calls)]),
            runs: 1,
            first: row(2, 1).first,
        };
        opens.into_iter().map(open).collect()
    })
}

fn any_losses() -> impl Strategy<Value = Losses> {
    let all = prop::array::uniform6(prop_oneof![3 => Just(0u64), 1 => 1u64..9]);
    all.prop_map(|[missed_events, map_full, task_storage, cgroups_full, first_exits, notifications]| Losses {
        missed_events,
        map_full,
        task_storage,
        cgroups_full,
        first_exits_skipped: first_exits,
        notifications_vanished: notifications,
    })
}

fn any_phases() -> impl Strategy<Value = Vec<Phase>> {
    let all = [PhaseName::Startup, PhaseName::Serving, PhaseName::Shutdown];
    let some = prop::sample::subsequence(all.to_vec(), 1..=3);
    (some, 0u64..9).prop_map(|(names, from)| {
        names.into_iter().map(|name| Phase { name, from_ms: from + name as u64 }).collect()
    })
}

/// A run of anything, with rows that meet those of others.
pub(crate) fn any_trace() -> impl Strategy<Value = Trace> {
    use FilterMoment::{Both, Loaded, NotSeen, WouldBe};
    let moment = prop::sample::select(vec![Loaded, WouldBe, Both, NotSeen]);
    let sections = (1u32..9999).prop_flat_map(move |pid| {
        let runtime = (moment.clone(), rows(pid), rows(pid))
            .prop_map(|(filter, setup, start)| RuntimeCalls { filter, setup, start });
        let exec = (1u64..9, rows(pid)).prop_map(|(sessions, syscalls)| ExecCalls { sessions, syscalls });
        (Just(pid), rows(pid), prop::option::of(runtime), prop::option::of(exec), any_opens())
    });
    let start = prop::sample::select(vec![Startup::Recorded, Startup::NotRecorded]);
    let comm = prop::sample::select(vec!["a", "b", "z\n"]);
    let image = prop::option::of(prop::sample::select(vec!["one", "other"]));
    let rest = (any::<[bool; 2]>(), start, any_losses(), any_phases(), comm, image, 0u8..3);
    (sections, rest).prop_map(|((pid, rows, runtime, exec, opens), rest)| {
        let ([complete, confined], startup, losses, phases, comm, image, minor) = rest;
        let mut result = trace(rows);
        (result.recorder.duration_ms, result.opens_beyond) = (u64::from(pid), u64::from(pid % 3));
        (result.runtime, result.exec, result.opens) = (runtime, exec, opens);
        (result.complete, result.confined, result.startup) = (complete, confined, startup);
        (result.losses, result.phases) = (losses, phases);
        result.target.image = image.map(|image| Digest::of(image.as_bytes()));
        result.recorder.kernel = format!("6.{minor}.0");
        let names: BTreeSet<PhaseName> = result.phases.iter().map(|phase| phase.name).collect();
        for row in result.sections_mut().flatten() {
            row.first.comm = comm.to_owned();
            row.phases.clone_from(&names);
        }
        // An older version, where nothing in it came later.
        let newest = result.version.clone();
        result.version = format!("1.{minor}");
        if result.clone().seal().is_err() {
            result.version = newest;
        }
        result
    })
}

/// The runs of a group by their numbers, of which each is a bit.
fn group(runs: &[Trace], group: usize) -> Trace {
    let chosen = runs.iter().enumerate().filter(|(number, _)| group & (1 << number) != 0);
    merge(chosen.map(|(_, run)| run.clone())).unwrap()
}

proptest! {
    #[test]
    fn order_and_grouping_do_not_matter(a in any_trace(), b in any_trace(), c in any_trace()) {
        let all = merge([a.clone(), b.clone(), c.clone()]).unwrap();
        prop_assert_eq!(bytes(&all), bytes(&merge([c.clone(), a.clone(), b.clone()]).unwrap()));
        let left = merge([merge([a.clone(), b.clone()]).unwrap(), c.clone()]).unwrap();
        let right = merge([a, merge([b, c]).unwrap()]).unwrap();
        prop_assert_eq!(bytes(&all), bytes(&left));
        prop_assert_eq!(bytes(&all), bytes(&right));
        prop_assert!(Trace::read(&*bytes(&all)).is_ok());
    }

    #[test]
    fn a_trace_merged_with_itself_is_itself(a in any_trace()) {
        prop_assert_eq!(bytes(&a), bytes(&merge([a.clone(), a]).unwrap()));
    }

    /// Groups of the same runs: what is contained in another adds nothing, and the others must share no run. Then, and
    /// only then, is there a union, and it is that of the runs.
    #[test]
    fn groups_merge_unless_they_partly_overlap(
        mut runs in prop::collection::vec(any_trace(), 5),
        groups in prop::collection::vec(1usize..32, 1..5),
        order in any::<prop::sample::Index>(),
    ) {
        for (number, run) in runs.iter_mut().enumerate() {
            run.recorder.duration_ms = number as u64;
        }
        let is_largest = |own: &&usize| !groups.iter().any(|other| other != *own && **own & other == **own);
        let largest: BTreeSet<usize> = groups.iter().filter(is_largest).copied().collect();
        let shares = largest.iter().map(|own| own.count_ones()).sum::<u32>();
        let all = groups.iter().fold(0, |all, own| all | own);
        let mut traces: Vec<Trace> = groups.iter().map(|own| group(&runs, *own)).collect();
        let turn = order.index(traces.len());
        traces.rotate_left(turn);
        match merge(traces) {
            Ok(union) => {
                prop_assert_eq!(shares, all.count_ones(), "{:?}", groups);
                prop_assert_eq!(bytes(&union), bytes(&group(&runs, all)));
            }
            Err(MergeError::Overlap { run, inputs }) => {
                prop_assert!(shares > all.count_ones(), "{:?}", groups);
                let [one, other] = inputs.map(|place| groups[(place + turn) % groups.len()]);
                prop_assert!(one & other != 0 && one & other != one && one & other != other);
                let shared = group(&runs, one & other).run_digests();
                prop_assert!(shared.contains(&run) || shared.is_empty());
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// More values than are kept: the same in any order and grouping, marked, and no call is lost.
    #[test]
    fn too_many_values_are_wide_in_any_order(
        sets in prop::array::uniform3(prop::collection::btree_map(0u64..700, (0u64..3, 0u64..2), 60..MOST_VALUES)),
    ) {
        let all: BTreeSet<u64> = sets.iter().flat_map(|set| set.keys().copied()).collect();
        let calls: u64 = sets.iter().flat_map(|set| set.values()).map(|(calls, _)| calls + 1).sum();
        let mut number = 0;
        let traces = sets.map(|set| {
            number += 1;
            let mut run = trace(vec![many_values(set)]);
            run.recorder.duration_ms = number;
            run
        });
        let [a, b, c] = traces;
        let one = merge([merge([a.clone(), b.clone()]).unwrap(), c.clone()]).unwrap();
        let other = merge([merge([c.clone(), b.clone()]).unwrap(), a.clone()]).unwrap();
        prop_assert_eq!(bytes(&one), bytes(&other));
        prop_assert_eq!(bytes(&one), bytes(&merge([b, c, a]).unwrap()));
        let row = &one.syscalls[0];
        let arguments = row.arguments.as_ref().unwrap();
        prop_assert_eq!(arguments.values.len(), all.len().min(MOST_VALUES));
        prop_assert_eq!(arguments.wide, all.len() > MOST_VALUES);
        prop_assert_eq!(row.calls, calls);
        let known: u64 = arguments.values.iter().map(|values| values.calls).sum();
        prop_assert_eq!(known + arguments.beyond, calls);
    }
}

/// A call with these values: how often each was called beside once, and denied.
fn many_values(values: BTreeMap<u64, (u64, u64)>) -> Row {
    let kept = Kept { index: 1, offset: None, name: "request".to_owned(), mask: u64::MAX };
    let first = row(16, 1).first;
    let denied: u64 = values.values().map(|(_, denied)| denied).sum();
    let values = values.into_iter().map(|(value, (calls, denied))| Values {
        arguments: vec![value],
        calls: calls + 1,
        denied,
        runs: 1,
        upper: BTreeSet::new(),
        file: None,
        phases: BTreeSet::from([PhaseName::Startup]),
        first: first.clone(),
    });
    let mut row = with_arguments(16, Some(Arguments::of(vec![kept], values)));
    row.denied = denied;
    if denied > 0 {
        row.refusals = BTreeMap::from([(Outcome::Killed, denied)]);
    }
    row
}

#[test]
fn too_many_opens_are_counted_in_any_order() {
    let opens = |from: u64| -> Vec<Open> {
        let paths: BTreeSet<String> =
            (from..from + 600).map(|number| format!("/dev/nvidia{number}")).collect();
        let outcomes = BTreeMap::from([(Outcome::Ok, 2)]);
        let first = row(2, 1).first;
        let open = |path| Open { path, calls: 2, outcomes: outcomes.clone(), runs: 1, first: first.clone() };
        paths.into_iter().map(open).collect()
    };
    let [a, b, c] = [0, 500, 1000].map(|from| {
        let mut own = trace(vec![row(2, 1)]);
        (own.opens, own.recorder.duration_ms) = (opens(from), from);
        own
    });
    let one = merge([merge([a.clone(), b.clone()]).unwrap(), c.clone()]).unwrap();
    let other = merge([a, merge([c, b]).unwrap()]).unwrap();
    assert_eq!(bytes(&one), bytes(&other));
    let known: u64 = one.opens.iter().map(|open| open.calls).sum();
    assert_eq!((one.opens.len(), known + one.opens_beyond), (MOST_OPENS, 3 * 600 * 2));
}

#[test]
fn contained_inputs_collapse_and_overlapping_ones_are_refused() {
    let [a, b, c] = [39, 41, 57].map(|number| trace(vec![row(number, 1)]));
    let ab = merge([a.clone(), b.clone()]).unwrap();
    let bc = merge([b.clone(), c.clone()]).unwrap();
    assert_eq!(ab.runs, 2);
    assert_eq!(merge([ab.clone(), b]).unwrap(), ab);
    let overlap = merge([c, ab, bc]).unwrap_err();
    assert!(matches!(overlap, MergeError::Overlap { inputs: [1, 2], .. }), "{overlap:?}");
    assert!(matches!(merge([]), Err(MergeError::Nothing)));
}

/// As streams, one after the other, in any order; of inputs that change in between nothing is made.
#[test]
fn one_trace_at_a_time_gives_the_same_and_a_changed_one_is_noticed() {
    let inputs = [39, 41, 57].map(|number| trace(vec![row(number, 1)]));
    let pair = merge(inputs[..2].to_vec()).unwrap();
    let all = [inputs[2].clone(), inputs[0].clone(), pair, inputs[1].clone()].map(|input| bytes(&input));
    let runs = |texts: &[Vec<u8>]| -> Vec<_> {
        texts.iter().map(|text| Trace::runs_in(text.as_slice()).unwrap()).collect()
    };
    let read = |text: &[u8]| Trace::read(text).unwrap();
    let mut merger = Merger::of(runs(&all)).unwrap();
    for text in &all {
        merger.add(read(text)).unwrap();
    }
    assert_eq!(bytes(&merger.finish().unwrap()), bytes(&merge(inputs).unwrap()));
    let changed = |result: Result<(), MergeError>| assert!(matches!(result, Err(MergeError::Changed)));
    let mut merger = Merger::of(runs(&all)).unwrap();
    changed(merger.add(read(&all[1])));
    let mut merger = Merger::of(runs(&all[..1])).unwrap();
    merger.add(read(&all[0])).unwrap();
    changed(merger.add(read(&all[0])));
    let merger = Merger::of(runs(&all)).unwrap();
    assert!(matches!(merger.finish(), Err(MergeError::Changed)));
    assert!(matches!(Merger::of([]), Err(MergeError::Nothing)));
}

#[test]
fn what_an_unread_trace_says_of_its_runs() {
    let text = bytes(&trace(vec![row(39, 1)]));
    let text = String::from_utf8(text).unwrap();
    let error = |text: &str| Trace::runs_in(text.as_bytes()).unwrap_err().to_string();
    assert!(error("").contains("empty"));
    assert!(error("{").contains("truncated"));
    assert!(error(&text.replace("\"version\": \"1.", "\"version\": \"7.")).contains("newer"));
    assert!(error(&text.replace("\"digest\"", "\"digets\"")).contains("unknown field `digets`"));
    assert!(error(&text.replace("sha256:", "md5:")).contains("is no digest"));
    let edited = text.replace("\"calls\": 1", "\"calls\": 2");
    assert!(Trace::runs_in(edited.as_bytes()).is_ok() && Trace::read(edited.as_bytes()).is_err());
}

#[test]
fn rows_count_the_runs_they_were_seen_in() {
    let merged = merge([trace(vec![row(39, 1), row(41, 5)]), trace(vec![row(39, 2)])]).unwrap();
    assert_eq!(
        merged.syscalls.iter().map(|row| (row.number, row.calls, row.runs)).collect::<Vec<_>>(),
        [(39, 3, 2), (41, 5, 1)]
    );
}

#[test]
fn sections_merge_like_the_rows_and_one_run_may_lack_them() {
    let bare = trace(vec![row(39, 1)]);
    let mut inside = trace(vec![row(39, 2)]);
    inside.runtime = Some(runtime(41, 42));
    inside.exec = Some(ExecCalls { sessions: 2, syscalls: vec![row(0, 3)] });
    let mut again = inside.clone();
    again.recorder.duration_ms = 6;
    again.runtime = Some(RuntimeCalls { filter: FilterMoment::WouldBe, ..runtime(41, 43) });
    let merged = merge([bare, inside, again]).unwrap();
    let runtime = merged.runtime.unwrap();
    let seen = |rows: &[Row]| rows.iter().map(|row| (row.number, row.calls, row.runs)).collect::<Vec<_>>();
    assert_eq!(runtime.filter, FilterMoment::Both);
    assert_eq!(seen(&runtime.setup), [(41, 2, 2)]);
    assert_eq!(seen(&runtime.start), [(42, 1, 1), (43, 1, 1)]);
    let exec = merged.exec.unwrap();
    assert_eq!((exec.sessions, seen(&exec.syscalls)), (4, vec![(0, 6, 2)]));
    assert_eq!(seen(&merged.syscalls), [(39, 5, 3)]);
}
