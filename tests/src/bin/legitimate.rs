//! `legitimate [ANSWERS]`: uses mmap, socket, clone, ioctl, setsockopt and prctl as programs do. With a file it then
//! tries what attackers do with them, and adds a line `NAME ERRNO` for each attempt, 0 where it succeeded.

use std::{
    fmt::Write as _,
    io::{Read, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
    time::Duration,
};

use libc::c_long;

/// What programs do; anything refused is a panic.
fn work() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        let mut client = TcpStream::connect(address).unwrap();
        client.set_nodelay(true).unwrap();
        client.write_all(b"hello").unwrap();
        // Long enough that whoever joins this thread has to wait for it.
        std::thread::sleep(Duration::from_millis(100));
        client
    });
    let (mut server, _) = listener.accept().unwrap();
    let client = client.join().unwrap();
    server.set_nonblocking(false).unwrap();
    server.read_exact(&mut [0; 3]).unwrap();
    let mut waiting = 0;
    // SAFETY: `waiting` is the number that FIONREAD fills; the name is a string; the mapping is not used.
    unsafe {
        assert_eq!(libc::ioctl(server.as_raw_fd(), libc::FIONREAD, &mut waiting), 0);
        assert_eq!(libc::prctl(libc::PR_SET_NAME, c"legitimate".as_ptr()), 0);
        let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        assert_ne!(libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, shared, -1, 0), libc::MAP_FAILED);
    }
    assert_eq!(waiting, 2);
    assert!(std::process::Command::new("/bin/true").status().unwrap().success());
    client
}

/// A call and its error number.
fn attempt(number: c_long, arguments: [u64; 6]) -> i32 {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the callers pass numbers, and pointers to what lives as long as the call.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 { std::io::Error::last_os_error().raw_os_error().unwrap() } else { 0 }
}

fn attack(tcp: &TcpStream) -> String {
    let mut answers = String::new();
    let mut add = |name: &str, error: i32| writeln!(answers, "{name} {error}").unwrap();
    let (none, upper) = (u64::MAX, 0xffff_ffff_0000_0000);
    let key = c"x".as_ptr() as u64;
    let ulp = c"no-such-ulp".as_ptr() as u64;
    let null = std::fs::File::open("/dev/null").unwrap();
    let (tcp, null) = (tcp.as_raw_fd() as u64, null.as_raw_fd() as u64);
    add("mmap", attempt(libc::SYS_mmap, [0, 4096, 6, 0x22, none, 0]));
    add("mmap-all", attempt(libc::SYS_mmap, [0, 4096, 7, 0x22, none, 0]));
    add("mprotect", attempt(libc::SYS_mprotect, [0, 0, 6, 0, 0, 0]));
    add("socket", attempt(libc::SYS_socket, [17, 3, 0x300, 0, 0, 0]));
    add("socket-upper", attempt(libc::SYS_socket, [upper | 17, 3, 0x300, 0, 0, 0]));
    add("ioctl", attempt(libc::SYS_ioctl, [null, 0x5412, key, 0, 0, 0]));
    add("ioctl-upper", attempt(libc::SYS_ioctl, [null, upper | 0x5412, key, 0, 0, 0]));
    add("setsockopt", attempt(libc::SYS_setsockopt, [tcp, 6, 31, ulp, 11, 0]));
    add("prctl", attempt(libc::SYS_prctl, [4, 1, 0, 0, 0, 0]));
    add("clone3", attempt(libc::SYS_clone3, [0, 0, 0, 0, 0, 0]));
    // SAFETY: without CLONE_VM the child has its own copy of everything, and ends at once.
    let child = unsafe { libc::syscall(libc::SYS_clone, 0x1000_0000 | libc::SIGCHLD, 0, 0, 0, 0) };
    match child {
        // SAFETY: the child of a fork may always end.
        0 => unsafe { libc::_exit(0) },
        -1 => add("clone", std::io::Error::last_os_error().raw_os_error().unwrap()),
        child => {
            // SAFETY: a null status is allowed.
            unsafe { libc::waitpid(child as i32, std::ptr::null_mut(), 0) };
            add("clone", 0);
        }
    }
    answers
}

fn main() {
    let tcp = work();
    if let Some(path) = std::env::args().nth(1) {
        let answers = attack(&tcp);
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(answers.as_bytes()).unwrap();
    }
}
