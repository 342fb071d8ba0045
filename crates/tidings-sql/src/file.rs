//! What only a SQLite file can do: be opened by its path, and be copied while it is written.

use crate::database::{Database, DatabaseOptions, Pool};
use crate::error::{Access, Moment, store_error};
use crate::publish::Outbox;
use std::path::Path;
use tidings_core::Envelope;
use tidings_core::limits::SQL_BUSY_POLL_INTERVAL;
use tidings_core::store::StoreError;

impl Database {
    /// Opens a SQLite database by the path of its file.
    ///
    /// **Errors**: as [`open`](Self::open); a path that is no UTF-8.
    pub async fn open_file(path: &Path, options: &DatabaseOptions) -> Result<Self, StoreError> {
        let Some(text) = path.to_str() else {
            return Err(StoreError::UrlInvalid {
                url: format!("sqlite:{}", path.display()),
                reason: "the path of a SQLite file must be UTF-8".to_owned(),
            });
        };
        let encoded = text.replace('%', "%25").replace('?', "%3F");
        Self::open(&format!("sqlite:{encoded}"), options).await
    }

    /// Writes a copy of a SQLite database, as it is at one moment, to a file that does not exist, while others read and write.
    ///
    /// `at_that_moment` runs while nobody can commit, so that what it notes of the world outside and what the copy holds belong together. Others wait for it, and for
    /// the first bytes of the copy.
    ///
    /// **Errors**: [`StoreError::Refused`] for a database of another kind; [`StoreError::Conflict`] if others kept writing too long; else what the database
    /// reports. Whatever `at_that_moment` answered is in the inner result; after its error nothing is copied.
    ///
    /// **Cancel**: the copy may be left unfinished.
    pub async fn copy_to<T, E>(
        &self,
        path: &Path,
        at_that_moment: impl Future<Output = Result<T, E>>,
    ) -> Result<Result<T, E>, StoreError> {
        let failed = |error| store_error(self, &error, Moment::Reading, &Access::NONE);
        let pool = sqlite(self)?;
        let writers_wait = pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let noted = match at_that_moment.await {
            Ok(noted) => noted,
            Err(error) => return Ok(Err(error)),
        };
        let copying = sqlx::query("VACUUM INTO ?")
            .bind(path.to_string_lossy().into_owned())
            .execute(pool);
        let mut copying = std::pin::pin!(copying);
        // SQLite chooses what it reads before it writes anything.
        let begun = async {
            while std::fs::metadata(path).map_or(0, |file| file.len()) == 0 {
                tokio::time::sleep(SQL_BUSY_POLL_INTERVAL).await;
            }
        };
        let copied = tokio::select! {
            copied = &mut copying => Some(copied),
            () = begun => None,
        };
        writers_wait.rollback().await.map_err(failed)?;
        let copied = match copied {
            Some(copied) => copied,
            None => copying.await,
        };
        copied.map_err(failed)?;
        Ok(Ok(noted))
    }
}

impl Outbox {
    /// Publishes envelopes exactly as they are in one transaction of their own on a SQLite database, for facts that state no change of it.
    ///
    /// **Guarantee**: all of them or none.
    ///
    /// **Errors**: as [`publish_envelopes`](Self::publish_envelopes); an [ambiguous](StoreError::may_have_happened) one may have written them.
    ///
    /// **Cancel**: they may be written.
    pub async fn publish_envelopes_alone(
        &self,
        database: &Database,
        envelopes: &[Envelope],
    ) -> Result<(), StoreError> {
        let pool = sqlite(database)?;
        let begun = pool.begin_with("BEGIN IMMEDIATE").await;
        let mut tx = begun
            .map_err(|error| store_error(database, &error, Moment::Connecting, &Access::NONE))?;
        self.publish_envelopes(&mut tx, envelopes).await?;
        self.commit(tx).await
    }
}

fn sqlite(database: &Database) -> Result<&sqlx::SqlitePool, StoreError> {
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    let other = || {
        Err(StoreError::Refused {
            reason: format!(
                "{} is no SQLite file; use the tools of its server",
                database.name()
            ),
        })
    };
    match database.pool() {
        Pool::Sqlite(pool) => Ok(pool),
        #[cfg(feature = "postgres")]
        Pool::Postgres(_) => other(),
        #[cfg(feature = "mysql")]
        Pool::MySql(_) => other(),
    }
}
