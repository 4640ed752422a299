//! How much kernel memory the maps take, here and on machines with more CPUs.

use std::{fs, io, os::fd::AsRawFd as _};

use aya_obj::generated::bpf_map_type;

use super::Fleet;
use crate::ebpf::{EbpfError, sys, tables::failed};

/// Kernel memory of the maps, in bytes. What is kept for each recorded task while it lives comes on top: about 200
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// As the kernel accounts it (`memlock`), on this machine.
    pub maps: u64,
    /// How many CPUs this machine can have.
    pub possible_cpus: u64,
    /// How much of it there is for each possible CPU.
    pub per_cpu: u64,
}

impl Memory {
    /// The same on a machine that can have so many CPUs.
    #[must_use]
    pub const fn for_cpus(&self, cpus: u64) -> u64 {
        let shared = self.maps.saturating_sub(self.per_cpu.saturating_mul(self.possible_cpus));
        shared.saturating_add(self.per_cpu.saturating_mul(cpus))
    }
}

impl Fleet {
    /// How much kernel memory the maps take. It does not grow with the number of targets.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn memory(&self) -> Result<Memory, EbpfError> {
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| failed("possible CPUs")(error))?;
        let mut memory = Memory { maps: 0, possible_cpus: cpus as u64, per_cpu: 0 };
        for descriptor in self.descriptors.values() {
            let info = sys::map_info(std::os::fd::AsFd::as_fd(descriptor)).map_err(failed("maps"))?;
            let raw = descriptor.as_raw_fd();
            let text = fs::read_to_string(format!("/proc/self/fdinfo/{raw}")).map_err(failed("maps"))?;
            let locked = text.lines().find_map(|line| line.strip_prefix("memlock:"));
            let locked = locked.and_then(|number| number.trim().parse::<u64>().ok());
            let missing = || failed("maps")(io::Error::other("no memlock in fdinfo"));
            memory.maps = memory.maps.saturating_add(locked.ok_or_else(missing)?);
            let round = |size: u32| u64::from(size.next_multiple_of(8));
            memory.per_cpu += match info.type_ {
                kind if kind == bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY as u32 => {
                    round(info.value_size) * u64::from(info.max_entries)
                }
                // One element more for each CPU, 48 bytes beside key and value: `htab_map_mem_usage`,
                // https://github.com/torvalds/linux/blob/v6.18/kernel/bpf/hashtab.c
                kind if kind == bpf_map_type::BPF_MAP_TYPE_HASH as u32 => {
                    48 + round(info.key_size) + round(info.value_size)
                }
                _ => 0,
            };
        }
        Ok(memory)
    }
}
