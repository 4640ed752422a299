//! The sources of `core`, which the BPF target has no compiled copy of: the compiler's own from rustup, or, where
//! rustup cannot download, those of Debian's next release.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use super::toolchain::printed;
use crate::system;

/// Digests of sources that were seen to give the checked-in objects.
const PINNED: [(&str, &str); 2] = [
    ("rustup's", "sha256:1ac9e817ca9d5bf1f1b553804a698d343f85a546db2514737fd05cab524bab0c"),
    ("Debian's 1.97.1+dfsg1-1", "sha256:1d1ff4636dc51e28880f60bae863c09090eb90d2e076729cdb1a6c596aca5fbc"),
];

/// Where a sysroot keeps the sources.
const LIBRARY: &str = "lib/rustlib/src/rust/library";

/// Sources of `core`, and how the compiler is told about them.
pub(super) struct CoreSource {
    /// What the compiler takes for its sysroot.
    pub sysroot: PathBuf,
    /// A stand-in for the compiler that says so; none where it is the compiler's own sysroot.
    pub compiler: Option<PathBuf>,
    /// The digest over the sources.
    pub digest: String,
}

impl CoreSource {
    /// Whether these are sources that are known to give the checked-in objects.
    pub(super) fn is_pinned(&self) -> bool {
        PINNED.iter().any(|(_, digest)| *digest == self.digest)
    }

    /// Finds the sources or fetches them.
    pub(super) fn ensure(toolchain: &str, sysroot: &Path, store: &Path) -> anyhow::Result<Self> {
        let own = || Self::of(sysroot.to_owned(), None);
        if sysroot.join(LIBRARY).join("core/src/lib.rs").is_file() {
            return own();
        }
        let private = store.join("sysroot");
        if !private.join(LIBRARY).join("core/src/lib.rs").is_file() {
            system::note("fetching the sources of `core` from rustup");
            let mut add = Command::new("rustup");
            let rustup = printed(add.args(["component", "add", "rust-src", "--toolchain", toolchain]));
            let Err(rustup) = rustup else { return own() };
            system::note("rustup does not have them; fetching Debian's package `rust-src`");
            if let Err(debian) = debian(store).and_then(|library| make_sysroot(sysroot, &private, &library)) {
                bail!("the sources of `core` could not be had: rustup: {rustup:#}; Debian: {debian:#}");
            }
        }
        let compiler = stand_in(sysroot, &private, store)?;
        Self::of(private, Some(compiler))
    }

    fn of(sysroot: PathBuf, compiler: Option<PathBuf>) -> anyhow::Result<Self> {
        let library = sysroot.join(LIBRARY);
        let mut hasher = Sha256::new();
        for part in ["core", "compiler-builtins"] {
            let mut files = Vec::new();
            rust_files(&library.join(part), &mut files)?;
            files.sort();
            for file in files {
                let content =
                    fs::read(&file).with_context(|| format!("could not read `{}`", file.display()))?;
                let name = file.strip_prefix(&library).unwrap_or(&file);
                hasher.update(name.as_os_str().as_encoded_bytes());
                hasher.update([0]);
                hasher.update((content.len() as u64).to_le_bytes());
                hasher.update(content);
            }
        }
        let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let core = Self { sysroot, compiler, digest: format!("sha256:{digest}") };
        match PINNED.iter().find(|(_, digest)| *digest == core.digest) {
            Some((whose, _)) => system::note(&format!("the sources of `core` are {whose}, as pinned")),
            None => system::note(&format!("the sources of `core` are not pinned: {}", core.digest)),
        }
        Ok(core)
    }
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("could not read `{}`", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Downloads and unpacks Debian's package from its unstable distribution, by apt with folders of its own: the
/// system's sources, lists and packages are left as they are.
fn debian(store: &Path) -> anyhow::Result<PathBuf> {
    if system::find_program("apt-get").is_none() || system::find_program("dpkg").is_none() {
        bail!("this system has no apt");
    }
    let targets = printed(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(ORIGIN) $(LABEL) $(COMPONENT) $(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    let mirror = targets
        .lines()
        .find_map(|line| line.strip_prefix("Debian Debian main "))
        .context("apt knows no mirror of Debian; run `apt-get update`")?;
    let folder = store.join("debian");
    for part in ["lists/partial", "cache/archives/partial", "state"] {
        fs::create_dir_all(folder.join(part)).with_context(|| format!("could not make `{part}`"))?;
    }
    let sources = format!("deb {}{} unstable main\n", signed_by(), mirror.trim());
    fs::write(folder.join("sources.list"), sources).context("could not write a list of sources")?;
    fs::write(folder.join("status"), "").context("could not write an empty list of packages")?;
    let mut settings = String::new();
    for (setting, part) in [
        ("Dir::Etc::sourcelist", "sources.list"),
        ("Dir::Etc::sourceparts", "none"),
        ("Dir::State", "state"),
        ("Dir::State::lists", "lists"),
        ("Dir::State::status", "status"),
        ("Dir::Cache", "cache"),
    ] {
        settings.push_str(&format!("{setting} \"{}\";\n", folder.join(part).display()));
    }
    settings.push_str("APT::Sandbox::User \"root\";\nAPT::Update::Error-Mode \"any\";\n");
    fs::write(folder.join("apt.conf"), settings).context("could not write apt's settings")?;
    for verb in [["update"].as_slice(), &["download", "rust-src"]] {
        let mut apt = Command::new("apt-get");
        apt.arg("-q").args(verb).env("APT_CONFIG", folder.join("apt.conf")).current_dir(&folder);
        printed(&mut apt)?;
    }
    let package = find(&folder, |name| name.starts_with("rust-src_") && name.ends_with(".deb"))?;
    printed(Command::new("dpkg").arg("-x").arg(package).arg(folder.join("unpacked")))?;
    let sources = folder.join("unpacked/usr/src");
    Ok(find(&sources, |name| name.starts_with("rustc-"))?.join("library"))
}

/// Debian's keys where the system keeps them; apt's own default elsewhere.
fn signed_by() -> String {
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    if Path::new(keys).is_file() { format!("[signed-by={keys}] ") } else { String::new() }
}

fn find(folder: &Path, wanted: impl Fn(&str) -> bool) -> anyhow::Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("could not read `{}`", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted))
        .collect();
    found.sort();
    found.pop().with_context(|| format!("what was asked for is not in `{}`", folder.display()))
}

/// A sysroot that is the compiler's own, with these sources in it.
fn make_sysroot(sysroot: &Path, private: &Path, library: &Path) -> anyhow::Result<()> {
    let make = || -> std::io::Result<()> {
        let _ = fs::remove_dir_all(private);
        fs::create_dir_all(private.join("lib/rustlib/src/rust"))?;
        for entry in fs::read_dir(sysroot.join("lib/rustlib"))? {
            let entry = entry?;
            if entry.file_name() != "src" {
                symlink(entry.path(), private.join("lib/rustlib").join(entry.file_name()))?;
            }
        }
        // Last, for it is what says that the folder is whole.
        fs::rename(library, private.join(LIBRARY))
    };
    make().with_context(|| format!("could not make `{}`", private.display()))
}

/// A program that is the compiler with another sysroot; cargo looks for the sources where it says.
fn stand_in(sysroot: &Path, private: &Path, store: &Path) -> anyhow::Result<PathBuf> {
    let path = store.join("rustc");
    let quote = |path: PathBuf| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    let (compiler, private) = (quote(sysroot.join("bin/rustc")), quote(private.to_owned()));
    let script = format!("#!/bin/sh\nexec {compiler} --sysroot {private} \"$@\"\n");
    fs::write(&path, script)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("could not write `{}`", path.display()))?;
    Ok(path)
}
