//! Keeping arguments: distinct tuples, through masks that user space says, up to a bound.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user},
};
use profiler_ebpf::{
    Counted, FirstSight, MAX_TUPLES, MAX_TUPLES_A_CALL, Masks, NAME_PART, NAMES, Names, OpenedFile, Seen,
    Tuple, Usual, file, group,
};

use crate::{
    count,
    file::File,
    kernel::{Registers, Task},
    maps::{FILES, MASKS, TARGETS, TUPLES, USUAL, add, add_small, is_capturing, is_fleet},
};

/// `-EEXIST`: another CPU was first.
const EXISTS: i32 = -17;

/// A call whose arguments may be kept.
#[derive(Clone, Copy)]
pub(crate) struct Made {
    /// Who makes it.
    pub task: Task,
    /// The call.
    pub counted: Counted,
    /// The bit of its phase.
    pub phase: u32,
}

/// Keeps the arguments of a call that was entered, if they are asked for. Where the call opens a path that is to be
/// kept at its end: the path's address; else 0.
#[inline(always)]
pub(crate) fn keep_entered(made: &Made, registers: Registers) -> u64 {
    keep::<true>(made, registers)
}

#[inline(always)]
fn keep<const ENTERED: bool>(made: &Made, registers: Registers) -> u64 {
    if !is_capturing() {
        return 0;
    }
    let Some(masks) = made.counted.call.row().and_then(|row| MASKS.get(row)) else { return 0 };
    if masks.kept == 0 {
        return 0;
    }
    let [a, b, c, d, e, f] = registers.arguments(made.counted.call);
    // Indexed by places, which count from 1. No branches here: each would double the ways that the verifier goes.
    let mut all = [0, a, b, c, d, e, f, 0];
    let path = if masks.kept & Masks::PATH != 0 { at(&all, masks.path) } else { 0 };
    if masks.kept & Masks::ARGUMENTS != 0 {
        tuple::<ENTERED>(made, masks, &mut all);
    }
    path
}

/// Keeps the arguments of a call that a filter answered. Not inlined: the stacks of all callers and callees together
/// are 512 bytes.
#[inline(never)]
pub(crate) fn keep_refused(made: &Made, registers: Registers) {
    keep::<false>(made, registers);
}

/// The argument of a place; 0 for the place 0.
#[inline(always)]
fn at(all: &[u64; 8], place: u32) -> u64 {
    // SAFETY: eight there are.
    unsafe { *all.get_unchecked((place & 7) as usize) }
}

#[inline(always)]
fn tuple<const ENTERED: bool>(made: &Made, masks: &Masks, all: &mut [u64; 8]) {
    let mut tuple = Tuple { counted: made.counted, facts: 0, arguments: [0; 6], file: 0 };
    let mut opened = 0;
    if masks.pointer == 0 || field(masks, all) {
        let [_, a, b, c, d, e, f, _] = *all;
        let [k, l, m, n, o, p] = masks.masks;
        tuple.arguments = [a & k, b & l, c & m, d & n, e & o, f & p];
        if (a | b | c | d | e | f) >> 32 != 0 {
            tuple.facts = uppers(all) & masks.narrow;
        }
        if masks.descriptor != 0 && at(all, masks.unless) & masks.unless_bits == 0 {
            let file = File::of(made.task, at(all, masks.descriptor) as u32);
            tuple.facts |= file.kind << Tuple::KIND;
            tuple.file = file.id;
            opened = file.address;
        }
    } else {
        tuple.facts = Tuple::UNREAD;
    }
    let usual = if ENTERED { usual(masks.place) } else { None };
    // SAFETY: this CPU's place, which no other CPU writes; a program that is preempted by itself is not run.
    unsafe {
        if let Some(usual) = usual
            && (*usual).phases & made.phase != 0
            && is_same(&(*usual).tuple, &tuple)
        {
            (*usual).calls += 1;
            return;
        }
    }
    let kept = seen(&tuple, made.phase, ENTERED);
    if kept == Kept::First && opened != 0 {
        name(tuple.facts >> Tuple::KIND, tuple.file, opened);
    }
    // SAFETY: as above.
    unsafe {
        if let Some(usual) = usual
            && kept != Kept::No
        {
            if (*usual).phases == 0 {
                (*usual).tuple = tuple;
                (*usual).phases = made.phase;
            } else if is_same(&(*usual).tuple, &tuple) {
                (*usual).phases |= made.phase;
            }
        }
    }
}

/// Where this CPU counts what a call is usually made with. None for a call without a place, and where there are many
/// targets.
#[inline(always)]
fn usual(place: u32) -> Option<*mut Usual> {
    if place == 0 || is_fleet() { None } else { USUAL.get_ptr_mut(place) }
}

/// Whether two tuples of one call are the same.
#[inline(always)]
fn is_same(one: &Tuple, other: &Tuple) -> bool {
    // No branches: each would double the ways that the verifier goes.
    let [a, b, c, d, e, f] = one.arguments;
    let [k, l, m, n, o, p] = other.arguments;
    let arguments = (a ^ k) | (b ^ l) | (c ^ m) | (d ^ n) | (e ^ o) | (f ^ p);
    let facts = (one.facts ^ other.facts) | (one.counted.group ^ other.counted.group);
    arguments | (one.file ^ other.file) | u64::from(facts) == 0
}

/// Which arguments have an upper half that is not zero, a bit for each.
#[inline(always)]
fn uppers(all: &[u64; 8]) -> u32 {
    let mut bits = 0;
    let mut place = 1;
    while place < 7 {
        // What is not 0 is negative with the other sign. Hidden, or the compiler would make a branch of it.
        let half = core::hint::black_box(at(all, place) >> 32);
        bits |= (half.wrapping_neg() >> 63) << (place - 1);
        place += 1;
    }
    bits as u32
}

/// Puts the field of a struct into the place of the argument that points to the struct. False if it cannot be read.
#[inline(always)]
fn field(masks: &Masks, all: &mut [u64; 8]) -> bool {
    let address = at(all, masks.pointer).wrapping_add(u64::from(masks.offset));
    let mut value = 0u64;
    let size = if masks.size == 8 { 8 } else { 4 };
    // SAFETY: the value has room for so much, and all our machines put the low half first; the helper looks after
    // addresses that are none. Eight places there are.
    unsafe {
        let address = core::ptr::with_exposed_provenance(address as usize);
        if bpf_probe_read_user((&raw mut value).cast(), size, address) != 0 {
            return false;
        }
        *all.get_unchecked_mut((masks.pointer & 7) as usize) = value;
    }
    true
}

/// Whether a tuple is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// There is no room for it.
    No,
    /// As one that was there.
    Known,
    /// As the first like it.
    First,
}

/// Counts a tuple.
#[inline(never)]
fn seen(tuple: &Tuple, phase: u32, entered: bool) -> Kept {
    let known = match TUPLES.get_ptr_mut(tuple) {
        Some(known) => known,
        None => match first(tuple, phase, entered) {
            Ok(known) => known,
            Err(kept) => return kept,
        },
    };
    // SAFETY: an entry is removed only when no program can be at it. A bit that is lost is set by the next call.
    unsafe {
        add(if entered { &raw mut (*known).calls } else { &raw mut (*known).denied });
        if (*known).first.phases & phase == 0 {
            (*known).first.phases |= phase;
        }
    }
    Kept::Known
}

/// Keeps a tuple that was not there: another CPU's, if that was faster; else says whether it is kept.
#[inline(always)]
fn first(tuple: &Tuple, phase: u32, entered: bool) -> Result<*mut Seen, Kept> {
    let width = count::tuples(tuple.counted).ok_or(Kept::No)?;
    // SAFETY: words of ours, to which others add atomically.
    unsafe {
        // Structs that could not be read are always counted: they are one tuple.
        let is_full =
            tuple.facts & Tuple::UNREAD == 0 && (*width >= MAX_TUPLES_A_CALL || is_target_full(tuple));
        let first = FirstSight { phases: phase, ..count::first_sight() };
        let fresh = Seen { calls: u64::from(entered), denied: u64::from(!entered), first };
        if !is_full {
            match TUPLES.insert(tuple, &fresh, u64::from(BPF_NOEXIST)) {
                Ok(()) => {
                    if tuple.facts & Tuple::UNREAD == 0 {
                        add_small(width);
                        if let Some(of_target) = target_tuples(tuple) {
                            add_small(of_target);
                        }
                    }
                    return Err(Kept::First);
                }
                Err(EXISTS) => return TUPLES.get_ptr_mut(tuple).ok_or(Kept::No),
                Err(_) => {}
            }
        }
        // Says that not all are kept. How many calls are not, is what the tuples lack of the call's own count.
        *width = MAX_TUPLES_A_CALL + 1;
    }
    Err(Kept::No)
}

/// How many tuples are kept of the tuple's target, where there are many.
#[inline(always)]
fn target_tuples(tuple: &Tuple) -> Option<*mut u32> {
    if !is_fleet() {
        return None;
    }
    let target = TARGETS.get_ptr_mut(group::index(tuple.counted.group))?;
    // SAFETY: an element of the map.
    Some(unsafe { &raw mut (*target).tuples })
}

#[inline(always)]
fn is_target_full(tuple: &Tuple) -> bool {
    // SAFETY: an element of the map.
    target_tuples(tuple).is_some_and(|tuples| unsafe { *tuples } >= MAX_TUPLES)
}

/// Keeps what a device, or a file that is in no directory, is called.
#[inline(never)]
fn name(kind: u32, id: u64, opened: u64) {
    if kind != file::CHARACTER_DEVICE && kind != file::BLOCK_DEVICE && kind != file::ANONYMOUS {
        return;
    }
    let key = OpenedFile { kind, reserved: 0, id };
    if FILES.get_ptr_mut(&key).is_some() {
        return;
    }
    let mut names = Names { magic: 0, names: [[0; NAME_PART]; NAMES] };
    let (magic, mut dentry) = File::place(opened);
    names.magic = magic;
    for part in &mut names.names {
        // SAFETY: the part is as long as said; the helper looks after addresses that are none.
        unsafe {
            bpf_probe_read_kernel_str(part.as_mut_ptr().cast(), NAME_PART as u32, dentry.name().cast())
        };
        let Some(above) = dentry.parent() else { break };
        dentry = above;
    }
    // Another CPU's names are the same.
    let _ = FILES.insert(&key, &names, u64::from(BPF_NOEXIST));
}
