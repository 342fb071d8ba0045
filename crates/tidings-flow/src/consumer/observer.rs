//! What a consumer tells while it works, for progress displays, logs and metrics.

use std::time::Duration;
use tidings_core::Envelope;
use tidings_core::broker::BrokerError;
use tidings_core::store::StoreError;

/// Is told what a consumer does. It is called from the consumer's own tasks, so it must not block.
pub trait Observer: Send + Sync + 'static {
    /// Takes a notice.
    fn notice(&self, notice: Notice<'_>);
}

/// Something that a consumer did or met.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// An event was handled and what it emitted is published, or in the outbox of its transaction.
    Handled {
        /// The event.
        envelope: &'a Envelope,
        /// The handler.
        handler: &'a str,
        /// Which attempt succeeded, from 1.
        attempt: u32,
        /// What the handling emitted; without what an earlier run had published already.
        emitted: &'a [Envelope],
        /// From the start of the handler until what it emitted was published, or its transaction was committed.
        took: Duration,
    },
    /// The inbox knew the event: its effect is there, and its handler was not called again.
    Deduplicated {
        /// The event.
        envelope: &'a Envelope,
        /// The handler.
        handler: &'a str,
    },
    /// An attempt failed; the next one follows.
    RetryScheduled {
        /// The event.
        envelope: &'a Envelope,
        /// The handler.
        handler: &'a str,
        /// Which attempt failed, from 1.
        attempt: u32,
        /// Why.
        reason: &'a str,
        /// The wait before the next attempt.
        delay: Duration,
    },
    /// The attempts in place failed: the event and what is behind it of its key are parked in the store, durably.
    RetryLater {
        /// The event.
        envelope: &'a Envelope,
        /// The handler.
        handler: &'a str,
        /// Which attempt failed, from 1.
        attempt: u32,
        /// Why.
        reason: &'a str,
        /// The wait before the next attempt.
        delay: Duration,
    },
    /// A person discarded the event: the group passes over it.
    PassedOver {
        /// The event.
        envelope: &'a Envelope,
    },
    /// A person edited the event: the copy is handled in its place.
    Replaced {
        /// The event.
        envelope: &'a Envelope,
        /// What stands for it.
        copy: &'a Envelope,
    },
    /// An event was given up and its dead letter is recorded.
    DeadLettered {
        /// The event.
        envelope: &'a Envelope,
        /// The handler.
        handler: &'a str,
        /// How many attempts there were.
        attempts: u32,
        /// Why the last one failed.
        reason: &'a str,
        /// The fact `tidings.dead_letter.recorded`.
        fact: &'a Envelope,
        /// Whether later events of its key wait for a person's decision.
        holds: bool,
    },
    /// The group waits because the broker refuses what it has to publish, or a database what it has to write; no attempt is counted.
    Paused {
        /// What the broker or the database says.
        reason: &'a str,
    },
    /// Broker and database accept again; the group goes on.
    Resumed,
    /// Nearly everything failed, or a failure whose policy says so: the group hands out nothing and counts no attempt until one event that is tried succeeds.
    CircuitOpened {
        /// The failure with which it opened.
        reason: &'a str,
        /// The wait before one event is tried; `None` for a group that stops.
        probe_in: Option<Duration>,
        /// Whether it was open before, and the event that was tried failed.
        again: bool,
    },
    /// An event that was tried succeeded: the group goes on.
    CircuitClosed {
        /// How long the circuit was open.
        open_for: Duration,
    },
    /// A stretch of the log is damaged and was skipped.
    Damaged {
        /// Where, and what is wrong.
        error: &'a BrokerError,
    },
    /// The broker failed at something that is tried again.
    BrokerFailed {
        /// The error.
        error: &'a BrokerError,
        /// The wait before the next try.
        delay: Duration,
    },
    /// The store of failures failed at something that is tried again.
    StoreFailed {
        /// The error.
        error: &'a StoreError,
        /// The wait before the next try.
        delay: Duration,
    },
    /// The consumer cannot go on.
    Stopped {
        /// Why.
        reason: &'a str,
    },
}
