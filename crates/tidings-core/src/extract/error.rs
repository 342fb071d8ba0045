//! The error that a handler answers with, and what it means for the event.

use std::error::Error;
use std::time::Duration;

/// Why a handler failed, and what that means for the event.
///
/// Any error turns into a transient one by `?`; [`HandlerResultExt`] says otherwise.
///
/// An error of a store that is not the event's fault (the database is down, a table is missing, another transaction was in the way), alone or as a cause, counts no attempt: the handling runs
/// again, and the group waits meanwhile if it must.
#[derive(Debug)]
pub struct HandlerError {
    kind: HandlerErrorKind,
    chain: Vec<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What a failure means for the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandlerErrorKind {
    /// Try again with back-off; after the last attempt it is a dead letter.
    Transient,
    /// Try again after this time; counts as an attempt.
    RetryAfter(Duration),
    /// Trying again cannot help: a dead letter at once.
    Permanent,
    /// The effect of the event is there already: it is settled, and counted as deduplicated. For extractors with an inbox behind them.
    HandledBefore,
}

impl HandlerError {
    /// A failure that may heal.
    pub fn transient_message(message: impl Into<String>) -> Self {
        Self {
            kind: HandlerErrorKind::Transient,
            chain: vec![message.into()],
            source: None,
        }
    }

    /// A failure that trying again cannot heal.
    pub fn permanent_message(message: impl Into<String>) -> Self {
        Self {
            kind: HandlerErrorKind::Permanent,
            chain: vec![message.into()],
            source: None,
        }
    }

    /// No failure: the event was handled before.
    pub fn handled_before() -> Self {
        Self {
            kind: HandlerErrorKind::HandledBefore,
            chain: vec!["the event was handled before".to_owned()],
            source: None,
        }
    }

    /// The same failure with another meaning.
    pub fn with_kind(self, kind: HandlerErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// What the failure means.
    pub fn kind(&self) -> HandlerErrorKind {
        self.kind
    }

    /// The error that the handler met, where it was one and not only a message.
    pub fn source(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.source.as_deref()
    }

    /// The message and those of its causes, outermost first.
    pub fn chain(&self) -> &[String] {
        &self.chain
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self {
            kind: HandlerErrorKind::Transient,
            chain: crate::error::chain(&error),
            source: Some(Box::new(error)),
        }
    }
}

/// Says what the error of a result means for the event.
pub trait HandlerResultExt<T> {
    /// Trying again cannot help: a dead letter at once.
    fn permanent(self) -> Result<T, HandlerError>;

    /// Try again after this time; counts as an attempt.
    fn retry_after(self, delay: Duration) -> Result<T, HandlerError>;
}

impl<T, E: Into<HandlerError>> HandlerResultExt<T> for Result<T, E> {
    fn permanent(self) -> Result<T, HandlerError> {
        self.map_err(|error| error.into().with_kind(HandlerErrorKind::Permanent))
    }

    fn retry_after(self, delay: Duration) -> Result<T, HandlerError> {
        self.map_err(|error| error.into().with_kind(HandlerErrorKind::RetryAfter(delay)))
    }
}
