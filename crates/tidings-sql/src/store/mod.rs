//! The relay's side of an outbox: our table, the seed's, Debezium's, or another one by mapping.

mod columns;
mod inspect;
mod listing;
mod notes;
mod open;
mod read;
mod statements;
mod watch;
mod writing;
mod zone;

pub use columns::{ColumnMapping, Shape};
pub use inspect::{Inspection, inspect, inspect_relay_tables, shape_of};
pub(crate) use open::check_name;
pub use open::{OutboxOptions, RelayTables};
pub(crate) use statements::quoted_table;
pub use watch::Notifier;
pub(crate) use writing::check_writing;

use crate::database::Database;
use crate::driver::Bind;
use crate::error::Access;
use columns::IdKind;
use statements::Statements;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tidings_core::seam::Clock;
use tidings_core::store::{
    Burial, DeadRow, Failure, HeldLease, LeaseAnswer, LeaseRequest, OutboxStatus, OutboxStore,
    RowId, RowSeen, Settlement, Shard, StoreError, UnsentQuery, UnsentRows,
};
use tidings_core::{BoxFuture, Timestamp};

/// An outbox in a SQL database, as its relay sees it.
///
/// **Guarantee**: every statement is a transaction of its own, so that no lock and no snapshot is held while a broker answers. A table that somebody else made
/// gets no column. One of the seed's shape loses no row; of Debezium's the rows that were sent are deleted, unless [told](OutboxOptions::settlement) to mark them.
pub struct SqlOutbox {
    /// Where the rows are.
    database: Database,
    /// Where leases and notes are: the same database unless told otherwise.
    state: Database,
    /// Whether leases and notes are in the database of the rows.
    is_state_beside: bool,
    /// Whether the tables with leases and notes are there.
    is_relayed: bool,
    name: String,
    /// How the sidecar tables call this outbox.
    key: String,
    /// How they call the right to relay it: that to all of it, or to our own facts.
    lease_key: String,
    /// The random identity, which makes ids for rows that have none.
    identity: String,
    table: String,
    shape: Shape,
    id_kind: IdKind,
    /// Whether a larger id is a later row.
    ids_tell_order: bool,
    /// Whether order is promised at all.
    is_ordered: bool,
    settlement: Settlement,
    can_mark: bool,
    statements: Statements,
    default_source: Option<String>,
    default_content_type: Option<String>,
    /// Whether there may be notes of failures that a sent row leaves behind.
    has_failures: AtomicBool,
    clock: Arc<dyn Clock>,
    watcher: watch::Watcher,
}

impl std::fmt::Debug for SqlOutbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlOutbox")
            .field("name", &self.name)
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

impl SqlOutbox {
    /// Which shape the table has.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether a relay has ever worked on it. Until then a row that names no event id has none: what a read calls its event is not what the relay will call it.
    pub fn is_relayed(&self) -> bool {
        self.is_relayed
    }

    fn access(&self) -> Access<'_> {
        Access {
            table: &self.table,
            privileges: match self.settlement {
                Settlement::Delete => "SELECT, DELETE",
                Settlement::Mark if self.can_mark => "SELECT, UPDATE",
                Settlement::Mark => "SELECT",
            },
            remedy: "tidings outbox migrate",
        }
    }

    fn outbox(&self) -> (&'static str, Bind) {
        ("outbox", Bind::text(self.key.clone()))
    }

    /// A list of row ids as the database takes it.
    fn id_list(&self, rows: &[RowId]) -> Bind {
        Bind::text(self.id_kind.list(rows))
    }

    async fn settle_rows(&self, rows: &[RowId]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        if self.settlement == Settlement::Mark && !self.can_mark {
            return self.note_sent(rows).await;
        }
        let statement = &self.statements.settle;
        let binds = statement.binds(&[("list", self.id_list(rows))]);
        self.database
            .change(statement.sql(), &binds, &self.access())
            .await?;
        self.forget_failures(rows).await
    }

    async fn prune_rows(&self, sent_before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let Some(statement) = &self.statements.prune else {
            return Ok(0);
        };
        let before = Bind::Int(sent_before.as_micros());
        let binds = statement.binds(&[("before", before), ("limit", Bind::Int(limit.into()))]);
        self.database
            .change(statement.sql(), &binds, &self.access())
            .await
    }
}

impl OutboxStore for SqlOutbox {
    fn name(&self) -> &str {
        &self.name
    }

    fn settlement(&self) -> Settlement {
        self.settlement
    }

    fn ids_tell_order(&self) -> bool {
        self.ids_tell_order && self.is_ordered
    }

    fn lease<'a>(
        &'a self,
        request: &'a LeaseRequest,
    ) -> BoxFuture<'a, Result<LeaseAnswer, StoreError>> {
        Box::pin(self.take_lease(request))
    }

    fn release<'a>(
        &'a self,
        shard: Shard,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.end_lease(shard, owner))
    }

    fn unsent<'a>(
        &'a self,
        query: &'a UnsentQuery,
    ) -> BoxFuture<'a, Result<UnsentRows, StoreError>> {
        Box::pin(self.read_unsent(query))
    }

    fn settle<'a>(&'a self, rows: &'a [RowId]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.settle_rows(rows))
    }

    fn note_failures<'a>(
        &'a self,
        lease: &'a HeldLease,
        failures: &'a [Failure],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.note_failed(lease, failures))
    }

    fn bury<'a>(
        &'a self,
        lease: &'a HeldLease,
        burials: &'a [Burial],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.note_dead(lease, burials))
    }

    fn dead(&self, limit: u32) -> BoxFuture<'_, Result<Vec<DeadRow>, StoreError>> {
        Box::pin(self.list_dead(limit))
    }

    fn revive<'a>(&'a self, rows: &'a [RowId]) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(self.forget_dead(rows))
    }

    fn discard<'a>(&'a self, rows: &'a [RowId]) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(self.discard_dead(rows))
    }

    fn prune(&self, sent_before: Timestamp, limit: u32) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.prune_rows(sent_before, limit))
    }

    fn rows<'a>(
        &'a self,
        take: &'a mut (dyn FnMut(RowSeen) + Send),
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(self.each_row(take))
    }

    fn status(&self) -> BoxFuture<'_, Result<OutboxStatus, StoreError>> {
        Box::pin(self.read_status())
    }

    fn watch(&self) -> Option<BoxFuture<'_, ()>> {
        self.watcher.changed(&self.clock)
    }
}
