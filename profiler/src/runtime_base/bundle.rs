//! An OCI bundle with as little in it as a runtime takes: a root file system with one program, and a
//! configuration that differs from container to container in what the runtime does differently.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::program::Program;

/// What Docker leaves a container: `DefaultCapabilities`, moby's oci/caps/defaults.go.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// In what one process differs from another, as far as the runtime acts on it after the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) no_new_privileges: bool,
    /// As uid 1000 with a further group, else as root.
    pub(super) unprivileged: bool,
    /// With Docker's capabilities, else with none.
    pub(super) capable: bool,
    pub(super) terminal: bool,
    /// The program is looked up in `PATH`, else named by its path.
    pub(super) by_name: bool,
}

impl Variant {
    /// All of one kind of no_new_privs; the way the program is named alternates, so that both meet everything.
    pub(super) fn all(no_new_privileges: bool, round: u32) -> impl Iterator<Item = Self> {
        (0u32..8).map(move |bits| Self {
            no_new_privileges,
            unprivileged: bits & 1 != 0,
            capable: bits & 2 != 0,
            terminal: bits & 4 != 0,
            by_name: (bits.count_ones() + round).is_multiple_of(2),
        })
    }

    /// The `process` of a configuration, which is also what `exec --process` reads.
    pub(super) fn process(self, program: Program) -> Value {
        let capabilities: &[&str] = if self.capable { &CAPABILITIES } else { &[] };
        let (id, groups): (u32, &[u32]) = if self.unprivileged { (1000, &[1001]) } else { (0, &[10]) };
        let name = if self.by_name { program.name().to_owned() } else { format!("/{}", program.name()) };
        json!({
            "terminal": self.terminal,
            "user": { "uid": id, "gid": id, "additionalGids": groups },
            "args": [name],
            "env": ["PATH=/nowhere:/"],
            "cwd": "/work",
            "noNewPrivileges": self.no_new_privileges,
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "inheritable": [],
                "permitted": capabilities,
                "ambient": [],
            },
        })
    }
}

/// The folder of a bundle, and what its containers have in common.
pub(super) struct Bundle {
    folder: PathBuf,
    seccomp: Value,
}

impl Bundle {
    /// Makes the root file system in an empty folder.
    pub(super) fn make(folder: &Path, machine: &str, seccomp: Value) -> io::Result<Self> {
        let root = folder.join("rootfs");
        for name in ["", "dev", "etc", "proc", "work"] {
            fs::create_dir_all(root.join(name))?;
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755))?;
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/work:/exit\nuser:x:1000:1000::/work:/exit\n")?;
        fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\n")?;
        for program in [Program::Exit, Program::Wait] {
            let unsupported = || {
                io::Error::new(io::ErrorKind::Unsupported, format!("no program for a machine `{machine}`"))
            };
            let path = root.join(program.name());
            fs::write(&path, program.elf(machine).ok_or_else(unsupported)?)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { folder: folder.to_owned(), seccomp })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes the configuration of the next container, in this cgroup (a path below the hierarchy's root).
    pub(super) fn configure(&self, variant: Variant, program: Program, cgroup: &str) -> io::Result<()> {
        let namespaces = ["pid", "ipc", "uts", "mount", "network"].map(|kind| json!({ "type": kind }));
        let config = json!({
            "ociVersion": "1.0.2",
            "process": variant.process(program),
            "root": { "path": "rootfs", "readonly": false },
            "hostname": "runtime-base",
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                  "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                  "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
            ],
            // No `resources`: crun loads a device program for them, which it cannot everywhere.
            "linux": { "cgroupsPath": cgroup, "namespaces": namespaces, "seccomp": self.seccomp },
        });
        fs::write(self.folder.join("config.json"), config.to_string())
    }

    /// Writes what `exec --process` reads.
    pub(super) fn process(&self, variant: Variant) -> io::Result<PathBuf> {
        let path = self.folder.join("process.json");
        fs::write(&path, variant.process(Program::Exit).to_string())?;
        Ok(path)
    }
}
