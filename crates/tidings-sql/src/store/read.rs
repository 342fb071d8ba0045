//! Reading unsent rows, and how the outbox stands.

use super::SqlOutbox;
use super::columns::{IdKind, row_id, row_text};
use super::notes::{DEAD, FAILING};
use super::statements::quoted_table;
use crate::dialect::Kind;
use crate::driver::{Bind, Row};
use crate::outbox_row::{self, Read};
use crate::statement::Statement;
use std::collections::HashMap;
use std::time::Duration;
use tidings_core::Timestamp;
use tidings_core::limits::OUTBOX_DEAD_ROWS_MAX;
use tidings_core::store::{
    BlockedKey, DeadTuples, Horizon, OutboxRow, OutboxStatus, RowId, Shard, SnapshotHolder,
    StoreError, UnsentQuery, UnsentRows,
};

/// What another database says of rows: which are not read, and which keys wait.
#[derive(Debug, Default)]
struct Withheld {
    rows: Vec<RowId>,
    keys: Vec<BlockedKey>,
    attempts: HashMap<RowId, u32>,
}

/// The answer to a read, as far as it came.
struct Answer {
    /// The time of the database and its horizon, which every row repeats.
    clock: Option<(Timestamp, Option<Horizon>)>,
    rows: Result<Vec<OutboxRow>, StoreError>,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            clock: None,
            rows: Ok(Vec::new()),
        }
    }
}

impl Answer {
    fn take(&mut self, outbox: &SqlOutbox, mut row: Row, attempts: &HashMap<RowId, u32>) {
        let (now, _) = *self.clock.get_or_insert_with(|| {
            let horizon = || {
                Some(Horizon {
                    oldest_open: u64::try_from(row.int(1)?).ok()?,
                    first_future: u64::try_from(row.int(2)?).ok()?,
                })
            };
            let horizon = outbox.ids_tell_order.then(horizon).flatten();
            (row.instant(0).unwrap_or_default(), horizon)
        });
        // Without any row the clock stands alone.
        let Some(text) = row.text(3) else {
            return;
        };
        let Ok(rows) = &mut self.rows else {
            return;
        };
        match outbox.row(&mut row, &text, now) {
            Ok(mut read) => {
                if let Some(noted) = attempts.get(&read.id) {
                    read.attempts = *noted;
                }
                rows.push(read);
            }
            Err(error) => self.rows = Err(error),
        }
    }
}

impl SqlOutbox {
    pub(super) async fn read_unsent(&self, query: &UnsentQuery) -> Result<UnsentRows, StoreError> {
        let withheld = self.withheld().await?;
        let statement = match (query.floor, &self.statements.unsent_above_floor) {
            (Some(_), Some(above)) => above,
            _ => &self.statements.unsent,
        };
        let floor = query.floor.map_or(0, |floor| floor.0);
        let mut excluded = query.excluded_rows.clone();
        excluded.extend(&withheld.rows);
        let mut blocked = query.blocked_keys.clone();
        if query.hold_behind_dead {
            blocked.extend_from_slice(&withheld.keys);
        }
        let binds = statement.binds(&[
            self.outbox(),
            ("floor", Bind::Int(i64::try_from(floor).unwrap_or(i64::MAX))),
            ("shards", Bind::Int(query.shard.count.into())),
            ("shard", Bind::Int(query.shard.index.into())),
            ("excluded", self.id_list(&excluded)),
            (
                "destinations",
                text_list(query.excluded_destinations.iter().map(|name| &**name)),
            ),
            ("blocked", pair_list(&blocked)),
            ("hold", Bind::Int(query.hold_behind_dead.into())),
            // One more than asked for tells whether there is more.
            ("limit", Bind::Int(i64::from(query.limit) + 1)),
        ]);
        let mut answer = Answer::default();
        // Each row is made an event while the database looks for the next.
        let mut take = |row: Row| answer.take(self, row, &withheld.attempts);
        self.database
            .fetch_each(statement.sql(), &binds, &self.access(), &mut take)
            .await?;
        self.unsent(answer, query.limit)
    }

    fn unsent(&self, answer: Answer, limit: u32) -> Result<UnsentRows, StoreError> {
        let mut rows = answer.rows?;
        if self.ids_tell_order {
            // They come in this order, as far as any database is known; none promises it.
            rows.sort_by_key(|row| row.id);
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let cut = rows.len() > limit;
        rows.truncate(limit);
        if rows.iter().any(|row| row.attempts > 0) {
            self.note_that_failures_exist();
        }
        let (now, horizon) = answer.clock.unwrap_or_default();
        Ok(UnsentRows {
            rows,
            cut,
            now,
            horizon,
        })
    }

    fn row(&self, row: &mut Row, text: &str, now: Timestamp) -> Result<OutboxRow, StoreError> {
        let id = row_id(text).ok_or_else(|| StoreError::ShapeWrong {
            subject: format!("the row {text} of {}", self.name),
            fault: "its id is neither a whole number from 0 on nor a UUID".to_owned(),
            remedy: "give the table such ids, or name a column that has them in the mapping of tidings.toml".to_owned(),
        })?;
        let created_at = row.instant(11).unwrap_or(now);
        let event_id = row.text(4);
        let event_type = row.text(5).unwrap_or_default();
        let key = row.text(6);
        let destination = row.text(7).unwrap_or_default();
        let attempts = u32::try_from(row.count(17)).unwrap_or(u32::MAX);
        let read = Read {
            row_id: row_text(self.id_kind, id),
            event_id,
            event_type,
            key: key.clone(),
            payload: row.text(8),
            payload_bytes: row.bytes(9),
            headers: row.text(10),
            created_at: row.instant(11),
            correlation_id: row.text(12),
            causation_id: row.text(13),
            source: row.text(14).or_else(|| self.default_source.clone()),
            version: row.text(15),
            content_type: row.text(16).or_else(|| self.default_content_type.clone()),
        };
        Ok(OutboxRow {
            id,
            destination: destination.into(),
            key: key.map(Into::into),
            created_at,
            attempts,
            content: outbox_row::read(read, &self.identity),
        })
    }

    /// Which rows are not read, where the notes are in another database.
    ///
    /// **Errors**: [`StoreError::Refused`] where there are too many to tell each read of them; those it is not told of would be published again and again.
    async fn withheld(&self) -> Result<Withheld, StoreError> {
        let withheld = self
            .noted_elsewhere(i64::from(OUTBOX_DEAD_ROWS_MAX) + 1)
            .await?;
        if withheld.rows.len() <= usize::try_from(OUTBOX_DEAD_ROWS_MAX).unwrap_or(usize::MAX) {
            return Ok(withheld);
        }
        Err(StoreError::Refused {
            reason: format!(
                "more than {OUTBOX_DEAD_ROWS_MAX} rows of {} were given up or discarded, which is the most that a relay with its state in another database can leave out; publish them again (tidings outbox retry), remove them from the table together with their rows of tidings_relay_note, or keep the state beside the rows",
                self.name
            ),
        })
    }

    /// Asks the other database, where the notes are in one.
    async fn noted_elsewhere(&self, limit: i64) -> Result<Withheld, StoreError> {
        let mut withheld = Withheld::default();
        if self.is_state_beside || !self.is_relayed {
            return Ok(withheld);
        }
        let statement = &self.statements.notes.withheld;
        let binds = statement.binds(&[self.outbox(), ("limit", Bind::Int(limit))]);
        let rows = self
            .state
            .fetch(statement.sql(), &binds, &self.note_access())
            .await?;
        for mut row in rows {
            let Some(id) = row.text(0).as_deref().and_then(row_id) else {
                continue;
            };
            let state = row.int(1).unwrap_or(FAILING);
            if state == FAILING {
                let attempts = u32::try_from(row.count(2)).unwrap_or(u32::MAX);
                withheld.attempts.insert(id, attempts);
                continue;
            }
            withheld.rows.push(id);
            let destination = row.text(3).unwrap_or_default();
            if state == DEAD
                && let Some(key) = row.text(4)
            {
                withheld.keys.push(BlockedKey {
                    destination: destination.into(),
                    key: key.into(),
                });
            }
        }
        Ok(withheld)
    }

    pub(super) async fn read_status(&self) -> Result<OutboxStatus, StoreError> {
        // All of them: what waits is counted right also where there are too many for a relay.
        let withheld = self.noted_elsewhere(i64::MAX).await?;
        let statement = &self.statements.status;
        let binds = statement.binds(&[self.outbox(), ("excluded", self.id_list(&withheld.rows))]);
        let rows = self
            .database
            .fetch(statement.sql(), &binds, &self.access())
            .await?;
        let row = rows.first();
        let now = row.and_then(|row| row.instant(0)).unwrap_or_default();
        let oldest = row.and_then(|row| row.instant(2));
        let retained = match &self.statements.retained {
            Some(statement) => {
                let rows = self
                    .database
                    .fetch(statement.sql(), &[], &self.access())
                    .await?;
                rows.first().map_or(0, |row| row.count(0))
            }
            None => 0,
        };
        let counts = self.counts().await?;
        Ok(OutboxStatus {
            pending: row.map_or(0, |row| row.count(1)),
            oldest_unsent_age: oldest.map_or(Duration::ZERO, |oldest| now.since(oldest)),
            failing: counts.get(&FAILING).copied().unwrap_or(0),
            dead: counts.get(&DEAD).copied().unwrap_or(0),
            retained,
            owners: self.owners().await?,
            dead_tuples: self.dead_tuples().await?,
        })
    }

    async fn dead_tuples(&self) -> Result<Option<DeadTuples>, StoreError> {
        if self.database.kind() != Kind::Postgres {
            return Ok(None);
        }
        let dialect = self.database.dialect();
        let template = include_str!("../../sql/postgres/dead_tuples.sql");
        let ask = Statement::new(dialect, template, &[]);
        let table = Bind::text(quoted_table(dialect, &self.table));
        let binds = ask.binds(&[("table", table)]);
        let rows = self
            .database
            .fetch(ask.sql(), &binds, &self.access())
            .await?;
        Ok(rows.first().map(|row| DeadTuples {
            count: row.count(0),
            oldest_snapshot: row.int(1).map(|_| SnapshotHolder {
                pid: row.count(1),
                age: Duration::from_micros(row.count(2)),
            }),
        }))
    }

    async fn owners(&self) -> Result<Vec<(Shard, String, Duration)>, StoreError> {
        let leases = self.leases().await?;
        let owners = leases
            .into_iter()
            .map(|lease| (lease.shard, lease.owner, lease.expires_in));
        Ok(owners.collect())
    }
}

/// Texts as a JSON array.
pub(super) fn text_list<'a>(texts: impl Iterator<Item = &'a str>) -> Bind {
    let list: Vec<&str> = texts.collect();
    Bind::text(serde_json::Value::from(list).to_string())
}

fn pair_list(keys: &[BlockedKey]) -> Bind {
    let pairs: Vec<serde_json::Value> = keys
        .iter()
        .map(|blocked| serde_json::Value::from(vec![&*blocked.destination, &*blocked.key]))
        .collect();
    Bind::text(serde_json::Value::from(pairs).to_string())
}

/// Ids as texts in a JSON array, for the sidecar tables.
pub(super) fn row_text_list(kind: IdKind, rows: &[RowId]) -> Bind {
    let texts: Vec<String> = rows.iter().map(|row| row_text(kind, *row)).collect();
    text_list(texts.iter().map(String::as_str))
}
