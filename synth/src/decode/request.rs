//! Names of ioctl requests: `profiles/knowledge/ioctls.toml`, and NVIDIA's devices.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

use crate::nvidia::{self, Device};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    group: Vec<Group>,
}

/// The requests of one kind of file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    kind: String,
    /// How the paths of such files begin, separated by white space; none for the requests of every file.
    paths: Option<String>,
    #[cfg_attr(not(test), expect(dead_code, reason = "for the reader of the table; a test asks for it"))]
    source: String,
    requests: BTreeMap<String, u32>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the table is compiled in, and a test reads it")]
    toml::from_str(include_str!("../../../profiles/knowledge/ioctls.toml")).expect("a shipped table reads")
});

impl Group {
    fn name(&self, request: u32) -> Option<&str> {
        self.requests.iter().find(|(_, value)| **value == request).map(|(name, _)| name.as_str())
    }

    fn is_of(&self, path: &str) -> bool {
        self.paths.as_deref().unwrap_or_default().split_whitespace().any(|start| path.starts_with(start))
    }
}

/// The kind of file that a path is of, where its requests have names: `terminal`, `socket`.
#[must_use]
pub fn file_kind(path: &str) -> Option<&'static str> {
    TABLE.group.iter().find(|group| group.is_of(path)).map(|group| group.kind.as_str())
}

/// The names of a request. `file` is the path of the descriptor's file, or what /proc/PID/fd shows for one that has
/// none (`socket:[4711]`), if it is known. Without it, or where the file's kind does not have the request, all
/// names that the number has anywhere.
#[must_use]
pub fn request_names(file: Option<&str>, request: u64) -> Vec<&'static str> {
    let Some(number) = low_half(request) else { return Vec::new() };
    let device = file.and_then(Device::from_path);
    if let Some(device) = device {
        if let Some(own) = nvidia::request(Some(device), number) {
            return vec![&own.name];
        }
    } else if let Some(file) = file {
        let own = TABLE.group.iter().filter(|group| group.paths.is_none() || group.is_of(file));
        let names: Vec<&str> = own.filter_map(|group| group.name(number)).collect();
        if !names.is_empty() {
            return names;
        }
    }
    let mut names: Vec<&str> = TABLE.group.iter().filter_map(|group| group.name(number)).collect();
    if device.is_none() {
        names.extend(nvidia::requests_of(number).map(|own| own.name.as_str()));
    }
    names.dedup();
    names
}

/// A request in words; one without a name in its parts: `_IOC(_IOC_READ|_IOC_WRITE, 0x46, 0x2a, 0x20)`.
pub(super) fn show(file: Option<&str>, request: u64) -> String {
    let names = request_names(file, request);
    if !names.is_empty() {
        return names.join(" or ");
    }
    parts(request & u64::from(u32::MAX))
}

/// include/uapi/asm-generic/ioctl.h: two bits of direction, 14 of size, 8 of type, 8 of number.
fn parts(request: u64) -> String {
    let direction = match request >> 30 {
        0 => "_IOC_NONE",
        1 => "_IOC_WRITE",
        2 => "_IOC_READ",
        _ => "_IOC_READ|_IOC_WRITE",
    };
    let hex = |value: u64| if value == 0 { "0".to_owned() } else { format!("{value:#x}") };
    let (size, kind, number) = (request >> 16 & 0x3fff, request >> 8 & 0xff, request & 0xff);
    format!("_IOC({direction}, {}, {}, {})", hex(kind), hex(number), hex(size))
}

/// The number of a request's name, NVIDIA's left aside.
pub(crate) fn request_value(name: &str) -> Option<u64> {
    TABLE.group.iter().find_map(|group| group.requests.get(name)).map(|value| u64::from(*value))
}

/// Every name with its number.
pub fn requests() -> impl Iterator<Item = (&'static str, u32)> {
    TABLE.group.iter().flat_map(|group| group.requests.iter().map(|(name, value)| (name.as_str(), *value)))
}

/// What the kernel reads of it: `unsigned int cmd`.
fn low_half(request: u64) -> Option<u32> {
    u32::try_from(request & u64::from(u32::MAX)).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_request_goes_by_the_file() {
        for (file, request, expected) in [
            (None, 0x5401, "TCGETS"),
            (None, 0xffff_ffff_802c_542a, "TCGETS2"),
            (None, 0xc020_462a, "NV_ESC_RM_CONTROL"),
            (None, 1, "FIBMAP or UVM_RESERVE_VA"),
            (None, 0x5411, "TIOCOUTQ or SIOCOUTQ"),
            (Some("socket:[17]"), 0x5411, "SIOCOUTQ"),
            (Some("/dev/pts/0"), 0x5411, "TIOCOUTQ"),
            (Some("/dev/nvidia-uvm"), 1, "UVM_RESERVE_VA"),
            (Some("/dev/nvidia-uvm"), 0x3000_0001, "UVM_INITIALIZE"),
            (Some("/dev/nvidiactl"), 0xc900_46c8, "NV_ESC_CARD_INFO"),
            (Some("/dev/nvidia0"), 0x5451, "FIOCLEX"),
            (Some("/dev/nvidia0"), 1, "FIBMAP"),
            (Some("/etc/passwd"), 1, "FIBMAP"),
            (Some("/etc/passwd"), 0x5401, "TCGETS"),
            (None, 0xc020_99ff, "_IOC(_IOC_READ|_IOC_WRITE, 0x99, 0xff, 0x20)"),
            (None, 0, "_IOC(_IOC_NONE, 0, 0, 0)"),
        ] {
            assert_eq!(show(file, request), expected, "{file:?} {request:#x}");
        }
        assert_eq!(file_kind("/dev/pts/3"), Some("terminal"));
        assert_eq!(file_kind("/etc/passwd"), None);
    }

    #[test]
    fn a_name_is_there_once_and_a_number_once_in_its_group() {
        let mut names = BTreeSet::new();
        for (name, _) in requests() {
            assert!(names.insert(name), "{name}");
        }
        for group in &TABLE.group {
            let values: BTreeSet<u32> = group.requests.values().copied().collect();
            assert_eq!(values.len(), group.requests.len(), "{}", group.kind);
            assert!(!group.source.is_empty() && !group.requests.is_empty(), "{}", group.kind);
        }
        assert!(names.len() > 900);
    }
}
