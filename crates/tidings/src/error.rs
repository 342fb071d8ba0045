//! The one broad error of the front door; each operation's own error converts into it.

use std::fmt;
use std::time::Duration;
use tidings_core::broker::{BrokerError, GroupNameError, PublishError};
use tidings_core::envelope::EnvelopeError;
use tidings_core::pattern::PatternError;
use tidings_core::{Code, ErrorClass, codes};
use tidings_flow::consumer::{ConsumerError, DrainError};
use tidings_flow::schedule::ScheduleError;

/// Anything that can go wrong at the front door.
///
/// It answers two questions: what it means for the caller ([`class`](Self::class)), and whether what was asked for may have happened all the same
/// ([`may_have_happened`](Self::may_have_happened)). [`code`](Self::code) has a page in `docs/errors`.
///
/// Its `Debug` form is the message with its code, so that a `main` that returns it prints a sentence.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The broker could not be opened, read or administrated.
    #[error(transparent)]
    Broker {
        /// What happened.
        #[from]
        source: BrokerError,
    },
    /// An event was not published, or is not known to be.
    #[error(transparent)]
    Publish {
        /// What happened.
        #[from]
        source: PublishError,
    },
    /// An event breaks a rule of the envelope.
    #[error(transparent)]
    Envelope {
        /// Which rule.
        #[from]
        source: EnvelopeError,
    },
    /// The database of the data folder, or another store, did not do what was asked.
    #[error(transparent)]
    Store {
        /// What happened.
        #[from]
        source: tidings_core::store::StoreError,
    },
    /// A consumer cannot start, or ended with an error.
    #[error(transparent)]
    Consumer {
        /// What happened.
        #[from]
        source: ConsumerError,
    },
    /// A consumer could not be stopped as it should.
    #[error(transparent)]
    Drain {
        /// What happened.
        #[from]
        source: DrainError,
    },
    /// Consumers still had something to do when the time to drain was over; they go on at the next start.
    #[error("consumers still had something to do after {limit:?}{}; they go on at the next start", listed(.busy))]
    DrainTimeout {
        /// The time limit.
        limit: Duration,
        /// The groups with events in flight, and how many.
        busy: Vec<String>,
    },
    /// The name of a group breaks the rules.
    #[error(transparent)]
    GroupName {
        /// Which rule.
        #[from]
        source: GroupNameError,
    },
    /// A pattern breaks the rules.
    #[error(transparent)]
    Pattern {
        /// Which rule.
        #[from]
        source: PatternError,
    },
    /// A schedule cannot be used.
    #[error(transparent)]
    Schedule {
        /// What is wrong with it.
        #[from]
        source: ScheduleError,
    },
}

fn listed(busy: &[String]) -> String {
    if busy.is_empty() {
        return String::new();
    }
    format!(": {}", busy.join(", "))
}

impl Error {
    /// What the error means for the caller.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Broker { source } => source.class(),
            Self::Store { source } => source.class(),
            Self::Publish { source } => source.class(),
            Self::Envelope { source } => source.class(),
            Self::Consumer { source } => source.class(),
            Self::Drain { source } => source.class(),
            Self::DrainTimeout { .. } => ErrorClass::Transient,
            Self::GroupName { .. } | Self::Pattern { .. } | Self::Schedule { .. } => {
                ErrorClass::Permanent
            }
        }
    }

    /// The stable code; `docs/errors` has a page for each.
    pub fn code(&self) -> Code {
        match self {
            Self::Broker { source } => source.code(),
            Self::Store { source } => source.code(),
            Self::Publish { source } => source.code(),
            Self::Envelope { source } => source.code(),
            Self::Consumer { source } => source.code(),
            Self::Drain { source } => source.code(),
            Self::DrainTimeout { .. } => codes::DRAIN_TIMEOUT,
            Self::GroupName { source } => source.code(),
            Self::Pattern { source } => source.code(),
            Self::Schedule { source } => source.code(),
        }
    }

    /// Whether what was asked for may have happened all the same.
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::Broker { source } => source.may_have_happened(),
            Self::Publish { source } => source.may_have_happened(),
            Self::Store { source } => source.may_have_happened(),
            // What was handled until the deadline stays handled.
            Self::Drain { .. } | Self::DrainTimeout { .. } => true,
            Self::Envelope { .. }
            | Self::Consumer { .. }
            | Self::GroupName { .. }
            | Self::Pattern { .. }
            | Self::Schedule { .. } => false,
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({})", self.code())
    }
}
