//! The port of events that are published later: at a time, or again and again.

use super::StoreError;
use crate::{BoxFuture, Envelope, Timestamp};
use std::time::Duration;

/// When a recurring event comes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recurrence {
    /// A cron expression: five fields, or six with seconds first.
    pub cron: String,
    /// The time zone in which it counts, by its IANA name.
    pub time_zone: String,
}

/// An event that waits for its time.
#[derive(Debug, Clone)]
pub struct ScheduledEvent {
    /// Names it; a second one with this id is not taken.
    pub id: String,
    /// When it is published next.
    pub due: Timestamp,
    /// When it comes again after that; `None` for once.
    pub recurrence: Option<Recurrence>,
    /// The event. What is published has the time at which it fires, and each time of a recurring one an id of its own.
    pub event: Envelope,
    /// How often it has fired.
    pub fired: u64,
    /// When it fired last.
    pub fired_last: Option<Timestamp>,
}

/// What is to be published now.
#[derive(Debug, Clone)]
pub struct DueEvents {
    /// What time it is for the store, which decides what is due.
    pub now: Timestamp,
    /// What is due, the longest due first.
    pub events: Vec<ScheduledEvent>,
    /// How long until the next one is; `None` if none waits.
    pub next_in: Option<Duration>,
}

/// One publication of a scheduled event.
#[derive(Debug)]
pub struct Firing<'a> {
    /// What fires, as it was read.
    pub scheduled: &'a ScheduledEvent,
    /// What is published.
    pub event: &'a Envelope,
    /// When it fires again; `None` if it is done with.
    pub next: Option<Timestamp>,
}

/// What keeps events that are published later.
///
/// **Guarantee**: a change is durable when it is answered.
///
/// **Source**: seed concept *temporal decoupling*.
pub trait ScheduleStore: Send + Sync {
    /// The name of the store for people and metrics, without credentials.
    fn name(&self) -> &str;

    /// Takes an event; `false` if one with this id is there already, which stays as it is.
    fn add<'a>(&'a self, scheduled: &'a ScheduledEvent) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Forgets an event; `false` if there is none of this id, or none any more.
    ///
    /// **Guarantee**: after `true` it does not fire.
    fn cancel<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Changes when an event is published next; `false` if there is none of this id, or none any more.
    fn reschedule<'a>(
        &'a self,
        id: &'a str,
        due: Timestamp,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// What waits, by id, behind a given one.
    fn list<'a>(
        &'a self,
        after: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<ScheduledEvent>, StoreError>>;

    /// What is due, at most so many.
    fn due(&self, limit: u32) -> BoxFuture<'_, Result<DueEvents, StoreError>>;

    /// Puts the event into the outbox, and sets the next time or forgets the schedule, in one transaction; `false` if it was cancelled, changed, or fired by
    /// another since it was read.
    fn fire<'a>(&'a self, firing: &'a Firing<'a>) -> BoxFuture<'a, Result<bool, StoreError>>;
}
