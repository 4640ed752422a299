//! The static binary and its image archive, where there is nothing else, and where everything else is old.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failure here is a test's failure")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

use seccomp_learn_tests::{
    cache, cli,
    engines::{Docker, Engine, Podman, good, text},
    programs::which,
    require,
};

/// The folder of `cargo xtask dist`.
static DIST: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = cache().join("dist");
    let mut build = Command::new(env!("CARGO"));
    build.args(["xtask", "dist", "--output"]).arg(&folder);
    build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
    good(build.env("CARGO_TARGET_DIR", cli::target_directory()));
    folder
});

fn artifact(ending: &str) -> PathBuf {
    let name = format!("seccomp-learn-{}-linux-x86_64{ending}", env!("CARGO_PKG_VERSION"));
    DIST.join(name)
}

/// Runs the binary in a folder as its root. With nothing else there, it is its own workload.
fn works_in(root: &Path) {
    fs::copy(artifact(""), root.join("seccomp-learn")).unwrap();
    let inside = |arguments: &[&str]| {
        let mut run = Command::new(which("chroot").unwrap());
        run.arg(root).arg("/seccomp-learn").args(arguments).env_clear().stdin(Stdio::null());
        run
    };
    good(&mut inside(&["--help"]));
    let doctor = text(&inside(&["doctor"]).output().unwrap());
    assert!(doctor.contains("libseccomp"), "{doctor}");
    good(&mut inside(&[
        "record",
        "--backend",
        "notify",
        "-o",
        "/trace.json",
        "--",
        "/seccomp-learn",
        "--version",
    ]));
    good(&mut inside(&["synth", "/trace.json", "-o", "/profile.json"]));
    good(&mut inside(&["test", "/profile.json", "--", "/seccomp-learn", "--version"]));
    let profile = fs::read_to_string(root.join("profile.json")).unwrap();
    assert!(profile.contains("\"execve\""), "{profile}");
}

#[test]
fn works_where_there_is_nothing_else() {
    require!("chroot");
    let root = tempfile::tempdir().unwrap();
    works_in(root.path());
}

/// A Debian system's own mirror, which serves the other releases too; without one debootstrap knows where to ask.
fn debian_mirror() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let field = |name: &str| release.lines().find_map(|line| line.strip_prefix(name));
    let own = field("VERSION_CODENAME=").filter(|_| field("ID=") == Some("debian"))?;
    let mut apt = Command::new("apt-get");
    let targets = text(&apt.args(["indextargets", "--format", "$(RELEASE) $(REPO_URI)"]).output().ok()?);
    targets.lines().find_map(|line| line.strip_prefix(own)?.strip_prefix(' ').map(str::to_owned))
}

#[test]
fn works_on_a_much_older_system() {
    require!("chroot", "debootstrap");
    // The oldest release that Debian's archive still has: its C library is four years older than the build's.
    let root = cache().join("bullseye-rootfs");
    if !root.is_dir() {
        let work = root.with_extension("partial");
        let _ = fs::remove_dir_all(&work);
        let mut make = Command::new("debootstrap");
        make.args(["--variant=minbase", "bullseye"]).arg(&work).args(debian_mirror());
        good(&mut make);
        fs::rename(&work, &root).unwrap();
    }
    works_in(&root);
    let mut own = Command::new("chroot");
    own.arg(&root).args([
        "/seccomp-learn",
        "record",
        "--backend",
        "notify",
        "-o",
        "/ls.json",
        "--",
        "/bin/ls",
        "/",
    ]);
    good(&mut own);
    assert!(cli::read_trace(&root.join("ls.json")).syscalls.iter().any(|row| row.name == "getdents64"));
}

/// Loads the archive and returns the name that the image has.
fn load(engine: &Engine) -> String {
    good(engine.command(["load", "--input"]).arg(artifact(".oci.tar")));
    concat!("seccomp-learn:", env!("CARGO_PKG_VERSION")).to_owned()
}

fn runs(engine: &Engine, image: &str) {
    let run = |arguments: &[&str]| {
        let mut run = engine.command(["run", "--rm"]);
        run.args(&engine.run).arg(image).args(arguments);
        text(&good(&mut run))
    };
    assert!(run(&["--help"]).contains("seccomp-learn"));
    assert!(run(&["--version"]).contains(env!("CARGO_PKG_VERSION")));
    let recorded =
        run(&["record", "--backend", "notify", "-o", "/trace.json", "--", "/seccomp-learn", "--version"]);
    assert!(recorded.contains("trace.json"), "{recorded}");
}

#[test]
fn the_image_runs_under_podman() {
    require!("podman", "runc");
    let podman = Podman::start(&[]);
    let engine = podman.engine("runc");
    let image = load(&engine);
    runs(&engine, &image);
}

#[test]
fn the_image_runs_under_docker() {
    require!("docker", "dockerd");
    let daemon = Docker::start(&[]);
    let engine = daemon.engine("runc");
    let image = load(&engine);
    runs(&engine, &image);
}
