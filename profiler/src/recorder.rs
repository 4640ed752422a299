//! What both backends are to the session that drives them.

use trace::{Losses, Open, PhaseName, Row};

/// A recording that is under way.
pub trait Recorder: Send {
    /// From now on what is seen belongs to this phase.
    fn set_phase(&mut self, phase: PhaseName);

    /// How far it is; cheap enough to be asked a few times a second.
    fn progress(&mut self) -> Progress;

    /// Detaches and hands over everything that was seen.
    ///
    /// # Errors
    /// When the kernel's counters cannot be read; then there is no evidence to write.
    fn finish(self: Box<Self>) -> anyhow::Result<Observations>;
}

/// A glance at a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Calls so far, refused ones included.
    pub calls: u64,
    /// Distinct pairs of ABI and syscall so far.
    pub distinct: u64,
    /// When the last new one was seen: milliseconds after the recording's start.
    pub last_new_ms: u64,
    /// Whether something was lost so far.
    pub lost: bool,
}

/// What a recording saw.
#[derive(Clone, Debug)]
pub struct Observations {
    /// One row for each syscall of each ABI, `runs` being 1.
    pub rows: Vec<Row>,
    /// The opens of the GPU driver's files, by path, ordered.
    pub opens: Vec<Open>,
    /// Opens of such files that are not among `opens`, because there were too many paths.
    pub opens_beyond: u64,
    /// Whether a GPU device of NVIDIA's was used; none where arguments were not captured.
    pub gpu: Option<bool>,
    /// What could not be recorded.
    pub losses: Losses,
    /// Whether a filter that is not the workload's own was already on it.
    pub confined: bool,
    /// How the recording itself changed the workload; empty for `ebpf`.
    pub perturbations: Vec<String>,
}
