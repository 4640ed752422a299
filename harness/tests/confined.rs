//! Confined starts of real processes: the same behaviour as under the plain filter, and every denial named.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "clippy.toml's exceptions reach test functions, not their helpers"
)]

use std::{
    env,
    fs::File,
    io::Read as _,
    thread,
    time::{Duration, Instant},
};

use confine::{Exit, Launch, SpawnError};
use seccomp_learn_harness::{Denial, HarnessError, Mode, Report, start};
use serde_json::{Value, json};
use synth::{Profile, Verdict};
use trace::{Abi, PhaseName};

fn listener_works() -> bool {
    match confine::probe_listener() {
        Ok(()) => true,
        Err(error) => {
            assert!(env::var_os("SECCOMP_LEARN_REQUIRE_KERNEL").is_none(), "no listener: {error}");
            eprintln!("skipped: no seccomp listener here: {error}");
            false
        }
    }
}

/// A profile that allows all but these entries.
fn all_but(entries: Value) -> Profile {
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": entries });
    Profile::read(profile.to_string().as_bytes()).unwrap()
}

fn deny(names: &[&str], action: &str, errno: Option<u16>) -> Profile {
    let mut entry = json!({ "names": names, "action": action });
    if let Some(errno) = errno {
        entry["errnoRet"] = errno.into();
    }
    all_but(json!([entry]))
}

/// One of the `role_…` below as the command, with a variable for it.
fn role(name: &str, variable: &str) -> Vec<String> {
    let program = env::current_exe().unwrap();
    let own = ["--ignored", "--exact", name, "--nocapture", "--test-threads=1"].map(str::to_owned);
    let mut command =
        vec!["env".to_owned(), format!("ROLE={variable}"), program.to_str().unwrap().to_owned()];
    command.extend(own);
    command
}

fn shell(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).to_vec()
}

/// Runs to the end of all its processes: how it ended, what it wrote, what was reported.
fn run(profile: &Profile, command: &[String], mode: Mode) -> (Exit, String, Report) {
    let command: Vec<_> = command.iter().map(Into::into).collect();
    let mut launch = Launch::new(&command).unwrap();
    let (read, write) = nix_pipe();
    launch.stdout = Some(write);
    let mut confined = start(profile, launch, mode).unwrap();
    let mut output = String::new();
    File::from(read).read_to_string(&mut output).unwrap();
    let exit = confined.child().wait().unwrap();
    let since = Instant::now();
    while mode != Mode::Plain && !confined.ended() && since.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(1));
    }
    (exit, output, confined.finish().unwrap())
}

fn nix_pipe() -> (std::os::fd::OwnedFd, std::os::fd::OwnedFd) {
    let (read, write) = std::io::pipe().unwrap();
    (read.into(), write.into())
}

/// Under the plain filter and with denials named the same comes out; the report of the latter.
fn same(profile: &Profile, command: &[String]) -> (Exit, String, Vec<Denial>) {
    let (exit, output, report) = run(profile, command, Mode::Plain);
    assert_eq!(report.denials, []);
    let (named_exit, named_output, named) = run(profile, command, Mode::Enforce);
    assert_eq!((named_exit, &named_output), (exit, &output), "{command:?}");
    assert_eq!(named.remarks, Vec::<String>::new());
    (exit, output, named.denials)
}

fn variable() -> String {
    env::var("ROLE").unwrap()
}

fn leave(code: i32) -> ! {
    // SAFETY: ends this process.
    unsafe { libc::_exit(code) }
}

/// Goes on in a process with a single thread, which the test runner's are not; ends as that one does.
fn alone() {
    // SAFETY: the child goes on with the only thread there is; the parent waits and ends.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            return;
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
        if libc::WIFEXITED(status) {
            leave(libc::WEXITSTATUS(status));
        }
        libc::kill(libc::getpid(), libc::WTERMSIG(status));
        loop {
            libc::pause();
        }
    }
}

/// Makes the calls of these numbers, without arguments, and writes what each returned.
#[test]
#[ignore = "a workload"]
fn role_call() {
    alone();
    for number in variable().split(',') {
        // SAFETY: only numbers of calls are given here that take no pointers, or that are refused.
        let answer = unsafe { libc::syscall(number.parse().unwrap(), 0, 0, 0, 0, 0, 0) };
        let errno = std::io::Error::last_os_error().raw_os_error();
        println!("{number} {answer} {}", if answer == -1 { errno.unwrap_or(0) } else { 0 });
    }
    leave(7);
}

#[test]
fn a_refused_call_behaves_as_under_the_plain_filter() {
    if !listener_works() {
        return;
    }
    // getppid and getpgrp; what they return is the same for both starts only when they are refused.
    let command = role("role_call", "110,111");
    for (action, errno, exit, line, verdict) in [
        ("SCMP_ACT_ERRNO", None, Exit::Code(7), Some("110 -1 1"), Verdict::Errno(1)),
        ("SCMP_ACT_ERRNO", Some(13), Exit::Code(7), Some("110 -1 13"), Verdict::Errno(13)),
        ("SCMP_ACT_ERRNO", Some(38), Exit::Code(7), Some("110 -1 38"), Verdict::Errno(38)),
        ("SCMP_ACT_ERRNO", Some(0), Exit::Code(7), Some("110 0 0"), Verdict::Errno(0)),
        ("SCMP_ACT_TRACE", Some(5), Exit::Code(7), Some("110 -1 38"), Verdict::Trace(5)),
        ("SCMP_ACT_NOTIFY", None, Exit::Code(7), Some("110 -1 38"), Verdict::Notify),
        ("SCMP_ACT_KILL_PROCESS", None, Exit::Signal(31), None, Verdict::KillProcess),
        ("SCMP_ACT_KILL", None, Exit::Signal(31), None, Verdict::KillThread),
        ("SCMP_ACT_TRAP", None, Exit::Signal(31), None, Verdict::Trap),
    ] {
        let profile = deny(&["getppid", "getpgrp"], action, errno);
        let (got, output, denials) = same(&profile, &command);
        assert_eq!(got, exit, "{action}");
        assert!(line.is_none_or(|line| output.contains(line)), "{action}: {output}");
        assert_eq!(denials[0].verdict, verdict, "{action}");
        assert_eq!((denials[0].name.as_str(), denials[0].count), ("getppid", 1));
        assert_eq!(denials[0].explicit_enosys, errno == Some(38), "{action}");
        // After a death there is no second call.
        assert_eq!(denials.len(), if exit == Exit::Code(7) { 2 } else { 1 }, "{action}");
        assert_eq!(denials[0].remedy, r#"{"names":["getppid"],"action":"SCMP_ACT_ALLOW"}"#);
    }
}

#[test]
fn exit_status_159_is_what_a_shell_sees() {
    assert_eq!(Exit::Signal(31).code(), 159);
}

#[test]
fn a_logged_call_is_no_denial() {
    if !listener_works() {
        return;
    }
    let (_, output, report) =
        run(&deny(&["getppid"], "SCMP_ACT_LOG", None), &role("role_call", "110"), Mode::Enforce);
    assert!(output.contains(" 0\n") && !output.contains("110 -1"), "{output}");
    assert_eq!(report.denials, []);
}

#[test]
fn ordinary_programs_meet_their_denials_as_they_would() {
    if !listener_works() {
        return;
    }
    for (names, errno, script) in [
        (vec!["mkdir", "mkdirat"], 1, "mkdir /tmp/never; echo $?"),
        (vec!["newfstatat", "statx", "stat", "lstat"], 38, "ls -l /; echo $?"),
        (vec!["write", "writev"], 13, "echo never; exit 4"),
        (vec!["openat", "open"], 2, "cat /etc/passwd; echo $?"),
        (vec!["clone", "clone3", "fork", "vfork"], 11, "exec 2>/dev/null; /bin/true; exit 5"),
        (vec!["exit_group"], 1, "exit 3"),
    ] {
        let script = script.replace(';', " 2>/dev/null;");
        let (exit, _, denials) = same(&deny(&names, "SCMP_ACT_ERRNO", Some(errno)), &shell(&script));
        assert!(!denials.is_empty(), "{script}: {exit:?}");
        for denial in denials {
            assert!(names.contains(&denial.name.as_str()), "{script}: {denial:?}");
            assert_eq!(denial.verdict, Verdict::Errno(errno));
            assert_eq!(denial.abi, Abi::X86_64);
        }
    }
}

#[test]
fn complain_names_and_carries_out() {
    if !listener_works() {
        return;
    }
    let profile = all_but(json!([
        { "names": ["getppid"], "action": "SCMP_ACT_KILL_PROCESS" },
        { "names": ["getpgrp"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 },
        { "names": ["getuid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
    ]));
    let (exit, output, report) = run(&profile, &role("role_call", "110,111,102"), Mode::Complain);
    assert_eq!(exit, Exit::Code(7));
    assert!(!output.contains("110 -1") && !output.contains("111 -1"), "{output}");
    assert!(output.contains("102 -1 38"), "explicit ENOSYS stays: {output}");
    let named: Vec<_> =
        report.denials.iter().map(|denial| (denial.name.as_str(), denial.explicit_enosys)).collect();
    assert_eq!(named, [("getppid", false), ("getpgrp", false), ("getuid", true)]);
}

#[test]
fn a_refused_exec_is_a_denial_like_another() {
    if !listener_works() {
        return;
    }
    for (action, exit) in [("SCMP_ACT_ERRNO", Exit::Code(127)), ("SCMP_ACT_KILL_PROCESS", Exit::Signal(31))] {
        for mode in [Mode::Enforce, Mode::Plain] {
            let profile = deny(&["execve", "exit_group"], action, None);
            let (got, output, report) = run(&profile, &shell("echo never"), mode);
            assert_eq!(output, "", "{action} {mode:?}");
            assert_eq!(got, exit, "{action} {mode:?}");
            assert_eq!(report.denials.len(), 1, "{action} {mode:?}: {report:?}");
            assert_eq!(report.denials[0].name, "execve");
            assert!(report.remarks[0].contains("never ran"), "{:?}", report.remarks);
        }
    }
    // Complained about only, it runs.
    let profile = deny(&["execve"], "SCMP_ACT_ERRNO", None);
    let (exit, output, report) = run(&profile, &shell("echo runs"), Mode::Complain);
    assert_eq!((exit, output.as_str(), report.denials[0].name.as_str()), (Exit::Code(0), "runs\n", "execve"));
}

#[test]
fn a_command_that_cannot_be_started_is_an_error_not_a_denial() {
    if !listener_works() {
        return;
    }
    for mode in [Mode::Enforce, Mode::Plain, Mode::Complain] {
        let launch = Launch { program: "/no/such".into(), arguments: vec!["x".into()], ..Launch::default() };
        let error = start(&deny(&["getppid"], "SCMP_ACT_ERRNO", None), launch, mode).unwrap_err();
        assert!(matches!(error, HarnessError::Spawn(SpawnError::NotFound(_))), "{error:?}");
    }
}

#[test]
fn each_denial_is_put_down_to_the_process_that_asked() {
    if !listener_works() {
        return;
    }
    let script = "mkdir /tmp/never; (rmdir /tmp/never; rmdir /tmp/never); cat /dev/null; echo $$";
    let profile = deny(&["mkdir", "rmdir", "fadvise64"], "SCMP_ACT_ERRNO", None);
    let (_, output, report) = run(&profile, &shell(&script.replace(';', " 2>/dev/null;")), Mode::Enforce);
    let main: u32 = output.trim().parse().unwrap();
    let named: Vec<_> =
        report.denials.iter().map(|one| (one.name.as_str(), one.comm.as_str(), one.count)).collect();
    assert_eq!(named, [("mkdir", "mkdir", 1), ("rmdir", "rmdir", 2), ("fadvise64", "cat", 1)]);
    assert!(report.denials.iter().all(|denial| denial.pid > main), "{:?}", report.denials);
    assert!(report.denials.is_sorted_by_key(|denial| denial.after_ms));
}

#[test]
fn denials_carry_the_phase_they_fell_into() {
    if !listener_works() {
        return;
    }
    let command: Vec<_> =
        shell("rmdir /tmp/never; read x; mkdir /tmp/never").iter().map(Into::into).collect();
    let mut launch = Launch::new(&command).unwrap();
    let (read, write) = nix_pipe();
    launch.stdin = Some(read);
    let profile = deny(&["mkdir", "rmdir"], "SCMP_ACT_ERRNO", None);
    let mut confined = start(&profile, launch, Mode::Enforce).unwrap();
    thread::sleep(Duration::from_millis(300));
    confined.set_phase(PhaseName::Serving);
    drop(write);
    confined.child().wait().unwrap();
    let report = confined.finish().unwrap();
    let phases: Vec<_> = report.denials.iter().map(|one| (one.name.as_str(), one.phase)).collect();
    assert_eq!(phases, [("rmdir", PhaseName::Startup), ("mkdir", PhaseName::Serving)]);
}

#[test]
#[ignore = "a workload"]
fn role_many() {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2500 {
                    // SAFETY: takes nothing.
                    if unsafe { libc::syscall(libc::SYS_getppid) } != -1 {
                        leave(1);
                    }
                }
            });
        }
    });
    leave(0);
}

#[test]
fn ten_thousand_denials_a_second() {
    if !listener_works() {
        return;
    }
    let since = Instant::now();
    let profile = deny(&["getppid"], "SCMP_ACT_ERRNO", None);
    let (exit, _, report) = run(&profile, &role("role_many", ""), Mode::Enforce);
    assert_eq!(exit, Exit::Code(0));
    assert_eq!(report.denials.iter().map(|denial| denial.count).sum::<u64>(), 10_000);
    eprintln!("10000 denials in {:?}", since.elapsed());
    // On an idle machine a fifth of that; a loaded one must not fail.
    assert!(since.elapsed() < Duration::from_secs(20));
}

#[test]
#[ignore = "a workload"]
fn role_kill_with_threads() {
    thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(50));
                if number == 2 {
                    // SAFETY: takes nothing.
                    unsafe { libc::syscall(libc::SYS_getppid) };
                    leave(9);
                }
                thread::sleep(Duration::from_secs(100));
            });
        }
    });
}

#[test]
fn killed_processes_end_with_all_their_threads() {
    if !listener_works() {
        return;
    }
    for action in ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let profile = deny(&["getppid"], action, None);
        let (exit, _, denials) = same(&profile, &role("role_kill_with_threads", ""));
        assert_eq!((exit, denials.len()), (Exit::Signal(31), 1), "{action}");
    }
    // The stated difference: alone, the thread's end would leave the other threads running.
    let profile = deny(&["getppid"], "SCMP_ACT_KILL_THREAD", None);
    let (exit, _, _) = run(&profile, &role("role_kill_with_threads", ""), Mode::Enforce);
    assert_eq!(exit, Exit::Signal(31));
}

/// With a handler for SIGSYS: writes what the handler is told, and goes on.
#[test]
#[ignore = "a workload"]
fn role_sigsys() {
    extern "C" fn handler(signal: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel hands over a valid ucontext.
        let context = unsafe { &*context.cast::<libc::ucontext_t>() };
        println!("{signal} {}", context.uc_mcontext.gregs[libc::REG_RAX as usize]);
    }
    alone();
    // SAFETY: sigaction is plain data, the handler has SA_SIGINFO's form.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        match variable().as_str() {
            "handled" => {
                action.sa_sigaction = handler as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO;
            }
            _ => action.sa_sigaction = libc::SIG_IGN,
        }
        libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut());
        libc::syscall(libc::SYS_getppid);
    }
    leave(6);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_handler_of_sigsys_is_called_for_a_trap() {
    if !listener_works() {
        return;
    }
    let profile = deny(&["getppid"], "SCMP_ACT_TRAP", None);
    let (exit, output, _) = same(&profile, &role("role_sigsys", "handled"));
    assert_eq!(exit, Exit::Code(6));
    assert!(output.contains("31 110"), "{output}");
    // And where it is ignored, both end: by SIGSYS under the plain filter, by SIGKILL with denials named.
    for action in ["SCMP_ACT_TRAP", "SCMP_ACT_KILL_PROCESS"] {
        let profile = deny(&["getppid"], action, None);
        let ends =
            [Mode::Plain, Mode::Enforce].map(|mode| run(&profile, &role("role_sigsys", "ignored"), mode).0);
        assert_eq!(ends, [Exit::Signal(31), Exit::Signal(9)], "{action}");
    }
}

#[test]
#[ignore = "a workload"]
fn role_own_listener() {
    let allow = [0x7fff_0000_0000_0006_u64];
    #[repr(C)]
    struct Program(u16, *const u64);
    let program = Program(1, allow.as_ptr());
    // SAFETY: a valid program of one RET ALLOW.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        let listener = libc::syscall(libc::SYS_seccomp, 1, 8, &raw const program);
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        leave(if listener >= 0 { 0 } else { errno });
    }
}

#[test]
fn a_workload_that_wants_a_listener_of_its_own_is_remarked_on() {
    if !listener_works() {
        return;
    }
    let profile = deny(&["getppid"], "SCMP_ACT_ERRNO", None);
    let (exit, _, _) = run(&profile, &role("role_own_listener", ""), Mode::Plain);
    assert_eq!(exit, Exit::Code(0));
    let (exit, _, report) = run(&profile, &role("role_own_listener", ""), Mode::Enforce);
    assert_eq!((exit, report.denials.len()), (Exit::Code(libc::EBUSY), 0));
    assert!(report.remarks[0].contains("EBUSY"), "{:?}", report.remarks);
}

#[test]
#[ignore = "a workload"]
#[cfg(target_arch = "x86_64")]
fn role_compat() {
    alone();
    let mut number: i64 = 20;
    // SAFETY: i386's getpid; the kernel clobbers r8 to r11 on this way in.
    unsafe {
        std::arch::asm!("int 0x80", inout("rax") number,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    println!("{}", number < 0);
    leave(0);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_foreign_abi_is_named_with_the_architecture_it_lacks() {
    if !listener_works() {
        return;
    }
    let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" }] });
    let profile = Profile::read(profile.to_string().as_bytes()).unwrap();
    let (exit, _, denials) = same(&profile, &role("role_compat", ""));
    assert_eq!(exit, Exit::Signal(31));
    assert_eq!((denials[0].abi, denials[0].name.as_str()), (Abi::I386, "getpid"));
    assert!(denials[0].remedy.starts_with(r#"{"architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"]"#));
}

/// What containers run under lets us start commands, hand listeners over and answer them.
#[test]
fn it_works_under_the_default_profiles_of_engines() {
    if !listener_works() {
        return;
    }
    let program = env::current_exe().unwrap();
    for engine in ["docker", "podman", "containerd"] {
        let container = synth::Container::new(Abi::native_of(env::consts::ARCH).unwrap(), (6, 1));
        let profile = synth::reference(engine).unwrap().resolve(&container);
        for test in ["complain_names_and_carries_out", "killed_processes_end_with_all_their_threads"] {
            let command =
                ["env", "SECCOMP_LEARN_REQUIRE_KERNEL=1", program.to_str().unwrap(), "--exact", test];
            let (exit, output, _) = run(&profile, &command.map(str::to_owned), Mode::Plain);
            assert_eq!(exit, Exit::Code(0), "{engine} {test}: {output}");
        }
    }
}

#[tokio::test]
async fn a_whole_start_is_driven_and_judged() {
    if !listener_works() {
        return;
    }
    let profile = deny(&["mkdir"], "SCMP_ACT_ERRNO", Some(30));
    let command: Vec<_> = shell("mkdir /tmp/never 2>/dev/null; exit 3").iter().map(Into::into).collect();
    let plan = profiler::drive::Plan::default();
    let run = seccomp_learn_harness::run(&profile, Launch::new(&command).unwrap(), Mode::Enforce, &plan)
        .await
        .unwrap();
    assert_eq!(run.driven.exit, Some(Exit::Code(3)));
    assert_eq!(run.denials.len(), 1);
    assert_eq!((run.denials[0].name.as_str(), run.denials[0].verdict), ("mkdir", Verdict::Errno(30)));
}
