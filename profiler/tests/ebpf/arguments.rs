//! Arguments are what was in the registers, structs and tables of descriptors, and every call is accounted for.

use std::{collections::BTreeMap, env};

use profiler_ebpf::{MAX_OPENED, MAX_TUPLES_A_CALL};
use seccomp_learn_profiler::{
    CaptureArgument, CaptureCall, CapturePlan, Descriptor,
    ebpf::{EbpfRecorder, Fleet, Watch},
};
use trace::{Abi, Arguments, FileKind, Kept, Values};

use crate::{
    fleet::check,
    known::{REQUEST, TOGETHER, WIDE},
    support::{Cgroup, Recorded, Workload, finish, kernel_ring, outcomes},
};

fn native() -> Abi {
    Abi::native_of(env::consts::ARCH).unwrap()
}

/// An argument: which one, its width, its bits, and where in a struct.
fn argument(index: u32, width: u32, mask: u64, offset: Option<u32>) -> CaptureArgument {
    CaptureArgument { kept: Kept { index, offset, name: format!("a{index}"), mask }, width }
}

fn call(abi: Abi, number: libc::c_long, arguments: Vec<CaptureArgument>) -> CaptureCall {
    CaptureCall { abi, number: u32::try_from(number).unwrap(), arguments, descriptor: None }
}

/// 32 bits of an argument.
fn narrow(index: u32) -> Vec<CaptureArgument> {
    vec![argument(index, 32, 0xffff_ffff, None)]
}

fn with_descriptor(mut call: CaptureCall, index: u32, unless: Option<(u32, u64)>) -> CaptureCall {
    call.descriptor = Some(Descriptor { index, unless });
    call
}

fn plan(calls: Vec<CaptureCall>) -> CapturePlan {
    CapturePlan { calls, opens: true }
}

/// Records a part to its end, by one recorder and by one of many targets.
fn record(part: &str, plan: &CapturePlan) -> [Recorded; 2] {
    let cgroup = Cgroup::make();
    let mut workload = Workload::start(part, Some(&cgroup));
    let recorder = EbpfRecorder::start(&Watch::Cgroup(cgroup.path().to_owned()), plan).unwrap();
    workload.go();
    workload.end();
    let one = finish(Box::new(recorder));
    let cgroup = Cgroup::make();
    let mut workload = Workload::start(part, Some(&cgroup));
    let mut fleet = Fleet::start(false).unwrap();
    fleet.keep(plan).unwrap();
    let target = fleet.add(cgroup.path()).unwrap();
    workload.go();
    workload.end();
    [one, check(&fleet.take(&[target]).unwrap())]
}

fn arguments(recorded: &Recorded, number: libc::c_long) -> &Arguments {
    recorded.row(number).arguments.as_ref().unwrap()
}

/// Values as `a1=2 … * calls`, with what else tells them apart.
fn text(values: &Values) -> String {
    let arguments = values.arguments.iter().map(|value| format!("{value:#x}"));
    let mut text = arguments.collect::<Vec<_>>().join(" ");
    if !values.upper.is_empty() {
        text += &format!(" upper {:?}", values.upper);
    }
    format!("{text} * {} {}", values.calls, values.denied)
}

fn texts(arguments: &Arguments) -> Vec<String> {
    arguments.values.iter().map(text).collect()
}

#[test]
fn registers_and_structs_are_what_was_passed() {
    if !kernel_ring() {
        return;
    }
    let mut calls = vec![
        call(native(), libc::SYS_personality, narrow(0)),
        call(native(), libc::SYS_mremap, vec![argument(3, 64, 0xff, None)]),
        call(native(), libc::SYS_clone3, vec![argument(0, 64, u64::MAX, Some(0))]),
        call(native(), libc::SYS_io_uring_setup, vec![argument(1, 32, 0xffff_ffff, Some(8))]),
        call(
            native(),
            libc::SYS_perf_event_open,
            vec![argument(0, 32, 0xffff_ffff, Some(0)), argument(4, 64, u64::MAX, None)],
        ),
    ];
    if native() == Abi::X86_64 {
        calls.push(call(Abi::I386, 136, narrow(0)));
    }
    for recorded in record("registers", &plan(calls)) {
        let of = |number| texts(arguments(&recorded, number));
        assert_eq!(of(libc::SYS_personality), ["0xffffffff * 3 0", r#"0xffffffff upper {"a0"} * 2 0"#]);
        assert_eq!(of(libc::SYS_mremap), ["0x30 * 2 0"]);
        let clone3 = arguments(&recorded, libc::SYS_clone3);
        // The standard library may make threads so.
        assert!(texts(clone3).contains(&"0x100000200 * 3 0".to_owned()), "{clone3:?}");
        assert_eq!((clone3.unread, clone3.beyond, clone3.wide), (2, 0, false));
        assert_eq!(of(libc::SYS_io_uring_setup), ["0x66 * 1 0"]);
        assert_eq!(of(libc::SYS_perf_event_open), ["0x7ffffff1 0x10000000005 * 1 0"]);
        if native() == Abi::X86_64 {
            let compat = recorded.rows[&(Abi::I386, 136)].arguments.as_ref().unwrap();
            assert_eq!(texts(compat), ["0xffffffff * 2 0"]);
        }
        // What is not asked for is not kept.
        assert!(recorded.row(libc::SYS_exit_group).arguments.is_none());
        assert_eq!(recorded.observations.gpu, Some(false));
    }
}

#[test]
fn descriptors_are_what_they_were() {
    if !kernel_ring() {
        return;
    }
    let ioctl = with_descriptor(call(native(), libc::SYS_ioctl, narrow(1)), 0, None);
    let anonymous = u64::from(libc::MAP_ANONYMOUS.cast_unsigned());
    let mmap = call(native(), libc::SYS_mmap, vec![argument(3, 64, 0x22, None)]);
    let mmap = with_descriptor(mmap, 4, Some((3, anonymous)));
    for recorded in record("descriptors", &plan(vec![ioctl, mmap])) {
        let mut files: BTreeMap<(String, Option<String>), (u64, String)> = BTreeMap::new();
        for values in &arguments(&recorded, libc::SYS_ioctl).values {
            if values.arguments == [REQUEST] {
                assert!(values.upper.is_empty(), "only the descriptor's was set");
                let file = values.file.clone().unwrap();
                let key = (format!("{:?}", file.kind), file.path);
                let known = files.insert(key, (values.calls, file.device.unwrap_or_default()));
                assert_eq!(known, None);
            }
        }
        let (tty, _) = files
            .keys()
            .find(|(_, path)| path.as_ref().is_some_and(|path| path.starts_with("/dev/pts/")))
            .map(|key| (key.clone(), ()))
            .unwrap_or_else(|| panic!("{files:?}"));
        let (calls, device) = files.remove(&tty).unwrap();
        let number = tty.1.unwrap().trim_start_matches("/dev/pts/").to_owned();
        assert_eq!((calls, device), (2, format!("136:{number}")));
        let expected = [
            ("Anonymous", Some("[eventfd]"), 2, ""),
            ("Anonymous", Some("[eventpoll]"), 2, ""),
            ("Anonymous", Some("[pidfd]"), 2, ""),
            ("CharacterDevice", Some("/dev/null"), 2, "1:3"),
            ("CharacterDevice", Some("/dev/zero"), 2, "1:5"),
            ("Directory", None, 2, ""),
            ("Memory", None, 2, ""),
            ("None", None, 4, ""),
            ("Pipe", None, 4, ""),
            ("Regular", None, 2, ""),
            ("Socket", None, 2, ""),
        ];
        let expected: BTreeMap<_, _> = expected
            .into_iter()
            .map(|(kind, path, calls, device)| {
                ((kind.to_owned(), path.map(str::to_owned)), (calls, device.to_owned()))
            })
            .collect();
        assert_eq!(files, expected);
        // As musl passes a request.
        let signed: Vec<_> = arguments(&recorded, libc::SYS_ioctl)
            .values
            .iter()
            .filter(|values| !values.upper.is_empty())
            .collect();
        let [signed] = signed[..] else { panic!("{signed:?}") };
        assert_eq!(text(signed), r#"0xc0304627 upper {"a1"} * 1 0"#);
        assert_eq!(signed.file.as_ref().unwrap().path.as_deref(), Some("/dev/null"));
        let mmap = arguments(&recorded, libc::SYS_mmap);
        let kinds: Vec<(u64, Option<FileKind>)> = mmap
            .values
            .iter()
            .map(|values| (values.arguments[0], values.file.as_ref().map(|file| file.kind)))
            .collect();
        assert!(kinds.contains(&(2, Some(FileKind::Regular))), "{mmap:?}");
        assert!(kinds.contains(&(2, Some(FileKind::CharacterDevice))), "{mmap:?}");
        assert!(kinds.iter().all(|(flags, kind)| (flags & anonymous != 0) == kind.is_none()), "{mmap:?}");
    }
}

#[test]
fn not_one_argument_is_lost_while_many_threads_pass_them() {
    if !kernel_ring() {
        return;
    }
    let (processes, threads, calls, kinds) = TOGETHER;
    for recorded in record("together", &plan(vec![call(native(), libc::SYS_getppid, narrow(0))])) {
        let each = processes * threads * calls / kinds;
        let expected: Vec<String> = (0..kinds).map(|kind| format!("{kind:#x} * {each} 0")).collect();
        assert_eq!(texts(arguments(&recorded, libc::SYS_getppid)), expected);
    }
}

#[test]
fn what_is_beyond_the_bound_is_counted() {
    if !kernel_ring() {
        return;
    }
    let ioctl = with_descriptor(call(native(), libc::SYS_ioctl, narrow(1)), 0, None);
    let fcntl = call(native(), libc::SYS_fcntl, narrow(1));
    let getppid = call(native(), libc::SYS_getppid, narrow(0));
    let most = u64::from(MAX_TUPLES_A_CALL);
    for recorded in record("wide", &plan(vec![ioctl, fcntl, getppid])) {
        for (number, made) in [(libc::SYS_ioctl, WIDE.0), (libc::SYS_getppid, WIDE.1)] {
            let arguments = arguments(&recorded, number);
            assert!(arguments.wide);
            assert_eq!((arguments.values.len() as u64, arguments.beyond), (most, made - most), "{number}");
        }
        let fcntl = arguments(&recorded, libc::SYS_fcntl);
        assert!(fcntl.wide && fcntl.beyond >= WIDE.1 - most && fcntl.values.len() as u64 == most);
    }
}

#[test]
fn refused_calls_have_their_arguments_too() {
    if !kernel_ring() {
        return;
    }
    let getppid = call(native(), libc::SYS_getppid, narrow(0));
    for recorded in record("refused-wide", &plan(vec![getppid])) {
        let row = recorded.row(libc::SYS_getppid);
        assert_eq!((row.calls, row.denied), (0, 300));
        let arguments = row.arguments.as_ref().unwrap();
        assert_eq!((arguments.wide, arguments.beyond, arguments.values.len()), (true, 0, 256));
        assert!(arguments.values.iter().all(|values| (values.calls, values.denied) == (0, 1)));
        assert_eq!(text(&arguments.values[1]), r#"0x1 upper {"a0"} * 0 1"#);
    }
}

#[test]
fn opens_of_the_drivers_files_are_kept_with_their_ends() {
    if !kernel_ring() {
        return;
    }
    // On arm64 there is no `open`.
    let each = if native() == Abi::X86_64 { 4 } else { 2 };
    for recorded in record("opens", &plan(Vec::new())) {
        let opens: Vec<(String, String)> = recorded
            .observations
            .opens
            .iter()
            .map(|open| {
                let name = open.path.rsplit('/').next().unwrap().to_owned();
                (name, outcomes(&open.outcomes))
            })
            .collect();
        let expected = [
            ("nvidia-of-no-one", format!("ENOENT {each}")),
            ("index", format!("ok {each}")),
            ("libcuda.so.570.86.15", format!("ok {each}")),
            ("libnvidia-ml.so.1", "ENOENT 1".to_owned()),
            ("libnvcuvid.so.1", format!("ENOENT {each}")),
        ];
        let expected: Vec<_> = expected.into_iter().map(|(name, ends)| (name.to_owned(), ends)).collect();
        assert_eq!(opens, expected);
        assert_eq!(recorded.observations.opens_beyond, each, "the path that is too long");
        assert!(recorded.observations.opens.iter().all(|open| open.first.pid != 0));
    }
    for recorded in record("many-opens", &plan(Vec::new())) {
        assert_eq!(recorded.observations.opens.len(), MAX_OPENED as usize);
        assert_eq!(recorded.observations.opens_beyond, each + 5);
    }
    let quiet = CapturePlan::default();
    for recorded in record("opens", &quiet) {
        assert_eq!((recorded.observations.opens.len(), recorded.observations.gpu), (0, None));
    }
}

#[test]
fn targets_keep_their_arguments_apart() {
    if !kernel_ring() {
        return;
    }
    let plan = plan(vec![call(native(), libc::SYS_personality, narrow(0))]);
    let mut fleet = Fleet::start(false).unwrap();
    fleet.keep(&plan).unwrap();
    for _ in 0..2 {
        let cgroups = [Cgroup::make(), Cgroup::make(), Cgroup::make()];
        let mut targets = Vec::new();
        for cgroup in &cgroups {
            let mut workload = Workload::start("registers", Some(cgroup));
            targets.push(fleet.add(cgroup.path()).unwrap());
            workload.go();
            workload.end();
        }
        let [first, both] = [&targets[..1], &targets[1..]];
        let expected = |times: u64| {
            vec![
                format!("0xffffffff * {} 0", 3 * times),
                format!(r#"0xffffffff upper {{"a0"}} * {} 0"#, 2 * times),
            ]
        };
        let recorded = check(&fleet.take(first).unwrap());
        assert_eq!(texts(arguments(&recorded, libc::SYS_personality)), expected(1));
        let recorded = check(&fleet.take(both).unwrap());
        assert_eq!(texts(arguments(&recorded, libc::SYS_personality)), expected(2));
    }
}
