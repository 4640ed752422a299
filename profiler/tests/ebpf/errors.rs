//! What cannot be recorded is said, and a recorder that dies leaves nothing behind.

use std::{collections::BTreeSet, env, fs, path::PathBuf, thread, time::Duration};

use seccomp_learn_profiler::{
    CapturePlan,
    ebpf::{EbpfError, EbpfRecorder, Watch},
};

use crate::{
    support::{CGROUP, Cgroup, Workload, cgroup2, kernel_ring},
    workload::report,
};

fn refused(watch: &Watch) -> EbpfError {
    EbpfRecorder::start(watch, &CapturePlan::default()).err().expect("an error")
}

#[test]
fn what_is_not_there_is_named() {
    if !kernel_ring() {
        return;
    }
    let missing = cgroup2().unwrap().join("no-such-cgroup");
    let error = refused(&Watch::Cgroup(missing.clone()));
    assert!(error.to_string().contains(missing.to_str().unwrap()), "{error}");
    let error = refused(&Watch::Cgroup(PathBuf::from("/proc")));
    assert!(matches!(error, EbpfError::NotCgroup2(_)), "{error}");
    // Larger than any pid.
    let error = refused(&Watch::Process(0x7fff_fff0));
    assert!(matches!(error, EbpfError::Process { .. }), "{error}");
    let error = refused(&Watch::Process(std::process::id()));
    assert!(matches!(error, EbpfError::RecorderItself(_)), "{error}");
}

#[test]
fn the_recorder_does_not_record_itself() {
    if !kernel_ring() {
        return;
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap().to_owned();
    let error = refused(&Watch::Cgroup(cgroup2().unwrap().join(own)));
    assert!(matches!(error, EbpfError::RecorderInside(_)), "{error}");
}

/// The part of a recorder that is killed.
pub(crate) fn record_until_killed() {
    let cgroup = PathBuf::from(env::var_os(CGROUP).unwrap());
    // The recorder must not be in the cgroup that it records.
    let target = cgroup.with_file_name(format!("{}-target", cgroup.file_name().unwrap().to_str().unwrap()));
    let recorder = EbpfRecorder::start(&Watch::Cgroup(target), &CapturePlan::default()).unwrap();
    report("ready");
    thread::sleep(Duration::from_secs(600));
    drop(recorder);
}

#[test]
fn a_killed_recorder_leaves_no_program_behind() {
    if !kernel_ring() {
        return;
    }
    let cgroup = Cgroup::make();
    let name = cgroup.path().file_name().unwrap().to_str().unwrap().to_owned();
    let target = Cgroup(cgroup.path().with_file_name(format!("{name}-target")));
    fs::create_dir(target.path()).unwrap();
    let mut recorder = Workload::start("record", Some(&cgroup));
    let programs = program_ids(recorder.pid());
    assert!(programs.len() >= 8, "{programs:?}");
    assert_eq!(loaded().intersection(&programs).count(), programs.len());
    recorder.kill();
    // The kernel takes programs away after a grace period.
    for _ in 0..100 {
        if loaded().is_disjoint(&programs) {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("still loaded: {:?}", loaded().intersection(&programs));
}

/// Ids of the programs that a process holds, by itself or through links.
fn program_ids(pid: u32) -> BTreeSet<u32> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let found = text.lines().filter_map(|line| line.strip_prefix("prog_id:"));
        ids.extend(found.filter_map(|id| id.trim().parse::<u32>().ok()));
    }
    ids
}

fn loaded() -> BTreeSet<u32> {
    aya::programs::loaded_programs().filter_map(|program| Some(program.ok()?.id())).collect()
}
