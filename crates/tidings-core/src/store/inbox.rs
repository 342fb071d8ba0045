//! The port of an inbox: what remembers which events a group has handled. Its insert belongs to the handler's own transaction ([`UnitOfWork`](super::UnitOfWork)); this is its upkeep.

use super::StoreError;
use crate::{BoxFuture, Timestamp};

/// What an inbox remembers of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxStatus {
    /// The group.
    pub group: String,
    /// Its rows, at least approximately.
    pub rows: u64,
    /// When the oldest event that is remembered was handled, by the clock of the database.
    pub oldest: Timestamp,
    /// When the newest was.
    pub newest: Timestamp,
}

/// The upkeep of an inbox.
pub trait InboxStore: Send + Sync {
    /// The name of the inbox for people and metrics: database without credentials, and table.
    fn name(&self) -> &str;

    /// How much it remembers, group by group; groups of which nothing is remembered are left out.
    fn status(&self) -> BoxFuture<'_, Result<Vec<InboxStatus>, StoreError>>;

    /// Forgets at most `limit` events of a group that were handled before a time, oldest first, and answers how many.
    ///
    /// **Guarantee**: an event that is forgotten is handled again when it is delivered again; so the caller never passes a time within reach of a redelivery.
    fn forget<'a>(
        &'a self,
        group: &'a str,
        before: Timestamp,
        limit: u32,
    ) -> BoxFuture<'a, Result<u64, StoreError>>;
}
