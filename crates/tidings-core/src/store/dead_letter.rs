//! The port of what persons see and decide of dead letters and of what waits to be retried: looks, redrives, edits, discards, pauses, each with who, why and when.
//!
//! A redriven event is a parked delivery that is due now, so that the consumer of its group, in whatever process, finds it at its next look, also when it starts
//! later. Beside it [`FailureStore`](super::FailureStore) is what the consumer does.

use super::{FailedAttempt, LaneId, OpenCircuit, ParkedDelivery, StoreError};
use crate::{BoxFuture, Envelope, Pattern, Timestamp};
use std::fmt;
use std::str::FromStr;

/// Where a dead letter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LetterStatus {
    /// It waits for a person.
    Open,
    /// It was handed back to its group and is not handled yet.
    Redriven,
    /// Its group handled it after all.
    Resolved,
    /// A person gave it up for good.
    Discarded,
    /// An edited copy was handed to its group in its place.
    Edited,
}

impl LetterStatus {
    /// Every status.
    pub const ALL: [Self; 5] = [
        Self::Open,
        Self::Redriven,
        Self::Resolved,
        Self::Discarded,
        Self::Edited,
    ];

    /// The word for people and for stores.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Redriven => "redriven",
            Self::Resolved => "resolved",
            Self::Discarded => "discarded",
            Self::Edited => "edited",
        }
    }
}

impl fmt::Display for LetterStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LetterStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|status| status.as_str() == text).ok_or_else(|| {
            let words = Self::ALL.map(Self::as_str).join(", ");
            format!("{text:?} is no status of a dead letter; those are {words}")
        })
    }
}

/// A dead letter as a store keeps it.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Its number; larger is newer, and it stays when the event dies again.
    pub number: i64,
    /// Names the dead letter.
    pub id: String,
    /// The group that gave the event up.
    pub group: String,
    /// The lane that it belongs to.
    pub lane: LaneId,
    /// The event, or for a message that is none, what carries its bytes.
    pub envelope: Envelope,
    /// Why the message is no event, if it is none.
    pub problem: Option<String>,
    /// Where the event stands, on a broker with a total order.
    pub position: Option<u64>,
    /// The handler that failed; empty where none was asked.
    pub handler: String,
    /// The version of the code that gave it up; empty if it was not told.
    pub code_version: String,
    /// Why it was given up, in one word.
    pub cause: String,
    /// Why the last attempt failed: the outermost message first.
    pub reasons: Vec<String>,
    /// Names the failure: equal for errors that differ in numbers and ids alone.
    pub fingerprint: String,
    /// Attempts at its last death.
    pub attempts: u32,
    /// How often it was put off until later before its last death.
    pub rounds: u32,
    /// How often it died.
    pub deaths: u32,
    /// The first attempt that failed and the newest ones.
    pub history: Vec<FailedAttempt>,
    /// Whether later events of the key wait for a decision.
    pub holds: bool,
    /// Where it stands.
    pub status: LetterStatus,
    /// How often it was handed back.
    pub redrives: u32,
    /// When the first attempt failed.
    pub first_failed: Option<Timestamp>,
    /// When it died first, by the store's clock.
    pub first_died: Timestamp,
    /// When it died last, by the store's clock.
    pub died: Timestamp,
    /// When it was last changed, by the store's clock.
    pub changed: Timestamp,
    /// The edited copy that stands for the event.
    pub edited: Option<Envelope>,
    /// Who decided last.
    pub decided_by: Option<String>,
    /// Why.
    pub decided_why: Option<String>,
}

/// Which dead letters; everything that is left out restricts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// Ids of events or of dead letters.
    pub ids: Vec<String>,
    /// The group that gave them up.
    pub group: Option<String>,
    /// Their types.
    pub types: Vec<Pattern>,
    /// The error cluster: the [fingerprint](Letter::fingerprint).
    pub cluster: Option<String>,
    /// Their key or aggregate id.
    pub key: Option<String>,
    /// Died at this time or later.
    pub since: Option<Timestamp>,
    /// Died before this time.
    pub until: Option<Timestamp>,
    /// Where they stand.
    pub statuses: Vec<LetterStatus>,
}

/// Dead letters that are alike: same failure, same group, same type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterCluster {
    /// The [fingerprint](Letter::fingerprint).
    pub fingerprint: String,
    /// The group.
    pub group: String,
    /// The type of the events.
    pub event_type: String,
    /// Why the newest of them failed.
    pub reason: String,
    /// How many there are.
    pub count: u64,
    /// When the first of them died.
    pub first: Timestamp,
    /// When the last of them died.
    pub last: Timestamp,
    /// How often the one that was handed back most often was handed back.
    pub redrives: u32,
}

/// How many dead letters stand alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterTally {
    /// The group.
    pub group: String,
    /// Where they stand.
    pub status: LetterStatus,
    /// How often they were handed back.
    pub redrives: u32,
    /// How many.
    pub count: u64,
    /// When the oldest of them died.
    pub oldest: Timestamp,
    /// When the newest of them died.
    pub newest: Timestamp,
}

/// Who decides, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// A person or a program.
    pub actor: String,
    /// The reason, for those who look later.
    pub reason: String,
}

/// A decision that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorAction {
    /// When, by the store's clock.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What: `redrive`, `edit`, `discard`, `take_over`, `retry_now`, `pause`, `resume`; `reset` and `rm` of groups; `schedule_cancel` and `schedule_move`. An import
    /// is a `take_over`, and a skip a `discard`.
    pub action: String,
    /// The group.
    pub group: Option<String>,
    /// Which dead letter, event, group or scheduled event.
    pub target: String,
    /// Why.
    pub reason: String,
    /// What else is known, as JSON.
    pub detail: String,
}

/// A dead letter about to be decided on.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The id of the dead letter.
    pub letter: String,
    /// How it was found: nothing happens if it stands elsewhere by now.
    pub status: LetterStatus,
    /// How often it had been handed back when it was found: nothing happens if that was done meanwhile.
    pub redrives: u32,
    /// The fact to publish: it goes into the outbox of the same transaction.
    pub fact: Envelope,
}

/// What became of dead letters that one run handed back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RedriveOutcome {
    /// Not handled yet.
    pub waiting: u64,
    /// Handled.
    pub resolved: u64,
    /// Given up again.
    pub failed: u64,
}

/// A delivery that waits, as persons see it.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The group.
    pub group: String,
    /// The delivery.
    pub delivery: ParkedDelivery,
    /// When it was parked, by the store's clock.
    pub parked: Timestamp,
}

/// Which deliveries that wait; everything that is left out restricts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaitingFilter {
    /// Ids of events.
    pub ids: Vec<String>,
    /// The group.
    pub group: Option<String>,
    /// Their key.
    pub key: Option<String>,
    /// Only the first of each lane that waits for a time.
    pub due_only: bool,
}

/// A group as persons left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PausedGroup {
    /// The group.
    pub group: String,
    /// Why it is paused.
    pub reason: String,
    /// Since when, by the store's clock.
    pub since: Timestamp,
}

/// A dead letter that comes from elsewhere: from a fact that an earlier version put on the log, or from the dead-letter queue of another product.
#[derive(Debug, Clone)]
pub struct ForeignLetter {
    /// Names the dead letter; the same at every take-over.
    pub id: String,
    /// The group that is to get the event when it is redriven.
    pub group: String,
    /// The event, and what was tried.
    pub delivery: ParkedDelivery,
    /// The handler that failed; empty where that is not known.
    pub handler: String,
    /// Why: the outermost message first.
    pub reasons: Vec<String>,
    /// Names the failure.
    pub fingerprint: String,
    /// Why it was given up, in one word.
    pub cause: String,
    /// When it died.
    pub died: Timestamp,
}

/// What persons see and decide of dead letters and of what waits to be retried.
///
/// **Guarantee**: a decision, its record with who, why and when, and the fact about it become true together, and are durable when it is answered. Times count by
/// the store's own clock.
///
/// **Source**: seed concept *dead letter topic*.
pub trait DeadLetterStore: Send + Sync {
    /// The name of the store for people and metrics, without credentials.
    fn name(&self) -> &str;

    /// Dead letters in the order of their numbers, those behind `after`, at most so many.
    fn letters<'a>(
        &'a self,
        filter: &'a LetterFilter,
        after: i64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Letter>, StoreError>>;

    /// Clusters of dead letters, the one with the newest death first, at most so many.
    fn clusters<'a>(
        &'a self,
        filter: &'a LetterFilter,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<LetterCluster>, StoreError>>;

    /// How many there are of those behind `after`, by group, status and number of redrives.
    fn tally<'a>(
        &'a self,
        filter: &'a LetterFilter,
        after: i64,
    ) -> BoxFuture<'a, Result<Vec<LetterTally>, StoreError>>;

    /// Hands dead letters back to the groups that gave them up, and to them only; answers the ids of those that it handed back. Each is due at once if nothing of
    /// its key is before it.
    ///
    /// **Guarantee**: of calls at the same time one hands back, the others do not. `run` names what [`outcome`](Self::outcome) is asked of.
    ///
    /// **Errors**: an [ambiguous](StoreError::may_have_happened) one may be answered by the same call again.
    ///
    /// **Cancel**: all of it happens or nothing.
    fn redrive<'a>(
        &'a self,
        verdicts: &'a [Verdict],
        run: &'a str,
        operator: &'a Operator,
    ) -> BoxFuture<'a, Result<Vec<String>, StoreError>>;

    /// What became of those that a run handed back.
    fn outcome<'a>(&'a self, run: &'a str) -> BoxFuture<'a, Result<RedriveOutcome, StoreError>>;

    /// Gives dead letters up for good and lets go on what waits behind them; answers the ids of those that it discarded. A replay passes over them.
    ///
    /// **Errors**, **Cancel**: as [`redrive`](Self::redrive).
    fn discard<'a>(
        &'a self,
        verdicts: &'a [Verdict],
        operator: &'a Operator,
    ) -> BoxFuture<'a, Result<Vec<String>, StoreError>>;

    /// Hands an edited copy to the group in the place of the event, and keeps both; answers whether it did. A replay handles the copy.
    ///
    /// **Errors**, **Cancel**: as [`redrive`](Self::redrive).
    fn edit<'a>(
        &'a self,
        verdict: &'a Verdict,
        copy: &'a Envelope,
        operator: &'a Operator,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Takes over dead letters from elsewhere, each once; answers how many were new.
    ///
    /// **Errors**, **Cancel**: as [`redrive`](Self::redrive).
    fn take_over<'a>(
        &'a self,
        letters: &'a [ForeignLetter],
        operator: &'a Operator,
    ) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// How far a source of dead letters has been taken over.
    fn taken_up_to<'a>(&'a self, source: &'a str)
    -> BoxFuture<'a, Result<Option<u64>, StoreError>>;

    /// Notes how far a source of dead letters has been taken over.
    fn note_taken<'a>(
        &'a self,
        source: &'a str,
        up_to: u64,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// What was decided about a dead letter or a group, oldest first, at most so many.
    fn actions<'a>(
        &'a self,
        target: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<OperatorAction>, StoreError>>;

    /// Deliveries that wait, in the order in which they were parked, those behind `after`, at most so many.
    fn waiting<'a>(
        &'a self,
        filter: &'a WaitingFilter,
        after: i64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<Waiting>, StoreError>>;

    /// Makes the deliveries that wait for a time due now; answers how many.
    fn retry_now<'a>(
        &'a self,
        filter: &'a WaitingFilter,
        operator: &'a Operator,
    ) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Groups that are paused.
    fn paused(&self) -> BoxFuture<'_, Result<Vec<PausedGroup>, StoreError>>;

    /// How the circuit of a group stands, as an instance of it told last; `None` if it is closed, or nobody told.
    fn circuit<'a>(
        &'a self,
        group: &'a str,
    ) -> BoxFuture<'a, Result<Option<OpenCircuit>, StoreError>>;

    /// Pauses a group, or lets it go on; answers whether that changed anything. A consumer that runs obeys at its next look.
    fn set_paused<'a>(
        &'a self,
        group: &'a str,
        paused: bool,
        operator: &'a Operator,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;
}
