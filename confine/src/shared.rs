//! Memory that processes share: what the child says without making a call that a filter would see, and what the
//! keeper must know after the listening process has died.

use std::{
    io,
    ptr::NonNull,
    sync::atomic::{AtomicI32, Ordering::SeqCst},
};

/// The step at which the child failed.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Stdio = 1,
    Helper = 2,
    Cgroup = 3,
    NoNewPrivileges = 4,
    Filter = 5,
    Exec = 6,
}

impl Stage {
    const ALL: [Self; 6] =
        [Self::Stdio, Self::Helper, Self::Cgroup, Self::NoNewPrivileges, Self::Filter, Self::Exec];

    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Stdio => "connecting standard input, output and error",
            Self::Helper => "starting the helper that hands the listener over",
            Self::Cgroup => "entering the cgroup",
            Self::NoNewPrivileges => "setting no_new_privs",
            Self::Filter => "loading the seccomp filter",
            Self::Exec => "executing the program",
        }
    }
}

/// What is on the page.
#[repr(C)]
pub(crate) struct Page {
    /// 0, or the [`Stage`] that failed.
    stage: AtomicI32,
    errno: AtomicI32,
    /// The listener's number in the child's descriptor table, plus 1.
    listener: AtomicI32,
    /// The hand-over helper's process id.
    helper: AtomicI32,
}

/// Zeroed memory that this process and those it forks share.
#[derive(Debug)]
pub(crate) struct Mapping {
    address: NonNull<libc::c_void>,
    length: usize,
}

// SAFETY: it is an address and a length; whoever reads or writes through it has to say why that is sound.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { address, length })
    }

    /// Its start, page-aligned.
    pub(crate) const fn start<T>(&self) -> *mut T {
        self.address.as_ptr().cast()
    }

    pub(crate) const fn length(&self) -> usize {
        self.length
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; references into it borrow `self`.
        unsafe { libc::munmap(self.address.as_ptr(), self.length) };
    }
}

/// The page of a child.
#[derive(Debug)]
pub(crate) struct Shared(Mapping);

impl Shared {
    pub(crate) fn new() -> io::Result<Self> {
        Mapping::new(size_of::<Page>()).map(Self)
    }

    pub(crate) fn page(&self) -> &Page {
        // SAFETY: mapped as long as `self` lives; zeroes are a valid `Page`, and it is atomics only.
        unsafe { &*self.0.start::<Page>() }
    }

    /// The failure that the child named, if it did.
    pub(crate) fn failure(&self) -> Option<(Stage, io::Error)> {
        let stage = self.page().stage.load(SeqCst);
        let stage = Stage::ALL.into_iter().find(|known| *known as i32 == stage)?;
        Some((stage, io::Error::from_raw_os_error(self.page().errno.load(SeqCst))))
    }

    pub(crate) fn listener(&self) -> Option<i32> {
        self.page().listener.load(SeqCst).checked_sub(1).filter(|number| *number >= 0)
    }

    pub(crate) fn helper(&self) -> Option<i32> {
        Some(self.page().helper.load(SeqCst)).filter(|pid| *pid > 0)
    }
}

impl Page {
    pub(crate) fn fail(&self, stage: Stage, errno: i32) {
        self.errno.store(errno, SeqCst);
        self.stage.store(stage as i32, SeqCst);
    }

    pub(crate) fn set_listener(&self, number: i32) {
        self.listener.store(number.saturating_add(1), SeqCst);
    }

    pub(crate) fn set_helper(&self, pid: i32) {
        self.helper.store(pid, SeqCst);
    }
}
