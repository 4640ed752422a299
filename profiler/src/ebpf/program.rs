//! Loading, attaching and detaching the programs: the one file that talks to aya's program API.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use aya::{
    Btf, Ebpf, EbpfLoader, Endianness,
    maps::Map,
    programs::{BtfTracePoint, Iter, Program, ProgramError, tp_btf::BtfTracePointLink},
};
use profiler_ebpf::{
    BLOCK_ROWS, FLEET_ENDINGS, FLEET_FIRST, FLEET_RARE, FLEET_TUPLES, Kernel, MAX_NURSERIES, MAX_REFUSED,
    MAX_TARGETS, MAX_WANTED, MODE_CGROUP, maps,
};

use super::{
    EbpfError, btf, kernel, sys,
    tables::{Plain, failed},
};

#[cfg(target_arch = "x86_64")]
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../profiler-ebpf/objects/recorder.x86_64.bpf.o");
#[cfg(target_arch = "aarch64")]
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../profiler-ebpf/objects/recorder.aarch64.bpf.o");
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static OBJECT: &[u8] = &[];

// SAFETY: `repr(C)`, 54 words without padding, valid for any bytes.
unsafe impl aya::Pod for Plain<Kernel> {}

/// A hook that the recorder attaches to; programs and tracepoints have the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    SysEnter,
    SysExit,
    CgroupMkdir,
    CgroupRelease,
    ProcessFork,
    ProcessExec,
    ProcessExit,
}

impl Hook {
    const ALL: [Self; 7] = [
        Self::SysEnter,
        Self::SysExit,
        Self::CgroupMkdir,
        Self::CgroupRelease,
        Self::ProcessFork,
        Self::ProcessExec,
        Self::ProcessExit,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::SysEnter => "sys_enter",
            Self::SysExit => "sys_exit",
            Self::CgroupMkdir => "cgroup_mkdir",
            Self::CgroupRelease => "cgroup_release",
            Self::ProcessFork => "sched_process_fork",
            Self::ProcessExec => "sched_process_exec",
            Self::ProcessExit => "sched_process_exit",
        }
    }
}

/// An iterator over all tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    Seed,
    InFlight,
}

impl Walk {
    const ALL: [Self; 2] = [Self::Seed, Self::InFlight];

    const fn name(self) -> &'static str {
        match self {
            Self::Seed => "seed",
            Self::InFlight => "in_flight",
        }
    }
}

/// Maps that are of another size for many targets than for one.
const FLEET_SIZES: [(&str, u32); 16] = [
    // Counted per CPU for one target only.
    (maps::CELLS, 1),
    (maps::USUAL, 1),
    // Counted in the cells.
    (maps::WIDTHS, 1),
    (maps::RARE, FLEET_RARE),
    (maps::ENDINGS, FLEET_ENDINGS),
    (maps::FIRST, FLEET_FIRST),
    (maps::BLOCKS, BLOCK_ROWS),
    (maps::OPEN, MAX_TARGETS),
    (maps::TARGETS, MAX_TARGETS),
    (maps::FREE, MAX_TARGETS),
    (maps::NEWS, MAX_TARGETS),
    (maps::WANTED, MAX_WANTED),
    (maps::NURSERIES, MAX_NURSERIES),
    (maps::REFUSED, MAX_REFUSED),
    (maps::TUPLES, FLEET_TUPLES),
    (maps::SLOTS, profiler_ebpf::SLOT_COUNT),
];

/// What the programs are loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// One target: [`profiler_ebpf::MODE_CGROUP`] or [`profiler_ebpf::MODE_PROCESS`].
    One(u32),
    /// Many targets; whether what a container runtime does is told apart.
    Fleet { stages: bool },
}

impl Purpose {
    fn tell(self, kernel: Kernel) -> Kernel {
        match self {
            Self::One(mode) => Kernel { mode, ..kernel },
            Self::Fleet { stages } => {
                Kernel { mode: MODE_CGROUP, fleet: 1, stages: u32::from(stages), ..kernel }
            }
        }
    }
}

/// The loaded programs and what is attached.
pub(super) struct Programs {
    ebpf: Ebpf,
    attached: Vec<(Hook, BtfTracePointLink)>,
}

impl Programs {
    /// Loads object and programs; attaches nothing.
    pub(super) fn load(purpose: Purpose) -> Result<Self, EbpfError> {
        if OBJECT.is_empty() {
            return Err(EbpfError::Architecture(std::env::consts::ARCH));
        }
        let bytes = fs::read(btf::VMLINUX).map_err(EbpfError::Btf)?;
        let types = btf::KernelTypes::parse(&bytes)?;
        let told = Plain(purpose.tell(kernel::describe(&types)?));
        drop(types);
        let types = Btf::parse(&bytes, Endianness::default())
            .map_err(|error| EbpfError::BtfFormat(error.to_string()))?;
        let mut loader = EbpfLoader::new();
        if matches!(purpose, Purpose::Fleet { .. }) {
            for (map, entries) in FLEET_SIZES {
                loader.map_max_entries(map, entries);
            }
        }
        let mut ebpf = loader
            // The program has no relocations of types: offsets are told to it.
            .btf(None)
            // Task storage.
            .allow_unsupported_maps()
            .override_global(maps::KERNEL, &told, true)
            .load(OBJECT)
            .map_err(refused_load)?;
        for hook in Hook::ALL {
            let program: &mut BtfTracePoint = find(&mut ebpf, hook.name())?;
            again(|| program.load(hook.name(), &types)).map_err(refused(hook.name()))?;
        }
        for walk in Walk::ALL {
            let program: &mut Iter = find(&mut ebpf, walk.name())?;
            again(|| program.load("task", &types)).map_err(refused(walk.name()))?;
        }
        Ok(Self { ebpf, attached: Vec::new() })
    }

    /// The object, to take its maps.
    pub(super) const fn object(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Descriptors of the object's maps, by name; to be asked for before the maps are taken.
    pub(super) fn map_descriptors(&self) -> Result<BTreeMap<String, OwnedFd>, EbpfError> {
        let mut found = BTreeMap::new();
        for (name, map) in self.ebpf.maps() {
            let (Map::Array(data)
            | Map::HashMap(data)
            | Map::PerCpuArray(data)
            | Map::Queue(data)
            | Map::Unsupported(data)) = map
            else {
                continue;
            };
            let descriptor = data.fd().as_fd().try_clone_to_owned();
            found.insert(name.to_owned(), descriptor.map_err(failed("maps"))?);
        }
        Ok(found)
    }

    /// Attaches a program to its hook.
    pub(super) fn attach(&mut self, hook: Hook) -> Result<(), EbpfError> {
        let program: &mut BtfTracePoint = find(&mut self.ebpf, hook.name())?;
        let link = program.attach().and_then(|link| program.take_link(link)).map_err(refused(hook.name()))?;
        self.attached.push((hook, link));
        Ok(())
    }

    /// Detaches the program of a hook.
    pub(super) fn detach(&mut self, hook: Hook) {
        // Closing the descriptor of the link detaches.
        self.attached.retain(|(attached, _)| *attached != hook);
    }

    /// Goes through all tasks with an iterator program.
    pub(super) fn walk(&mut self, walk: Walk) -> Result<(), EbpfError> {
        let program: &mut Iter = find(&mut self.ebpf, walk.name())?;
        let link = program.attach().and_then(|link| program.take_link(link)).map_err(refused(walk.name()))?;
        let mut tasks = link
            .into_file()
            .map_err(|error| EbpfError::Program { program: walk.name(), source: Box::new(error) })?;
        // Reading to the end is what runs it; nothing is written.
        io::copy(&mut tasks, &mut io::sink())
            .map_err(|source| EbpfError::Iterate { program: walk.name(), source })?;
        Ok(())
    }

    /// How many runs of all programs the kernel skipped.
    pub(super) fn missed_runs(&self) -> Result<u64, EbpfError> {
        let mut missed: u64 = 0;
        for (name, program) in self.ebpf.programs() {
            let skipped = program
                .fd()
                .map_err(io::Error::other)
                .and_then(|fd| sys::recursion_misses(fd.as_fd()))
                .map_err(|source| EbpfError::Program { program: known(name), source: Box::new(source) })?;
            missed = missed.saturating_add(skipped);
        }
        Ok(missed)
    }
}

/// Loads a program again when a signal came meanwhile: the kernel's verifier gives up with EAGAIN then.
/// <https://github.com/torvalds/linux/blob/v6.18/kernel/bpf/verifier.c>
fn again(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    // A busy machine's signals come in rows: half a second is time enough for them to end.
    let mut result = load();
    for _ in 0..100 {
        match &result {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.raw_os_error() == Some(libc::EAGAIN) =>
            {
                std::thread::sleep(Duration::from_millis(5));
                result = load();
            }
            _ => break,
        }
    }
    result
}

fn find<'a, T>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut T, EbpfError>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or_else(|| EbpfError::Program {
        program: name,
        source: "the BPF object does not have it; run `cargo xtask ebpf`".into(),
    })?;
    program.try_into().map_err(refused(name))
}

fn known(name: &str) -> &'static str {
    let hooks = Hook::ALL.map(Hook::name);
    let walks = Walk::ALL.map(Walk::name);
    hooks.into_iter().chain(walks).find(|known| *known == name).unwrap_or("unknown")
}

/// For `map_err`: EPERM of the kernel has its own variant, whose message says what to do.
fn refused(program: &'static str) -> impl Fn(ProgramError) -> EbpfError {
    move |error| match error {
        ProgramError::LoadError { io_error, .. } if io_error.raw_os_error() == Some(libc::EPERM) => {
            EbpfError::Refused(io_error)
        }
        ProgramError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::EPERM) => {
            EbpfError::Refused(error.io_error)
        }
        error => EbpfError::Program { program, source: Box::new(error) },
    }
}

fn refused_load(error: aya::EbpfError) -> EbpfError {
    let mut cause: &dyn std::error::Error = &error;
    loop {
        if let Some(io_error) = cause.downcast_ref::<io::Error>()
            && io_error.raw_os_error() == Some(libc::EPERM)
        {
            return EbpfError::Refused(io::Error::from_raw_os_error(libc::EPERM));
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return EbpfError::Load(Box::new(error)),
        }
    }
}
