//! Who is recorded: nested cgroups, also later ones; a process with threads and descendants, present and future.

use seccomp_learn_profiler::{
    CapturePlan,
    ebpf::{EbpfRecorder, Watch},
};

use crate::{
    support::{Cgroup, Workload, finish, kernel_ring, outcomes, record, record_part},
    workload::{FAMILY_TOTAL, call},
};

#[test]
fn cgroups_made_later_are_recorded_and_others_are_not() {
    if !kernel_ring() {
        return;
    }
    let recorded = record_part("nested");
    assert_eq!(recorded.row(libc::SYS_getppid).calls, 1000 + 10 + 1);
}

#[test]
fn cgroups_that_are_there_already_are_recorded() {
    if !kernel_ring() {
        return;
    }
    let cgroup = Cgroup::make();
    let lower = cgroup.path().join("one/two");
    std::fs::create_dir_all(&lower).unwrap();
    let lower = Cgroup(lower);
    let mut workload = Workload::start("children", Some(&lower));
    let recorder = record(&cgroup);
    workload.go();
    workload.end();
    let recorded = finish(recorder);
    assert_eq!(recorded.row(libc::SYS_getppid).calls, 3 * 3 * 5);
}

#[test]
fn children_made_by_every_call_are_recorded() {
    if !kernel_ring() {
        return;
    }
    let recorded = record_part("children");
    let row = recorded.row(libc::SYS_getppid);
    assert_eq!((row.calls, outcomes(&row.outcomes).as_str()), (45, "ok 45"));
    assert!(recorded.rows.values().all(|row| row.denied == 0));
    // Five of each.
    assert!(recorded.row(libc::SYS_clone3).calls >= 5);
    #[cfg(target_arch = "x86_64")]
    assert_eq!(outcomes(&recorded.row(libc::SYS_vfork).outcomes), "ok 5");
}

#[test]
fn a_process_is_recorded_with_its_threads_and_descendants() {
    if !kernel_ring() {
        return;
    }
    let cgroup = Cgroup::make();
    let mut workload = Workload::start("family", Some(&cgroup));
    // In the same cgroup, and a child of the same parent: not a descendant.
    let mut neighbour = Workload::start("children", Some(&cgroup));
    let recorder =
        Box::new(EbpfRecorder::start(&Watch::Process(workload.pid()), &CapturePlan::default()).unwrap());
    neighbour.go();
    workload.go();
    call(libc::SYS_getppid);
    neighbour.end();
    workload.end();
    let recorded = finish(recorder);
    let row = recorded.row(libc::SYS_getppid);
    assert_eq!((row.calls, outcomes(&row.outcomes)), (FAMILY_TOTAL, format!("ok {FAMILY_TOTAL}")));
    assert!(!recorded.observations.confined);
}
