//! What the tasks need from the system: is it there, and if not, the system's package manager brings it.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// Something a task needs, how to tell that it is there, and the Debian package that has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    /// The Debian package.
    pub package: &'static str,
    /// What shows that it is there.
    pub sign: Sign,
}

/// What shows that a package is there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sign {
    /// A program on the search path (the administrator's folders included).
    Program(&'static str),
    /// Header files, found by the C compiler's search path.
    Header(&'static str),
    /// A Python that can make virtual environments with pip in them.
    PythonVenv,
}

/// libseccomp with its headers: every build of the workspace links it.
pub(crate) const LIBSECCOMP: Need = Need { package: "libseccomp-dev", sign: Sign::Header("seccomp.h") };
/// The C linker that cargo calls.
pub(crate) const LINKER: Need = Need { package: "gcc", sign: Sign::Program("cc") };
/// The C library's headers and start files.
pub(crate) const LIBC: Need = Need { package: "libc6-dev", sign: Sign::Header("stdio.h") };
/// What the build of the workspace asks of the system.
pub(crate) const BUILD: [Need; 3] = [LINKER, LIBC, LIBSECCOMP];

impl Need {
    /// Whether it is there.
    pub(crate) fn met(&self) -> bool {
        match self.sign {
            Sign::Program(name) => find_program(name).is_some(),
            Sign::Header(name) => header_roots().iter().any(|root| root.join(name).is_file()),
            Sign::PythonVenv => python_with_venv().is_some(),
        }
    }
}

/// Installs what is missing, or says in one line how to. `why` ends the sentence "… is missing for".
pub(crate) fn ensure(needs: &[Need], why: &str) -> anyhow::Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !need.met()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let list = packages.join(" ");
    if find_program("apt-get").is_none() {
        bail!(
            "`{list}` (Debian's package names) is missing for {why}; install the same with this system's package \
             manager, on Fedora for example: dnf install gcc libseccomp-devel libseccomp-static python3-pip"
        );
    }
    if !is_root() {
        bail!("`{list}` is missing for {why}; run: sudo apt-get install -y {list}");
    }
    note(&format!("installing {list} for {why}: apt-get install -y {list}"));
    apt(&["install", "-y", "--no-install-recommends"], &packages)
        .or_else(|_| {
            // A machine that was never updated has no package lists, or stale ones.
            apt(&["update", "-q"], &[])?;
            apt(&["install", "-y", "--no-install-recommends"], &packages)
        })
        .with_context(|| format!("could not install `{list}`; run: apt-get install -y {list}"))?;
    match missing.iter().find(|need| !need.met()) {
        None => Ok(()),
        Some(need) => bail!("`{}` was installed and {:?} still was not found", need.package, need.sign),
    }
}

/// Installs as many of the packages as there are, and returns those that are still missing.
pub(crate) fn ensure_some(needs: &[Need], why: &str) -> Vec<&'static str> {
    let missing = |needs: &[Need]| -> Vec<&'static str> {
        needs.iter().filter(|need| !need.met()).map(|need| need.package).collect()
    };
    if missing(needs).is_empty() || !is_root() || find_program("apt-get").is_none() {
        return missing(needs);
    }
    if ensure(needs, why).is_err() {
        // One package without a candidate refuses them all: then one by one.
        for need in needs.iter().filter(|need| !need.met()) {
            if let Err(error) = ensure(std::slice::from_ref(need), why) {
                note(&format!("{error:#}"));
            }
        }
    }
    missing(needs)
}

fn apt(verb: &[&str], packages: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("apt-get");
    command.args(verb).args(packages).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    // A package that starts a daemon on installation would leave it behind: policy-rc.d says no.
    let policy = Policy::install()?;
    let output = command.output().context("could not start `apt-get`")?;
    drop(policy);
    if output.status.success() {
        return Ok(());
    }
    let mut tail = String::new();
    let text = String::from_utf8_lossy(&output.stderr);
    for line in text.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev() {
        let _ = write!(tail, "\n    {line}");
    }
    bail!("`apt-get {}` failed with {}:{tail}", verb.join(" "), output.status)
}

/// While it lives, packages that are installed do not start their daemons. A policy that the machine
/// already has is left alone.
struct Policy(Option<PathBuf>);

impl Policy {
    fn install() -> anyhow::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = Path::new("/usr/sbin/policy-rc.d");
        if path.exists() {
            return Ok(Self(None));
        }
        std::fs::write(path, "#!/bin/sh\nexit 101\n")
            .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("could not write `{}`", path.display()))?;
        Ok(Self(Some(path.to_owned())))
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A program on the search path or in the administrator's folders.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let administrator = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(administrator)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn header_roots() -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = ["/usr/include", "/usr/local/include"].map(PathBuf::from).into();
    roots.push(Path::new("/usr/include").join(format!("{}-linux-gnu", std::env::consts::ARCH)));
    if let Some(extra) = std::env::var_os("CPATH") {
        roots.extend(std::env::split_paths(&extra));
    }
    roots
}

/// A Python 3 that has the modules for virtual environments; the system's own first.
pub(crate) fn python_with_venv() -> Option<PathBuf> {
    [Some(PathBuf::from("/usr/bin/python3")), find_program("python3")].into_iter().flatten().find(|python| {
        Command::new(python)
            .args(["-c", "import venv, ensurepip"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

/// Whether this process is the superuser, read from the kernel's own account of it.
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uids.and_then(|line| line.split_whitespace().nth(1)) == Some("0")
}

/// The workspace's root folder.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest.parent().context("the manifest of `xtask` has no parent folder")?.to_owned())
}

/// The folder of everything that is built.
pub(crate) fn target() -> anyhow::Result<PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => std::path::absolute(folder).context("`CARGO_TARGET_DIR` names no folder"),
        None => Ok(root()?.join("target")),
    }
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()?);
    Ok(command)
}

/// Runs a command whose output the user sees; its failure is an error that names it.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = show(command);
    let status = command.status().with_context(|| format!("could not start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed with {status}");
    }
    Ok(())
}

/// A command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// One line about what the task does now, on stderr.
#[expect(clippy::print_stderr, reason = "tasks talk to the person who runs them")]
pub(crate) fn note(text: &str) {
    eprintln!("xtask: {text}");
}
