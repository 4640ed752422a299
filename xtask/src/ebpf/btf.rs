//! BTF as lines: types with their names, so that two objects can be compared although their string tables differ
//! in order or hold paths. The format: <https://docs.kernel.org/bpf/btf.html>.

use anyhow::{Context as _, bail};

/// `BTF_MAGIC`, little-endian.
const MAGIC: [u8; 2] = [0x9f, 0xeb];

/// What `.BTF` says, a line for each type.
pub(super) fn types(data: &[u8]) -> anyhow::Result<Vec<String>> {
    let (mut rest, strings) = parts(data).context("the head is cut off")?;
    let mut lines = Vec::new();
    while !rest.is_empty() {
        let head = Words(rest);
        let (name, info, size) = (head.at(0)?, head.at(1)?, head.at(2)?);
        let (kind, count) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
        // Words of each item that follows, and which of them is a name.
        let (items, words, named) = match kind {
            // integers, variables, declaration tags
            1 | 14 | 17 => (1, 1, None),
            3 => (1, 3, None),
            // structures and unions, 64-bit enumerations
            4 | 5 | 19 => (count, 3, Some(0)),
            // enumerations, function prototypes
            6 | 13 => (count, 2, Some(0)),
            15 => (count, 3, None),
            2 | 7..=12 | 16 | 18 => (0, 0, None),
            other => bail!("kind {other} is unknown"),
        };
        let mut line =
            format!("{} kind {kind} `{}` {info:#x} {size}", lines.len() + 1, string(strings, name)?);
        for item in 0..items {
            line.push_str(" (");
            for word in 0..words {
                let value = head.at(3 + item * words + word)?;
                match named {
                    Some(position) if position == word => {
                        line.push_str(&format!(" `{}`", string(strings, value)?));
                    }
                    _ => line.push_str(&format!(" {value}")),
                }
            }
            line.push_str(" )");
        }
        lines.push(line);
        rest = rest.get(4 * (3 + items * words)..).context("a type is cut off")?;
    }
    Ok(lines)
}

/// What `.BTF.ext` says of functions, a line for each. Line numbers are left out: they change with every comment.
pub(super) fn functions(data: &[u8], btf: &[u8]) -> anyhow::Result<Vec<String>> {
    let (_, strings) = parts(btf).context("there are no types")?;
    let head = Words(data);
    let (length, offset, size) = (head.at(1)? as usize, head.at(2)? as usize, head.at(3)? as usize);
    let information = data.get(length + offset..length + offset + size).context("it is cut off")?;
    let information = Words(information);
    let words = information.at(0)? as usize / 4;
    let mut lines = Vec::new();
    let mut position = 1;
    while position * 4 < size {
        let (section, count) = (information.at(position)?, information.at(position + 1)? as usize);
        position += 2;
        for _ in 0..count {
            let (offset, kind) = (information.at(position)?, information.at(position + 1)?);
            lines.push(format!("{}+{offset:#x} type {kind}", string(strings, section)?));
            position += words;
        }
    }
    Ok(lines)
}

/// The bytes of types and of strings.
fn parts(data: &[u8]) -> Option<(&[u8], &[u8])> {
    if data.get(..2)? != MAGIC {
        return None;
    }
    let at = |index| Words(data).at(index).ok().map(|word| word as usize);
    let body = data.get(at(1)?..)?;
    Some((body.get(at(2)?..)?.get(..at(3)?)?, body.get(at(4)?..)?.get(..at(5)?)?))
}

struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn at(&self, index: usize) -> anyhow::Result<u32> {
        let bytes = self.0.get(index * 4..).and_then(<[u8]>::first_chunk).context("it is cut off")?;
        Ok(u32::from_le_bytes(*bytes))
    }
}

fn string(strings: &[u8], offset: u32) -> anyhow::Result<String> {
    let bytes = strings.get(offset as usize..).context("a name is cut off")?;
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(strings: &[u8], names: [u32; 3]) -> Vec<u8> {
        // A structure with one member, and a pointer to it.
        let words = [names[0], 4 << 24 | 1, 4, names[1], 1, 0, names[2], 2 << 24, 1];
        let types: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut data = MAGIC.to_vec();
        data.extend([1, 0]);
        let length = u32::try_from(types.len()).unwrap();
        for word in [24, 0, length, length, u32::try_from(strings.len()).unwrap()] {
            data.extend(word.to_le_bytes());
        }
        data.extend(types);
        data.extend(strings);
        data
    }

    #[test]
    fn types_are_compared_by_name_not_by_place() {
        let one = types(&sample(b"\0first\0second\0", [1, 7, 0])).unwrap();
        let other = types(&sample(b"\0/a/path\0second\0first\0", [16, 9, 0])).unwrap();
        assert_eq!(one, other);
        assert_eq!(one, ["1 kind 4 `first` 0x4000001 4 ( `second` 1 0 )", "2 kind 2 `` 0x2000000 1"]);
        let renamed = types(&sample(b"\0first\0third\0", [1, 7, 0])).unwrap();
        assert_ne!(one, renamed);
    }

    #[test]
    fn cut_off_types_are_errors() {
        let data = sample(b"\0first\0second\0", [1, 7, 0]);
        for length in 0..data.len() - 14 {
            assert!(types(&data[..length]).is_err(), "{length}");
        }
    }
}
