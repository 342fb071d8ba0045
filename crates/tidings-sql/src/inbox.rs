//! The inbox: one row for each event that a group has handled, inserted first in the transaction of the handler.
//!
//! The key is the 16-byte dedupe key of the event, so that a republished or redriven event meets its row whoever sent it; the id is kept as the event carries it.

use crate::database::Database;
use crate::dialect::Kind;
use crate::driver::{Bind, Connection};
use crate::error::{Access, Moment, is_duplicate, store_error};
use crate::publish::{Outbox, publish_plainly};
use crate::schema::{self, Part};
use crate::statement::Statement;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use tidings_core::extract::HandlerContext;
use tidings_core::store::{Admission, InboxStatus, InboxStore, StoreError};
use tidings_core::{BoxFuture, DedupeKey, Envelope, Timestamp};

/// The inbox in a database, shared with a consumer whose handlers take a [`Tx`](crate::Tx).
///
/// **Guarantee**: an event has its effect once for each group, however often it is delivered, as long as its row is there; see [`InboxStore::forget`].
///
/// **Source**: seed concept *idempotent consumer*.
#[derive(Clone)]
pub struct Inbox {
    inner: Arc<Inner>,
    /// Where what handlers emit goes; `None` is the table `outbox` without special settings.
    outbox: Option<Outbox>,
}

struct Inner {
    database: Database,
    insert_one: Statement,
    insert_many: Statement,
    known: Option<Statement>,
    check_one: Statement,
}

/// What a consumer does with the table, done to no row: it asks for the same privileges.
const TRIED_ON_NO_ROW: [&str; 2] = [
    "INSERT INTO inbox (consumer, event_key, event_id) SELECT consumer, event_key, event_id FROM inbox WHERE 1 = 0",
    "DELETE FROM inbox WHERE 1 = 0",
];

/// An event as the inbox sees it.
pub(crate) struct InboxKey {
    /// The dedupe key in hexadecimal.
    key: String,
    event_id: String,
}

impl InboxKey {
    pub(crate) fn of(context: &HandlerContext) -> Self {
        Self::of_event(&context.envelope)
    }

    fn of_event(event: &Envelope) -> Self {
        let key = DedupeKey::of(event);
        Self {
            key: uuid::Uuid::from_bytes(*key.as_bytes()).simple().to_string(),
            event_id: event.event_id().to_owned(),
        }
    }
}

impl Inbox {
    /// The inbox in a database, for a consumer.
    ///
    /// **Guarantee**: no row is written.
    ///
    /// **Errors**: [`StoreError::TableMissing`] with the way to make it; [`StoreError::SchemaNewer`]; [`StoreError::PrivilegeMissing`] with its GRANT where rows may not be
    /// read, inserted or, when they are forgotten, deleted; [`StoreError::ShapeWrong`] where the server is too old; a database that is down.
    ///
    /// **Cancel**: no effect.
    pub async fn open(database: &Database) -> Result<Self, StoreError> {
        let inbox = Self::looked_into(database, &access()).await?;
        // Whoever may open a file of SQLite has every privilege, and even a change of no row would wait for its lock.
        if database.kind() != Kind::Sqlite {
            for sql in TRIED_ON_NO_ROW {
                database.change(sql, &[], &access()).await?;
            }
        }
        Ok(inbox)
    }

    /// The inbox in a database, for who only looks at it: SELECT is enough. To [forget](InboxStore::forget) rows takes DELETE, which is noticed only then.
    ///
    /// **Errors**, **Cancel**: as [`open`](Self::open).
    pub async fn open_to_look(database: &Database) -> Result<Self, StoreError> {
        let access = Access {
            privileges: "SELECT",
            ..access()
        };
        Self::looked_into(database, &access).await
    }

    async fn looked_into(database: &Database, access: &Access<'_>) -> Result<Self, StoreError> {
        schema::installed(database, Part::Inbox).await?;
        let inbox = Self::of(database);
        let probe = InboxKey {
            key: uuid::Uuid::nil().simple().to_string(),
            event_id: String::new(),
        };
        let binds = inbox.inner.check_one.binds(&inbox.binds("", &probe));
        let sql = inbox.inner.check_one.sql();
        database.fetch(sql, &binds, access).await?;
        Ok(inbox)
    }

    fn of(database: &Database) -> Self {
        let dialect = database.dialect();
        let statement = |template| Statement::new(dialect, template, &[]);
        Self {
            inner: Arc::new(Inner {
                database: database.clone(),
                insert_one: statement(include_str!("../sql/inbox/insert_one.sql")),
                insert_many: statement(dialect.inbox_insert_many),
                known: dialect.inbox_known.map(statement),
                check_one: statement(include_str!("../sql/inbox/check_one.sql")),
            }),
            outbox: None,
        }
    }

    /// Puts what handlers emit into this outbox, which must be in the same database, and tells its relays after the commit. Without it the table is `outbox`, and a relay finds the events at its next poll.
    #[must_use]
    pub fn with_outbox(mut self, outbox: Outbox) -> Self {
        self.outbox = Some(outbox);
        self
    }

    /// Puts what a handler emitted into the outbox of its transaction.
    pub(crate) async fn emit(
        &self,
        connection: &mut Connection<'_>,
        events: &[Envelope],
    ) -> Result<(), StoreError> {
        match &self.outbox {
            Some(outbox) => outbox.publish_on(connection, events).await,
            None => publish_plainly(connection, events).await,
        }
    }

    /// Tells the relays of this process that events were committed.
    pub(crate) fn wake(&self) {
        if let Some(outbox) = &self.outbox {
            outbox.wake();
        }
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.inner.database
    }

    fn binds<'a>(&self, group: &str, key: &InboxKey) -> [(&'a str, Bind); 3] {
        [
            ("consumer", Bind::text(group)),
            ("key", Bind::text(&key.key)),
            ("event_id", Bind::text(&key.event_id)),
        ]
    }

    /// When a group handled an event; `None` if it did not, or if that is forgotten.
    ///
    /// **Errors**: a database that is down.
    ///
    /// **Cancel**: no effect.
    pub async fn handled_at(
        &self,
        group: &str,
        event: &Envelope,
    ) -> Result<Option<Timestamp>, StoreError> {
        let database = &self.inner.database;
        let template = include_str!("../sql/inbox/handled_at.sql");
        let ask = Statement::new(database.dialect(), template, &[]);
        let binds = ask.binds(&self.binds(group, &InboxKey::of_event(event)));
        let rows = database.fetch(ask.sql(), &binds, &access()).await?;
        Ok(rows.first().and_then(|row| row.instant(0)))
    }

    /// Inserts the row of one event. It waits for a transaction that has inserted the same, and then knows.
    pub(crate) async fn admit_one(
        &self,
        connection: &mut Connection<'_>,
        group: &str,
        key: &InboxKey,
    ) -> Result<Admission, StoreError> {
        let insert = &self.inner.insert_one;
        let binds = insert.binds(&self.binds(group, key));
        match connection.execute(insert.sql(), &binds).await {
            Ok(0) => Ok(Admission::HandledBefore),
            Ok(_) => Ok(Admission::New),
            // MySQL has no insert that is silent about this and about nothing else.
            Err(error) if is_duplicate(&error) => Ok(Admission::HandledBefore),
            Err(error) => Err(self.error(&error, Moment::InTransaction)),
        }
    }

    /// Inserts the rows of several events at once. Of two with one key the first is new.
    pub(crate) async fn admit_many(
        &self,
        connection: &mut Connection<'_>,
        group: &str,
        keys: &[InboxKey],
    ) -> Result<Vec<Admission>, StoreError> {
        let mut wanted: Vec<&InboxKey> = keys.iter().collect();
        // In one order everywhere, so that two batches do not wait for each other.
        wanted.sort_by(|a, b| a.key.cmp(&b.key));
        wanted.dedup_by(|a, b| a.key == b.key);
        if let Some(known) = &self.inner.known {
            let binds = known.binds(&list(group, &wanted));
            let known = self.keys(connection, known, &binds).await?;
            wanted.retain(|key| !known.contains(&key.key));
        }
        let mut new: HashSet<String> = HashSet::new();
        if !wanted.is_empty() {
            let insert = &self.inner.insert_many;
            let binds = insert.binds(&list(group, &wanted));
            if self.inner.known.is_some() {
                self.insert_unknown(connection, insert, &binds).await?;
                new.extend(wanted.iter().map(|key| key.key.clone()));
            } else {
                new = self.keys(connection, insert, &binds).await?;
            }
        }
        let admissions = keys.iter().map(|key| match new.remove(&key.key) {
            true => Admission::New,
            false => Admission::HandledBefore,
        });
        Ok(admissions.collect())
    }

    async fn keys(
        &self,
        connection: &mut Connection<'_>,
        statement: &Statement,
        binds: &[Bind],
    ) -> Result<HashSet<String>, StoreError> {
        let rows = connection.fetch(statement.sql(), binds).await;
        let rows = rows.map_err(|error| self.error(&error, Moment::InTransaction))?;
        Ok(rows.into_iter().filter_map(|mut row| row.text(0)).collect())
    }

    async fn insert_unknown(
        &self,
        connection: &mut Connection<'_>,
        insert: &Statement,
        binds: &[Bind],
    ) -> Result<(), StoreError> {
        match connection.execute(insert.sql(), binds).await {
            Ok(_) => Ok(()),
            // It came between the question and the insert; asked again, it is known.
            Err(error) if is_duplicate(&error) => Err(StoreError::Conflict {
                reason: "an event of the batch was handled at the same time elsewhere".to_owned(),
            }),
            Err(error) => Err(self.error(&error, Moment::InTransaction)),
        }
    }

    /// Makes sure that the transaction is still the one in which the row was inserted. A handler that ignores the error of a statement may have lost it: PostgreSQL then answers a commit with a
    /// rollback and no error, MySQL has begun to commit each statement.
    pub(crate) async fn check_alive(
        &self,
        connection: &mut Connection<'_>,
        group: &str,
        key: &InboxKey,
    ) -> Result<(), StoreError> {
        let check = &self.inner.check_one;
        let binds = check.binds(&self.binds(group, key));
        let rows = connection.fetch(check.sql(), &binds).await;
        let rows = rows.map_err(|error| self.error(&error, Moment::InTransaction))?;
        if rows.first().is_some_and(|row| row.count(0) == 1) {
            return Ok(());
        }
        Err(StoreError::Conflict {
            reason: "the database has rolled the transaction back while the handler went on; a handler returns the errors of its statements".to_owned(),
        })
    }

    pub(crate) fn error(&self, error: &sqlx::Error, moment: Moment) -> StoreError {
        store_error(&self.inner.database, error, moment, &access())
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inbox").field(&self.name()).finish()
    }
}

impl InboxStore for Inbox {
    fn name(&self) -> &str {
        self.inner.database.name()
    }

    fn status(&self) -> BoxFuture<'_, Result<Vec<InboxStatus>, StoreError>> {
        Box::pin(async move {
            let database = &self.inner.database;
            let template = include_str!("../sql/inbox/status.sql");
            let status = Statement::new(database.dialect(), template, &[]);
            let rows = database.fetch(status.sql(), &[], &access()).await?;
            let status = rows.into_iter().filter_map(|mut row| {
                Some(InboxStatus {
                    rows: row.count(1),
                    oldest: row.instant(2)?,
                    newest: row.instant(3)?,
                    group: row.text(0)?,
                })
            });
            Ok(status.collect())
        })
    }

    fn forget<'a>(
        &'a self,
        group: &'a str,
        before: Timestamp,
        limit: u32,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            let database = &self.inner.database;
            let dialect = database.dialect();
            let forget = Statement::new(dialect, dialect.inbox_forget, &[]);
            let binds = forget.binds(&[
                ("consumer", Bind::text(group)),
                ("before", Bind::Int(before.as_micros())),
                ("limit", Bind::Int(limit.into())),
            ]);
            database.change(forget.sql(), &binds, &access()).await
        })
    }
}

fn list<'a>(group: &str, keys: &[&InboxKey]) -> [(&'a str, Bind); 2] {
    let events: Vec<[&str; 2]> = keys
        .iter()
        .map(|key| [key.key.as_str(), key.event_id.as_str()])
        .collect();
    let events = serde_json::to_string(&events).unwrap_or_default();
    [
        ("consumer", Bind::text(group)),
        ("events", Bind::text(events)),
    ]
}

fn access() -> Access<'static> {
    Access {
        table: "inbox",
        privileges: "SELECT, INSERT, DELETE",
        remedy: "tidings inbox migrate",
    }
}
