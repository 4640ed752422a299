//! The maps and globals. Names and meaning: `profiler_ebpf::maps`.

use core::{
    ffi::c_void,
    intrinsics::{AtomicOrdering, atomic_xadd},
    ptr,
};

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE, bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE},
    btf_maps::{Array, HashMap, PerCpuArray},
    helpers::generated::bpf_task_storage_get,
    macros::btf_map,
};
use profiler_ebpf::{
    Call, Cell, Ending, FirstSight, MAX_CGROUPS, MAX_ENDINGS, MAX_RARE, ROWS, SLOT_COUNT, Tally, TaskState,
};

use crate::kernel::Task;

#[btf_map]
pub(crate) static CELLS: PerCpuArray<Cell, { ROWS as usize }> = PerCpuArray::new();

#[btf_map]
pub(crate) static RARE: HashMap<Call, Cell, { MAX_RARE as usize }> = HashMap::new();

#[btf_map]
pub(crate) static ENDINGS: HashMap<Ending, u64, { MAX_ENDINGS as usize }> = HashMap::new();

// As many as there can be rows: it is never full.
#[btf_map]
pub(crate) static FIRST: HashMap<Call, FirstSight, { (ROWS + MAX_RARE) as usize }> = HashMap::new();

#[btf_map]
pub(crate) static CGROUPS: HashMap<u64, u64, { MAX_CGROUPS as usize }> = HashMap::new();

#[btf_map]
pub(crate) static SLOTS: Array<u64, { SLOT_COUNT as usize }> = Array::new();

#[btf_map]
pub(crate) static TASKS: TaskStorage = TaskStorage::new();

#[unsafe(link_section = ".data.phase")]
#[unsafe(no_mangle)]
static mut PHASE: u32 = 0;

#[unsafe(no_mangle)]
static mut TALLY: Tally = Tally {
    rows_full: 0,
    endings_full: 0,
    task_storage: 0,
    cgroups_full: 0,
    first_exits: 0,
    unnamed_kills: 0,
    confined: 0,
    seeded: 0,
};

/// The phase's bit; 0 while the recording is not open.
#[inline(always)]
pub(crate) fn phase() -> u32 {
    // SAFETY: an aligned word that user space replaces whole.
    unsafe { ptr::read_volatile(&raw const PHASE) }
}

/// The tally, for [`add`].
#[inline(always)]
pub(crate) fn tally() -> *mut Tally {
    &raw mut TALLY
}

/// Adds one, atomically: a plain `+= 1` in memory that CPUs share loses counts.
///
/// # Safety
/// `counter` points into a map's value.
#[inline(always)]
pub(crate) unsafe fn add(counter: *mut u64) {
    // Relaxed and without a use of the result, so that it is a plain atomic add: arm64's JIT knows no other
    // before 5.18.
    // SAFETY: valid by the caller's word, aligned because every counter in our maps is.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1) };
}

/// A map of type `BPF_MAP_TYPE_TASK_STORAGE`, which aya-ebpf does not have; laid out as its own BTF maps are.
#[repr(C)]
pub(crate) struct TaskStorage {
    r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE as usize],
    key: *const i32,
    value: *const TaskState,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: the pointers are a description for the loader; nothing follows them.
unsafe impl Sync for TaskStorage {}

impl TaskStorage {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }

    #[inline(always)]
    fn lookup(&self, task: Task, flags: u64) -> *mut TaskState {
        let map = ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: the map is one of task storage, and the task is one that the kernel handed to us.
        unsafe { bpf_task_storage_get(map, task.as_ptr().cast(), ptr::null_mut(), flags) }.cast()
    }

    /// The task's state, if it has one.
    #[inline(always)]
    pub(crate) fn get(&self, task: Task) -> Option<&'static mut TaskState> {
        // SAFETY: null, or the task's own value, which only programs running for that task change.
        unsafe { self.lookup(task, 0).as_mut() }
    }

    /// The task's state, made of zeros if it had none; none if the kernel had no memory for it.
    #[inline(always)]
    pub(crate) fn get_or_make(&self, task: Task) -> Option<&'static mut TaskState> {
        // SAFETY: as in `get`.
        unsafe { self.lookup(task, u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE)).as_mut() }
    }
}
