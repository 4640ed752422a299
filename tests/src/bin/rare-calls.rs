//! `rare-calls SECONDS…`: a different rare call at each of these seconds after its start, then the end.

use std::time::{Duration, Instant};

/// Calls that nothing else in this process makes, in order.
const MARKERS: [libc::c_long; 6] = [
    libc::SYS_getpriority,
    libc::SYS_sched_get_priority_max,
    libc::SYS_getsid,
    libc::SYS_getpgid,
    libc::SYS_times,
    libc::SYS_sched_getscheduler,
];

fn main() {
    let start = Instant::now();
    for (second, marker) in std::env::args().skip(1).zip(MARKERS) {
        let at = Duration::from_secs_f64(second.parse().unwrap());
        std::thread::sleep(at.saturating_sub(start.elapsed()));
        // SAFETY: each of these takes small integers; `times` accepts a null pointer.
        unsafe { libc::syscall(marker, 0, 0) };
    }
}
