//! Opening a data folder: for reading beside its owner, or as its owner.

use crate::failure::Failure;
use std::path::Path;
use std::sync::Arc;
use tidings::Tidings;
use tidings::broker::Broker;
use tidings::embedded::LogReader;

/// Opens a folder for reading; whoever owns it goes on undisturbed.
pub(crate) fn read(folder: &Path) -> Result<LogReader, Failure> {
    Ok(tidings::embedded::open_reader(folder)?)
}

/// Opens a folder for writing, making it if it does not exist.
pub(crate) async fn own(folder: &Path) -> Result<Tidings, Failure> {
    Ok(Tidings::open(folder).await?)
}

/// The broker of an open folder.
pub(crate) fn broker(tidings: &Tidings) -> Arc<dyn Broker> {
    tidings.broker()
}
