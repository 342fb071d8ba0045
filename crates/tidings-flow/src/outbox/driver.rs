//! The shell around the step machine: does what it asks for, each call as a task of its own, and tells it what came of it. It decides nothing.

use super::metrics::RelayMetrics;
use super::notice::{RelayNotice, RelayPhase};
use super::relay::Relay;
use super::step::{BatchId, Effect, Found, Input, Lane, Query, Row, Step};
use super::verdict::{bounded, verdict};
use crate::runtime::Tasks;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tidings_core::broker::{Destination, PublishError, PublishOutcome};
use tidings_core::limits::RELAY_READ_GAP;
use tidings_core::seam::Clock;
use tidings_core::store::{
    HeldLease, LeaseAnswer, LeaseRequest, OutboxRow, OutboxStatus, OutboxStore, RowId, Shard,
    StoreError, UnsentQuery, UnsentRows,
};
use tidings_core::{Envelope, ErrorClass, Timestamp};
use tokio::sync::{Notify, watch};

/// Bytes that a row counts beside its payload.
const ROW_BYTES: usize = 512;

/// What the relay's task and its handles share.
pub(super) struct Shared {
    wake: Notify,
    drain: Notify,
    phase: watch::Sender<RelayPhase>,
    broken: AtomicBool,
    /// Why a relay that was to end by itself did so before the outbox was empty.
    failed: OnceLock<StoreError>,
    /// Held for a few additions at a time.
    metrics: Mutex<RelayMetrics>,
    clock: Arc<dyn Clock>,
}

impl Shared {
    pub(super) fn new(outbox: &str, shard: Shard, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            wake: Notify::new(),
            drain: Notify::new(),
            phase: watch::Sender::new(RelayPhase::Waiting),
            broken: AtomicBool::new(false),
            failed: OnceLock::new(),
            metrics: Mutex::new(RelayMetrics::new(outbox, shard)),
        }
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(super) fn ask_to_drain(&self) {
        self.drain.notify_one();
    }

    pub(super) fn end(&self) {
        self.lock().phase = RelayPhase::Ended;
        self.phase.send_replace(RelayPhase::Ended);
    }

    pub(super) fn phase(&self) -> RelayPhase {
        *self.phase.borrow()
    }

    pub(super) async fn reached(&self, phase: RelayPhase) {
        let mut phases = self.phase.subscribe();
        let wanted = |now: &RelayPhase| *now == phase || *now == RelayPhase::Ended;
        // The sender lives as long as this call.
        let _reached = phases.wait_for(wanted).await;
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    pub(super) fn failed(&self) -> Option<StoreError> {
        self.failed.get().cloned()
    }

    pub(super) fn metrics(&self) -> RelayMetrics {
        let mut metrics = self.lock().clone();
        metrics.grow_older(self.clock.elapsed());
        metrics
    }

    fn lock(&self) -> MutexGuard<'_, RelayMetrics> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call came to.
enum Done {
    Answer(Input),
    Leased(Result<LeaseAnswer, StoreError>),
    Read(Result<UnsentRows, StoreError>),
    Published(BatchId, Vec<PublishOutcome>),
    Status(Result<OutboxStatus, StoreError>),
}

/// A batch on its way.
struct Flight {
    destination: Arc<str>,
    created: Vec<Timestamp>,
    started: Duration,
}

pub(super) struct Driver {
    relay: Relay,
    shared: Arc<Shared>,
    owner: String,
    step: Step,
    calls: Tasks<Done>,
    effects: Vec<Effect>,
    flights: HashMap<BatchId, Flight>,
    read_asked: Duration,
    /// The clock of the database, and ours when it was asked.
    database_time: Option<(Timestamp, Duration)>,
    /// When to ask for the status next; nothing while it is asked.
    status_at: Option<Duration>,
}

impl Drop for Driver {
    /// However its task ends, those who wait for it are told.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.broken.store(true, Ordering::Release);
        }
        self.shared.end();
    }
}

impl Driver {
    pub(super) fn new(relay: Relay, shared: Arc<Shared>) -> Self {
        let now = relay.clock.elapsed();
        let random = relay.chance.next_u64();
        let mut bounds = relay.options.bounds();
        if !relay.store.ids_tell_order() {
            bounds.recent_keys = 0;
        }
        Self {
            owner: format!("{} ({random:016x})", relay.options.label),
            step: Step::new(bounds, now),
            shared,
            calls: Tasks::new(),
            effects: Vec::new(),
            flights: HashMap::new(),
            read_asked: now,
            database_time: None,
            status_at: Some(now),
            relay,
        }
    }

    /// Works until the machine has ended.
    pub(super) async fn run(mut self) {
        let store = Arc::clone(&self.relay.store);
        let clock = Arc::clone(&self.relay.clock);
        let shared = Arc::clone(&self.shared);
        let mut hint = Box::pin(next_hint(&*store, &*clock, false));
        self.tell(Input::Tick, HashMap::new());
        while self.step.phase() != RelayPhase::Ended {
            let now = clock.elapsed();
            let due = [self.step.due_next(now), self.status_at];
            let due = due.into_iter().flatten().min();
            let wait = due.map_or(Duration::ZERO, |due| due.saturating_sub(now));
            tokio::select! {
                biased;
                () = shared.drain.notified() => self.tell(Input::Drain, HashMap::new()),
                done = self.calls.join_next() => match done {
                    Some(done) => self.done(done),
                    None => {
                        shared.broken.store(true, Ordering::Release);
                        break;
                    }
                },
                () = shared.wake.notified() => self.tell(Input::Woken, HashMap::new()),
                () = &mut hint => {
                    hint.set(next_hint(&*store, &*clock, true));
                    self.tell(Input::Woken, HashMap::new());
                }
                () = clock.sleep(wait), if due.is_some() => self.tell(Input::Tick, HashMap::new()),
            }
            self.ask_status();
        }
    }

    fn done(&mut self, done: Done) {
        let (input, rows) = match done {
            Done::Answer(input) => (input, HashMap::new()),
            Done::Leased(answer) => {
                let answer = answer.map_err(|error| self.failed(error));
                (Input::Leased(answer.map(Into::into)), HashMap::new())
            }
            Done::Read(answer) => self.found(answer),
            Done::Published(batch, outcomes) => (self.outcomes(batch, outcomes), HashMap::new()),
            Done::Status(status) => {
                let now = self.now();
                self.status_at = Some(now + self.relay.options.status_interval);
                // What the database says of failures is told by the calls that matter.
                if let Ok(status) = status {
                    let believed = now + 2 * self.relay.options.status_interval;
                    self.shared.lock().stands(status, now, believed);
                }
                return;
            }
        };
        self.tell(input, rows);
    }

    /// The store does not let the relay begin or read. Who waits for its end would wait for ever where that does not pass by itself.
    fn failed(&self, error: StoreError) -> String {
        if self.relay.options.until_empty && error.class() == ErrorClass::Permanent {
            // Only the first of them is told.
            let _ = self.shared.failed.set(error.clone());
            self.shared.ask_to_drain();
        }
        said(error)
    }

    fn now(&self) -> Duration {
        self.relay.clock.elapsed()
    }

    /// Tells the machine what happened and does what follows; `rows` are those of the read that was just answered.
    fn tell(&mut self, input: Input, mut rows: HashMap<RowId, OutboxRow>) {
        let (now, random) = (self.now(), self.relay.chance.next_u64());
        let mut effects = std::mem::take(&mut self.effects);
        self.step.step(now, random, input, &mut effects);
        for effect in effects.drain(..) {
            self.perform(effect, &mut rows);
        }
        self.effects = effects;
        self.show();
    }

    /// Brings the figures that go up and down to where the machine is.
    fn show(&self) {
        let phase = self.step.phase();
        let mut metrics = self.shared.lock();
        metrics.phase = phase;
        metrics.lease_epoch = self.step.epoch();
        metrics.blocked_keys = self.step.blocked();
        metrics.in_flight_rows = self.step.in_flight_rows();
        if !metrics.breakers_open.is_empty() || self.step.down().next().is_some() {
            metrics.breakers_open = self.step.down().cloned().collect();
        }
        drop(metrics);
        // `Ended` is told once the loop is over.
        if phase != RelayPhase::Ended {
            self.shared.phase.send_if_modified(|told| {
                let changed = *told != phase;
                *told = phase;
                changed
            });
        }
    }

    fn perform(&mut self, effect: Effect, rows: &mut HashMap<RowId, OutboxRow>) {
        let store = Arc::clone(&self.relay.store);
        match effect {
            Effect::Lease => {
                let request = LeaseRequest {
                    shard: self.relay.options.shard,
                    owner: self.owner.clone(),
                    time_to_live: self.relay.options.lease(),
                };
                self.calls
                    .spawn(async move { Done::Leased(store.lease(&request).await) });
            }
            Effect::Release => {
                let (shard, owner) = (self.relay.options.shard, self.owner.clone());
                self.calls.spawn(async move {
                    let answer = store.release(shard, &owner).await;
                    Done::Answer(Input::Released(answer.map_err(said)))
                });
            }
            Effect::Read(query) => {
                self.read_asked = self.now();
                let query = self.unsent_query(query);
                self.calls
                    .spawn(async move { Done::Read(store.unsent(&query).await) });
            }
            Effect::Publish {
                batch,
                destination,
                rows: ids,
            } => self.publish(batch, destination, &ids, rows),
            Effect::Settle(rows) => self.calls.spawn(async move {
                let answer = store.settle(&rows).await;
                Done::Answer(Input::Settled(answer.map_err(said)))
            }),
            Effect::Note(failures) => {
                let lease = self.held_lease();
                self.calls.spawn(async move {
                    let answer = store.note_failures(&lease, &failures).await;
                    Done::Answer(Input::Noted(answer.map_err(said)))
                });
            }
            Effect::Bury(burials) => {
                let lease = self.held_lease();
                self.calls.spawn(async move {
                    let answer = store.bury(&lease, &burials).await;
                    Done::Answer(Input::Buried(answer.map_err(said)))
                });
            }
            Effect::Tell(notice) => self.notice(&notice),
            Effect::End => {}
        }
    }

    /// The lease as the machine has it now; without one, one that no store takes for held.
    fn held_lease(&self) -> HeldLease {
        HeldLease {
            shard: self.relay.options.shard,
            owner: self.owner.clone(),
            epoch: self.step.epoch().unwrap_or_default(),
        }
    }

    fn unsent_query(&self, query: Query) -> UnsentQuery {
        UnsentQuery {
            shard: self.relay.options.shard,
            floor: query.floor,
            blocked_keys: query.blocked_keys,
            excluded_rows: query.excluded_rows,
            excluded_destinations: query.excluded_destinations,
            hold_behind_dead: query.hold_behind_dead,
            limit: u32::try_from(query.limit).unwrap_or(u32::MAX),
        }
    }

    fn found(
        &mut self,
        answer: Result<UnsentRows, StoreError>,
    ) -> (Input, HashMap<RowId, OutboxRow>) {
        let unsent = match answer {
            Ok(unsent) => unsent,
            Err(error) => return (Input::Read(Err(self.failed(error))), HashMap::new()),
        };
        self.database_time = Some((unsent.now, self.read_asked));
        let rows = unsent.rows.iter().map(row_of).collect();
        let found = Found {
            rows,
            cut: unsent.cut,
            horizon: unsent.horizon,
        };
        let rows = unsent.rows.into_iter().map(|row| (row.id, row)).collect();
        (Input::Read(Ok(found)), rows)
    }

    fn publish(
        &mut self,
        batch: BatchId,
        destination: Arc<str>,
        ids: &[RowId],
        rows: &mut HashMap<RowId, OutboxRow>,
    ) {
        let mut created = Vec::with_capacity(ids.len());
        let mut envelopes = Vec::with_capacity(ids.len());
        for id in ids {
            // The machine sends rows of the read that it was just told, those with an event only.
            if let Some(OutboxRow {
                content: Ok(envelope),
                created_at,
                ..
            }) = rows.remove(id)
            {
                created.push(created_at);
                envelopes.push(envelope);
            }
        }
        let started = self.now();
        self.shared.lock().batch_rows = ids.len();
        let target = self.relay.named.get(&destination);
        let target = Arc::clone(target.unwrap_or(&self.relay.destination));
        let clock = Arc::clone(&self.relay.clock);
        let limit = self.relay.options.publish_timeout;
        self.calls.spawn(async move {
            Done::Published(
                batch,
                outcomes_of(&*target, &envelopes, &*clock, limit).await,
            )
        });
        let flight = Flight {
            destination,
            created,
            started,
        };
        self.flights.insert(batch, flight);
    }

    fn outcomes(&mut self, batch: BatchId, outcomes: Vec<PublishOutcome>) -> Input {
        if let Some(flight) = self.flights.remove(&batch) {
            let now = self.now();
            let database_now = self.database_time.map(|(time, asked)| {
                // Counted from when the database was asked: never shorter than it was.
                time.plus(now.saturating_sub(asked))
            });
            let mut metrics = self.shared.lock();
            metrics
                .publish_time
                .record(now.saturating_sub(flight.started));
            let mut accepted = 0;
            for (outcome, created) in outcomes.iter().zip(&flight.created) {
                if outcome.is_err() {
                    continue;
                }
                accepted += 1;
                if let Some(database_now) = database_now {
                    metrics.commit_to_ack.record(database_now.since(*created));
                }
            }
            metrics.count_published(&flight.destination, accepted);
        }
        Input::Published(batch, outcomes.into_iter().map(verdict).collect())
    }

    fn notice(&self, notice: &RelayNotice) {
        self.shared.lock().count(notice);
        if let Some(observer) = &self.relay.observer {
            observer(notice);
        }
    }

    /// Asks how the outbox stands when it is time; whoever has the lease.
    fn ask_status(&mut self) {
        if self.status_at.is_some_and(|at| at <= self.now()) {
            self.status_at = None;
            let store = Arc::clone(&self.relay.store);
            self.calls
                .spawn(async move { Done::Status(store.status().await) });
        }
    }
}

fn row_of(row: &OutboxRow) -> Row {
    let payload = row
        .content
        .as_ref()
        .map_or(0, |event| event.payload_bytes().len());
    Row {
        id: row.id,
        lane: Lane {
            destination: Arc::clone(&row.destination),
            key: row.key.clone(),
        },
        attempts: row.attempts,
        bytes: payload + ROW_BYTES,
        fault: row.content.as_ref().err().map(ToString::to_string),
    }
}

/// What the store says, with its code.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn said(error: StoreError) -> String {
    format!("{}: {}", error.code(), bounded(error.to_string()))
}

/// The outcomes of a batch, or that none came in time. What was handed over may still be accepted later; then it is there twice.
async fn outcomes_of(
    destination: &dyn Destination,
    envelopes: &[Envelope],
    clock: &dyn Clock,
    limit: Duration,
) -> Vec<PublishOutcome> {
    tokio::select! {
        biased;
        outcomes = destination.publish(envelopes) => outcomes,
        () = clock.sleep(limit) => {
            let timeout = || Err(PublishError::Timeout { limit });
            envelopes.iter().map(|_| timeout()).collect()
        }
    }
}

/// Ends when another process seems to have committed something. A hint that comes without end is slowed down.
async fn next_hint(store: &dyn OutboxStore, clock: &dyn Clock, again: bool) {
    if again {
        clock.sleep(RELAY_READ_GAP).await;
    }
    match store.watch() {
        Some(hint) => hint.await,
        None => std::future::pending().await,
    }
}
