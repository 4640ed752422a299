//! The maps and globals. Names and meaning: `profiler_ebpf::maps`.

use core::{
    ffi::c_void,
    intrinsics::{AtomicOrdering, atomic_xadd},
    ptr,
};

use aya_ebpf::{
    bindings::{
        BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE,
        bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE,
    },
    btf_maps::{Array, HashMap, PerCpuArray, Queue},
    helpers::generated::bpf_task_storage_get,
    macros::btf_map,
};
use profiler_ebpf::{
    Cell, Counted, Ending, FirstSight, MAX_CGROUPS, MAX_ENDINGS, MAX_FILES, MAX_OPENED, MAX_RARE, MAX_TUPLES,
    Masks, Member, NAME_LENGTH, Names, Opened, OpenedFile, PLACES, ROWS, Refused, SLOT_COUNT, Seen, Shared,
    SharedCell, Tally, Target, TaskState, Tuple, Usual, group,
};

use crate::kernel::{KERNEL, Task, told};

#[btf_map]
pub(crate) static CELLS: PerCpuArray<Cell, { ROWS as usize }> = PerCpuArray::new();

#[btf_map]
pub(crate) static RARE: HashMap<Counted, Shared, { MAX_RARE as usize }> = HashMap::new();

#[btf_map]
pub(crate) static ENDINGS: HashMap<Ending, u64, { MAX_ENDINGS as usize }> = HashMap::new();

// As many as there are rows: with one target it is never full.
#[btf_map]
pub(crate) static FIRST: HashMap<Counted, FirstSight, { ROWS as usize }> = HashMap::new();

#[btf_map]
pub(crate) static CGROUPS: HashMap<u64, Member, { MAX_CGROUPS as usize }> = HashMap::new();

#[btf_map]
pub(crate) static SLOTS: Array<u64, { SLOT_COUNT as usize }> = Array::new();

#[btf_map]
pub(crate) static TASKS: TaskStorage = TaskStorage::new();

#[btf_map]
pub(crate) static MASKS: Array<Masks, { ROWS as usize }> = Array::new();

#[btf_map]
pub(crate) static TUPLES: HashMap<Tuple, Seen, { MAX_TUPLES as usize }> = HashMap::new();

#[btf_map]
pub(crate) static USUAL: PerCpuArray<Usual, { PLACES as usize }> = PerCpuArray::new();

#[btf_map]
pub(crate) static WIDTHS: Array<u32, { ROWS as usize }> = Array::new();

#[btf_map]
pub(crate) static FILES: HashMap<OpenedFile, Names, { MAX_FILES as usize }> = HashMap::new();

#[btf_map]
pub(crate) static OPENED: HashMap<Opened, Seen, { MAX_OPENED as usize }> = HashMap::new();

// What only many targets need has one element here; user space says how many it shall have.

#[btf_map]
pub(crate) static BLOCKS: Array<SharedCell, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map]
pub(crate) static OPEN: Array<u64, 1> = Array::new();

#[btf_map]
pub(crate) static TARGETS: Array<Target, 1> = Array::new();

#[btf_map]
pub(crate) static FREE: Queue<u32, 1> = Queue::new();

#[btf_map]
pub(crate) static NEWS: Queue<u32, 1> = Queue::new();

#[btf_map]
pub(crate) static WANTED: HashMap<[u8; NAME_LENGTH], u32, 1> = HashMap::new();

#[btf_map]
pub(crate) static NURSERIES: HashMap<u64, u32, 1> = HashMap::new();

#[btf_map]
pub(crate) static REFUSED: HashMap<Ending, Refused, 1> = HashMap::new();

#[unsafe(link_section = ".data.phase")]
#[unsafe(no_mangle)]
static mut PHASE: u32 = 0;

#[unsafe(link_section = ".data.capturing")]
#[unsafe(no_mangle)]
static mut CAPTURING: u32 = 0;

#[unsafe(no_mangle)]
static mut TALLY: Tally = Tally::EMPTY;

/// The phase's bit; 0 while the recording is not open.
#[inline(always)]
pub(crate) fn phase() -> u32 {
    // SAFETY: an aligned word that user space replaces whole.
    unsafe { ptr::read_volatile(&raw const PHASE) }
}

/// Whether arguments are kept.
#[inline(always)]
pub(crate) fn is_capturing() -> bool {
    // SAFETY: an aligned word that user space replaces whole.
    unsafe { ptr::read_volatile(&raw const CAPTURING) != 0 }
}

/// Whether there are many targets. The verifier drops the branches not taken.
#[inline(always)]
pub(crate) fn is_fleet() -> bool {
    told(&KERNEL.fleet) != 0
}

/// The tally of what belongs to no target, for [`add`].
#[inline(always)]
pub(crate) fn common_tally() -> *mut Tally {
    &raw mut TALLY
}

/// The tally of a group's target, for [`add`].
#[inline(always)]
pub(crate) fn tally(of: u32) -> *mut Tally {
    if is_fleet()
        && let Some(target) = TARGETS.get_ptr_mut(group::index(of))
    {
        // SAFETY: an element of the map.
        return unsafe { &raw mut (*target).tally };
    }
    common_tally()
}

/// The target with this index and the bit of its phase, 0 while it is closed.
#[inline(always)]
pub(crate) fn opened(index: u32) -> Option<(u32, u32)> {
    let open = OPEN.get_ptr(index)?;
    // SAFETY: an aligned word that is replaced whole.
    let open = unsafe { ptr::read_volatile(open) };
    Some((open as u32, (open >> 32) as u32))
}

/// The bit of the phase that a group's target is in, 0 while it is closed.
#[inline(always)]
pub(crate) fn phase_of(of: u32) -> u32 {
    if !is_fleet() {
        return phase();
    }
    match opened(group::index(of)) {
        Some((target, phase)) if target == group::target(of) && target != 0 => phase,
        _ => 0,
    }
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

/// [`add`] for a smaller counter.
///
/// # Safety
/// As for [`add`].
#[inline(always)]
pub(crate) unsafe fn add_small(counter: *mut u32) {
    // SAFETY: as in `add`.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(counter, 1) };
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
