//! The filter of the `notify` backend: every call of every ABI is handed to the listener.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
};

use confine::Instruction;
use libseccomp::{ScmpAction, ScmpFilterContext, error::SeccompError};

/// Why the filter could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// libseccomp refused; before 2.5.0 it knows no user notification.
    #[error("libseccomp does not make the notify filter; it takes version 2.5.0 or later")]
    Libseccomp(#[from] SeccompError),
    /// The compiled program could not be read back.
    #[error("cannot read the compiled notify filter back")]
    Read(#[from] io::Error),
}

/// The compiled program: NOTIFY as the default action *and* for the ABIs that are not the native one, which
/// libseccomp kills otherwise (a 32-bit program would die of SIGSYS).
///
/// # Errors
/// When libseccomp is too old, or no temporary memory can be had.
pub(super) fn filter() -> Result<Vec<Instruction>, FilterError> {
    let mut context = ScmpFilterContext::new(ScmpAction::Notify)?;
    context.set_act_badarch(ScmpAction::Notify)?;
    let memory = nix::sys::memfd::memfd_create("filter", nix::sys::memfd::MFdFlags::MFD_CLOEXEC);
    let mut file = File::from(memory.map_err(io::Error::from)?);
    context.export_bpf(&file)?;
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    let (instructions, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() || instructions.is_empty() {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(instructions
        .iter()
        .map(|&[c0, c1, jt, jf, k0, k1, k2, k3]| Instruction {
            code: u16::from_ne_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_one_answer_whatever_is_called() {
        let program = filter().unwrap();
        let returns: Vec<u32> = program
            .iter()
            .filter(|instruction| instruction.code & 0x07 == 0x06)
            .map(|instruction| instruction.k)
            .collect();
        assert!(!returns.is_empty() && returns.iter().all(|k| *k == 0x7fc0_0000), "{program:?}");
    }
}
