//! The producer's side of an outbox: events are rows of the caller's own transaction, so that they become true with the change that they state, or not at all.

use crate::context;
use crate::database::{Database, answered};
use crate::dialect::Kind;
use crate::driver::Connection;
use crate::error::{Access, Moment, nameless_error, store_error};
use crate::insert::{Insert, Place, chunks, insert, lock_keys};
use crate::outbox_row::{self, Written};
use crate::store::{check_name, check_writing, quoted_table};
use crate::transaction::InTransaction;
use std::sync::Arc;
use tidings_core::correlation::Inherited;
use tidings_core::extract::Draft;
use tidings_core::seam::{Chance, Clock};
use tidings_core::store::{StoreError, Wake};
use tidings_core::{Envelope, Event, event_id};

/// How an outbox is written.
#[derive(Debug, Clone)]
pub struct OutboxConfig {
    /// The table, with its schema where it is not found without.
    pub table: String,
    /// Who states the events that do not say so themselves.
    pub source: Option<String>,
    /// Topic or lane; empty: the event type decides.
    pub destination: String,
    /// Unsent events that the outbox may hold; what would make them more is refused whole. Each publish then counts them. Writers at the same time may pass it by what they write.
    pub unsent_max: Option<u64>,
    /// Whether writers of one key wait for each other from their publish to their commit. Without it, two transactions that write one key at the same time may
    /// commit in the other order than they drew their ids; a lock on the aggregate's own row, which most applications take anyway, does the same.
    pub serialise_by_key: bool,
    /// Order is not promised: [`Outbox::verify`] lets pass a table whose ids are handed out in blocks or by several nodes.
    pub unordered: bool,
    /// Who is told after [`Outbox::commit`].
    pub wakes: Vec<Wake>,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self {
            table: "outbox".to_owned(),
            source: None,
            destination: String::new(),
            unsent_max: None,
            serialise_by_key: false,
            unordered: false,
            wakes: Vec::new(),
        }
    }
}

/// Publishes events into the transaction of the change that they state. Clones share everything.
///
/// **Guarantee**: an event is relayed if and only if its transaction commits. Events of one transaction keep the order in which they were published.
///
/// **Source**: seed concept *transactional outbox*.
///
/// **Example**
///
/// ```
/// # use std::sync::Arc;
/// # use tidings_core::{BoxFuture, EventType, Payload, Timestamp, extract::Draft, seam::{Chance, Clock}};
/// # use tidings_sql::{Outbox, OutboxConfig};
/// # struct Fixed;
/// # impl Clock for Fixed {
/// #     fn now(&self) -> Timestamp { Timestamp::from_micros(1_700_000_000_000_000) }
/// #     fn elapsed(&self) -> std::time::Duration { std::time::Duration::ZERO }
/// #     fn sleep(&self, _: std::time::Duration) -> BoxFuture<'static, ()> { Box::pin(async {}) }
/// # }
/// # impl Chance for Fixed { fn next_u64(&self) -> u64 { 7 } }
/// # #[cfg(feature = "sqlite")]
/// async fn place_order(outbox: &Outbox, pool: &sqlx::SqlitePool, placed: Draft) -> Result<String, Box<dyn std::error::Error>> {
///     let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
///     sqlx::query("INSERT INTO orders (id) VALUES ('order-123')").execute(&mut *tx).await?;
///     let event_ids = outbox.publish_drafts(&mut tx, vec![placed]).await?;
///     outbox.commit(tx).await?;
///     Ok(event_ids.concat())
/// }
/// let outbox = Outbox::new(OutboxConfig::default(), Arc::new(Fixed), Arc::new(Fixed))?;
/// # Ok::<(), tidings_core::store::StoreError>(())
/// ```
#[derive(Clone)]
pub struct Outbox {
    inner: Arc<Inner>,
}

struct Inner {
    config: OutboxConfig,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}

impl Outbox {
    /// An outbox to publish into.
    ///
    /// **Errors**: [`StoreError::Refused`] where the name of the table is none.
    pub fn new(
        config: OutboxConfig,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
    ) -> Result<Self, StoreError> {
        check_name(&config.table)?;
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                clock,
                chance,
            }),
        })
    }

    /// Looks whether events can be written into the table of a database, so that an application learns it when it starts and not with its first order.
    ///
    /// **Guarantee**: no row is written, and no lock outlives the call.
    ///
    /// **Errors**: as the relay's side is opened: a missing table with the command that makes it, a table that is not ours, tables of a newer program, a server that is too old, a missing
    /// privilege with its GRANT, ids that are handed out in blocks or by several nodes unless order is [not promised](OutboxConfig::unordered).
    ///
    /// **Cancel**: no effect.
    pub async fn verify(&self, database: &Database) -> Result<(), StoreError> {
        check_writing(database, &self.inner.config, &self.access()).await
    }

    /// Publishes one event and answers its id. In the transaction that a handler takes, or where the [context] says so, it inherits correlation and trace and names its cause.
    ///
    /// **Errors**: [`StoreError::Refused`] before any SQL where the event breaks a rule; [`StoreError::OutboxFull`]; else what the database reports. After a
    /// database error the transaction is spoilt: roll it back.
    ///
    /// **Cancel**: the event may be in the transaction; roll it back.
    pub async fn publish<E: Event>(
        &self,
        tx: &mut impl InTransaction,
        event: &E,
    ) -> Result<String, StoreError> {
        let ids = self.publish_all(tx, std::slice::from_ref(event)).await?;
        Ok(ids.concat())
    }

    /// Publishes events in their order, with one statement for up to a thousand of them or four megabytes, and answers their ids.
    ///
    /// **Errors**, **Cancel**: as [`publish`](Self::publish); where one event is refused, none is written.
    pub async fn publish_all<E: Event>(
        &self,
        tx: &mut impl InTransaction,
        events: &[E],
    ) -> Result<Vec<String>, StoreError> {
        let drafts = events.iter().map(draft_of).collect::<Result<_, _>>()?;
        self.publish_drafts(tx, drafts).await
    }

    /// Publishes events that have no Rust type, in their order, and answers their ids.
    ///
    /// **Errors**, **Cancel**: as [`publish_all`](Self::publish_all).
    pub async fn publish_drafts(
        &self,
        tx: &mut impl InTransaction,
        drafts: Vec<Draft>,
    ) -> Result<Vec<String>, StoreError> {
        let inherited = context::current().or_else(|| tx.inherited());
        let envelopes = self.stamp(drafts, inherited.as_ref())?;
        self.publish_envelopes(tx, &envelopes).await?;
        Ok(ids_of(&envelopes))
    }

    /// Publishes envelopes exactly as they are, in their order: nothing is stamped.
    ///
    /// **Errors**, **Cancel**: as [`publish_all`](Self::publish_all).
    pub async fn publish_envelopes(
        &self,
        tx: &mut impl InTransaction,
        envelopes: &[Envelope],
    ) -> Result<(), StoreError> {
        self.publish_on(&mut tx.connection(), envelopes).await
    }

    /// The same on a connection that is inside a transaction.
    pub(crate) async fn publish_on(
        &self,
        connection: &mut Connection<'_>,
        envelopes: &[Envelope],
    ) -> Result<(), StoreError> {
        let rows = written(envelopes)?;
        self.write(connection, &rows)
            .await
            .map_err(|error| error.store(&self.access(), Moment::InTransaction))
    }

    /// Publishes one event in a transaction of its own, for facts that state no change of this database, and answers its id.
    ///
    /// **Errors**: as [`publish`](Self::publish); an [ambiguous](StoreError::may_have_happened) one may have written the event.
    ///
    /// **Cancel**: the event may be written.
    pub async fn publish_autocommit<E: Event>(
        &self,
        database: &Database,
        event: &E,
    ) -> Result<String, StoreError> {
        let envelopes = self.stamp(vec![draft_of(event)?], context::current().as_ref())?;
        let rows = written(&envelopes)?;
        let _turn = database.turn_in_time().await;
        let mut held = database.acquire().await?;
        let limit = database.answer_timeout();
        let done = answered(limit, self.write(&mut held.connection(), &rows)).await;
        held.used(match &done {
            Err(WriteError::Sql(error)) => Some(error),
            Ok(()) | Err(WriteError::Refused(_)) => None,
        });
        done.map_err(|error| match error {
            WriteError::Sql(error) => {
                store_error(database, &error, Moment::Changing, &self.access())
            }
            WriteError::Refused(error) => error,
        })?;
        self.wake();
        Ok(ids_of(&envelopes).concat())
    }

    /// Commits, and tells the relays of this process. A plain `tx.commit()` is as good; the relay then finds the events at its next poll.
    ///
    /// **Errors**: an [ambiguous](StoreError::may_have_happened) one may have committed.
    pub async fn commit<DB: sqlx::Database>(
        &self,
        tx: sqlx::Transaction<'_, DB>,
    ) -> Result<(), StoreError> {
        tx.commit()
            .await
            .map_err(|error| error_of(&error, Moment::Changing, &self.access()))?;
        self.wake();
        Ok(())
    }

    /// The table that it writes into.
    pub fn table(&self) -> &str {
        &self.inner.config.table
    }

    /// Tells the relays of this process that something was committed.
    pub fn wake(&self) {
        self.inner.config.wakes.iter().for_each(Wake::notify);
    }

    /// The statement that puts envelopes into the outbox of a database, for drivers that this package does not know: run it in the transaction of the change.
    ///
    /// **Errors**: [`StoreError::Refused`] where an event breaks a rule, or there are none or too many for one statement.
    pub fn statement(&self, kind: Kind, envelopes: &[Envelope]) -> Result<Insert, StoreError> {
        let rows = written(envelopes)?;
        if rows.is_empty() || chunks(&rows).count() > 1 {
            return Err(StoreError::Refused {
                reason: format!(
                    "{} events do not go into one statement; give between one and {}, of {} bytes together",
                    rows.len(),
                    tidings_core::limits::OUTBOX_INSERT_EVENTS_MAX,
                    tidings_core::limits::OUTBOX_INSERT_BYTES_MAX
                ),
            });
        }
        let quote = if kind == Kind::MySql { '`' } else { '"' };
        let quote = quote.to_string();
        let table = self.inner.config.table.split('.');
        let table: Vec<String> = table.map(|part| format!("{quote}{part}{quote}")).collect();
        Ok(insert(kind, &self.place(&table.join(".")), &rows))
    }

    fn stamp(
        &self,
        drafts: Vec<Draft>,
        inherited: Option<&Inherited>,
    ) -> Result<Vec<Envelope>, StoreError> {
        let inner = &*self.inner;
        let stamped = drafts.into_iter().map(|mut draft| {
            if draft.source.is_none() {
                draft.source.clone_from(&inner.config.source);
            }
            let event_id = event_id::fresh(&*inner.clock, &*inner.chance);
            draft
                .into_envelope(event_id, inner.clock.now(), inherited.cloned())
                .map_err(|error| StoreError::Refused {
                    reason: error.to_string(),
                })
        });
        stamped.collect()
    }

    async fn write(
        &self,
        connection: &mut Connection<'_>,
        rows: &[Written],
    ) -> Result<(), WriteError> {
        let dialect = connection.dialect();
        let table = quoted_table(dialect, &self.inner.config.table);
        if let Some(limit) = self.inner.config.unsent_max
            && !rows.is_empty()
        {
            self.check_room(connection, &table, rows.len(), limit)
                .await?;
        }
        if self.inner.config.serialise_by_key
            && let Some(lock) = lock_keys(dialect.kind, rows)
        {
            connection.execute(&lock.sql, &lock.binds).await?;
        }
        for chunk in chunks(rows) {
            let insert = insert(dialect.kind, &self.place(&table), chunk);
            connection.execute(&insert.sql, &insert.binds).await?;
        }
        Ok(())
    }

    async fn check_room(
        &self,
        connection: &mut Connection<'_>,
        table: &str,
        events: usize,
        limit: u64,
    ) -> Result<(), WriteError> {
        let events = u64::try_from(events).unwrap_or(u64::MAX);
        let Some(room) = limit.checked_sub(events) else {
            return Err(WriteError::Refused(StoreError::Refused {
                reason: format!(
                    "{events} events at once are more than the outbox may hold, which is {limit}; publish fewer in one call, or raise unsent_max"
                ),
            }));
        };
        // No more are counted than matter, unless there is no room and somebody is told how many there are.
        let enough = room.saturating_add(1);
        let sql = format!(
            "SELECT COUNT(*) FROM (SELECT 1 AS one FROM {table} WHERE sent = false LIMIT {enough}) AS counted"
        );
        let rows = connection.fetch(&sql, &[]).await?;
        let counted = rows.first().map_or(0, |row| row.count(0));
        if counted <= room {
            return Ok(());
        }
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE sent = false");
        let rows = connection.fetch(&sql, &[]).await?;
        let pending = rows.first().map_or(0, |row| row.count(0));
        Err(WriteError::Refused(StoreError::OutboxFull {
            table: self.inner.config.table.clone(),
            pending,
            events,
            limit,
        }))
    }

    fn place<'a>(&'a self, table: &'a str) -> Place<'a> {
        Place {
            table,
            destination: &self.inner.config.destination,
        }
    }

    fn access(&self) -> Access<'_> {
        Access {
            table: &self.inner.config.table,
            privileges: match self.inner.config.unsent_max {
                // Unsent events are counted.
                Some(_) => "SELECT, INSERT",
                None => "INSERT",
            },
            remedy: "tidings outbox migrate",
        }
    }
}

/// Why rows were not written: the database, or we.
enum WriteError {
    Sql(sqlx::Error),
    Refused(StoreError),
}

impl From<sqlx::Error> for WriteError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl WriteError {
    fn store(self, access: &Access<'_>, moment: Moment) -> StoreError {
        match self {
            Self::Sql(error) => error_of(&error, moment, access),
            Self::Refused(error) => error,
        }
    }
}

/// Puts envelopes into a table named `outbox`, as an [`Outbox`] of no special settings does.
pub(crate) async fn publish_plainly(
    connection: &mut Connection<'_>,
    envelopes: &[Envelope],
) -> Result<(), StoreError> {
    let access = Access {
        table: "outbox",
        privileges: "INSERT",
        remedy: "tidings outbox migrate",
    };
    let rows = written(envelopes)?;
    let dialect = connection.dialect();
    let table = quoted_table(dialect, access.table);
    let place = Place {
        table: &table,
        destination: "",
    };
    for chunk in chunks(&rows) {
        let insert = insert(dialect.kind, &place, chunk);
        connection
            .execute(&insert.sql, &insert.binds)
            .await
            .map_err(|error| error_of(&error, Moment::InTransaction, &access))?;
    }
    Ok(())
}

fn error_of(error: &sqlx::Error, moment: Moment, access: &Access<'_>) -> StoreError {
    nameless_error("of the transaction", error, moment, access)
}

fn draft_of<E: Event>(event: &E) -> Result<Draft, StoreError> {
    Draft::of(event).map_err(|error| StoreError::Refused {
        reason: format!(
            "the payload of {} cannot be written as JSON: {error}",
            E::TYPE
        ),
    })
}

fn written(envelopes: &[Envelope]) -> Result<Vec<Written>, StoreError> {
    envelopes.iter().map(outbox_row::write).collect()
}

fn ids_of(envelopes: &[Envelope]) -> Vec<String> {
    let ids = envelopes.iter().map(Envelope::event_id);
    ids.map(str::to_owned).collect()
}
