//! `known-arguments`: makes each call of `known.rs` once, with its exact registers.

use std::{arch::asm, ffi::CStr};

use seccomp_learn_tests::known::{CALLS, HERE, I386};

/// Opens what the calls name, each at its number.
fn open_files() {
    let mut pipe = [0; 2];
    // SAFETY: every pointer is to a string or to the two numbers that `pipe` fills; nothing here frees memory.
    let opened = unsafe {
        let open = |path: &CStr| libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_NOCTTY);
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        [
            open(c"/dev/null"),
            pipe[0],
            libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0),
            libc::eventfd(0, 0),
            libc::memfd_create(c"known".as_ptr(), 0),
            open(c"/proc/self/exe"),
            open(c"/"),
            libc::epoll_create1(0),
            open(c"/dev/ptmx"),
            libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0),
        ]
    };
    for (wanted, opened) in (100..).zip(opened) {
        // SAFETY: `dup2` takes two numbers, and no file of this process has those from 100 on.
        assert_eq!(unsafe { libc::dup2(opened, wanted) }, wanted);
    }
}

fn main() {
    open_files();
    for known in CALLS {
        let here = known.memory.to_vec().leak().as_ptr() as u64;
        let [a, b, c, d, e, f] = known.registers.map(|value| if value == HERE { here } else { value });
        // SAFETY: each call of the table gets null, this leaked memory, or numbers that the kernel refuses or that
        // name nothing of this process's memory.
        unsafe { libc::syscall(known.number, a, b, c, d, e, f) };
    }
    for (_, number, [a, b, c]) in I386 {
        // SAFETY: the calls take numbers, and change nothing; `int 0x80` may clobber r8 to r11.
        unsafe {
            asm!(
                "xchg rbx, {first}",
                "int 0x80",
                "xchg rbx, {first}",
                first = inout(reg) u64::from(a) => _,
                inout("rax") u64::from(number) => _,
                in("rcx") u64::from(b),
                in("rdx") u64::from(c),
                in("rsi") 0_u64,
                in("rdi") 0_u64,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            );
        }
    }
}
