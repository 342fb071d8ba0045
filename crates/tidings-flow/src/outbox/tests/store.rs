//! An outbox in memory whose database stands still, fails and loses answers as the test wants.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tidings_core::seam::Clock;
use tidings_core::store::{
    Burial, DeadRow, DeadTuples, Failure, HeldLease, Horizon, LeaseAnswer, LeaseRequest, OutboxRow,
    OutboxStatus, OutboxStore, RowFault, RowId, RowSeen, RowState, Settlement, Shard, StoreError,
    UnsentQuery, UnsentRows,
};
use tidings_core::{BoxFuture, Envelope, Timestamp};

use crate::fakes::{ManualClock, event};

/// What a call meets instead of success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreFault {
    /// Nothing was done.
    Down,
    /// It was done, and the answer is lost.
    AnswerLost,
}

#[derive(Debug, Clone)]
pub(crate) struct FakeRow {
    pub(crate) row: OutboxRow,
    pub(crate) visible: bool,
    pub(crate) sent: bool,
    pub(crate) dead: Option<Burial>,
}

#[derive(Default)]
pub(crate) struct FakeTables {
    pub(crate) rows: BTreeMap<RowId, FakeRow>,
    lease: Option<(String, Duration)>,
    pub(crate) epoch: u64,
    pub(crate) horizon: Option<Horizon>,
    pub(crate) ids_without_order: bool,
    pub(crate) dead_tuples: Option<DeadTuples>,
    pub(crate) down: bool,
    /// What reads meet instead of rows.
    pub(crate) read_fault: Option<StoreError>,
    /// Faults of the next settles, one each.
    pub(crate) settle_faults: VecDeque<StoreFault>,
    pub(crate) bury_faults: VecDeque<StoreFault>,
    pub(crate) queries: Vec<UnsentQuery>,
    pub(crate) settles: Vec<Vec<RowId>>,
    pub(crate) leases: usize,
    pub(crate) releases: usize,
}

pub(crate) struct FakeStore {
    clock: Arc<ManualClock>,
    tables: Mutex<FakeTables>,
}

impl FakeStore {
    pub(crate) fn new(clock: &Arc<ManualClock>) -> Arc<Self> {
        Arc::new(Self {
            clock: Arc::clone(clock),
            tables: Mutex::default(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, FakeTables> {
        self.tables.lock().unwrap()
    }

    /// Commits an event with the next id.
    pub(crate) fn insert(&self, key: Option<&str>, destination: &str) -> RowId {
        let number = self.lock().rows.len() + 1;
        self.insert_event(key, destination, Ok(event("order.placed", key, number)))
    }

    pub(crate) fn insert_faulty(&self, key: &str) -> RowId {
        let reason = "the payload is no JSON".to_owned();
        self.insert_event(Some(key), "", Err(RowFault { reason }))
    }

    fn insert_event(
        &self,
        key: Option<&str>,
        destination: &str,
        content: Result<Envelope, RowFault>,
    ) -> RowId {
        let created_at = self.clock.now();
        let mut tables = self.lock();
        let id = RowId(tables.rows.len() as u128 + 1);
        let row = OutboxRow {
            id,
            destination: Arc::from(destination),
            key: key.map(Arc::from),
            created_at,
            attempts: 0,
            content,
        };
        let row = FakeRow {
            row,
            visible: true,
            sent: false,
            dead: None,
        };
        tables.rows.insert(id, row);
        id
    }

    /// Whether everything but what was given up is settled.
    pub(crate) fn is_settled(&self) -> bool {
        let tables = self.lock();
        let mut rows = tables.rows.values();
        rows.all(|row| row.sent || row.dead.is_some())
    }

    pub(crate) fn unsettled(&self) -> usize {
        let tables = self.lock();
        let rows = tables.rows.values();
        rows.filter(|row| !row.sent && row.dead.is_none()).count()
    }

    fn up(&self) -> Result<MutexGuard<'_, FakeTables>, StoreError> {
        let tables = self.lock();
        if tables.down {
            return Err(StoreError::Unavailable {
                database: "memory".to_owned(),
                reason: "as the test wants it".to_owned(),
            });
        }
        Ok(tables)
    }

    fn check(&self, tables: &FakeTables, lease: &HeldLease) -> Result<(), StoreError> {
        let now = self.clock.elapsed();
        let holder = tables.lease.as_ref().filter(|(_, until)| *until >= now);
        if holder.is_some_and(|(owner, _)| *owner == lease.owner) && tables.epoch == lease.epoch {
            return Ok(());
        }
        Err(StoreError::Conflict {
            reason: "the lease is over".to_owned(),
        })
    }
}

fn lost() -> StoreError {
    StoreError::Ambiguous {
        database: "memory".to_owned(),
        reason: "as the test wants it".to_owned(),
    }
}

impl FakeTables {
    fn unsent(&self, query: &UnsentQuery) -> (Vec<OutboxRow>, bool) {
        let excluded: HashSet<RowId> = query.excluded_rows.iter().copied().collect();
        let blocked: HashSet<_> = query.blocked_keys.iter().collect();
        let dead = self.rows.values().filter(|row| row.dead.is_some());
        let dead: HashSet<_> = dead
            .map(|row| (row.row.destination.clone(), row.row.key.clone()))
            .collect();
        let mut rows = Vec::new();
        for row in self.rows.values() {
            let unsent = row.visible && !row.sent && row.dead.is_none();
            let above = query.floor.is_none_or(|floor| row.row.id > floor);
            let lane = (row.row.destination.clone(), row.row.key.clone());
            let is_blocked = row.row.key.clone().is_some_and(|key| {
                let destination = row.row.destination.clone();
                blocked.contains(&tidings_core::store::BlockedKey { destination, key })
                    || (query.hold_behind_dead && dead.contains(&lane))
            });
            let closed = query.excluded_destinations.contains(&row.row.destination);
            if !unsent || !above || is_blocked || closed || excluded.contains(&row.row.id) {
                continue;
            }
            if rows.len() >= query.limit as usize {
                return (rows, true);
            }
            rows.push(row.row.clone());
        }
        (rows, false)
    }
}

impl OutboxStore for FakeStore {
    fn ids_tell_order(&self) -> bool {
        !self.lock().ids_without_order
    }

    fn name(&self) -> &str {
        "memory/outbox"
    }

    fn settlement(&self) -> Settlement {
        Settlement::Mark
    }

    fn lease<'a>(
        &'a self,
        request: &'a LeaseRequest,
    ) -> BoxFuture<'a, Result<LeaseAnswer, StoreError>> {
        Box::pin(async move {
            let now = self.clock.elapsed();
            let mut tables = self.up()?;
            tables.leases += 1;
            let other = tables.lease.clone();
            if let Some((owner, until)) =
                other.filter(|(owner, until)| *owner != request.owner && *until > now)
            {
                return Ok(LeaseAnswer::HeldByOther {
                    owner,
                    expires_in: until - now,
                });
            }
            let same = tables
                .lease
                .as_ref()
                .is_some_and(|(owner, _)| *owner == request.owner);
            tables.epoch += u64::from(!same);
            tables.lease = Some((request.owner.clone(), now + request.time_to_live));
            Ok(LeaseAnswer::Held {
                epoch: tables.epoch,
            })
        })
    }

    fn release<'a>(&'a self, _: Shard, owner: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut tables = self.up()?;
            tables.releases += 1;
            tables.lease = tables.lease.take().filter(|(other, _)| other != owner);
            Ok(())
        })
    }

    fn unsent<'a>(
        &'a self,
        query: &'a UnsentQuery,
    ) -> BoxFuture<'a, Result<UnsentRows, StoreError>> {
        Box::pin(async move {
            let mut tables = self.up()?;
            tables.queries.push(query.clone());
            if let Some(fault) = &tables.read_fault {
                return Err(fault.clone());
            }
            let (rows, cut) = tables.unsent(query);
            Ok(UnsentRows {
                rows,
                cut,
                now: self.clock.now(),
                horizon: tables.horizon,
            })
        })
    }

    fn settle<'a>(&'a self, rows: &'a [RowId]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut tables = self.up()?;
            let fault = tables.settle_faults.pop_front();
            if fault == Some(StoreFault::Down) {
                return Err(lost());
            }
            tables.settles.push(rows.to_vec());
            for id in rows {
                if let Some(row) = tables.rows.get_mut(id) {
                    row.sent = true;
                }
            }
            fault.map_or(Ok(()), |_| Err(lost()))
        })
    }

    fn note_failures<'a>(
        &'a self,
        lease: &'a HeldLease,
        failures: &'a [Failure],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut tables = self.up()?;
            self.check(&tables, lease)?;
            for failure in failures {
                if let Some(row) = tables.rows.get_mut(&failure.row) {
                    row.row.attempts = failure.attempts;
                }
            }
            Ok(())
        })
    }

    fn bury<'a>(
        &'a self,
        lease: &'a HeldLease,
        burials: &'a [Burial],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut tables = self.up()?;
            self.check(&tables, lease)?;
            let fault = tables.bury_faults.pop_front();
            if fault == Some(StoreFault::Down) {
                return Err(lost());
            }
            for burial in burials {
                if let Some(row) = tables.rows.get_mut(&burial.row) {
                    row.dead = Some(burial.clone());
                }
            }
            fault.map_or(Ok(()), |_| Err(lost()))
        })
    }

    fn dead(&self, _: u32) -> BoxFuture<'_, Result<Vec<DeadRow>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn revive<'a>(&'a self, rows: &'a [RowId]) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            let mut tables = self.up()?;
            for id in rows {
                if let Some(row) = tables.rows.get_mut(id) {
                    row.dead = None;
                    row.row.attempts = 0;
                }
            }
            Ok(rows.len() as u64)
        })
    }

    fn discard<'a>(&'a self, rows: &'a [RowId]) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            let mut tables = self.up()?;
            for id in rows {
                tables.rows.remove(id);
            }
            Ok(rows.len() as u64)
        })
    }

    fn prune(&self, _: Timestamp, _: u32) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async { Ok(0) })
    }

    fn rows<'a>(
        &'a self,
        take: &'a mut (dyn FnMut(RowSeen) + Send),
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            let tables = self.up()?;
            for row in tables.rows.values() {
                let event = row.row.content.as_ref().ok();
                take(RowSeen {
                    event_id: event.map_or_else(String::new, |event| event.event_id().to_owned()),
                    key: row.row.key.as_deref().map(str::to_owned),
                    state: match (row.sent, &row.dead) {
                        (true, _) => RowState::Sent,
                        (false, Some(_)) => RowState::Dead,
                        (false, None) => RowState::Unsent,
                    },
                });
            }
            Ok(tables.rows.len() as u64)
        })
    }

    fn status(&self) -> BoxFuture<'_, Result<OutboxStatus, StoreError>> {
        Box::pin(async {
            let now = self.clock.now();
            let tables = self.up()?;
            let unsent = || {
                tables
                    .rows
                    .values()
                    .filter(|row| !row.sent && row.dead.is_none())
            };
            Ok(OutboxStatus {
                pending: unsent().count() as u64,
                oldest_unsent_age: unsent()
                    .map(|row| now.since(row.row.created_at))
                    .max()
                    .unwrap_or_default(),
                failing: unsent().filter(|row| row.row.attempts > 0).count() as u64,
                dead: tables
                    .rows
                    .values()
                    .filter(|row| row.dead.is_some())
                    .count() as u64,
                retained: tables.rows.values().filter(|row| row.sent).count() as u64,
                owners: Vec::new(),
                dead_tuples: tables.dead_tuples.clone(),
            })
        })
    }

    fn watch(&self) -> Option<BoxFuture<'_, ()>> {
        None
    }
}
