//! What loads profiles on this host: the runtimes, their versions, and the libseccomp that each of them asks.
//!
//! Which names a libseccomp knows cannot be told from its version, since distributions add names to theirs; and this
//! binary may have another one in it than the runtime. So the library's own table is read: gperf puts each name,
//! ended by a zero byte, behind the one before (`src/syscalls.perf.c` of its build).

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context;

/// The runtimes that profiles are made for.
pub(crate) const RUNTIMES: [&str; 2] = ["runc", "crun"];

/// Where engines look for them, `PATH` aside.
const PROGRAMS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/usr/libexec/crio",
    "/opt/nvidia/toolkit",
];

/// Where the dynamic loader finds libraries, in its order.
const LIBRARIES: [&str; 8] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// What programs that are linked with it ask the loader for.
const SONAME: &str = "libseccomp.so.2";

/// The longest name of a syscall, with room.
const LONGEST_NAME: usize = 40;

/// A container runtime on this host.
#[derive(Clone, Debug)]
pub(crate) struct Runtime {
    /// `runc` or `crun`.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// `1.1.5`; none where it does not say.
    pub(crate) version: Option<String>,
    /// The first line of what it says about its version.
    pub(crate) says: String,
}

impl Runtime {
    /// The runtime of this name, if it is installed.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let known = PROGRAMS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
        let path = confine::resolve(OsStr::new(name)).ok().or(known)?;
        Some(Self::at(name, path))
    }

    /// The runtime at this path; its name is the file's.
    pub(crate) fn given(path: &Path) -> anyhow::Result<Self> {
        let path = confine::resolve(path.as_os_str()).context("cannot ask the runtime")?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self::at(&name, path))
    }

    fn at(name: &str, path: PathBuf) -> Self {
        let mut command = Command::new(&path);
        let output = command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output();
        let text =
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let says = text.lines().next().unwrap_or_default().to_owned();
        Self { name: name.to_owned(), path, version: version(&says).map(str::to_owned), says }
    }

    /// The libseccomp that it asks: its own, or the host's.
    pub(crate) fn library(&self) -> anyhow::Result<Library> {
        let bytes = fs::read(&self.path).with_context(|| format!("cannot read `{}`", self.path.display()))?;
        if let Some(library) = Library::within(&self.path, &bytes) {
            return Ok(library);
        }
        Library::of_host()
    }
}

/// The version in `runc version 1.1.5+ds1`: what follows the word, up to what a distribution adds.
fn version(line: &str) -> Option<&str> {
    let word = line.split_whitespace().skip_while(|word| *word != "version").nth(1)?;
    let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
    let version = word.get(..end)?.trim_end_matches('.');
    version.contains('.').then_some(version)
}

/// A libseccomp with the names it knows.
#[derive(Debug)]
pub(crate) struct Library {
    /// The file it is in.
    pub(crate) path: PathBuf,
    names: HashSet<String>,
}

impl Library {
    /// The host's shared library.
    pub(crate) fn of_host() -> anyhow::Result<Self> {
        let found = LIBRARIES.iter().map(|folder| Path::new(folder).join(SONAME)).find(|path| path.is_file());
        let path = found.with_context(|| {
            format!("there is no `{SONAME}` on this host; install libseccomp (Debian: libseccomp2)")
        })?;
        let path = fs::canonicalize(&path).unwrap_or(path);
        let bytes = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        Self::within(&path, &bytes).with_context(|| {
            format!("`{}` has no table of syscalls; is it the real library?", path.display())
        })
    }

    /// The library in these bytes of a file, if there is one.
    fn within(path: &Path, bytes: &[u8]) -> Option<Self> {
        let word = |piece: &[u8]| {
            let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_';
            let fits = (2..=LONGEST_NAME).contains(&piece.len()) && piece.iter().all(plain);
            fits.then(|| String::from_utf8_lossy(piece).into_owned())
        };
        let names: HashSet<String> = bytes.split(|byte| *byte == 0).filter_map(word).collect();
        // Every version knows these, and only its table has them all as words of their own.
        let known = ["execve", "clone", "openat", "_llseek", "arm_fadvise64_64", "s390_pci_mmio_read"];
        known.iter().all(|name| names.contains(*name)).then(|| Self { path: path.to_owned(), names })
    }

    /// Whether it knows the name.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

/// The branch of a GPU driver: `570` of `570.86.15`.
pub(crate) fn branch(version: &str) -> &str {
    version.split('.').next().unwrap_or(version)
}

/// The first two numbers of a version, which stay while only faults are mended.
pub(crate) fn series(version: &str) -> String {
    version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_runtimes_print_them() {
        let check = |line: &str, expected: Option<&str>| assert_eq!(version(line), expected, "{line}");
        check("runc version 1.1.5+ds1", Some("1.1.5"));
        check("runc version 1.4.0-rc.1", Some("1.4.0"));
        check("crun version 1.8.1", Some("1.8.1"));
        check("crun version UNKNOWN", None);
        check("my runtime 3.0", None);
        check("", None);
        assert_eq!(series("1.1.5"), "1.1");
        assert_eq!(branch("570.86.15"), "570");
    }

    #[test]
    fn the_library_s_table_says_what_the_library_says() {
        let Ok(library) = Library::of_host() else { return };
        // A binary with the library inside may have another version of it.
        let asks_the_same = fs::read_to_string("/proc/self/maps").is_ok_and(|maps| maps.contains(SONAME));
        if !asks_the_same {
            return;
        }
        let mut compared = 0;
        for abi in trace::Abi::ALL {
            for number in abi.numbers() {
                let name = abi.name(number).to_string();
                assert_eq!(library.knows(&name), synth::host_knows(&name), "{name}");
                compared += 1;
            }
        }
        assert!(compared > 1000);
    }
}
