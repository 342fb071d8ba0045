//! Opening a data folder: for reading beside its owner, or as its owner.

use crate::failure::Failure;
use std::path::Path;
use std::sync::Arc;
use tidings::flow::runtime::SystemClock;
use tidings::log::{LogReader, RealDisk};
use tidings::{Durability, Tidings};

/// Opens a folder for reading; whoever owns it goes on undisturbed.
pub(crate) fn read(folder: &Path) -> Result<LogReader, Failure> {
    Ok(LogReader::open(
        folder,
        Arc::new(SystemClock::new()),
        Arc::new(RealDisk),
    )?)
}

/// Opens a folder for writing, making it if it does not exist.
pub(crate) async fn own(folder: &Path) -> Result<Tidings, Failure> {
    own_with(folder, Durability::Synced).await
}

/// As [`own`], with another meaning of an acknowledgement.
pub(crate) async fn own_with(folder: &Path, durability: Durability) -> Result<Tidings, Failure> {
    let builder = Tidings::builder().program("tidings");
    Ok(builder.durability(durability).open(folder).await?)
}
