//! What is read from the kernel's own structures, at the offsets that user space found in its BTF.

use core::{ffi::c_void, ptr};

use aya_ebpf::helpers::{bpf_get_current_task_btf, generated::bpf_probe_read_kernel};
use profiler_ebpf::{Call, Kernel};

/// `SECCOMP_MODE_FILTER`, `include/uapi/linux/seccomp.h`. A task that its filter kills has the mode above it:
/// `SECCOMP_MODE_DEAD`, <https://github.com/torvalds/linux/blob/v6.18/kernel/seccomp.c>.
const SECCOMP_MODE_FILTER: u32 = 2;

/// The bit of [`Kernel::task_compat`]'s word: `TS_COMPAT`, `arch/x86/include/asm/thread_info.h`.
#[cfg(bpf_target_arch = "x86_64")]
const COMPAT: u32 = 0x2;
/// The bit of [`Kernel::task_compat`]'s word: `TIF_32BIT`, `arch/arm64/include/asm/thread_info.h`.
#[cfg(bpf_target_arch = "aarch64")]
const COMPAT: u32 = 1 << 22;

/// `__X32_SYSCALL_BIT`, `arch/x86/include/uapi/asm/unistd.h`; arm64 has nothing like it.
const X32_BIT: u32 = if cfg!(bpf_target_arch = "x86_64") { 0x4000_0000 } else { 0 };

#[unsafe(no_mangle)]
pub(crate) static KERNEL: Kernel = Kernel {
    mode: 0,
    fleet: 0,
    stages: 0,
    has_task_pt_regs: 0,
    task_cgroups: 0,
    css_set_dfl_cgrp: 0,
    cgroup_kn: 0,
    cgroup_root: 0,
    cgroup_self_parent: 0,
    css_cgroup: 0,
    root_hierarchy_id: 0,
    kn_id: 0,
    task_compat: 0,
    task_seccomp_mode: 0,
    task_exit_code: 0,
    task_signal: 0,
    task_real_parent: 0,
    task_group_leader: 0,
    task_tgid: 0,
    task_bpf_storage: 0,
    signal_flags: 0,
    signal_group_exit_code: 0,
    regs_number: 0,
    regs_original: 0,
    regs_arguments: [0; 6],
    regs_compat_arguments: [0; 6],
    kn_name: 0,
    task_nsproxy: 0,
    nsproxy_mnt_ns: 0,
    task_filter_count: 0,
    has_files: 0,
    task_files: 0,
    files_fdt: 0,
    fdtable_max_fds: 0,
    fdtable_fd: 0,
    file_inode: 0,
    file_op: 0,
    file_dentry: 0,
    inode_mode: 0,
    inode_rdev: 0,
    inode_sb: 0,
    sb_magic: 0,
    dentry_parent: 0,
    dentry_name: 0,
};

/// A field of [`KERNEL`] as user space set it. Volatile, or the compiler would put the zeros above in its place.
#[inline(always)]
pub(crate) fn told(field: &u32) -> u32 {
    // SAFETY: a reference.
    unsafe { ptr::read_volatile(field) }
}

/// Reads a field of a kernel structure.
///
/// # Safety
/// `base` is a pointer whose type the verifier knows; it checks offset and size, and the read itself yields 0
/// where `base` is not to be read.
#[inline(always)]
unsafe fn load<T: Copy>(base: *const c_void, offset: u32) -> T {
    // Volatile, so that the load stays one load of this size: the verifier looks the field up by it.
    // SAFETY: the caller's word.
    unsafe { ptr::read_volatile(base.byte_add(offset as usize).cast()) }
}

/// Reads what stands at an address in the kernel; 0 where nothing can be read. Without a branch: each would double
/// the ways that the verifier goes.
#[inline(always)]
pub(crate) fn peek<T: Default>(address: u64) -> T {
    let mut value = T::default();
    // SAFETY: the value is as long as said; the helper looks after addresses that are none, and then fills it with
    // zeros.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            ptr::with_exposed_provenance(address as usize),
        )
    };
    value
}

/// A `struct task_struct *` of the kernel's.
#[derive(Clone, Copy)]
pub(crate) struct Task(*const c_void);

impl Task {
    /// The running task.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        // SAFETY: no preconditions.
        Self(unsafe { bpf_get_current_task_btf() }.cast())
    }

    /// A task that the kernel handed to a hook; none for null.
    #[inline(always)]
    pub(crate) fn from_ptr(task: *const c_void) -> Option<Self> {
        if task.is_null() { None } else { Some(Self(task)) }
    }

    #[inline(always)]
    pub(crate) fn as_ptr(self) -> *mut c_void {
        self.0.cast_mut()
    }

    /// The id of its cgroup in the v2 hierarchy.
    #[inline(always)]
    pub(crate) fn cgroup_id(self) -> u64 {
        // SAFETY: `task->cgroups->dfl_cgrp->kn->id`; a task always has a css_set.
        unsafe {
            let css_set: *const c_void = load(self.0, told(&KERNEL.task_cgroups));
            Cgroup(load(css_set, told(&KERNEL.css_set_dfl_cgrp))).id()
        }
    }

    /// Whether it is in a 32-bit call.
    #[inline(always)]
    fn is_compat(self) -> bool {
        // SAFETY: a word of `task->thread_info`.
        unsafe { load::<u32>(self.0, told(&KERNEL.task_compat)) & COMPAT != 0 }
    }

    /// The call that this number means for the task now.
    #[inline(always)]
    pub(crate) fn call(self, number: u32) -> Call {
        if self.is_compat() {
            Call { number, abi: Call::COMPAT }
        } else if number & X32_BIT != 0 && number != u32::MAX {
            Call { number: number & !X32_BIT, abi: Call::X32 }
        } else {
            Call { number, abi: Call::NATIVE }
        }
    }

    /// Whether any BPF program keeps something for it. Where not, a look-up in task storage can be spared.
    #[inline(always)]
    pub(crate) fn has_storage(self) -> bool {
        // SAFETY: `task->bpf_storage`.
        unsafe { !load::<*const c_void>(self.0, told(&KERNEL.task_bpf_storage)).is_null() }
    }

    /// Whether a seccomp filter is on it.
    #[inline(always)]
    pub(crate) fn is_filtered(self) -> bool {
        // SAFETY: `task->seccomp.mode`.
        unsafe { load::<u32>(self.0, told(&KERNEL.task_seccomp_mode)) >= SECCOMP_MODE_FILTER }
    }

    /// How many seccomp filters are on it.
    #[inline(always)]
    pub(crate) fn filters(self) -> u32 {
        // SAFETY: `task->seccomp.filter_count`, an `atomic_t`.
        unsafe { load(self.0, told(&KERNEL.task_filter_count)) }
    }

    /// Its mount namespace, to be compared only; 0 for a task that is dying.
    #[inline(always)]
    pub(crate) fn mount_namespace(self) -> u64 {
        // SAFETY: `task->nsproxy->mnt_ns`; a read through null yields 0.
        unsafe {
            let nsproxy: *const c_void = load(self.0, told(&KERNEL.task_nsproxy));
            load::<u64>(nsproxy, told(&KERNEL.nsproxy_mnt_ns))
        }
    }

    /// Its exit code, once it is exiting.
    #[inline(always)]
    pub(crate) fn exit_code(self) -> u32 {
        // SAFETY: `task->exit_code`.
        unsafe { load(self.0, told(&KERNEL.task_exit_code)) }
    }

    /// The exit code that its whole process is exiting with, if it is.
    #[inline(always)]
    pub(crate) fn group_exit_code(self) -> Option<u32> {
        /// `SIGNAL_GROUP_EXIT`, `include/linux/sched/signal.h`.
        const SIGNAL_GROUP_EXIT: u32 = 4;
        // SAFETY: `task->signal`, which a task has until it is reaped.
        unsafe {
            let signal: *const c_void = load(self.0, told(&KERNEL.task_signal));
            let exiting = load::<u32>(signal, told(&KERNEL.signal_flags)) & SIGNAL_GROUP_EXIT != 0;
            if exiting { Some(load(signal, told(&KERNEL.signal_group_exit_code))) } else { None }
        }
    }

    /// The task that made it, or that took it over.
    #[inline(always)]
    pub(crate) fn real_parent(self) -> Option<Self> {
        // SAFETY: `task->real_parent`.
        Self::from_ptr(unsafe { load(self.0, told(&KERNEL.task_real_parent)) })
    }

    /// The first thread of its process.
    #[inline(always)]
    pub(crate) fn group_leader(self) -> Option<Self> {
        // SAFETY: `task->group_leader`.
        Self::from_ptr(unsafe { load(self.0, told(&KERNEL.task_group_leader)) })
    }

    /// The address of the `struct file` that is open as this descriptor; 0 for none.
    #[inline(always)]
    pub(crate) fn file(self, descriptor: u32) -> u64 {
        // SAFETY: `task->files->fdt`; the slot of its array is read by its address. A read through null yields 0.
        unsafe {
            let files: *const c_void = load(self.0, told(&KERNEL.task_files));
            let table: *const c_void = load(files, told(&KERNEL.files_fdt));
            if descriptor >= load::<u32>(table, told(&KERNEL.fdtable_max_fds)) {
                return 0;
            }
            let array: u64 = load(table, told(&KERNEL.fdtable_fd));
            peek(array.wrapping_add(u64::from(descriptor) * 8))
        }
    }

    /// Its process, in the first pid namespace.
    #[inline(always)]
    pub(crate) fn process(self) -> u32 {
        // SAFETY: `task->tgid`.
        unsafe { load(self.0, told(&KERNEL.task_tgid)) }
    }
}

/// A `struct pt_regs *` of the kernel's.
#[derive(Clone, Copy)]
pub(crate) struct Registers(pub(crate) *const c_void);

impl Registers {
    /// The syscall's number.
    #[inline(always)]
    pub(crate) fn number(self) -> u32 {
        // SAFETY: the low half of `orig_ax`, or `syscallno`.
        unsafe { load(self.0, told(&KERNEL.regs_number)) }
    }

    /// What stands in the return register after `syscall_rollback`, which is how a filter's signals begin.
    #[inline(always)]
    pub(crate) fn original(self) -> i64 {
        // SAFETY: `orig_ax` or `orig_x0`.
        unsafe { load(self.0, told(&KERNEL.regs_original)) }
    }
}

impl Registers {
    /// The six arguments of a call.
    #[inline(always)]
    pub(crate) fn arguments(self, call: Call) -> [u64; 6] {
        // One branch for all six: each one more would double the ways that the verifier goes.
        if call.abi == Call::COMPAT {
            let [a, b, c, d, e, f] = &KERNEL.regs_compat_arguments;
            // SAFETY: fields of `pt_regs`; the upper half is not the caller's.
            let read = |offset| u64::from(unsafe { load::<u32>(self.0, told(offset)) });
            [read(a), read(b), read(c), read(d), read(e), read(f)]
        } else {
            let [a, b, c, d, e, f] = &KERNEL.regs_arguments;
            // SAFETY: fields of `pt_regs`.
            let read = |offset| unsafe { load::<u64>(self.0, told(offset)) };
            [read(a), read(b), read(c), read(d), read(e), read(f)]
        }
    }
}

/// A `struct cgroup *` of the kernel's.
#[derive(Clone, Copy)]
pub(crate) struct Cgroup(pub(crate) *const c_void);

impl Cgroup {
    /// Its id: within its hierarchy, and never used again.
    #[inline(always)]
    pub(crate) fn id(self) -> u64 {
        // SAFETY: `cgroup->kn->id`.
        unsafe {
            let kn: *const c_void = load(self.0, told(&KERNEL.cgroup_kn));
            load(kn, told(&KERNEL.kn_id))
        }
    }

    /// Its directory's name, a string of the kernel's.
    #[inline(always)]
    pub(crate) fn name(self) -> *const u8 {
        // SAFETY: `cgroup->kn->name`.
        unsafe {
            let kn: *const c_void = load(self.0, told(&KERNEL.cgroup_kn));
            load(kn, told(&KERNEL.kn_name))
        }
    }

    /// Whether it is one of the v2 hierarchy: ids of the v1 hierarchies are the same numbers.
    #[inline(always)]
    pub(crate) fn is_v2(self) -> bool {
        // The v2 hierarchy is the first that the kernel makes and has the id 0: `cgroup_init`,
        // https://github.com/torvalds/linux/blob/v6.18/kernel/cgroup/cgroup.c
        // SAFETY: `cgroup->root->hierarchy_id`.
        unsafe {
            let root: *const c_void = load(self.0, told(&KERNEL.cgroup_root));
            load::<u32>(root, told(&KERNEL.root_hierarchy_id)) == 0
        }
    }

    /// The cgroup above it; the root has none, and must not be asked.
    #[inline(always)]
    pub(crate) fn parent(self) -> Self {
        // SAFETY: `cgroup->self.parent->cgroup`.
        unsafe {
            let css: *const c_void = load(self.0, told(&KERNEL.cgroup_self_parent));
            Self(load(css, told(&KERNEL.css_cgroup)))
        }
    }
}
