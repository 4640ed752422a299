//! `cargo xtask ebpf`.

/// Options of `ebpf`.
#[derive(clap::Args)]
pub(crate) struct Options {}

pub(crate) fn run(_: &Options) -> anyhow::Result<()> {
    anyhow::bail!("being written")
}
