//! `hostile-arguments IOCTLS OTHERS`: so many distinct ioctl requests, and so many distinct values of everything else.

use seccomp_learn_tests::{
    hostile::{Hostile, IOCTL, OTHERS},
    known::HERE,
};

fn make(call: &Hostile, number: u64, memory: &mut [u64; 16]) {
    if let Some(field) = &call.field {
        memory[field.word] = (field.value)(number);
    }
    let here = memory.as_ptr() as u64;
    let [a, b, c, d, e, f] = (call.registers)(number).map(|value| if value == HERE { here } else { value });
    // SAFETY: each call of the table gets null, this memory, or numbers that the kernel refuses.
    unsafe { libc::syscall(call.number, a, b, c, d, e, f) };
}

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).map(|argument| argument.parse().unwrap()).collect();
    let [ioctls, others] = numbers[..] else { panic!("hostile-arguments IOCTLS OTHERS") };
    let mut memory = [0; 16];
    for number in 0..ioctls {
        make(&IOCTL, number, &mut memory);
    }
    for call in OTHERS {
        memory = [0; 16];
        for number in 0..others {
            make(call, number, &mut memory);
        }
    }
}
