//! Every map is bounded, and what did not fit is counted to the last one.

use seccomp_learn_profiler::Recorder as _;

use crate::{
    support::{Cgroup, Recorded, Workload, kernel_ring, record},
    workload::{ERROR_CALLS, ERRORS, NUMBERS},
};

fn record_overflow(part: &str) -> Recorded {
    let cgroup = Cgroup::make();
    let mut workload = Workload::start(part, Some(&cgroup));
    let mut recorder = record(&cgroup);
    workload.go();
    workload.end();
    assert!(recorder.progress().lost);
    Recorded::new(recorder.finish().unwrap())
}

#[test]
fn numbers_beyond_the_table_are_recorded_until_it_is_full() {
    if !kernel_ring() {
        return;
    }
    let recorded = record_overflow("many-numbers");
    let rare: Vec<_> = recorded.rows.values().filter(|row| row.number >= 10_000).collect();
    assert_eq!(rare.len(), profiler_ebpf::MAX_RARE as usize);
    assert!(rare.iter().all(|row| row.calls == 2 && row.name == format!("syscall_{}", row.number)));
    let made = u64::from(2 * NUMBERS);
    let kept: u64 = rare.iter().map(|row| row.calls).sum();
    let losses = recorded.observations.losses;
    assert_eq!((kept + losses.map_full, losses.missed_events), (made, 0));
}

#[test]
fn answers_are_counted_until_the_table_is_full() {
    if !kernel_ring() {
        return;
    }
    let recorded = record_overflow("many-errors");
    let kept: u64 = ERROR_CALLS.into_iter().map(|number| recorded.row(number).denied).sum();
    let made = u64::from(ERRORS) * 3;
    let losses = recorded.observations.losses;
    assert!(losses.map_full > 0 && kept > 8000, "{losses:?} {kept}");
    // What the workload did after the table was full lost its endings too: they are unknown, and counted.
    let unknown: u64 =
        recorded.rows.values().filter_map(|row| row.outcomes.get(&trace::Outcome::Unknown)).sum();
    assert_eq!((kept + losses.map_full - unknown, losses.missed_events), (made, 0));
}
