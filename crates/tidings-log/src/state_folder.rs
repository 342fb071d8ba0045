//! A data folder whose events are on a broker elsewhere: it has an owner and keeps what its owner has to remember, but no log of its own.

use crate::files::{failed, write_whole};
use crate::folder::Folder;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use tidings_core::broker::BrokerError;
use tidings_core::seam::{Clock, Disk, DiskLock};

/// A data folder that this process owns, for state beside a broker elsewhere.
///
/// **Guarantee**: while it lives no other process owns the folder, neither for a log nor for state. Dropping it gives the folder back.
pub struct StateFolder {
    folder: Folder,
    _lock: Box<dyn DiskLock>,
}

impl StateFolder {
    /// Makes the folder or checks it, and becomes its owner. It blocks.
    ///
    /// **Errors**: [`BrokerError::FolderOwned`] while another process owns it, which is transient; [`BrokerError::FolderForeign`], [`BrokerError::FolderNotPrivate`],
    /// [`BrokerError::FormatNewer`], [`BrokerError::Io`].
    pub fn own(
        folder: impl Into<PathBuf>,
        program: &str,
        clock: &dyn Clock,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, BrokerError> {
        let folder = Folder::new(folder, disk);
        let lock = folder.own(program, clock)?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// Notes durably where the events of the folder are from now on, so that nobody opens a log here and carries into it what waits for that broker.
    ///
    /// **Errors**: [`BrokerError::Io`] and its kin.
    pub fn note_broker(&self, url: &str) -> Result<(), BrokerError> {
        let text = format!(
            "{url}\n\nThe events of this data folder are on that broker; the folder keeps state beside it. Remove this file to keep events here, in a log.\n"
        );
        let path = self.folder.broker_file();
        write_whole(&*self.folder.disk, &path, text.as_bytes())
            .map_err(|error| failed("writing", &path, error))
    }
}

impl fmt::Debug for StateFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateFolder")
            .field("folder", &self.folder.root())
            .finish_non_exhaustive()
    }
}
