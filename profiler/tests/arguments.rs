//! What is kept of arguments, by both backends: the same of the same program, and what the program passed.

#![allow(
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "clippy.toml's exceptions reach test functions, not their helpers"
)]

use std::{
    collections::BTreeSet,
    env,
    ffi::CStr,
    fs::File as Opened,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::Duration,
};

use seccomp_learn_profiler::{
    CaptureArgument, CaptureCall, CapturePlan, Choice, Descriptor, Observer, Progress, Request, Subject,
    capture::MOST_VALUES, drive::Plan, ebpf, notify, record,
};
use trace::{Abi, Arguments, Backend, Kept, PhaseName, Trace, Values};

/// What stands above the half of a register that the kernel reads.
const UPPER: u64 = 0x77 << 32;
/// A request with its highest bit set, as musl passes it: sign-extended.
const SIGNED: u64 = 0xffff_ffff_8004_5430;

struct Silent;

impl Observer for Silent {
    fn chosen(&mut self, _: Backend, _: &str) {}
    fn started(&mut self, _: Option<u32>) {}
    fn progress(&mut self, _: Duration, _: PhaseName, _: &Progress) {}
}

fn native() -> Abi {
    Abi::native_of(env::consts::ARCH).unwrap()
}

/// A call with its arguments: index, width, mask, and the offset of a field.
fn call(name: &str, arguments: &[(u32, u32, u64, Option<u32>)]) -> CaptureCall {
    let argument = |&(index, width, mask, offset): &_| CaptureArgument {
        kept: Kept { index, offset, name: format!("a{index}"), mask },
        width,
    };
    CaptureCall {
        abi: native(),
        number: native().number(name).unwrap(),
        arguments: arguments.iter().map(argument).collect(),
        descriptor: None,
    }
}

fn plan() -> CapturePlan {
    const LOW: u64 = 0xffff_ffff;
    let mut ioctl = call("ioctl", &[(1, 32, LOW, None)]);
    ioctl.descriptor = Some(Descriptor { index: 0, unless: None });
    let mut mmap = call("mmap", &[(2, 64, LOW, None), (3, 64, u64::MAX, None)]);
    let anonymous = u64::from(libc::MAP_ANONYMOUS.cast_unsigned());
    mmap.descriptor = Some(Descriptor { index: 4, unless: Some((3, anonymous)) });
    let calls = vec![
        ioctl,
        mmap,
        call("clone3", &[(0, 64, u64::MAX, Some(0))]),
        call("io_uring_setup", &[(1, 32, LOW, Some(8))]),
        call("prctl", &[(0, 32, 0xff, None)]),
        call("socket", &[(0, 32, LOW, None), (1, 32, LOW, None), (2, 32, LOW, None)]),
    ];
    CapturePlan { calls, opens: true }
}

fn recorded(backend: Choice, role: &str) -> Trace {
    let program = env::current_exe().unwrap();
    let rest = ["--ignored", "--exact", role, "--nocapture", "--test-threads=1"];
    let command = [program.into_os_string()].into_iter().chain(rest.map(Into::into)).collect();
    let (subject, capture) = (Subject::Command(command), plan());
    let request = Request { subject, backend, plan: Plan::default(), capture, stdout_is_ours: false };
    let mut recording = record(&request, "test", &mut Silent).unwrap();
    assert_eq!(recording.trace.target.exit_code, Some(0));
    // The laws of the format hold.
    recording.trace.seal().unwrap();
    recording.trace
}

/// What works here; at least one.
fn backends() -> Vec<Choice> {
    let works = [
        (Choice::Ebpf, ebpf::probe().map_err(|error| error.to_string())),
        (Choice::Notify, notify::probe().map_err(|error| error.to_string())),
    ];
    let mut backends = Vec::new();
    for (backend, works) in works {
        match works {
            Ok(()) => backends.push(backend),
            Err(error) => {
                assert!(env::var_os("SECCOMP_LEARN_REQUIRE_KERNEL").is_none(), "{error}");
                eprintln!("skipped: {backend:?}: {error}");
            }
        }
    }
    backends
}

fn arguments<'t>(trace: &'t Trace, name: &str) -> &'t Arguments {
    let row = trace.syscalls.iter().find(|row| row.abi == native() && row.name == name).unwrap();
    row.arguments.as_ref().unwrap()
}

/// One of the values, without counts: `21505 a1 character device 1:3 /dev/null`.
fn text(values: &Values) -> String {
    let mut words: Vec<String> = values.arguments.iter().map(|value| format!("{value:#x}")).collect();
    words.extend(values.upper.iter().cloned());
    if let Some(file) = &values.file {
        words.push(format!("{:?}", file.kind));
        words.extend(file.device.iter().chain(&file.path).cloned());
    }
    words.join(" ")
}

fn texts(arguments: &Arguments) -> BTreeSet<String> {
    arguments.values.iter().map(text).collect()
}

fn raw(number: libc::c_long, arguments: [u64; 4]) {
    let [a, b, c, d] = arguments;
    // SAFETY: what is called here keeps nothing of what it is given, and writes to nothing of ours.
    unsafe { libc::syscall(number, a, b, c, d, 0u64, 0u64) };
}

fn open(path: &CStr) -> Option<OwnedFd> {
    // SAFETY: the path ends in a NUL; what comes back is ours.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
    }
}

#[test]
#[ignore = "a workload"]
fn role_known() {
    let null = Opened::open("/dev/null").unwrap();
    let (pipe, _write) = std::io::pipe().unwrap();
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let memory = nix::sys::memfd::memfd_create("x", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    let [regular, directory] = ["/proc/self/exe", "/"].map(|path| Opened::open(path).unwrap());
    // SAFETY: makes a descriptor, which becomes ours.
    let event = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) };
    let files = [
        null.as_raw_fd(),
        pipe.as_raw_fd(),
        socket.as_raw_fd(),
        memory.as_raw_fd(),
        regular.as_raw_fd(),
        directory.as_raw_fd(),
        event.as_raw_fd(),
        -1,
    ];
    for (fd, request) in files.into_iter().zip(0x1000..) {
        raw(libc::SYS_ioctl, [u64::from(fd.cast_unsigned()), request, 0, 0]);
    }
    let null = u64::from(null.as_raw_fd().cast_unsigned());
    raw(libc::SYS_ioctl, [null | UPPER, 0x2000, 0, 0]);
    raw(libc::SYS_ioctl, [null, SIGNED, 0, 0]);
    raw(libc::SYS_ioctl, [null, SIGNED & 0xffff_ffff, 0, 0]);

    // The kernel refuses a size of 0 before it reads the struct.
    let flags = [0x1_0000_0200u64, 7];
    raw(libc::SYS_clone3, [flags.as_ptr().addr() as u64, 0, 0, 0]);
    raw(libc::SYS_clone3, [8, 64, 0, 0]);
    let parameters: [u32; 30] = std::array::from_fn(|index| index as u32 + 100);
    raw(libc::SYS_io_uring_setup, [0, parameters.as_ptr().addr() as u64, 0, 0]);
    let option = libc::PR_GET_DUMPABLE.cast_unsigned().into();
    raw(libc::SYS_prctl, [option, 0, 0, 0]);
    raw(libc::SYS_prctl, [option | UPPER, 0, 0, 0]);
    raw(libc::SYS_prctl, [option | 0x100, 0, 0, 0]);
    raw(libc::SYS_socket, [1, 0x80001, 0, 0]);
    // SAFETY: a mapping of one page that is only read by the kernel, and unmapped with the process.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_LOCKED;
        libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, flags, regular.as_raw_fd(), 0);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_LOCKED;
        libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, flags, 0, 0);
    }
    for path in
        [c"/dev/nvidia-none", c"/dev/nvidia-none", c"/nowhere/libcuda.so.1", c"/dev/null", c"relative"]
    {
        open(path);
    }
    // SAFETY: ends this process.
    unsafe { libc::_exit(0) };
}

#[test]
fn both_backends_keep_what_was_passed() {
    let traces: Vec<Trace> = backends().into_iter().map(|backend| recorded(backend, "role_known")).collect();
    for trace in &traces {
        let ioctl = texts(arguments(trace, "ioctl"));
        for expected in [
            "0x1000 CharacterDevice 1:3 /dev/null",
            "0x1001 Pipe",
            "0x1002 Socket",
            "0x1003 Memory",
            "0x1004 Regular",
            "0x1005 Directory",
            "0x1006 Anonymous [eventfd]",
            "0x1007 None",
            "0x2000 CharacterDevice 1:3 /dev/null",
            "0x80045430 a1 CharacterDevice 1:3 /dev/null",
            "0x80045430 CharacterDevice 1:3 /dev/null",
        ] {
            assert!(ioctl.contains(expected), "{expected} is not in {ioctl:#?}");
        }
        let clone3 = arguments(trace, "clone3");
        assert!(texts(clone3).contains("0x100000200"), "{clone3:?}");
        assert_eq!((clone3.unread, clone3.kept[0].offset), (1, Some(0)));
        let io_uring = arguments(trace, "io_uring_setup");
        assert_eq!(texts(io_uring), BTreeSet::from([format!("{:#x}", 102)]));
        let prctl = arguments(trace, "prctl");
        let dumpable = |words: &str| prctl.values.iter().find(|own| text(own) == words).map(|own| own.calls);
        assert_eq!((dumpable("0x3"), dumpable("0x3 a0")), (Some(2), Some(1)), "{prctl:?}");
        assert!(texts(arguments(trace, "socket")).contains("0x1 0x80001 0x0"));
        let mmap = texts(arguments(trace, "mmap"));
        assert!(mmap.contains("0x1 0x2002 Regular") && mmap.contains("0x1 0x2022"), "{mmap:#?}");
        let opens: Vec<_> = trace.opens.iter().map(|open| (open.path.as_str(), open.calls)).collect();
        assert_eq!(opens, [("/dev/nvidia-none", 2), ("/nowhere/libcuda.so.1", 1)]);
        assert_eq!(trace.target.gpu, Some(false), "no open of a device succeeded");
    }
    if let [one, other] = traces.as_slice() {
        for name in ["ioctl", "mmap", "clone3", "io_uring_setup", "prctl", "socket"] {
            assert_eq!(texts(arguments(one, name)), texts(arguments(other, name)), "{name}");
        }
    }
}

#[test]
#[ignore = "a workload"]
fn role_wide() {
    let more = MOST_VALUES as u64 + 50;
    for request in (0..more).chain(0..3) {
        raw(libc::SYS_ioctl, [u64::MAX, 0x5000_0000 + request, 0, 0]);
    }
    // SAFETY: ends this process.
    unsafe { libc::_exit(0) };
}

#[test]
fn what_is_beyond_the_bound_is_counted_and_marked() {
    for backend in backends() {
        let trace = recorded(backend, "role_wide");
        let ioctl = arguments(&trace, "ioctl");
        assert!(
            ioctl.wide && ioctl.beyond >= 50 && ioctl.values.len() <= MOST_VALUES,
            "{backend:?}: {ioctl:?}"
        );
        let known = |request: &u64| ioctl.values.iter().any(|own| own.arguments == [0x5000_0000 + request]);
        assert_eq!((0..3).filter(known).count(), 3, "those that were seen before are still counted");
        assert!((0..3).all(|request| {
            let own = ioctl.values.iter().find(|own| own.arguments == [0x5000_0000 + request]);
            own.is_some_and(|own| own.calls == 2)
        }));
    }
}
