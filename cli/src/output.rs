//! Files: the one place that writes them, atomically, and the one that reads what a user named.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use nix::{fcntl::AT_FDCWD, unistd::LinkatFlags};

/// Where a result goes: a file that appears whole or not at all, or standard output (`-`).
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    /// Unnamed until it is complete, so that even SIGKILL leaves nothing. None for standard output.
    file: Option<(File, PathBuf)>,
}

impl Output {
    /// Makes sure, before any work is done, that the result can be written.
    pub(crate) fn prepare(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self { path: path.to_owned(), file: None });
        }
        if path.is_dir() {
            bail!("cannot write `{}`: it is a directory; give a file name", path.display());
        }
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let file = tempfile::tempfile_in(directory).with_context(|| {
            format!("cannot write `{}`; choose a directory you may write to with `-o`", path.display())
        })?;
        Ok(Self { path: path.to_owned(), file: Some((file, directory.to_owned())) })
    }

    /// What the result is called in messages.
    pub(crate) fn name(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// Writes the result; an existing file is replaced in one step.
    pub(crate) fn write(self, bytes: &[u8]) -> anyhow::Result<()> {
        let Some((mut file, directory)) = self.file else {
            return match io::stdout().lock().write_all(bytes).and_then(|()| io::stdout().flush()) {
                // A reader that has seen enough is no error.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                result => result.context("cannot write to standard output"),
            };
        };
        let context = || format!("cannot write `{}`", self.path.display());
        file.write_all(bytes).and_then(|()| file.sync_all()).with_context(context)?;
        let unnamed = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let named = directory.join(format!(".seccomp-learn.{}", std::process::id()));
        let _ = fs::remove_file(&named);
        let linked =
            nix::unistd::linkat(AT_FDCWD, &unnamed, AT_FDCWD, &named, LinkatFlags::AT_SYMLINK_FOLLOW);
        if linked.is_err() {
            // A file system without O_TMPFILE, or no /proc: the file gets its name before it is complete.
            let mut temporary = tempfile::Builder::new().prefix(".seccomp-learn.").tempfile_in(&directory)?;
            temporary.write_all(bytes).and_then(|()| temporary.as_file().sync_all()).with_context(context)?;
            set_mode(temporary.as_file()).with_context(context)?;
            temporary.persist(&self.path).with_context(context)?;
            return Ok(());
        }
        set_mode(&file).and_then(|()| fs::rename(&named, &self.path)).with_context(context)
    }
}

/// Whether a result could be written as a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It could.
    New,
    /// A file of that name is there, and was left alone.
    Exists,
}

impl Output {
    /// Writes the result as a new file, never in the place of another: whole, in one step, or not at all.
    pub(crate) fn write_new(self, bytes: &[u8]) -> anyhow::Result<Written> {
        let Some((mut file, directory)) = self.file else {
            bail!("standard output is no new file; give a file name");
        };
        let context = || format!("cannot write `{}`", self.path.display());
        file.write_all(bytes)
            .and_then(|()| set_mode(&file))
            .and_then(|()| file.sync_all())
            .with_context(context)?;
        let unnamed = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let follow = LinkatFlags::AT_SYMLINK_FOLLOW;
        match nix::unistd::linkat(AT_FDCWD, &unnamed, AT_FDCWD, &self.path, follow) {
            Ok(()) => Ok(Written::New),
            Err(nix::errno::Errno::EEXIST) => Ok(Written::Exists),
            Err(_) => {
                // A file system without O_TMPFILE, or no /proc.
                let mut named = tempfile::Builder::new().prefix(".seccomp-learn.").tempfile_in(&directory)?;
                named.write_all(bytes).and_then(|()| set_mode(named.as_file())).with_context(context)?;
                named.as_file().sync_all().with_context(context)?;
                match named.persist_noclobber(&self.path) {
                    Ok(_) => Ok(Written::New),
                    Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(Written::Exists),
                    Err(error) => Err(error.error).with_context(context),
                }
            }
        }
    }
}

/// Temporary files are made for their owner alone; results get what the umask leaves of 0666.
fn set_mode(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let umask = text
        .lines()
        .find_map(|line| u32::from_str_radix(line.strip_prefix("Umask:")?.trim(), 8).ok())
        .unwrap_or(0o022);
    file.set_permissions(fs::Permissions::from_mode(0o666 & !umask))
}

/// The most that is read of a profile, a `workload.toml` or a table: ten times what a kernel could take of it.
/// What is parsed needs a multiple of its size, and whoever made the file chose that size.
const LIMIT: u64 = 4 << 20;
/// Of a sidecar or held-out runs, which grow with what was recorded.
pub(crate) const SIDECAR_LIMIT: u64 = 16 << 20;
/// Of a trace, in which ten thousand runs may be merged.
pub(crate) const TRACE_LIMIT: u64 = 32 << 20;

/// Reads a file that the user named, with its name in the error.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    read_within(path, LIMIT)
}

/// The same for a file that may be of this size. One that is larger is refused before it is read, and a pipe or
/// device once it has given more.
pub(crate) fn read_within(path: &Path, limit: u64) -> anyhow::Result<Vec<u8>> {
    let context = || format!("cannot read `{}`", path.display());
    let too_large = || {
        anyhow!("it is larger than {} MiB, which no such file is; give the one that was meant", limit >> 20)
    };
    let file = File::open(path).with_context(context)?;
    let size = file.metadata().with_context(context)?.len();
    if size > limit {
        return Err(too_large()).with_context(context);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).with_context(context)?;
    if bytes.len() as u64 > limit {
        return Err(too_large()).with_context(context);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_appears_whole_and_replaces_in_one_step() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace.json");
        let output = Output::prepare(&path).unwrap();
        assert!(
            fs::read_dir(directory.path()).unwrap().next().is_none(),
            "nothing is there before it is written"
        );
        output.write(b"one").unwrap();
        Output::prepare(&path).unwrap().write(b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_said_before_any_work() {
        assert!(
            Output::prepare(Path::new("/proc/trace.json")).unwrap_err().to_string().contains("cannot write")
        );
        assert!(Output::prepare(Path::new("/")).unwrap_err().to_string().contains("is a directory"));
        assert!(Output::prepare(Path::new("/no/such/trace.json")).is_err());
    }

    #[test]
    fn what_is_larger_than_it_may_be_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        fs::write(&path, [7; 5]).unwrap();
        assert_eq!(read_within(&path, 5).unwrap(), [7; 5]);
        let error = format!("{:#}", read_within(&path, 4).unwrap_err());
        assert!(error.contains("large`: it is larger than 0 MiB"), "{error}");
        // Its size is said to be 0.
        let endless = format!("{:#}", read(Path::new("/dev/zero")).unwrap_err());
        assert!(endless.contains("`/dev/zero`: it is larger than 4 MiB"), "{endless}");
        assert!(read_within(Path::new("/proc/self/status"), LIMIT).is_ok());
        assert!(format!("{:#}", read(Path::new("/")).unwrap_err()).contains("cannot read `/`"));
    }
}
