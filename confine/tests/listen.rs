//! Under a listener: every call is seen and answered, from exec on, of every thread and child.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "clippy.toml's exceptions reach test functions, not their helpers"
)]

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use seccomp_learn_confine::{
    Child, Event, Exit, Filter, Instruction, Launch, Listener, Notification, Reply, Signal, SpawnError,
    is_keeper, probe_listener, spawn,
};

const NOTIFY: Instruction = Instruction { code: 0x06, jt: 0, jf: 0, k: 0x7fc0_0000 };
const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;

/// False, and says why, where no listener can be had; fails where the kernel ring was asked for.
fn listener_works() -> bool {
    match probe_listener() {
        Ok(()) => true,
        Err(error) => {
            assert!(env::var_os("SECCOMP_LEARN_REQUIRE_KERNEL").is_none(), "no listener: {error}");
            eprintln!("skipped: no seccomp listener here: {error}");
            false
        }
    }
}

/// What a served listener saw.
struct Seen {
    calls: Vec<Notification>,
    vanished: u64,
}

impl Seen {
    fn count(&self, arch: u32, number: i64) -> usize {
        self.calls.iter().filter(|call| call.arch == arch && i64::from(call.number) == number).count()
    }
}

fn serve(mut listener: Listener, answer: fn(&Notification) -> Reply) -> JoinHandle<Seen> {
    thread::spawn(move || {
        let mut seen = Seen { calls: Vec::new(), vanished: 0 };
        loop {
            match listener.receive(None).unwrap() {
                Event::Call(call) => {
                    seen.calls.push(call);
                    listener.reply(call.id, answer(&call)).unwrap();
                }
                Event::Vanished => seen.vanished += 1,
                Event::Woken => unreachable!(),
                Event::Ended => return seen,
            }
        }
    })
}

fn listen(program: &str, arguments: &[&str]) -> Launch {
    let command: Vec<_> = [program].iter().chain(arguments).map(Into::into).collect();
    Launch { filter: Filter::Listen(vec![NOTIFY]), ..Launch::new(&command).unwrap() }
}

/// One of the `role_…` below, as the workload.
fn role(name: &str) -> Launch {
    let program = env::current_exe().unwrap();
    listen(program.to_str().unwrap(), &["--ignored", "--exact", name, "--nocapture", "--test-threads=1"])
}

fn start(launch: Launch, answer: fn(&Notification) -> Reply) -> (Child, JoinHandle<Seen>) {
    let (mut child, listener) = spawn(launch).unwrap().release().unwrap();
    let served = serve(listener.unwrap(), answer);
    child.wait_exec().unwrap();
    (child, served)
}

fn go_on(_: &Notification) -> Reply {
    Reply::Continue
}

fn exit(code: i32) -> ! {
    // SAFETY: ends this process.
    unsafe { libc::_exit(code) }
}

fn call(number: i64) -> (i64, i32) {
    // SAFETY: the numbers given here take no arguments.
    let answer = unsafe { libc::syscall(number) };
    (answer, std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

#[test]
fn exec_is_the_first_call_and_the_workload_has_no_child_it_did_not_make() {
    if !listener_works() {
        return;
    }
    let script = "exec /bin/cat /proc/$$/task/$$/children /proc/self/status";
    let mut launch = listen("sh", &["-c", script]);
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    launch.stdout = Some(write);
    let (mut child, served) = start(launch, go_on);
    assert_eq!(child.wait().unwrap(), Exit::Code(0));
    let seen = served.join().unwrap();
    assert_eq!(i64::from(seen.calls[0].number), libc::SYS_execve);
    assert_eq!(seen.calls[0].thread, child.pid());
    assert_eq!(seen.count(X86_64, libc::SYS_execve), 2);
    assert_eq!(seen.vanished, 0);
    let text = std::io::read_to_string(fs::File::from(read)).unwrap();
    assert!(text.starts_with("Name:"), "children: {text}");
    assert!(text.contains("Seccomp:\t2"), "{text}");
}

#[test]
#[ignore = "a workload"]
fn role_answers() {
    let expected = [(4242, None), (-1, Some(13)), (0, None)];
    let calls = [libc::SYS_getppid, libc::SYS_getpgrp, libc::SYS_getuid];
    for (number, (value, errno)) in calls.into_iter().zip(expected) {
        let (got, error) = call(number);
        if got != value || errno.is_some_and(|errno| errno != error) {
            exit(1);
        }
    }
    exit(0);
}

#[test]
fn answers_arrive_as_they_were_given() {
    if !listener_works() {
        return;
    }
    let (mut child, served) = start(role("role_answers"), |call| match i64::from(call.number) {
        libc::SYS_getppid => Reply::Return(4242),
        libc::SYS_getpgrp => Reply::Errno(13),
        libc::SYS_getuid => Reply::Errno(0),
        _ => Reply::Continue,
    });
    assert_eq!(child.wait().unwrap(), Exit::Code(0));
    served.join().unwrap();
}

#[test]
#[ignore = "a workload"]
fn role_threads_and_children() {
    let children: Vec<libc::pid_t> = (0..4)
        // SAFETY: the child calls getppid and ends.
        .map(|_| unsafe {
            let pid = libc::fork();
            if pid == 0 {
                (0..1000).for_each(|_| _ = call(libc::SYS_getppid));
                exit(0);
            }
            pid
        })
        .collect();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| _ = call(libc::SYS_getppid)));
        }
    });
    for pid in children {
        // SAFETY: waits for a child made above.
        assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
    }
    exit(0);
}

#[test]
fn threads_and_children_are_all_seen() {
    if !listener_works() {
        return;
    }
    let (mut child, served) = start(role("role_threads_and_children"), go_on);
    assert_eq!(child.wait().unwrap(), Exit::Code(0));
    let seen = served.join().unwrap();
    assert_eq!(seen.count(X86_64, libc::SYS_getppid), 8000);
    let mut threads = BTreeMap::new();
    for call in seen.calls.iter().filter(|call| i64::from(call.number) == libc::SYS_getppid) {
        *threads.entry(call.thread).or_insert(0) += 1;
    }
    assert_eq!(threads.values().copied().collect::<Vec<_>>(), [1000; 8]);
}

#[test]
#[ignore = "a workload"]
#[cfg(target_arch = "x86_64")]
fn role_compat() {
    let mut number: i64 = 20;
    // SAFETY: i386's getpid, without arguments; the kernel clobbers r8 to r11 on this way in.
    unsafe {
        std::arch::asm!("int 0x80", inout("rax") number,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    exit(i32::from(number != i64::from(std::process::id())));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_of_the_32_bit_abi_are_told_apart() {
    if !listener_works() {
        return;
    }
    let (mut child, served) = start(role("role_compat"), go_on);
    assert_eq!(child.wait().unwrap(), Exit::Code(0));
    let seen = served.join().unwrap();
    assert_eq!(seen.count(I386, 20), 1);
}

#[test]
#[ignore = "a workload"]
fn role_own_filters() {
    const ALLOW: u32 = 0x7fff_0000;
    let statement = |code, k| Instruction { code, jt: 0, jf: 0, k };
    let number = u32::try_from(libc::SYS_getppid).unwrap();
    let program = [
        statement(0x20, 0),
        Instruction { code: 0x15, jt: 0, jf: 1, k: number },
        statement(0x06, 0x0005_0021),
        statement(0x06, ALLOW),
    ];
    #[repr(C)]
    struct Program(u16, *const Instruction);
    let program = Program(4, program.as_ptr());
    // SAFETY: a valid program, as a struct sock_fprog.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        // A listener of its own is refused, since one is there.
        if libc::syscall(libc::SYS_seccomp, 1, 8, &raw const program) != -1 || errno() != libc::EBUSY {
            exit(1);
        }
        if libc::syscall(libc::SYS_seccomp, 1, 0, &raw const program) != 0 {
            exit(2);
        }
    }
    exit(if call(libc::SYS_getppid) == (-1, 0x21) { 0 } else { 3 });
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

#[test]
fn a_workload_with_filters_of_its_own() {
    if !listener_works() {
        return;
    }
    let (mut child, served) = start(role("role_own_filters"), go_on);
    assert_eq!(child.wait().unwrap(), Exit::Code(0));
    let seen = served.join().unwrap();
    assert_eq!(seen.count(X86_64, libc::SYS_seccomp), 2);
    // ERRNO outranks USER_NOTIF: what its own filter refuses is never notified.
    assert_eq!(seen.count(X86_64, libc::SYS_getppid), 0);
}

#[test]
fn killed_in_the_middle_it_ends_the_listener() {
    if !listener_works() {
        return;
    }
    let script = "(while :; do :; done) & while :; do /bin/true; done";
    let (mut child, served) = start(listen("setsid", &["sh", "-c", script]), go_on);
    thread::sleep(Duration::from_millis(200));
    let group = nix::unistd::Pid::from_raw(i32::try_from(child.pid()).unwrap());
    nix::sys::signal::killpg(group, Signal::SIGKILL).unwrap();
    assert_eq!(child.wait().unwrap(), Exit::Signal(9));
    assert!(served.join().unwrap().calls.len() > 100);
}

#[test]
fn exec_failures_are_named_under_a_listener_too() {
    if !listener_works() {
        return;
    }
    let launch = Launch { program: "/no/such/program".into(), ..listen("true", &[]) };
    let (mut child, listener) = spawn(launch).unwrap().release().unwrap();
    let served = serve(listener.unwrap(), go_on);
    assert!(matches!(child.wait_exec(), Err(SpawnError::NotFound(_))));
    let seen = served.join().unwrap();
    assert_eq!(seen.calls.len(), 2, "execve and exit_group");
}

#[test]
fn dropped_at_the_gate_no_helper_is_left() {
    if !listener_works() {
        return;
    }
    let children = || fs::read_to_string("/proc/thread-self/children").unwrap();
    let gated = spawn(listen("sleep", &["1000"])).unwrap();
    assert_eq!(children().split_whitespace().count(), 2);
    drop(gated);
    assert_eq!(children(), "");
}

#[test]
fn the_keeper_is_known_as_one_and_ends_with_the_workload() {
    if !listener_works() {
        return;
    }
    let keepers = || {
        let all = fs::read_dir("/proc").unwrap();
        let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid| is_keeper(*pid) && runs(&pid.to_string())).count()
    };
    let (mut child, served) = start(listen("cat", &[]), go_on);
    assert!(keepers() >= 1);
    child.signal(Signal::SIGTERM).unwrap();
    child.wait().unwrap();
    served.join().unwrap();
}

/// Three processes: one that calls on and on, one that is orphaned and asks what the recorder waits for, one that
/// sleeps.
#[test]
#[ignore = "a workload"]
fn role_fork_and_go_on() {
    // SAFETY: all processes make raw calls only from here on.
    unsafe {
        if libc::fork() == 0 {
            libc::sleep(1000);
        }
        if libc::fork() == 0 {
            let parent = libc::getpid();
            if libc::fork() != 0 {
                exit(0);
            }
            while call(libc::SYS_getppid).0 == i64::from(parent) {}
            call(libc::SYS_getpgrp);
        }
    }
    loop {
        call(libc::SYS_getppid);
    }
}

/// Serves a workload of two processes; stops in the middle of a call of the second, unanswered.
#[test]
#[ignore = "a workload"]
fn role_recorder() {
    let (child, listener) = spawn(role("role_fork_and_go_on")).unwrap().release().unwrap();
    let (first, mut listener) = (child.pid(), listener.unwrap());
    loop {
        let Event::Call(call) = listener.receive(None).unwrap() else { panic!() };
        if i64::from(call.number) == libc::SYS_getpgrp {
            let threads = fs::read_dir(format!("/proc/{first}/task")).unwrap();
            let children: String = threads
                .map(|thread| fs::read_to_string(thread.unwrap().path().join("children")).unwrap())
                .collect();
            let sleeping = children.split_whitespace().next().unwrap();
            println!("pids={first},{},{sleeping}", call.thread);
            thread::sleep(Duration::from_secs(1000));
        }
        listener.reply(call.id, Reply::Continue).unwrap();
    }
}

fn runs(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_dead_recorder_ends_the_workload() {
    if !listener_works() {
        return;
    }
    let mut recorder = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "role_recorder", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(recorder.stdout.take().unwrap()).lines();
    let pids = lines.find_map(|line| Some(line.unwrap().split_once("pids=")?.1.to_owned())).unwrap();
    let pids: Vec<&str> = pids.split(',').collect();
    assert!(pids.iter().all(|pid| runs(pid)), "{pids:?}");
    recorder.kill().unwrap();
    recorder.wait().unwrap();
    let since = Instant::now();
    while pids.iter().any(|pid| runs(pid)) {
        assert!(since.elapsed() < Duration::from_secs(10), "{pids:?} live on");
        thread::sleep(Duration::from_millis(10));
    }
    // Nothing holds the writing end any more, the keeper neither.
    lines.for_each(|line| _ = line.unwrap());
}

#[test]
fn a_listener_that_is_dropped_early_ends_the_workload() {
    if !listener_works() {
        return;
    }
    let (mut child, listener) =
        spawn(listen("sh", &["-c", "while :; do :; done"])).unwrap().release().unwrap();
    drop(listener);
    assert_eq!(child.wait().unwrap(), Exit::Signal(9));
}

#[test]
#[ignore = "a workload"]
fn role_hundred_thousand_calls() {
    let since = Instant::now();
    (0..100_000).for_each(|_| _ = call(libc::SYS_getppid));
    println!("calls a second: {:.0}", 100_000.0 / since.elapsed().as_secs_f64());
    exit(0);
}

#[test]
fn it_is_fast_enough_to_record_with() {
    if !listener_works() {
        return;
    }
    let since = Instant::now();
    let (mut child, served) = start(role("role_hundred_thousand_calls"), go_on);
    assert_eq!(child.wait().unwrap(), Exit::Code(0));
    assert_eq!(served.join().unwrap().count(X86_64, libc::SYS_getppid), 100_000);
    // Measured: 0.7 s; the bound is for a loaded machine.
    assert!(since.elapsed() < Duration::from_secs(60));
}
