//! `answers NUMBER…`: makes each system call with arguments that are none, and prints the errno, 0 for success.
//!
//! Without the standard library's start, which ends a program whose `poll` is refused.
#![no_main]

#[unsafe(no_mangle)]
extern "C" fn main() -> libc::c_int {
    for number in std::env::args().skip(1).map(|argument| argument.parse::<i64>().unwrap()) {
        // SAFETY: whoever starts this names calls that harm nobody without arguments.
        let answer = unsafe { libc::syscall(number, 0, 0, 0, 0, 0, 0) };
        let errno = if answer < 0 { std::io::Error::last_os_error().raw_os_error().unwrap() } else { 0 };
        println!("{number} {errno}");
    }
    0
}
