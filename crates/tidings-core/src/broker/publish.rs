//! What becomes of a published event.

use super::{Broker, BrokerError, Position};
use crate::envelope::EnvelopeError;
use crate::{BoxFuture, Code, Envelope, ErrorClass, codes};
use std::time::Duration;

/// Proof that a broker accepted an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Where the event stands, on a broker with a total order.
    pub position: Option<Position>,
}

/// What became of one event.
pub type PublishOutcome = Result<Receipt, PublishError>;

/// Where a relay takes events: every broker, and things that can only be published to.
pub trait Destination: Send + Sync {
    /// Hands over a batch under the rules of [`Broker::publish`].
    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>>;
}

impl<B: Broker + ?Sized> Destination for B {
    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        Broker::publish(self, batch)
    }
}

impl Destination for std::sync::Arc<dyn Broker> {
    fn publish<'a>(&'a self, batch: &'a [Envelope]) -> BoxFuture<'a, Vec<PublishOutcome>> {
        Broker::publish(&**self, batch)
    }
}

/// Why an event was not accepted, or is not known to be.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The event breaks a rule of the envelope; not written.
    #[error(transparent)]
    Envelope {
        /// Which rule.
        #[from]
        source: EnvelopeError,
    },
    /// The payload cannot be turned into JSON; not written.
    #[error("the payload of {event_type} cannot be written as JSON: {reason}")]
    Payload {
        /// The event type.
        event_type: String,
        /// The cause.
        reason: String,
    },
    /// The broker refused the event; not written.
    #[error("the event was refused: {reason}")]
    Refused {
        /// Why, from the broker.
        reason: String,
        /// Whether trying again can help.
        class: ErrorClass,
        /// The stable code of the reason.
        code: Code,
    },
    /// The broker failed while writing: the event may be there.
    #[error(
        "it is unknown whether the event was written: {reason}; publish it again with the same event id"
    )]
    Ambiguous {
        /// What failed.
        reason: String,
    },
    /// No outcome came in time: the event may be there.
    #[error(
        "no outcome after {limit:?}, the event may have been written; publish it again with the same event id"
    )]
    Timeout {
        /// The time limit.
        limit: Duration,
    },
    /// An earlier event of the same key failed, or one of the batch after which nothing further was sent; not written.
    #[error(
        "not attempted, because an earlier event of its key failed, or one of its batch after which the broker took no other; publish it again after that one"
    )]
    NotAttempted,
}

impl PublishError {
    /// A refusal with class and code of a broker's error.
    pub fn refused(error: &BrokerError) -> Self {
        Self::Refused {
            reason: error.to_string(),
            class: error.class(),
            code: error.code(),
        }
    }

    /// What the error means for the caller.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Envelope { .. } | Self::Payload { .. } => ErrorClass::Permanent,
            Self::Refused { class, .. } => *class,
            Self::Ambiguous { .. } | Self::Timeout { .. } | Self::NotAttempted => {
                ErrorClass::Transient
            }
        }
    }

    /// Whether the broker speaks of this event alone; else it is in trouble itself, and other events meet the same.
    pub fn is_about_the_event(&self) -> bool {
        match self {
            Self::Envelope { .. } | Self::Payload { .. } => true,
            Self::Refused { code, .. } => [
                codes::LIMIT_EXCEEDED,
                codes::PUBLISH_REFUSED,
                codes::ENVELOPE_INVALID,
                codes::EVENT_TYPE_INVALID,
                codes::PAYLOAD_INVALID,
            ]
            .contains(code),
            Self::Ambiguous { .. } | Self::Timeout { .. } | Self::NotAttempted => false,
        }
    }

    /// Whether the event may have been written.
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Self::Ambiguous { .. } | Self::Timeout { .. })
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Envelope { source } => source.code(),
            Self::Payload { .. } => codes::PAYLOAD_INVALID,
            Self::Refused { code, .. } => *code,
            Self::Ambiguous { .. } => codes::PUBLISH_AMBIGUOUS,
            Self::Timeout { .. } => codes::PUBLISH_TIMEOUT,
            Self::NotAttempted => codes::PUBLISH_NOT_ATTEMPTED,
        }
    }
}
