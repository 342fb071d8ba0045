//! What a relay keeps beside the rows: leases, failures, rows given up.

use super::SqlOutbox;
use super::columns::{Shape, row_id, row_text};
use super::read::row_text_list;
use crate::driver::{Bind, Row};
use crate::error::Access;
use crate::statement::Statement;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tidings_core::limits::{EVENT_ID_BYTES_MAX, KEY_BYTES_MAX, REASON_BYTES_MAX};
use tidings_core::store::{
    Burial, DeadRow, Failure, HeldLease, LeaseAnswer, LeaseRequest, RowId, Shard, StoreError,
};

/// The state of a row that failed.
pub(super) const FAILING: i64 = 0;
/// The state of a row that was given up.
pub(super) const DEAD: i64 = 1;
/// The state of a row that a person discarded, and that stays in its table.
pub(super) const DISCARDED: i64 = 2;
/// The state of a row that was sent, and whose table cannot say so.
pub(super) const SENT: i64 = 3;

/// A lease as its row says.
pub(super) struct Lease {
    pub(super) shard: Shard,
    pub(super) owner: String,
    epoch: u64,
    pub(super) expires_in: Duration,
}

/// What a note says of a row beside its state.
#[derive(Default)]
struct About {
    event_id: Option<String>,
    event_type: String,
    key: Option<String>,
    destination: String,
}

impl SqlOutbox {
    pub(super) fn note_access(&self) -> Access<'static> {
        Access {
            table: "tidings_relay_note",
            privileges: "SELECT, INSERT, UPDATE, DELETE",
            remedy: "tidings relay init",
        }
    }

    async fn change_notes(
        &self,
        statement: &Statement,
        values: &[(&str, Bind)],
    ) -> Result<u64, StoreError> {
        let binds = statement.binds(values);
        self.state
            .change(statement.sql(), &binds, &self.note_access())
            .await
    }

    pub(super) async fn take_lease(
        &self,
        request: &LeaseRequest,
    ) -> Result<LeaseAnswer, StoreError> {
        let notes = &self.statements.notes;
        let time_to_live = i64::try_from(request.time_to_live.as_micros()).unwrap_or(i64::MAX / 2);
        let values = [
            ("outbox", Bind::text(self.lease_key.clone())),
            ("shard", Bind::Int(request.shard.index.into())),
            ("shards", Bind::Int(request.shard.count.into())),
            ("owner", Bind::text(request.owner.clone())),
            ("time_to_live", Bind::Int(time_to_live)),
        ];
        self.change_notes(&notes.take_lease, &values).await?;
        let mut leases = self.leases().await?;
        if !leases.iter().any(|lease| lease.shard == request.shard) {
            match self.change_notes(&notes.make_lease, &values).await {
                // Another relay has just made the row.
                Ok(_) | Err(StoreError::Conflict { .. } | StoreError::Database { .. }) => {}
                Err(error) => return Err(error),
            }
            self.change_notes(&notes.take_lease, &values).await?;
            leases = self.leases().await?;
        }
        // Two divisions of one outbox would have keys in common.
        let other_division = leases
            .iter()
            .find(|lease| lease.shard.count != request.shard.count && !lease.expires_in.is_zero());
        if let Some(other) = other_division {
            let answer = held_by(other);
            self.end_lease(request.shard, &request.owner).await?;
            return Ok(answer);
        }
        if let Some(answer) = self.relayed_whole().await? {
            self.end_lease(request.shard, &request.owner).await?;
            return Ok(answer);
        }
        let mine = leases.iter().find(|lease| lease.shard == request.shard);
        match mine {
            Some(lease) if lease.owner == request.owner && !lease.expires_in.is_zero() => {
                Ok(LeaseAnswer::Held { epoch: lease.epoch })
            }
            Some(lease) => Ok(held_by(lease)),
            None => Err(StoreError::Conflict {
                reason: "the lease row was removed while it was taken".to_owned(),
            }),
        }
    }

    pub(super) async fn end_lease(&self, shard: Shard, owner: &str) -> Result<(), StoreError> {
        let values = [
            ("outbox", Bind::text(self.lease_key.clone())),
            ("shard", Bind::Int(shard.index.into())),
            ("shards", Bind::Int(shard.count.into())),
            ("owner", Bind::text(owner)),
        ];
        self.change_notes(&self.statements.notes.end_lease, &values)
            .await
            .map(drop)
    }

    /// Reads what is noted; nothing is where no relay ever worked.
    async fn noted(
        &self,
        statement: &Statement,
        values: &[(&str, Bind)],
    ) -> Result<Vec<Row>, StoreError> {
        if !self.is_relayed {
            return Ok(Vec::new());
        }
        let binds = statement.binds(values);
        self.state
            .fetch(statement.sql(), &binds, &self.note_access())
            .await
    }

    /// Who relays all rows, where this is the right to our own facts alone.
    async fn relayed_whole(&self) -> Result<Option<LeaseAnswer>, StoreError> {
        if self.lease_key == self.key {
            return Ok(None);
        }
        let leases = self.leases_of(&self.key).await?;
        let working = leases.iter().find(|lease| !lease.expires_in.is_zero());
        Ok(working.map(held_by))
    }

    pub(super) async fn leases(&self) -> Result<Vec<Lease>, StoreError> {
        self.leases_of(&self.lease_key).await
    }

    async fn leases_of(&self, key: &str) -> Result<Vec<Lease>, StoreError> {
        let read = &self.statements.notes.read_leases;
        let rows = self.noted(read, &[("outbox", Bind::text(key))]).await?;
        let leases = rows.into_iter().filter_map(|mut row| {
            Some(Lease {
                shard: Shard {
                    index: u16::try_from(row.int(0)?).ok()?,
                    count: u16::try_from(row.int(1)?).ok()?,
                },
                epoch: row.count(3),
                expires_in: Duration::from_micros(row.count(4)),
                owner: row.text(2)?,
            })
        });
        Ok(leases.collect())
    }

    /// How many notes of each state there are.
    pub(super) async fn counts(&self) -> Result<HashMap<i64, u64>, StoreError> {
        let counts = &self.statements.notes.counts;
        let rows = self.noted(counts, &[self.outbox()]).await?;
        Ok(rows
            .iter()
            .filter_map(|row| Some((row.int(0)?, row.count(1))))
            .collect())
    }

    /// What the rows say that a note keeps, so that a person can read it when the row is gone.
    async fn about(&self, rows: &[RowId]) -> Result<HashMap<RowId, About>, StoreError> {
        let statement = &self.statements.describe;
        let binds = statement.binds(&[("list", self.id_list(rows))]);
        let rows = self
            .database
            .fetch(statement.sql(), &binds, &self.access())
            .await?;
        let about = rows.into_iter().filter_map(|mut row| {
            let id = row_id(&row.text(0)?)?;
            let about = About {
                event_id: row.text(1),
                event_type: row.text(2).unwrap_or_default(),
                key: row.text(3),
                destination: row.text(4).unwrap_or_default(),
            };
            Some((id, about))
        });
        Ok(about.collect())
    }

    /// What a statement asks the lease by.
    fn leased(&self, lease: &HeldLease) -> [(&'static str, Bind); 5] {
        let epoch = i64::try_from(lease.epoch).unwrap_or(i64::MAX);
        [
            ("leased", Bind::text(self.lease_key.clone())),
            ("shard", Bind::Int(lease.shard.index.into())),
            ("shards", Bind::Int(lease.shard.count.into())),
            ("owner", Bind::text(lease.owner.clone())),
            ("epoch", Bind::Int(epoch)),
        ]
    }

    /// Notes it in the statement that sees the lease: who asks for it meanwhile waits for what is noted.
    async fn note(
        &self,
        lease: &HeldLease,
        state: i64,
        (row, attempts, reason): (RowId, u32, &str),
        about: About,
    ) -> Result<(), StoreError> {
        let short = |text: Option<String>, bytes| text.map(|text| shortened(&text, bytes));
        let mut values = self.leased(lease).to_vec();
        values.extend([
            self.outbox(),
            ("row_id", Bind::text(row_text(self.id_kind, row))),
            ("state", Bind::Int(state)),
            ("attempts", Bind::Int(attempts.into())),
            ("reason", Bind::text(shortened(reason, REASON_BYTES_MAX))),
            (
                "event_id",
                Bind::Text(short(about.event_id, EVENT_ID_BYTES_MAX)),
            ),
            ("event_type", Bind::text(shortened(&about.event_type, 256))),
            (
                "destination",
                Bind::text(shortened(&about.destination, 256)),
            ),
            ("event_key", Bind::Text(short(about.key, KEY_BYTES_MAX))),
        ]);
        match self
            .change_notes(&self.statements.notes.note, &values)
            .await?
        {
            0 => Err(StoreError::Conflict {
                reason: format!(
                    "the lease of {} (epoch {}) is over; the next owner decides about row {row} of {}",
                    lease.owner, lease.epoch, self.name
                ),
            }),
            _ => Ok(()),
        }
    }

    pub(super) async fn note_failed(
        &self,
        lease: &HeldLease,
        failures: &[Failure],
    ) -> Result<(), StoreError> {
        self.note_that_failures_exist();
        for failure in failures {
            let what = (failure.row, failure.attempts, &*failure.reason);
            self.note(lease, FAILING, what, About::default()).await?;
        }
        Ok(())
    }

    pub(super) async fn note_dead(
        &self,
        lease: &HeldLease,
        burials: &[Burial],
    ) -> Result<(), StoreError> {
        let rows: Vec<RowId> = burials.iter().map(|burial| burial.row).collect();
        let mut about = self.about(&rows).await?;
        for burial in burials {
            // A row that is gone or sent meanwhile was published by another owner.
            if let Some(about) = about.remove(&burial.row) {
                // A note that began as a failure says nothing of its row; it makes room for one that does.
                let list = row_text_list(self.id_kind, &[burial.row]);
                let mut values = self.leased(lease).to_vec();
                values.extend([self.outbox(), ("list", list)]);
                self.change_notes(&self.statements.notes.make_room, &values)
                    .await?;
                let what = (burial.row, burial.attempts, &*burial.reason);
                self.note(lease, DEAD, what, about).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn list_dead(&self, limit: u32) -> Result<Vec<DeadRow>, StoreError> {
        let values = [self.outbox(), ("limit", Bind::Int(limit.into()))];
        let rows = self.noted(&self.statements.notes.dead, &values).await?;
        let dead = rows.into_iter().filter_map(|mut row| {
            Some(DeadRow {
                id: row_id(&row.text(0)?)?,
                event_id: row.text(1),
                event_type: row.text(2).unwrap_or_default(),
                key: row.text(3),
                attempts: u32::try_from(row.count(4)).unwrap_or(u32::MAX),
                reason: row.text(5).unwrap_or_default(),
                dead_at: row.instant(6).unwrap_or_default(),
            })
        });
        Ok(dead.collect())
    }

    pub(super) async fn forget_dead(&self, rows: &[RowId]) -> Result<u64, StoreError> {
        let notes = &self.statements.notes;
        if rows.is_empty() {
            return self.change_notes(&notes.revive_all, &[self.outbox()]).await;
        }
        let values = [self.outbox(), ("list", row_text_list(self.id_kind, rows))];
        self.change_notes(&notes.revive, &values).await
    }

    pub(super) async fn discard_dead(&self, rows: &[RowId]) -> Result<u64, StoreError> {
        let notes = &self.statements.notes;
        let values = [self.outbox(), ("list", row_text_list(self.id_kind, rows))];
        // First the note, which keeps the row from being read; a crash after it leaves a row that nobody reads.
        let discarded = self.change_notes(&notes.discard, &values).await?;
        if self.shape == Shape::Tidings && discarded > 0 {
            // Only those: whoever names a row that was not given up must not lose it.
            let gone = self.discarded_of(&values).await?;
            let statement = &self.statements.delete;
            let binds = statement.binds(&[("list", self.id_list(&gone))]);
            self.database
                .change(statement.sql(), &binds, &self.access())
                .await?;
            self.change_notes(&notes.forget_discarded, &values).await?;
        }
        Ok(discarded)
    }

    async fn discarded_of(&self, values: &[(&str, Bind)]) -> Result<Vec<RowId>, StoreError> {
        let statement = &self.statements.notes.discarded;
        let binds = statement.binds(values);
        let mut rows = self
            .state
            .fetch(statement.sql(), &binds, &self.note_access())
            .await?;
        let ids = rows.iter_mut().filter_map(|row| row_id(&row.text(0)?));
        Ok(ids.collect())
    }

    /// Notes rows as sent whose table cannot say so.
    pub(super) async fn note_sent(&self, rows: &[RowId]) -> Result<(), StoreError> {
        let values = [self.outbox(), ("list", row_text_list(self.id_kind, rows))];
        self.change_notes(&self.statements.notes.note_sent, &values)
            .await
            .map(drop)
    }

    /// Removes the notes of rows that failed and were sent in the end; only where there is any.
    pub(super) async fn forget_failures(&self, rows: &[RowId]) -> Result<(), StoreError> {
        if !self.has_failures.load(Ordering::Acquire) {
            return Ok(());
        }
        let values = [self.outbox(), ("list", row_text_list(self.id_kind, rows))];
        self.change_notes(&self.statements.notes.forget_failures, &values)
            .await
            .map(drop)
    }

    pub(super) fn note_that_failures_exist(&self) {
        self.has_failures.store(true, Ordering::Release);
    }
}

fn held_by(lease: &Lease) -> LeaseAnswer {
    LeaseAnswer::HeldByOther {
        owner: lease.owner.clone(),
        expires_in: lease.expires_in,
    }
}

/// The beginning of a text that fits, without the character that PostgreSQL keeps in no text.
fn shortened(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().replace('\0', "")
}
