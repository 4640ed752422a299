//! What a descriptor was: from what the kernel side saw of it to a kind, a number and a path.

use std::{collections::BTreeMap, fs};

use profiler_ebpf::{NAME_PART, Names, OpenedFile, file, maps};
use trace::{File, FileKind};

use super::{
    EbpfError,
    tables::{Plain, Tables, failed},
};

// `include/uapi/linux/magic.h`, and for files without a place `fs/pidfs.c`.
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;
const DEVPTS: u64 = 0x1cd1;
const ANONYMOUS: u64 = 0x0904_1934;
const PIDFS: u64 = 0x5049_4446;

/// The files whose names were kept.
#[derive(Debug, Default)]
pub(super) struct Files {
    names: BTreeMap<OpenedFile, Names>,
}

impl Files {
    /// Reads what was kept.
    pub(super) fn read(tables: &Tables) -> Result<Self, EbpfError> {
        let mut names = BTreeMap::new();
        for entry in tables.files.iter() {
            let (Plain(file), Plain(kept)) = entry.map_err(failed(maps::FILES))?;
            names.insert(file, kept);
        }
        Ok(Self { names })
    }

    /// What the file of this kind is that this id tells from the others; none where there is nothing to say.
    pub(super) fn file(&self, kind: u32, id: u64) -> Option<File> {
        let names = self.names.get(&OpenedFile { kind, reserved: 0, id });
        let plain = |kind| Some(File { kind, device: None, path: None });
        match kind {
            file::CHARACTER_DEVICE => Some(device(FileKind::CharacterDevice, id, names)),
            file::BLOCK_DEVICE => Some(device(FileKind::BlockDevice, id, names)),
            file::REGULAR => plain(FileKind::Regular),
            file::DIRECTORY => plain(FileKind::Directory),
            file::SOCKET => plain(FileKind::Socket),
            file::PIPE => plain(FileKind::Pipe),
            file::ANONYMOUS => Some(anonymous(names)),
            file::MEMORY => plain(FileKind::Memory),
            file::OTHER => plain(FileKind::Other),
            file::NONE => plain(FileKind::None),
            _ => None,
        }
    }
}

/// A device: its number, and where it is.
fn device(kind: FileKind, id: u64, names: Option<&Names>) -> File {
    // `MAJOR` and `MINOR`, `include/linux/kdev_t.h`.
    let (major, minor) = (id >> 20, id & 0xf_ffff);
    let path = names.and_then(path).or_else(|| known(kind, major, minor));
    File { kind, device: Some(format!("{major}:{minor}")), path }
}

/// The path that the names make.
fn path(names: &Names) -> Option<String> {
    let mut parts: Vec<&str> = names.names.iter().map(|name| text(name)).collect::<Option<_>>()?;
    let end = parts.iter().position(|part| matches!(*part, "" | "/"))?;
    // Without the root above, there may be more than was kept; with nothing below it, it is no device's.
    if end == 0 {
        return None;
    }
    parts.truncate(end);
    parts.reverse();
    let below = parts.join("/");
    Some(match names.magic {
        DEVPTS => format!("/dev/pts/{below}"),
        // Such a file system is mounted on `/dev`, be it the kernel's own or a container's.
        TMPFS | RAMFS if parts.first() != Some(&"dev") => format!("/dev/{below}"),
        _ => format!("/{below}"),
    })
}

/// A name that was not cut.
fn text(name: &[u8; NAME_PART]) -> Option<&str> {
    let end = name.iter().position(|byte| *byte == 0)?;
    let whole = end < NAME_PART - 1;
    name.get(..end).filter(|_| whole).and_then(|name| str::from_utf8(name).ok())
}

/// Where a device is of which only the number is known: as the driver's own table, or this host, has it.
fn known(kind: FileKind, major: u64, minor: u64) -> Option<String> {
    if kind == FileKind::CharacterDevice {
        // `kernel-open/common/inc/nv-chardev-numbers.h` of the open GPU kernel modules: one major, fixed.
        match (major, minor) {
            (195, 255) => return Some("/dev/nvidiactl".to_owned()),
            (195, 254) => return Some("/dev/nvidia-modeset".to_owned()),
            (195, index) => return Some(format!("/dev/nvidia{index}")),
            _ => {}
        }
        // The others are given away when the driver is loaded, and have no entry in sysfs.
        let devices = fs::read_to_string("/proc/devices").unwrap_or_default();
        match (driver(&devices, major), minor) {
            (Some("nvidia-uvm"), 0) => return Some("/dev/nvidia-uvm".to_owned()),
            (Some("nvidia-uvm"), 1) => return Some("/dev/nvidia-uvm-tools".to_owned()),
            _ => {}
        }
    }
    let class = if kind == FileKind::BlockDevice { "block" } else { "char" };
    let about = fs::read_to_string(format!("/sys/dev/{class}/{major}:{minor}/uevent")).ok()?;
    about.lines().find_map(|line| line.strip_prefix("DEVNAME=")).map(|name| format!("/dev/{name}"))
}

/// The driver that has a major number of character devices, as `/proc/devices` says.
fn driver(devices: &str, major: u64) -> Option<&str> {
    let lines = devices.lines().take_while(|line| !line.starts_with("Block"));
    lines
        .filter_map(|line| line.trim().split_once(' '))
        .find_map(|(number, name)| (number.parse() == Ok(major)).then_some(name))
}

/// A file that is in no directory.
fn anonymous(names: Option<&Names>) -> File {
    let (kind, path) = match names {
        Some(Names { magic: PIDFS, .. }) => (FileKind::Anonymous, Some("[pidfd]".to_owned())),
        Some(Names { magic: ANONYMOUS, names: [name, ..] }) => {
            (FileKind::Anonymous, text(name).filter(|name| !name.is_empty()).map(str::to_owned))
        }
        Some(_) => (FileKind::Other, None),
        None => (FileKind::Anonymous, None),
    };
    File { kind, device: None, path }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(magic: u64, names: &[&str]) -> Names {
        let mut kept = Names { magic, ..Names::default() };
        for (place, name) in kept.names.iter_mut().zip(names) {
            place[..name.len()].copy_from_slice(name.as_bytes());
        }
        kept
    }

    #[test]
    fn names_make_a_path() {
        let check = |magic, parts: &[&str], expected: Option<&str>| {
            assert_eq!(path(&names(magic, parts)).as_deref(), expected, "{parts:?}");
        };
        check(TMPFS, &["null", "/"], Some("/dev/null"));
        check(TMPFS, &["renderD128", "dri", "/"], Some("/dev/dri/renderD128"));
        check(TMPFS, &["nvidiactl", "dev", "/"], Some("/dev/nvidiactl"));
        // An overlay, or a disk.
        check(0x794c_7630, &["nvidia-uvm", "dev", "/"], Some("/dev/nvidia-uvm"));
        check(0xef53, &["own", "tmp", "/"], Some("/tmp/own"));
        check(DEVPTS, &["3", "/"], Some("/dev/pts/3"));
        check(TMPFS, &["a", "b", "c", "/"], Some("/dev/c/b/a"));
        check(TMPFS, &["a", "b", "c", "d"], None);
        check(TMPFS, &["/"], None);
        check(TMPFS, &["0123456789012345678901234567890", "/"], None);
    }

    #[test]
    fn devices_have_numbers_and_known_ones_paths() {
        let files = Files::default();
        let nvidia = files.file(file::CHARACTER_DEVICE, 195 << 20 | 255).unwrap();
        assert_eq!(
            (nvidia.device.as_deref(), nvidia.path.as_deref()),
            (Some("195:255"), Some("/dev/nvidiactl"))
        );
        assert_eq!(files.file(file::UNKNOWN, 0), None);
        let devices = "Character devices:\n  1 mem\n195 nvidia\n235 nvidia-uvm\n\nBlock devices:\n  7 loop\n";
        assert_eq!((driver(devices, 235), driver(devices, 7)), (Some("nvidia-uvm"), None));
    }

    #[test]
    fn files_without_a_place_are_what_the_kernel_calls_them() {
        let of = |magic, parts: &[&str]| {
            let file = anonymous(Some(&names(magic, parts)));
            (file.kind, file.path)
        };
        assert_eq!(of(ANONYMOUS, &["[eventpoll]"]), (FileKind::Anonymous, Some("[eventpoll]".to_owned())));
        assert_eq!(of(PIDFS, &[""]), (FileKind::Anonymous, Some("[pidfd]".to_owned())));
        assert_eq!(of(0x6e73_6673, &[""]), (FileKind::Other, None));
    }
}
