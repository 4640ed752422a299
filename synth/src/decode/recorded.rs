//! Calls as traces have them: of each the arguments that were kept, and what the descriptor was.

use trace::{Abi, File, FileKind, Kept, Values};

use super::{Type, in_struct, number, prototype, request};
use crate::{
    arguments::{self, ArgumentKind},
    decode::StructField,
    nvidia,
};

/// Values that a trace has of a call, in words: `ioctl(/dev/nvidia-uvm, UVM_INITIALIZE)`,
/// `clone3({flags=CLONE_VM|CLONE_VFORK} /* read from memory */)`. Of arguments that were not kept nothing is written.
#[must_use]
pub fn recorded(abi: Abi, name: &str, kept: &[Kept], values: &Values) -> String {
    // No set goes by an argument that is all ones, so what was not kept gives no name to another one.
    let mut args = [u64::MAX; 6];
    let mut fields = Vec::new();
    for (own, &value) in kept.iter().zip(&values.arguments) {
        match own.offset {
            Some(offset) => fields.push(StructField { index: own.index, offset, value }),
            None => {
                if let Some(slot) = slot(&mut args, own.index) {
                    *slot = value;
                }
            }
        }
    }
    let descriptor = prototype(abi, name)
        .and_then(|types| types.iter().position(|kind| matches!(kind, Type::Fd | Type::Dir)))
        .and_then(|index| u32::try_from(index).ok());
    let mut words = Vec::new();
    for index in 0..6 {
        if let Some(text) = in_struct(abi, name, index, &args, &fields) {
            words.push(text + " /* read from memory */");
        }
        let own = kept.iter().find(|own| own.index == index && own.offset.is_none());
        if let (Some(own), Some(&mut value)) = (own, slot(&mut args, index)) {
            let mut text = argument(abi, name, index, &args, values.file.as_ref(), value);
            if values.upper.contains(&own.name) {
                text += " /* with an upper half */";
            }
            words.push(text);
        } else if descriptor == Some(index) {
            words.extend(values.file.as_ref().map(file));
        }
    }
    format!("{name}({})", words.join(", "))
}

/// The registers of a call that a trace has, 0 where nothing was kept.
#[must_use]
pub fn registers(kept: &[Kept], values: &Values) -> [u64; 6] {
    let mut args = [0; 6];
    for (own, &value) in kept.iter().zip(&values.arguments).filter(|(own, _)| own.offset.is_none()) {
        if let Some(slot) = slot(&mut args, own.index) {
            *slot = value;
        }
    }
    args
}

/// A file in words: its path where it has one that is kept, else its kind.
#[must_use]
pub fn file(file: &File) -> String {
    if let Some(path) = &file.path {
        return path.clone();
    }
    let kind = match file.kind {
        FileKind::CharacterDevice => "character device",
        FileKind::BlockDevice => "block device",
        FileKind::Regular => "regular file",
        FileKind::Directory => "directory",
        FileKind::Socket => "socket",
        FileKind::Pipe => "pipe",
        FileKind::Anonymous => "anonymous inode",
        FileKind::Memory => "memory",
        FileKind::Other => "other file",
        FileKind::None => "no file",
    };
    match &file.device {
        Some(device) => format!("{kind} {device}"),
        None => kind.to_owned(),
    }
}

fn argument(abi: Abi, syscall: &str, index: u32, args: &[u64; 6], file: Option<&File>, value: u64) -> String {
    let Some(known) = arguments::argument(syscall, index) else { return number(value) };
    if known.kind == ArgumentKind::Request {
        return request::show(file.and_then(place).as_deref(), value);
    }
    known.set(abi, args).map_or_else(|| number(value), |set| set.show(value))
}

/// The path that names requests for a file, or what /proc/PID/fd shows in its place. Numbers of devices:
/// Documentation/admin-guide/devices.txt.
fn place(file: &File) -> Option<String> {
    if let Some(path) = &file.path {
        let name = path.strip_prefix("anon_inode:").unwrap_or(path);
        return Some(name.trim_matches(['[', ']']).to_owned());
    }
    if file.kind == FileKind::Socket {
        return Some("socket:".to_owned());
    }
    if let Some(device) = nvidia::device(file) {
        return Some(device.path().to_owned());
    }
    let device = file.device.as_deref()?;
    match (file.kind, device.split_once(':')?.0.parse().ok()?) {
        (FileKind::CharacterDevice, 136..=143) => Some("/dev/pts/".to_owned()),
        (FileKind::CharacterDevice, 4 | 5) => Some("/dev/tty".to_owned()),
        _ => None,
    }
}

fn slot(args: &mut [u64; 6], index: u32) -> Option<&mut u64> {
    args.get_mut(usize::try_from(index).ok()?)
}

#[cfg(test)]
mod tests {
    use trace::FirstSight;

    use super::*;

    fn kept(index: u32, name: &str, offset: Option<u32>) -> Kept {
        Kept { index, offset, name: name.to_owned(), mask: u64::MAX }
    }

    fn values(arguments: &[u64], file: Option<File>, upper: &[&str]) -> Values {
        Values {
            arguments: arguments.to_vec(),
            calls: 1,
            denied: 0,
            runs: 1,
            upper: upper.iter().map(|name| (*name).to_owned()).collect(),
            file,
            phases: [].into(),
            first: FirstSight { after_ms: 0, pid: 1, comm: "x".to_owned() },
        }
    }

    fn of(kind: FileKind, device: Option<&str>, path: Option<&str>) -> File {
        File { kind, device: device.map(str::to_owned), path: path.map(str::to_owned) }
    }

    #[test]
    fn what_was_kept_is_written_and_nothing_else() {
        let check = |name: &str, kept: &[Kept], values: &Values, expected: &str| {
            assert_eq!(recorded(Abi::X86_64, name, kept, values), expected);
        };
        let request = [kept(1, "request", None)];
        let device = |number, path| Some(of(FileKind::CharacterDevice, number, path));
        for (request_number, file, expected) in [
            (
                0x3000_0001,
                device(Some("510:0"), Some("/dev/nvidia-uvm")),
                "ioctl(/dev/nvidia-uvm, UVM_INITIALIZE)",
            ),
            (
                0xc020_462a,
                device(Some("195:255"), None),
                "ioctl(character device 195:255, NV_ESC_RM_CONTROL)",
            ),
            (0x5411, device(Some("136:3"), None), "ioctl(character device 136:3, TIOCOUTQ)"),
            (0x5411, Some(of(FileKind::Socket, None, None)), "ioctl(socket, SIOCOUTQ)"),
            (0x5401, Some(of(FileKind::None, None, None)), "ioctl(no file, TCGETS)"),
            (0x5401, None, "ioctl(TCGETS)"),
        ] {
            check("ioctl", &request, &values(&[request_number], file, &[]), expected);
        }
        check(
            "ioctl",
            &request,
            &values(&[0x5412], None, &["request"]),
            "ioctl(TIOCSTI /* with an upper half */)",
        );
        let socket = [kept(0, "domain", None), kept(1, "type", None), kept(2, "protocol", None)];
        check(
            "socket",
            &socket,
            &values(&[10, 0x80001, 0], None, &[]),
            "socket(AF_INET6, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP)",
        );
        check("socket", &socket[..1], &values(&[10], None, &[]), "socket(AF_INET6)");
        let mmap = [kept(2, "prot", None), kept(3, "flags", None)];
        check("mmap", &mmap, &values(&[5, 2], None, &[]), "mmap(PROT_READ|PROT_EXEC, MAP_PRIVATE)");
        check(
            "mmap",
            &mmap,
            &values(&[3, 1], device(None, Some("/dev/nvidiactl")), &[]),
            "mmap(PROT_READ|PROT_WRITE, MAP_SHARED, /dev/nvidiactl)",
        );
        let option = [kept(1, "level", None), kept(2, "optname", None)];
        check("setsockopt", &option, &values(&[6, 1], None, &[]), "setsockopt(SOL_TCP, TCP_NODELAY)");
        check("setsockopt", &option, &values(&[400, 31], None, &[]), "setsockopt(400, 31)");
        check("setsockopt", &option[1..], &values(&[31], None, &[]), "setsockopt(31)");
        check(
            "clone3",
            &[kept(0, "flags", Some(0))],
            &values(&[0x4100], None, &[]),
            "clone3({flags=CLONE_VM|CLONE_VFORK} /* read from memory */)",
        );
        check("prctl", &[kept(0, "option", None)], &values(&[15], None, &[]), "prctl(PR_SET_NAME)");
    }
}
