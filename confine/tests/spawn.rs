//! Starting commands: the gate, exec failures by name, signals, filters without a listener.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "clippy.toml's exceptions reach test functions, not their helpers"
)]

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Read as _,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use seccomp_learn_confine::{Exit, Filter, Instruction, Launch, Signal, SpawnError, spawn};

fn launch(command: &[&str]) -> Launch {
    let command: Vec<OsString> = command.iter().map(OsString::from).collect();
    Launch::new(&command).unwrap()
}

/// `arch` and x32 do not matter to these tests: if the number matches, this answer, else ALLOW.
fn deny(numbers: &[i64], answer: u32) -> Vec<Instruction> {
    let statement = |code, k| Instruction { code, jt: 0, jf: 0, k };
    let mut program = vec![statement(0x20, 0)];
    for number in numbers {
        program.push(Instruction { code: 0x15, jt: 0, jf: 1, k: u32::try_from(*number).unwrap() });
        program.push(statement(0x06, answer));
    }
    program.push(statement(0x06, 0x7fff_0000));
    program
}

const ERRNO_EPERM: u32 = 0x0005_0001;
const KILL_PROCESS: u32 = 0x8000_0000;

/// Runs to the end; the outcome of wait_exec and of the process.
fn run(launch: Launch) -> (Result<(), SpawnError>, Exit) {
    let (mut child, listener) = spawn(launch).unwrap().release().unwrap();
    assert!(listener.is_none());
    let started = child.wait_exec();
    (started, child.wait().unwrap())
}

fn output(mut launch: Launch) -> String {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    launch.stdout = Some(write);
    let (started, exit) = run(launch);
    started.unwrap();
    assert_eq!(exit, Exit::Code(0));
    let mut text = String::new();
    File::from(read).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn runs_and_tells_how_it_ended() {
    for (script, exit) in [
        ("exit 0", Exit::Code(0)),
        ("exit 7", Exit::Code(7)),
        ("kill -9 $$", Exit::Signal(9)),
        ("kill -TERM $$", Exit::Signal(15)),
    ] {
        let (started, ended) = run(launch(&["sh", "-c", script]));
        started.unwrap();
        assert_eq!(ended, exit, "{script}");
    }
    assert_eq!(Exit::Signal(31).code(), 159);
}

#[test]
fn each_failure_of_exec_has_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path
    };
    let as_program = |path| Launch { program: path, arguments: vec!["x".into()], ..Launch::default() };

    let (error, exit) = run(as_program(folder.path().join("none")));
    assert!(matches!(error, Err(SpawnError::NotFound(_))), "{error:?}");
    assert_eq!(exit, Exit::Code(127));
    let (error, _) = run(as_program(file("plain", "x", 0o644)));
    assert!(matches!(error, Err(SpawnError::NotExecutable(_))), "{error:?}");
    let (error, _) = run(as_program(file("garbage", "\u{1}\u{2}", 0o755)));
    assert!(matches!(error, Err(SpawnError::NotAProgram(_))), "{error:?}");
    // The interpreter is missing, not the file: that must not read as `command not found`.
    let (error, _) = run(as_program(file("script", "#!/no/such/interpreter\n", 0o755)));
    assert!(matches!(error, Err(SpawnError::Exec { .. })), "{error:?}");

    let nul = Launch { arguments: vec!["a\0b".into()], ..launch(&["true"]) };
    assert!(matches!(spawn(nul), Err(SpawnError::NulByte(_))));
}

#[test]
fn the_gate_holds_until_it_is_released() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let gated = spawn(launch(&["touch", mark.to_str().unwrap()])).unwrap();
    // Asleep at the gate, so that a recorder armed now sees nothing of the way there.
    let stat = fs::read_to_string(format!("/proc/{}/stat", gated.pid())).unwrap();
    assert!(stat.contains(") S "), "{stat}");
    std::thread::sleep(Duration::from_millis(50));
    assert!(!mark.exists());
    let (mut child, _) = gated.release().unwrap();
    child.wait_exec().unwrap();
    assert_eq!(child.wait().unwrap(), Exit::Code(0));
    assert!(mark.exists());
}

#[test]
fn dropped_at_the_gate_it_ends() {
    let gated = spawn(launch(&["sleep", "1000"])).unwrap();
    let pid = gated.pid();
    drop(gated);
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
}

#[test]
fn killed_at_the_gate_it_is_an_error() {
    let gated = spawn(launch(&["sleep", "1000"])).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(gated.pid()).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    match gated.release() {
        Err(SpawnError::EndedBeforeExec { exit, .. }) => assert_eq!(exit, Exit::Signal(9)),
        other => panic!("{other:?}"),
    }
}

#[test]
#[ignore = "a workload"]
fn role_gate_then_wait() {
    let gated = spawn(launch(&["sleep", "1000"])).unwrap();
    println!("pid={}", gated.pid());
    std::thread::sleep(Duration::from_secs(1000));
}

#[test]
fn the_death_of_the_parent_ends_a_gated_child() {
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "role_gate_then_wait", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(parent.stdout.take().unwrap());
    let pid = std::io::BufRead::lines(lines)
        .find_map(|line| Some(line.unwrap().split_once("pid=")?.1.to_owned()))
        .unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    let since = Instant::now();
    // Gone, or a zombie that the new parent has not reaped yet.
    while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(since.elapsed() < Duration::from_secs(10), "{pid} lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn standard_descriptors_are_connected_and_nothing_else_leaks() {
    // The same as a child of the standard library has: what this process was given itself is passed on.
    let list = "ls /proc/self/fd | tr '\\n' ' '";
    let other = Command::new("sh").args(["-c", list]).stdin(Stdio::null()).output().unwrap();
    let other = String::from_utf8(other.stdout).unwrap();
    let mut echo = launch(&["sh", "-c", &format!("cat; {list}")]);
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    nix::unistd::write(&write, b"hello ").unwrap();
    drop(write);
    echo.stdin = Some(read);
    assert_eq!(output(echo), format!("hello {other}"));
}

#[test]
fn signals_are_as_a_program_expects_them() {
    // Rust's runtime ignores SIGPIPE, and a test may run with signals blocked: neither reaches the program.
    let text = output(launch(&["grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status"]));
    for line in text.lines() {
        let (name, mask) = line.split_once(":\t").unwrap();
        let mask = u64::from_str_radix(mask, 16).unwrap();
        assert_eq!(mask & (1 << (Signal::SIGPIPE as i32 - 1)), 0, "{name}");
        assert!(name != "SigBlk" || mask == 0, "{name}");
    }
}

#[test]
fn an_enforced_filter_is_on_from_exec() {
    let Launch { program, arguments, .. } = launch(&["sh", "-c", "mkdir /tmp/never 2>&1; exit 3"]);
    let filter = Filter::Enforce(deny(&[libc::SYS_mkdirat, 83], ERRNO_EPERM));
    let (started, exit) = run(Launch { program, arguments, filter, ..Launch::default() });
    started.unwrap();
    assert_eq!(exit, Exit::Code(3));
    assert!(!fs::exists("/tmp/never").unwrap());
}

#[test]
fn a_filter_that_refuses_exec_or_even_exit_hangs_nothing() {
    let under = |filter| Launch { filter: Filter::Enforce(filter), ..launch(&["true"]) };
    let (error, exit) = run(under(deny(&[libc::SYS_execve], ERRNO_EPERM)));
    assert!(matches!(error, Err(SpawnError::Exec { .. })), "{error:?}");
    assert_eq!(exit, Exit::Code(127));

    let (error, exit) = run(under(deny(&[libc::SYS_execve], KILL_PROCESS)));
    assert!(matches!(error, Err(SpawnError::EndedBeforeExec { .. })), "{error:?}");
    assert_eq!(exit, Exit::Signal(31));

    let all = [libc::SYS_execve, libc::SYS_exit_group, libc::SYS_exit];
    let (error, exit) = run(under(deny(&all, ERRNO_EPERM)));
    assert!(matches!(error, Err(SpawnError::Exec { .. })), "{error:?}");
    assert_eq!(exit, Exit::Signal(libc::SIGILL));
}

#[test]
fn a_program_the_kernel_does_not_take_is_named() {
    let too_long = vec![Instruction { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 }; 4097];
    for filter in [too_long, vec![Instruction { code: 0xffff, jt: 0, jf: 0, k: 0 }]] {
        let (error, _) = run(Launch { filter: Filter::Enforce(filter), ..launch(&["true"]) });
        assert!(matches!(error, Err(SpawnError::Filter(_))), "{error:?}");
    }
}

#[test]
fn signals_go_through_the_pidfd() {
    let (mut child, _) = spawn(launch(&["sleep", "1000"])).unwrap().release().unwrap();
    child.wait_exec().unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    child.signal(Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap(), Exit::Signal(15));
    assert_eq!(child.try_wait().unwrap(), Some(Exit::Signal(15)));
    assert!(child.signal(Signal::SIGTERM).is_err());
}

#[test]
fn many_at_once_from_many_threads() {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let gated = spawn(launch(&["true"])).unwrap();
                    let (mut child, _) = gated.release().unwrap();
                    child.wait_exec().unwrap();
                    assert_eq!(child.wait().unwrap(), Exit::Code(0));
                }
            });
        }
    });
}

#[test]
fn a_closed_descriptor_for_the_cgroup_is_a_named_step() {
    let not_a_cgroup: OwnedFd = File::open("/dev/null").unwrap().into();
    let error = spawn(Launch { cgroup: Some(not_a_cgroup), ..launch(&["true"]) }).unwrap_err();
    assert_eq!(error.to_string(), "cannot start a process: entering the cgroup");
}
