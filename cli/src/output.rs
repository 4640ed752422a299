//! Files: the one place that writes them, atomically, and the one that reads what a user named.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::fs::FileTypeExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use nix::{
    errno::Errno,
    fcntl::AT_FDCWD,
    unistd::{AccessFlags, LinkatFlags},
};
use tempfile::{NamedTempFile, TempPath};

/// Where a result goes: a file that appears whole or not at all, a pipe or terminal, or standard output (`-`).
#[derive(Debug)]
pub(crate) struct Output {
    /// As the user named it.
    path: PathBuf,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Unnamed until it is complete, so that even SIGKILL leaves nothing; and where it goes, links followed.
    File {
        file: File,
        target: PathBuf,
    },
    /// A named pipe or a character device, which are written to and never replaced.
    Through,
    Standard,
}

impl Output {
    /// Makes sure, before any work is done, that the result can be written.
    pub(crate) fn prepare(path: &Path) -> anyhow::Result<Self> {
        let own = |place| Ok(Self { path: path.to_owned(), place });
        if path == Path::new("-") {
            return own(Place::Standard);
        }
        let context = || format!("cannot write `{}`", path.display());
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => {
                bail!("cannot write `{}`: it is a directory; give a file name", path.display());
            }
            Ok(there) if there.file_type().is_fifo() || there.file_type().is_char_device() => {
                nix::unistd::access(path, AccessFlags::W_OK).with_context(context)?;
                return own(Place::Through);
            }
            Ok(there) if !there.is_file() => {
                bail!("cannot write `{}`: it is no file; give a file name", path.display());
            }
            _ => {}
        }
        let target = followed(path).with_context(context)?;
        let file = tempfile::tempfile_in(folder_of(&target)).with_context(|| {
            format!("cannot write `{}`; choose a directory you may write to with `-o`", path.display())
        })?;
        own(Place::File { file, target })
    }

    /// What the result is called in messages.
    pub(crate) fn name(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// Writes the result; an existing file is replaced in one step.
    pub(crate) fn write(self, bytes: &[u8]) -> anyhow::Result<()> {
        self.stage(bytes)?.finish()
    }

    /// Writes all of the result beside its place, which stays as it is.
    fn stage(self, bytes: &[u8]) -> anyhow::Result<Staged<'_>> {
        let Self { path, place } = self;
        let context = || format!("cannot write `{}`", path.display());
        let Place::File { mut file, target } = place else {
            let standard = matches!(place, Place::Standard);
            return Ok(Staged::Through { path: (!standard).then_some(path), bytes });
        };
        file.write_all(bytes)
            .and_then(|()| set_mode(&file))
            .and_then(|()| file.sync_all())
            .with_context(context)?;
        let unnamed = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let folder = folder_of(&target);
        let named = folder.join(format!(".seccomp-learn.{}.{}", std::process::id(), file.as_raw_fd()));
        let _ = fs::remove_file(&named);
        let follow = LinkatFlags::AT_SYMLINK_FOLLOW;
        let temporary = match nix::unistd::linkat(AT_FDCWD, &unnamed, AT_FDCWD, &named, follow) {
            Ok(()) => TempPath::try_from_path(named).with_context(context)?,
            // A file system without O_TMPFILE, or no /proc: the file gets its name before it is complete.
            Err(_) => named_file(folder, bytes).with_context(context)?.into_temp_path(),
        };
        Ok(Staged::File { path, temporary, target })
    }
}

/// A result that is written but not in its place.
enum Staged<'b> {
    /// Removed unless it is finished.
    File { path: PathBuf, temporary: TempPath, target: PathBuf },
    /// What cannot be taken back is not begun. Without a path it is standard output.
    Through { path: Option<PathBuf>, bytes: &'b [u8] },
}

impl Staged<'_> {
    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::File { path, temporary, target } => temporary
                .persist(target)
                .map_err(|error| error.error)
                .with_context(|| format!("cannot write `{}`", path.display())),
            Self::Through { path: Some(path), bytes } => {
                let written =
                    File::options().write(true).open(&path).and_then(|mut file| file.write_all(bytes));
                or_closed(written).with_context(|| format!("cannot write `{}`", path.display()))
            }
            Self::Through { path: None, bytes } => {
                or_closed(io::stdout().lock().write_all(bytes).and_then(|()| io::stdout().flush()))
                    .context("cannot write to standard output")
            }
        }
    }
}

/// A reader that has seen enough is no error.
fn or_closed(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes two results that belong together: both, or neither where the second cannot be put in its place.
pub(crate) fn write_both(first: (Output, &[u8]), second: (Output, &[u8])) -> anyhow::Result<()> {
    let ((first, bytes), (second, others)) = (first, second);
    let name = first.path.clone();
    let target = match &first.place {
        Place::File { target, .. } => Some(target.clone()),
        Place::Through | Place::Standard => None,
    };
    let (first, second) = (first.stage(bytes)?, second.stage(others)?);
    let before = match &target {
        Some(target) if target.exists() => {
            Some(fs::read(target).with_context(|| format!("cannot read `{}`", name.display()))?)
        }
        _ => None,
    };
    first.finish()?;
    second.finish().map_err(|error| match (target, before) {
        (Some(target), Some(before)) => {
            let restored = Output::prepare(&target).and_then(|output| output.write(&before));
            match restored {
                Ok(()) => error,
                Err(own) => anyhow!("{error:#}, and afterwards: {own:#}"),
            }
        }
        (Some(target), None) => {
            let _ = fs::remove_file(target);
            error
        }
        (None, _) => error,
    })
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
        let Self { path, place: Place::File { mut file, target } } = self else {
            bail!("`{}` is no new file; give a file name", self.path.display());
        };
        // A link is there as well, wherever it leads.
        if path.symlink_metadata().is_ok() {
            return Ok(Written::Exists);
        }
        let context = || format!("cannot write `{}`", path.display());
        file.write_all(bytes)
            .and_then(|()| set_mode(&file))
            .and_then(|()| file.sync_all())
            .with_context(context)?;
        let unnamed = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let follow = LinkatFlags::AT_SYMLINK_FOLLOW;
        match nix::unistd::linkat(AT_FDCWD, &unnamed, AT_FDCWD, &target, follow) {
            Ok(()) => Ok(Written::New),
            Err(Errno::EEXIST) => Ok(Written::Exists),
            Err(_) => {
                // A file system without O_TMPFILE, or no /proc.
                let named = named_file(folder_of(&target), bytes).with_context(context)?;
                match named.persist_noclobber(&target) {
                    Ok(_) => Ok(Written::New),
                    Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(Written::Exists),
                    Err(error) => Err(error.error).with_context(context),
                }
            }
        }
    }
}

/// A complete file with a name of its own.
fn named_file(folder: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut named = tempfile::Builder::new().prefix(".seccomp-learn.").tempfile_in(folder)?;
    named.write_all(bytes)?;
    set_mode(named.as_file())?;
    named.as_file().sync_all()?;
    Ok(named)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

/// Where links lead, so that what they name is replaced and not they; the last one may lead to no file yet.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    // As many as the kernel follows.
    for _ in 0..40 {
        match fs::read_link(&target) {
            Ok(next) => target = folder_of(&target).join(next),
            // No link, or nothing at all.
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::from_raw_os_error(Errno::ELOOP as i32))
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
    fn a_link_stays_and_what_it_names_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("there")).unwrap();
        std::os::unix::fs::symlink("there/file", at("middle")).unwrap();
        std::os::unix::fs::symlink(at("middle"), at("link")).unwrap();
        // First nothing is there, then a file.
        for text in ["one", "two"] {
            Output::prepare(&at("link")).unwrap().write(text.as_bytes()).unwrap();
            assert!(at("link").is_symlink() && at("middle").is_symlink());
            assert_eq!(fs::read_to_string(at("there/file")).unwrap(), text);
            assert_eq!(fs::read_dir(at("there")).unwrap().count(), 1);
        }
        assert_eq!(Output::prepare(&at("link")).unwrap().write_new(b"three").unwrap(), Written::Exists);
        std::os::unix::fs::symlink("round", at("round")).unwrap();
        assert!(Output::prepare(&at("round")).is_err());
    }

    #[test]
    fn a_pipe_is_written_to_and_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = std::thread::spawn({
            let path = path.clone();
            move || fs::read_to_string(path).unwrap()
        });
        Output::prepare(&path).unwrap().write(b"result").unwrap();
        assert_eq!(reader.join().unwrap(), "result");
        assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
        assert!(Output::prepare(&path).unwrap().write_new(b"").is_err());
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(Output::prepare(&socket).unwrap_err().to_string().contains("it is no file"));
    }

    /// What belongs together is of one piece, whatever fails: here the place of the second is taken in between.
    #[test]
    fn of_two_results_both_are_written_or_neither() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let both = |text: &str, taken: bool| {
            let outputs = [at("first"), at("second")].map(|path| Output::prepare(&path).unwrap());
            if taken {
                let _ = fs::remove_file(at("second"));
                fs::create_dir(at("second")).unwrap();
            }
            let [first, second] = outputs;
            write_both((first, text.as_bytes()), (second, text.as_bytes()))
        };
        let names = || fs::read_dir(folder.path()).unwrap().count();
        assert!(both("none", true).unwrap_err().to_string().contains("second`"));
        assert!(!at("first").exists() && names() == 1);
        fs::remove_dir(at("second")).unwrap();
        both("one", false).unwrap();
        assert_eq!([at("first"), at("second")].map(|path| fs::read_to_string(path).unwrap()), ["one", "one"]);
        assert!(both("two", true).is_err());
        assert_eq!(fs::read_to_string(at("first")).unwrap(), "one");
        assert_eq!(names(), 2, "nothing is left");
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
