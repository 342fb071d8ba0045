//! A transaction of our own over several statements, whatever the database.

use crate::database::{Database, Held, answered, no_answer};
use crate::dialect::Kind;
use crate::driver::{Bind, Connection, Row};
use crate::error::{Access, Moment, is_duplicate, store_error};
use crate::many::{ManyStatement, Values};
use crate::publish::{Outbox, publish_plainly};
use crate::statement::Statement;
use tidings_core::Envelope;
use tidings_core::limits::{SQL_CHANGE_IDLE_MAX, SQL_LOCK_TIMEOUT};
use tidings_core::store::StoreError;
use tokio::sync::OwnedSemaphorePermit;

/// An open transaction; dropped, its connection is closed, so that nobody borrows one that is inside a transaction.
///
/// Each answer is waited for as long as a server that works may take, and a process that stands still inside it loses it on PostgreSQL: others wait for the rows that it locked.
pub(crate) struct Changing<'d> {
    database: &'d Database,
    access: Access<'static>,
    /// Taken when it is committed.
    held: Option<Held>,
    /// The turn to write, where the database has one writer.
    _turn: Option<OwnedSemaphorePermit>,
}

impl<'d> Changing<'d> {
    /// Begins; on SQLite it waits for its turn to write.
    pub(crate) async fn begin(
        database: &'d Database,
        access: Access<'static>,
    ) -> Result<Self, StoreError> {
        let turn = database.turn_in_time().await;
        let held = database.acquire().await?;
        let mut changing = Self {
            database,
            access,
            held: Some(held),
            _turn: turn,
        };
        // Another default of the database would not let it see what others did while it waited for them.
        let fenced = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = {}; SET LOCAL lock_timeout = {}",
            SQL_CHANGE_IDLE_MAX.as_millis(),
            SQL_LOCK_TIMEOUT.as_millis()
        );
        let scripts: &[&str] = match database.kind() {
            Kind::Sqlite => &["BEGIN IMMEDIATE"],
            Kind::Postgres => &[&fenced],
            // The gaps that its own default locks would make groups wait for each other.
            Kind::MySql => &[
                "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
                "START TRANSACTION",
            ],
        };
        for script in scripts {
            changing.run_script(script, Moment::Connecting).await?;
        }
        Ok(changing)
    }

    /// The database whose transaction it is.
    pub(crate) fn database(&self) -> &'d Database {
        self.database
    }

    /// The connection inside the transaction.
    pub(crate) fn connection(&mut self) -> Connection<'_> {
        match &mut self.held {
            Some(held) => held.connection(),
            None => unreachable!("it is taken by the commit, which consumes this"),
        }
    }

    /// Runs a statement and answers how many rows it met.
    pub(crate) async fn execute(
        &mut self,
        statement: &Statement,
        values: &[(&str, Bind)],
    ) -> Result<u64, StoreError> {
        let binds = statement.binds(values);
        self.execute_bound(statement.sql(), &binds).await
    }

    /// Runs a statement and answers its rows.
    pub(crate) async fn fetch(
        &mut self,
        statement: &Statement,
        values: &[(&str, Bind)],
    ) -> Result<Vec<Row>, StoreError> {
        let binds = statement.binds(values);
        self.fetch_bound(statement.sql(), &binds).await
    }

    /// Runs a statement about many rows.
    pub(crate) async fn execute_many(
        &mut self,
        statement: &ManyStatement,
        shared: &[(&str, Bind)],
        rows: &[Values],
    ) -> Result<(), StoreError> {
        for part in statement.parts(shared, rows) {
            self.execute_bound(part.sql, &part.binds).await?;
        }
        Ok(())
    }

    /// Runs a statement about many rows and answers what it answers.
    pub(crate) async fn fetch_many(
        &mut self,
        statement: &ManyStatement,
        shared: &[(&str, Bind)],
        rows: &[Values],
    ) -> Result<Vec<Row>, StoreError> {
        let mut found = Vec::new();
        for part in statement.parts(shared, rows) {
            found.append(&mut self.fetch_bound(part.sql, &part.binds).await?);
        }
        Ok(found)
    }

    /// Puts events into the outbox of the database.
    pub(crate) async fn publish(
        &mut self,
        outbox: Option<&Outbox>,
        events: &[Envelope],
    ) -> Result<(), StoreError> {
        let limit = self.database.answer_timeout();
        let published = async {
            match outbox {
                Some(outbox) => outbox.publish_on(&mut self.connection(), events).await,
                None => publish_plainly(&mut self.connection(), events).await,
            }
        };
        let Some(limit) = limit else {
            return published.await;
        };
        let in_time = tokio::time::timeout(limit, published).await;
        in_time.unwrap_or_else(|_| Err(self.error(&no_answer(limit), Moment::InTransaction)))
    }

    /// Makes it true.
    ///
    /// **Errors**: an [ambiguous](StoreError::may_have_happened) one may have committed.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        self.run_script("COMMIT", Moment::Changing).await?;
        // Given back: it is outside of every transaction again.
        drop(self.held.take());
        Ok(())
    }

    async fn execute_bound(&mut self, sql: &str, binds: &[Bind]) -> Result<u64, StoreError> {
        let limit = self.database.answer_timeout();
        let done = answered(limit, self.connection().execute(sql, binds)).await;
        done.map_err(|error| self.error(&error, Moment::InTransaction))
    }

    async fn fetch_bound(&mut self, sql: &str, binds: &[Bind]) -> Result<Vec<Row>, StoreError> {
        let limit = self.database.answer_timeout();
        let rows = answered(limit, self.connection().fetch(sql, binds)).await;
        rows.map_err(|error| self.error(&error, Moment::InTransaction))
    }

    async fn run_script(&mut self, script: &str, moment: Moment) -> Result<(), StoreError> {
        let limit = self.database.answer_timeout();
        let done = answered(limit, self.connection().run_script(script)).await;
        done.map_err(|error| self.error(&error, moment))
    }

    fn error(&self, error: &sqlx::Error, moment: Moment) -> StoreError {
        if is_duplicate(error) {
            // It was not there when it was looked for: another instance was quicker. Made again, the change finds it.
            return StoreError::Conflict {
                reason: error.to_string(),
            };
        }
        store_error(self.database, error, moment, &self.access)
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            held.throw_away();
        }
    }
}
