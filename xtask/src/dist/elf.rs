//! Whether a 64-bit little-endian ELF executable needs anything at run time.

use anyhow::{Context as _, bail};

// Values of the System V ABI, https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
/// What the C library reads before it loads name-service modules: there when a look-up of users or hosts is linked.
const NAME_SERVICE: &[u8] = b"/etc/nsswitch.conf";

/// Refuses an executable that asks for a loader, for a shared library or for name-service modules.
pub(super) fn check_static(file: &[u8]) -> anyhow::Result<()> {
    if file.get(..6) != Some(b"\x7fELF\x02\x01") {
        bail!("not a 64-bit little-endian ELF file");
    }
    let (table, size, entries) = (number(file, 32, 8)?, number(file, 54, 2)?, number(file, 56, 2)?);
    for index in 0..entries {
        let header = place(table + index * size)?;
        let (offset, length) = (place(number(file, header + 8, 8)?)?, place(number(file, header + 32, 8)?)?);
        match u32::try_from(number(file, header, 4)?)? {
            PT_INTERP => {
                let loader = file.get(offset..offset + length).context("the file is cut off")?;
                bail!("it asks for the loader `{}`", String::from_utf8_lossy(loader).trim_end_matches('\0'));
            }
            PT_DYNAMIC => {
                for entry in (offset..offset + length).step_by(16) {
                    if number(file, entry, 8)? == DT_NEEDED {
                        bail!("it asks for a shared library");
                    }
                }
            }
            _ => {}
        }
    }
    if file.windows(NAME_SERVICE.len()).any(|window| window == NAME_SERVICE) {
        bail!("it looks up users or hosts, for which the C library loads modules of the system it runs on");
    }
    Ok(())
}

/// An unsigned little-endian number of up to 8 bytes.
fn number(file: &[u8], at: usize, bytes: usize) -> anyhow::Result<u64> {
    let field = at.checked_add(bytes).and_then(|end| file.get(at..end)).context("the file is cut off")?;
    Ok(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn place(value: u64) -> anyhow::Result<usize> {
    usize::try_from(value).context("the file is cut off")
}

#[cfg(test)]
mod tests {
    use super::check_static;

    #[test]
    fn this_very_test_asks_for_a_loader() {
        let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let error = check_static(&file).unwrap_err().to_string();
        assert!(error.contains("ld-linux") || error.contains("shared library"), "{error}");
    }

    #[test]
    fn what_is_no_program_is_refused() {
        for file in [&b"#!/bin/sh\n"[..], b"\x7fELF\x02\x01", b""] {
            assert!(check_static(file).is_err());
        }
    }
}
