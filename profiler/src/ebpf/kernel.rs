//! Where the running kernel keeps what the BPF program reads.

use profiler_ebpf::{Kernel, MODE_CGROUP};

use super::{EbpfError, btf::KernelTypes};

/// The fields of [`Kernel`] as the kernel's type information has them; the mode is that of cgroups.
pub(super) fn describe(types: &KernelTypes<'_>) -> Result<Kernel, EbpfError> {
    // The word with the bit of 32-bit calls, the number, and what a rolled back syscall returns.
    let (compat, number, original) = if cfg!(target_arch = "aarch64") {
        ("task_struct.thread_info.flags", "pt_regs.syscallno", "pt_regs.orig_x0")
    } else {
        ("task_struct.thread_info.status", "pt_regs.orig_ax", "pt_regs.orig_ax")
    };
    let files = files(types).unwrap_or_else(|missing| {
        tracing::warn!(%missing, "what descriptors are is not recorded");
        Kernel::default()
    });
    Ok(Kernel {
        mode: MODE_CGROUP,
        fleet: 0,
        stages: 0,
        has_task_pt_regs: u32::from(types.has_function("bpf_task_pt_regs")),
        task_cgroups: types.offset("task_struct.cgroups")?,
        css_set_dfl_cgrp: types.offset("css_set.dfl_cgrp")?,
        cgroup_kn: types.offset("cgroup.kn")?,
        cgroup_root: types.offset("cgroup.root")?,
        cgroup_self_parent: types.offset("cgroup.self.parent")?,
        css_cgroup: types.offset("cgroup_subsys_state.cgroup")?,
        root_hierarchy_id: types.offset("cgroup_root.hierarchy_id")?,
        kn_id: types.offset("kernfs_node.id")?,
        task_compat: types.offset(compat)?,
        task_seccomp_mode: types.offset("task_struct.seccomp.mode")?,
        task_exit_code: types.offset("task_struct.exit_code")?,
        task_signal: types.offset("task_struct.signal")?,
        task_real_parent: types.offset("task_struct.real_parent")?,
        task_group_leader: types.offset("task_struct.group_leader")?,
        task_tgid: types.offset("task_struct.tgid")?,
        task_bpf_storage: types.offset("task_struct.bpf_storage")?,
        signal_flags: types.offset("signal_struct.flags")?,
        signal_group_exit_code: types.offset("signal_struct.group_exit_code")?,
        regs_number: types.offset(number)?,
        regs_original: types.offset(original)?,
        regs_arguments: arguments(types)?,
        regs_compat_arguments: compat_arguments(types)?,
        kn_name: types.offset("kernfs_node.name")?,
        task_nsproxy: types.offset("task_struct.nsproxy")?,
        nsproxy_mnt_ns: types.offset("nsproxy.mnt_ns")?,
        task_filter_count: types.offset("task_struct.seccomp.filter_count")?,
        ..files
    })
}

/// Where the kernel keeps what a task has open; nothing else depends on it.
fn files(types: &KernelTypes<'_>) -> Result<Kernel, EbpfError> {
    Ok(Kernel {
        has_files: 1,
        task_files: types.offset("task_struct.files")?,
        files_fdt: types.offset("files_struct.fdt")?,
        fdtable_max_fds: types.offset("fdtable.max_fds")?,
        fdtable_fd: types.offset("fdtable.fd")?,
        file_inode: types.offset("file.f_inode")?,
        file_op: types.offset("file.f_op")?,
        file_dentry: types.offset("file.f_path.dentry")?,
        inode_mode: types.offset("inode.i_mode")?,
        inode_rdev: types.offset("inode.i_rdev")?,
        inode_sb: types.offset("inode.i_sb")?,
        sb_magic: types.offset("super_block.s_magic")?,
        dentry_parent: types.offset("dentry.d_parent")?,
        dentry_name: types.offset("dentry.d_name.name")?,
        ..Kernel::default()
    })
}

/// Where a 64-bit call's arguments stand when it is entered, and still when a filter has refused it.
fn arguments(types: &KernelTypes<'_>) -> Result<[u32; 6], EbpfError> {
    if cfg!(target_arch = "aarch64") {
        return arm_arguments(types);
    }
    let names = ["pt_regs.di", "pt_regs.si", "pt_regs.dx", "pt_regs.r10", "pt_regs.r8", "pt_regs.r9"];
    offsets(types, names)
}

/// The same for a 32-bit call.
fn compat_arguments(types: &KernelTypes<'_>) -> Result<[u32; 6], EbpfError> {
    if cfg!(target_arch = "aarch64") {
        return arm_arguments(types);
    }
    let names = ["pt_regs.bx", "pt_regs.cx", "pt_regs.dx", "pt_regs.si", "pt_regs.di", "pt_regs.bp"];
    offsets(types, names)
}

/// The registers 0 to 5; what the first held is kept apart, for the answer takes its place.
fn arm_arguments(types: &KernelTypes<'_>) -> Result<[u32; 6], EbpfError> {
    let registers = types.offset("pt_regs.regs")?;
    let [_, second, third, fourth, fifth, sixth] = [0, 8, 16, 24, 32, 40].map(|offset| registers + offset);
    Ok([types.offset("pt_regs.orig_x0")?, second, third, fourth, fifth, sixth])
}

fn offsets(types: &KernelTypes<'_>, names: [&'static str; 6]) -> Result<[u32; 6], EbpfError> {
    let mut found = [0; 6];
    for (place, name) in found.iter_mut().zip(names) {
        *place = types.offset(name)?;
    }
    Ok(found)
}
