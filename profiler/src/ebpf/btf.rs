//! A reader of the kernel's own type information, just as much as is needed to find fields and functions.
//!
//! The format: <https://docs.kernel.org/bpf/btf.html>.

use std::collections::HashMap;

use super::EbpfError;

/// Where the kernel describes its types.
pub(super) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// `BTF_MAGIC` in this machine's byte order, `include/uapi/linux/btf.h`.
const MAGIC: u16 = 0xeb9f;

// `BTF_KIND_*`, the same file.
const INT: u8 = 1;
const ARRAY: u8 = 3;
const STRUCT: u8 = 4;
const UNION: u8 = 5;
const ENUM: u8 = 6;
const TYPEDEF: u8 = 8;
const VOLATILE: u8 = 9;
const CONST: u8 = 10;
const FUNC: u8 = 12;
const FUNC_PROTO: u8 = 13;
const VAR: u8 = 14;
const DATASEC: u8 = 15;
const DECL_TAG: u8 = 17;
const TYPE_TAG: u8 = 18;
const ENUM64: u8 = 19;

/// Type information, with the structures and functions found by name.
pub(super) struct KernelTypes<'a> {
    strings: &'a [u8],
    types: Vec<Type<'a>>,
    structures: HashMap<&'a str, u32>,
    functions: HashMap<&'a str, u32>,
}

#[derive(Clone, Copy)]
struct Type<'a> {
    kind: u8,
    /// Whether member offsets carry a bit-field's size in their upper byte.
    bit_fields: bool,
    size_or_type: u32,
    /// What follows the head: for structures three words for each member.
    tail: &'a [u8],
}

impl<'a> KernelTypes<'a> {
    /// Reads the whole file's bytes.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, EbpfError> {
        read(bytes).ok_or_else(|| EbpfError::BtfFormat("it ends early or is of another version".to_owned()))
    }

    /// Whether the kernel has this function; helpers are functions too.
    pub(super) fn has_function(&self, name: &str) -> bool {
        self.functions.contains_key(name)
    }

    /// The offset in bytes of `path`: a structure, a field and fields of that, as in `task_struct.seccomp.mode`.
    /// Fields of nameless members are found as in C.
    pub(super) fn offset(&self, path: &'static str) -> Result<u32, EbpfError> {
        let mut parts = path.split('.');
        let offset = parts.next().and_then(|name| {
            let mut id = *self.structures.get(name)?;
            let mut bits = 0;
            for field in parts {
                let (own, field_type) = self.member(id, field)?;
                bits += own;
                id = field_type;
            }
            (bits % 8 == 0).then_some(bits / 8)
        });
        offset.ok_or(EbpfError::NoField(path))
    }

    /// Offset in bits and type of a member.
    fn member(&self, id: u32, name: &str) -> Option<(u32, u32)> {
        let structure = self.structure(id)?;
        for words in structure.tail.chunks_exact(12) {
            let (member, member_type, offset) = (word(words, 0)?, word(words, 4)?, word(words, 8)?);
            let offset = if structure.bit_fields { offset & 0x00ff_ffff } else { offset };
            let member = self.string(member)?;
            if member == name {
                return Some((offset, member_type));
            }
            if member.is_empty()
                && let Some((inner, inner_type)) = self.member(member_type, name)
            {
                return Some((offset + inner, inner_type));
            }
        }
        None
    }

    /// The structure or union that a type is, its qualifiers and names taken off.
    fn structure(&self, mut id: u32) -> Option<&Type<'a>> {
        loop {
            let found = self.types.get(usize::try_from(id).ok()?.checked_sub(1)?)?;
            match found.kind {
                STRUCT | UNION => return Some(found),
                TYPEDEF | VOLATILE | CONST | TYPE_TAG => id = found.size_or_type,
                _ => return None,
            }
        }
    }

    fn string(&self, offset: u32) -> Option<&'a str> {
        string(self.strings, offset)
    }
}

fn read(bytes: &[u8]) -> Option<KernelTypes<'_>> {
    if bytes.first_chunk().map(|magic| u16::from_ne_bytes(*magic))? != MAGIC || *bytes.get(2)? != 1 {
        return None;
    }
    let at = |offset| usize::try_from(word(bytes, offset)?).ok();
    let body = bytes.get(at(4)?..)?;
    let strings = body.get(at(16)?..)?.get(..at(20)?)?;
    let mut rest = body.get(at(8)?..)?.get(..at(12)?)?;
    let mut found =
        KernelTypes { strings, types: Vec::new(), structures: HashMap::new(), functions: HashMap::new() };
    while !rest.is_empty() {
        let (name, info, size_or_type) = (word(rest, 0)?, word(rest, 4)?, word(rest, 8)?);
        let kind = (info >> 24) as u8 & 0x1f;
        let count = usize::try_from(info & 0xffff).ok()?;
        let length = match kind {
            INT | VAR | DECL_TAG => 4,
            ARRAY => 12,
            STRUCT | UNION | DATASEC | ENUM64 => 12 * count,
            ENUM | FUNC_PROTO => 8 * count,
            _ => 0,
        };
        let tail = rest.get(12..)?.get(..length)?;
        rest = rest.get(12 + length..)?;
        found.types.push(Type { kind, bit_fields: info >> 31 == 1, size_or_type, tail });
        // Type ids count from 1.
        let id = u32::try_from(found.types.len()).ok()?;
        match kind {
            STRUCT => _ = found.structures.entry(string(strings, name)?).or_insert(id),
            FUNC => _ = found.functions.entry(string(strings, name)?).or_insert(id),
            _ => {}
        }
    }
    Some(found)
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

fn string(strings: &[u8], offset: u32) -> Option<&str> {
    let bytes = strings.get(usize::try_from(offset).ok()?..)?;
    let end = bytes.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(bytes.get(..end)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A structure `outer` with an `int` at 0 and a nameless union at 8 that has a bit field of its own.
    fn sample() -> Vec<u8> {
        let strings = b"\0outer\0first\0second\0int\0call\0";
        let types: Vec<u32> = [
            // 1: int
            [20, u32::from(INT) << 24, 4, 32].as_slice(),
            // 2: a nameless union with `second` at bit 8
            &[0, u32::from(UNION) << 24 | 1 | 1 << 31, 8, 13, 1, 8 << 24 | 8],
            // 3: struct outer
            &[1, u32::from(STRUCT) << 24 | 2, 16, 7, 1, 0, 0, 2, 64],
            // 4: func call
            &[24, u32::from(FUNC) << 24, 0],
        ]
        .concat();
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        let length = u32::try_from(types.len()).unwrap();
        for word in [24, 0, length, length, u32::try_from(strings.len()).unwrap()] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn fields_are_found_through_nameless_members() {
        let bytes = sample();
        let types = KernelTypes::parse(&bytes).unwrap();
        assert_eq!(types.offset("outer.first").unwrap(), 0);
        assert_eq!(types.offset("outer.second").unwrap(), 9);
        assert!(types.has_function("call"));
        assert!(!types.has_function("outer"));
        assert!(matches!(types.offset("outer.third"), Err(EbpfError::NoField("outer.third"))));
        assert!(matches!(types.offset("other.first"), Err(EbpfError::NoField(_))));
    }

    #[test]
    fn cut_off_files_are_errors() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(KernelTypes::parse(&bytes[..length]).is_err(), "{length}");
        }
    }
}
