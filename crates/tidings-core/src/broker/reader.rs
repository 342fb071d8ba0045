//! History without a group: tail, export, look-ups.

use super::{BrokerError, Position};
use crate::{BoxFuture, Envelope, Pattern, Timestamp};

/// An event with its place in history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Where it stands.
    pub position: Position,
    /// When the broker appended it; never earlier than that of an earlier position.
    pub append_time: Timestamp,
    /// The event.
    pub envelope: Envelope,
}

/// What to read.
#[derive(Debug, Clone)]
pub struct ReadRequest<'a> {
    /// The first position of interest.
    pub from: Position,
    /// Only events that match one of these; none given means everything but internal facts.
    pub patterns: &'a [Pattern],
    /// At most so many events.
    pub events_max: usize,
}

/// A stretch of history.
#[derive(Debug, Clone)]
pub struct Page {
    /// The events that matched, in order.
    pub events: Vec<Recorded>,
    /// Where to go on; all before it was looked at.
    pub next: Position,
    /// Whether `next` is the end of what was durable.
    pub at_end: bool,
}

/// Reads history.
pub trait Reader: Send + Sync {
    /// Reads a stretch of what is durable. It may return fewer events than asked for, also none, before the end.
    ///
    /// **Guarantee**: a prefix of the durable order, never more; each event as it was given.
    ///
    /// **Errors**: [`BrokerError::Removed`] below the oldest position, [`BrokerError::Damaged`] at a damaged stretch; reading goes on behind it when asked from there.
    fn read<'a>(&'a self, request: ReadRequest<'a>) -> BoxFuture<'a, Result<Page, BrokerError>>;

    /// The oldest position kept.
    fn earliest(&self) -> BoxFuture<'_, Result<Position, BrokerError>>;

    /// The position that the next durable event will have or already has; everything before it is durable.
    fn end(&self) -> BoxFuture<'_, Result<Position, BrokerError>>;

    /// The first position appended at `time` or later; the end if there is none.
    fn position_at(&self, time: Timestamp) -> BoxFuture<'_, Result<Position, BrokerError>>;

    /// Waits until the end is beyond `position`.
    ///
    /// **Cancel**: no effect.
    fn wait_beyond(&self, position: Position) -> BoxFuture<'_, Result<(), BrokerError>>;
}
