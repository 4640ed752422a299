//! `many-calls TOTAL PROCESSES THREADS`: exactly TOTAL getppid calls, made by all threads of all processes at once.

use std::{process::Command, sync::Barrier, thread};

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).map(|argument| argument.parse().unwrap()).collect();
    let [total, processes, threads] = numbers[..] else { panic!("many-calls TOTAL PROCESSES THREADS") };
    let share = |of: u64, among: u64, index: u64| of / among + u64::from(index < of % among);
    if processes > 1 {
        let own = std::env::current_exe().unwrap();
        let mut children: Vec<_> = (0..processes)
            .map(|index| {
                let part = share(total, processes, index).to_string();
                Command::new(&own).args([part, "1".to_owned(), threads.to_string()]).spawn().unwrap()
            })
            .collect();
        assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
        return;
    }
    let barrier = Barrier::new(usize::try_from(threads).unwrap());
    thread::scope(|scope| {
        for index in 0..threads {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                for _ in 0..share(total, threads, index) {
                    // SAFETY: getppid takes nothing and cannot fail; the raw call keeps libc out of the count.
                    unsafe { libc::syscall(libc::SYS_getppid) };
                }
            });
        }
    });
}
