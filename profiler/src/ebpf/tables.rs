//! The maps of the program, typed.

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, Map, MapData, PerCpuArray, Queue},
};
use profiler_ebpf::{
    Cell, Counted, Ending, FirstSight, Masks, Member, NAME_LENGTH, Names, Opened, OpenedFile, Refused, Seen,
    Shared, Tally, Target, Tuple, Usual, maps,
};

use super::EbpfError;

/// A type shared with the program, as aya wants to have it.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Plain<T>(pub(super) T);

macro_rules! plain {
    ($($shared:ty),*) => {$(
        // SAFETY: `repr(C)` or plain integers, without padding, valid for any bytes; asserted where it is declared.
        unsafe impl Pod for Plain<$shared> {}
    )*};
}
plain!(
    Cell, Counted, Ending, FirstSight, Masks, Member, Names, Opened, OpenedFile, Refused, Seen, Shared,
    Tally, Target, Tuple, Usual
);

/// The maps of the program.
pub(super) struct Tables {
    pub(super) cells: PerCpuArray<MapData, Plain<Cell>>,
    pub(super) rare: HashMap<MapData, Plain<Counted>, Plain<Shared>>,
    pub(super) endings: HashMap<MapData, Plain<Ending>, u64>,
    pub(super) first: HashMap<MapData, Plain<Counted>, Plain<FirstSight>>,
    pub(super) cgroups: HashMap<MapData, u64, Plain<Member>>,
    pub(super) slots: Array<MapData, u64>,
    pub(super) phase: Array<MapData, u32>,
    pub(super) tally: Array<MapData, Plain<Tally>>,
    pub(super) masks: Array<MapData, Plain<Masks>>,
    pub(super) tuples: HashMap<MapData, Plain<Tuple>, Plain<Seen>>,
    pub(super) usual: PerCpuArray<MapData, Plain<Usual>>,
    pub(super) widths: Array<MapData, u32>,
    pub(super) files: HashMap<MapData, Plain<OpenedFile>, Plain<Names>>,
    pub(super) opened: HashMap<MapData, Plain<Opened>, Plain<Seen>>,
    pub(super) capturing: Array<MapData, u32>,
    pub(super) tasks: MapData,
}

impl Tables {
    /// Takes the maps out of the loaded object; the programs keep them by themselves.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, EbpfError> {
        Ok(Self {
            cells: take(ebpf, maps::CELLS)?,
            rare: take(ebpf, maps::RARE)?,
            endings: take(ebpf, maps::ENDINGS)?,
            first: take(ebpf, maps::FIRST)?,
            cgroups: take(ebpf, maps::CGROUPS)?,
            slots: take(ebpf, maps::SLOTS)?,
            phase: take(ebpf, maps::PHASE)?,
            tally: take(ebpf, maps::TALLY)?,
            masks: take(ebpf, maps::MASKS)?,
            tuples: take(ebpf, maps::TUPLES)?,
            usual: take(ebpf, maps::USUAL)?,
            widths: take(ebpf, maps::WIDTHS)?,
            files: take(ebpf, maps::FILES)?,
            opened: take(ebpf, maps::OPENED)?,
            capturing: take(ebpf, maps::CAPTURING)?,
            tasks: match ebpf.take_map(maps::TASKS) {
                Some(Map::Unsupported(map)) => map,
                _ => return Err(missing(maps::TASKS)),
            },
        })
    }

    /// What is counted besides calls.
    pub(super) fn tally(&self) -> Result<Tally, EbpfError> {
        self.tally.get(&0, 0).map(|Plain(tally)| tally).map_err(failed(maps::TALLY))
    }
}

/// The maps that only many targets need.
pub(super) struct FleetTables {
    pub(super) open: Array<MapData, u64>,
    pub(super) targets: Array<MapData, Plain<Target>>,
    pub(super) free: Queue<MapData, u32>,
    pub(super) news: Queue<MapData, u32>,
    pub(super) wanted: HashMap<MapData, [u8; NAME_LENGTH], u32>,
    pub(super) nurseries: HashMap<MapData, u64, u32>,
    pub(super) refused: HashMap<MapData, Plain<Ending>, Plain<Refused>>,
}

impl FleetTables {
    /// Takes the maps out of the loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, EbpfError> {
        Ok(Self {
            open: take(ebpf, maps::OPEN)?,
            targets: take(ebpf, maps::TARGETS)?,
            free: take(ebpf, maps::FREE)?,
            news: take(ebpf, maps::NEWS)?,
            wanted: take(ebpf, maps::WANTED)?,
            nurseries: take(ebpf, maps::NURSERIES)?,
            refused: take(ebpf, maps::REFUSED)?,
        })
    }
}

fn take<T: TryFrom<Map>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, EbpfError>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    let map = ebpf.take_map(name).ok_or_else(|| missing(name))?;
    T::try_from(map).map_err(failed(name))
}

fn missing(map: &'static str) -> EbpfError {
    EbpfError::Map { map, source: "the BPF object does not have it; run `cargo xtask ebpf`".into() }
}

/// For `map_err`: an error of the map of this name.
pub(super) fn failed<E: std::error::Error + Send + Sync + 'static>(
    map: &'static str,
) -> impl FnOnce(E) -> EbpfError {
    move |source| EbpfError::Map { map, source: Box::new(source) }
}
