//! The cgroups of a recording: a directory of a cgroup v2 mount, and all below it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::EbpfError;

/// Checks that this is a directory of a cgroup v2 mount.
pub(super) fn check(directory: &Path) -> Result<(), EbpfError> {
    let fail = |source| EbpfError::Cgroup { path: directory.to_owned(), source };
    if !fs::metadata(directory).map_err(fail)?.is_dir() {
        return Err(EbpfError::NotCgroup2(directory.to_owned()));
    }
    let found = statfs(directory).map_err(|errno| fail(errno.into()))?;
    if found.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return Err(EbpfError::NotCgroup2(directory.to_owned()));
    }
    Ok(())
}

/// The id of a cgroup.
pub(super) fn id(directory: &Path) -> Result<u64, EbpfError> {
    let found = fs::metadata(directory);
    found.map(|found| found.ino()).map_err(|source| EbpfError::Cgroup { path: directory.to_owned(), source })
}

/// The ids of a cgroup and of those less than `depth` levels below it, each with its level. Those that vanish
/// meanwhile are left out.
pub(super) fn levels(directory: &Path, depth: u32) -> Result<Vec<(u64, u32)>, EbpfError> {
    let mut found = Vec::new();
    let mut pending: Vec<(PathBuf, u32)> = vec![(directory.to_owned(), 0)];
    while let Some((path, level)) = pending.pop() {
        if level >= depth {
            continue;
        }
        let look = || -> io::Result<(u64, Vec<PathBuf>)> {
            let mut below = Vec::new();
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    below.push(entry.path());
                }
            }
            Ok((fs::metadata(&path)?.ino(), below))
        };
        match look() {
            Ok((id, below)) => {
                found.push((id, level));
                pending.extend(below.into_iter().map(|path| (path, level + 1)));
            }
            Err(error) if path != directory && is_gone(&error) => {}
            Err(source) => return Err(EbpfError::Cgroup { path, source }),
        }
    }
    Ok(found)
}

/// The ids of a cgroup and of all below it. An id is the directory's inode number (`kernfs_ino`).
///
/// # Errors
/// When the directory itself cannot be read, or the calling process is in one of them. Cgroups below it that
/// vanish meanwhile are left out.
pub(super) fn tree(directory: &Path) -> Result<Vec<u64>, EbpfError> {
    let fail = |source| EbpfError::Cgroup { path: directory.to_owned(), source };
    let mut ids = Vec::new();
    let mut pending: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(path) = pending.pop() {
        match one(&path, &mut pending) {
            Ok((id, recorder_inside)) => {
                if recorder_inside {
                    return Err(EbpfError::RecorderInside(path));
                }
                ids.push(id);
            }
            Err(error) if path == directory => return Err(fail(error)),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(fail(error)),
        }
    }
    Ok(ids)
}

/// A cgroup's id, and whether the calling process is in it; the cgroups right below it go to `pending`.
fn one(path: &Path, pending: &mut Vec<PathBuf>) -> io::Result<(u64, bool)> {
    let id = fs::metadata(path)?.ino();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            pending.push(entry.path());
        }
    }
    Ok((id, has_process(path, std::process::id())?))
}

fn has_process(path: &Path, process: u32) -> io::Result<bool> {
    match fs::read_to_string(path.join("cgroup.procs")) {
        Ok(processes) => Ok(processes.lines().any(|line| line.parse() == Ok(process))),
        // A threaded cgroup does not list processes; only a domain above it does, and that one is asked too.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}
