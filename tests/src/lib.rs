//! What the end-to-end tests share: the binary under test, programs that nobody here wrote, cgroups, strace.
//!
//! These tests use the real thing or say why they cannot: a test that finds something missing prints the reason
//! and passes, unless `SECCOMP_LEARN_REQUIRE_KERNEL` is set; then it fails.

pub mod browser;
pub mod cgroup;
pub mod cli;
pub mod engines;
pub mod full;
pub mod hostile;
pub mod inference;
pub mod known;
pub mod learned;
pub mod made;
pub mod measured;
pub mod page;
pub mod programs;
pub mod strace;
pub mod tuples;

use std::path::PathBuf;

/// Prints why a test cannot run here; fails it when the kernel ring was asked for.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("SECCOMP_LEARN_REQUIRE_KERNEL").is_none(), "required, but cannot run: {reason}");
    eprintln!("skipped: {reason}");
}

/// Whether this is root with BPF and a cgroup v2 mount.
pub fn has_kernel_ring() -> Result<(), String> {
    // SAFETY: geteuid takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Err("needs root".to_owned());
    }
    if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err("needs /sys/kernel/btf/vmlinux".to_owned());
    }
    cgroup::mount_point().map(drop).ok_or_else(|| "needs a cgroup v2 mount".to_owned())
}

/// The folder for what tests download or build once, inside the checkout's target.
pub fn cache() -> PathBuf {
    let folder = cli::target_directory().join("e2e");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Returns early with a printed reason where the kernel ring or one of these executables is missing.
#[macro_export]
macro_rules! require {
    ($($executable:expr),* $(,)?) => {
        if let Err(reason) = $crate::has_kernel_ring() {
            return $crate::skip(&reason);
        }
        $(if $crate::programs::which($executable).is_none() {
            return $crate::skip(&format!("needs `{}`", $executable));
        })*
    };
}
