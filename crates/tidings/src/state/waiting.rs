//! What was published beside the owner of a data folder and is not in its log yet.

use crate::Error;
use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use tidings_core::limits::RELAY_BATCH_ROWS_MAX;
use tidings_core::store::{OutboxStore as _, RowState, Shard, UnsentQuery};
use tidings_core::{DedupeKey, Envelope};
use tidings_flow::runtime::{SystemChance, SystemClock};
use tidings_sql::{Database, OutboxOptions, SqlOutbox};

/// The events of a data folder that wait in `state.db`: durable, and not in the log yet.
///
/// Who wants to know everything that was published asks here first and the log afterwards: an event that is carried over meanwhile is then seen at least once.
pub struct Waiting {
    /// `None` where nothing was ever published beside an owner.
    opened: Option<(Database, SqlOutbox)>,
}

impl Waiting {
    /// Opens the database of a folder, if it has one. Whoever owns the folder goes on undisturbed.
    ///
    /// **Errors**: the database's.
    ///
    /// **Cancel**: no effect.
    pub async fn open(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let folder = folder.as_ref();
        if !super::path(folder).exists() {
            return Ok(Self { opened: None });
        }
        let database = super::open(folder).await?;
        let clock = Arc::new(SystemClock::new());
        let options = OutboxOptions::default();
        let outbox = SqlOutbox::open(database.clone(), options, clock, &SystemChance).await?;
        Ok(Self {
            opened: Some((database, outbox)),
        })
    }

    /// All of them, in the order in which they were published.
    ///
    /// **Units**: as many events in memory as wait; the owner of a folder usually carries them within milliseconds.
    ///
    /// **Errors**: the database's.
    ///
    /// **Cancel**: no effect.
    pub async fn events(&self) -> Result<Vec<Envelope>, Error> {
        let Some((_, outbox)) = &self.opened else {
            return Ok(Vec::new());
        };
        let mut query = UnsentQuery {
            shard: Shard::WHOLE,
            // One writer at a time: a smaller id never becomes visible later, so that the pages need no overlap.
            floor: None,
            blocked_keys: Vec::new(),
            excluded_rows: Vec::new(),
            excluded_destinations: Vec::new(),
            hold_behind_dead: false,
            limit: u32::try_from(RELAY_BATCH_ROWS_MAX).unwrap_or(u32::MAX),
        };
        let mut events = Vec::new();
        loop {
            let page = outbox.unsent(&query).await?;
            query.floor = page.rows.last().map(|row| row.id).or(query.floor);
            events.extend(page.rows.into_iter().filter_map(|row| row.content.ok()));
            if !page.cut {
                return Ok(events);
            }
        }
    }

    /// For each event the one of the same id and source that waits, if there is one.
    ///
    /// **Errors**, **Cancel**: as [`events`](Self::events).
    pub async fn of(&self, events: &[Envelope]) -> Result<Vec<Option<Envelope>>, Error> {
        let mut found = vec![None; events.len()];
        if !self.knows_one_of(events).await? {
            return Ok(found);
        }
        let waiting = self.events().await?;
        let waiting: std::collections::HashMap<DedupeKey, Envelope> = waiting
            .into_iter()
            .map(|envelope| (DedupeKey::of(&envelope), envelope))
            .collect();
        for (found, event) in found.iter_mut().zip(events) {
            *found = waiting.get(&DedupeKey::of(event)).cloned();
        }
        Ok(found)
    }

    /// Looks at ids alone, which is cheap: usually none of them waits.
    async fn knows_one_of(&self, events: &[Envelope]) -> Result<bool, Error> {
        let Some((_, outbox)) = &self.opened else {
            return Ok(false);
        };
        let ids: HashSet<&str> = events.iter().map(Envelope::event_id).collect();
        let mut knows = false;
        let mut look = |row: tidings_core::store::RowSeen| {
            knows |= row.state == RowState::Unsent && ids.contains(row.event_id.as_str());
        };
        outbox.rows(&mut look).await?;
        Ok(knows)
    }

    /// Closes the database: nothing of it is touched afterwards.
    pub async fn close(self) {
        if let Some((database, _)) = self.opened {
            database.close().await;
        }
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting")
            .field("is_open", &self.opened.is_some())
            .finish()
    }
}
