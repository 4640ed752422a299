//! What a BPF object says to the kernel: stripped of the rest, and as lines that can be compared.

use std::collections::BTreeMap;

use anyhow::Context as _;
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationFlags, RelocationTarget, SectionFlags,
    build::elf::{Builder, SectionData},
    elf::{SHF_EXECINSTR, SHT_STRTAB},
    read::elf::ElfFile64,
};

use super::btf;

/// Takes the debugging information away; the kernel's own kind of it, `.BTF`, stays.
pub(super) fn strip(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut builder = Builder::read(bytes).context("the built object cannot be read")?;
    for section in &mut builder.sections {
        let name = section.name.to_vec();
        section.delete = [b".debug_".as_slice(), b".rel.debug_"].iter().any(|debug| name.starts_with(debug));
    }
    builder.delete_orphans();
    // LLVM keeps the names of sections and symbols in one table; the writer wants two.
    let names = builder.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("the stripped object cannot be written")?;
    Ok(stripped)
}

/// An object as the kernel will know it.
pub(super) struct Description {
    lines: Vec<String>,
    instructions: usize,
    maps: usize,
    relocations: usize,
    types: usize,
}

impl Description {
    /// How much there is of each.
    pub(super) fn summary(&self) -> String {
        let Self { instructions, maps, relocations, types, .. } = self;
        format!("{instructions} instructions, {maps} maps, {relocations} relocations, {types} types")
    }

    /// The lines that only one of the two has: `-` this one, `+` the other.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        for line in &self.lines {
            *counts.entry(line).or_default() -= 1;
        }
        for line in &other.lines {
            *counts.entry(line).or_default() += 1;
        }
        let mut differing = Vec::new();
        for (line, count) in counts {
            if count != 0 {
                differing.push(format!("{} {line}", if count < 0 { '-' } else { '+' }));
            }
        }
        differing
    }
}

/// Reads instructions, data, maps, relocations, symbols and types.
pub(super) fn describe(bytes: &[u8]) -> anyhow::Result<Description> {
    let file: ElfFile64<'_> = ElfFile64::parse(bytes).context("this is no 64-bit ELF file")?;
    let mut found = Description { lines: Vec::new(), instructions: 0, maps: 0, relocations: 0, types: 0 };
    for section in file.sections() {
        let name = section.name().context("a section has no name")?;
        let SectionFlags::Elf { sh_flags } = section.flags() else { continue };
        let data = section.data().with_context(|| format!("section `{name}` cannot be read"))?;
        match name {
            ".BTF" => {
                let types = btf::types(data).context("`.BTF` cannot be read")?;
                found.types = types.len();
                found.lines.extend(types.into_iter().map(|line| format!("type {line}")));
            }
            ".BTF.ext" => {
                let strings = file.section_by_name_bytes(b".BTF").and_then(|section| section.data().ok());
                let functions = btf::functions(data, strings.unwrap_or_default());
                let functions = functions.context("`.BTF.ext` cannot be read")?;
                found.lines.extend(functions.into_iter().map(|line| format!("function {line}")));
            }
            _ if sh_flags & u64::from(SHF_EXECINSTR) != 0 => {
                for (index, instruction) in data.chunks(8).enumerate() {
                    found.lines.push(format!("instruction {name} {index:5} {}", hexadecimal(instruction)));
                    found.instructions += 1;
                }
            }
            _ if sh_flags != 0 && section.address() == 0 && is_kept(name) => {
                found.lines.push(format!("data {name} {} {}", section.size(), hexadecimal(data)));
            }
            _ => {}
        }
        // Those of the types and of line numbers say where sections begin, which is 0 in every object.
        if name.starts_with(".BTF") {
            continue;
        }
        for (offset, relocation) in section.relocations() {
            let target = match relocation.target() {
                RelocationTarget::Symbol(index) => symbol_name(&file, index)?,
                other => format!("{other:?}"),
            };
            let RelocationFlags::Elf { r_type } = relocation.flags() else { continue };
            found.lines.push(format!("relocation {name}+{offset:#x} type {r_type} {target}"));
            found.relocations += 1;
        }
    }
    for symbol in file.symbols() {
        let Some(section) = symbol.section_index() else { continue };
        let section = file.section_by_index(section)?.name()?.to_owned();
        let name = without_hash(symbol.name()?);
        if name.is_empty() || name == section {
            continue;
        }
        found.maps += usize::from(section == ".maps");
        found.lines.push(format!("symbol {name} {section}+{:#x} {}", symbol.address(), symbol.size()));
    }
    Ok(found)
}

fn is_kept(name: &str) -> bool {
    !name.starts_with(".rel")
        && !name.starts_with(".debug")
        && ![".shstrtab", ".strtab", ".symtab"].contains(&name)
}

/// The name of a symbol; a section's own symbol has the section's name.
fn symbol_name(file: &ElfFile64<'_>, index: object::SymbolIndex) -> anyhow::Result<String> {
    let symbol = file.symbol_by_index(index)?;
    let name = without_hash(symbol.name()?);
    if !name.is_empty() {
        return Ok(name);
    }
    let section = symbol.section_index().context("a relocation has no target")?;
    Ok(file.section_by_index(section)?.name()?.to_owned())
}

/// A mangled name without the digest of the crate (`Cs…_`), which hangs on how cargo was called.
fn without_hash(name: &str) -> String {
    let mut kept = String::new();
    let mut rest = name;
    if name.starts_with("_R") {
        while let Some((before, after)) = rest.split_once("Cs") {
            let digest = after.bytes().take_while(u8::is_ascii_alphanumeric).count();
            kept.push_str(before);
            kept.push_str("C_");
            rest = after.get(digest..).unwrap_or_default();
        }
    }
    kept + rest
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crates_digest_is_taken_out_of_names() {
        assert_eq!(
            without_hash("_RNvNtCs7BFFOi3TkGH_8recorder5count6ending"),
            "_RNvNtC__8recorder5count6ending"
        );
        assert_eq!(without_hash("CsX_plain"), "CsX_plain");
    }

    #[test]
    fn differences_name_both_sides() {
        let with = |lines: &[&str]| Description {
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            instructions: 0,
            maps: 0,
            relocations: 0,
            types: 0,
        };
        assert!(with(&["a", "b"]).differences(&with(&["b", "a"])).is_empty());
        assert_eq!(with(&["a", "b"]).differences(&with(&["b", "c"])), ["- a", "+ c"]);
        assert_eq!(with(&["a"]).differences(&with(&["a", "a"])), ["+ a"]);
    }
}
