//! The proof that a statement runs inside a transaction of the caller.

use crate::driver::Connection;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::error::{Access, Moment, nameless_error};
use tidings_core::correlation::Inherited;
use tidings_core::store::StoreError;

/// A transaction of the caller, in which events are published: [`sqlx::Transaction`] of one of the databases, or a connection for which the caller
/// [assumes](assume_in_transaction) that it is in one.
///
/// Nobody else implements it: the type is the proof.
pub trait InTransaction: sealed::Sealed + Send {
    /// The connection that the transaction is open on.
    fn connection(&mut self) -> Connection<'_>;

    /// What events published into it inherit, unless the [context](crate::context) says so; only the transaction that a handler takes knows the event being handled.
    fn inherited(&self) -> Option<Inherited> {
        None
    }
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

#[cfg(feature = "sqlite")]
impl sealed::Sealed for sqlx::Transaction<'_, sqlx::Sqlite> {}
#[cfg(feature = "sqlite")]
impl InTransaction for sqlx::Transaction<'_, sqlx::Sqlite> {
    fn connection(&mut self) -> Connection<'_> {
        Connection::Sqlite(&mut *self)
    }
}

#[cfg(feature = "postgres")]
impl sealed::Sealed for sqlx::Transaction<'_, sqlx::Postgres> {}
#[cfg(feature = "postgres")]
impl InTransaction for sqlx::Transaction<'_, sqlx::Postgres> {
    fn connection(&mut self) -> Connection<'_> {
        Connection::Postgres(&mut *self)
    }
}

#[cfg(feature = "mysql")]
impl sealed::Sealed for sqlx::Transaction<'_, sqlx::MySql> {}
#[cfg(feature = "mysql")]
impl InTransaction for sqlx::Transaction<'_, sqlx::MySql> {
    fn connection(&mut self) -> Connection<'_> {
        Connection::MySql(&mut *self)
    }
}

/// A connection of which its owner says that a transaction is open on it.
#[derive(Debug)]
pub struct AssumedTransaction<'c> {
    connection: Connection<'c>,
}

impl sealed::Sealed for AssumedTransaction<'_> {}
impl InTransaction for AssumedTransaction<'_> {
    fn connection(&mut self) -> Connection<'_> {
        match &mut self.connection {
            #[cfg(feature = "sqlite")]
            Connection::Sqlite(connection) => Connection::Sqlite(connection),
            #[cfg(feature = "postgres")]
            Connection::Postgres(connection) => Connection::Postgres(connection),
            #[cfg(feature = "mysql")]
            Connection::MySql(connection) => Connection::MySql(connection),
        }
    }
}

/// Takes a bare connection for a transaction, for callers whose driver's transaction type is out of reach.
///
/// It is the caller's duty that a transaction is open, and that the change which the event states is part of it.
///
/// **Errors**: [`StoreError::Refused`] where the database says that none is open. SQLite, MariaDB and PostgreSQL can tell; MySQL cannot.
pub async fn assume_in_transaction(
    mut connection: Connection<'_>,
) -> Result<AssumedTransaction<'_>, StoreError> {
    if is_certainly_outside(&mut connection).await? {
        return Err(StoreError::Refused {
            reason: "no transaction is open on the connection, so that the event would not depend on the change that it states; begin one, or use publish_autocommit"
                .to_owned(),
        });
    }
    Ok(AssumedTransaction { connection })
}

async fn is_certainly_outside(connection: &mut Connection<'_>) -> Result<bool, StoreError> {
    match connection {
        #[cfg(feature = "sqlite")]
        Connection::Sqlite(_) => {
            // A second transaction is refused inside of one, and nothing else is.
            let is_outside = connection.run_script("BEGIN").await.is_ok();
            if is_outside {
                ask(connection, "ROLLBACK").await?;
            }
            Ok(is_outside)
        }
        #[cfg(feature = "postgres")]
        Connection::Postgres(_) => {
            // Outside of a transaction there are no savepoints: SQLSTATE 25P01.
            match connection.run_script("SAVEPOINT tidings_is_inside").await {
                Ok(()) => {
                    ask(connection, "RELEASE SAVEPOINT tidings_is_inside").await?;
                    Ok(false)
                }
                Err(sqlx::Error::Database(error)) => Ok(error.code().as_deref() == Some("25P01")),
                Err(error) => Err(outside_error(&error)),
            }
        }
        #[cfg(feature = "mysql")]
        Connection::MySql(_) => {
            let sql = "SELECT CAST(@@in_transaction AS SIGNED)";
            let rows = connection.fetch(sql, &[]).await;
            // MySQL has no such variable.
            Ok(rows.is_ok_and(|rows| rows.first().and_then(|row| row.int(0)) == Some(0)))
        }
    }
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
async fn ask(connection: &mut Connection<'_>, sql: &str) -> Result<(), StoreError> {
    connection
        .run_script(sql)
        .await
        .map_err(|error| outside_error(&error))
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn outside_error(error: &sqlx::Error) -> StoreError {
    nameless_error("of the connection", error, Moment::Reading, &Access::NONE)
}
