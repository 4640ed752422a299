//! The tables stay tight: what they add to two real servers is bounded. The sets are what strace saw on Debian 12
//! (nginx 1.22.1 under wrk with one reload; redis 7.0.15 under redis-benchmark with one bgsave).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::named;
use seccomp_learn_synth::{Counts, Margin, Options, Runtime, synthesize};

const NGINX: &str = "accept4 access arch_prctl bind brk chown clock_nanosleep clone close connect dup2 epoll_create \
    epoll_ctl epoll_wait eventfd2 execve exit_group fcntl futex geteuid getpid getppid getrandom ioctl listen lseek \
    mkdir mmap mprotect munmap newfstatat openat prctl pread64 prlimit64 pwrite64 read recvfrom recvmsg rseq \
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigsuspend sendfile sendmsg set_robust_list set_tid_address setgid \
    setgroups setsockopt setuid socket socketpair sysinfo uname unlink wait4 write writev";

const REDIS: &str = "accept4 access arch_prctl bind brk chdir clone clone3 close epoll_create epoll_ctl epoll_wait \
    execve exit_group fcntl fdatasync fsync futex getcwd getpeername getpid getrandom ioctl listen lseek madvise mmap \
    mprotect munmap newfstatat open openat pipe2 prctl pread64 prlimit64 read readlink rename rseq rt_sigaction \
    rt_sigprocmask sched_getaffinity set_robust_list set_tid_address setitimer setsockopt socket sysinfo umask wait4 \
    write";

fn counts(names: &str, margin: Margin, runtime: Runtime) -> Counts {
    let synthesis = synthesize(&named(names), &Options { margin, runtime, ..Options::default() }).unwrap();
    synthesis.evidence.counts
}

#[test]
fn nginx_and_redis_stay_below_what_static_analysis_allows() {
    let observed = |names: &str| names.split_whitespace().count();
    for (names, portable) in [(NGINX, 104), (REDIS, 85)] {
        let tight = counts(names, Margin::None, Runtime::Auto);
        assert!(tight.allowed_without_runtime <= observed(names) + 4, "{tight:?}");
        let wide = counts(names, Margin::Portable, Runtime::Auto);
        assert!(wide.allowed_without_runtime < portable, "{wide:?}");

        // The runtime's own are counted apart: without them the profile is as wide as one without a runtime.
        let bare = counts(names, Margin::Portable, Runtime::None);
        assert_eq!(bare.allowed, wide.allowed_without_runtime);
    }
}
