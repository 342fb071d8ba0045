//! What only a SQLite file can do: be opened by its path, and be copied while it is written.

use crate::database::{Database, DatabaseOptions, Pool};
use crate::error::{Access, Moment, store_error};
use crate::publish::Outbox;
use std::path::Path;
use tidings_core::Envelope;
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

    /// Writes a consistent copy of a SQLite database to a file that does not exist, while others read and write.
    ///
    /// **Errors**: [`StoreError::Refused`] for a database of another kind; else what the database reports.
    ///
    /// **Cancel**: the copy may be left unfinished.
    pub async fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        let pool = sqlite(self)?;
        sqlx::query("VACUUM INTO ?")
            .bind(path.to_string_lossy().into_owned())
            .execute(pool)
            .await
            .map(drop)
            .map_err(|error| store_error(self, &error, Moment::Reading, &Access::NONE))
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
