//! Cgroups of version 2: where they are mounted, the one we make for a command, and what is in one.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::sys::signal::Signal;

/// Beginning of the name of every cgroup we make; the process id of its maker follows.
const PREFIX: &str = "seccomp-learn.";

/// A cgroup that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup2 file system is mounted.
    #[error(
        "no cgroup v2 file system is mounted; mount one: `mount -t cgroup2 none /sys/fs/cgroup/unified`, or use `--backend notify`"
    )]
    NoMount,
    /// The named directory is no cgroup of version 2.
    #[error("no such cgroup `{0}`; give its directory, or its path below the cgroup v2 mount")]
    NotFound(PathBuf),
    /// The kernel refused.
    #[error("cannot {action} cgroup `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which cgroup.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The first mount point of a cgroup2 file system.
///
/// # Errors
/// [`CgroupError::NoMount`] where there is none.
pub fn mount_point() -> Result<PathBuf, CgroupError> {
    // proc_pid_mountinfo(5): the mount point is field 5, the type the first after the separator.
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .find_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            right.starts_with("cgroup2 ").then(|| left.split(' ').nth(4).map(|path| unescape(path).into()))?
        })
        .ok_or(CgroupError::NoMount)
}

/// Mountinfo writes space, tab, newline and backslash as octal escapes.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Finds the cgroup that a user named by its directory or by its path below the mount.
///
/// # Errors
/// See [`CgroupError`].
pub fn find(name: &Path) -> Result<PathBuf, CgroupError> {
    let mount = mount_point()?;
    let below = mount.join(name.strip_prefix("/").unwrap_or(name));
    [name.to_owned(), below]
        .into_iter()
        .filter_map(|path| path.canonicalize().ok())
        .find(|path| path.starts_with(&mount) && path.join("cgroup.procs").exists())
        .ok_or_else(|| CgroupError::NotFound(name.to_owned()))
}

/// The ids of the processes in a cgroup and in all cgroups below it.
///
/// # Errors
/// When the directory cannot be read; one that vanished meanwhile has no processes.
pub fn processes(cgroup: &Path) -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    let mut pending = vec![cgroup.to_owned()];
    while let Some(path) = pending.pop() {
        match fs::read_to_string(path.join("cgroup.procs")) {
            Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok())),
            Err(error) if gone(&error) => continue,
            Err(error) => return Err(error),
        }
        match fs::read_dir(&path) {
            Ok(entries) => {
                pending.extend(
                    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()),
                );
            }
            Err(error) if gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pids)
}

/// A removed cgroup answers ENOENT, or ENODEV through a descriptor that was open before.
fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ENODEV)
}

/// A cgroup of our own, for one command; removed when it is dropped.
#[derive(Debug)]
pub struct OwnCgroup {
    path: PathBuf,
}

impl OwnCgroup {
    /// Makes one below the cgroup this process is in, so that the limits which hold for us hold for the command
    /// too, and removes what dead recorders left.
    ///
    /// # Errors
    /// See [`CgroupError`].
    pub fn create() -> Result<Self, CgroupError> {
        let mount = mount_point()?;
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or("");
        let parent = mount.join(own);
        remove_left_over(&parent);
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let serial = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = parent.join(format!("{PREFIX}{}.{serial}", std::process::id()));
        fs::create_dir(&path).map_err(|source| CgroupError::Io {
            action: "make",
            path: path.clone(),
            source,
        })?;
        Ok(Self { path })
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `cgroup.procs`, open for writing: writing `0` moves the writer in.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn entrance(&self) -> Result<OwnedFd, CgroupError> {
        let path = self.path.join("cgroup.procs");
        let file = fs::OpenOptions::new().write(true).open(&path);
        Ok(file
            .map_err(|source| CgroupError::Io { action: "enter", path: self.path.clone(), source })?
            .into())
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        // What still runs in it was started by us, has had SIGTERM and its grace, and holds the cgroup.
        for pid in processes(&self.path).unwrap_or_default() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX));
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        }
        for _ in 0..100 {
            match remove_tree(&self.path) {
                Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                _ => return,
            }
        }
        tracing::warn!("cgroup `{}` could not be removed; the next start removes it", self.path.display());
    }
}

/// Removes a cgroup and the empty ones that the workload made below it.
fn remove_tree(path: &Path) -> io::Result<()> {
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(path) {
        Err(error) if !gone(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Removes the empty cgroups of recorders that were killed. One that is still populated is left: its workload
/// goes on, and a later start removes it.
fn remove_left_over(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let maker =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('.').next()?.parse::<u32>().ok());
        if let Some(maker) = maker
            && !Path::new("/proc").join(maker.to_string()).exists()
            && processes(&entry.path()).is_ok_and(|pids| pids.is_empty())
        {
            let _ = remove_tree(&entry.path());
        }
    }
}
