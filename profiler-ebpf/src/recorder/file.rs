//! What a descriptor is, as far as calls with it are told apart by that.

use profiler_ebpf::file;

use crate::kernel::{KERNEL, Task, peek, told};

// `include/uapi/linux/stat.h`.
const FORMAT: u16 = 0o170_000;
const SOCKET: u16 = 0o140_000;
const REGULAR: u16 = 0o100_000;
const BLOCK_DEVICE: u16 = 0o060_000;
const DIRECTORY: u16 = 0o040_000;
const CHARACTER_DEVICE: u16 = 0o020_000;
const PIPE: u16 = 0o010_000;

// `include/uapi/linux/magic.h`.
const TMPFS: u64 = 0x0102_1994;
const HUGETLBFS: u64 = 0x9584_58f6;

/// A file that is open.
pub(crate) struct File {
    /// See [`profiler_ebpf::file`].
    pub kind: u32,
    /// What tells files of this kind apart, where that matters.
    pub id: u64,
    /// The address of the kernel's structure.
    pub address: u64,
}

impl File {
    /// What the task has open as this descriptor. Whoever closes it meanwhile makes this no worse than wrong.
    #[inline(always)]
    pub(crate) fn of(task: Task, descriptor: u32) -> Self {
        if told(&KERNEL.has_files) == 0 {
            return Self { kind: file::UNKNOWN, id: 0, address: 0 };
        }
        let address = task.file(descriptor);
        if address == 0 {
            return Self { kind: file::NONE, id: 0, address };
        }
        let inode: u64 = field(address, &KERNEL.file_inode);
        let device = || u64::from(field::<u32>(inode, &KERNEL.inode_rdev));
        let (kind, id) = match field::<u16>(inode, &KERNEL.inode_mode) & FORMAT {
            SOCKET => (file::SOCKET, 0),
            CHARACTER_DEVICE => (file::CHARACTER_DEVICE, device()),
            BLOCK_DEVICE => (file::BLOCK_DEVICE, device()),
            DIRECTORY => (file::DIRECTORY, 0),
            PIPE => (file::PIPE, 0),
            // Files without a place had no kind at all before Linux 6.16.
            REGULAR | 0 => without_place(address, inode),
            _ => (file::OTHER, 0),
        };
        Self { kind, id, address }
    }

    /// Where a file is: what its file system is, and its entry there.
    #[inline(always)]
    pub(crate) fn place(address: u64) -> (u64, Entry) {
        let inode: u64 = field(address, &KERNEL.file_inode);
        (magic(inode), Entry(field(address, &KERNEL.file_dentry)))
    }
}

/// Tells regular files from those that are in no directory.
#[inline(always)]
fn without_place(address: u64, inode: u64) -> (u32, u64) {
    let entry = Entry(field(address, &KERNEL.file_dentry));
    if entry.parent().is_some() {
        return (file::REGULAR, 0);
    }
    match magic(inode) {
        TMPFS | HUGETLBFS => (file::MEMORY, 0),
        // All of them are one inode; what they are is what the kernel does with them.
        _ => (file::ANONYMOUS, field(address, &KERNEL.file_op)),
    }
}

#[inline(always)]
fn magic(inode: u64) -> u64 {
    field(field::<u64>(inode, &KERNEL.inode_sb), &KERNEL.sb_magic)
}

/// A field of a structure, by the address of that.
#[inline(always)]
fn field<T: Default>(address: u64, offset: &u32) -> T {
    peek(address.wrapping_add(u64::from(told(offset))))
}

/// The address of a `struct dentry`.
#[derive(Clone, Copy)]
pub(crate) struct Entry(u64);

impl Entry {
    /// The directory above it; none for the root of its file system, and for what is in no directory.
    #[inline(always)]
    pub(crate) fn parent(self) -> Option<Self> {
        let parent: u64 = field(self.0, &KERNEL.dentry_parent);
        if parent == 0 || parent == self.0 { None } else { Some(Self(parent)) }
    }

    /// Its name, a string of the kernel's.
    #[inline(always)]
    pub(crate) fn name(self) -> *const u8 {
        core::ptr::with_exposed_provenance(field::<u64>(self.0, &KERNEL.dentry_name) as usize)
    }
}
