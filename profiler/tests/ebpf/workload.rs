//! The parts that children of the tests play. Each call that a test counts is made by its number, with nothing of
//! the standard library in between.

use std::{
    env, fs,
    path::PathBuf,
    ptr,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use crate::support::{CGROUP, PART};

/// How many calls [`count`] makes, over all its threads.
pub(crate) const TOTAL: u32 = 1_000_003;
const PROCESSES: u32 = 4;
const THREADS: u32 = 8;

#[test]
#[ignore = "a workload"]
fn part() {
    let Ok(part) = env::var(PART) else { return };
    match part.as_str() {
        "count" => count(),
        "nested" => nested(),
        "compat" => compat(),
        "refused" => refused(),
        "refused-arguments" => refused_arguments(),
        "arguments" => arguments(),
        "registers" => crate::known::registers(),
        "descriptors" => crate::known::descriptors(),
        "together" => crate::known::together(),
        "wide" => crate::known::wide(),
        "opens" | "many-opens" => crate::known::opens(),
        "refused-wide" => crate::known::refused(),
        "already-refused" => already_refused(),
        "many-errors" => many_errors(),
        "many-numbers" => many_numbers(),
        "odd-numbers" => odd_numbers(),
        "sleep" => sleep(),
        "signals" => signals(),
        "execveat" => execveat(),
        "children" => children(),
        "family" => family(),
        "phases" => phases(),
        "record" => crate::errors::record_until_killed(),
        other => panic!("no part `{other}`"),
    }
}

pub(crate) fn call(number: libc::c_long) -> libc::c_long {
    // SAFETY: every call made through here takes no arguments, or ignores them.
    unsafe { libc::syscall(number) }
}

fn getppid(times: u32) {
    for _ in 0..times {
        call(libc::SYS_getppid);
    }
}

pub(crate) fn report(word: &str) {
    let line = format!("{word}\n");
    // SAFETY: the buffer is as long as said.
    unsafe { libc::write(2, line.as_ptr().cast(), line.len()) };
}

fn wait() {
    let mut byte = 0u8;
    // SAFETY: one byte is read into one byte.
    let read = unsafe { libc::read(0, (&raw mut byte).cast(), 1) };
    assert_eq!(read, 1);
}

pub(crate) fn gate() {
    report("ready");
    wait();
}

/// A child process that runs `body` and ends.
pub(crate) fn fork(body: impl FnOnce()) -> i32 {
    // SAFETY: glibc makes its allocator usable in the child.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        body();
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
    pid
}

pub(crate) fn reap(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: the status outlives the call.
    let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(reaped, pid);
    status
}

/// [`TOTAL`] calls by 8 threads of each of 4 processes, which all begin at the same time.
fn count() {
    gate();
    // SAFETY: a fresh page that is shared with the children.
    let page = unsafe {
        libc::mmap(
            ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(page, libc::MAP_FAILED);
    // SAFETY: aligned, zeroed, mapped until the process ends.
    let arrived: &'static AtomicU32 = unsafe { &*page.cast() };
    let process = move |index: u32| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let all = PROCESSES * THREADS;
                let rest = if index == 0 && thread == 0 { TOTAL % all } else { 0 };
                thread::spawn(move || {
                    arrived.fetch_add(1, Ordering::SeqCst);
                    while arrived.load(Ordering::SeqCst) < all {
                        thread::yield_now();
                    }
                    getppid(TOTAL / all + rest);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    };
    let children: Vec<i32> = (1..PROCESSES).map(|index| fork(|| process(index))).collect();
    process(0);
    for child in children {
        assert_eq!(reap(child), 0);
    }
}

/// Makes cgroups below its own, goes into the lowest, and counts there; then into one that is not its own.
fn nested() {
    gate();
    let own = PathBuf::from(env::var_os(CGROUP).unwrap());
    let lowest = own.join("one/two");
    fs::create_dir_all(&lowest).unwrap();
    fs::write(lowest.join("cgroup.procs"), "0").unwrap();
    getppid(1000);
    let child = fork(|| getppid(10));
    assert_eq!(reap(child), 0);
    fs::write(own.join("cgroup.procs"), "0").unwrap();
    fs::remove_dir(&lowest).unwrap();
    getppid(1);
    // Out of the recording, and back again.
    let outside = own.with_file_name(format!("{}-outside", own.file_name().unwrap().to_str().unwrap()));
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("cgroup.procs"), "0").unwrap();
    getppid(100_000);
    fs::write(own.join("cgroup.procs"), "0").unwrap();
    fs::remove_dir(&outside).unwrap();
}

/// 32-bit calls: from 64-bit code, and from a 32-bit program.
fn compat() {
    gate();
    #[cfg(target_arch = "x86_64")]
    {
        for _ in 0..7 {
            let result: i64;
            // SAFETY: i386's getppid, which takes nothing; the entry clears r8 to r11.
            unsafe {
                std::arch::asm!(
                    "int 0x80",
                    inlateout("rax") 64i64 => result,
                    out("r8") _, out("r9") _, out("r10") _, out("r11") _,
                );
            }
            assert!(result > 0, "{result}");
        }
        let program = env::temp_dir().join(format!("seccomp-learn-i386-{}", std::process::id()));
        fs::write(&program, i386_program()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&program, mode).unwrap();
        let path = std::ffi::CString::new(program.to_str().unwrap()).unwrap();
        let child = fork(|| {
            let arguments = [path.as_ptr(), ptr::null()];
            // SAFETY: both arrays end with a null pointer.
            unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), [ptr::null()].as_ptr()) };
        });
        let status = reap(child);
        fs::remove_file(&program).unwrap();
        assert_eq!(status, 5 << 8);
    }
}

/// A static i386 program: getppid three times, getuid32 once, then exit(5).
#[cfg(target_arch = "x86_64")]
fn i386_program() -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    const HEAD: u32 = 52 + 32;
    let mut code = Vec::new();
    for number in [64, 64, 64, 199] {
        code.push(0xb8); // mov eax, number
        code.extend(u32::to_le_bytes(number));
        code.extend([0xcd, 0x80]); // int 0x80
    }
    code.extend([0xbb, 5, 0, 0, 0]); // mov ebx, 5
    code.extend([0xb8, 1, 0, 0, 0, 0xcd, 0x80]); // mov eax, 1; int 0x80
    let size = HEAD + u32::try_from(code.len()).unwrap();
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2, 0, 3, 0]); // ET_EXEC, EM_386
    for word in [1, BASE + HEAD, 52, 0, 0] {
        file.extend(u32::to_le_bytes(word));
    }
    for half in [52u16, 32, 1, 40, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    for word in [1, 0, BASE, BASE, size, size, 5, 4096] {
        file.extend(u32::to_le_bytes(word)); // PT_LOAD, readable and executable
    }
    file.extend(code);
    file
}

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const TRAP: u32 = 0x0003_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
/// Returns the accumulator instead of a constant: the answer is the call's first argument.
const ANSWER_IS_ARGUMENT: u32 = u32::MAX;

/// Installs a filter that gives these answers, and allows the rest.
fn filter(answers: &[(libc::c_long, u32)]) {
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let mut program = vec![statement(0x20, 0)];
    for (number, answer) in answers {
        let body = if *answer == ANSWER_IS_ARGUMENT {
            // The low half of the first argument, with ERRNO above it.
            vec![statement(0x20, 16), statement(0x44, ERRNO), statement(0x16, 0)]
        } else {
            vec![statement(0x06, *answer)]
        };
        let number = u32::try_from(*number).unwrap();
        program.push(libc::sock_filter {
            code: 0x15,
            jt: 0,
            jf: u8::try_from(body.len()).unwrap(),
            k: number,
        });
        program.extend(body);
    }
    program.push(statement(0x06, ALLOW));
    let program =
        libc::sock_fprog { len: u16::try_from(program.len()).unwrap(), filter: program.as_mut_ptr() };
    // SAFETY: the program outlives the call; SECCOMP_SET_MODE_FILTER is 1.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::syscall(libc::SYS_seccomp, 1, 0, &raw const program), 0);
    }
}

/// Installs a filter that refuses one call.
pub(crate) fn refuse_getppid() {
    filter(&[(libc::SYS_getppid, ERRNO | 1)]);
}

extern "C" fn ignore(_: i32) {}

fn handle(signal: i32) {
    let handler: extern "C" fn(i32) = ignore;
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(signal, handler as libc::sighandler_t) };
}

/// Every kind of refusal by a filter of its own, and what must not be taken for one: returns of fork in children.
fn refused() {
    gate();
    handle(libc::SIGSYS);
    filter(&[
        (libc::SYS_getppid, ERRNO | 1),
        (libc::SYS_getuid, ERRNO),
        (libc::SYS_getgid, TRAP),
        (libc::SYS_geteuid, KILL_PROCESS),
        (libc::SYS_getegid, KILL_THREAD),
        (libc::SYS_getpgid, ERRNO | 38),
    ]);
    for _ in 0..5 {
        assert_eq!(call(libc::SYS_getppid), -1);
    }
    for _ in 0..3 {
        assert_eq!(call(libc::SYS_getuid), 0);
    }
    for _ in 0..2 {
        call(libc::SYS_getgid);
    }
    for _ in 0..20 {
        let child = fork(|| {
            call(libc::SYS_getpgid);
        });
        assert_eq!(reap(child), 0);
    }
    let killed = |number: libc::c_long| {
        reap(fork(|| {
            call(number);
        })) & 0x7f
    };
    assert_eq!(killed(libc::SYS_geteuid), libc::SIGSYS);
    // The only thread of its process: the whole process dies, by a signal.
    assert_eq!(killed(libc::SYS_getegid), libc::SIGSYS);
    // One thread of two: no exit of the call, and the other goes on.
    let child = fork(|| {
        thread::spawn(|| call(libc::SYS_getegid));
        while fs::read_dir("/proc/self/task").unwrap().count() > 1 {
            thread::yield_now();
        }
    });
    assert_eq!(reap(child), 0);
    // A death by the same signal that no filter sent.
    let child = fork(|| {
        // SAFETY: ends the process.
        unsafe {
            libc::signal(libc::SIGSYS, libc::SIG_DFL);
            libc::raise(libc::SIGSYS);
        }
    });
    assert_eq!(reap(child) & 0x7f, libc::SIGSYS);
}

/// Refused calls with arguments: of 64-bit code, and of 32-bit code.
fn refused_arguments() {
    gate();
    handle(libc::SIGSYS);
    filter(&[
        (libc::SYS_getppid, ERRNO | 1),
        (libc::SYS_getuid, ERRNO),
        (libc::SYS_getgid, TRAP),
        // 132 is i386's getpgid; the filter does not look at the ABI.
        (132, ERRNO | 1),
    ]);
    for (number, times) in [(libc::SYS_getppid, 5), (libc::SYS_getuid, 3), (libc::SYS_getgid, 2)] {
        for _ in 0..times {
            // SAFETY: the filter answers.
            unsafe { libc::syscall(number, 0x1111_2222_3333_4444u64, 2, 3, 4, 5, 6) };
        }
    }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: i386's getpgid, which the filter answers; rbx and rbp are put back.
    unsafe {
        std::arch::asm!(
            "push rbx", "push rbp", "mov ebx, 11", "mov ebp, 16", "int 0x80", "pop rbp", "pop rbx",
            inlateout("rax") 132i64 => _,
            in("rcx") 12, in("rdx") 13, in("rsi") 14, in("rdi") 15,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
}

/// Calls whose arguments are alike but for some bits, and calls of which each has others.
fn arguments() {
    gate();
    for index in 0..30u64 {
        // SAFETY: the kernel does not look at the arguments.
        unsafe { libc::syscall(libc::SYS_getppid, index << 8 | 2, index, 7u64) };
    }
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_getppid, 3u64, 1u64, 7u64) };
    for index in 0..300u64 {
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_getuid, index << 40) };
    }
}

/// Like a container under a default profile: the filter is on before anybody records.
fn already_refused() {
    filter(&[(libc::SYS_getppid, ERRNO | 1)]);
    gate();
    for _ in 0..4 {
        call(libc::SYS_getppid);
    }
    let child = fork(|| {
        call(libc::SYS_getppid);
    });
    assert_eq!(reap(child), 0);
}

/// How many distinct answers [`many_errors`] gets for each of its calls.
pub(crate) const ERRORS: u32 = 4095;
/// The calls of [`many_errors`].
pub(crate) const ERROR_CALLS: [libc::c_long; 3] = [libc::SYS_getppid, libc::SYS_getuid, libc::SYS_getgid];

fn many_errors() {
    gate();
    filter(&ERROR_CALLS.map(|number| (number, ANSWER_IS_ARGUMENT)));
    for number in ERROR_CALLS {
        for errno in 1..=ERRORS {
            // SAFETY: the filter answers; the kernel never sees the argument.
            unsafe { libc::syscall(number, errno) };
        }
    }
}

/// How many numbers that no table has [`many_numbers`] tries, each twice.
pub(crate) const NUMBERS: u32 = 1500;

fn many_numbers() {
    gate();
    for number in 0..NUMBERS {
        for _ in 0..2 {
            assert_eq!(call(libc::c_long::from(10_000 + number)), -1);
        }
    }
}

/// Numbers that mean something else than they look like: x32's, and -1, with which tracers skip calls.
fn odd_numbers() {
    gate();
    for _ in 0..3 {
        call(0x4000_0000 + libc::SYS_getppid);
        call(-1);
    }
}

/// Is inside a call when the recording ends.
fn sleep() {
    gate();
    report("sleeping");
    loop {
        // SAFETY: waits for a signal.
        unsafe { libc::pause() };
    }
}

/// Returns from signal handlers, which "return" what the interrupted call returned: each time, a call is
/// interrupted by a signal that it lets through.
fn signals() {
    gate();
    handle(libc::SIGALRM);
    let (blocked, none): (u64, u64) = (1 << (libc::SIGALRM - 1), 0);
    // SAFETY: the kernel's signal sets are 8 bytes, and outlive the calls.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const blocked, 0, 8);
        for _ in 0..10 {
            libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), libc::SIGALRM);
            libc::syscall(libc::SYS_rt_sigsuspend, &raw const none, 8);
        }
    }
}

/// `execveat` leaves the kernel as `execve`.
fn execveat() {
    gate();
    let path = c"/bin/true";
    let arguments = [path.as_ptr(), ptr::null()];
    // SAFETY: both arrays end with a null pointer.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            libc::AT_FDCWD,
            path.as_ptr(),
            arguments.as_ptr(),
            [ptr::null::<libc::c_char>()].as_ptr(),
            0,
        )
    };
}

/// Children by every way there is; each makes three calls.
fn children() {
    gate();
    let flags = u64::try_from(libc::SIGCHLD).unwrap();
    for _ in 0..5 {
        assert_eq!(reap(fork(|| getppid(3))), 0);
        // `struct clone_args` of the first version: flags, pidfd, child_tid, parent_tid, exit_signal, …
        let arguments: [u64; 8] = [0, 0, 0, 0, flags, 0, 0, 0];
        // SAFETY: without CLONE_VM the child has its own copy of everything.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) };
        assert!(pid >= 0);
        if pid == 0 {
            getppid(3);
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) };
        }
        assert_eq!(reap(i32::try_from(pid).unwrap()), 0);
        vfork();
    }
}

#[cfg(target_arch = "x86_64")]
fn vfork() {
    let pid: i64;
    // The child shares the stack, so it must not return from anything: all it does is in here. rbx would do for
    // the loop but belongs to the compiler.
    // SAFETY: the child changes registers only, and ends; r12 is declared.
    unsafe {
        std::arch::asm!(
            "mov eax, 58", "syscall",
            "test eax, eax", "jnz 3f",
            "mov r12d, 3",
            "2:", "mov eax, 110", "syscall", "dec r12d", "jnz 2b",
            "mov eax, 60", "xor edi, edi", "syscall",
            "3:",
            out("rax") pid, out("rcx") _, out("r11") _, out("r12") _, out("rdi") _,
        );
    }
    assert_eq!(reap(i32::try_from(pid).unwrap()), 0);
}

#[cfg(not(target_arch = "x86_64"))]
fn vfork() {
    assert_eq!(reap(fork(|| getppid(3))), 0);
}

/// Threads, a child and a grandchild that are there before the recording, and more of them later; every one of
/// them makes calls only after the gate.
fn family() {
    let (read, write) = pipe();
    let line = move || {
        let mut byte = 0u8;
        // SAFETY: one byte is read into one byte; the end of the pipe is the sign to go.
        unsafe { libc::read(read, (&raw mut byte).cast(), 1) };
    };
    let child = fork(|| {
        // SAFETY: our own copy of the end that must be closed for the line to go.
        unsafe { libc::close(write) };
        let grandchild = fork(|| {
            line();
            getppid(100);
        });
        let thread = thread::spawn(move || {
            line();
            getppid(1000);
        });
        line();
        thread.join().unwrap();
        assert_eq!(reap(grandchild), 0);
        assert_eq!(reap(fork(|| getppid(10_000))), 0);
    });
    let thread = thread::spawn(move || {
        line();
        getppid(100_000);
    });
    gate();
    // SAFETY: the end that nobody else has.
    unsafe { libc::close(write) };
    getppid(10);
    thread.join().unwrap();
    assert_eq!(reap(child), 0);
    thread::spawn(|| getppid(1)).join().unwrap();
}

/// What [`family`] makes in all.
pub(crate) const FAMILY_TOTAL: u64 = 111_111;

fn pipe() -> (i32, i32) {
    let mut ends = [0; 2];
    // SAFETY: the array has room for two.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    (ends[0], ends[1])
}

/// A call of its own in each phase, and one in all.
fn phases() {
    gate();
    for own in [libc::SYS_getuid, libc::SYS_getgid, libc::SYS_geteuid] {
        call(own);
        call(libc::SYS_getppid);
        report("next");
        wait();
    }
}
