//! A group's side of a broker: a receive half and a settle half that work at the same time.

use super::{BrokerError, GroupName, Position};
use crate::{BoxFuture, Envelope, Pattern, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// Where a group that does not exist yet begins. A group that exists goes on where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartAt {
    /// At the oldest event kept.
    #[default]
    Earliest,
    /// Behind the newest event.
    Latest,
    /// At a position.
    Position(Position),
    /// At the first event appended at this time or later.
    Time(Timestamp),
}

/// What a group asks for.
#[derive(Debug, Clone)]
pub struct SubscribeRequest {
    /// Which group.
    pub group: GroupName,
    /// What it wants; adapters may deliver more, the runtime filters again.
    pub patterns: Vec<Pattern>,
    /// Where it begins if it is new.
    pub start: StartAt,
    /// Whether one instance at a time works for it and counts on the order of keys: a broker that gives something to an instance before this one, which is gone or stands still, hands out nothing
    /// newer until that has come here. Brokers that keep order across instances need not be told.
    pub single_instance: bool,
}

/// The part of a broker that a delivery belongs to: a partition, a queue; the embedded log has one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Its name.
    pub name: Arc<str>,
    /// Grows each time the scope is assigned, so that a stale token is known.
    pub generation: u64,
}

/// Names one delivery when settling; meaningful to the adapter that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// One envelope handed to one group.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Settles it.
    pub token: Token,
    /// Where it stands, on a broker with a total order.
    pub position: Option<Position>,
    /// When the broker appended it, where it says.
    pub append_time: Option<Timestamp>,
    /// The event; with a problem, an envelope around the raw bytes.
    pub envelope: Envelope,
    /// Why the message is no event: it matches every group, and is given up to the dead letters without a handler having seen it.
    pub problem: Option<Arc<str>>,
    /// Whether it may have been handed out before, to somebody who has not told what became of it: a process may have died with it. A broker that tells so by
    /// [`Resumed`] says `false`.
    pub redelivered: bool,
}

/// What the receive half tells.
#[derive(Debug)]
pub enum Received {
    /// Events, in the order of the scope.
    Deliveries {
        /// Which scope they belong to.
        scope: Scope,
        /// The events; may be empty.
        deliveries: Vec<Delivery>,
    },
    /// A scope is ours from now on.
    Assigned(Scope),
    /// A scope is to be given up: settle what is finished, then drop it.
    Revoked(Scope),
    /// A scope is gone: its tokens are refused from now on.
    Lost(Scope),
}

/// What an unclean stop may have left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumed {
    /// The first position that is not settled.
    pub from: Position,
    /// Everything before this position may have been handed to a handler before; equal to `from` if nothing was.
    pub handed_out_before: Position,
}

/// A joined group.
pub struct Subscription {
    /// Hands out events.
    pub receive: Box<dyn Receive>,
    /// Takes outcomes.
    pub settle: Arc<dyn Settle>,
    /// What may have been handled before, on a broker that knows.
    pub resumed: Option<Resumed>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("resumed", &self.resumed)
            .finish_non_exhaustive()
    }
}

/// The receive half.
pub trait Receive: Send {
    /// Waits for something to tell; at most `events_max` events at once.
    ///
    /// **Guarantee**: events of one key come in the order of the broker; an event that is released comes again ahead of what was not handed out yet.
    ///
    /// **Errors**: [`BrokerError::Damaged`] is told once for a damaged stretch; the next call goes on behind it. [`BrokerError::GroupPassed`] where retention removed what the group has not settled; it stays so until the group is moved.
    ///
    /// **Cancel**: nothing is lost.
    fn receive(&mut self, events_max: usize) -> BoxFuture<'_, Result<Received, BrokerError>>;

    /// Whether everything durable at this moment was handed out.
    fn is_caught_up(&self) -> bool;

    /// How far the broker is ahead of what was handed out: age of the oldest event not handed out, if there is one.
    fn behind(&self, now: Timestamp) -> Option<Duration>;
}

/// What an adapter can be told about a delivery. Retry later and dead letters are the runtime's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettleAction {
    /// Finished: never deliver it to this group again.
    Ack,
    /// Not finished: deliver it again.
    Release,
    /// Still at work: keep it from others for so long.
    Extend(Duration),
}

/// Why a token was not settled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The scope was lost: somebody else will handle the event.
    #[error("the delivery belongs to a scope that was lost; another instance handles it")]
    Stale,
    /// The adapter does not know the token, or it was settled before.
    #[error("the delivery was settled before")]
    Unknown,
    /// The broker failed; the delivery may come again.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// The settle half.
pub trait Settle: Send + Sync {
    /// Takes the outcomes of deliveries.
    ///
    /// **Guarantee**: one answer for each token, in order. What the group has settled never runs ahead of what was told here.
    ///
    /// **Cancel**: an outcome may or may not be taken; telling it again is harmless.
    fn settle<'a>(
        &'a self,
        outcomes: &'a [(Token, SettleAction)],
    ) -> BoxFuture<'a, Vec<Result<(), SettleError>>>;

    /// Makes durable what was settled so far.
    fn flush(&self) -> BoxFuture<'_, Result<(), BrokerError>>;

    /// Gives up the group's lease after a flush.
    fn leave(&self) -> BoxFuture<'_, Result<(), BrokerError>>;
}
