//! How many arguments a call has, and what they are: `profiles/knowledge/prototypes.txt`.

use std::{collections::BTreeMap, sync::LazyLock};

use trace::Abi;

/// What an argument is, as far as writing it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// A descriptor.
    Fd,
    /// A descriptor of a directory, or `AT_FDCWD`.
    Dir,
    /// An address that the kernel reads from or writes to.
    Ptr,
    /// An address as a number.
    Addr,
    /// A length.
    Size,
    /// A position in a file.
    Off,
    /// A file mode.
    Mode,
    /// A user or a group.
    Id,
    /// 32 bits with a sign.
    Int,
    /// 32 bits.
    Uint,
    /// 64 bits with a sign.
    Long,
    /// 64 bits.
    Ulong,
}

static PROTOTYPES: LazyLock<BTreeMap<&str, Vec<Type>>> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the table is compiled in, and a test reads it")]
    read(include_str!("../../../profiles/knowledge/prototypes.txt")).expect("a shipped table reads")
});

/// The arguments of a call; none for one that the table does not have.
pub(super) fn prototype(abi: Abi, name: &str) -> Option<&'static [Type]> {
    // 32-bit x86 passes a pointer to all the arguments: `sys_old_mmap`, `sys_old_select`,
    // arch/x86/entry/syscalls/syscall_32.tbl.
    if abi == Abi::I386 && matches!(name, "mmap" | "select") {
        return Some(&[Type::Ptr]);
    }
    PROTOTYPES.get(name).map(Vec::as_slice)
}

/// Whether an argument is an address: what is behind it no filter sees.
pub(crate) fn is_address(abi: Abi, name: &str, index: u32) -> bool {
    let kind = usize::try_from(index).ok().and_then(|index| prototype(abi, name)?.get(index));
    matches!(kind, Some(Type::Ptr | Type::Addr))
}

/// How the kernel reads an argument; none for one that the table does not have.
pub(super) fn kind(name: &str, index: u32) -> Option<Type> {
    PROTOTYPES.get(name)?.get(usize::try_from(index).ok()?).copied()
}

impl Type {
    /// Whether the kernel reads the lower half of the register alone.
    pub(super) const fn is_narrow(self) -> bool {
        matches!(self, Self::Fd | Self::Dir | Self::Mode | Self::Id | Self::Int | Self::Uint)
    }
}

fn read(text: &str) -> Option<BTreeMap<&str, Vec<Type>>> {
    let mut prototypes = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, types) = line.strip_suffix(')')?.split_once('(')?;
        let types: Vec<Type> =
            types.split(", ").filter(|word| !word.is_empty()).map(one).collect::<Option<_>>()?;
        if types.len() > 6 || prototypes.insert(name, types).is_some() {
            return None;
        }
    }
    Some(prototypes)
}

fn one(word: &str) -> Option<Type> {
    Some(match word {
        "fd" => Type::Fd,
        "dir" => Type::Dir,
        "ptr" => Type::Ptr,
        "addr" => Type::Addr,
        "size" => Type::Size,
        "off" => Type::Off,
        "mode" => Type::Mode,
        "id" => Type::Id,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "long" => Type::Long,
        "ulong" => Type::Ulong,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_every_abi_has_a_prototype_and_no_other_name_has() {
        let mut unknown = Vec::new();
        for abi in Abi::ALL {
            for number in abi.numbers() {
                let name = abi.name(number).to_string();
                if prototype(abi, &name).is_none() {
                    unknown.push(format!("{abi} {name}"));
                }
            }
        }
        assert!(unknown.is_empty(), "{unknown:?}");
        let strange: Vec<_> =
            PROTOTYPES.keys().filter(|name| Abi::ALL.iter().all(|abi| abi.number(name).is_none())).collect();
        assert!(strange.is_empty(), "{strange:?}");
    }

    #[test]
    fn every_known_argument_is_one_that_the_call_has() {
        for argument in crate::arguments::arguments() {
            for syscall in &argument.syscalls {
                let types = prototype(Abi::X86_64, syscall).unwrap();
                let own = types.get(usize::try_from(argument.index).unwrap()).unwrap();
                let pointer = matches!(own, Type::Ptr);
                assert_eq!(pointer, argument.offset.is_some(), "{syscall} {}", argument.name);
                if argument.kind == crate::arguments::ArgumentKind::Descriptor {
                    assert!(matches!(own, Type::Fd), "{syscall} {}", argument.name);
                    continue;
                }
                let wide = matches!(own, Type::Addr | Type::Size | Type::Off | Type::Long | Type::Ulong);
                assert!(
                    argument.offset.is_some() || wide == (argument.width == 64),
                    "{syscall} {}",
                    argument.name
                );
            }
        }
    }

    #[test]
    fn a_table_that_is_not_of_its_form_is_refused() {
        assert!(read("a(int)\nb()").is_some());
        for bad in ["a(int", "a(itn)", "a(int)\na()", "a(int, int, int, int, int, int, int)", "a"] {
            assert!(read(bad).is_none(), "{bad}");
        }
    }
}
