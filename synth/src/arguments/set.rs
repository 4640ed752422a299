//! A set of names for the values of an argument: one of a list, fields of several bits, single bits.

/// Names for the values of an argument, on one ABI.
#[derive(Clone, Debug, Default)]
pub struct Set {
    /// What the whole argument may be; empty for flags.
    pub(super) values: Vec<Name>,
    /// Parts of the argument that hold one of a list.
    pub(super) fields: Vec<Field>,
    /// Bits that may be set in any combination.
    pub(super) bits: Vec<Name>,
    /// Several bits that have one name for people.
    pub(super) groups: Vec<Name>,
    /// What no bit and no field is called.
    pub(super) zero: Option<String>,
}

/// A value and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The value.
    pub value: u64,
    /// The name in the kernel's headers.
    pub name: String,
}

/// Bits that together hold one of a list.
#[derive(Clone, Debug)]
pub struct Field {
    /// Which bits.
    pub mask: u64,
    /// What they may be.
    pub values: Vec<Name>,
    /// Whether a value without a name is a file mode, written with a leading zero.
    pub octal: bool,
    /// Whether people write it behind the flags: the exit signal of clone.
    pub last: bool,
}

impl Set {
    /// Whether the argument is made of bits and fields, and not one of a list.
    #[must_use]
    pub fn is_flags(&self) -> bool {
        self.values.is_empty()
    }

    /// All names with their values, fields' values included.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.values.iter().chain(self.fields.iter().flat_map(|field| &field.values)).chain(&self.bits)
    }

    /// The bits that have a meaning each for itself.
    #[must_use]
    pub fn bit_mask(&self) -> u64 {
        self.bits.iter().fold(0, |mask, bit| mask | bit.value)
    }

    /// The fields.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The value of a name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<u64> {
        self.names().find(|own| own.name == name).map(|own| own.value)
    }

    /// The name of exactly these bits, where people have one: `CLONE_NEW*`.
    #[must_use]
    pub fn group(&self, bits: u64) -> Option<&str> {
        self.groups.iter().find(|group| group.value == bits).map(|group| group.name.as_str())
    }

    /// The bits that have this name together.
    pub(crate) fn group_mask(&self, name: &str) -> Option<u64> {
        self.groups.iter().find(|group| group.name == name).map(|group| group.value)
    }

    /// The name of a value of a list; none for flags and for a value without a name.
    #[must_use]
    pub fn name(&self, value: u64) -> Option<&str> {
        self.values.iter().find(|own| own.value == value).map(|own| own.name.as_str())
    }

    /// A value in words: `SOCK_STREAM|SOCK_CLOEXEC`. What has no name is written as a number, beside the names of
    /// the rest.
    #[must_use]
    pub fn show(&self, value: u64) -> String {
        if !self.is_flags() {
            return self.name(value).map_or_else(|| number(value), str::to_owned);
        }
        let mut first = Vec::new();
        let mut last = Vec::new();
        let mut rest = value;
        for field in &self.fields {
            let part = value & field.mask;
            rest &= !field.mask;
            let name = field.values.iter().find(|own| own.value == part);
            let text = match name {
                Some(name) => name.name.clone(),
                None if part == 0 => continue,
                None if field.octal => format!("{part:#05o}").replacen("0o", "0", 1),
                None => format!("{part:#x}"),
            };
            if field.last { last.push(text) } else { first.push(text) }
        }
        first.extend(self.names_of_bits(&mut rest));
        if rest != 0 {
            first.push(format!("{rest:#x}"));
        }
        first.extend(last);
        if first.is_empty() {
            return self.zero.clone().unwrap_or_else(|| "0".to_owned());
        }
        first.join("|")
    }

    /// The names of single bits, for a mask.
    #[must_use]
    pub fn show_mask(&self, mask: u64) -> String {
        if let Some(group) = self.group(mask) {
            return group.to_owned();
        }
        let mut rest = mask;
        let mut names = self.names_of_bits(&mut rest);
        if rest != 0 || names.is_empty() {
            names.push(format!("{rest:#x}"));
        }
        names.join("|")
    }

    /// The names of the bits in `rest`, which they are taken from; of names that overlap the one with more bits.
    fn names_of_bits(&self, rest: &mut u64) -> Vec<String> {
        let mut by_weight: Vec<&Name> = self.bits.iter().collect();
        by_weight.sort_by_key(|bit| (std::cmp::Reverse(bit.value.count_ones()), bit.value));
        let mut found = Vec::new();
        for bit in by_weight {
            if bit.value != 0 && *rest & bit.value == bit.value {
                *rest &= !bit.value;
                found.push(bit);
            }
        }
        found.sort();
        found.into_iter().map(|bit| bit.name.clone()).collect()
    }
}

/// A value without a name: small ones in decimal.
pub(crate) fn number(value: u64) -> String {
    if value < 1024 { value.to_string() } else { format!("{value:#x}") }
}

#[cfg(test)]
mod tests {
    use trace::Abi;

    use crate::arguments::set;

    #[track_caller]
    fn check(name: &str, value: u64, expected: &str) {
        assert_eq!(set(Abi::X86_64, name).unwrap().show(value), expected, "{name} {value:#x}");
    }

    #[test]
    fn values_are_written_as_people_write_them() {
        check("address-family", 10, "AF_INET6");
        check("address-family", 99, "99");
        check("socket-type", 0x80801, "SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC");
        check("socket-type", 0x8000_0007, "0x7|0x80000000");
        check("protection", 0, "PROT_NONE");
        check("protection", 7, "PROT_READ|PROT_WRITE|PROT_EXEC");
        check("mmap-flags", 0x22, "MAP_PRIVATE|MAP_ANONYMOUS");
        check("mmap-flags", 0x5404_0002, "MAP_PRIVATE|MAP_HUGE_2MB|MAP_HUGETLB");
        check("clone-flags", 0x0120_0011, "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD");
        check("open-flags", 0x101_042, "O_RDWR|O_CREAT|O_SYNC");
        check("open-flags", 0x0041_0002, "O_RDWR|O_TMPFILE");
        check("futex-operation", 0x189, "FUTEX_WAIT_BITSET_PRIVATE|FUTEX_CLOCK_REALTIME");
        check("shm-flags", 0o1600, "0600|IPC_CREAT");
        check("signal", 34, "SIGRT_2");
        check("eventfd-flags", 0, "0");
        check("scheduling-policy", 0x4000_0001, "SCHED_FIFO|SCHED_RESET_ON_FORK");
    }

    #[test]
    fn one_bit_has_another_name_on_another_abi() {
        let open = |abi| set(abi, "open-flags").unwrap().show(0x14000);
        assert_eq!(open(Abi::X86_64), "O_RDONLY|O_DIRECT|O_DIRECTORY");
        assert_eq!(open(Abi::Aarch64), "O_RDONLY|O_DIRECTORY|O_DIRECT");
        assert_eq!(set(Abi::Arm, "open-flags").unwrap().show(0x4000), "O_RDONLY|O_DIRECTORY");
        assert_eq!(set(Abi::Aarch64, "protection").unwrap().show(0x15), "PROT_READ|PROT_EXEC|PROT_BTI");
        assert_eq!(set(Abi::Aarch64, "mmap-flags").unwrap().show(0x42), "MAP_PRIVATE|0x40");
    }
}
