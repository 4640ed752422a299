//! Globals of the BPF program: what it is told before it is loaded, and what it counts besides calls.

/// [`Kernel::mode`]: tasks of cgroups are recorded.
pub const MODE_CGROUP: u32 = 0;
/// [`Kernel::mode`]: a process, its threads and descendants are recorded.
pub const MODE_PROCESS: u32 = 1;

/// What is recorded, and where the running kernel keeps what the program reads. All offsets are in bytes.
///
/// It lies in a frozen read-only map: the verifier knows the values and drops the branches not taken.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// [`MODE_CGROUP`] or [`MODE_PROCESS`].
    pub mode: u32,
    /// Not 0 if there are many targets, which are cgroups.
    pub fleet: u32,
    /// Not 0 if what a container runtime does before the workload is told apart; only with `fleet`.
    pub stages: u32,
    /// Not 0 where the kernel has the `bpf_task_pt_regs` helper (5.15 and later).
    pub has_task_pt_regs: u32,
    /// `task_struct.cgroups`.
    pub task_cgroups: u32,
    /// `css_set.dfl_cgrp`.
    pub css_set_dfl_cgrp: u32,
    /// `cgroup.kn`.
    pub cgroup_kn: u32,
    /// `cgroup.root`.
    pub cgroup_root: u32,
    /// `cgroup.self.parent`.
    pub cgroup_self_parent: u32,
    /// `cgroup_subsys_state.cgroup`.
    pub css_cgroup: u32,
    /// `cgroup_root.hierarchy_id`.
    pub root_hierarchy_id: u32,
    /// `kernfs_node.id`.
    pub kn_id: u32,
    /// The word of `task_struct.thread_info` that says that the task is in a 32-bit call.
    pub task_compat: u32,
    /// `task_struct.seccomp.mode`.
    pub task_seccomp_mode: u32,
    /// `task_struct.exit_code`.
    pub task_exit_code: u32,
    /// `task_struct.signal`.
    pub task_signal: u32,
    /// `task_struct.real_parent`.
    pub task_real_parent: u32,
    /// `task_struct.group_leader`.
    pub task_group_leader: u32,
    /// `task_struct.tgid`.
    pub task_tgid: u32,
    /// `task_struct.bpf_storage`.
    pub task_bpf_storage: u32,
    /// `signal_struct.flags`.
    pub signal_flags: u32,
    /// `signal_struct.group_exit_code`.
    pub signal_group_exit_code: u32,
    /// The syscall's number in `pt_regs`: `orig_ax` on x86, `syscallno` on arm64.
    pub regs_number: u32,
    /// What `syscall_rollback` puts back into the return register: `orig_ax` on x86, `orig_x0` on arm64.
    pub regs_original: u32,
    /// The six arguments of a 64-bit call in `pt_regs`.
    pub regs_arguments: [u32; 6],
    /// The six arguments of a 32-bit call in `pt_regs`.
    pub regs_compat_arguments: [u32; 6],
    /// `kernfs_node.name`.
    pub kn_name: u32,
    /// `task_struct.nsproxy`.
    pub task_nsproxy: u32,
    /// `nsproxy.mnt_ns`.
    pub nsproxy_mnt_ns: u32,
    /// `task_struct.seccomp.filter_count`.
    pub task_filter_count: u32,
    /// Not 0 if the kernel's type information has all fields below: they are read to tell what a descriptor is.
    pub has_files: u32,
    /// `task_struct.files`.
    pub task_files: u32,
    /// `files_struct.fdt`.
    pub files_fdt: u32,
    /// `fdtable.max_fds`.
    pub fdtable_max_fds: u32,
    /// `fdtable.fd`.
    pub fdtable_fd: u32,
    /// `file.f_inode`.
    pub file_inode: u32,
    /// `file.f_op`.
    pub file_op: u32,
    /// `file.f_path.dentry`.
    pub file_dentry: u32,
    /// `inode.i_mode`.
    pub inode_mode: u32,
    /// `inode.i_rdev`.
    pub inode_rdev: u32,
    /// `inode.i_sb`.
    pub inode_sb: u32,
    /// `super_block.s_magic`.
    pub sb_magic: u32,
    /// `dentry.d_parent`.
    pub dentry_parent: u32,
    /// `dentry.d_name.name`.
    pub dentry_name: u32,
}

const _: () = assert!(size_of::<Kernel>() == 216 && align_of::<Kernel>() == 4);

/// What is counted besides calls; every field starts at 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls that got no row because [`crate::maps::RARE`] was full.
    pub rows_full: u64,
    /// Endings that were not counted because [`crate::maps::ENDINGS`] was full.
    pub endings_full: u64,
    /// Events of tasks that got no storage.
    pub task_storage: u64,
    /// Cgroups that were not added because [`crate::maps::CGROUPS`] was full.
    pub cgroups_full: u64,
    /// First exits of tasks, without an enter.
    pub first_exits: u64,
    /// Threads that a filter killed in a call whose number this kernel does not tell.
    pub unnamed_kills: u64,
    /// Not 0 if a task not made by a recorded one had a filter when it was first seen.
    pub confined: u64,
    /// Tasks that the seeding found so far.
    pub seeded: u64,
    /// Cgroups that were to become targets and could not, all targets being taken.
    pub targets_full: u64,
    /// Opens of the kept paths that are not in [`crate::maps::OPENED`]: it was full, or the path too long.
    pub opens_beyond: u64,
}

const _: () = assert!(size_of::<Tally>() == 80 && align_of::<Tally>() == 8);

impl Tally {
    /// Nothing counted.
    pub const EMPTY: Self = Self {
        rows_full: 0,
        endings_full: 0,
        task_storage: 0,
        cgroups_full: 0,
        first_exits: 0,
        unnamed_kills: 0,
        confined: 0,
        seeded: 0,
        targets_full: 0,
        opens_beyond: 0,
    };
}
