//! Counts are exact, and calls belong to their ABI, ending and phase.

use seccomp_learn_profiler::Recorder as _;
#[cfg(target_arch = "x86_64")]
use trace::Abi;
use trace::PhaseName;

use crate::{
    support::{CHILDREN_EXIT, Cgroup, Workload, finish, kernel_ring, outcomes, record, record_part},
    workload::TOTAL,
};

#[test]
fn not_one_call_of_a_million_is_lost() {
    if !kernel_ring() {
        return;
    }
    let cgroup = Cgroup::make();
    let mut workload = Workload::start("count", Some(&cgroup));
    let in_flight = workload.threads();
    let mut recorder = record(&cgroup);
    workload.go();
    workload.end();
    let progress = recorder.progress();
    assert!(progress.calls > u64::from(TOTAL) && progress.distinct > 3 && !progress.lost, "{progress:?}");
    let recorded = finish(recorder);
    let row = recorded.row(libc::SYS_getppid);
    assert_eq!(row.calls, u64::from(TOTAL));
    assert_eq!(outcomes(&row.outcomes), format!("ok {TOTAL}"));
    assert_eq!(row.denied, 0);
    // Three forks and 4 times 8 threads; the children's returns are no calls.
    let made: u64 = [libc::SYS_clone, libc::SYS_clone3]
        .into_iter()
        .filter_map(|number| recorded.find(number))
        .map(|row| row.calls)
        .sum();
    assert_eq!(made, 3 + 4 * 8);
    // And the reader at the gate, like all its threads, was in flight when the recording began.
    assert_eq!(recorded.observations.losses.first_exits_skipped, made * CHILDREN_EXIT + in_flight);
    assert!(!recorded.observations.confined);
    let all: u64 = recorded.rows.values().map(|row| row.calls + row.denied).sum();
    assert_eq!(progress.calls, all);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_of_32_bit_code_are_an_abi_of_their_own() {
    if !kernel_ring() {
        return;
    }
    let recorded = record_part("compat");
    let i386 = |number| recorded.rows.get(&(Abi::I386, number)).unwrap();
    assert_eq!((i386(64).name.as_str(), i386(64).calls), ("getppid", 7 + 3));
    assert_eq!(outcomes(&i386(64).outcomes), "ok 10");
    assert_eq!((i386(199).name.as_str(), i386(199).calls), ("getuid32", 1));
    assert_eq!((i386(1).calls, i386(1).never_returned), (1, 1));
    assert_eq!(recorded.rows.keys().filter(|(abi, _)| *abi == Abi::I386).count(), 3);
    // 64 is semget and 11 munmap for 64-bit code; execve ended as a 32-bit call and began as a 64-bit one.
    assert!(recorded.find(libc::SYS_semget).is_none());
    assert_eq!(outcomes(&recorded.row(libc::SYS_execve).outcomes), "ok 1");
    assert!(recorded.find(libc::SYS_getppid).is_none());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn odd_numbers_are_calls_too() {
    if !kernel_ring() {
        return;
    }
    let recorded = record_part("odd-numbers");
    let x32 = recorded.rows.get(&(Abi::X32, 110)).unwrap();
    // Whether this kernel has x32 or not, they were tried.
    assert_eq!((x32.name.as_str(), x32.calls), ("getppid", 3));
    let skipped = recorded.rows.get(&(Abi::X86_64, u32::MAX)).unwrap();
    assert_eq!(outcomes(&skipped.outcomes), "ENOSYS 3");
    assert!(recorded.find(libc::SYS_getppid).is_none());
}

#[test]
fn a_call_is_counted_under_the_number_it_began_with() {
    if !kernel_ring() {
        return;
    }
    let recorded = record_part("execveat");
    assert_eq!(outcomes(&recorded.row(libc::SYS_execveat).outcomes), "ok 1");
    assert!(recorded.find(libc::SYS_execve).is_none());
    let recorded = record_part("signals");
    let returns = recorded.row(libc::SYS_rt_sigreturn);
    assert_eq!((returns.calls, outcomes(&returns.outcomes).as_str()), (10, "ok 10"));
    assert_eq!(outcomes(&recorded.row(libc::SYS_rt_sigsuspend).outcomes), "ERESTARTNOHAND 10");
}

#[test]
fn calls_that_do_not_return_are_told_apart() {
    if !kernel_ring() {
        return;
    }
    let cgroup = Cgroup::make();
    let mut workload = Workload::start("sleep", Some(&cgroup));
    let recorder = record(&cgroup);
    workload.go();
    workload.await_report("sleeping");
    // The part is asleep when /proc says so.
    let status = format!("/proc/{}/wchan", workload.pid());
    while std::fs::read_to_string(&status).is_ok_and(|place| place == "0") {
        std::thread::yield_now();
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    let recorded = finish(recorder);
    let inside: Vec<_> = recorded.rows.values().filter(|row| row.in_flight > 0).collect();
    // libtest's main thread waits for the part's, if it made one.
    assert!(inside.iter().any(|row| row.name == "pause" || row.name == "ppoll"), "{inside:?}");
    workload.kill();

    let recorded = record_part("children");
    for exits in [libc::SYS_exit, libc::SYS_exit_group].into_iter().filter_map(|number| recorded.find(number))
    {
        assert_eq!((exits.never_returned, exits.outcomes.len()), (exits.calls, 0), "{exits:?}");
    }
    // The part itself, and five children of each of two or three ways that end like this.
    assert!(recorded.row(libc::SYS_exit_group).calls > 10);
    assert!(recorded.rows.values().all(|row| row.in_flight == 0));
}

#[test]
fn calls_belong_to_the_phases_they_were_made_in() {
    if !kernel_ring() {
        return;
    }
    let cgroup = Cgroup::make();
    let mut workload = Workload::start("phases", Some(&cgroup));
    let mut recorder = record(&cgroup);
    workload.go();
    for next in [Some(PhaseName::Serving), Some(PhaseName::Shutdown), None] {
        workload.await_report("next");
        if let Some(phase) = next {
            recorder.set_phase(phase);
        }
        workload.go();
    }
    workload.end();
    let recorded = finish(recorder);
    let phases = |number| recorded.row(number).phases.iter().copied().collect::<Vec<_>>();
    assert_eq!(phases(libc::SYS_getuid), [PhaseName::Startup]);
    assert_eq!(phases(libc::SYS_getgid), [PhaseName::Serving]);
    assert_eq!(phases(libc::SYS_geteuid), [PhaseName::Shutdown]);
    assert_eq!(phases(libc::SYS_getppid), PhaseName::ALL);
}
