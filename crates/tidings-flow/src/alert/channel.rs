//! The port of a channel, and what it answers.

use std::time::Duration;
use tidings_core::BoxFuture;

/// A message as a channel gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Names the message: the same at every attempt and on every channel, so that who gets it twice can tell.
    pub id: String,
    /// The JSON; see [`Alert::body`](super::Alert::body).
    pub body: String,
    /// The same as a line for people.
    pub line: String,
}

/// What became of an attempt to hand a message over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handover {
    /// It was accepted.
    Accepted {
        /// What the channel said.
        answer: String,
    },
    /// It was not, and may be later.
    Failed {
        /// Why.
        reason: String,
        /// How long the channel asks to wait.
        retry_after: Option<Duration>,
    },
    /// The channel wants no message any more.
    Closed {
        /// Why.
        reason: String,
    },
}

/// Where alerts go.
pub trait Channel: Send + Sync {
    /// Its name for people, without secrets.
    fn name(&self) -> &str;

    /// Tells it from other channels, also at the next start; nothing secret can be read from it.
    fn identity(&self) -> String;

    /// Hands a message over, once.
    ///
    /// **Cancel**: it may have been accepted.
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Handover>;
}
