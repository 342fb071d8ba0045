//! What a relay tells while it works, for people, logs and metrics.

use std::sync::Arc;
use std::time::Duration;
use tidings_core::store::RowId;

/// What a relay is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RelayPhase {
    /// It asks for the lease of its shard: another relay has it, or the database does not answer.
    Waiting,
    /// It has the lease and carries events.
    Relaying,
    /// It starts nothing new, waits for what is on its way, settles and gives the lease back.
    Draining,
    /// It has ended.
    Ended,
}

impl RelayPhase {
    /// All of them, in the order of a relay's life.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Relaying, Self::Draining, Self::Ended];

    /// Its name in metrics and documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Relaying => "relaying",
            Self::Draining => "draining",
            Self::Ended => "ended",
        }
    }
}

/// Why an event is published again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RetryClass {
    /// The destination refused this event for now.
    Event,
    /// The outcome was unknown.
    Unclear,
    /// The destination was in trouble.
    Down,
}

impl RetryClass {
    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Unclear => "unclear",
            Self::Down => "down",
        }
    }
}

/// Something that a relay did or met.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RelayNotice {
    /// It relays the shard from now on.
    Acquired {
        /// Grows with every change of owner.
        epoch: u64,
    },
    /// Another relay has the shard; this one waits.
    HeldByOther {
        /// Who.
        owner: String,
    },
    /// It lost the shard, or could not renew its right in time.
    LeaseLost,
    /// Something will be published again.
    Retry(RetryClass),
    /// An event was given up and waits for a person.
    Dead {
        /// Its row.
        row: RowId,
        /// Why.
        reason: String,
    },
    /// A destination is in trouble; events for it wait, and no attempt is counted.
    DestinationDown {
        /// The destination; empty where the event type decides.
        destination: Arc<str>,
        /// What it says.
        reason: String,
        /// The wait before it is tried again.
        delay: Duration,
    },
    /// A destination that was in trouble accepts again.
    DestinationUp {
        /// The destination.
        destination: Arc<str>,
    },
    /// The database did not do what was asked; it is asked again.
    StoreFailed {
        /// What was asked.
        doing: &'static str,
        /// What it says.
        reason: String,
        /// The wait before it is asked again.
        delay: Duration,
    },
    /// The database does again what it failed at.
    StoreHealed {
        /// What was asked.
        doing: &'static str,
    },
    /// Rows appeared below the id from which on the relay reads; they are sent all the same. A row that was revived can be one of them.
    LateRows(usize),
    /// An event was sent after one of the same key with a larger id: its writers were not serialised, and committed in the other order than they drew their ids.
    OrderRace,
    /// An event whose first outcome is unknown was published again, with the same event id.
    SuspectedDuplicate,
}
