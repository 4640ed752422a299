//! `cargo xtask dist`: one binary that needs nothing of the machine it runs on, and an image archive of it alone.
//!
//! The binary is linked for `x86_64-unknown-linux-gnu` with the C library and libseccomp inside: no loader, no
//! shared library, no name-service modules. The archive is an OCI image layout in a tar file that `docker load`
//! and `podman load` read as well. The same binary gives the same archive, byte for byte.

mod elf;
mod image;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use crate::system::{self, BUILD};

/// Options of `dist`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder that the results go to, instead of `dist/`
    #[arg(long, short)]
    output: Option<PathBuf>,
}

/// The target whose C library is linked in.
const TARGET: &str = "x86_64-unknown-linux-gnu";

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let output = match &options.output {
        Some(folder) => folder.clone(),
        None => system::root()?.join("dist"),
    };
    let binary = binary()?;
    std::fs::create_dir_all(&output).with_context(|| format!("could not make `{}`", output.display()))?;
    let name = format!("seccomp-learn-{}-linux-x86_64", env!("CARGO_PKG_VERSION"));
    let archive = image::archive(&binary, env!("CARGO_PKG_VERSION"))?;
    let files = [(name.clone(), binary, 0o755), (format!("{name}.oci.tar"), archive, 0o644)];
    let mut sums = String::new();
    let mut out = std::io::stdout();
    for (name, bytes, mode) in &files {
        let path = output.join(name);
        write(&path, bytes, *mode)?;
        sums.push_str(&format!("{}  {name}\n", digest(bytes)));
        writeln!(out, "{} ({:.1} MiB)", path.display(), bytes.len() as f64 / f64::from(1 << 20))?;
    }
    write(&output.join("SHA256SUMS"), sums.as_bytes(), 0o644)?;

    let said = Command::new(output.join(&name)).arg("--version").output();
    let said = said.with_context(|| format!("could not start `{name}`"))?;
    if !said.status.success() {
        bail!("`{name} --version` ended with {}", said.status);
    }
    writeln!(out, "{}", String::from_utf8_lossy(&said.stdout).trim())?;
    Ok(())
}

/// The static binary, built and looked into.
pub(crate) fn binary() -> anyhow::Result<Vec<u8>> {
    if std::env::consts::ARCH != "x86_64" {
        bail!(
            "`dist` links with this machine's own static libraries, so it makes x86-64 binaries on x86-64 only"
        );
    }
    system::ensure(&BUILD, "the build")?;
    let built = build()?;
    let binary = std::fs::read(&built).with_context(|| format!("could not read `{}`", built.display()))?;
    elf::check_static(&binary).with_context(|| format!("`{}` is not fully static", built.display()))?;
    Ok(binary)
}

/// Builds the static binary and returns where it is.
fn build() -> anyhow::Result<PathBuf> {
    let library = static_libseccomp()?;
    let mut build = system::cargo()?;
    build.args(["build", "--release", "--package", "seccomp-learn", "--target", TARGET]);
    build.env("RUSTFLAGS", "-C target-feature=+crt-static").env_remove("CARGO_ENCODED_RUSTFLAGS");
    build.env("LIBSECCOMP_LINK_TYPE", "static").env("LIBSECCOMP_LIB_PATH", &library);
    // A folder of its own: other flags would make every other build start over.
    let target = system::target()?.join("dist");
    system::run(build.arg("--target-dir").arg(&target))?;
    Ok(target.join(TARGET).join("release/seccomp-learn"))
}

/// The folder of `libseccomp.a`.
fn static_libseccomp() -> anyhow::Result<PathBuf> {
    let folders =
        ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"].map(PathBuf::from);
    let given = std::env::var_os("LIBSECCOMP_LIB_PATH").map(PathBuf::from);
    given.into_iter().chain(folders).find(|folder| folder.join("libseccomp.a").is_file()).context(
        "no `libseccomp.a` on this system; Debian has it in libseccomp-dev, Fedora in libseccomp-static, \
         and `LIBSECCOMP_LIB_PATH` names the folder of one's own",
    )
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let partial = path.with_extension("partial");
    std::fs::write(&partial, bytes)
        .and_then(|()| std::fs::set_permissions(&partial, std::fs::Permissions::from_mode(mode)))
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| format!("could not write `{}`", path.display()))
}

/// SHA-256 in hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
