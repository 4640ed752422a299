//! Where runs are written down that a profile was tried on, watched or started for it, from start to stop.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use harness::{HeldOut, HeldOutRun, Tally};
use synth::{Evidence, Profile};
use trace::Digest;

use crate::{
    folder, input,
    output::{Output, SIDECAR_LIMIT, read_within},
};

/// The profile that runs have to be about to count, and the image where its evidence names one.
pub(crate) fn about(profile: &Profile, evidence: Option<&Evidence>) -> (Digest, Option<Digest>) {
    (profile.digest(), evidence.and_then(|own| own.workload.image))
}

/// The runs in a file, and its bytes; none where there is no such file.
pub(crate) fn read(path: &Path) -> anyhow::Result<Option<(HeldOut, Vec<u8>)>> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = read_within(path, SIDECAR_LIMIT)?;
    let list = HeldOut::read(&bytes).with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(Some((list, bytes)))
}

/// Where they go, and what they are about.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    path: Option<PathBuf>,
    /// The profile of the workload folder, and the image that it was learned from.
    about: Option<(Digest, Option<Digest>)>,
}

impl Ledger {
    /// Makes sure, before any work is done, that a run can be added.
    pub(crate) fn open(folder: Option<&Path>, file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(folder) = folder else {
            let ledger = Self { path: file.map(Path::to_owned), about: None };
            ledger.check()?;
            return Ok(ledger);
        };
        if !folder.join(folder::PROFILE).exists() {
            bail!(
                "`{}` is no workload folder with a profile; make one with `learn -o`, or name a file with `--evidence`",
                folder.display()
            );
        }
        let profile = input::profile(folder)?;
        let about = Some(about(&profile, input::evidence(folder, &profile)?.as_ref()));
        let ledger = Self { path: Some(folder.join(folder::HELD_OUT)), about };
        ledger.check()?;
        Ok(ledger)
    }

    fn check(&self) -> anyhow::Result<()> {
        if let Some(path) = &self.path {
            Output::prepare(path)?;
            self.read()?;
        }
        Ok(())
    }

    fn read(&self) -> anyhow::Result<HeldOut> {
        let found = self.path.as_deref().map(read).transpose()?.flatten();
        Ok(found.map(|(list, _)| list).unwrap_or_default())
    }

    /// Adds a run, in one step: what others wrote meanwhile stays.
    pub(crate) fn add(&self, run: HeldOutRun) -> anyhow::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut list = self.read()?;
        list.add(run);
        Output::prepare(path)?.write(list.to_json().as_bytes())
    }

    /// Where the runs are written, and how those about this profile and image went: of a workload folder its own, of a
    /// file those that were asked about last.
    pub(crate) fn tally(
        &self,
        about: Option<(Digest, Option<Digest>)>,
    ) -> anyhow::Result<Option<(PathBuf, Tally)>> {
        let Some(path) = &self.path else { return Ok(None) };
        let Some((profile, image)) = self.about.or(about) else { return Ok(None) };
        Ok(Some((path.clone(), self.read()?.tally(profile, image))))
    }

    /// The image that the workload folder was learned from.
    pub(crate) fn image(&self) -> Option<Digest> {
        self.about.and_then(|(_, image)| image)
    }

    /// The profile of the workload folder.
    pub(crate) fn profile(&self) -> Option<Digest> {
        self.about.map(|(profile, _)| profile)
    }
}
