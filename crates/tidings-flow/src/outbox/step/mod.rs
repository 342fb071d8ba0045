//! One shard's relay as a pure step machine: it waits for nothing, reads no clock, and knows rows by their ids only.
//!
//! What happened is told to [`Step::step`] (an answer of the store, outcomes of a batch, a time, a wake); what is to be done comes back as effects. The shell
//! around it is in `relay.rs`, and the same machine is explored exhaustively in `explore.rs`.

mod call;
#[cfg(test)]
mod explore;
mod failing;
mod floor;
mod lease;
mod publish;
mod read;
mod settle;

use super::notice::RelayNotice as Told;
use super::notice::RelayPhase;
pub(super) use super::notice::RetryClass;
use super::options::KeyPolicy;
pub(super) use call::Backoff;
use call::{Call, Calls};
use failing::{Breaker, Failing};
use floor::Floor;
use lease::Lease;
use publish::Batch;
use read::Reading;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tidings_core::store::{BlockedKey, Burial, Failure, Horizon, LeaseAnswer, RowId};

/// Numbers of a step machine; all of them come from [`RelayOptions`](super::RelayOptions) and the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Bounds {
    pub(super) time_to_live: Duration,
    pub(super) margin: Duration,
    pub(super) lease_poll: Duration,
    pub(super) poll_busy: Duration,
    pub(super) poll_idle: Duration,
    pub(super) read_gap: Duration,
    pub(super) sweep_interval: Duration,
    pub(super) floor_interval: Duration,
    pub(super) backoff: Backoff,
    pub(super) store_backoff: Backoff,
    pub(super) attempts_max: u32,
    pub(super) batch_rows: usize,
    pub(super) batch_bytes: usize,
    pub(super) batches: usize,
    pub(super) batches_of_destination: usize,
    pub(super) probe_rows: usize,
    pub(super) settle_rows: usize,
    pub(super) unfinished_rows: usize,
    pub(super) failing_rows: usize,
    /// Keys whose newest row is remembered; none where ids do not tell the order of rows.
    pub(super) recent_keys: usize,
    pub(super) policy: KeyPolicy,
    pub(super) until_empty: bool,
}

/// What the machine knows of a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub(super) id: RowId,
    pub(super) lane: Lane,
    pub(super) attempts: u32,
    pub(super) bytes: usize,
    /// Why it holds no event, if so.
    pub(super) fault: Option<String>,
}

/// What order is kept within: one key on its way to one destination, or a single row without a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Lane {
    pub(super) destination: Arc<str>,
    pub(super) key: Option<Arc<str>>,
}

/// What became of one row of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Verdict {
    /// The destination has it.
    Accepted,
    /// The event will never be accepted.
    Rejected(String),
    /// The destination speaks of this event, and it may be accepted later.
    Failed(String),
    /// It is unknown whether the destination has it.
    Unclear(String),
    /// The destination is in trouble itself.
    Down(String),
    /// An earlier one of its batch failed.
    NotAttempted,
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Found {
    pub(super) rows: Vec<Row>,
    pub(super) cut: bool,
    pub(super) horizon: Option<Horizon>,
}

/// Names a batch on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BatchId(pub(super) u32);

/// A store did not do it; the text is for people.
pub(super) type Done<T> = Result<T, String>;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Input {
    /// A time that was waited for has come, or any other.
    Tick,
    /// Something may have been committed.
    Woken,
    /// Finish what is in flight, settle, release, end.
    Drain,
    Leased(Done<Leased>),
    Released(Done<()>),
    Read(Done<Found>),
    Published(BatchId, Vec<Verdict>),
    Settled(Done<()>),
    Noted(Done<()>),
    Buried(Done<()>),
}

/// The answer to a request for the lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Leased {
    Held { epoch: u64 },
    Other { owner: String, expires_in: Duration },
}

impl From<LeaseAnswer> for Leased {
    fn from(answer: LeaseAnswer) -> Self {
        match answer {
            LeaseAnswer::Held { epoch } => Self::Held { epoch },
            LeaseAnswer::HeldByOther { owner, expires_in } => Self::Other { owner, expires_in },
        }
    }
}

/// Which rows to read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Query {
    pub(super) floor: Option<RowId>,
    pub(super) blocked_keys: Vec<BlockedKey>,
    pub(super) excluded_rows: Vec<RowId>,
    pub(super) excluded_destinations: Vec<Arc<str>>,
    pub(super) hold_behind_dead: bool,
    pub(super) limit: usize,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Effect {
    /// Take or keep the lease.
    Lease,
    /// Give the lease back.
    Release,
    Read(Query),
    /// Rows of the read that was just answered.
    Publish {
        batch: BatchId,
        destination: Arc<str>,
        rows: Vec<RowId>,
    },
    Settle(Vec<RowId>),
    Note(Vec<Failure>),
    Bury(Vec<Burial>),
    /// For people and metrics; changes nothing.
    Tell(Told),
    /// It has ended.
    End,
}

/// The state of one shard's relay. Times are due times by the monotonic clock of the shell.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Step {
    bounds: Bounds,
    lease: Lease,
    calls: Calls,
    reading: Option<Reading>,
    /// Something was committed while a read was on its way.
    woken: bool,
    read_at: Duration,
    read_not_before: Duration,
    idle_reads: u32,
    bytes_of_row: usize,
    floor: Floor,
    batches: BTreeMap<BatchId, Batch>,
    /// Accepted, and not known to be settled.
    acked: BTreeSet<RowId>,
    settling: Vec<RowId>,
    notes: BTreeMap<RowId, Failure>,
    noting: Vec<Failure>,
    burials: BTreeMap<RowId, (Lane, Burial)>,
    burying: BTreeMap<RowId, (Lane, Burial)>,
    failing: BTreeMap<RowId, Failing>,
    breakers: BTreeMap<Arc<str>, Breaker>,
    /// Rows with an unknown outcome; published again, they may be there twice.
    unclear: BTreeSet<RowId>,
    recent: read::Recent,
    draining: bool,
    ended: bool,
}

impl Step {
    /// A relay that begins at the time `now`.
    pub(super) fn new(bounds: Bounds, now: Duration) -> Self {
        Self {
            bounds,
            lease: Lease::new(now),
            calls: Calls::new(now),
            reading: None,
            woken: false,
            read_at: now,
            read_not_before: now,
            idle_reads: 0,
            bytes_of_row: read::BYTES_OF_ROW_GUESS,
            floor: Floor::new(now),
            batches: BTreeMap::new(),
            acked: BTreeSet::new(),
            settling: Vec::new(),
            notes: BTreeMap::new(),
            noting: Vec::new(),
            burials: BTreeMap::new(),
            burying: BTreeMap::new(),
            failing: BTreeMap::new(),
            breakers: BTreeMap::new(),
            unclear: BTreeSet::new(),
            recent: read::Recent::default(),
            draining: false,
            ended: false,
        }
    }

    /// Takes what happened at the time `now`; `random` are bits for jitter. What follows from it is added to `effects`.
    pub(super) fn step(
        &mut self,
        now: Duration,
        random: u64,
        input: Input,
        effects: &mut Vec<Effect>,
    ) {
        if self.ended {
            return;
        }
        self.notice_lost_lease(now, effects);
        match input {
            Input::Tick => {}
            Input::Woken => self.woken(now),
            Input::Drain => self.draining = true,
            Input::Leased(answer) => self.leased(now, random, answer, effects),
            Input::Released(answer) => self.released(now, random, answer, effects),
            Input::Read(answer) => self.read(now, random, answer, effects),
            Input::Published(batch, verdicts) => {
                self.published(now, random, batch, &verdicts, effects);
            }
            Input::Settled(answer) => self.settled(now, random, answer, effects),
            Input::Noted(answer) => self.noted(now, random, answer, effects),
            Input::Buried(answer) => self.buried(now, random, answer, effects),
        }
        self.plan(now, effects);
    }

    /// When to tell the time next, if nothing else happens before.
    pub(super) fn due_next(&self, now: Duration) -> Option<Duration> {
        if self.ended {
            return None;
        }
        let lease = (!self.calls.lease.busy && self.wants_lease())
            .then_some(self.lease.ask_at.max(self.calls.lease.not_before));
        let read = self.read_due(now);
        let waiting = |call: &Call, wanted: bool| (!call.busy && wanted).then_some(call.not_before);
        [
            lease,
            self.lease.publish_until(),
            read,
            waiting(&self.calls.settle, !self.acked.is_empty()),
            waiting(&self.calls.note, !self.notes.is_empty()),
            waiting(&self.calls.bury, !self.burials.is_empty()),
            waiting(&self.calls.release, self.may_release()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn phase(&self) -> RelayPhase {
        match (self.ended, self.draining, self.lease.is_held()) {
            (true, _, _) => RelayPhase::Ended,
            (false, true, _) => RelayPhase::Draining,
            (false, false, true) => RelayPhase::Relaying,
            (false, false, false) => RelayPhase::Waiting,
        }
    }

    pub(super) fn epoch(&self) -> Option<u64> {
        self.lease.epoch()
    }

    /// Keys that wait for a later attempt, and rows without a key that do.
    pub(super) fn blocked(&self) -> usize {
        self.failing.len() + self.burials.len() + self.burying.len()
    }

    /// Destinations that are not tried before a time.
    pub(super) fn down(&self) -> impl Iterator<Item = &Arc<str>> {
        self.breakers
            .iter()
            .filter(|(_, breaker)| breaker.is_down())
            .map(|(destination, _)| destination)
    }

    pub(super) fn in_flight_rows(&self) -> usize {
        self.batches.values().map(|batch| batch.rows.len()).sum()
    }

    fn plan(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        self.plan_lease(now, effects);
        self.plan_settle(now, effects);
        self.plan_read(now, effects);
        self.plan_end(now, effects);
    }
}
