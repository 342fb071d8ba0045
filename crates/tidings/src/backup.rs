//! A copy of a whole data folder while everything runs: where groups stand, then `state.db`, then the events.

use crate::Error;
use crate::blocking::blocking;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidings_core::broker::BrokerError;
use tidings_flow::runtime::SystemClock;
use tidings_log::{Backup, BackupReport, RealDisk};

/// What is done, for the error of a task that ended unexpectedly.
const COPYING: &str = "the task that copies the data folder";

/// Copies a data folder, log and `state.db`, to a folder that is new or empty, while its owner and others work.
///
/// **Guarantee**: the copy is sound and can be opened as it is. It holds every event that was durable when copying ended, and no cursor, inbox row or outbox row speaks of
/// an event that it lacks; so whoever opens it handles or relays at most some events again, under the same ids. A copy that is not whole never stands at the target.
///
/// **Errors**: the folder is none, or something is at the target; permanent. Of the disk; what was copied so far is left beside the target, with `.unfinished` behind
/// its name, and may be removed.
///
/// **Cancel**: as an error of the disk.
pub async fn backup(
    folder: impl Into<PathBuf>,
    to: impl Into<PathBuf>,
) -> Result<BackupReport, Error> {
    let (folder, to) = (folder.into(), to.into());
    let from = folder.clone();
    let begun = blocking(COPYING, move || {
        Backup::begin(from, to, Arc::new(SystemClock::new()), Arc::new(RealDisk))
    })
    .await?;
    copy_state(&folder, begun.folder()).await?;
    Ok(blocking(COPYING, move || begun.finish()).await?)
}

/// Copies the database, if there is one.
#[cfg(feature = "sqlite")]
async fn copy_state(folder: &Path, to: &Path) -> Result<(), Error> {
    use tidings_sql::{Database, DatabaseOptions};
    let path = crate::state::path(folder);
    if !path.exists() {
        return Ok(());
    }
    let database = Database::open_file(&path, &DatabaseOptions::default()).await?;
    let copy = crate::state::path(to);
    let copied = database.copy_to(&copy).await;
    database.close().await;
    copied?;
    let flushed = blocking(COPYING, move || {
        std::fs::File::open(&copy)
            .and_then(|file| file.sync_all())
            .map_err(|source| BrokerError::Io {
                action: "flushing",
                path: copy,
                source,
            })
    });
    Ok(flushed.await?)
}

/// Without SQLite, what is in `state.db` is nobody's here; but to leave it out in silence would lose it.
#[cfg(not(feature = "sqlite"))]
async fn copy_state(folder: &Path, _to: &Path) -> Result<(), Error> {
    if folder.join("state.db").exists() {
        return Err(BrokerError::Unsupported {
            broker: "this program, built without the feature sqlite,",
            what: "copy state.db; use one that was built with it".to_owned(),
        }
        .into());
    }
    Ok(())
}
