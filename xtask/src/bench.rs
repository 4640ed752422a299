//! `cargo xtask bench`.

/// Options of `bench`.
#[derive(clap::Args)]
pub(crate) struct Options {}

pub(crate) fn run(_: &Options) -> anyhow::Result<()> {
    anyhow::bail!("being written")
}
