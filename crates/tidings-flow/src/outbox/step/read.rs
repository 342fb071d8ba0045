//! When to read, what to leave out, and which of the rows found are sent.

use super::publish::{Batch, Taken};
use super::{BlockedKey, Done, Effect, Found, KeyPolicy, Lane, Query, Row, RowId, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a row before any was seen.
pub(super) const BYTES_OF_ROW_GUESS: usize = 32_768;

/// What a read is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ReadKind {
    /// Rows to send.
    Work,
    /// The lowest unsent row above the floor.
    Floor,
    /// The lowest unsent rows, whatever the floor.
    Sweep,
}

/// A read that is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Reading {
    kind: ReadKind,
    /// Nothing was left out, so that an empty answer means an empty outbox.
    complete: bool,
    /// Failed rows whose time had come: they should be in the answer.
    admitted: Vec<RowId>,
    /// The lease was lost meanwhile.
    pub(super) stale: bool,
}

/// The newest accepted id of keys seen lately: a smaller one that comes later was committed in the other order than the ids were drawn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Recent {
    current: BTreeMap<Lane, RowId>,
    previous: BTreeMap<Lane, RowId>,
}

impl Recent {
    /// Notes an accepted row and answers whether a later one of its key was accepted before.
    pub(super) fn accepted(&mut self, lane: Lane, row: RowId, keys_max: usize) -> bool {
        if keys_max == 0 {
            return false;
        }
        let newest = self.current.get(&lane).or_else(|| self.previous.get(&lane));
        if newest.is_some_and(|newest| *newest > row) {
            return true;
        }
        if self.current.len() >= keys_max && !self.current.contains_key(&lane) {
            self.previous = std::mem::take(&mut self.current);
        }
        self.current.insert(lane, row);
        false
    }
}

impl Step {
    pub(super) fn woken(&mut self, now: Duration) {
        self.woken |= self.reading.is_some();
        self.idle_reads = 0;
        self.read_at = now;
    }

    /// When to read next, unless something else happens before.
    pub(super) fn read_due(&self, now: Duration) -> Option<Duration> {
        if self.draining || !self.lease.is_held() || self.calls.read.busy {
            return None;
        }
        let work = if self.has_room(now) {
            Some(self.read_at.max(self.read_not_before))
        } else {
            self.retry_due(now)
        };
        let floor = self.floor.due().map(|(at, _)| at);
        let due = [work, floor].into_iter().flatten().min();
        due.map(|due| due.max(self.calls.read.not_before))
    }

    pub(super) fn plan_read(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.draining || !self.lease.allows(now) || !self.calls.read.may_start(now) {
            return;
        }
        let kind = match self.floor.due() {
            Some((at, kind)) if at <= now => kind,
            _ if now >= self.read_at.max(self.read_not_before) && self.has_room(now) => {
                ReadKind::Work
            }
            _ => return,
        };
        self.plan_floor(now, kind);
        let query = match kind {
            ReadKind::Work => {
                self.read_not_before = now + self.bounds.read_gap;
                self.work_query(now)
            }
            ReadKind::Floor => everything(self.floor.proven, 1),
            ReadKind::Sweep => everything(None, super::floor::SWEEP_ROWS),
        };
        let due = self
            .failing
            .iter()
            .filter(|(_, failing)| failing.until <= now);
        self.reading = Some(Reading {
            kind,
            complete: query.blocked_keys.is_empty()
                && query.excluded_rows.is_empty()
                && query.excluded_destinations.is_empty(),
            admitted: due.map(|(id, _)| *id).collect(),
            stale: false,
        });
        self.woken = false;
        self.calls.read.busy = true;
        effects.push(Effect::Read(query));
    }

    pub(super) fn read(
        &mut self,
        now: Duration,
        random: u64,
        answer: Done<Found>,
        effects: &mut Vec<Effect>,
    ) {
        let wait = self.calls.read.wait(self.bounds.store_backoff, random);
        let answered = self.calls.read.answered(now, wait, answer, effects);
        let (Some(reading), Some(found)) = (self.reading.take(), answered) else {
            return;
        };
        if reading.stale || self.draining || !self.lease.allows(now) {
            return;
        }
        if reading.kind != ReadKind::Work {
            self.floor_seen(now, reading.kind, &found, effects);
            return;
        }
        self.floor.saw(&found);
        if !found.cut {
            self.forget_failing(&reading.admitted, &found.rows);
        }
        let (cut, empty) = (found.cut, found.rows.is_empty());
        let bytes: usize = found.rows.iter().map(|row| row.bytes).sum();
        self.bytes_of_row = bytes
            .checked_div(found.rows.len())
            .unwrap_or(self.bytes_of_row);
        let took = self.take(now, found.rows, effects);
        self.pace(now, empty, cut && took);
        if self.bounds.until_empty && empty && reading.complete && self.is_settled() {
            self.draining = true;
        }
    }

    /// Nothing waits to be written back.
    fn is_settled(&self) -> bool {
        self.batches.is_empty()
            && self.acked.is_empty()
            && self.settling.is_empty()
            && self.burials.is_empty()
            && self.burying.is_empty()
            && !self.woken
    }

    fn pace(&mut self, now: Duration, empty: bool, more: bool) {
        if !empty {
            self.idle_reads = 0;
        }
        let poll = self.bounds.poll_busy.saturating_mul(1 << self.idle_reads);
        if empty && poll < self.bounds.poll_idle {
            self.idle_reads = (self.idle_reads + 1).min(16);
        }
        let wait = if more || self.woken {
            Duration::ZERO
        } else {
            poll.min(self.bounds.poll_idle)
        };
        if more {
            self.read_not_before = now;
        }
        self.read_at = now + wait;
        if let Some(due) = self.retry_due(now) {
            self.read_at = self.read_at.min(due);
        }
    }

    fn has_room(&self, now: Duration) -> bool {
        let blocked = self.failing.values().filter(|failing| failing.until > now);
        let blocked = blocked.count() + self.burials.len() + self.burying.len();
        let unfinished = self.in_flight_rows() + self.acked.len() + self.settling.len();
        self.batches.len() < self.bounds.batches
            && unfinished < self.bounds.unfinished_rows
            && blocked + self.breakers.len() < self.bounds.failing_rows
    }

    fn work_query(&self, now: Duration) -> Query {
        let mut keys: BTreeSet<BlockedKey> = BTreeSet::new();
        let mut rows: BTreeSet<RowId> = BTreeSet::new();
        let in_flight = self.batches.values().flat_map(|batch| &batch.rows);
        let in_flight = in_flight.map(|row| (row.id, &row.lane));
        let failing = self.failing.iter().filter(|(_, one)| one.until > now);
        let failing = failing.map(|(id, one)| (*id, &one.lane));
        let given_up = self.burials.iter().chain(&self.burying);
        let given_up = given_up.map(|(id, (lane, _))| (*id, lane));
        for (id, lane) in in_flight.chain(failing).chain(given_up) {
            match &lane.key {
                Some(key) => {
                    keys.insert(BlockedKey {
                        destination: Arc::clone(&lane.destination),
                        key: Arc::clone(key),
                    });
                }
                None => {
                    rows.insert(id);
                }
            }
        }
        rows.extend(self.acked.iter().chain(&self.settling));
        let limit = self.bounds.batch_bytes / self.bytes_of_row.max(1);
        Query {
            floor: self.floor.proven,
            blocked_keys: keys.into_iter().collect(),
            excluded_rows: rows.into_iter().collect(),
            excluded_destinations: self.closed_destinations(now),
            hold_behind_dead: self.bounds.policy == KeyPolicy::Block,
            limit: limit.clamp(1, self.bounds.batch_rows),
        }
    }

    /// Destinations to which nothing is sent now: down and not to be tried yet, being tried, or busy enough.
    fn closed_destinations(&self, now: Duration) -> Vec<Arc<str>> {
        let mut closed: BTreeSet<&Arc<str>> = BTreeSet::new();
        for (destination, breaker) in &self.breakers {
            if breaker.open_until > now {
                closed.insert(destination);
            }
        }
        for batch in self.batches.values() {
            if self.batches_of(&batch.destination) >= self.batches_allowed(&batch.destination) {
                closed.insert(&batch.destination);
            }
        }
        closed.into_iter().cloned().collect()
    }

    fn batches_of(&self, destination: &Arc<str>) -> usize {
        let batches = self.batches.values();
        batches
            .filter(|batch| batch.destination == *destination)
            .count()
    }

    fn batches_allowed(&self, destination: &Arc<str>) -> usize {
        if self.breakers.contains_key(destination) {
            return 1;
        }
        self.bounds.batches_of_destination
    }

    /// Sends what may be sent of the rows found: of each lane its first rows without a gap. Answers whether any row was taken.
    fn take(&mut self, now: Duration, rows: Vec<Row>, effects: &mut Vec<Effect>) -> bool {
        let mut batches: BTreeMap<Arc<str>, (usize, Batch)> = BTreeMap::new();
        let mut started: BTreeSet<Lane> = BTreeSet::new();
        let mut stopped: BTreeSet<Lane> = BTreeSet::new();
        let mut buried = false;
        for row in rows {
            let keyed = row.lane.key.is_some();
            if keyed && stopped.contains(&row.lane) {
                continue;
            }
            let fits = self.fits(now, &row, &batches);
            let taken = Taken {
                id: row.id,
                lane: row.lane,
                attempts: row.attempts,
            };
            match row.fault {
                None if fits => {
                    if keyed {
                        started.insert(taken.lane.clone());
                    }
                    let destination = Arc::clone(&taken.lane.destination);
                    let (bytes, batch) = batches.entry(destination).or_insert_with_key(|name| {
                        let destination = Arc::clone(name);
                        let rows = Vec::new();
                        (0, Batch { destination, rows })
                    });
                    *bytes += row.bytes;
                    batch.rows.push(taken);
                    continue;
                }
                // What stands before it is sent first.
                Some(fault) if !started.contains(&taken.lane) => {
                    self.give_up(&taken, taken.attempts, fault);
                    buried = true;
                }
                _ => {}
            }
            if keyed {
                stopped.insert(taken.lane);
            }
        }
        let took = buried || !batches.is_empty();
        for (_, batch) in batches.into_values() {
            self.send(batch, effects);
        }
        took
    }

    fn fits(&self, now: Duration, row: &Row, batches: &BTreeMap<Arc<str>, (usize, Batch)>) -> bool {
        let destination = &row.lane.destination;
        let breaker = self.breakers.get(destination);
        let rows_max = match breaker {
            Some(breaker) if breaker.open_until > now => 0,
            Some(_) => self.bounds.probe_rows,
            None => self.bounds.batch_rows,
        };
        match batches.get(destination) {
            Some((bytes, batch)) => {
                batch.rows.len() < rows_max && bytes + row.bytes <= self.bounds.batch_bytes
            }
            None => {
                rows_max > 0
                    && self.batches.len() + batches.len() < self.bounds.batches
                    && self.batches_of(destination) < self.batches_allowed(destination)
            }
        }
    }
}

/// Nothing is left out but what is below a floor.
fn everything(floor: Option<RowId>, limit: usize) -> Query {
    Query {
        floor,
        blocked_keys: Vec::new(),
        excluded_rows: Vec::new(),
        excluded_destinations: Vec::new(),
        hold_behind_dead: false,
        limit,
    }
}
