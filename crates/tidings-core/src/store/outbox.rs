//! The port of an outbox: what a relay reads from, and notes in, the database where events wait for their broker.
//!
//! Writing into an outbox is no port: it happens in the caller's own transaction, through the driver that the caller uses.

use super::StoreError;
use crate::{BoxFuture, Envelope, Timestamp};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What tells one row of an outbox from another: the database's number, or a UUID in tables that have those.
///
/// Only in an outbox with [`UnsentRows::horizon`] do larger ids mean later rows; else the order is that of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(pub u128);

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 <= u128::from(u64::MAX) {
            self.0.fmt(f)
        } else {
            uuid::Uuid::from_u128(self.0).fmt(f)
        }
    }
}

/// One part of the keys of an outbox; a relay owns whole shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shard {
    /// Which part, from 0.
    pub index: u16,
    /// How many parts there are. Every relay of an outbox says the same.
    pub count: u16,
}

impl Shard {
    /// All keys in one part.
    pub const WHOLE: Self = Self { index: 0, count: 1 };
}

/// Asks for the right to relay a shard, or to keep it.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// Which shard.
    pub shard: Shard,
    /// Who asks: unique for each run of a relay, and readable (host, process id, random part).
    pub owner: String,
    /// How long the right lasts by the clock of the database.
    pub time_to_live: Duration,
}

/// What the lease row says now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// The asker has the shard until the time to live is over.
    Held {
        /// Grows with every change of owner.
        epoch: u64,
    },
    /// Another has it.
    HeldByOther {
        /// Who.
        owner: String,
        /// When its right ends unless it is renewed.
        expires_in: Duration,
    },
}

/// A lease as its owner has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLease {
    /// The shard.
    pub shard: Shard,
    /// Who has it, as it asked.
    pub owner: String,
    /// Of which change of owner it speaks.
    pub epoch: u64,
}

/// Events of one key on their way to one destination, which wait because an earlier one failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockedKey {
    /// The destination; empty where the event type decides.
    pub destination: Arc<str>,
    /// The key.
    pub key: Arc<str>,
}

/// Which unsent rows to read. Always from the floor on, never from the last row read: a row with a smaller id may become visible later.
#[derive(Debug, Clone)]
pub struct UnsentQuery {
    /// Which shard.
    pub shard: Shard,
    /// No unsent row has this id or a smaller one, as far as is proven; `None` to read everything.
    pub floor: Option<RowId>,
    /// Rows of these keys are left out.
    pub blocked_keys: Vec<BlockedKey>,
    /// These rows are left out: they failed and have no key, or are on their way.
    pub excluded_rows: Vec<RowId>,
    /// Rows for these destinations are left out.
    pub excluded_destinations: Vec<Arc<str>>,
    /// Rows whose destination and key are those of a row that was given up are left out, until that row is revived or discarded. Such rows are looked up in the
    /// same snapshot, so that a person's decision counts at the next read.
    pub hold_behind_dead: bool,
    /// Rows at most.
    pub limit: u32,
}

/// One unsent row, not given up.
#[derive(Debug, Clone)]
pub struct OutboxRow {
    /// Its identity.
    pub id: RowId,
    /// Where it goes; empty where the event type decides.
    pub destination: Arc<str>,
    /// What order is kept by; `None` is unordered.
    pub key: Option<Arc<str>>,
    /// When it was written, by the clock of the database.
    pub created_at: Timestamp,
    /// Publishing attempts that failed so far.
    pub attempts: u32,
    /// The event, or why the row holds none.
    pub content: RowContent,
}

/// The event of a row, or why there is none.
pub type RowContent = Result<Envelope, RowFault>;

/// Why a row holds no event that could be published; permanent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct RowFault {
    /// The value, the rule and the way out.
    pub reason: String,
}

/// Which transactions were open when rows were read; only PostgreSQL tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Horizon {
    /// The oldest transaction that was still open; everything older is decided.
    pub oldest_open: u64,
    /// The first transaction that had not begun.
    pub first_future: u64,
}

/// What a read found.
#[derive(Debug, Clone)]
pub struct UnsentRows {
    /// The rows, in the order in which each key's events are published.
    pub rows: Vec<OutboxRow>,
    /// Whether the limit cut the answer: there may be more.
    pub cut: bool,
    /// The clock of the database.
    pub now: Timestamp,
    /// The transactions of the same snapshot, where the database tells.
    pub horizon: Option<Horizon>,
}

/// What becomes of a row whose event the broker has accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// The row is deleted: the default for tables of ours and of Debezium's shape, whose rows nobody reads any more once they are sent.
    Delete,
    /// The row stays and is marked as sent: the default for tables of the seed's shape, and the only way there.
    Mark,
}

/// A failed attempt to publish.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Failure {
    /// The row.
    pub row: RowId,
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// The reason.
    pub reason: String,
}

/// Gives a row up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Burial {
    /// The row.
    pub row: RowId,
    /// Attempts that were made.
    pub attempts: u32,
    /// Why.
    pub reason: String,
}

/// A row that was given up and waits for a person.
#[derive(Debug, Clone)]
pub struct DeadRow {
    /// Its identity, as before.
    pub id: RowId,
    /// The event id, where the row has one.
    pub event_id: Option<String>,
    /// The event type as written.
    pub event_type: String,
    /// What order is kept by.
    pub key: Option<String>,
    /// Attempts that were made.
    pub attempts: u32,
    /// Why it was given up.
    pub reason: String,
    /// When it was given up.
    pub dead_at: Timestamp,
}

/// A row of an outbox as it stands, whatever became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSeen {
    /// The id of its event, which rows that name none have as well: the one under which it is published.
    pub event_id: String,
    /// What order is kept by.
    pub key: Option<String>,
    /// What became of it.
    pub state: RowState,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowState {
    /// It waits.
    Unsent,
    /// It is marked as sent.
    Sent,
    /// It was given up, and waits for a person or was discarded by one.
    Dead,
}

/// An outbox as it stands, rows without an owner included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxStatus {
    /// Unsent rows, those given up excluded.
    pub pending: u64,
    /// How long the oldest of them waits; zero without any.
    pub oldest_unsent_age: Duration,
    /// Unsent rows with at least one failed attempt.
    pub failing: u64,
    /// Rows given up.
    pub dead: u64,
    /// Rows marked as sent that are still there.
    pub retained: u64,
    /// Who relays each shard that was ever relayed, and until when unless renewed.
    pub owners: Vec<(Shard, String, Duration)>,
    /// Rows that are gone and not cleaned up; only PostgreSQL tells.
    pub dead_tuples: Option<DeadTuples>,
}

/// Rows of an outbox that were deleted or changed and that the database still keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadTuples {
    /// How many, by the database's own estimate.
    pub count: u64,
    /// Who keeps it from cleaning up, as far as the user may see: the session with the oldest snapshot.
    pub oldest_snapshot: Option<SnapshotHolder>,
}

/// A session with an open snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotHolder {
    /// Its process on the server.
    pub pid: u64,
    /// How long its transaction is open.
    pub age: Duration,
}

/// Tells a relay in this process that something was committed; a hint, which may be lost or come too often.
#[derive(Clone)]
pub struct Wake(Arc<dyn Fn() + Send + Sync>);

impl Wake {
    /// A wake that calls a function; it must not block.
    pub fn new(call: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(call))
    }

    /// Tells that something was committed.
    pub fn notify(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wake")
    }
}

/// The relay's side of an outbox.
///
/// **Guarantee**: no method keeps a transaction open when it returns; each may be called again after any error.
///
/// **Source**: seed concept *transactional outbox*.
pub trait OutboxStore: Send + Sync {
    /// The name of the outbox for people and metrics: database without credentials, and table.
    fn name(&self) -> &str;

    /// What becomes of a row whose event was accepted.
    fn settlement(&self) -> Settlement;

    /// Whether a larger id is a later row. Only then does a smaller one that is sent later tell that writers of one key were not serialised.
    fn ids_tell_order(&self) -> bool;

    /// Takes or keeps the right to relay a shard, by the clock of the database.
    ///
    /// **Guarantee**: two owners never hold one shard at the same time by that clock.
    fn lease<'a>(
        &'a self,
        request: &'a LeaseRequest,
    ) -> BoxFuture<'a, Result<LeaseAnswer, StoreError>>;

    /// Gives the right back, if the owner still has it.
    fn release<'a>(&'a self, shard: Shard, owner: &'a str)
    -> BoxFuture<'a, Result<(), StoreError>>;

    /// Reads unsent rows in one snapshot, without locks.
    ///
    /// **Guarantee**: what the query leaves out is not in the answer. Of each key, the rows come in the order in which they are published, and no row that the
    /// query admits is missing before one that is there.
    fn unsent<'a>(
        &'a self,
        query: &'a UnsentQuery,
    ) -> BoxFuture<'a, Result<UnsentRows, StoreError>>;

    /// Deletes or marks rows whose events the broker has accepted. Rows that are gone already are no error.
    fn settle<'a>(&'a self, rows: &'a [RowId]) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Notes failed attempts, durably, as long as the lease is held.
    ///
    /// **Errors**: [`StoreError::Conflict`] where the lease is over: what is left is not noted.
    fn note_failures<'a>(
        &'a self,
        lease: &'a HeldLease,
        failures: &'a [Failure],
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Gives rows up, each with its reason, so that they are not read again until [revived](Self::revive). Rows that are gone or sent are left alone.
    ///
    /// **Guarantee**: a row is given up only while the lease is held, by the clock of the database: the next owner may send it after all, and nobody would take its key's hold away.
    ///
    /// **Errors**: [`StoreError::Conflict`] where the lease is over: what is left is not given up.
    fn bury<'a>(
        &'a self,
        lease: &'a HeldLease,
        burials: &'a [Burial],
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Rows given up, the oldest first.
    fn dead(&self, limit: u32) -> BoxFuture<'_, Result<Vec<DeadRow>, StoreError>>;

    /// Makes rows that were given up unsent again, with the same event ids and no attempts; all of them where none is named. Answers how many.
    fn revive<'a>(&'a self, rows: &'a [RowId]) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Removes rows that were given up, for good, and answers how many: what waits behind them goes on. A row of a table that somebody else made stays there and is not read again.
    fn discard<'a>(&'a self, rows: &'a [RowId]) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Removes rows that were marked as sent before a time, at most `limit`, and answers how many, also where rows are deleted by now instead of marked. A table
    /// that somebody else made is left as it is: answers zero.
    fn prune(&self, sent_before: Timestamp, limit: u32) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Hands over every row that is there, sent or not, in the order in which rows of one key are published, and answers how many there are.
    ///
    /// **Guarantee**: the rows are those of one moment, also while a relay works. The database keeps what that moment saw for as long as it is read.
    fn rows<'a>(
        &'a self,
        take: &'a mut (dyn FnMut(RowSeen) + Send),
    ) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// How it stands.
    fn status(&self) -> BoxFuture<'_, Result<OutboxStatus, StoreError>>;

    /// Resolves when another process seems to have committed something; a hint beside polling. `None` where the database gives none.
    fn watch(&self) -> Option<BoxFuture<'_, ()>>;
}
