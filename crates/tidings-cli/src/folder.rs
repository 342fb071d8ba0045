//! Opening a data folder: for reading, or for writing as its owner or beside the owner.

use crate::failure::Failure;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidings::flow::runtime::SystemClock;
use tidings::log::{LogReader, RealDisk};
use tidings::{Durability, Tidings};

/// The database of a data folder, whether it is there or not.
pub(crate) fn state(folder: &Path) -> PathBuf {
    folder.join("state.db")
}

/// Opens a folder for reading; whoever owns it goes on undisturbed.
pub(crate) fn read(folder: &Path) -> Result<LogReader, Failure> {
    Ok(LogReader::open(
        folder,
        Arc::new(SystemClock::new()),
        Arc::new(RealDisk),
    )?)
}

/// Opens a folder as its owner, making it if it does not exist; another owner is an error.
#[cfg(feature = "sqlite")]
pub(crate) async fn own(folder: &Path) -> Result<Tidings, Failure> {
    Ok(Tidings::builder().program("tidings").open(folder).await?)
}

/// Opens a folder for writing, making it if it does not exist: as its owner, or beside the owner if there is one.
pub(crate) async fn write(folder: &Path) -> Result<Tidings, Failure> {
    write_with(folder, Durability::Synced).await
}

/// As [`write`], with another meaning of an acknowledgement.
pub(crate) async fn write_with(folder: &Path, durability: Durability) -> Result<Tidings, Failure> {
    let builder = Tidings::builder().program("tidings").durability(durability);
    #[cfg(feature = "sqlite")]
    let opened = builder.open_or_beside(folder).await?;
    #[cfg(not(feature = "sqlite"))]
    let opened = builder.open(folder).await?;
    Ok(opened)
}
