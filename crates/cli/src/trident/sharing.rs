//! A sharing that is there for as long as it is measured.

use roadstead_trident::{
    share::{Options, share},
    trust::Pins,
};

use super::{cluster::Scratch, dataset::Dataset, until_signal::UntilSignal};
use crate::{keys, outcome::Result, progress, signals};

/// Shares the set into a directory that is gone afterwards, with keys for TLS if they are wanted.
pub(crate) fn with_shares<T>(
    dataset: &Dataset,
    tls: bool,
    work: impl FnOnce(&Scratch) -> Result<T>,
) -> Result<T> {
    let dir = tempfile::Builder::new().prefix("roadstead-").tempdir()?;
    signals::doom(dir.path());
    let scratch = Scratch { shares: dir.path().join("shares"), keys: tls.then(|| dir.path().join("keys")) };
    scratch.keys.as_deref().map(keys::passing).transpose()?;
    let pins = scratch.keys.as_deref().map(Pins::read).transpose()?;
    let bar = progress::bar(dataset.rows as u64, "sharing among three servers");
    let options = Options { search: true, replace: false, pins };
    let told = |done, _| bar.set_position(done as u64);
    let shared = share(&mut UntilSignal(dataset.source()?), &scratch.shares, options, told);
    bar.finish_and_clear();
    signals::check()?;
    shared?;
    work(&scratch)
}
