//! The port of what a group could not handle yet: deliveries parked until later, attempts that failed, dead letters. One store holds all three, because they change together.
//!
//! A lane is the deliveries of one key in one group. While a lane has rows here, they are what is handled next, oldest first, and whatever arrives for the key is
//! parked behind them; so nothing overtakes. The first row of a lane is its *head*: it is due at a time, or held by its dead letter until a person decides.

use super::StoreError;
use crate::{BoxFuture, DedupeKey, Envelope, Timestamp};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Names a lane in a store: a hash of the key, or of the event where it has no key and is its own lane. It repeats in every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(Uuid);

/// The namespace of lanes; it must never change.
const LANES: Uuid = Uuid::from_u128(0x8f1d_63a2_5c0e_4b7a_9a44_2e61_70c3_d5b9);

impl LaneId {
    /// The lane of an event.
    pub fn of(envelope: &Envelope) -> Self {
        match envelope.key() {
            Some(key) => Self::of_key(&key),
            None => Self(Uuid::from_bytes(*DedupeKey::of(envelope).as_bytes())),
        }
    }

    /// The lane of a key.
    pub fn of_key(key: &str) -> Self {
        Self(Uuid::new_v5(&LANES, key.as_bytes()))
    }

    /// Reads what [`Display`](fmt::Display) has written; `None` if it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// The number of a parked delivery; larger is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParkedId(pub i64);

/// A parked delivery as somebody fetched it: what is changed of it is changed only while it is still that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ParkedRow {
    /// Its number.
    pub id: ParkedId,
    /// Its event: a person may have put a copy in the place of it.
    pub event: DedupeKey,
    /// The epoch of the lead under which it was fetched; zero where nobody leads.
    pub lead: u64,
}

/// One attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedAttempt {
    /// Which attempt, from 1.
    pub attempt: u32,
    /// When it failed.
    pub at: Timestamp,
    /// Why: the messages of the error and its causes.
    pub error: String,
}

/// A delivery as a store keeps it.
#[derive(Debug, Clone)]
pub struct ParkedDelivery {
    /// Its number; zero before it is parked.
    pub id: ParkedId,
    /// The epoch of the lead under which it was fetched; zero where nobody leads.
    pub lead: u64,
    /// Its lane.
    pub lane: LaneId,
    /// The event, or for a message that is none, what carries its bytes.
    pub envelope: Envelope,
    /// Why the message is no event, if it is none.
    pub problem: Option<Arc<str>>,
    /// Where the event stands, on a broker with a total order.
    pub position: Option<u64>,
    /// Attempts that failed so far, since it was delivered or handed back.
    pub attempts: u32,
    /// How often it was put off until later.
    pub rounds: u32,
    /// How often it died before in this group.
    pub deaths: u32,
    /// The first attempt that failed and the newest ones.
    pub history: Vec<FailedAttempt>,
    /// When it is tried; `None` for a row behind another, and for one that is held by its dead letter.
    pub due: Option<Timestamp>,
    /// Its dead letter, where it has one: it is held by it, or was handed back by it.
    pub letter: Option<String>,
}

impl ParkedDelivery {
    /// What a change of it names.
    pub fn row(&self) -> ParkedRow {
        ParkedRow {
            id: self.id,
            event: DedupeKey::of(&self.envelope),
            lead: self.lead,
        }
    }
}

/// A dead letter about to be recorded.
#[derive(Debug, Clone)]
pub struct DeathRecord {
    /// Names the dead letter; it stays the same when the event dies again in the same group.
    pub id: String,
    /// The event, and what was tried.
    pub delivery: ParkedDelivery,
    /// The handler that failed; empty where none was asked.
    pub handler: String,
    /// Why: the outermost message first.
    pub reasons: Vec<String>,
    /// Names the failure: equal for errors that differ in numbers and ids alone.
    pub fingerprint: String,
    /// Why it was given up.
    pub cause: DeathCause,
    /// Whether later events of the key wait for a person's decision.
    pub holds: bool,
    /// The version of the code that gave it up; empty if it was not told.
    pub code_version: String,
    /// The fact to publish: it goes into the outbox of the same transaction.
    pub fact: Envelope,
}

/// Why an event was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeathCause {
    /// Every attempt failed.
    Attempts,
    /// The handler called the failure permanent.
    Permanent,
    /// The message is no event, or its payload does not decode.
    Unreadable,
    /// It became too old to be tried again.
    Age,
    /// The process died with it, time and again.
    Crash,
    /// It was handed back or parked, and no handler of the group wants its type.
    Unwanted,
}

impl DeathCause {
    /// The word for people and for stores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Permanent => "permanent",
            Self::Unreadable => "unreadable",
            Self::Age => "age",
            Self::Crash => "crash",
            Self::Unwanted => "unwanted",
        }
    }
}

/// A change of what a group could not handle yet.
#[derive(Debug, Clone)]
pub enum FailureChange {
    /// An attempt failed or is about to be risked: the count is kept across the end of the process.
    Attempted {
        /// The event.
        event: DedupeKey,
        /// Attempts so far.
        attempts: u32,
    },
    /// The event was handled or parked: its count is forgotten.
    Succeeded {
        /// The event.
        event: DedupeKey,
    },
    /// Puts deliveries of one lane at its end, in their order. One that the group has parked already is not put there twice.
    Park {
        /// The deliveries; their numbers are given by the store.
        deliveries: Vec<ParkedDelivery>,
        /// When the first of them is tried again, counted from now by the store's clock; `None` where it stands behind others. If nothing is there any more to stand behind, it is due at once.
        due_in: Option<Duration>,
    },
    /// The head of a lane failed again and is put off.
    Postpone {
        /// Which one.
        row: ParkedRow,
        /// Attempts so far.
        attempts: u32,
        /// How often it was put off, this time included.
        rounds: u32,
        /// The attempts that failed.
        history: Vec<FailedAttempt>,
        /// When it is tried again, counted from now by the store's clock.
        due_in: Duration,
    },
    /// A parked delivery was handled; a dead letter of its that was handed back is resolved. The next of its lane is due at once.
    Finish {
        /// Which one.
        row: ParkedRow,
    },
    /// A delivery was given up. One that was parked leaves its row, unless it holds its lane; one that was not gets a row if it holds.
    Bury(Box<DeathRecord>),
}

/// What a store knows of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedLane {
    /// Which lane.
    pub lane: LaneId,
    /// Its rows.
    pub rows: u64,
    /// Whether it is held by a dead letter that nobody has decided about; false where lanes that are due are told.
    pub held: bool,
    /// How long ago its oldest row was parked, by the store's clock; `None` where lanes that are due are told.
    pub oldest: Option<Duration>,
}

/// What a person decided of an event in a group, so that a replay does not meet the old poison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It was discarded: the group passes over it.
    Discarded,
    /// An edited copy stands for it: the copy is handled in its place.
    Edited(Box<Envelope>),
}

/// What a group finds when it starts.
#[derive(Debug, Clone, Default)]
pub struct FailureState {
    /// Lanes with rows.
    pub lanes: Vec<ParkedLane>,
    /// Attempts of events that were not settled when they were noted.
    pub attempts: HashMap<DedupeKey, u32>,
    /// What persons decided.
    pub decisions: HashMap<DedupeKey, Decision>,
    /// What [`Due::decided`] was before they were read.
    pub decided: String,
}

/// What is to be done now.
#[derive(Debug, Clone, Default)]
pub struct Due {
    /// Lanes whose head is due, the longest due first.
    pub lanes: Vec<ParkedLane>,
    /// How long until the next head is due; `None` if none waits for a time.
    pub next_in: Option<Duration>,
    /// Why the group is paused, if a person paused it.
    pub paused: Option<String>,
    /// Differs from before once persons have decided something, of this group or another; it tells nothing else.
    pub decided: String,
}

/// A circuit of a group that is not closed: nearly everything fails, and the group waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCircuit {
    /// Since when, by the clock of the process that told.
    pub since: Timestamp,
    /// When one event is tried; `None` while one is.
    pub probe_at: Option<Timestamp>,
    /// The last failure.
    pub reason: String,
}

/// What keeps what groups could not handle yet.
///
/// **Guarantee**: a change is durable when it is answered. Times count by the store's own clock, so that nothing is early where clocks differ.
///
/// **Source**: seed concept *dead letter topic*.
pub trait FailureStore: Send + Sync {
    /// The name of the store for people and metrics, without credentials.
    fn name(&self) -> &str;

    /// Whether instances on several machines can share it.
    fn is_shared(&self) -> bool;

    /// What is there for a group. Asked at its start, and whenever a scope is assigned to it.
    fn state<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<FailureState, StoreError>>;

    /// Makes changes in their order, all of them or none, and answers the indexes of those that came to nothing.
    ///
    /// **Guarantee**: what changes a parked row comes to nothing, without an error, where the row is gone or has another event by now. So does putting off and giving up a row that was fetched
    /// under a [lead](Self::lead) that is over: its new leader decides. That it was handled counts whoever says so.
    ///
    /// **Errors**: an [ambiguous](StoreError::may_have_happened) one may be answered by making the same changes again.
    ///
    /// **Cancel**: they are made or not.
    fn apply<'a>(
        &'a self,
        group: &'a str,
        changes: &'a [FailureChange],
    ) -> BoxFuture<'a, Result<Vec<usize>, StoreError>>;

    /// What persons decided of events of a group, for one that runs and learns that they decided something.
    fn decisions<'a>(
        &'a self,
        group: &'a str,
    ) -> BoxFuture<'a, Result<HashMap<DedupeKey, Decision>, StoreError>> {
        Box::pin(async move { Ok(self.state(group).await?.decisions) })
    }

    /// Which lanes are due, at most so many.
    fn due<'a>(&'a self, group: &'a str, limit: u32) -> BoxFuture<'a, Result<Due, StoreError>>;

    /// The oldest rows of a lane, at most so many.
    fn rows<'a>(
        &'a self,
        group: &'a str,
        lane: LaneId,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<ParkedDelivery>, StoreError>>;

    /// Asks for the lead of a group, and answers its epoch, which grows with each change of the leader; `None` while another instance has it. Who leads picks up what is due: one at a time does, so that nobody handles a key of another one. It stays so for the lease, counted by the store's clock, and as long as it is
    /// asked for again. A store of one machine, whose groups have one instance, need not ask.
    fn lead<'a>(
        &'a self,
        _group: &'a str,
        _owner: &'a str,
        _lease: Duration,
    ) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        Box::pin(async { Ok(Some(0)) })
    }

    /// Notes how the circuit of a group stands, for persons and other processes to see: `None` once it is closed. Of several instances the last one that tells is shown.
    ///
    /// A store that shows nothing need not keep it.
    fn tell_circuit<'a>(
        &'a self,
        _group: &'a str,
        _circuit: Option<&'a OpenCircuit>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    /// Notes how often a group tries an event at most, in place and later, for persons to see how far one has come; 0 where that depends on the error, which may have a policy of its own. Told with the first failure after its start; of several instances the last one that tells is
    /// shown.
    ///
    /// A store that shows nothing need not keep it.
    fn tell_attempts_max<'a>(
        &'a self,
        _group: &'a str,
        _attempts: u32,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    /// How often a group gave each of some events up before: one number for each, in their order.
    fn deaths<'a>(
        &'a self,
        group: &'a str,
        events: &'a [DedupeKey],
    ) -> BoxFuture<'a, Result<Vec<u32>, StoreError>>;
}
