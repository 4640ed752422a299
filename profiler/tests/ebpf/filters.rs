//! What a filter answered is told apart from everything else that ends without having begun.

use crate::support::{CHILDREN_EXIT, Cgroup, Workload, finish, kernel_ring, record, record_part};

#[test]
fn every_kind_of_refusal_is_recorded_and_nothing_else_is() {
    if !kernel_ring() {
        return;
    }
    let recorded = record_part("refused");
    let mut refusals = recorded.refusals();
    refusals.sort();
    assert_eq!(
        refusals,
        [
            "getegid: killed 2",
            "geteuid: killed 1",
            "getgid: killed 2",
            "getpgid: ENOSYS 20",
            "getppid: EPERM 5",
            "getuid: ok 3",
        ]
    );
    for row in recorded.rows.values().filter(|row| row.denied > 0) {
        assert_eq!(row.calls, 0, "{row:?}");
    }
    // The filter is the workload's own.
    assert!(!recorded.observations.confined);
}

#[test]
fn a_workload_that_was_filtered_before_is_confined() {
    if !kernel_ring() {
        return;
    }
    let cgroup = Cgroup::make();
    let mut workload = Workload::start("already-refused", Some(&cgroup));
    let in_flight = workload.threads();
    let recorder = record(&cgroup);
    workload.go();
    workload.end();
    let recorded = finish(recorder);
    assert!(recorded.observations.confined);
    assert_eq!(recorded.refusals(), ["getppid: EPERM 5"]);
    assert_eq!(recorded.observations.losses.first_exits_skipped, in_flight + CHILDREN_EXIT);
}

#[test]
fn calls_after_the_end_of_the_recording_are_not_refusals() {
    if !kernel_ring() {
        return;
    }
    let cgroup = Cgroup::make();
    let mut workload = Workload::start("already-refused", Some(&cgroup));
    let recorder = record(&cgroup);
    let recorded = finish(recorder);
    assert_eq!(recorded.refusals(), [""; 0]);
    workload.go();
    workload.end();
}
