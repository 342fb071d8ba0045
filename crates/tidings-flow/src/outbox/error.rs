//! Why a relay did not end as it should.

use std::time::Duration;
use tidings_core::store::StoreError;
use tidings_core::{Code, ErrorClass, codes};

/// Why a relay did not end as it should.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The time to drain was over.
    #[error(
        "the relay of {outbox} was not done after {deadline:?}: {in_flight_rows} events were on their way or not settled; the next relay sends again what is not settled"
    )]
    Unfinished {
        /// The outbox.
        outbox: String,
        /// Events whose outcome or settling was not known.
        in_flight_rows: usize,
        /// The time that it had.
        deadline: Duration,
    },
    /// The database gives no rows, and asking again would not help: the end of a relay that was to end by itself.
    #[error("the relay of {outbox} ended before its outbox was empty: {error}")]
    Store {
        /// The outbox.
        outbox: String,
        /// What the database or a row of it lacks.
        error: StoreError,
    },
    /// A task of ours ended unexpectedly.
    #[error(
        "the relay of {outbox} ended unexpectedly; this is a defect of tidings, please report it"
    )]
    Bug {
        /// The outbox.
        outbox: String,
    },
}

impl RelayError {
    /// What the error means for the caller.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unfinished { .. } => ErrorClass::Transient,
            Self::Store { error, .. } => error.class(),
            Self::Bug { .. } => ErrorClass::Bug,
        }
    }

    /// Whether events may have been sent without being settled.
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::Unfinished { .. } | Self::Bug { .. } => true,
            Self::Store { error, .. } => error.may_have_happened(),
        }
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Unfinished { .. } => codes::RELAY_UNFINISHED,
            Self::Store { error, .. } => error.code(),
            Self::Bug { .. } => codes::BUG,
        }
    }
}
