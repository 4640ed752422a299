//! What can be learnt of a thread that waits in a call: what it points to, and what its descriptors are.

use std::{
    ffi::CString,
    fs,
    io::{ErrorKind, IoSliceMut},
    mem::MaybeUninit,
    path::Path,
};

use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};
use trace::{File, FileKind};

/// How long a path can be: `PATH_MAX`, `include/uapi/linux/limits.h`.
const LONGEST_PATH: u64 = 4096;
/// How much of a text is read at once. Begun at a multiple of it no read crosses a page.
const PIECE: u64 = 256;

/// A thread that waits in a call, in our pid namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller(pub(super) u32);

impl Caller {
    /// A number of 32 or 64 bits in its memory; none where it cannot be read.
    pub(super) fn number(self, address: u64, width: u32) -> Option<u64> {
        let mut bytes = [0; 8];
        let wanted = bytes.get_mut(..if width == 32 { 4 } else { 8 })?;
        self.read(address, wanted)?;
        Some(if width == 32 {
            let [a, b, c, d, ..] = bytes;
            u64::from(u32::from_ne_bytes([a, b, c, d]))
        } else {
            u64::from_ne_bytes(bytes)
        })
    }

    /// A path in its memory; none where it cannot be read, or has no end. What is not UTF-8 is replaced.
    pub(super) fn path(self, address: u64) -> Option<String> {
        let mut text = Vec::new();
        let mut from = address;
        while from - address < LONGEST_PATH {
            let to = (from / PIECE + 1).checked_mul(PIECE)?;
            let mut piece = [0; PIECE as usize];
            let piece = piece.get_mut(..usize::try_from(to - from).ok()?)?;
            self.read(from, piece)?;
            match piece.iter().position(|byte| *byte == 0) {
                Some(end) => {
                    text.extend_from_slice(piece.get(..end)?);
                    return Some(String::from_utf8_lossy(&text).into_owned());
                }
                None => text.extend_from_slice(piece),
            }
            from = to;
        }
        None
    }

    fn read(self, address: u64, into: &mut [u8]) -> Option<()> {
        let len = into.len();
        let remote = RemoteIoVec { base: usize::try_from(address).ok()?, len };
        let pid = Pid::from_raw(i32::try_from(self.0).ok()?);
        let read = process_vm_readv(pid, &mut [IoSliceMut::new(into)], &[remote]);
        (read == Ok(len)).then_some(())
    }

    /// What a descriptor is, of which the kernel reads 32 bits; none where that cannot be learnt.
    pub(super) fn file(self, descriptor: u64) -> Option<File> {
        let of = |kind| File { kind, device: None, path: None };
        #[expect(clippy::cast_possible_truncation, reason = "the kernel takes an int")]
        let descriptor = (descriptor as u32).cast_signed();
        let link = format!("/proc/{}/fd/{descriptor}", self.0);
        let target = match fs::read_link(&link) {
            Ok(target) => target.to_string_lossy().into_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let lives = Path::new("/proc").join(self.0.to_string()).exists();
                return lives.then(|| of(FileKind::None));
            }
            Err(_) => return None,
        };
        if let Some(name) = target.strip_prefix("anon_inode:") {
            return Some(File { path: Some(name.to_owned()), ..of(FileKind::Anonymous) });
        }
        if target.starts_with("/memfd:") {
            return Some(of(FileKind::Memory));
        }
        let (mode, device) = status(&link)?;
        let device = |kind| File { device: Some(device), path: Some(target), ..of(kind) };
        Some(match mode & libc::S_IFMT {
            libc::S_IFCHR => device(FileKind::CharacterDevice),
            libc::S_IFBLK => device(FileKind::BlockDevice),
            libc::S_IFREG => of(FileKind::Regular),
            libc::S_IFDIR => of(FileKind::Directory),
            libc::S_IFSOCK => of(FileKind::Socket),
            libc::S_IFIFO => of(FileKind::Pipe),
            _ => of(FileKind::Other),
        })
    }
}

/// The mode and the device numbers of a file, from what the kernel has of it: a file system is not asked, since its
/// server may be the very process that waits for us.
fn status(path: &str) -> Option<(u32, String)> {
    let path = CString::new(path).ok()?;
    let mut status = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path ends in a NUL, the buffer is a `statx`, and both live longer than the call.
    let failed = unsafe {
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_STATX_DONT_SYNC,
            libc::STATX_TYPE,
            status.as_mut_ptr(),
        )
    };
    if failed != 0 {
        return None;
    }
    // SAFETY: every bit pattern is a `statx`, and the kernel filled it in.
    let status = unsafe { status.assume_init() };
    Some((u32::from(status.stx_mode), format!("{}:{}", status.stx_rdev_major, status.stx_rdev_minor)))
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd};

    use super::*;

    #[test]
    fn memory_is_read_to_the_end_of_a_text_and_no_further() {
        let caller = Caller(std::process::id());
        let number = 0x1_2345_6789u64;
        let address = (&raw const number).addr() as u64;
        assert_eq!(caller.number(address, 64), Some(number));
        assert_eq!(
            caller.number(address, 32),
            Some(if cfg!(target_endian = "big") { 1 } else { 0x2345_6789 })
        );
        assert_eq!(caller.number(0, 32), None);
        assert_eq!(caller.number(u64::MAX, 64), None);

        // A text at the very end of what is mapped, and one that is too long.
        let page = 4096;
        // SAFETY: new memory of two pages, of which the second is taken away again.
        let start = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let start = libc::mmap(std::ptr::null_mut(), 2 * page, protection, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            assert_eq!(libc::munmap(start.byte_add(page), page), 0);
            libc::memset(start, i32::from(b'x'), page);
            *start.cast::<u8>().add(page - 1) = 0;
            start as u64
        };
        let page = page as u64;
        assert_eq!(caller.path(start + page - 5).as_deref(), Some("xxxx"));
        assert_eq!(caller.path(start + page - 1).as_deref(), Some(""));
        assert_eq!(caller.path(start).map(|path| path.len()), Some(4095));
        assert_eq!(caller.path(start + page), None);
        let endless = vec![b'y'; 5000];
        assert_eq!(caller.path(endless.as_ptr().addr() as u64), None);
    }

    #[test]
    fn descriptors_are_told_apart() {
        let caller = Caller(std::process::id());
        let kind = |descriptor: &dyn AsRawFd| {
            caller.file(u64::from(descriptor.as_raw_fd().cast_unsigned())).unwrap()
        };
        let null = fs::File::open("/dev/null").unwrap();
        let file = kind(&null);
        assert_eq!(
            (file.kind, file.device.as_deref(), file.path.as_deref()),
            (FileKind::CharacterDevice, Some("1:3"), Some("/dev/null"))
        );
        let (pipe, _other) = std::io::pipe().unwrap();
        assert_eq!(kind(&pipe), File { kind: FileKind::Pipe, device: None, path: None });
        assert_eq!(kind(&fs::File::open("/proc/self/exe").unwrap()).kind, FileKind::Regular);
        assert_eq!(kind(&fs::File::open("/").unwrap()).kind, FileKind::Directory);
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(kind(&socket).kind, FileKind::Socket);
        let memory = nix::sys::memfd::memfd_create("x", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
        assert_eq!(kind(&memory).kind, FileKind::Memory);
        // SAFETY: makes a descriptor, which becomes ours.
        let events = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) };
        let file = kind(&events);
        assert_eq!((file.kind, file.path.as_deref()), (FileKind::Anonymous, Some("[eventfd]")));
        assert_eq!(caller.file(u64::MAX).unwrap().kind, FileKind::None);
        assert_eq!(caller.file(1 << 20).unwrap().kind, FileKind::None);
        // The kernel takes an int: what is above it is nothing.
        assert_eq!(
            caller.file(u64::from(null.as_raw_fd().cast_unsigned()) | 1 << 40).unwrap().path.as_deref(),
            Some("/dev/null")
        );
        assert_eq!(Caller(u32::MAX >> 1).file(0), None);
    }
}
