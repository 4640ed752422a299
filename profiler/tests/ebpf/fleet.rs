//! Many targets at once: each has its own counts, whenever and however it became one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use seccomp_learn_profiler::ebpf::{Class, ContainerObservations, Fleet, TargetId};
use trace::{Abi, PhaseName, Row};

use crate::{
    support::{Cgroup, Recorded, Workload, cgroup2, kernel_ring, outcomes},
    workload::TOTAL,
};

/// Checks what holds for everything that is taken: the law of counts in each section, and no losses.
pub(crate) fn check(taken: &ContainerObservations) -> Recorded {
    assert!(!taken.observations.losses.lost_calls(), "{:?}", taken.observations.losses);
    let mut sections: Vec<&[Row]> = Vec::new();
    if let Some(runtime) = &taken.runtime {
        sections.extend([runtime.setup.as_slice(), runtime.start.as_slice()]);
    }
    sections.extend(taken.exec.as_ref().map(|exec| exec.syscalls.as_slice()));
    for rows in sections {
        let mut observations = taken.observations.clone();
        observations.rows = rows.to_vec();
        Recorded::new(observations);
    }
    Recorded::new(taken.observations.clone())
}

/// Makes a directory, and everything above it that is missing.
fn make(path: PathBuf) -> PathBuf {
    fs::create_dir_all(&path).unwrap();
    path
}

/// A workload in a cgroup that something else removes.
fn start(part: &str, path: &Path) -> Workload {
    let cgroup = std::mem::ManuallyDrop::new(Cgroup(path.to_owned()));
    Workload::start(part, Some(&cgroup))
}

/// A small program that is not ours, in a cgroup, that makes this many calls of `umask`, and ends.
fn umasks(path: &Path, count: usize) -> Child {
    let script = format!("echo $$ > {}/cgroup.procs\n{}", path.display(), "umask 022\n".repeat(count));
    Command::new("sh").arg("-c").arg(script).stdin(Stdio::null()).spawn().unwrap()
}

/// How many calls the shell makes for one command `umask`.
fn each() -> u64 {
    static EACH: OnceLock<u64> = OnceLock::new();
    *EACH.get_or_init(|| {
        let cgroup = Cgroup::make();
        let mut fleet = Fleet::start(false).unwrap();
        let target = fleet.add(cgroup.path()).unwrap();
        assert!(umasks(cgroup.path(), 1).wait().unwrap().success());
        check(&fleet.take(&[target]).unwrap()).row(libc::SYS_umask).calls
    })
}

#[test]
fn not_one_call_of_a_million_is_lost_in_shared_counters() {
    if !kernel_ring() {
        return;
    }
    let cgroup = Cgroup::make();
    let mut workload = Workload::start("count", Some(&cgroup));
    let mut fleet = Fleet::start(false).unwrap();
    let target = fleet.add(cgroup.path()).unwrap();
    assert!(fleet.condition(target).unwrap().late);
    assert!(fleet.condition(target).unwrap().populated);
    workload.go();
    workload.end();
    let progress = fleet.progress(target);
    assert!(progress.calls > u64::from(TOTAL) && progress.distinct > 3 && !progress.lost, "{progress:?}");
    let taken = fleet.take(&[target]).unwrap();
    let recorded = check(&taken);
    let row = recorded.row(libc::SYS_getppid);
    assert_eq!((row.calls, outcomes(&row.outcomes)), (u64::from(TOTAL), format!("ok {TOTAL}")));
    assert!(taken.runtime.is_none() && taken.exec.is_none());
    assert!(fleet.take(&[target]).is_err());
}

#[test]
fn two_hundred_targets_are_counted_apart() {
    const TARGETS: usize = 200;
    if !kernel_ring() {
        return;
    }
    let cgroup = Cgroup::make();
    let mut fleet = Fleet::start(false).unwrap();
    fleet.nurse(cgroup.path(), 1).unwrap();
    let paths: Vec<PathBuf> = (0..TARGETS).map(|index| make(cgroup.path().join(index.to_string()))).collect();
    let born = fleet.news().unwrap();
    assert_eq!(born.len(), TARGETS);
    assert!(fleet.news().unwrap().is_empty());
    let mut targets: BTreeMap<PathBuf, TargetId> = BTreeMap::new();
    for one in &born {
        let path = cgroup2().unwrap().join(one.path.trim_start_matches('/'));
        assert_eq!((one.parent, fs::metadata(&path).unwrap().is_dir()), (None, true), "{one:?}");
        assert!(targets.insert(path, one.target).is_none());
    }
    let children: Vec<Child> =
        paths.iter().enumerate().map(|(index, path)| umasks(path, index + 1)).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    // Half of them one by one, and half together.
    let (half, rest) = paths.split_at(TARGETS / 2);
    let mut taken: Vec<ContainerObservations> =
        half.iter().map(|path| fleet.take(&[targets[path]]).unwrap()).collect();
    let sets: Vec<[TargetId; 1]> = rest.iter().map(|path| [targets[path]]).collect();
    taken.extend(fleet.take_each(&sets.iter().map(<[TargetId; 1]>::as_slice).collect::<Vec<_>>()).unwrap());
    for (index, taken) in taken.iter().enumerate() {
        let recorded = check(taken);
        let row = recorded.row(libc::SYS_umask);
        let made = each() * (index as u64 + 1);
        assert_eq!((row.calls, outcomes(&row.outcomes)), (made, format!("ok {made}")));
        assert!(recorded.row(libc::SYS_exit_group).never_returned == 1);
    }
    let memory = fleet.memory().unwrap();
    eprintln!("maps: {} here, {} for 256 possible CPUs", memory.maps, memory.for_cpus(256));
    assert!(memory.for_cpus(256) < 60 << 20, "{memory:?}");
}

#[test]
fn names_that_are_waited_for_become_targets_and_others_do_not() {
    if !kernel_ring() {
        return;
    }
    let cgroup = Cgroup::make();
    let name = |text: &str| format!("{text}-{}", cgroup.path().file_name().unwrap().to_str().unwrap());
    let (wanted, other) = (name("wanted"), name("other"));
    let mut fleet = Fleet::start(false).unwrap();
    fleet.expect(&[wanted.clone(), other.clone()]).unwrap();
    fleet.forget(std::slice::from_ref(&other));
    make(cgroup.path().join(&other).join("inside"));
    assert!(fleet.news().unwrap().is_empty());
    let path = make(cgroup.path().join("deep/er").join(&wanted));
    // Counts for the target it is in.
    let below = make(path.join("below"));
    let [born] = fleet.news().unwrap().try_into().unwrap();
    assert!(born.path.ends_with(&format!("/deep/er/{wanted}")), "{born:?}");
    let before = fleet.condition(born.target).unwrap();
    assert_eq!((before.late, before.populated, before.removed), (false, false, false));
    for (path, count) in [(&path, 3), (&below, 4), (&cgroup.path().join(&other), 5)] {
        assert!(umasks(path, count).wait().unwrap().success());
    }
    fs::remove_dir(&below).unwrap();
    fs::remove_dir(&path).unwrap();
    assert!(fleet.condition(born.target).unwrap().removed);
    let recorded = check(&fleet.take(&[born.target]).unwrap());
    assert_eq!(recorded.row(libc::SYS_umask).calls, each() * (3 + 4));
    assert!(fleet.expect(&["a/b".to_owned()]).is_err());
}

#[test]
fn nurseries_split_as_deep_as_they_were_told() {
    if !kernel_ring() {
        return;
    }
    let cgroup = Cgroup::make();
    let there = make(cgroup.path().join("there"));
    let mut fleet = Fleet::start(false).unwrap();
    fleet.nurse(cgroup.path(), 2).unwrap();
    let pod = make(cgroup.path().join("pod"));
    let first = make(pod.join("first"));
    let second = make(pod.join("second"));
    let nested = make(first.join("nested"));
    let late = make(there.join("late"));
    let born = fleet.news().unwrap();
    let names: Vec<&str> = born.iter().map(|born| born.path.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["pod", "first", "second", "late"]);
    let pod_target = born[0].target;
    assert_eq!(
        born.iter().map(|born| born.parent).collect::<Vec<_>>(),
        [None, Some(pod_target), Some(pod_target), None]
    );
    for (path, count) in [(&pod, 1), (&first, 2), (&second, 4), (&nested, 8), (&late, 16)] {
        assert!(umasks(path, count).wait().unwrap().success());
    }
    // A target that nobody wants is foreign, and its place is free; what is made below it is still told.
    fleet.discard(pod_target);
    assert!(fleet.condition(pod_target).is_err());
    assert!(umasks(&pod, 1).wait().unwrap().success());
    let third = make(pod.join("third"));
    let [third_born] = fleet.news().unwrap().try_into().unwrap();
    assert!(third_born.path.ends_with("/pod/third"));
    assert!(umasks(&third, 32).wait().unwrap().success());
    // Two nurseries may have a cgroup: when the one ends, it is still the other's.
    fleet.nurse(&there, 1).unwrap();
    fleet.unnurse(&there);
    make(there.join("later"));
    assert_eq!(fleet.news().unwrap().len(), 1);
    fleet.unnurse(cgroup.path());
    make(pod.join("fourth"));
    make(there.join("too-late"));
    make(cgroup.path().join("fifth"));
    assert!(fleet.news().unwrap().is_empty());
    let mut umask = |targets: &[TargetId]| check(&fleet.take(targets).unwrap()).row(libc::SYS_umask).calls;
    assert_eq!(umask(&[born[1].target, born[2].target]), each() * (2 + 8 + 4));
    assert_eq!(umask(&[born[3].target]), each() * 16);
    assert_eq!(umask(&[third_born.target]), each() * 32);
}

#[test]
fn the_whole_mount_can_be_a_nursery() {
    if !kernel_ring() {
        return;
    }
    let mut fleet = Fleet::start(true).unwrap();
    fleet.nurse(&cgroup2().unwrap(), 1).unwrap();
    let cgroup = Cgroup::make();
    let name = format!("/{}", cgroup.path().file_name().unwrap().to_str().unwrap());
    // Others make cgroups too, meanwhile.
    let born: Vec<_> = fleet.news().unwrap().into_iter().filter(|born| born.path == name).collect();
    assert_eq!(born.len(), 1);
    assert_eq!(born[0].cgroup, std::os::unix::fs::MetadataExt::ino(&fs::metadata(cgroup.path()).unwrap()));
}

#[test]
fn a_target_ends_while_its_tasks_live_and_its_place_is_used_again() {
    if !kernel_ring() {
        return;
    }
    let cgroup = Cgroup::make();
    let one = make(cgroup.path().join("one"));
    let mut workload = start("phases", &one);
    let mut fleet = Fleet::start(false).unwrap();
    let first = fleet.add(&one).unwrap();
    workload.go();
    workload.await_report("next");
    fleet.set_phase(first, PhaseName::Serving);
    // A look does not end it.
    let rows = fleet.rows(first).unwrap();
    let seen = rows.iter().find(|(_, row)| row.name == "getuid").unwrap();
    assert_eq!((seen.0, seen.1.calls), (Class::Workload, 1));
    // It reports before it waits.
    let is_waiting = || fleet.rows(first).unwrap().iter().any(|(_, row)| row.name == "read");
    for _ in 0..1000 {
        if is_waiting() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let taken = fleet.take(&[first]).unwrap();
    let recorded = check(&taken);
    let row = recorded.row(libc::SYS_getuid);
    assert_eq!((row.calls, row.phases.iter().copied().collect::<Vec<_>>()), (1, vec![PhaseName::Startup]));
    assert_eq!(recorded.row(libc::SYS_read).in_flight, 1, "it waits at its gate");
    // It goes on unseen, and into the place of every target there can be.
    workload.go();
    workload.await_report("next");
    let again = fleet.add(&one).unwrap();
    assert_ne!(again, first);
    workload.go();
    workload.await_report("next");
    workload.go();
    workload.end();
    let recorded = check(&fleet.take(&[again]).unwrap());
    assert!(recorded.find(libc::SYS_getuid).is_none() && recorded.find(libc::SYS_getgid).is_none());
    assert_eq!(recorded.row(libc::SYS_geteuid).calls, 1);
}

#[test]
fn places_are_given_away_again_and_their_end_is_said() {
    if !kernel_ring() {
        return;
    }
    let cgroup = Cgroup::make();
    let mut fleet = Fleet::start(false).unwrap();
    fleet.nurse(cgroup.path(), 1).unwrap();
    let max = profiler_ebpf::MAX_TARGETS as usize;
    for round in 0..2 {
        let paths: Vec<PathBuf> =
            (0..=max).map(|index| make(cgroup.path().join(format!("{round}-{index}")))).collect();
        let born = fleet.news().unwrap();
        assert_eq!(born.len(), max);
        assert!(fleet.add(&paths[max]).is_err(), "all places are taken");
        // The last one is recorded, and the one without a place is not.
        assert!(umasks(&paths[max - 1], 2).wait().unwrap().success());
        assert!(umasks(&paths[max], 2).wait().unwrap().success());
        let all: Vec<TargetId> = born.iter().map(|born| born.target).collect();
        let taken = fleet.take(&all).unwrap();
        assert_eq!(taken.observations.losses.cgroups_full, 0);
        assert!(taken.observations.losses.missed_events > 0, "the one without a place is lost");
        let recorded = Recorded::new(taken.observations);
        assert_eq!(recorded.row(libc::SYS_umask).calls, each() * 2);
        for path in paths {
            fs::remove_dir(path).unwrap();
        }
    }
}

#[test]
fn refusals_are_told_with_the_arguments_of_the_first() {
    if !kernel_ring() {
        return;
    }
    let cgroup = Cgroup::make();
    let mut workload = Workload::start("refused-arguments", Some(&cgroup));
    let mut fleet = Fleet::start(false).unwrap();
    let target = fleet.add(cgroup.path()).unwrap();
    assert!(fleet.refusals(target).unwrap().is_empty());
    workload.go();
    workload.end();
    let refusals = fleet.refusals(target).unwrap();
    let told: Vec<_> = refusals
        .iter()
        .map(|refusal| (refusal.name.as_str(), refusal.outcome.to_string(), refusal.count, refusal.arguments))
        .collect();
    let wide = [0x1111_2222_3333_4444, 2, 3, 4, 5, 6].map(Some);
    let arguments = |values: [Option<u64>; 6]| Some(values.map(|value| value.unwrap_or_default()));
    let mut expected = vec![
        ("getppid", "EPERM".to_owned(), 5, arguments(wide)),
        ("getuid", "ok".to_owned(), 3, arguments(wide)),
    ];
    expected.push(("getgid", "killed".to_owned(), 2, arguments(wide)));
    expected.sort();
    let mut native: Vec<_> = told.iter().filter(|(name, ..)| !name.contains("getpgid")).cloned().collect();
    native.sort();
    assert_eq!(native, expected);
    #[cfg(target_arch = "x86_64")]
    {
        let [compat] = refusals.iter().filter(|refusal| refusal.abi == Abi::I386).collect::<Vec<_>>()[..]
        else {
            panic!("{refusals:?}")
        };
        assert_eq!((compat.name.as_str(), compat.arguments), ("getpgid", Some([11, 12, 13, 14, 15, 16])));
    }
    assert!(refusals.iter().all(|refusal| refusal.class == Class::Workload && refusal.first.pid != 0));
    let recorded = check(&fleet.take(&[target]).unwrap());
    assert_eq!(recorded.row(libc::SYS_getppid).denied, 5);
}

#[test]
fn arguments_are_kept_through_masks_and_up_to_a_bound() {
    if !kernel_ring() {
        return;
    }
    let cgroup = Cgroup::make();
    let mut workload = Workload::start("arguments", Some(&cgroup));
    let mut fleet = Fleet::start(false).unwrap();
    let target = fleet.add(cgroup.path()).unwrap();
    let native = Abi::native_of(std::env::consts::ARCH).unwrap();
    let number = |call: libc::c_long| u32::try_from(call).unwrap();
    let all = [u64::MAX; 6];
    let (getppid, getuid) = (number(libc::SYS_getppid), number(libc::SYS_getuid));
    fleet.capture(&[(native, getppid, [0xff, 0, u64::MAX, 0, 0, 0]), (native, getuid, all)]).unwrap();
    workload.go();
    workload.end();
    let tuples = fleet.tuples(target).unwrap();
    let of = |number: u32| -> Vec<([u64; 6], u64)> {
        tuples
            .kept
            .iter()
            .filter(|tuple| tuple.number == number)
            .map(|tuple| (tuple.args, tuple.count))
            .collect()
    };
    assert_eq!(of(getppid), [([0x02, 0, 7, 0, 0, 0], 30), ([0x03, 0, 7, 0, 0, 0], 1)]);
    assert_eq!(of(getuid).len(), 256);
    assert!(of(getuid).iter().all(|(_, count)| *count == 1));
    assert_eq!(tuples.wide, BTreeSet::from([(Class::Workload, native, getuid)]));
    assert!(!tuples.full);
    fleet.take(&[target]).unwrap();
}
