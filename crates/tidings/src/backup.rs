//! A copy of a whole data folder while everything runs: where groups stand, then `state.db`, then the events up to the moment of which the database is.

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
/// **Guarantee**: the copy is sound and can be opened as it is. Events and `state.db` are those of one moment: every event that was durable then is there, no cursor, inbox row or
/// outbox row speaks of one that it lacks, and no event that left the outbox is there without the rows that were committed with it; so whoever opens it handles or relays at most
/// some events again, under the same ids. A copy that is not whole never stands at the target.
///
/// Writers of `state.db` wait for some milliseconds meanwhile.
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
    let marked = copy_state(&folder, begun).await?;
    Ok(blocking(COPYING, move || marked.finish()).await?)
}

/// Copies the database, if there is one, and marks how far the events go that belong to it.
#[cfg(feature = "sqlite")]
async fn copy_state(folder: &Path, mut backup: Backup) -> Result<Backup, Error> {
    use tidings_sql::{Database, DatabaseOptions};
    let path = crate::state::path(folder);
    if !path.exists() {
        return Ok(backup);
    }
    let database = Database::open_file(&path, &DatabaseOptions::default()).await?;
    let copy = crate::state::path(backup.folder());
    let marking = blocking(COPYING, move || backup.mark_end().map(|()| backup));
    let copied = database.copy_to(&copy, marking).await;
    database.close().await;
    let marked = copied??;
    let flushed = blocking(COPYING, move || {
        std::fs::File::open(&copy)
            .and_then(|file| file.sync_all())
            .map_err(|source| BrokerError::Io {
                action: "flushing",
                path: copy,
                source,
            })
    });
    flushed.await?;
    Ok(marked)
}

/// Without SQLite, what is in `state.db` is nobody's here; but to leave it out in silence would lose it.
#[cfg(not(feature = "sqlite"))]
async fn copy_state(folder: &Path, backup: Backup) -> Result<Backup, Error> {
    if folder.join("state.db").exists() {
        return Err(BrokerError::Unsupported {
            broker: "this program, built without the feature sqlite,",
            what: "copy state.db; use one that was built with it".to_owned(),
        }
        .into());
    }
    Ok(backup)
}
