//! Every exit code of the program, with what it means to the one who called it.

use std::process::ExitCode;

/// Yes: it was done, and the answer is good.
pub(crate) const YES: u8 = 0;
/// No: a denial, a difference, a finding, or a workload that is not well.
pub(crate) const NO: u8 = 1;
/// It could not be done: bad input, a missing permission, a missing file. Nothing was overwritten.
pub(crate) const FAILED: u8 = 2;
/// The evidence is incomplete or not about this: calls were lost, the start is missing, the trace was not closed.
pub(crate) const EVIDENCE: u8 = 3;

/// The sentence about the codes in `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0  yes: it was done, and the answer is good
  1  no: a denial, a difference, a finding, or a workload that is not well
  2  it could not be done; nothing was overwritten
  3  the evidence is incomplete or not about this";

/// A code as the process returns it.
pub(crate) fn code(code: u8) -> ExitCode {
    ExitCode::from(code)
}
