//! Finding the program, in the parent, where an error can still be named.

use std::{
    env,
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use nix::{fcntl::AtFlags, unistd::AccessFlags};

use crate::SpawnError;

/// The path of a command: itself where it has a slash, else the first executable of that name on `PATH`.
///
/// # Errors
/// [`SpawnError::NotFound`] or [`SpawnError::NotExecutable`].
pub fn resolve(name: &OsStr) -> Result<PathBuf, SpawnError> {
    let missing = || SpawnError::NotFound(name.to_string_lossy().into_owned());
    if name.is_empty() {
        return Err(missing());
    }
    if name.as_bytes().contains(&b'/') {
        let path = absolute(Path::new(name))?;
        return match kind(&path) {
            Kind::Executable => Ok(path),
            Kind::NotExecutable => Err(SpawnError::NotExecutable(path)),
            Kind::Missing => Err(missing()),
        };
    }
    // What execvp(3) searches when PATH is not set.
    let search = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut refused = None;
    for folder in env::split_paths(&search) {
        // An empty element is the working directory; joining keeps that.
        let path = absolute(&folder.join(name))?;
        match kind(&path) {
            Kind::Executable => return Ok(path),
            Kind::NotExecutable => refused = refused.or(Some(path)),
            Kind::Missing => {}
        }
    }
    Err(refused.map_or_else(missing, SpawnError::NotExecutable))
}

fn absolute(path: &Path) -> Result<PathBuf, SpawnError> {
    std::path::absolute(path).map_err(|source| SpawnError::setup("reading the working directory", source))
}

enum Kind {
    Executable,
    NotExecutable,
    Missing,
}

fn kind(path: &Path) -> Kind {
    match path.metadata() {
        Ok(data) if data.is_file() => {
            let effective = AtFlags::AT_EACCESS;
            let allowed = nix::unistd::faccessat(nix::fcntl::AT_FDCWD, path, AccessFlags::X_OK, effective);
            if allowed.is_ok() { Kind::Executable } else { Kind::NotExecutable }
        }
        Ok(_) => Kind::NotExecutable,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Kind::NotExecutable,
        Err(_) => Kind::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_wrong() {
        assert_eq!(resolve(OsStr::new("/bin/sh")).unwrap(), Path::new("/bin/sh"));
        assert!(resolve(OsStr::new("sh")).unwrap().is_absolute());
        for missing in ["", "no-such-command-anywhere", "/no/such/file", "./no-such-file"] {
            let error = resolve(OsStr::new(missing)).unwrap_err();
            assert!(matches!(error, SpawnError::NotFound(_)), "{missing}: {error}");
        }
        for refused in ["/etc/passwd", "/etc"] {
            let error = resolve(OsStr::new(refused)).unwrap_err();
            assert!(matches!(error, SpawnError::NotExecutable(_)), "{refused}: {error}");
        }
    }
}
